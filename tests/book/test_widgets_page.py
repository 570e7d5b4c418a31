"""Explorers on the built pages: moved by keyboard and pointer, with every other host blocked."""

import base64
import html
import io
import itertools
import json
import re
import time
from pathlib import Path

import pytest
import torch
from test_site import SIZE, never_here
from torch import nn

from cnnbook import analysis, data, models, plots, widgets
from cnnbook.data.pixels import normalize
from cnnbook.widgets.compact import compact, definitions

HTML = Path(__file__).parents[2] / "_build" / "html"
VIEW = '<script type="application/vnd.jupyter.widget-view+json">'
PAGES = [
    str(path.relative_to(HTML))
    for path in sorted((HTML / "chapters").rglob("*.html"))
    if VIEW in path.read_text()
]
EXPLORERS = HTML / "_static" / "explorers"  # a file for each, loaded when it comes near

book = pytest.mark.book
every_page = pytest.mark.parametrize("page", PAGES)

# What the reader sees of the n-th explorer: descriptions of pictures, and words below them.
SHOWN = """
const [explorer] = [...document.querySelectorAll(".cnnbook-explorer")].slice(arguments[0]);
const seen = node => node.getClientRects().length > 0;
const shown = explorer.lastElementChild;
return [
  [...shown.querySelectorAll("[role=img]")].filter(seen).map(e => e.getAttribute("aria-label")),
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
        views = [json.loads(v) for v in re.findall(re.escape(VIEW) + "(.*?)</script>", text)]
        name = page.removesuffix(".html").replace("/", "-")
        self.models = {}
        for view in views:
            script = (EXPLORERS / f"{name}-{view['model_id']}.js").read_text()
            self.models |= json.loads(script.partition("=")[2].removesuffix(";\n"))["state"]
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
    """Go to each explorer, as a reader does, until it is drawn; then back to the top."""

    def drawn():
        browser.execute_script("document.querySelector('.cnnbook-still')?.scrollIntoView()")
        return browser.execute_script(
            "return [document.querySelectorAll('.cnnbook-explorer .widget-html-content > *').length"
            " >= 2 * arguments[0], document.querySelectorAll('.cnnbook-still').length]",
            len(state.explorers),
        )

    wait_for(drawn, [True, 0], 30)
    browser.execute_script("scrollTo(0, 0)")


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


# Where a row of buttons is wider than the page, it continues on another line.
BUTTONS_OUT_OF_SIGHT = """
const all = document.querySelectorAll(".cnnbook-explorer .widget-toggle-buttons button");
return [...all].filter(button => {
  const [seen, row] = [button, button.parentElement].map(e => e.getBoundingClientRect());
  return seen.left < row.left - 1 || seen.right > Math.min(row.right, innerWidth) + 1;
}).map(button => button.textContent);
"""


# How much higher the rows of buttons are than one line of them.
MORE_LINES = """
const line = innerWidth < 768 ? 48 : 36;  // on a phone, a line is as high as a thumb
const more = [...arguments[0].querySelectorAll(".widget-toggle-buttons")].map(row => {
  const tops = [...row.querySelectorAll("button")].map(b => b.getBoundingClientRect().top);
  return Math.max(...tops) > Math.min(...tops) + 1 ? row.getBoundingClientRect().height - line : 0;
});
return more.reduce((sum, height) => sum + height, 0);
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
    wait_for(lambda: browser.execute_script(BUTTONS_OUT_OF_SIGHT), [])
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
            wait_for(lambda: browser.execute_script(BUTTONS_OUT_OF_SIGHT), [])

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
    last = ".cnnbook-explorer > [aria-live=polite]:last-child"
    live = f"return document.querySelectorAll('{last}').length"
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
        pictures = still.find_elements(By.CSS_SELECTOR, "[role=img]")
        assert [p.get_attribute("aria-label") for p in pictures] == alts
        assert all(p.is_displayed() and p.size["height"] > 50 for p in pictures)
        assert [c.text for c in still.find_elements(By.CLASS_NAME, "cnnbook-caption")] == [
            " ".join(caption.split()) for caption in captions
        ]
        for selector in selectors:
            chosen = selector["_options_labels"][selector["index"]]
            assert f"{selector['description']}: {chosen}" in still.text
        heights.append(still.size["height"])

    # With JavaScript, the explorer takes the same room, and nothing below it jumps, except where
    # buttons need more than one line.
    visit(browser, f"{site}/{page}", width)
    wait_until_drawn(browser, state)
    drawn = browser.find_elements(By.CLASS_NAME, "cnnbook-explorer")
    for still, live in zip(heights, drawn, strict=True):
        more = browser.execute_script(MORE_LINES, live)
        assert abs(still + more - live.size["height"]) <= 4


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


