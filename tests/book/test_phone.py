"""Every page in one hand: nothing is cut without a hint, and figures can be enlarged."""

import pytest
from selenium.webdriver.common.keys import Keys
from test_site import PAGES, visit

pytestmark = pytest.mark.book
every_page = pytest.mark.parametrize("page", PAGES)
WIDTHS = [360, 390, 768]

# Whether the page is wider than the window; and what scrolls, or is cut, without fading at the edge
# beyond which there is more.
CUT = """
const described = e => `${e.tagName} ${e.className} ${e.scrollWidth} > ${e.clientWidth}`;
const fades = e => {
  const style = getComputedStyle(e);
  return style.maskImage !== "none"
      && parseFloat(style.getPropertyValue("--cnnbook-after")) > 5;
};
// Of fewer pixels, nothing is seen but the padding. What only has to be found has one pixel.
const cut = [...document.querySelectorAll(".bd-article *")].filter(e =>
    !e.closest("svg, math") && e.clientWidth > 1 && e.scrollWidth > e.clientWidth + 5
    && e.checkVisibility({ visibilityProperty: true })
    && getComputedStyle(e).overflowX !== "visible" && !fades(e));
const root = document.documentElement;
return [root, ...cut].filter(e => e.scrollWidth > e.clientWidth).map(described);
"""
# The fades of the new width are drawn with the next frame.
TWO_FRAMES = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
# The smallest words of a figure have 9 points, 12 pixels, at the size it was drawn for (style.py).
LEAST_TEXT = """
const leastText = figure => Math.min(
    ...[...figure.querySelectorAll("svg")].filter(
        svg => svg.style.width && svg.getClientRects().length
    ).map(svg => 12 * svg.getBoundingClientRect().width / parseFloat(svg.style.width)));
"""
# The button of each figure whose words are too small, which are those of explorers in all states.
BUTTONS = (
    LEAST_TEXT
    + """
const button = figure => {
  const output = figure.closest(".text_html:has(> .cnnbook-still), .widget-subarea") ?? figure;
  let next = output.nextElementSibling;
  while (next && !next.matches(".cnnbook-enlarge")) next = next.nextElementSibling;
  return next;
};
return [...document.querySelectorAll(".bd-article figure.cnnbook-figure")].filter(
    figure => figure.checkVisibility({ visibilityProperty: true }) && leastText(figure) < 11
).map(button);
"""
)
FIGURES = "return [...document.querySelectorAll('.bd-article figure.cnnbook-figure')]"
OPEN = "return document.querySelector('dialog.cnnbook-large[open] .cnnbook-pan')"


@every_page
def test_nothing_is_cut_without_a_hint(browser, site, page):
    visit(browser, site, page, WIDTHS[0])
    for width in WIDTHS:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_async_script(TWO_FRAMES)
        assert browser.execute_script(CUT) == [], width


@every_page
def test_words_in_figures_are_legible_or_can_be_enlarged(browser, site, page):
    visit(browser, site, page, 360)
    buttons = browser.execute_script(BUTTONS)
    assert None not in buttons
    assert all(min(button.size.values()) >= 40 for button in buttons)
    for button in buttons[:1]:  # one of each page is tried
        browser.execute_script("arguments[0].focus()", button)
        button.send_keys(Keys.ENTER)
        window = browser.execute_script(OPEN)
        assert browser.execute_script(f"{LEAST_TEXT} return leastText(arguments[0])", window) >= 11
        browser.switch_to.active_element.send_keys(Keys.ESCAPE)
        assert browser.execute_script(OPEN) is None
        assert browser.switch_to.active_element == button


