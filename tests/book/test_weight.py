"""What a page costs a reader who was never here: bytes, requests, and what moves while it loads."""

import gzip
from pathlib import Path

import pytest
from test_site import PAGES, never_here, visit

pytestmark = pytest.mark.book
every_page = pytest.mark.parametrize("page", PAGES)

HTML = Path(__file__).parents[2] / "_build" / "html"
COMPRESSED = {".css", ".html", ".js", ".json", ".svg"}  # by the server, GitHub's for one

MOST_BYTES = 1_500_000  # on the way to the reader, before explorers
MOST_REQUESTS = 40
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
    record_property("bytes_sent", size)
    assert 2e5 < size <= MOST_BYTES
    assert 10 < len(first) <= MOST_REQUESTS
    assert shift <= MOST_SHIFT


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
