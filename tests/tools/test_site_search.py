"""What the search is made from: sections, the glossary's names, and a library that is checked."""

import hashlib
import io
import re
import tarfile
from pathlib import Path

import npm
import pages
import pytest
import reading
import site_search
import yaml
from docutils import nodes
from docutils.utils import new_document
from sphinx import addnodes

ROOT = Path(__file__).parents[2]


def entry(term: str, definition: nodes.paragraph) -> nodes.definition_list_item:
    name = nodes.term("", term, ids=[f"term-{term.partition(' (')[0]}"])
    return nodes.definition_list_item("", name, nodes.definition("", definition))


def glossary() -> nodes.document:
    place = addnodes.pending_xref("", reftarget="chapters/08-resnet", reftargetid="the-block")
    place += nodes.Text("ResNet")
    document = new_document("glossary")
    document += nodes.definition_list(
        "",
        entry("shortcut (숏컷)", nodes.paragraph("", "", nodes.Text("A way. More in "), place)),
        entry(
            "skip (스킵, SC)",
            nodes.paragraph(
                "",
                "",
                nodes.Text("See "),
                nodes.reference("", "shortcut", refid="term-shortcut"),
                nodes.Text("."),
            ),
        ),
        entry("depth (깊이)", nodes.paragraph("", "How many. See also shortcut.")),
    )
    return document


def test_an_entry_that_says_see_is_another_name():
    found = site_search.merged(site_search.terms(glossary()), {"depth": ["layers"]})
    assert [sorted(term.names) for term in found] == [
        sorted(["shortcut", "숏컷", "skip", "스킵", "SC"]),
        sorted(["depth", "깊이", "layers"]),
    ]
    assert found[0].places == [("chapters/08-resnet", "the-block")]


def test_a_name_that_is_an_entry_makes_two_one():
    (term,) = site_search.merged(site_search.terms(glossary()), {"shortcut": ["depth", "jump"]})
    assert {"shortcut", "skip", "depth", "깊이", "jump"} == set(term.names) - {"숏컷", "스킵", "SC"}


def test_a_name_for_no_entry_is_refused():
    with pytest.raises(ValueError, match="no entry “width”"):
        site_search.merged(site_search.terms(glossary()), {"width": ["channels"]})


def test_more_names_are_for_entries_that_exist_and_not_said_twice():
    entries = (ROOT / "chapters/reference/glossary.md").read_text()
    more = yaml.safe_load(site_search.WORDS.read_text())
    assert list(more) == sorted(more, key=str.lower)
    names = [name for each in more.values() for name in each]
    assert len(names) == len(set(names))
    for term in more:
        assert f"\n{term} (" in entries


def test_sections_have_what_stands_below_their_heading():
    output = nodes.container("", nb_element="mime_bundle")
    form = nodes.container("", mime_type="text/html")
    form += nodes.raw("", '<svg aria-label="A boot"><defs>no</defs></svg><b>1 &lt; 2</b>')
    output += form
    cell = nodes.container("", nb_element="cell_code")
    cell += nodes.container(
        "", nodes.literal_block("", "grad_cam(net)"), nb_element="cell_code_source"
    )
    cell += nodes.container("", output, nb_element="cell_code_output")
    inner = nodes.section(
        "", nodes.title("", "Inner"), nodes.paragraph("", "deep"), cell, ids=["in"]
    )
    math = nodes.math("", "x^2")
    text = nodes.paragraph("", "", nodes.Text("wide "), math)
    document = new_document("page")
    document += nodes.section("", nodes.title("", "Outer"), text, inner, ids=["out"])
    first, second = site_search.sections(document)
    assert (first.anchor, first.heading, first.text) == ("", "Outer", ["wide …"])
    assert (second.anchor, second.heading, second.text) == ("in", "Inner", ["deep"])
    assert second.code[0] == "grad_cam(net)"
    assert second.code[1].split() == ["A", "boot", "1", "<", "2"]


@pytest.mark.parametrize(
    ("page", "kind"),
    [
        ("chapters/08-resnet", "chapter"),
        ("chapters/10-where-the-time-goes", "chapter"),
        ("chapters/solutions/08-resnet", "solution"),
        ("chapters/reference/claims", "claims"),
        ("chapters/reference/package/index", "api"),
        ("chapters/reference/glossary", "glossary"),
        ("chapters/reference/notation", "reference"),
        ("chapters/index", "home"),
    ],
)
def test_kinds_of_pages(page, kind):
    assert pages.kind(page) == kind


