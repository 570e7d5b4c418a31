"""The glossary: its entries, the links to them, and what a page shows of them."""

import re
from pathlib import Path

import glossary
import nbformat
import pytest
from executed import chapters_and_pages
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.wait import WebDriverWait

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "chapters" / "reference" / "glossary.md"
CHAPTERS, PAGES = chapters_and_pages()
SOURCES = [
    path
    for suffix in ("md", "ipynb")
    for path in sorted((ROOT / "chapters").rglob(f"*.{suffix}"))
    if path != GLOSSARY
]

# What a student looks up, and how it appears in a sentence.
TERMS = {
    "1×1 convolution": r"1×1 convolutions?",
    "activation": r"activations?",
    "activation function": r"activation functions?",
    "auxiliary classifier": r"auxiliary classifiers?",
    "batch": r"batch(es)?",
    "batch normalization": r"batch normalization",
    "channel": r"channels?",
    "cross entropy": r"cross entropy",
    "data augmentation": r"(data )?augmentation",
    "degradation": r"degradation",
    "dropout": r"dropout",
    "effective receptive field": r"effective (receptive )?fields?",
    "epoch": r"epochs?",
    "expressive power": r"expressive power",
    "feature map": r"(feature|activation) maps?",
    "filter": r"filters?",
    "fully connected layer": r"fully connected( layers?)?",
    "global average pooling": r"global average pooling",
    "gradient": r"gradients?",
    "initialization": r"initial weights|initialization",
    "kernel": r"kernels?",
    "learning rate": r"learning rates?",
    "local response normalization": r"(local )?response normalization|LRN",
    "loss": r"loss(es)?",
    "max pooling": r"max pooling",
    "momentum": r"momentum",
    "multiply–add": r"multiply–adds?",
    "overfitting": r"overfitting|overfits?",
    "padding": r"padding|padded",
    "parameter": r"parameters?",
    "pooling": r"pooling",
    "receptive field": r"receptive fields?",
    "ReLU": r"ReLUs?",
    "residual block": r"residual blocks?",
    "seed": r"seeds?",
    "shortcut": r"shortcuts?",
    "sigmoid": r"sigmoids?",
    "softmax": r"softmax",
    "stride": r"strides?",
    "tanh": r"tanh",
    "test set": r"test sets?",
    "top-1 error": r"top-1 errors?",
    "top-5 error": r"top-5 errors?",
    "training set": r"training sets?",
    "unit": r"units?",
    "validation set": r"validation sets?",
    "vanishing gradient": r"vanishing gradients?",
}
# In these chapters the word means something else.
OTHERWISE = {
    ("10-scaling-up", "kernel"),  # a program that a GPU runs
    ("10-where-the-time-goes", "kernel"),
    ("10-scaling-up", "unit"),  # of a GPU
}

LINK = re.compile(r"\[([^\[\]]*)\]\(([^()\s]*)\)")
# The longest term that fits is the one that is meant.
ANY_TERM = re.compile(
    "|".join(
        rf"(?P<t{i}>(?<![\w-])({pattern})(?![\w-]))"
        for i, pattern in sorted(
            enumerate(TERMS.values()), key=lambda item: len(item[1]), reverse=True
        )
    ),
    flags=re.I,
)
# Headings, tables, code and formulas are not sentences.
NO_SENTENCE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|^#.*?$|^\|.*?$", re.S | re.M)


def entries() -> dict[str, str]:
    """Return the first paragraph of each entry, by its English name."""
    text = GLOSSARY.read_text()
    return {
        name: first.strip()
        for name, first in re.findall(r"^(\S.*?) \(.*\)\n  (\S.*)\n", text, flags=re.M)
    }


def markdown(path: Path) -> str:
    if path.suffix == ".md":
        return re.sub(r"^%.*$", "", path.read_text(), flags=re.M)
    cells = nbformat.read(path, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def sentences(path: Path) -> str:
    """Return a chapter's text up to its references, with blanks for what is not a sentence."""
    text = markdown(path).split("\n## References\n")[0]
    return NO_SENTENCE.sub(lambda found: " " * len(found[0]), text)


def first_uses(text: str) -> dict[str, re.Match]:
    names, found = list(TERMS), {}
    for match in ANY_TERM.finditer(text):
        found.setdefault(names[int(match.lastgroup[1:])], match)
    return found


def test_there_is_an_entry_for_every_term_and_none_twice():
    text = GLOSSARY.read_text()
    names = re.findall(r"^(\S.*?) \(.*\)\n  \S", text, flags=re.M)
    assert len(names) == len(set(names)) > 150
    assert len({glossary.anchor(name) for name in names}) == len(names)
    assert set(TERMS) - set(names) == set()


def test_an_entry_is_short_and_a_synonym_names_its_entry():
    known = entries()
    addresses = {glossary.anchor(name): name for name in known}
    for name, text in known.items():
        assert len(LINK.sub(r"\1", text).split()) <= 50, name
        if text.startswith("See "):
            ((_, address),) = LINK.findall(text)
            assert not known[addresses[address.removeprefix("#")]].startswith("See "), name


@pytest.mark.parametrize("path", [*SOURCES, GLOSSARY], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_every_link_to_the_glossary_leads_to_an_entry(path):
    addresses = {glossary.anchor(name) for name in entries()}
    for text, address in LINK.findall(markdown(path)):
        file, _, name = address.partition("#")
        if name.startswith("term-"):
            assert (path.parent / file).resolve() == GLOSSARY or (path == GLOSSARY and not file)
            assert name in addresses, text


@pytest.mark.parametrize("path", CHAPTERS + PAGES, ids=lambda p: p.stem)
def test_terms_are_explained_or_linked_at_first_use(path):
    text = sentences(path)
    explained = {bold.lower().removesuffix("s") for bold in re.findall(r"\*\*(.+?)\*\*", text)}
    # A link to a section that explains the term serves as well.
    linked = [link.span() for link in LINK.finditer(text)]
    missing = {
        term: text[max(0, match.start() - 40) : match.end() + 20]
        for term, match in first_uses(text).items()
        if term.lower() not in explained
        and (path.stem, term) not in OTHERWISE
        and not any(start < match.start() < end for start, end in linked)
    }
    assert missing == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Batch normalization of a batch", {"batch normalization": 0, "batch": 25}),
        ("a [ReLU](x.md#term-relu)", {"ReLU": 3}),
        ("A subunit of max pooling-like unitary", {}),
        ("Activation maps, activations", {"feature map": 0, "activation": 17}),
    ],
)
def test_first_uses_are_found(text, expected):
    assert {term: match.start() for term, match in first_uses(text).items()} == expected
