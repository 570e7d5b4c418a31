"""Explorers on the built pages: moved by keyboard and pointer, with every other host blocked."""

import html
import io
import json
import re
import time
from pathlib import Path

import pytest
import torch
from test_site import SIZE, never_here

from cnnbook import plots
from cnnbook.widgets.compact import compact, definitions

HTML = Path(__file__).parents[2] / "_build" / "html"
VIEW = '<script type="application/vnd.jupyter.widget-view+json">'
PAGES = [
    str(path.relative_to(HTML))
    for path in sorted((HTML / "chapters").rglob("*.html"))
    if VIEW in path.read_text()
]
STATE = re.compile(
    r'<script type="application/vnd.jupyter.widget-state\+json">(.*?)</script>', flags=re.S
)

book = pytest.mark.book
every_page = pytest.mark.parametrize("page", PAGES)

# What the reader sees of the n-th explorer: descriptions of pictures, and words below them.
SHOWN = """
const [explorer] = [...document.querySelectorAll(".cnnbook-explorer")].slice(arguments[0]);
const seen = node => node.getClientRects().length > 0;
const shown = explorer.lastElementChild;
return [
  [...shown.querySelectorAll("svg[role=img]")].filter(seen).map(e => e.getAttribute("aria-label")),
  [...shown.querySelectorAll(".cnnbook-caption")].filter(seen).map(e => e.textContent),
];
"""
NOTE_FIRST_PICTURE = """
const look = () => {
  const picture = document.querySelector(".cnnbook-figure svg");
  if (picture && picture.getClientRects().length) window.firstPicture = performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""


class State:
    """The data of a page's widgets, read without the widgets' own program."""

    def __init__(self, page):
        text = (HTML / page).read_text()
        self.models = json.loads(STATE.search(text)[1])["state"]
        views = [json.loads(v) for v in re.findall(re.escape(VIEW) + "(.*?)</script>", text)]
        self.explorers = [
            view["model_id"]
            for view in views
            if "cnnbook-explorer" in self[view["model_id"]].get("_dom_classes", ())
        ]

    def __getitem__(self, reference):
        model = self.models[reference.removeprefix("IPY_MODEL_")]
        return model["state"] | {"model_name": model["model_name"]}

    def selectors(self, explorer):
        return [self[child] for child in self[explorer]["children"][:-2]]

    def expected(self, explorer, indices):
        """Return what SHOWN has to return when the selectors are at `indices`."""
        widget = self[self[explorer]["children"][-1]]
        for index in indices:
            widget = self[widget["children"][index]]
        assert widget["model_name"] == "HTMLModel"
        # Groups that pictures share may stand in the sheet, descriptions never do.
        alts = re.findall(r"role='img' aria-label='([^']*)'", widget["value"])
        captions = re.findall(r"<p class='cnnbook-caption'[^>]*>(.*?)</p>", widget["value"])
        return [list(map(html.unescape, alts)), list(map(html.unescape, captions))]


def visit(browser, url, width=1280):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get_log("browser")
    browser.get(url)


def wait_for(question, answer, seconds=10):
    """Wait until `question()` gives `answer`; then, or at the end, compare them."""
    end = time.monotonic() + seconds
    while question() != answer and time.monotonic() < end:
        time.sleep(0.02)
    assert question() == answer


def wait_until_drawn(browser, state):
    def drawn():
        return browser.execute_script(
            "return [document.querySelectorAll('.cnnbook-explorer .widget-html-content > *').length"
            " >= 2 * arguments[0], document.querySelectorAll('.cnnbook-still').length]",
            len(state.explorers),
        )

    wait_for(drawn, [True, 0], 30)


def by_keyboard(control, kind, index, wanted):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    if kind == "ToggleButtonsModel":
        target, key = control.find_elements(By.TAG_NAME, "button")[wanted], Keys.SPACE
    elif kind == "DropdownModel":
        target = control.find_element(By.TAG_NAME, "select")
        key = Keys.ARROW_DOWN if wanted > index else Keys.ARROW_UP
    else:
        target = control.find_element(By.CSS_SELECTOR, "[role=slider]")
        key = Keys.ARROW_RIGHT if wanted > index else Keys.ARROW_LEFT
    assert target.get_property("tabIndex") == 0
    target.send_keys(key)


def by_pointer(browser, control, kind, count, wanted):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    if kind == "ToggleButtonsModel":
        control.find_elements(By.TAG_NAME, "button")[wanted].click()
    elif kind == "DropdownModel":
        Select(control.find_element(By.TAG_NAME, "select")).select_by_index(wanted)
    else:
        track = control.find_element(By.CSS_SELECTOR, ".noUi-base")
        handle = control.find_element(By.CSS_SELECTOR, "[role=slider]")
        from_middle = round((wanted / (count - 1) - 0.5) * track.size["width"])
        drag = ActionChains(browser).click_and_hold(handle)
        drag.move_to_element_with_offset(track, from_middle, 0).release().perform()


# Where a row of buttons is wider than the page, it scrolls.
CHOSEN_OUT_OF_SIGHT = """
const chosen = document.querySelectorAll(".cnnbook-explorer button.mod-active");
return [...chosen].filter(button => {
  const [seen, row] = [button, button.parentElement].map(e => e.getBoundingClientRect());
  return seen.left < row.left - 1 || seen.right > Math.min(row.right, innerWidth) + 1;
}).map(button => button.textContent);
"""


@book
def test_there_are_pages_with_explorers():
    assert "chapters/reference/explorers.html" in PAGES


@book
@every_page
@pytest.mark.parametrize("width", [1280, 390])
def test_every_control_changes_the_picture(browser, site, page, width):
    from selenium.webdriver.common.by import By

    state = State(page)
    visit(browser, f"{site}/{page}", width)
    wait_until_drawn(browser, state)
    drawn = browser.find_elements(By.CLASS_NAME, "cnnbook-explorer")
    assert len(drawn) == len(state.explorers) > 0
    wait_for(lambda: browser.execute_script(CHOSEN_OUT_OF_SIGHT), [])
    for number, (explorer, element) in enumerate(zip(state.explorers, drawn, strict=True)):

        def shown(number=number):
            return browser.execute_script(SHOWN, number)

        selectors = state.selectors(explorer)
        indices = [selector["index"] for selector in selectors]
        wait_for(shown, state.expected(explorer, indices))
        controls = element.find_elements(By.XPATH, "./*")
        browser.execute_script("arguments[0].scrollIntoView({block: 'start'})", element)
        for i, selector in enumerate(selectors):
            count, start = len(selector["_options_labels"]), indices[i]
            if count == 1:
                continue
            before = shown()
            indices[i] = start + 1 if start + 1 < count else start - 1
            by_keyboard(controls[i], selector["model_name"], start, indices[i])
            wait_for(shown, state.expected(explorer, indices))
            assert shown() != before
            wait_for(lambda: browser.execute_script(CHOSEN_OUT_OF_SIGHT), [])

            indices[i] = start
            by_pointer(browser, controls[i], selector["model_name"], count, start)
            wait_for(shown, before)
    problems = [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert problems == []


@book
@every_page
def test_controls_have_names_and_values_for_screen_readers(browser, site, page):
    state = State(page)
    visit(browser, f"{site}/{page}")
    wait_until_drawn(browser, state)
    named = """
        const name = e => e.getAttribute("aria-label") || e.labels?.[0]?.textContent;
        return [...document.querySelectorAll(".cnnbook-explorer")].map(e => [
            ...e.querySelectorAll("[role=slider], [role=group], select")].map(c => [
                name(c),
                c.value || c.getAttribute("aria-valuetext")
                  || c.querySelector("[aria-pressed=true]").textContent]))
    """
    expected = [
        [[s["description"], s["_options_labels"][s["index"]]] for s in state.selectors(explorer)]
        for explorer in state.explorers
    ]
    wait_for(lambda: browser.execute_script(named), expected)
    live = "return document.querySelectorAll('.cnnbook-explorer > [aria-live=polite]').length"
    assert browser.execute_script(live) == len(state.explorers)


@book
@every_page
def test_page_is_light_and_asks_no_other_host(browser, site, page, record_property):
    script = {"source": NOTE_FIRST_PICTURE}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    try:
        with never_here(browser):
            visit(browser, f"{site}/{page}")
            wait_until_drawn(browser, State(page))
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    first_picture = browser.execute_script("return window.firstPicture")
    size = browser.execute_script(SIZE)
    record_property("first_picture_ms", first_picture)
    record_property("page_bytes", size)
    print(f"{page}: first picture after {first_picture:.0f} ms, {size / 1e6:.2f} MB in all")
    assert size <= 6e6
    hosts = browser.execute_script(
        'return performance.getEntriesByType("resource").map(e => new URL(e.name, location).host)'
    )
    assert set(hosts) == {site.removeprefix("http://")}


@book
@every_page
@pytest.mark.parametrize("width", [1280, 390])
def test_first_states_are_there_without_javascript(
    browser, browser_without_scripts, site, page, width
):
    from selenium.webdriver.common.by import By

    state = State(page)
    visit(browser_without_scripts, f"{site}/{page}", width)

    def stills():
        return browser_without_scripts.find_elements(By.CLASS_NAME, "cnnbook-still")

    wait_for(lambda: len(stills()), len(state.explorers))
    heights = []
    for explorer, still in zip(state.explorers, stills(), strict=True):
        selectors = state.selectors(explorer)
        alts, captions = state.expected(explorer, [s["index"] for s in selectors])
        pictures = still.find_elements(By.CSS_SELECTOR, "svg[role=img]")
        assert [p.get_attribute("aria-label") for p in pictures] == alts
        assert all(p.is_displayed() and p.size["height"] > 50 for p in pictures)
        assert [c.text for c in still.find_elements(By.CLASS_NAME, "cnnbook-caption")] == [
            " ".join(caption.split()) for caption in captions
        ]
        for selector in selectors:
            chosen = selector["_options_labels"][selector["index"]]
            assert f"{selector['description']}: {chosen}" in still.text
        heights.append(still.size["height"])

    # With JavaScript, the explorer takes the same room: nothing below it jumps.
    visit(browser, f"{site}/{page}", width)
    wait_until_drawn(browser, state)
    drawn = browser.find_elements(By.CLASS_NAME, "cnnbook-explorer")
    for still, live in zip(heights, drawn, strict=True):
        assert abs(still - live.size["height"]) <= 4


@book
def test_pages_without_widgets_load_no_widget_script():
    for path in (HTML / "chapters").rglob("*.html"):
        text = path.read_text()
        assert ("html-manager/embed.js" in text) == (VIEW in text), path
        assert ("explorers.js" in text) == (VIEW in text), path


FIGURES = {
    "confusion": lambda: plots.confusion_matrix(torch.tensor([[8, 2], [5, 5]]), ["cat", "dog"]),
    "lines": lambda: plots.lines(
        torch.arange(9), {"a": torch.arange(9) ** 2.0}, xlabel="x", ylabel="y", alt="a parabola"
    ),
    "maps": lambda: plots.feature_maps(torch.linspace(-1, 2, 900).view(4, 15, 15)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FIGURES)
def test_compact_pictures_look_the_same(browser, tmp_path, name):
    from PIL import Image, ImageChops

    svg = FIGURES[name]().svg()
    body, parts = compact(svg)
    pictures = []
    for drawn in (svg, definitions(parts) + body):
        page = tmp_path / "page.html"
        page.write_text(f"<!doctype html><meta charset=utf-8><body>{drawn}")
        visit(browser, page.as_uri())
        pictures.append(Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("RGB"))
    assert len(pictures[0].getcolors(1 << 20)) > 5
    # Coordinates are rounded to a hundredth of a point: edges may differ by a shade. Anything
    # missing or elsewhere would differ by nearly 255.
    assert max(high for _, high in ImageChops.difference(*pictures).getextrema()) < 100