def package(script: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in zip(site_search.IN_PACKAGE, (script, b"MIT"), strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_the_library_is_fetched_once_and_only_as_it_was_published(tmp_path, monkeypatch):
    served = package(b"search()\n//# sourceMappingURL=index.js.map\n")
    asked = []

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(served)

    monkeypatch.setattr(npm.urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(site_search, "PACKAGE_INTEGRITY", npm.integrity(served, "sha512"))
    text = site_search.library(tmp_path)
    assert text.endswith("search()\n")
    assert "MIT" in text
    assert "sourceMappingURL" not in text
    assert site_search.library(tmp_path) == text
    assert len(asked) == 1
    # What was kept and has changed is fetched again; what is not what was published is refused.
    (kept,) = tmp_path.glob("*.tgz")
    kept.write_bytes(b"something else")
    assert site_search.library(tmp_path) == text
    kept.unlink()
    served = package(b"steal()")
    with pytest.raises(ValueError, match="checksum"):
        site_search.library(tmp_path)
    assert not list(tmp_path.iterdir())


class App:
    """As much of Sphinx as choosing a search takes."""

    def __init__(self, folder):
        self.outdir = folder / "html"
        self.builder = type("Builder", (), {"name": "html", "search": True})()
        self.scripts = []

    def add_js_file(self, name, **how):
        self.scripts.append(name)


def test_without_a_network_the_book_keeps_sphinx_search(tmp_path, monkeypatch):
    def offline(*args, **how):
        raise OSError("no network")

    monkeypatch.setattr(npm, "download", offline)
    app = App(tmp_path)
    site_search.choose_search(app)
    assert app.builder.search
    assert app.scripts == []
    assert list(site_search.add_search_page(app)) == []
    site_search.write_search(app, None)
    assert not app.outdir.exists()


def test_what_a_search_loads_is_named_by_its_content(tmp_path, monkeypatch):
    app = App(tmp_path)
    app.search_library = "minisearch()"
    static = app.outdir / "_static"
    static.mkdir(parents=True)
    home = app.outdir / "index.html"
    chapter = app.outdir / "chapters" / "a.html"
    chapter.parent.mkdir()
    home.write_text('<script defer="defer" src="_static/search.js?v=0"></script><p>search.js</p>')
    chapter.write_text('<script src="../_static/searchtools.js"></script>' + home.read_text())

    def build(documents):
        """Return the addresses in both pages, which are the same, by file."""
        monkeypatch.setattr(site_search, "documents", lambda app: documents)
        site_search.write_search(app, None)
        (one,), (other,) = (
            re.findall(r'search\.js\?v=0" data-files="(.*?)"></script>', page.read_text())
            for page in (home, chapter)
        )
        assert one == other
        return dict(address.split("?v=") for address in one.split())

    first, second = build({"pages": []}), build({"pages": ["another"]})
    assert "searchtools" not in chapter.read_text()
    assert home.read_text().count("data-files") == 1  # of the second build, on a page of the first
    assert {name for name in first if first[name] != second[name]} == {"search-data.js"}
    for name, version in second.items():
        assert hashlib.sha256((static / name).read_bytes()).hexdigest().startswith(version)
        assert len(version) == 8


@pytest.mark.parametrize(
    ("page", "number"),
    [
        ("chapters/00-convolution", 0),
        ("../10-scaling-up.html", 10),
        ("solutions/08-resnet.html", 8),
        ("chapters/index", None),
        ("reference/package/models.html", None),
    ],
)
def test_a_chapter_has_the_number_of_its_file(page, number):
    assert reading.number(page) == number


def test_a_figure_is_addressed_by_its_section():
    figure = '<div class="output text_html"><figure class="cnnbook-figure" style=""></figure></div>'
    body = f'<section class="x" id="a">{figure}<section id="b">{figure}</section>{figure}</section>'
    names = ["a-figure-1", "b-figure-1", "a-figure-2"]
    changed = reading.addressed(body)
    assert [f'id="{name}"' in changed for name in names] == [True] * 3
    assert [changed.count(f'href="#{name}"') for name in names] == [1] * 3
    assert changed.index(names[0]) < changed.index(names[1]) < changed.index(names[2])
    other = '<figure class="cnnbook-figure"></figure>'
    assert reading.addressed(other) == other
