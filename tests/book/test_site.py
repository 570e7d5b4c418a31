"""Every page as a browser shows it, with every other host out of reach."""

import base64
import re
from contextlib import contextmanager
from pathlib import Path

import pytest
import set_repository
from executed import chapters_and_pages
from prose import minutes

import cnnbook

HTML = Path(__file__).parents[2] / "_build" / "html"
CHAPTERS = Path(__file__).parents[2] / "chapters"
PAGES = sorted(
    f"chapters/{path.relative_to(CHAPTERS).with_suffix('')}.html"
    for suffix in ("md", "ipynb")
    for path in CHAPTERS.rglob(f"*.{suffix}")
)

pytestmark = pytest.mark.book
every_chapter = pytest.mark.parametrize("chapter", chapters_and_pages()[0], ids=lambda p: p.stem)
every_page = pytest.mark.parametrize("page", PAGES)

# The first picture of a page: the top of whatever is drawn first.
FIRST_PICTURE = """
const drawn =
  "figure.cnnbook-figure, .cnnbook-live, .widget-subarea, .cell_output img, article figure img";
return Math.min(...[...document.querySelectorAll(drawn)].map(
    e => e.getBoundingClientRect()).filter(r => r.height > 50).map(r => r.top + scrollY));
"""
HOSTS_ASKED = """
return performance.getEntriesByType("resource").map(e => new URL(e.name, location).host)
"""
SIZE = """
return performance.getEntriesByType("resource").reduce(
  (sum, e) => sum + e.decodedBodySize,
  performance.getEntriesByType("navigation")[0].decodedBodySize);
"""
# The theme draws icons from fonts. What is hidden, in this width or theme, takes no room.
ICONS = """
const icons = [...document.querySelectorAll(":is(i, span)[class*='fa-']")];
return document.fonts.ready.then(() => icons.filter(i => i.getClientRects().length).map(i => {
  const drawn = getComputedStyle(i, "::before");
  return {
    name: i.className,
    drawn: drawn.content.length === 3, // one sign in quotes
    font: document.fonts.check(`${drawn.fontWeight} 16px ${drawn.fontFamily}`),
    width: i.getBoundingClientRect().width,
    isSilent: i.ariaHidden === "true",
  };
}));
"""
# A widget still being drawn is hidden behind the picture of its first state.
FIGURES = """
return [...document.querySelectorAll("figure.cnnbook-figure [role=img]")].filter(
    picture => picture.getClientRects().length && getComputedStyle(picture).visibility === "visible"
).map(picture => ({
    label: picture.getAttribute("aria-label"),
    width: picture.getBoundingClientRect().width,
    height: picture.getBoundingClientRect().height,
    textColor: getComputedStyle(picture).color,
    card: getComputedStyle(picture.closest(".output, .widget-subarea, figure")).backgroundColor,
}))
"""


def visit(browser, site, page, width, theme="light"):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(f"{site}/{page}")
    browser.execute_script(f"localStorage.mode = localStorage.theme = '{theme}'")
    browser.get_log("browser")
    browser.get(f"{site}/{page}")


@every_page
@pytest.mark.parametrize("width", [1280, 390])
def test_page_is_clean_and_fits(browser, site, page, width):
    visit(browser, site, page, width)
    problems = [e for e in browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert problems == []
    assert set(browser.execute_script(HOSTS_ASKED)) == {site.removeprefix("http://")}
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


@contextmanager
def never_here(browser):
    """Let the browser load everything anew, as one does that has never been here."""
    browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    try:
        yield
    finally:
        browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": False})


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", ["chapters/index.html", "chapters/04-lenet.html"])
def test_icons_are_drawn_and_not_read_aloud(browser, site, page, theme, width):
    visit(browser, site, page, width, theme)
    icons = browser.execute_script(ICONS)
    assert len(icons) > 5
    for icon in icons:
        assert icon["drawn"], icon
        assert icon["font"], icon
        assert icon["width"] > 5, icon
        assert icon["isSilent"], icon


@every_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_can_be_read_in_both_themes(browser, site, page, theme):
    visit(browser, site, page, 1280, theme)
    figures = browser.execute_script(FIGURES)
    for figure in figures:
        assert len(figure["label"]) > 10
        assert figure["width"] > 300
        assert figure["height"] > 50
        # no card behind the picture, and ink in the color of the page's text
        assert figure["card"] == "rgba(0, 0, 0, 0)"
        red = int(figure["textColor"].split("(")[1].split(",")[0])
        assert red < 100 if theme == "light" else red > 150
    made = "cnnbook-figure" in (HTML / page).read_text()
    assert bool(figures) == made
    # Solutions may be numbers only, and one looks up words and formulas; other pages have pictures.
    assert made or "/solutions/" in page or "/reference/" in page


@every_chapter
def test_a_chapter_begins_with_a_picture(browser, site, chapter):
    visit(browser, site, f"chapters/{chapter.stem}.html", 1280)
    assert browser.execute_script(FIRST_PICTURE) <= 900


@every_page
def test_formulas_are_mathml_with_a_text_alternative(browser, site, page):
    visit(browser, site, page, 1280)
    text = (HTML / page).read_text()
    assert "\\(" not in text
    assert "<mi>&</mi>" not in text  # a mark of LaTeX that only says where lines are aligned
    formulas = browser.execute_script(
        "return [...document.querySelectorAll('math')].map(m => "
        "[m.getAttribute('alttext'), m.getBoundingClientRect().width])"
    )
    if page == "chapters/04-lenet.html":
        assert formulas
    for tex, width in formulas:
        assert tex
        assert width > 0


def test_cheat_sheet_prints_on_one_page(browser, site):
    visit(browser, site, "chapters/reference/cheat-sheet.html", 1280)
    paper = {"paperWidth": 8.27, "paperHeight": 11.69}  # inches: A4
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", paper)["data"])
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) == 1