# A picture of the reader's own.

EXPLORER = "const explorer = document.querySelectorAll('.cnnbook-explorer')[arguments[0]];"
OWN = EXPLORER + "const own = explorer.ownPicture; return own && [own.pixels, own.output];"
SAID = EXPLORER + "return explorer.querySelector('[role=status]').textContent;"
DROP = (
    EXPLORER
    + """
const bytes = Uint8Array.from(atob(arguments[1]), letter => letter.charCodeAt(0));
const dataTransfer = new DataTransfer();
dataTransfer.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
explorer.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
"""
)


@book
@pytest.mark.parametrize(
    ("page", "number"),
    [("00-convolution", 0), ("reference/explorers", 0), ("reference/explorers", 1)],
)
def test_explorers_take_a_picture_of_ones_own(browser, site, tmp_path, page, number):
    from PIL import Image
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    state = State(f"chapters/{page}.html")
    visit(browser, f"{site}/chapters/{page}.html")
    wait_until_drawn(browser, state)
    explorer = browser.find_elements(By.CLASS_NAME, "cnnbook-explorer")[number]
    wait_for(lambda: len(explorer.find_elements(By.CSS_SELECTOR, "input[type=file]")), 1)
    chosen = explorer.find_element(By.CSS_SELECTOR, "input[type=file]")
    before = browser.execute_script(SHOWN, number)

    picture = Image.new("RGB", (320, 240), (200, 100, 50))  # left
    picture.paste((20, 240, 120), (160, 0, 320, 240))
    picture.save(tmp_path / "own.png")
    chosen.send_keys(str(tmp_path / "own.png"))
    wait_for(lambda: browser.execute_script(OWN, number) is not None, True)
    pixels, output = map(torch.tensor, browser.execute_script(OWN, number))
    gray = torch.tensor([[0.299, 0.587, 0.114]]) @ torch.tensor(
        [[200.0, 20], [100, 240], [50, 120]]
    )
    half = pixels.shape[1] // 2
    assert pixels[:, : half - 1].sub(gray[0, 0] / 255).abs().max() < 0.01
    assert pixels[:, half + 1 :].sub(gray[0, 1] / 255).abs().max() < 0.01
    vertical = torch.tensor([[-1.0, 0, 1]] * 3)
    if number == 1:  # the filters
        vertical[1] *= 2
        padded = nn.functional.pad(pixels[None, None], [1] * 4, mode="replicate")
        expected = nn.functional.conv2d(padded, vertical[None, None])[0, 0]
    else:
        whole = (9 * (pixels - pixels.min()) / (pixels.max() - pixels.min())).round()
        expected = nn.functional.conv2d(whole[None, None, 11:17, 11:17], vertical[None, None])[0, 0]
    assert expected.abs().max() > 0.5  # the edge between the two colors
    assert output.sub(expected).abs().max() < 1e-4
    shown = explorer.find_element(By.CSS_SELECTOR, "svg[role=img][aria-label*='our picture']")
    assert shown.size["height"] > 150
    assert not explorer.find_element(By.XPATH, "./*[last()]").is_displayed()

    # It follows the controls.
    control = explorer.find_element(By.CSS_SELECTOR, "[role=slider], select")
    label = shown.get_attribute("aria-label")
    control.send_keys(Keys.ARROW_DOWN if control.tag_name == "select" else Keys.ARROW_RIGHT)
    now = "svg[role=img][aria-label*='our picture']"
    wait_for(
        lambda: explorer.find_element(By.CSS_SELECTOR, now).get_attribute("aria-label") != label,
        True,
    )
    control.send_keys(Keys.ARROW_UP if control.tag_name == "select" else Keys.ARROW_LEFT)

    # What is no picture is said to be none, and changes nothing.
    (tmp_path / "words.png").write_text("words")
    chosen.send_keys(str(tmp_path / "words.png"))
    no_picture = "“words.png” is no picture that this browser can open. Try a PNG or a JPEG file."
    wait_for(lambda: browser.execute_script(SAID, number), no_picture)
    size = f"{pixels.shape[1]}×{pixels.shape[0]}"
    content = base64.b64encode((tmp_path / "own.png").read_bytes()).decode()
    browser.execute_script(DROP, number, content)
    said = f"Your picture, as {size} gray pixels."
    wait_for(lambda: browser.execute_script(SAID, number), said)

    # By keyboard, back to where it was.
    browser.execute_script("arguments[0].focus()", chosen)
    ActionChains(browser).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert browser.switch_to.active_element == chosen
    wait_for(lambda: browser.execute_script(SHOWN, number), before)
    addresses = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert all(address.startswith((site, "blob:", "data:")) for address in addresses)
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


