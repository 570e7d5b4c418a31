"""What a figure hands to a page."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from cnnbook import data, plots
from cnnbook.plots.style import new_figure


def test_photographs_on_the_books_pages_are_light_and_small_bitmaps_exact(monkeypatch):
    monkeypatch.setattr("cnnbook.plots.figure.in_book", lambda: True)
    cat = data.photo("cat")
    page = plots.images(cat[None])._repr_mimebundle_()[0]["text/html"]
    as_png = plots.images(cat[None]).svg()
    assert "data:image/png" not in page
    assert "data:image/webp" in page
    assert len(page) < len(as_png) / 2
    tiny = (torch.arange(64).reshape(1, 1, 8, 8) * 4).to(torch.uint8)
    page = plots.images(tiny)._repr_mimebundle_()[0]["text/html"]
    (kind, found), *_ = re.findall(r'data:image/(png|webp);base64,([^"]*)"', page)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("L"))
    assert len(np.unique(shown)) == 64, kind


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("file/a.png", OSError, "cannot write .*/file/a.png .*choose another name or folder"),
        ("folder", OSError, "cannot write .*/folder .*it is there already, and is not a file"),
        ("x" * 300 + ".png", OSError, "cannot write .*x.png .File name too long"),
        ("a\0b.png", OSError, "cannot write .*a name cannot have the character with the number 0"),
        ("a.xyz", ValueError, r"path must end in .png, .pdf or .svg, got 'a\.xyz'"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_named_as_it_was_given(tmp_path, name, kind, words):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    figure = plots.bars(["a"], torch.ones(1), xlabel="x")
    with pytest.raises(kind, match=words) as caught:
        figure.save(tmp_path / name)
    assert ".part" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.parametrize("given", [None, 7, b"a.png"], ids=repr)
def test_the_name_of_a_file_is_a_text(given):
    with pytest.raises(TypeError, match=r"^path must be the name of a file, got "):
        plots.bars(["a"], torch.ones(1), xlabel="x").save(given)


def test_a_caption_is_below_the_picture_on_a_page_and_in_a_bitmap(tmp_path, monkeypatch):
    figure = plots.bars(["a"], torch.ones(1), xlabel="x")
    plain = Image.open(io.BytesIO(figure.png()))
    figure.caption = "Of 3 seeds & <5 images>. " * 8
    for _ in range(2):  # drawing leaves nothing behind
        captioned = Image.open(io.BytesIO(figure.png()))
        assert captioned.width == plain.width
        assert captioned.height > plain.height + 40
    added = np.asarray(captioned.convert("L"))[plain.height + 5 :]
    assert (added < 100).any()
    edge = added[:, -5:]
    assert (edge > 200).all()  # its lines end before the picture does
    figure.save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.height / saved.width > plain.height / plain.width
    assert figure.caption not in figure.svg()
    monkeypatch.setattr("cnnbook.plots.figure.in_book", lambda: True)
    page = figure._repr_mimebundle_()[0]["text/html"]
    assert re.search(r"</svg>\s*<figcaption [^>]*>Of 3 seeds &amp; &lt;5 images&gt;. ", page)
    figure.caption = ""
    assert "figcaption" not in figure._repr_mimebundle_()[0]["text/html"]


def test_panels_that_fill_a_phone_may_grow_and_small_ones_may_not():
    for width, grows in ((7.0, True), (3.0, False)):
        with new_figure(width, 2.0) as figure:
            figure.subplots(1, 2)
        svg = plots.Figure(figure, "Two panels.", stacks=True).svg()
        assert svg.count('class="cnnbook-panel"') == (2 if grows else 0)


def test_missing_folders_are_made_and_suffixes_may_be_capitals(tmp_path):
    plots.bars(["a"], torch.ones(1), xlabel="x").save(tmp_path / "new" / "A.PNG")
    assert (tmp_path / "new" / "A.PNG").read_bytes().startswith(b"\x89PNG")
