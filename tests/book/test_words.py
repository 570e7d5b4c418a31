"""The book's words are the field's (the table in CONTRIBUTING.md), as far as a program can tell."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
PATHS = [
    path
    for suffix in ("md", "ipynb")
    for path in sorted((ROOT / "chapters").rglob(f"*.{suffix}"))
    # Written by programs, about other things.
    if path.stem not in ("networks-followed", "versions")
]

# What is not written, and what is.
WORDS = {
    r"\bplaces\b|(?<!\bin )\bplace\b": "position, location",
    r"\bdense(ly)? (layers?|connected)\b": "fully connected layer",
    r"\banswers to\b|\b(unit|layer|network)s?'s? answers?\b": "responds to, activation",
    r"(?<!standard )\bdeviations?\b": "standard deviation",
    r"\b(less|same|half the|times( the| less)?|most of the|amount of) work\b": "operations",
    r"\bwork on paper\b": "number of operations",
    r"\b(buys?|bought)\b": "adds, gains, costs",
    r"\b\d+ (weights|parameters) for \d": "instead of",
    r"\bper cent\b": "percent",
    r"\btowards\b": "toward",
    r"\blearnt\b|\bspelt\b": "learned, spelled",
    r"\btrainings\b|\ba (short|long|real) training\b(?! run)": "training runs",
    r"\bends by \w+ing\b": "ends up",
    r"\bhalf of the time\b": "half the time",
    r"\b(pixels?|units?) wide of\b": "off by, beside",
    r"\bas (a|the) nets?\b|\b(this|the|a|our|small|deep|plain) nets?\b": "network",
    r"\bby heart\b": "memorize",
    r"\bworks on (these|those)\b|\benough \w+ to work on\b": "process, compute",
    r"\bweights (then |now )?move\b|\bcut into \$": "change; divided into",
    r"\b(small|teaching) form\b": "scaled-down model, today's version",
    r"\bmultiply-adds?\b": "multiply–add, with an en dash",
    r"\bnobody's best\b|\bhardly minds?\b|\bsees to that\b": "a plain statement",
    r"\b(colour|neighbour|behaviour|favour|centre)s?\b|\w+(alise|ulise|imise)[ds]?\b": "American",
}
# The entry of a synonym, and sentences that name it.
SYNONYMS = {("glossary", "dense layer"), ("notation", "dense layer")}
NO_SENTENCE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|\]\([^)]*\)|^%.*?$", re.S | re.M)


def strings(code: str) -> str:
    """Return what a code cell says: its text in quotes, comments left out."""
    tree = ast.walk(ast.parse(re.sub(r"^(\s*)%.*$", r"\1pass", code, flags=re.M)))
    return "\n".join(n.value for n in tree if isinstance(n, ast.Constant) and type(n.value) is str)


def sentences(path: Path) -> str:
    """Return a page's sentences, and the words in its code cells, without titles of papers."""
    if path.suffix == ".md":
        return NO_SENTENCE.sub(" ", path.read_text())
    cells = nbformat.read(path, as_version=4).cells
    text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    said = "\n".join(strings(cell.source) for cell in cells if cell.cell_type == "code")
    return NO_SENTENCE.sub(" ", text.split("\n## References\n")[0]) + "\n" + said


every_page = pytest.mark.parametrize("path", PATHS, ids=lambda p: f"{p.parent.name}-{p.stem}")


@every_page
def test_words_are_those_of_the_field(path):
    text = sentences(path)
    found = {
        text[max(0, match.start() - 40) : match.end() + 20].strip(): plain
        for pattern, plain in WORDS.items()
        for match in re.finditer(pattern, text, flags=re.I)
        if (path.stem, match[0]) not in SYNONYMS
    }
    assert found == {}


@every_page
def test_the_first_map_is_a_feature_map(path):
    text = re.sub(r"^#.*$", "", sentences(path), flags=re.M)
    first = re.search(r"(\w+\s+)?\bmaps?\b", text)
    assert first is None or first[1] is not None
    kinds = "feature|activation|affine|saliency|rough|it|and"  # a place, a verb, a list
    assert first is None or re.fullmatch(rf"({kinds})\s+", first[1], flags=re.I), first[0]


@pytest.mark.parametrize(
    "text",
    [
        "used at 784 places",
        "the first dense layer",
        "mean 0 and deviation 1",
        "the same work",
        "18 weights for 25",
        "it normalises",
        "the features it has learnt",
        "longer trainings",
        "it ends by memorizing them",
        "the net has eight layers",
    ],
)
def test_what_is_not_written_is_found(text):
    assert any(re.search(pattern, text) for pattern in WORDS)


@pytest.mark.parametrize(
    "text",
    ["in place of a mean", "a standard deviation", "All three work.", "an answer to it", "raised"],
)
def test_what_is_written_is_not(text):
    assert not any(re.search(pattern, text) for pattern in WORDS)


def test_words_in_code_are_read():
    assert strings("%env A=b\nx = f'places {y}'  # comment") == "places "
