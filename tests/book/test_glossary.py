"""The glossary: its entries, the links to them, and what a page shows of them."""

import re
from pathlib import Path

import glossary
import nbformat
import pytest
from executed import chapters_and_pages
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.support.wait import WebDriverWait
from test_site import visit

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
    bold = [term.lower() for term in re.findall(r"\*\*(.+?)\*\*", text)]
    explained = {*bold, *(term.removesuffix("s") for term in bold)}
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


PAGE = "chapters/06-vgg.html"
SHOWN = "return [...document.querySelectorAll('[role=tooltip]')].filter(t => t.checkVisibility())"
# Where the definition is, seen from the window, and the link it belongs to.
BOXES = """
const [text, link] = arguments, a = text.getBoundingClientRect();
return {
  left: a.left, right: a.right, top: a.top, bottom: a.bottom, width: innerWidth,
  rows: [...link.getClientRects()].flatMap(r => [r.top, r.bottom]),
  isOnTop: document.elementFromPoint((a.left + a.right) / 2, (a.top + a.bottom) / 2) === text,
  color: getComputedStyle(text).color, background: getComputedStyle(text).backgroundColor,
};
"""


def links_to_terms(browser):
    return browser.find_elements("css selector", "a.cnnbook-term")


def shown(browser) -> list:
    return browser.execute_script(SHOWN)


def point_at(browser, link):
    """Move the pointer onto a link, and return the definition that appears."""
    ActionChains(browser).move_to_element(link).perform()
    return WebDriverWait(browser, 5).until(shown)[0]


def show_in_the_middle(browser, link) -> None:
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", link)


def focus_by_keyboard(browser, link) -> None:
    """Put the focus on a link as the tab key does: from the element before it."""
    browser.execute_script(
        "const before = document.createElement('span'); before.tabIndex = 0;"
        "arguments[0].before(before); before.focus();",
        link,
    )
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert browser.switch_to.active_element == link


@pytest.mark.book
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_definition_is_shown_beside_its_link_and_not_cut_off(browser, site, width, theme):
    visit(browser, site, PAGE, width, theme)
    # The mouse of a narrow window: a phone has none.
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    links = links_to_terms(browser)
    assert len(links) > 20
    assert shown(browser) == []
    known = {glossary.anchor(name): text for name, text in entries().items()}
    for link in links[::3]:
        show_in_the_middle(browser, link)
        text = point_at(browser, link)
        assert shown(browser) == [text]
        assert text.get_attribute("id") == link.get_attribute("aria-describedby")
        name = link.get_attribute("href").partition("#")[2]
        words = re.sub(r"\W", "", LINK.sub(r"\1", known[name]))
        assert re.sub(r"\W", "", text.text) == words
        box = browser.execute_script(BOXES, text, link)
        assert 0 <= box["left"] < box["right"] <= box["width"]
        assert (
            min(abs(row - edge) for row in box["rows"] for edge in (box["top"], box["bottom"])) < 2
        )
        assert box["isOnTop"]
        dark = int(re.search(r"\d+", box["background"])[0]) < 100
        assert dark == (theme == "dark")
        ActionChains(browser).send_keys(Keys.ESCAPE).perform()
        assert shown(browser) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@pytest.mark.book
def test_a_definition_stays_under_the_pointer_and_goes_with_it_or_with_escape(browser, site):
    visit(browser, site, PAGE, 1280)
    link = links_to_terms(browser)[3]
    show_in_the_middle(browser, link)
    text = point_at(browser, link)
    ActionChains(browser).move_to_element(text).perform()
    assert shown(browser) == [text]
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert shown(browser) == []
    assert point_at(browser, link) == text
    ActionChains(browser).move_by_offset(0, 250).perform()
    assert shown(browser) == []


