"""The book as an EPUB."""

import io
import os
import posixpath
import re
import zipfile
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree

import make_epub
import pytest
import volume

XHTML = "{http://www.w3.org/1999/xhtml}"
OPF = "{http://www.idpf.org/2007/opf}"
MATH = "{http://www.w3.org/1998/Math/MathML}"
SVG = f"{{{make_epub.SVG}}}"
LINK = f"{{{make_epub.XLINK}}}href"

DEFINITIONS = "<svg width='0' height='0' aria-hidden='true'><defs>{}</defs></svg>"


def drawing(inside: str) -> str:
    return f"<svg viewBox='0 0 8 4' aria-label='Two parts' style='width:9px'>{inside}</svg>"


def page_of(drawings: list[str], monkeypatch, tmp_path, *, text: str = "") -> volume.Page:
    """Return a page with some drawings, each in a figure, read from a file."""
    monkeypatch.setattr(volume, "HTML", tmp_path)
    monkeypatch.setattr(make_epub, "HTML", tmp_path)
    (tmp_path / "chapters").mkdir()
    figures = "".join(f"<figure>{drawing}</figure>" for drawing in drawings)
    page = f'<article><section id="a"><h1>A</h1>{text}{figures}</section></article>'
    (tmp_path / "chapters" / "04-a.html").write_text(page)
    return volume.read("chapters/04-a", {"chapters/04-a"}, make_epub.address)


def test_a_drawing_takes_along_what_other_drawings_of_its_page_define(monkeypatch, tmp_path):
    shared = (
        '<path id="line" d="M0 0L1 1"/><g id="both"><use href="#line"/><use href="#dot"/></g>'
        '<circle id="unused" r="1"/>'
    )
    page = page_of(
        [
            DEFINITIONS.format(shared),
            drawing('<g><use href="#both"/></g>'),
            drawing(
                '<defs><path id="dot"/><clipPath id="c"><rect width="1"/></clipPath></defs>'
                '<g clip-path="url(#c)"><use href="#dot"/></g>'
            ),
        ],
        monkeypatch,
        tmp_path,
    )
    text, files = make_epub.converted(page)
    assert list(files) == ["figures/04-a-1.svg", "figures/04-a-2.svg"]
    assert text.count("<img ") == 2
    assert 'alt="Two parts"' in text
    assert "width:9px" in text
    first, second = (ElementTree.fromstring(content) for content in files.values())
    assert names(first) == {"line", "both", "dot"}
    assert names(second) == {"dot", "c"}
    assert {targets(first) <= names(first), targets(second) <= names(second)} == {True}
    # A letter without lines is no error.
    assert all(path.get("d") for path in [*first.iter(f"{SVG}path"), *second.iter(f"{SVG}path")])
    assert (first.get("width"), first.get("height")) == ("8", "4")
    # Text is as dark as on the page, which a file does not know.
    assert first.get("color") == make_epub.INK


def test_panels_of_a_figure_have_one_text_alternative(monkeypatch, tmp_path):
    panel = "<svg viewBox='0 0 8 4' aria-hidden='true'><g><path d='M0 0'/></g></svg>"
    both = f'<div role="img" aria-label="Two panels">{panel}{panel}</div>'
    text, _ = make_epub.converted(page_of([both], monkeypatch, tmp_path))
    assert re.findall(r'alt="([^"]*)"', text) == ["Two panels", ""]
    assert "role=" not in text


def test_what_only_a_browser_can_use_is_left_out(monkeypatch, tmp_path):
    text = (
        "<script>1</script><button>Enlarge</button><!-- a -- b --><style>p {}</style>"
        '<p tabindex="0">x<br>y &amp; z<a class="headerlink" href="#a">#</a></p>'
        '<details class="admonition hide above-input"><summary>Show</summary>code</details>'
        '<div role="tooltip" class="cnnbook-definition" id="d" hidden>A word.</div>'
        '<a href="#a" aria-describedby="d">word</a><a href="05-b.html#c">b</a>'
        '<div class="cnnbook-still">still</div>'
        "<details><summary>Answer</summary>42</details>"
    )
    found, files = make_epub.converted(page_of([], monkeypatch, tmp_path, text=text))
    assert files == {}
    root = ElementTree.fromstring(found)
    left = {"section", "h1", "p", "br", "a", "div", "details", "summary"}
    assert {e.tag for e in root.iter()} == left
    assert "".join(root.find("p").itertext()) == "xy & z"
    assert root.find("p").attrib == {}
    site = volume.settings()["html"]["baseurl"]
    assert [link.get("href") for link in root.iter("a")] == [
        "04-a.xhtml#a",
        f"{site}chapters/05-b.html#c",
        f"{site}chapters/04-a.html#a",
    ]
    assert "Answer" in found
    assert "code" not in found


def names(root: ElementTree.Element) -> set[str]:
    return {element.get("id") for element in root.iter() if element.get("id")}


def targets(root: ElementTree.Element) -> set[str]:
    """Return the names that the elements of a drawing refer to."""
    values = [value for e in root.iter() for value in e.attrib.values()]
    links = {e.get(LINK)[1:] for e in root.iter() if e.get(LINK, "").startswith("#")}
    return links | {name for value in values for name in re.findall(r"url\(#([^)]+)\)", value)}


