"""What a page costs a reader who was never here: bytes, requests, and what moves while it loads."""

import gzip
import re
from pathlib import Path

import pytest
from test_site import PAGES, never_here, visit

pytestmark = pytest.mark.book
every_page = pytest.mark.parametrize("page", PAGES)

HTML = Path(__file__).parents[2] / "_build" / "html"
COMPRESSED = {".css", ".html", ".js", ".json", ".svg"}  # by the server, GitHub's for one

# Before explorers. The heaviest pages are chapter 1, whose photographs do not compress, and the
# gallery, with every figure of the book.
MOST_BYTES = 550_000  # on the way to the reader
MOST_DECODED = 1_500_000
MOST_DECODED_OF_A_CHAPTER = 1_350_000
MOST_REQUESTS = 26
MOST_SHIFT = 0.05  # Google’s Web Vitals call 0.1 good

LOADED = """
return [
  performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")
].map(entry => new URL(entry.name).pathname);
"""
NOTE_SHIFTS = """
window.shift = 0;
new PerformanceObserver(list => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
"""


def is_of_explorers(path: str) -> bool:
    scripts = ("/explorers.js", "/own-picture.js")
    return "/html-manager/" in path or "/explorers/" in path or path.endswith(scripts)


def sent(path: str) -> int:
    """Return how many bytes of a file are on the way."""
    file = HTML / path.removeprefix("/")
    content = file.read_bytes()
    return len(gzip.compress(content, 6) if file.suffix in COMPRESSED else content)


@every_page
@pytest.mark.parametrize("width", [1280, 390])
def test_page_keeps_to_its_budget(browser, site, page, width, record_property):
    script = {"source": NOTE_SHIFTS}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        with never_here(browser):
            visit(browser, site, page, width)
            loaded = browser.execute_script(LOADED)
            browser.execute_async_script("setTimeout(arguments[0], 500)")
            shift = browser.execute_script("return window.shift")
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    first = [path for path in loaded if not is_of_explorers(path)]
    size = sum(map(sent, first))
    decoded = sum((HTML / path.removeprefix("/")).stat().st_size for path in first)
    record_property("bytes_sent", size)
    record_property("bytes_decoded", decoded)
    assert 5e4 < size <= MOST_BYTES
    is_gallery = page.endswith("/gallery.html")
    assert decoded <= (MOST_DECODED if is_gallery else MOST_DECODED_OF_A_CHAPTER)
    assert 10 < len(first) <= MOST_REQUESTS
    assert shift <= MOST_SHIFT


def test_nothing_but_the_style_sheet_and_a_few_names_delays_the_first_picture():
    for page in PAGES:
        head = (HTML / page).read_text().partition("</head>")[0]
        assert re.findall(r'<link\b[^>]*rel="stylesheet"[^>]*href="[^"?]*/([^"?]*)', head) == [
            "book.css"
        ], page
        scripts = re.findall(r'<script\b(?![^>]*\bdefer)[^>]*\bsrc="[^"?]*/([^"?]*)', head)
        assert scripts == ["documentation_options.js"], page


def test_figures_define_what_they_share_once():
    names = []
    for page in PAGES:
        article = (HTML / page).read_text().partition("<article")[2]
        assert "DejaVuSans-" not in article, page  # matplotlib's own names of letters
        if "cnnbook-still" not in article:  # the first state of an explorer brings its own
            found = re.findall(r" id='(d\w{7})'", article)
            assert len(found) == len(set(found)), page
            names += found
    assert len(names) > 500


def test_explorers_that_are_far_away_are_not_loaded(browser, site):
    with never_here(browser):
        visit(browser, site, "chapters/06-vgg.html", 1280)
        browser.execute_async_script("setTimeout(arguments[0], 500)")
        assert not [path for path in browser.execute_script(LOADED) if "/html-manager/" in path]


@every_page
def test_pictures_state_their_size(browser, site, page):
    visit(browser, site, page, 1280)
    without = browser.execute_script(
        "return [...document.querySelectorAll('img')].filter(img => !img.hasAttribute('width') "
        "|| !img.hasAttribute('height')).map(img => img.outerHTML)"
    )
    assert without == []
