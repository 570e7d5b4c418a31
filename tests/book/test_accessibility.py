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
from test_site import PAGES, visit

ROOT = Path(__file__).parents[2]

VERSION = "4.14.1"
PACKAGE_INTEGRITY = (
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37Og"
    "udVGtQ=="
)
KEPT = ROOT / "_build" / f"axe-core-{VERSION}.tgz"

pytestmark = pytest.mark.book

# Fading colors are neither the old nor the new ones. What is drawn within a picture that has a
# description is not there for programs that read pages aloud, and of the thousands of words of
# code, one in each color is enough: without the others a page is looked through in a second.
# The colors of words in pictures are checked below.
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
DRAWN = """
const next = document.querySelector(".cnnbook-still");
next?.scrollIntoView();
return document.readyState === "complete" && !next;
"""
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


every_page = pytest.mark.parametrize("page", [*PAGES, "search.html", "genindex.html", "404.html"])


@every_page
@pytest.mark.parametrize("width", [1280, 390])
def test_page_has_no_serious_violation(browser, site, axe, page, width):
    open_page(browser, site, axe, page, width)
    assert browser.execute_async_script(RUN, WCAG) == []
    browser.execute_script(THEME, "dark")
    assert browser.execute_async_script(RUN, COLORS) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_results_of_a_search_have_no_serious_violation(browser, site, axe, width):
    open_page(browser, site, axe, "chapters/index.html", width)
    browser.execute_script("document.getElementById('pst-search-dialog').showModal()")
    browser.find_element("css selector", "#pst-search-dialog input").send_keys("bottleneck")
    results = "return document.querySelectorAll('#pst-search-dialog .cnnbook-found-text').length"
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(results) > 5)
    assert browser.execute_async_script(RUN, WCAG) == []
    browser.execute_script(THEME, "dark")
    assert browser.execute_async_script(RUN, COLORS) == []


# Words of figures are outlines, which axe-core does not take for text. What is behind a word is the
# shape on top at its middle, or the page; of words on bitmaps, nothing is said here.
FAINT_WORDS = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgba = color => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data].map(value => value / 255);
};
const over = ([r, g, b, a], below) => [r, g, b].map((v, i) => a * v + (1 - a) * below[i]);
const luminance = color => color.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const paint = element => {
  const style = getComputedStyle(element);
  if (style.fill === "none") return null;
  const color = rgba(style.fill);
  color[3] *= style.fillOpacity * style.opacity;
  return color;
};
const page = rgba(getComputedStyle(document.body).backgroundColor).slice(0, 3);
const faint = [];
let checked = 0;
for (const word of document.querySelectorAll("figure.cnnbook-figure g.cnnbook-word")) {
  const glyph = word.querySelector("use, path");
  if (!glyph || !word.getClientRects().length) continue;
  checked += 1;
  word.scrollIntoView({block: "center", inline: "center"});
  const box = word.getBoundingClientRect();
  const svg = word.closest("svg");
  const shapes = document.elementsFromPoint(box.x + box.width / 2, box.y + box.height / 2).filter(
      e => svg.contains(e) && e !== svg && !e.closest("g.cnnbook-word"));
  if (shapes.some(e => e.matches("image"))) continue;
  const behind = shapes.reverse().map(paint).filter(Boolean).reduce(
      (below, color) => over(color, below), page);
  const ink = over(paint(glyph), behind);
  const [light, dark] = [luminance(ink), luminance(behind)].sort((a, b) => b - a);
  const contrast = (light + 0.05) / (dark + 0.05);
  if (contrast < 4.5) faint.push(
      `${svg.ariaLabel ?? svg.parentElement.ariaLabel} ${word.id} ${contrast.toFixed(2)}`);
}
return [faint, checked];
"""


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_in_figures_stand_out(browser, site, page, theme):
    visit(browser, site, page, 1280, theme)
    faint, checked = browser.execute_script(FAINT_WORDS)
    assert faint == []
    if page.startswith("chapters/0") or page.endswith("/gallery.html"):
        assert checked > 10
