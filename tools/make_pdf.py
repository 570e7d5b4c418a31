"""Make one PDF of the built book, with the browser that also shows its pages.

python tools/make_pdf.py

The pages in `_build/html` become parts of a single page, with links among them, a title page and a
table of contents; Chromium prints it, with an outline, to `_build/html/cnnbook.pdf`.

Cause: jupyter-book 1.0.4.post1 makes PDFs through LaTeX, which supports neither our tables (HTML)
  nor our figures (SVG), or prints its single page with pyppeteer, which nobody maintains.
Delete when: a maintained builder prints HTML with an outline.
"""

import base64
import datetime
import html
import posixpath
import re
import shutil
import sys
from pathlib import Path
from urllib.parse import urldefrag

import yaml
from bs4 import BeautifulSoup, Tag
from selenium import webdriver

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnnbook._files import write_whole  # noqa: E402

HTML = ROOT / "_build" / "html"
PAGE = ROOT / "_build" / "book.html"
PDF = HTML / "cnnbook.pdf"

# What nobody reads on paper: figures with controls, and the package function by function.
LEFT_OUT = re.compile(r"chapters/reference/(explorers$|package/)")

PATIENCE = 600  # seconds for a thousand figures
A4 = {"paperWidth": 8.27, "paperHeight": 11.69}  # inches
SCALE = 0.8  # a page as wide as a small window: 76 characters of code fit on a line
MARGINS = {"marginTop": 0.75, "marginBottom": 0.75, "marginLeft": 0.8, "marginRight": 0.8}
FOOTER = (
    '<div style="width: 100%; font: 8px sans-serif; text-align: center; color: #555">'
    '<span class="pageNumber"></span></div>'
)

STYLE = """
body { background: white; }
main, .bd-content { display: block !important; max-width: none; }
article { break-before: page; }
.cnnbook-table table { font-size: 0.85em !important; }
article h1 { display: block !important; font-size: 2.2rem; }
h2 { font-size: 1.6rem !important; }
:is(h1, h2, h3, h4) { break-after: avoid; }
:is(p, li) { orphans: 2; widows: 2; }
.headerlink { display: none; }
details > summary { display: none !important; }  /* the theme shows it */
.title-page { height: 85vh; display: flex; flex-direction: column; justify-content: center; }
.title-page img { width: 16rem; }
.title-page h1 { font-size: 3rem; }
.contents { columns: 2; }
.contents p { break-after: avoid; margin-bottom: 0; }
.contents ul { list-style: none; padding-left: 1rem; }
.contents li { display: flex; align-items: baseline; gap: 0.4em; }
.contents li::before { content: ""; order: 1; flex: 1; min-width: 1em;
  border-bottom: 1px dotted #888; }
.contents li a { text-indent: -1em; padding-left: 1em; }
.contents .page-number { order: 2; font-variant-numeric: tabular-nums; }
.cnnbook-still::after { content: "On the web page this figure can be changed."; display: block;
  font-size: 0.8rem; color: #555; }
"""


def parts(toc: dict) -> list[tuple[str, list[str]]]:
    """Return the parts of the table of contents: captions, and the pages to print."""

    def files(entries: list[dict]):
        for entry in entries:
            yield entry["file"]
            yield from files(entry.get("sections", []))

    return [
        (part["caption"], [file for file in files(part["chapters"]) if not LEFT_OUT.match(file)])
        for part in toc["parts"]
    ]


def relinked(address: str, page: str, pages: set[str], site: str) -> str:
    """Return where a page's link leads once all pages are one."""
    if re.match(r"[a-z]+:|//", address):
        return address
    path, fragment = urldefrag(address)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if path.removesuffix(".html") in pages:
        name = path.removesuffix(".html")
        return f"#{name}--{fragment}" if fragment else f"#{name}"
    return f"{site}{path}" + (f"#{fragment}" if fragment else "")


def article(page: str, pages: set[str], site: str) -> Tag:
    """Return a page's content, with addresses that are valid in the combined page."""
    soup = BeautifulSoup((HTML / f"{page}.html").read_text(), "html.parser")
    content = soup.find("article")
    if content is None:
        raise ValueError(f"{HTML / page}.html has no article; has the theme changed?")
    for script in content("script"):
        script.decompose()
    for folded in content("details"):
        folded["open"] = ""
    for element in content(id=True):
        if element.find_parent("svg") is None and element.name != "svg":
            element["id"] = f"{page}--{element['id']}"
    for link in content("a", href=True):
        link["href"] = relinked(link["href"], page, pages, site)
    for image in content("img", src=True):
        if not image["src"].startswith("data:"):
            file = posixpath.join(posixpath.dirname(page), image["src"])
            image["src"] = f"html/{posixpath.normpath(file)}"
    content["id"] = page
    return content


