"""Comforts of reading: a switch for code, copying, numbers, addresses, pages about the book."""

import functools
import http.server
import re
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from selenium.webdriver.support.wait import WebDriverWait
from test_site import HTML, PAGES, every_page, visit

import cnnbook

pytestmark = pytest.mark.book

ROOT = Path(__file__).parents[2]
SITE = yaml.safe_load((ROOT / "_config.yml").read_text())["html"]["baseurl"]

CHAPTERS = sorted(page for page in PAGES if re.match(r"chapters/\d\d-", page))
FIRST_CHAPTERS = [page for page in CHAPTERS if "where-the-time" not in page]

# Code, and the bars that unfold it.
VISIBLE_CODE = """
return [...document.querySelectorAll("div.cell_input pre")].filter(e => e.checkVisibility()).length
"""
VISIBLE_BARS = """
const bars = [...document.querySelectorAll("details.above-input > summary")];
return bars.filter(bar => bar.checkVisibility()).length;
"""
SWITCH = ".cnnbook-code-switch"
READ = """
const bar = document.querySelector(".cnnbook-progress");
return new DOMMatrix(getComputedStyle(bar).transform).a;
"""


def test_code_is_hidden_on_every_page_until_it_is_switched_back(browser, site):
    visit(browser, site, "chapters/04-lenet.html", 1280)
    browser.execute_script("localStorage.removeItem('cnnbook-code')")
    visit(browser, site, "chapters/04-lenet.html", 1280)
    before = browser.execute_script(VISIBLE_CODE)
    bars = browser.execute_script(VISIBLE_BARS)
    assert min(before, bars) > 5
    switch = browser.find_element("css selector", SWITCH)
    assert switch.get_attribute("aria-pressed") == "false"
    try:
        switch.send_keys(" ")
        assert switch.get_attribute("aria-pressed") == "true"
        assert browser.execute_script(VISIBLE_CODE) == 0
        assert browser.execute_script(VISIBLE_BARS) == 0
        visit(browser, site, "chapters/06-vgg.html", 390)
        assert browser.execute_script(VISIBLE_CODE) == browser.execute_script(VISIBLE_BARS) == 0
        browser.find_element("css selector", SWITCH).click()
        visit(browser, site, "chapters/04-lenet.html", 1280)
        assert browser.execute_script(VISIBLE_CODE) == before
        assert browser.execute_script(VISIBLE_BARS) == bars
    finally:
        browser.execute_script("localStorage.removeItem('cnnbook-code')")


def test_outputs_stay_when_code_is_hidden(browser, site):
    visit(browser, site, "chapters/08-resnet.html", 1280)
    shown = """return [...document.querySelectorAll("div.cell_output")].filter(
        e => e.checkVisibility()).length"""
    before = browser.execute_script(shown)
    browser.find_element("css selector", SWITCH).click()
    try:
        assert browser.execute_script(shown) == before > 5
    finally:
        browser.find_element("css selector", SWITCH).click()


def test_only_pages_with_code_have_the_switch(browser, site):
    visit(browser, site, "chapters/reference/glossary.html", 1280)
    assert not browser.find_elements("css selector", SWITCH)


def test_copied_code_has_no_prompts(browser, site):
    visit(browser, site, "chapters/reference/package/analysis.html", 1280)
    # What the button of the first block with prompts would put on the clipboard.
    copied = """
    const [done] = arguments;
    const block = [...document.querySelectorAll("div.highlight")].find(
        e => e.querySelector("pre .gp") && e.querySelector("button.copybtn"));
    const write = navigator.clipboard.writeText;
    document.addEventListener("copy", () => done(String(getSelection()) || block.innerText));
    navigator.clipboard.writeText = text => { done(text); return Promise.resolve(); };
    const exec = document.execCommand;
    document.execCommand = () => {
        done(document.activeElement.value ?? String(getSelection()));
        return true;
    };
    block.querySelector("button.copybtn").click();
    """
    text = browser.execute_async_script(copied)
    assert text
    assert ">>>" not in text
    assert not re.search(r"^\.\.\. ", text, flags=re.M)


@pytest.mark.parametrize("page", FIRST_CHAPTERS)
def test_the_number_of_a_chapter_is_that_of_its_file(browser, site, page):
    number = int(page.removeprefix("chapters/")[:2])
    visit(browser, site, page, 1280)
    current = browser.find_element("css selector", ".bd-sidebar-primary li.current.active > a")
    assert current.text.startswith(f"{number} ")
    times = browser.find_element("css selector", ".cnnbook-times").text
    assert times.startswith(f"Chapter {number}. About ")
    following = browser.find_element("css selector", ".prev-next-area .right-next")
    link = following.get_attribute("href").rpartition("/")[2]
    title = following.find_element("css selector", ".prev-next-title").text
    assert title.startswith(f"{int(link[:2])} · ")