@pytest.mark.book
def test_a_definition_is_shown_at_the_focus_of_the_keyboard_and_dismissed(browser, site):
    visit(browser, site, PAGE, 1280)
    first, second = links_to_terms(browser)[3:5]
    focus_by_keyboard(browser, first)
    (text,) = shown(browser)
    assert text.get_attribute("id") == first.get_attribute("aria-describedby")
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert shown(browser) == []
    assert browser.switch_to.active_element == first
    focus_by_keyboard(browser, second)
    (text,) = shown(browser)
    assert text.get_attribute("id") == second.get_attribute("aria-describedby")
    browser.execute_script("document.activeElement.blur()")
    assert shown(browser) == []


@pytest.mark.book
def test_a_reader_of_the_screen_hears_the_definition(browser, site):
    visit(browser, site, PAGE, 1280)
    for link in links_to_terms(browser)[:5]:
        described = browser.execute_cdp_cmd(
            "Accessibility.getPartialAXTree",
            {
                "objectId": browser.execute_cdp_cmd(
                    "Runtime.evaluate",
                    {
                        "expression": "document.querySelector("
                        f"'[aria-describedby={link.get_attribute('aria-describedby')}]')"
                    },
                )["result"]["objectId"],
                "fetchRelatives": False,
            },
        )["nodes"][0]["description"]["value"]
        assert len(described) > 20
        assert described.endswith(".")


@pytest.mark.book
def test_touching_a_term_opens_the_glossary_at_its_entry(browser, site):
    visit(browser, site, PAGE, 390)
    link = links_to_terms(browser)[3]
    show_in_the_middle(browser, link)
    address = link.get_attribute("href")
    box = browser.execute_script("return arguments[0].getClientRects()[0].toJSON()", link)
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    for kind, points in (("touchStart", [point]), ("touchEnd", [])):
        touch = {"type": kind, "touchPoints": points}
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", touch)
    WebDriverWait(browser, 20).until(lambda b: b.current_url == address)
    entry = browser.execute_script("return document.querySelector(':target').localName")
    assert entry == "dt"


LETTERS = """
return [...document.querySelectorAll(".cnnbook-letters a")].map(
  (link) => [link.textContent, link.hash, link.getBoundingClientRect().toJSON()]);
"""


@pytest.mark.book
def test_each_letter_of_the_glossary_leads_to_its_first_entry(browser, site):
    visit(browser, site, "chapters/reference/glossary.html", 360)
    first = {}
    for name in entries():
        first.setdefault(name[0].upper(), f"#{glossary.anchor(name)}")
    links = browser.execute_script(LETTERS)
    assert {letter: target for letter, target, _ in links} == {
        letter: target for letter, target in first.items() if letter.isalpha()
    }
    assert len({box["top"] for _, _, box in links}) > 1  # the row wraps
    for _, target, box in links:
        assert 0 <= box["left"] < box["right"] <= 360
        assert min(box["width"], box["height"]) >= 44
        assert (
            browser.execute_script("return document.querySelector(arguments[0]).tagName", target)
            == "DT"
        )


@pytest.mark.book
def test_without_scripts_a_letter_of_the_glossary_shows_its_entry(browser_without_scripts, site):
    browser = browser_without_scripts
    browser.get(f"{site}/chapters/reference/glossary.html")
    letter = browser.find_element("css selector", ".cnnbook-letters a[href='#term-label']")
    letter.send_keys(Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda b: b.current_url.endswith("#term-label"))
    entry = browser.find_element("id", "term-label")
    header = browser.find_element("class name", "bd-header-article")
    top = "return arguments[0].getBoundingClientRect()"
    WebDriverWait(browser, 5).until(
        lambda b: (
            b.execute_script(top, header)["bottom"] - 1 <= b.execute_script(top, entry)["top"] < 300
        )
    )


@pytest.mark.book
def test_without_scripts_a_term_is_a_link(browser_without_scripts, site):
    browser = browser_without_scripts
    browser.get(f"{site}/{PAGE}")
    link = links_to_terms(browser)[3]
    link.send_keys(Keys.ENTER)
    WebDriverWait(browser, 20).until(lambda b: "glossary.html#term-" in b.current_url)