def test_epubcheck_is_asked(tmp_path, monkeypatch):
    said = tmp_path / "epubcheck"
    said.write_text('#!/bin/sh\necho "ERROR in $2"\nexit 1\n')
    said.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert make_epub.complaints(tmp_path / "a.epub") == f"ERROR in {tmp_path}/a.epub\n"
    said.write_text("#!/bin/sh\necho fine\n")
    assert make_epub.complaints(tmp_path / "a.epub") == ""
    monkeypatch.setenv("PATH", "")
    assert make_epub.complaints(tmp_path / "a.epub") is None


@pytest.fixture(scope="module")
def epub() -> bytes:
    return make_epub.zipped(make_epub.book())


@pytest.fixture(scope="module")
def files(epub) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(epub)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def documents(files) -> dict[str, ElementTree.Element]:
    """Return everything in the EPUB that has to be XML, by its name."""
    kinds = (".xhtml", ".svg", ".opf", ".xml")
    return {n: ElementTree.fromstring(text) for n, text in files.items() if n.endswith(kinds)}


@pytest.mark.book
def test_the_container_says_what_it_is_first(epub, files, documents):
    with zipfile.ZipFile(io.BytesIO(epub)) as archive:
        first = archive.infolist()[0]
        assert archive.testzip() is None
    assert (first.filename, first.compress_type) == ("mimetype", zipfile.ZIP_STORED)
    assert files["mimetype"] == b"application/epub+zip"
    (root,) = documents["META-INF/container.xml"].findall(".//{*}rootfile")
    assert root.get("full-path") == "book/content.opf"


@pytest.mark.book
def test_the_package_lists_every_file_and_the_order_of_the_book(files, documents):
    listing = documents["book/content.opf"]
    items = {item.get("id"): item for item in listing.iter(f"{OPF}item")}
    listed = [f"book/{item.get('href')}" for item in items.values()]
    others = {"mimetype", "META-INF/container.xml", "book/content.opf"}
    assert len(listed) == len(set(listed))
    assert set(listed) == set(files) - others
    kinds = {item.get("href").rpartition(".")[2]: item.get("media-type") for item in items.values()}
    assert kinds["svg"] == "image/svg+xml"
    assert kinds["xhtml"] == "application/xhtml+xml"
    order = [items[ref.get("idref")].get("href") for ref in listing.iter(f"{OPF}itemref")]
    root, chapters = volume.contents()
    pages = [root, *(page for _, part in chapters for page in part)]
    expected = ["cover.xhtml", "title.xhtml", "nav.xhtml", *map(make_epub.address, pages)]
    assert order == expected
    properties = {item.get("href"): item.get("properties", "") for item in items.values()}
    assert properties["nav.xhtml"] == "nav"
    assert properties["cover.png"] == "cover-image"
    for name, document in documents.items():
        if name.endswith(".xhtml"):
            has = document.find(f".//{MATH}math") is not None
            assert has == ("mathml" in properties[name.removeprefix("book/")]), name
    for name in ("identifier", "title", "creator", "language", "rights"):
        assert listing.find(f".//{{http://purl.org/dc/elements/1.1/}}{name}").text, name


@pytest.mark.book
def test_every_link_of_the_epub_has_a_target(files, documents):
    broken, inside = [], 0
    for name, document in documents.items():
        found = [e.get("id") for e in document.iter() if e.get("id")]
        assert len(found) == len(set(found)), name
        for element in document.iter():
            for address in (element.get("href"), element.get("src")):
                if address is None or not name.endswith(".xhtml"):
                    continue
                assert not address.startswith(("file:", "/")), (name, address)
                if re.match(r"[a-z]+:", address):
                    continue
                path, fragment = urldefrag(address)
                inside += 1
                there = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
                there = there if path else name
                known = names(documents[there]) if there in documents else set()
                if there not in files or (fragment and unquote(fragment) not in known):
                    broken.append((name, address))
    assert broken == []
    assert inside > 1000


@pytest.mark.book
def test_it_needs_no_script_and_shows_every_figure_and_formula(documents):
    root, chapters = volume.contents()
    for page in (root, *(page for _, part in chapters for page in part)):
        document = documents[f"book/{make_epub.address(page)}"]
        kinds = {element.tag.removeprefix(XHTML) for element in document.iter()}
        assert kinds.isdisjoint({"script", "style", "button", "svg", "iframe", "input"}), page
        read = volume.read(page, set(), make_epub.address)
        shown = [e for e in document.iter(f"{XHTML}img") if e.get("class") == "drawing"]
        drawn = [d for d in read.drawings if make_epub.is_drawn(make_epub.parsed(d))]
        assert len(shown) == len(drawn), page
        # What has no text of its own follows a picture that speaks for it.
        assert not shown or shown[0].get("alt"), page
        formulas = list(document.iter(f"{MATH}math"))
        assert len(formulas) == len(read.content("math")), page
        assert all(formula.get("alttext") for formula in formulas), page
        for block in document.iter(f"{XHTML}details"):
            assert block[0].tag == f"{XHTML}summary", page


@pytest.mark.book
def test_drawings_are_complete_files(documents):
    drawings = {name: root for name, root in documents.items() if name.endswith(".svg")}
    assert len(drawings) > 150
    for name, root in drawings.items():
        assert root.tag == f"{SVG}svg", name
        assert targets(root) <= names(root), name
        assert float(root.get("width")) > 10, name
        assert root.get("color") == make_epub.INK, name


@pytest.mark.book
def test_epubcheck_accepts_it(epub, tmp_path):
    path = tmp_path / "cnnbook.epub"
    path.write_bytes(epub)
    found = make_epub.complaints(path)
    if found is None:
        pytest.skip("epubcheck is not installed")
    assert found == ""