# Networks that the page computes itself.

LIVE = "const live = document.querySelector('.cnnbook-live').liveNetwork;"
# From and to base64: a million numbers as JSON would take a minute.
COMPUTE = (
    LIVE
    + """
const {network} = live;
const pixels = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0));
const found = [];
for (let at = 0; at < pixels.length; at += network.ink.length) {
  network.ink.forEach((_, i) => (network.ink[i] = pixels[at + i] / 255));
  network.run();
  for (const map of [...network.maps.slice(1), network.probabilities]) found.push(...map);
}
const bytes = new Uint8Array(Float32Array.from(found).buffer);
let text = "";
for (let at = 0; at < bytes.length; at += 8192) {
  text += String.fromCharCode(...bytes.subarray(at, at + 8192));
}
return btoa(text);
"""
)
NEXT_FRAME = "const done = arguments[0]; requestAnimationFrame(() => setTimeout(done, 0))"


class Uncommon(nn.Module):
    """Color, and one of each that LeNet-5 does without."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, (3, 2), padding=(2, 1), dilation=2, groups=4)
        self.pool = nn.MaxPool2d(3, 2, padding=1)
        self.head = nn.Linear(12, 7)
        self.norm1.running_mean.normal_()
        self.norm1.running_var.uniform_(0.5, 2)

    def forward(self, x):
        x = torch.relu(self.norm1(self.conv1(x)))
        x = self.pool(nn.functional.sigmoid(self.conv2(x)))
        x = nn.functional.dropout(x, 0.5, self.training)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def colored():
    torch.manual_seed(1)
    images = torch.randint(0, 256, (30, 3, 15, 15), dtype=torch.uint8)
    labels = torch.arange(30) % 7
    return data.Dataset("noise", images, labels, tuple("abcdefg"), (0.5, 0.4, 0.6), (0.3, 0.2, 0.3))


def lively(which):
    torch.manual_seed(0)
    if which == "uncommon":
        return Uncommon(), colored()
    net = models.lenet5(activation="tanh")
    with torch.no_grad():
        for weight in net.parameters():
            weight.mul_(2)  # as large as training makes them
    return net, data.load("fashion-mini", size=32)[1]


@pytest.fixture
def live_page(tmp_path):
    def make(net, images):
        page = tmp_path / "page.html"
        html = widgets.live_network(mine=(net, images)).html()
        page.write_text(
            "<!doctype html><html lang=en><meta charset=utf-8><title>a page</title>"
            f"<meta name=viewport content='width=device-width'><body><main>{html}</main>"
        )
        return page.as_uri()

    return make


@pytest.mark.slow
@pytest.mark.parametrize("which", ["lenet", "uncommon"])
def test_the_page_computes_what_torch_computes(browser, live_page, which):
    net, images = lively(which)
    net.eval()
    some = images[:200]
    visit(browser, live_page(net, images))
    pixels = base64.b64encode(some.images.numpy().tobytes()).decode()
    answer = bytearray(base64.b64decode(browser.execute_script(COMPUTE, pixels)))
    seen = torch.frombuffer(answer, dtype=torch.float32).view(len(some), -1)
    x = normalize(some.images, some.mean, some.std)
    if which == "lenet":
        layers = analysis.activations(net, x, ["c1", "s2", "c3", "s4", "c5", "f6", "output"])
        expected = list(layers.values())
    else:
        inner = torch.relu(net.norm1(net.conv1(x)))
        expected = [inner, torch.sigmoid(net.conv2(inner))]
        expected.append(net.pool(expected[-1]))
        expected += [nn.functional.adaptive_avg_pool2d(expected[-1], 1), net(x)]
    expected.append(net(x).softmax(1))
    expected = torch.cat([tensor.flatten(1) for tensor in expected], 1)
    assert seen.shape == expected.shape
    assert (seen - expected).abs().max() <= 1e-4


def probabilities(browser):
    """Return what the page says of each class, with its own probabilities beside it."""
    browser.execute_async_script(NEXT_FRAME)
    return browser.execute_script(
        LIVE
        + """return [[...live.network.ink], [...live.network.probabilities],
        [...document.querySelectorAll(".cnnbook-live-best .cnnbook-live-name")]
          .map(e => e.textContent)]"""
    )


def recognized(net, images, ink):
    pixels = torch.tensor(ink).view(1, *images.images.shape[1:])
    mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (images.mean, images.std))
    with torch.no_grad():
        return net((pixels - mean) / std).softmax(1)[0]


def agrees(browser, net, images):
    ink, found, best = probabilities(browser)
    expected = recognized(net, images, ink)
    assert torch.tensor(found).sub(expected).abs().max() <= 1e-4
    assert best == ([images.classes[expected.argmax()]] if any(ink) else [])
    return ink


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 360])
def test_one_draws_and_the_prediction_follows(browser, live_page, width):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    net, images = lively("lenet")
    visit(browser, live_page(net, images), width)
    buttons = {
        b.accessible_name: b for b in browser.find_elements(By.CSS_SELECTOR, ".cnnbook-live button")
    }
    for label, name in enumerate(images.classes):
        buttons[f"Show a sample: {name}"].click()
        ink = agrees(browser, net, images)
        sample = images[images.labels == label].images[0]
        assert torch.equal((255 * torch.tensor(ink)).round(), sample.flatten().float())

    buttons["Clear"].click()
    assert not any(agrees(browser, net, images))
    square = browser.find_element(By.CLASS_NAME, "cnnbook-live-square")
    side = square.size["width"]
    stroke = ActionChains(browser, duration=0).move_to_element_with_offset(square, -side // 4, 0)
    stroke.click_and_hold().move_by_offset(side // 2, 0).release().perform()
    pixels = torch.tensor(agrees(browser, net, images)).view(32, 32)
    # A level stroke of some five pixels, from one quarter to the other.
    assert pixels[16, 9:23].min() > 0.99
    assert pixels[:, 16].sum() == pytest.approx(5.1, abs=0.4)
    assert pixels[:, :5].sum() == pixels[:, 28:].sum() == 0

    buttons["Eraser"].click()
    ActionChains(browser).move_to_element(square).click().perform()
    assert agrees(browser, net, images)[16 * 32 + 16] == 0
    buttons["Clear"].click()
    buttons["Pen"].click()
    buttons["Pen"].send_keys(Keys.SHIFT + Keys.TAB)
    assert browser.switch_to.active_element == square
    # Drawn before the pen is lifted, as on a slow machine: what is said then follows all the same.
    square.send_keys(Keys.SPACE, *[Keys.ARROW_DOWN] * 12)
    browser.execute_async_script(NEXT_FRAME)
    square.send_keys(Keys.SPACE)
    browser.execute_async_script(NEXT_FRAME)
    square.send_keys(*[Keys.ARROW_RIGHT] * 9)
    pixels = torch.tensor(agrees(browser, net, images)).view(32, 32)
    assert pixels[8:21, 16].min() > 0.99
    assert pixels[:, 22:].sum() == 0  # with the pen lifted
    spoken = browser.find_element(By.CSS_SELECTOR, ".cnnbook-live [aria-live]")
    text = "return arguments[0].textContent.startsWith('Prediction: ')"
    wait_for(lambda: browser.execute_script(text, spoken), True)
    square.send_keys(Keys.DELETE)
    assert not any(agrees(browser, net, images))
    assert [e for e in browser.get_log("browser") if e["level"] == "SEVERE"] == []


def words_of_unit(browser):
    browser.execute_async_script(NEXT_FRAME)
    panel = browser.find_element("class name", "cnnbook-live-unit")
    return panel.find_element("tag name", "strong").text, panel.find_element("tag name", "p").text


@pytest.mark.slow
def test_a_unit_is_the_sum_of_what_it_reads(browser, live_page):
    from selenium.webdriver import ActionChains, Keys
    from selenium.webdriver.common.by import By

    net, images = lively("lenet")
    net.eval()
    visit(browser, live_page(net, images))
    x = normalize(images[images.labels == 0].images[:1], images.mean, images.std)
    before = {"c1": net.c1[0](x), "c3": net.c3[0](net.s2(net.c1(x)))}
    seen = analysis.activations(net, x, ["c1", "s2", "c3", "s4", "c5", "f6", "output"])
    canvases = browser.find_elements(By.CSS_SELECTOR, ".cnnbook-live-stage canvas")
    assert [c.accessible_name.split(":")[0] for c in canvases] == [
        "c1",
        "s2",
        "c3",
        "s4",
        "c5",
        "f6",
    ]
    for canvas in canvases:
        name = canvas.accessible_name.split(":")[0]
        # Near its left upper corner: the first unit of the first feature map.
        width, height = canvas.size["width"], canvas.size["height"]
        corner = ActionChains(browser, duration=0)
        corner.move_to_element_with_offset(canvas, 1 - width // 2, 1 - height // 2).perform()
        title, words = words_of_unit(browser)
        on_a_map = seen[name].shape[-1] > 1 and seen[name].ndim == 4
        assert title == f"{name}, " + ("feature map 1, row 1, column 1" if on_a_map else "unit 1")
        value = seen[name][0, 0].flatten()[0].item()
        numbers = [float(n.replace("−", "-")) for n in re.findall(r"−?\d+\.\d+", words)]
        assert numbers[-1] == pytest.approx(value, abs=0.0051)
        if name in before:
            bias = getattr(net, name)[0].bias[0].item()
            total = before[name][0, 0, 0, 0].item()
            assert numbers[:3] == pytest.approx([total - bias, bias, total], abs=0.0051)
        side = min(32, analysis.receptive_field(net, (1, 32, 32), name).size[0])
        assert words.endswith(f"It sees {side}×{side} pixels of the input.")

    # By keyboard to its neighbor, to the next feature map, and to a score.
    canvases[2].send_keys(Keys.ARROW_RIGHT)
    assert words_of_unit(browser)[0] == "c3, feature map 1, row 1, column 2"
    canvases[2].send_keys(Keys.SHIFT + Keys.ARROW_RIGHT)
    assert words_of_unit(browser)[0] == "c3, feature map 2, row 1, column 2"
    browser.find_elements(By.CSS_SELECTOR, ".cnnbook-live-classes button")[3].send_keys("")
    browser.execute_script("document.querySelectorAll('.cnnbook-live-classes button')[3].focus()")
    title, words = words_of_unit(browser)
    assert title == f"output, score of “{images.classes[3]}”"
    assert words.startswith("Sum of 84 products")


@pytest.mark.slow
def test_an_empty_square_is_called_nothing(browser, live_page):
    net, images = lively("lenet")
    visit(browser, live_page(net, images))
    answer = browser.find_element("class name", "cnnbook-live-answer")
    first = images.classes[recognized(net, images, probabilities(browser)[0]).argmax()]
    assert answer.text.startswith(f"Prediction: {first}, ")
    (clear,) = [b for b in browser.find_elements("tag name", "button") if b.text == "Clear"]
    clear.click()
    assert not any(probabilities(browser)[0])
    assert answer.text == "Draw in the square, or pick an image."
    shares = browser.find_elements("class name", "cnnbook-live-share")
    assert [share.text for share in shares] == [""] * len(images.classes)
    spoken = "return document.querySelector('.cnnbook-live [aria-live]').textContent"
    wait_for(lambda: browser.execute_script(spoken), answer.text)
    # What it can answer at all is said below the square.
    limits = "//p[contains(., 'It knows these classes only')]"
    square = browser.find_element("class name", "cnnbook-live-square")
    assert browser.find_element("xpath", limits).location["y"] > square.location["y"] + 200


@pytest.mark.slow
def test_a_few_tab_stops_lead_across(browser, live_page):
    from selenium.webdriver import Keys

    net, images = lively("lenet")
    visit(browser, live_page(net, images))
    stops = []
    for _ in range(40):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        focused = browser.switch_to.active_element
        if focused.tag_name == "body":
            break
        label = focused.find_element("xpath", "ancestor-or-self::*[@role][1]").accessible_name
        stops.append(label.partition(".")[0].partition(":")[0])
    assert stops[1:4] == ["Tools", "Classes", "Samples"]
    assert stops[0].startswith("Drawing square")
    assert stops[4:] == ["c1", "s2", "c3", "s4", "c5", "f6"]

    rows = browser.find_elements("css selector", ".cnnbook-live [role=toolbar]")
    for row in (row for row in rows if row.is_displayed()):
        buttons = row.find_elements("tag name", "button")
        buttons[0].send_keys(Keys.ARROW_RIGHT)
        assert browser.switch_to.active_element == buttons[1]
        buttons[1].send_keys(Keys.END)
        assert browser.switch_to.active_element == buttons[-1]
        buttons[-1].send_keys(Keys.ARROW_DOWN, Keys.ARROW_UP)
        assert browser.switch_to.active_element == buttons[-2]
        assert [b.get_property("tabIndex") for b in buttons].count(0) == 1


SEEN = """
const [before, tapped, unit] = arguments;
const [top, bottom] = [before, tapped].map(e => e.getBoundingClientRect());
return [top.top >= 0, bottom.bottom <= unit.getBoundingClientRect().top];
"""


@pytest.mark.slow
@pytest.mark.parametrize("block", ["start", "end"])
def test_what_is_tapped_stays_in_sight_on_a_phone(browser, live_page, block):
    visit(browser, live_page(*lively("lenet")), 390)
    canvases = browser.find_elements("css selector", ".cnnbook-live-stage canvas")
    into_view = f"arguments[0].scrollIntoView({{block: '{block}'}})"
    unit = browser.find_element("class name", "cnnbook-live-unit")
    for before, tapped in itertools.pairwise(canvases):
        browser.execute_script(into_view, tapped)
        tapped.click()
        browser.execute_async_script(NEXT_FRAME)
        assert browser.execute_script(SEEN, before, tapped, unit) == [True, True]
        browser.find_element("class name", "cnnbook-live-close").click()


# Whether the panel is in the window, and below the feature maps; and whether it lies over the page.
IN_SIGHT = """
const [maps, unit] = arguments;
const box = unit.getBoundingClientRect();
return [box.bottom <= innerHeight, maps.getBoundingClientRect().bottom <= box.top,
        getComputedStyle(unit).position === "fixed", box.left >= 0 && box.right <= innerWidth];