def test_a_tap_on_a_figure_enlarges_it_and_its_window_is_closed_by_a_button(browser, site):
    visit(browser, site, "chapters/06-vgg.html", 390)
    figure = browser.execute_script(FIGURES)[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    figure.click()
    window = browser.execute_script(OPEN)
    label = browser.execute_script("return arguments[0].querySelector('svg').ariaLabel", figure)
    assert window.get_attribute("aria-label") == label
    assert browser.execute_script("return arguments[0].scrollWidth", window) > 390
    close = browser.find_element("css selector", ".cnnbook-close")
    assert min(close.size.values()) >= 40
    close.click()
    assert browser.execute_script(OPEN) is None


def test_a_window_does_not_open_where_there_is_room(browser, site):
    visit(browser, site, "chapters/06-vgg.html", 1280)
    figure = browser.execute_script(FIGURES)[0]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", figure)
    figure.click()
    assert browser.execute_script(OPEN) is None


def test_the_first_column_of_a_wide_table_stays(browser, site):
    visit(browser, site, "chapters/solutions/07-googlenet.html", 390)
    moved = browser.execute_script("""
        const wide = [...document.querySelectorAll(".cnnbook-table")].filter(
            e => e.scrollWidth > e.clientWidth + 50);
        return wide.map(box => {
            const [first, second] = box.querySelectorAll("tbody td");
            const before = [first, second].map(e => e.getBoundingClientRect().left);
            box.scrollLeft = 50;
            const after = [first, second].map(e => e.getBoundingClientRect().left);
            return before.map((left, i) => Math.round(left - after[i]));
        });
    """)
    assert moved
    assert all(first < 2 and second == 50 for first, second in moved)


# What a card shows: a label and a value in each line, of the width of the page.
CARDS = """
return [...document.querySelectorAll("table.cnnbook-cards")].map(table => {
  const cells = [...table.querySelectorAll("td")].filter(e => e.getClientRects().length);
  const box = table.parentElement;
  return {
    lines: cells.every(e => getComputedStyle(e).display === "grid"),
    labels: cells.every(e => getComputedStyle(e, "::before").content.includes(e.dataset.label)),
    filled: cells.every(e => e.textContent.trim() || e.querySelector("img, svg")),
    wide: box.scrollWidth - box.clientWidth,
    columns: new Set(cells.map(e => Math.round(e.firstElementChild.getBoundingClientRect().left)
        - Math.round(table.getBoundingClientRect().left))).size,
  };
});
"""


@pytest.mark.parametrize("page", ["05-alexnet", "06-vgg", "07-googlenet", "09-side-by-side"])
def test_rows_of_small_tables_are_cards_on_a_phone(browser, site, page):
    visit(browser, site, f"chapters/{page}.html", 390)
    cards = browser.execute_script(CARDS)
    assert cards
    for card in cards:
        assert card["lines"]
        assert card["labels"]
        assert card["filled"]
        assert card["wide"] <= 0
        assert card["columns"] == 1  # values stand below each other
    visit(browser, site, f"chapters/{page}.html", 1280)
    assert not any(card["lines"] for card in browser.execute_script(CARDS))


# Every figure that has a form for narrow pages: which is shown, and how large its words are.
FORMS = """
return [...document.querySelectorAll("figure:has(> .cnnbook-narrow)")].map(figure => {
  const [wide, narrow] = figure.querySelectorAll(":scope > svg");
  const drawn = svg => svg.getClientRects().length;
  const words = 12 * narrow.getBoundingClientRect().width / parseFloat(narrow.style.width);
  return [drawn(wide), drawn(narrow), words, figure.scrollWidth - figure.clientWidth];
});
"""


@pytest.mark.parametrize("page", ["02-small-filters", "05-alexnet", "08-resnet"])
def test_charts_and_towers_have_a_form_for_a_phone(browser, site, page):
    for width in (360, 390):
        visit(browser, site, f"chapters/{page}.html", width)
        forms = browser.execute_script(FORMS)
        assert forms
        for wide, narrow, words, more in forms:
            assert (wide, narrow) == (0, 1)
            assert words >= 11
            assert more <= 0
    visit(browser, site, f"chapters/{page}.html", 1280)
    assert all(form[:2] == [1, 0] for form in browser.execute_script(FORMS))


# Cells without output, whose bar is followed by another bar.
BARS_IN_A_ROW = """
return [...document.querySelectorAll("div.cell:has(> details.above-input:only-child)")].filter(
    e => e.nextElementSibling?.matches("div.cell:has(> details.above-input)")).length;
"""


@every_page
def test_no_two_bars_unfold_code_with_nothing_between(browser, site, page):
    visit(browser, site, page, 390)
    assert browser.execute_script(BARS_IN_A_ROW) == 0


def test_the_title_of_a_wide_table_is_in_sight(browser, site):
    visit(browser, site, "chapters/07-googlenet.html", 390)
    beyond = browser.execute_script("""
        return [...document.querySelectorAll(".cnnbook-table caption")].map(e => {
            const words = document.createRange();
            words.selectNodeContents(e);
            return words.getBoundingClientRect().right;
        }).filter(right => right > innerWidth);
    """)
    assert beyond == []


def test_fades_follow_the_scrolling_in_browsers_without_such_animations(browser, site):
    old = {"source": "CSS.supports = () => false"}
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", old)
    try:
        visit(browser, site, "chapters/solutions/07-googlenet.html", 390)
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    lengths = browser.execute_async_script("""
        const done = arguments[0];
        const style = document.createElement("style");
        style.textContent = "* { animation: none !important }";
        document.head.append(style);
        const box = [...document.querySelectorAll(".cnnbook-table")].find(
            e => e.scrollWidth > e.clientWidth + 50);
        const lengths = () => ["before", "after"].map(side => getComputedStyle(box)
            .getPropertyValue(`--cnnbook-${side}`));
        const start = lengths();
        box.scrollLeft = box.scrollWidth;
        box.addEventListener("scroll", () => done([start, lengths()]));
    """)
    assert lengths == [["0px", "40px"], ["40px", "0px"]]


# What a finger hits at a point 21 pixels above or below, left or right of the middle of a control.
TARGETS = """
const small = [];
for (const control of document.querySelectorAll(
    ".cnnbook-explorer :is(.widget-toggle-buttons button, select, .noUi-handle)")) {
  control.scrollIntoView({block: "center"});
  const box = control.getBoundingClientRect();
  const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
  for (const [dx, dy] of [[0, -21], [0, 21], [-21, 0], [21, 0]]) {
    const hit = document.elementFromPoint(x + dx, y + dy);
    if (!control.contains(hit)) small.push(`${control.className} ${dx} ${dy}`);
  }
}
return small;
"""


@pytest.mark.parametrize("width", [360, 390])
def test_explorers_are_used_with_a_thumb(browser, site, width):
    from test_widgets_page import State, wait_until_drawn

    page = "chapters/reference/explorers.html"
    visit(browser, site, page, width)
    wait_until_drawn(browser, State(page))
    assert browser.execute_script(TARGETS) == []


BAR = """
const buttons = [...document.querySelectorAll(".bd-header-article .btn")];
return buttons.map(e => e.getBoundingClientRect()).filter(box => box.width).map(
    ({left, right, width, height}) => [width, height, left >= 0 && right <= innerWidth]);
"""


@pytest.mark.parametrize("width", WIDTHS)
def test_buttons_of_the_bar_are_as_large_as_a_thumb_and_nothing_lies_over_the_page(
    browser, site, width
):
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    try:
        visit(browser, site, "chapters/04-lenet.html", width)
        buttons = browser.execute_script(BAR)
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert len(buttons) >= 8
    assert all(min(wide, high) >= 44 and inside for wide, high, inside in buttons)
    assert not browser.find_elements("id", "pst-back-to-top")