def test_notebooks_and_nothing_else_open_in_binder_and_colab():
    slug = set_repository.current().removeprefix("https://github.com/")
    for page in PAGES:
        source = Path(page).with_suffix(".ipynb")
        expected = {
            # The tag whose package the first cell installs.
            f"https://mybinder.org/v2/gh/{slug}/v{cnnbook.__version__}?urlpath=lab/tree/{source}",
            f"https://colab.research.google.com/github/{slug}/blob/v{cnnbook.__version__}/{source}",
        }
        links = re.findall(
            r'href="(https://(?:mybinder|colab\.research\.google)\.[^"]+)"\s+target="_blank"\s+'
            'class="btn',
            (HTML / page).read_text(),
        )
        is_notebook = (CHAPTERS.parent / source).is_file()
        assert set(links) == (expected if is_notebook else set()), page


def test_every_page_can_be_corrected_and_complained_about():
    address = set_repository.current()
    for page in PAGES:
        text = (HTML / page).read_text()
        sources = [Path(page).with_suffix(suffix) for suffix in (".md", ".ipynb")]
        (source,) = [path for path in sources if (CHAPTERS.parent / path).is_file()]
        assert f'href="{address}/edit/main/{source}"' in text, page
        assert f'href="{address}/issues/new?title=' in text, page


def test_chapters_say_what_they_ask_and_how_long_they_take():
    for page in PAGES:
        text = (HTML / page).read_text()
        (description,) = re.findall(r'<meta name="description" content="(.*?)"', text)
        assert len(description) > 10, page
        assert f'<meta property="og:description" content="{description}"' in text
        kind = "website" if page == "chapters/index.html" else "article"
        assert text.count('<meta property="og:type"') == 1, page
        assert f'<meta property="og:type" content="{kind}" />' in text, page
        assert '<meta property="og:image:alt" content="CNNs, paper by paper: ' in text, page
        assert '<meta name="twitter:card" content="summary_large_image" />' in text, page
        address = f"{set_repository.pages(set_repository.current())}/{page}"
        assert f'<meta property="og:url" content="{address}" />' in text, page
        (card,) = re.findall(r'<meta property="og:image" content="(.*?)"', text)
        assert (HTML / "_static" / card.rpartition("/")[2]).is_file()
        is_chapter = re.fullmatch(r"chapters/\d\d-.*", page) is not None
        times = r'class="cnnbook-times">Chapter \d+\. About \d+ minutes to read\. Its code ran in '
        assert bool(re.search(times, text)) == is_chapter, page


@every_chapter
def test_the_minutes_on_a_page_are_those_of_its_text_and_visible_code(chapter):
    text = (HTML / "chapters" / f"{chapter.stem}.html").read_text()
    (said,) = re.findall(r"About (\d+) minutes to read", text)
    # In steps of five, and up to the exercises.
    assert abs(int(said) - minutes(chapter, before="## Exercises")) < 5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_paper_is_light_and_nothing_is_cut(browser, site, theme):
    visit(browser, site, "chapters/04-lenet.html", 1280, theme)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        browser.execute_script("dispatchEvent(new Event('beforeprint'))")
        cut, color, sidebar, folded = browser.execute_script("""
            const cut = [...document.querySelectorAll(".bd-content pre")].filter(
                e => getComputedStyle(e).whiteSpace !== "pre-wrap").length;
            const bar = document.querySelector(".bd-sidebar-primary");
            const text = document.querySelector(".bd-content p");
            const folded = [...document.querySelectorAll(".bd-content details.hide")].filter(
                e => !e.open && e.checkVisibility()).length;
            return [cut, getComputedStyle(text).color, getComputedStyle(bar).display, folded];
        """)
        browser.execute_script("dispatchEvent(new Event('afterprint'))")
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert cut == 0
    assert int(color.split("(")[1].split(",")[0]) < 100
    assert sidebar == "none"
    assert folded == 0  # nobody can unfold it on paper
    assert browser.execute_script("return document.documentElement.dataset.theme") == theme