"""


@pytest.mark.slow
def test_a_click_brings_the_sum_into_sight_on_a_laptop(browser, live_page):
    from selenium.webdriver import Keys

    visit(browser, live_page(*lively("lenet")))
    metrics = {"width": 1280, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    canvas = browser.find_element("css selector", ".cnnbook-live-stage canvas")
    unit = browser.find_element("class name", "cnnbook-live-unit")
    browser.execute_script("scrollTo(0, 0)")
    assert browser.execute_script(IN_SIGHT, canvas, unit) == [False, True, False, True]
    canvas.click()
    browser.execute_async_script(NEXT_FRAME)
    assert browser.execute_script(IN_SIGHT, canvas, unit) == [True, True, True, True]
    height = browser.execute_script("return document.documentElement.scrollHeight")
    canvas.send_keys(Keys.ESCAPE)
    browser.execute_async_script(NEXT_FRAME)
    assert browser.execute_script(IN_SIGHT, canvas, unit) == [False, True, False, True]
    assert abs(browser.execute_script("return document.documentElement.scrollHeight") - height) < 80
    # Where it is in the window anyway, it stays in its place.
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    canvases = browser.find_elements("css selector", ".cnnbook-live-stage canvas")
    canvases[-1].click()
    browser.execute_async_script(NEXT_FRAME)
    assert browser.execute_script(IN_SIGHT, canvases[-1], unit) == [True, True, False, True]


LIVE_WIDTHS = "[...document.querySelectorAll('.cnnbook-live-stage canvas')].map(e => e.width)"
# Beside the square, a finger scrolls the page.
TOUCHED = """
const page = document.querySelector(".cnnbook-live-page");
const all = [page, ...page.querySelectorAll("*")].filter(e => e.getClientRects().length);
return [
  all.filter(e => e.matches("button")).map(e => e.getBoundingClientRect())
    .filter(r => r.width < 44 || r.height < 44).length,
  all.filter(e => getComputedStyle(e).touchAction === "none").map(e => e.className),
  document.documentElement.scrollWidth,
  page.getAnimations({subtree: true}).length,
];
"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 360])
def test_it_is_as_large_as_a_thumb_on_a_phone(browser, live_page, width):
    visit(browser, live_page(*lively("lenet")), width)
    browser.execute_async_script(NEXT_FRAME)
    assert browser.execute_script(TOUCHED) == [0, ["cnnbook-live-square"], width, 0]


