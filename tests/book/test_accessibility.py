"""Every page against the Web Content Accessibility Guidelines 2.1, A and AA, by axe-core.

axe-core finds what a program can find: contrast, names, roles, order, what the keyboard reaches.
Its program comes from the npm registry (tools/sphinx/npm.py), once, and is kept in `_build`.
"""

import io
import tarfile
import time
from pathlib import Path

import npm
import pytest
from selenium.webdriver.support.wait import WebDriverWait
from test_site import PAGES

ROOT = Path(__file__).parents[2]

VERSION = "4.14.1"
PACKAGE_INTEGRITY = (
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37Og"
    "udVGtQ=="
)
KEPT = ROOT / "_build" / f"axe-core-{VERSION}.tgz"

# One page of every kind.
ON_A_PHONE = [
    f"chapters/{name}.html"
    for name in (
        "index",
        "02-small-filters",
        "solutions/04-lenet",
        "reference/cheat-sheet",
        "reference/claims",
        "reference/explorers",
        "reference/package/analysis",
        "reference/references",
    )
]

pytestmark = pytest.mark.book

# Fading colors are neither the old nor the new ones. What is drawn within a picture that has a
# description is not there for programs that read pages aloud, and of the thousands of words of
# code, one in each color is enough: without the others a page is looked through in a second.
PREPARE = """
const style = document.createElement("style");
style.textContent = "*, ::before, ::after { transition: none !important }";
document.head.append(style);
document.querySelectorAll("svg[role=img][aria-label]").forEach(svg => svg.replaceChildren());
document.querySelectorAll("svg defs").forEach(defs => defs.remove());
const seen = new Set();
for (const word of document.querySelectorAll(".highlight pre span[class]")) {
  const color = `${word.closest("[class*=highlight-]")?.className} ${word.className}`;
  if (seen.has(color)) word.replaceWith(...word.childNodes);
  seen.add(color);
}
"""
THEME = "document.documentElement.dataset.theme = arguments[0]"
DRAWN = "return document.readyState === 'complete' && !document.querySelector('.cnnbook-still')"
RUN = """
const done = arguments[arguments.length - 1];
const how = {resultTypes: ["violations"], preload: false, iframes: false};
how.runOnly = arguments[0];
axe.run(how).then(({violations}) => done(
    violations.filter(v => ["serious", "critical"].includes(v.impact)).flatMap(
        v => v.nodes.map(n => `${v.id}: ${n.target.join(" ")}: ${n.failureSummary}: ${n.html}`))));
"""
WCAG = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
COLORS = ["color-contrast", "link-in-text-block"]  # all that may differ between themes


@pytest.fixture(scope="module")
def axe():
    try:
        if KEPT.is_file() and npm.integrity(KEPT.read_bytes(), "sha512") == PACKAGE_INTEGRITY:
            package = KEPT.read_bytes()
        else:
            package = npm.download("axe-core", VERSION, PACKAGE_INTEGRITY)
            part = KEPT.with_suffix(".part")
            part.write_bytes(package)
            part.replace(KEPT)
    except OSError as error:
        pytest.skip(f"axe-core cannot be fetched: {error}")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


def open_page(browser, site, axe, page, width):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(f"{site}/{page}")
    end = time.monotonic() + 30
    while not browser.execute_script(DRAWN) and time.monotonic() < end:
        time.sleep(0.05)
    browser.execute_script(THEME, "light")
    browser.execute_script(PREPARE)
    browser.execute_script(axe)


@pytest.mark.parametrize("page", [*PAGES, "search.html", "genindex.html"])
def test_page_has_no_serious_violation(browser, site, axe, page):
    open_page(browser, site, axe, page, 1280)
    assert browser.execute_async_script(RUN, WCAG) == []
    browser.execute_script(THEME, "dark")
    assert browser.execute_async_script(RUN, COLORS) == []


@pytest.mark.parametrize("page", ON_A_PHONE)
def test_page_has_no_serious_violation_on_a_phone(browser, site, axe, page):
    open_page(browser, site, axe, page, 390)
    assert browser.execute_async_script(RUN, WCAG) == []
    browser.execute_script(THEME, "dark")
    assert browser.execute_async_script(RUN, COLORS) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_results_of_a_search_have_no_serious_violation(browser, site, axe, width):
    open_page(browser, site, axe, "chapters/index.html", width)
    browser.execute_script("document.getElementById('pst-search-dialog').showModal()")
    browser.find_element("css selector", "#pst-search-dialog input").send_keys("bottleneck")
    results = "return document.querySelectorAll('#pst-search-dialog li p.context').length"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(results) > 5)
    assert browser.execute_async_script(RUN, WCAG) == []
    browser.execute_script(THEME, "dark")
    assert browser.execute_async_script(RUN, COLORS) == []
