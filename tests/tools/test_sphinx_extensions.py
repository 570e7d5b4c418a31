"""The book's Sphinx extensions: what each makes up for, and until when."""

import importlib
import re
import sys
from pathlib import Path

import book
import make_epub
import make_pdf
import page_extras
import pytest
import sphinx
import yaml
from docutils import nodes
from docutils.utils import new_document

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tools" / "sphinx"
EXTENSIONS = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["local_extensions"]

# Of which project, what, and until when: in a docstring or a template's comment.
REASON = re.compile(r"^ *Cause: (.+?)^ *Delete when: (.+?)\.(?: #\})?$", flags=re.M | re.S)


class Recorder:
    """Stands in for Sphinx while an extension is set up, and notes what it is given."""

    def __init__(self):
        self.given = []

    def connect(self, event, function, priority=500):
        self.given.append(function)

    def add_transform(self, kind):
        self.given.append(kind)

    add_post_transform = add_transform

    def add_html_math_renderer(self, name, inline, block):
        self.given += [function for function in (*inline, *block) if function]

    def add_directive(self, name, kind):
        """Add nothing: what the book's pages ask for by name is no patch."""


def patches():
    for name in EXTENSIONS:
        recorder = Recorder()
        importlib.import_module(name).setup(recorder)
        yield from recorder.given


def pinned() -> set[str]:
    """Return name and version of the packages that the book is built with."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    found = (re.match(r"([\w.-]+)==([^ ;]+)", line) for line in lines)
    return {f"{pin[1]} {pin[2]}" for pin in found if pin}


def check(text: str) -> None:
    reason = REASON.search(text)
    assert reason, "neither cause nor end is named"
    words = reason[1].removesuffix(",").lower().split()
    if words[:2] == ["this", "book:"]:  # a feature of its own
        return
    project = " ".join(words[:2]).rstrip(",:")
    # When a version moves, somebody has to see whether the patch is still needed.
    assert project in pinned(), f"constraints.txt has another version than {project}: look again"


@pytest.mark.parametrize("patch", list(patches()), ids=lambda p: p.__name__)
def test_every_patch_says_whose_behavior_it_makes_up_for_and_when_it_can_go(patch):
    check(patch.__doc__ or "")


@pytest.mark.parametrize(
    "text",
    [book.execute.__doc__, book.forget_pages.__doc__, make_pdf.__doc__, make_epub.__doc__],
)
def test_so_do_the_tools_that_do_what_the_builder_might(text):
    check(text)


@pytest.mark.parametrize("path", sorted((FOLDER / "templates").iterdir()), ids=lambda p: p.name)
def test_templates_say_so_as_well(path):
    check(path.read_text())


@pytest.mark.parametrize(
    "text",
    [
        "Do something.",
        "Do it.\n\n    Cause: sphinx 7.4.7 does not.\n    ",
        "Do it.\n\n    Cause: sphinx 0.0.1 does not.\n    Delete when: it does.\n    ",
        "Do it.\n\n    Cause: something does not.\n    Delete when: it does.\n    ",
    ],
)
def test_a_patch_without_reason_or_of_another_version_is_found(text):
    with pytest.raises(AssertionError):
        check(text)


def test_every_extension_is_loaded_and_none_hides_sphinx_itself():
    with_setup = {p.stem for p in FOLDER.glob("*.py") if "def setup(app" in p.read_text()}
    assert with_setup == set(EXTENSIONS)
    assert set(EXTENSIONS.values()) == {"tools/sphinx"}
    assert str(ROOT / "tools") in sys.path  # where there is a folder of the name sphinx
    assert ROOT / "tools" not in Path(sphinx.__file__).parents


def page(*paragraphs: str) -> nodes.document:
    document = new_document("a page")
    document += [nodes.title("", "Title"), *(nodes.paragraph("", text) for text in paragraphs)]
    return document


@pytest.mark.parametrize(
    ("paragraphs", "expected"),
    [
        (["The question. Why? Because."], "Why? Because."),
        (["VGG 1.5 is\none. Two."], "VGG 1.5 is one. Two."),
        ([f"Short. {'x' * 200}."], "Short."),
        (["no sentence", "A sentence."], "A sentence."),
        ([], ""),
    ],
)
def test_a_page_is_described_by_its_first_sentences(paragraphs, expected):
    assert page_extras.description(page(*paragraphs)) == expected


def test_the_description_is_ready_for_html_and_for_sphinxext_opengraph():
    kept = {"og:type": "website"}
    context = {"title": "A &amp; <code>b</code>", "meta": kept, "metatags": ""}
    page_extras.describe(None, "a", "page.html", context, page('Is "a" < b?'))
    text = "Is &quot;a&quot; &lt; b?"
    assert context["metatags"].strip() == f'<meta name="description" content="{text}" />'
    assert context["meta"] == {"og:type": "website", "og:description": text}
    assert kept == {"og:type": "website"}  # Sphinx keeps it for the next build
    untitled = context | {"meta": None}
    page_extras.describe(None, "a", "page.html", untitled, page())
    assert untitled["meta"] == {"og:description": "A &amp; b"}


def code_cell(lines: int, *tags: str) -> nodes.container:
    block = nodes.literal_block("x", "\n".join(["x = 1"] * lines))
    cell = nodes.container("", classes=["cell", *(f"tag_{tag}" for tag in tags)])
    folder = nodes.container("", nodes.container("", block, classes=["cell_input"]))
    # As a page is written, myst-nb has put folded code into one more container.
    cell += folder if tags else folder[0]
    return cell


def test_a_page_takes_as_long_as_its_text_and_visible_code_up_to_the_exercises():
    document = page("word " * 2200)  # ten minutes
    assert page_extras.reading_minutes(document) == 10
    for tag in ("hide-input", "hide-cell"):
        document += code_cell(300, tag)
        assert page_extras.reading_minutes(document) == 10
    document += code_cell(150)
    assert page_extras.reading_minutes(document) == 15
    many = nodes.paragraph("", "a " * 9999)
    document += nodes.section("", nodes.title("", "Exercises"), many)
    assert page_extras.reading_minutes(document) == 15