# What is on the screen in the first frames after the page has got, or changed, its width.
PAINTED = """
const [narrower, done] = arguments;
const main = document.querySelector("main");
const widths = [];
const note = () => {
  const canvases = [...document.querySelectorAll(".cnnbook-live-stage canvas")];
  widths.push(canvases[0].getBoundingClientRect().width);
  if (widths.length === 3) done(widths);
  else requestAnimationFrame(painted);
};
const painted = () => { // a message arrives after the frame
  const { port1, port2 } = new MessageChannel();
  port1.onmessage = note;
  port2.postMessage(null);
};
if (narrower) main.style.width = "300px";
main.hidden = false;
requestAnimationFrame(painted);
"""


@pytest.mark.slow
def test_nothing_is_drawn_in_a_width_that_the_page_does_not_have(browser, live_page, tmp_path):
    address = live_page(*lively("lenet"))
    page = tmp_path / "page.html"
    page.write_text(page.read_text().replace("<main>", "<main hidden>"))
    visit(browser, address, 700)
    hidden = browser.execute_async_script(f"setTimeout(() => arguments[0]({LIVE_WIDTHS}), 200)")
    assert set(hidden) == {300}  # as browsers make a canvas: nothing was drawn
    first, *later = browser.execute_async_script(PAINTED, False)
    assert first > 310
    assert set(later) == {first}
    first, *later = browser.execute_async_script(PAINTED, True)
    assert 200 < first <= 300
    assert set(later) == {first}


