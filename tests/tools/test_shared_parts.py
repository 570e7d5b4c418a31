"""Figures of a page: what they have in common is there once."""

import re
from types import SimpleNamespace

import pytest
import shared_parts
import torch

from cnnbook import plots


def picture(title: str) -> str:
    figure = plots.bars(["one", "two"], torch.tensor([1.0, 2.0]), xlabel="how many")
    figure.axes[0].set_title(title)
    return figure.svg()


@pytest.fixture(scope="module")
def article():
    return shared_parts.joined("".join(f"<p>{picture(title)}</p>" for title in ("first", "second")))


def test_every_name_is_there_once_and_everything_referred_to_is_there(article):
    ids = re.findall(r"\bid='([^']+)'", article)
    assert len(ids) == len(set(ids)) > 10
    used = re.findall(r"(?:href='#|url\(#)([^')]+)", article)
    assert set(used) == set(ids)


def test_two_pictures_share_their_letters(article):
    assert article.startswith("<svg width='0' height='0'")
    assert article.count("<svg") == 3
    once = shared_parts.joined(f"<p>{picture('first')}</p>")
    assert len(article) < 1.6 * len(once)
    assert len(article) < len(picture("first"))


def test_words_remain_to_be_found(article):
    words = picture("first").count("-text_")
    assert words > 5
    assert article.count("class='cnnbook-word'") == 2 * words


def test_what_is_not_drawn_by_matplotlib_stays():
    page = "<p>a &lt; b</p><svg viewBox='0 0 1 1'><path id='p' d='M0 0'/><use href='#p'/></svg>"
    assert shared_parts.joined(page) == page


def test_pages_are_changed_once(tmp_path):
    page = tmp_path / "page.html"
    page.write_text(f'<header></header><article class="bd-article">{picture("a")}</article>')
    app = SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=tmp_path)
    shared_parts.share_parts(app, None)
    first = page.read_text()
    assert first.startswith('<header></header><article class="bd-article"><svg')
    assert "xmlns:xlink" not in first
    shared_parts.share_parts(app, None)
    assert page.read_text() == first