def test_pages_about_other_things_have_no_number(browser, site):
    visit(browser, site, "chapters/index.html", 1280)
    links = browser.find_elements("css selector", ".bd-sidebar-primary li.toctree-l1 > a")
    for link in links:
        address = link.get_attribute("href")
        numbered = re.search(r"/(\d\d)-[^/]*$", address)
        number = re.match(r"(\d+) ", link.get_attribute("textContent").strip())
        assert (number and int(number[1])) == (numbered and int(numbered[1])), address


@every_page
def test_headings_and_figures_have_addresses(browser, site, page):
    visit(browser, site, page, 1280)
    without = """return [...document.querySelectorAll("article.bd-article :is(h1, h2, h3)")].filter(
        h => !h.querySelector("a.headerlink")).map(h => h.textContent)"""
    assert browser.execute_script(without) == []
    figures = """return [...document.querySelectorAll(".output > figure.cnnbook-figure")].map(
        f => [f.id, f.parentElement.querySelector(".cnnbook-figure-link")?.getAttribute("href")])"""
    found = browser.execute_script(figures)
    assert all(name and link == f"#{name}" for name, link in found)
    assert len({name for name, _ in found}) == len(found)


def test_a_link_to_a_figure_leads_there(browser, site):
    page = "chapters/06-vgg.html"
    name = re.search(r'<figure id="([^"]+-figure-\d+)"', (HTML / page).read_text())[1]
    visit(browser, site, f"{page}#{name}", 1280)
    top = f"return document.getElementById('{name}').getBoundingClientRect().top"
    WebDriverWait(browser, 10).until(lambda b: -5 < b.execute_script(top) < 900)


def test_the_bar_says_how_much_is_read(browser, site):
    visit(browser, site, "chapters/08-resnet.html", 1280)
    scroll = "window.scrollTo({top: arguments[0], behavior: 'instant'})"
    assert browser.execute_script(READ) == 0
    article = "const a = document.querySelector('article.bd-article').getBoundingClientRect();"
    top, height = browser.execute_script(f"{article} return [a.top + scrollY, a.height]")
    browser.execute_script(scroll, top + height / 2 - 900)
    WebDriverWait(browser, 10).until(lambda b: abs(b.execute_script(READ) - 0.5) < 0.02)
    browser.execute_script(scroll, top + height)
    WebDriverWait(browser, 10).until(lambda b: b.execute_script(READ) == 1)


def test_an_address_that_leads_nowhere_gets_a_page_that_needs_no_other_file():
    text = (HTML / "404.html").read_text()
    addresses = re.findall(r'(?:href|action|src)="([^"]*)"', text)
    assert len(addresses) > 10
    assert all(address.startswith(SITE) for address in addresses)
    assert not re.search(r"<(script|link|img)\b", text)
    assert "<title>Not found — CNNs, paper by paper</title>" in text
    for address in addresses:
        assert (HTML / (address.removeprefix(SITE) or "index.html")).is_file(), address


def test_the_page_for_wrong_addresses_fits_in_any_folder(browser):
    class Host(http.server.SimpleHTTPRequestHandler):
        """As GitHub Pages does, answer 404 with that page, wherever it was asked for."""

        def log_message(self, *args):
            pass

        def send_error(self, code, *args):
            self.send_response(code)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write((HTML / "404.html").read_bytes())

    handler = functools.partial(Host, directory=HTML)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        metrics = {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(f"http://127.0.0.1:{server.server_port}/no/such/page.html")
        assert browser.find_element("tag name", "h1").text == "This page is not here"
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
        server.shutdown()


def test_the_map_of_the_site_names_every_page():
    tree = ET.parse(HTML / "sitemap.xml")
    space = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
    found = [element.text for element in tree.iter(f"{space}loc")]
    assert sorted(found) == sorted(SITE + page for page in PAGES)


@every_page
def test_a_page_says_of_which_version_it_is(page):
    text = (HTML / page).read_text()
    foot = text[text.index('class="extra_footer"') :]
    assert f"Version {cnnbook.__version__}" in foot
    assert re.search(r'href="[^"]*changelog\.html">changes', foot) or page.endswith(
        "changelog.html"
    )
    assert re.search(r'href="[^"]*errata\.html">errata', foot) or page.endswith("errata.html")


def test_changes_are_those_of_the_package():
    text = (HTML / "chapters/reference/changelog.html").read_text()
    for heading in re.findall(r"^## (.*)", (ROOT / "CHANGELOG.md").read_text(), re.M):
        assert heading in text