@pytest.mark.slow
def test_a_live_network_without_javascript_is_a_picture(browser_without_scripts, live_page):
    net, images = lively("lenet")
    visit(browser_without_scripts, live_page(net, images))
    still = browser_without_scripts.find_element("class name", "cnnbook-live-still")
    picture = still.find_element("tag name", "svg")
    assert picture.is_displayed()
    assert picture.size["height"] > 100
    x = normalize(images[images.labels == 0].images[:1], images.mean, images.std)
    with torch.no_grad():
        answer = images.classes[net.eval()(x).argmax()]
    assert f"A sample, {images.classes[0]}, in the network: it says {answer}" in still.text


@book
@pytest.mark.parametrize("page", ["04-lenet", "reference/explorers"])
def test_live_networks_of_the_book(browser, site, page):
    text = (HTML / "chapters" / f"{page}.html").read_text()
    visit(browser, f"{site}/chapters/{page}.html")
    answer = re.search(r"it says (.*?) with", text)[1]
    wait_for(lambda: probabilities(browser)[2], [html.unescape(answer)])
    # All but the picture for readers without JavaScript.
    element = text.split('<div class="cnnbook-live">')[1].split("</script></div>")[0]
    style, _, content = re.split(r'<div class="cnnbook-live-still">|</figure>', element)
    assert len(style + content) <= 400_000
