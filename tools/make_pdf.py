"""Make one PDF of the built book, with the browser that also shows its pages.

python tools/make_pdf.py

The pages in `_build/html` become parts of a single page, with links among them, a title page and a
table of contents; Chromium prints it, with an outline, to `_build/html/cnnbook.pdf`.

Cause: jupyter-book 1.0.4.post1 makes PDFs through LaTeX, which supports neither our tables (HTML)
  nor our figures (SVG), or prints its single page with pyppeteer, which nobody maintains.
Delete when: a maintained builder prints HTML with an outline.
"""

import base64
import html
import posixpath
import re
import shutil
import sys
from pathlib import Path

from selenium import webdriver
from volume import HTML, ROOT, VERSION, Page, contents, front_matter, read, settings

from cnnbook._files import write_whole

PAGE = ROOT / "_build" / "book.html"
PDF = HTML / "cnnbook.pdf"

PATIENCE = 600  # seconds for a thousand figures
A4 = {"paperWidth": 8.27, "paperHeight": 11.69}  # inches
SCALE = 0.8  # a page as wide as a small window: 76 characters of code fit on a line
MARGINS = {"marginTop": 0.75, "marginBottom": 0.75, "marginLeft": 0.8, "marginRight": 0.8}
FOOTER = (
    '<div style="width: 100%; margin: 0 0.8in; font: 8px sans-serif; color: #555; display: flex; '
    'justify-content: space-between"><span><span class="title"></span>, '
    f'version {VERSION}</span><span class="pageNumber"></span></div>'
)

STYLE = """
body { background: white; }
main, .bd-content { display: block !important; max-width: none; }
article { break-before: page; }
.cnnbook-table table { font-size: 0.85em !important; }
article h1 { display: block !important; font-size: 2.2rem; }
h2 { font-size: 1.6rem !important; }
:is(h1, h2, h3, h4, dt) { break-after: avoid; }
:is(p, li) { orphans: 2; widows: 2; }
/* The theme never breaks a table; one of a page's length would leave the page before it empty. */
.bd-main .bd-content table:has(tr:nth-child(13)) { break-inside: auto; }
:is(tr, .cnnbook-still) { break-inside: avoid; }
article section:last-child > :last-child { margin-bottom: 0; }  /* it could take a page */
/* One font for a whole formula, as high as the text beside it. */
math { font-family: "STIX Two Math", "Latin Modern Math", "DejaVu Math TeX Gyre", math; }
details > summary { display: none !important; }  /* the theme shows it */
details { margin-left: 2rem; }  /* answers, below the questions of a list */
.title-page { height: 85vh; display: flex; flex-direction: column; justify-content: center; }
.title-page img { width: 16rem; }
.title-page h1 { font-size: 3rem; }
.contents-title { break-before: page; }
.contents { columns: 2; column-gap: 2.5rem; }
.contents section { break-inside: avoid; margin-bottom: 1.2rem; }
.contents p { margin-bottom: 0; }
.contents ul { list-style: none; padding-left: 0; }
.contents li { display: flex; align-items: baseline; gap: 0.4em; }
.contents li::before { content: ""; order: 1; flex: 1; min-width: 1em;
  border-bottom: 1px dotted #888; }
.contents li a { color: inherit !important; padding-left: 1em; text-decoration: none;
  text-indent: -1em; }
.contents .page-number { order: 2; font-variant-numeric: tabular-nums; }
.cnnbook-control { display: inline-block; margin-right: 1.5em; min-height: 0; }
.cnnbook-elsewhere { font-size: 0.8rem; color: #555; }
"""


def address(page: str, fragment: str) -> str:
    """Return where a page of the book, or a fragment of one, is in the joint page."""
    return f"#{page}--{fragment}" if fragment else f"#{page}"


def joined(page: Page) -> str:
    """Return a page as a part of the joint page, in which every name is unique."""
    content = page.content
    for folded in content("details"):
        folded["open"] = ""
    for element in content(id=True):
        element["id"] = f"{page.name}--{element['id']}"
    for image in content("img", src=True):
        if not image["src"].startswith("data:"):
            file = posixpath.join(posixpath.dirname(page.name), image["src"])
            image["src"] = f"html/{posixpath.normpath(file)}"
    content["id"] = page.name
    return page.html()


def joint_page() -> str:
    """Return the whole book as one HTML page."""
    title = settings()["title"]
    root, chapters = contents()
    names = [root, *(name for _, part in chapters for name in part)]
    first = (HTML / f"{root}.html").read_text(encoding="utf-8")
    styles = re.findall(r'<link [^>]*rel="stylesheet"[^>]*>', first)
    head = "".join(line.replace('"../_static', '"html/_static') for line in styles)
    pages = {name: read(name, set(names), address) for name in names}

    def entry(name: str) -> str:
        # print_page puts the number there, once it is known; three digits of room.
        number = f'<span class="page-number" data-page="{name}">000</span>'
        return f'<li><a href="#{name}">{html.escape(pages[name].title)}</a>{number}</li>'

    listed = "".join(
        f"<section><p><strong>{caption}</strong></p><ul>{''.join(map(entry, part))}</ul></section>"
        for caption, part in chapters
    )
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light"><head><meta charset="utf-8"><title>{title}</title>
{head}<style>{STYLE}</style></head><body><main class="bd-main"><div class="bd-content">
<div><div class="title-page"><img src="html/_static/logo.svg" alt=""><h1>{title}</h1>
{front_matter()}</div>
<h2 class="contents-title">Contents</h2><div class="contents">{listed}</div>
{"".join(map(joined, pages.values()))}</div></div></main></body></html>"""


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


# Returns the letters for which no font is installed: they are drawn as one that no font has is.
MISSING = """
const canvas = document.createElement("canvas");
canvas.width = canvas.height = 32;
const context = canvas.getContext("2d", { willReadFrequently: true });
context.font = "16px sans-serif";
function drawn(letter) {
  context.clearRect(0, 0, 32, 32);
  context.fillText(letter, 4, 24);
  return canvas.toDataURL();
}
const box = drawn(String.fromCodePoint(0x10fffd));
const letters = [...new Set(document.body.textContent)];
return letters.filter((letter) => letter > "\\u007f" && drawn(letter) === box).join("");
"""


def print_page(page: Path, pdf: Path) -> None:
    """Print an HTML file, with an outline of its headings and page numbers in its contents.

    Raises
    ------
    FileNotFoundError
        If there is no browser.
    ValueError
        If letters would be printed as boxes, for want of a font.
    """
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
        if missing := chrome.execute_script(MISSING):
            raise ValueError(
                f"no font has the letters {missing[:40]}; on Debian, the package fonts-nanum has "
                "Korean ones"
            )
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