def joint_page() -> str:
    """Return the whole book as one HTML page."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    site = config["html"]["baseurl"]
    chapters = parts(toc)
    pages = [toc["root"], *(page for _, part in chapters for page in part)]
    first = (HTML / f"{toc['root']}.html").read_text()
    styles = re.findall(r'<link [^>]*rel="stylesheet"[^>]*>', first)
    head = "".join(line.replace('"../_static', '"html/_static') for line in styles)
    articles = {page: article(page, set(pages), site) for page in pages}

    def entry(page: str) -> str:
        title = articles[page].find("h1")
        text = "".join(part for part in title.strings if part != "#")
        if chapter := re.match(r"chapters/(\d\d)-", page):
            text = f"{int(chapter[1])} {text}"
        # print_page puts the number there, once it is known; three digits of room.
        number = f'<span class="page-number" data-page="{page}">000</span>'
        return f'<li><a href="#{page}">{html.escape(text)}</a>{number}</li>'

    contents = "".join(
        f"<p><strong>{caption}</strong></p><ul>{''.join(map(entry, part))}</ul>"
        for caption, part in chapters
    )
    today = f"{datetime.date.today():%d %B %Y}"
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{config["title"]}</title>
{head}<style>{STYLE}</style></head><body><main class="bd-main"><div class="bd-content">
<div><div class="title-page"><img src="html/_static/logo.svg" alt=""><h1>{config["title"]}</h1>
<p>{config["author"]}</p><p>Made on {today} from <a href="{site}">{site}</a>,
where the figures with controls can be used and the code can be copied.</p>
<p>{config["html"]["extra_footer"]}</p></div>
<div class="contents" style="break-before: page"><h2>Contents</h2>{contents}</div>
{"".join(map(str, articles.values()))}</div></div></main></body></html>"""


def pages_of_targets(pdf: bytes) -> dict[str, int]:
    """Return the page, from 1, of every target that a link within a printed file leads to.

    Cause: this book: Chromium numbers pages, but cannot say in the text on which page something is
      (`target-counter` of CSS), and writes the objects of a file uncompressed, so they can be read.
    Delete when: Chromium has target-counter.
    """
    objects = dict(re.findall(rb"(?m)^(\d+) 0 obj\n<<(.*?)>>\nendobj", pdf, flags=re.S))
    parents = set(re.findall(rb"/Parent (\d+) 0 R", b"".join(objects.values())))
    nodes = {n: re.search(rb"/Kids \[(.*?)\]", objects[n]) for n in parents if n in objects}
    kids = {n: re.findall(rb"(\d+) 0 R", found[1]) for n, found in nodes.items() if found}
    roots = set(kids) - {kid for each in kids.values() for kid in each}

    def leaves(node: bytes) -> list[bytes]:
        return [leaf for kid in kids[node] for leaf in leaves(kid)] if node in kids else [node]

    numbers = {leaf: i for root in roots for i, leaf in enumerate(leaves(root), 1)}
    targets = re.findall(rb"/([^\s/\[]+) \[(\d+) 0 R /XYZ", pdf)

    def name(written: bytes) -> str:
        escaped = re.sub(
            rb"#([0-9A-Fa-f]{2})", lambda code: bytes.fromhex(code[1].decode()), written
        )
        return escaped.decode("utf-8", "replace")

    return {name(t): numbers[page] for t, page in targets if t != b"Dest" and page in numbers}


# Writes page numbers into the table of contents, and says whether one of them is new.
NUMBER = """
let isNew = false;
for (const entry of document.querySelectorAll(".page-number")) {
  const number = String(arguments[0][entry.dataset.page] ?? "");
  isNew ||= number !== entry.textContent;
  entry.textContent = number;
}
return isNew;
"""


def print_page(page: Path, pdf: Path) -> None:
    """Print an HTML file, with an outline of its headings and page numbers in its contents."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (browser and driver):
        raise FileNotFoundError("Chromium with ChromeDriver is needed to print the book")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    service = webdriver.ChromeService(driver)
    chrome = webdriver.Chrome(options=options, service=service)
    chrome.command_executor.client_config.timeout = PATIENCE
    try:
        chrome.set_page_load_timeout(PATIENCE)
        chrome.get(page.as_uri())
        how = {"printBackground": True, "generateDocumentOutline": True, "generateTaggedPDF": True}
        how |= {"displayHeaderFooter": True, "headerTemplate": "<span></span>"}
        how |= {"footerTemplate": FOOTER, "scale": SCALE}
        # Numbers that are known only once it is printed may move what follows: print until they
        # stay, which is the second time if they take the room that was kept for them.
        for _ in range(3):
            data = chrome.execute_cdp_cmd("Page.printToPDF", {**A4, **MARGINS, **how})["data"]
            printed = base64.b64decode(data)
            if not chrome.execute_script(NUMBER, pages_of_targets(printed)):
                break
    finally:
        chrome.quit()
    write_whole(pdf, printed)


def main() -> int:
    if not (HTML / "index.html").is_file():
        print(f"there is no built book in {HTML}; run `make book` first", file=sys.stderr)
        return 1
    PAGE.write_text(joint_page())
    print_page(PAGE, PDF)
    print(f"{PDF}: {PDF.stat().st_size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
