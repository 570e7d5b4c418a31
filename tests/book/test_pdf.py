"""The book as one file to print."""

import re
from pathlib import Path

import make_pdf
import pytest
import volume

ROOT = Path(__file__).parents[2]
FIRST, PARTS = volume.contents()
PAGES = {FIRST, *(page for _, part in PARTS for page in part)}
SITE = "https://example.org/book/"

# What scrolls on a screen would be cut on paper.
CUT = """
const wide = e => e.getBoundingClientRect().right > innerWidth + 1;
return [...document.querySelectorAll("article :not(svg *, math *)")].filter(
    e => wide(e) && ![...e.children].some(wide)
).map(e => `${e.closest("article").id}: ${e.tagName} ${e.textContent.slice(0, 40)}`);
"""


@pytest.mark.parametrize(
    ("address", "there"),
    [
        ("#a", "#chapters/04-lenet--a"),
        ("05-alexnet.html", "#chapters/05-alexnet"),
        ("solutions/04-lenet.html#b", "#chapters/solutions/04-lenet--b"),
        ("../index.html", f"{SITE}index.html"),
        ("05-alexnet.ipynb#b", "#chapters/05-alexnet--b"),
        ("reference/package/plots.html#c", f"{SITE}chapters/reference/package/plots.html#c"),
        ("https://arxiv.org/abs/1#d", "https://arxiv.org/abs/1#d"),
        ("mailto:a@b.org", "mailto:a@b.org"),
    ],
)
def test_links_hold_in_the_joint_page(address, there):
    page = "chapters/04-lenet"
    assert volume.relinked(address, page, PAGES, SITE, make_pdf.address) == there


def test_only_what_cannot_be_read_on_paper_is_left_out():
    every = {
        str(path.relative_to(ROOT).with_suffix(""))
        for kind in ("*.md", "*.ipynb")
        for path in (ROOT / "chapters").rglob(kind)
    }
    assert all("/package/" in page or "explorers" in page for page in every - PAGES)
    assert every >= PAGES


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("print") / "book.html"
    path.write_text(make_pdf.joint_page().replace('"html/', f'"{make_pdf.HTML.as_uri()}/'))
    return path


@pytest.mark.book
def test_every_link_inside_has_a_target(page):
    text = page.read_text()
    targets = set(re.findall(r' id="([^"]+)"', text))
    links = {link for link in re.findall(r' href="#([^"]+)"', text) if "chapters/" in link}
    assert len(links) > 200
    assert links - targets == set()


@pytest.mark.book
def test_nothing_is_wider_than_the_paper(page, browser):
    width = (make_pdf.A4["paperWidth"] - 2 * make_pdf.MARGINS["marginLeft"]) * 96 / make_pdf.SCALE
    metrics = {"width": int(width), "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        browser.get(page.as_uri())
        assert browser.execute_script(CUT) == []
        # Answers are shown, without their handles; folded code is left out.
        shown = "return [...document.querySelectorAll('summary')].filter(s => s.checkVisibility())"
        assert browser.execute_script(f"{shown}.length") == 0
        closed = "return document.querySelectorAll('details:not([open]), .above-input').length"
        assert browser.execute_script(closed) == 0
        buttons = "return document.querySelectorAll('button, script, .cnnbook-own-row').length"
        assert browser.execute_script(buttons) == 0
        assert browser.execute_script("return document.images.length") > 0
        broken = "return [...document.images].filter(i => !i.naturalWidth).map(i => i.src)"
        assert browser.execute_script(broken) == []
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.book
def test_the_file_has_an_outline_and_every_page(page, browser, tmp_path):
    pdf = tmp_path / "book.pdf"
    make_pdf.print_page(page, pdf)
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) > 200
    outline = re.findall(rb"/Title \((.*?)\)\n", content)
    for chapter in ("LeNet-5: features learned, not designed", "Glossary", "Solutions: VGG"):
        assert chapter.encode() in outline
    assert b"file://" not in content


@pytest.mark.book
def test_letters_without_a_font_are_an_error(browser, tmp_path):
    """A code point that no font can have stands for a Korean letter where there is no such font."""
    source = tmp_path / "page.html"
    source.write_text("<p>× − ★ 합성곱 ∑ é</p>")
    browser.get(source.as_uri())
    assert browser.execute_script(make_pdf.MISSING) == ""
    source.write_text(f"<p>합성곱 {chr(0x10FFFC)}</p>")
    with pytest.raises(ValueError, match=f"no font has the letters {chr(0x10FFFC)};"):
        make_pdf.print_page(source, tmp_path / "page.pdf")


@pytest.mark.book
def test_contents_name_the_page_of_each_entry(browser, tmp_path):
    """More than eight pages, so that their order is a tree; some take two."""
    names = [f"chapters/{i:02}-x" for i in range(12)]
    entries = "".join(
        f'<li><a href="#{name}">T</a><span class="page-number" data-page="{name}">000</span></li>'
        for name in names
    )
    long = '<p style="break-before: page">more</p>'
    articles = "".join(
        f'<article id="{name}"><h1>{name}</h1>{long if i % 3 == 0 else ""}</article>'
        for i, name in enumerate(names)
    )
    source, pdf = tmp_path / "page.html", tmp_path / "page.pdf"
    style = "article { break-before: page }"
    source.write_text(f"<style>{style}</style><ul>{entries}</ul>{articles}")
    make_pdf.print_page(source, pdf)
    expected, page = {}, 2
    for i, name in enumerate(names):
        expected[name] = page
        page += 2 if i % 3 == 0 else 1
    assert make_pdf.pages_of_targets(pdf.read_bytes()) == expected
    # The numbers are written into the entries, with the same pages after that.
    browser.get(source.as_uri())
    assert browser.execute_script(make_pdf.NUMBER, expected) is True
    assert browser.execute_script(make_pdf.NUMBER, expected) is False
    shown = "return [...document.querySelectorAll('.page-number')].map(e => e.textContent)"
    assert browser.execute_script(shown) == [str(n) for n in expected.values()]
