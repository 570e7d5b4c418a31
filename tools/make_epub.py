"""Make an EPUB of the built book, for readers of books that set the pages themselves.

python tools/make_epub.py

The pages in `_build/html` become XHTML, every drawing a file of its own, and formulas stay MathML;
no script is needed. The result, `_build/html/cnnbook.epub`, is checked with epubcheck where that is
installed.

Cause: Sphinx 7.4.7 can write EPUBs, but puts what notebooks and extensions have drawn into them as
  it is, which epubcheck refuses (SVG and MathML that are not announced, HTML that is not XML), and
  the theme's extension fails with any builder but that of web pages.
Delete when: `plain_sphinx.py` with `-b epub` makes one that epubcheck accepts.
"""

import datetime
import html
import io
import posixpath
import re
import shutil
import subprocess
import sys
import uuid
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from bs4 import BeautifulSoup
from PIL import Image
from pygments.formatters import HtmlFormatter
from volume import HTML, ROOT, VERSION, Page, contents, front_matter, read, settings

from cnnbook._files import write_whole

EPUB = HTML / "cnnbook.epub"

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
INK = "#1f2328"  # what a page says of its text: a drawing in a file cannot ask it
REFERENCE = re.compile(r"^#(.+)$|url\(#([^)]+)\)")

# Needed by no reader of books, or not allowed in one.
ATTRIBUTES = ("tabindex", "role", "aria-label", "title", "download")
TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".gif": "image/gif"}
COVER = (1200, 1800)  # pixels

STYLE = """
body { line-height: 1.5; }
h1, h2, h3, h4, dt { line-height: 1.2; break-after: avoid; page-break-after: avoid; }
pre { background: #f3f4f5; color: #1f2328; font-size: 0.8em; line-height: 1.35; padding: 0.6em;
  white-space: pre-wrap; }
code { font-size: 0.9em; }
pre code { font-size: 1em; }
table { border-collapse: collapse; font-size: 0.85em; margin: 1em 0; }
th, td { border-bottom: 1px solid #888888; padding: 0.2em 0.5em; text-align: left;
  vertical-align: top; }
td p, th p { margin: 0; }
.text-right { text-align: right; }
caption { font-style: italic; margin-bottom: 0.3em; text-align: left; }
figure { margin: 1em 0; }
img { max-width: 100%; }
img.drawing { background: #ffffff; }
div.math { margin: 1em 0; text-align: center; }
dt { font-weight: bold; margin-top: 0.8em; }
details { margin: 0 0 1em 2em; }
.cnnbook-times, .cnnbook-elsewhere { font-size: 0.85em; }
.cnnbook-control { display: inline-block; margin-right: 1.5em; }
.claim-number { white-space: nowrap; }
.front { margin-top: 30%; }
.cover { margin: 0; padding: 0; text-align: center; }
.cover img { max-height: 100%; }
nav ol { list-style: none; padding-left: 1em; }
"""

PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops" lang="en" \
xml:lang="en">
<head><title>{title}</title><link rel="stylesheet" type="text/css" href="style.css"/></head>
<body>
{body}
</body>
</html>
"""

CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>
<rootfile full-path="book/content.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>
"""

# What readers who cannot see, or not read print, can expect: schema.org's words for it.
ACCESSIBILITY = {
    "accessMode": ("textual", "visual"),
    "accessModeSufficient": ("textual",),
    "accessibilityFeature": (
        "alternativeText",
        "MathML",
        "structuralNavigation",
        "tableOfContents",
    ),
    "accessibilityHazard": ("none",),
    "accessibilitySummary": ("Every figure has a text alternative; formulas are MathML.",),
}


def address(page: str, fragment: str = "") -> str:
    """Return where a page of the book, or a fragment of one, is in the EPUB."""
    name = page.removeprefix("chapters/").replace("/", "-")
    return f"{name}.xhtml" + (f"#{fragment}" if fragment else "")


def parsed(drawing: str) -> ElementTree.Element:
    """Return a drawing as an element, its tags and attributes without namespaces."""
    opening = drawing.partition(">")[0]
    if "xmlns:xlink" not in opening:  # HTML needs no declaration
        drawing = drawing.replace("<svg", f'<svg xmlns:xlink="{XLINK}"', 1)
    root = ElementTree.fromstring(drawing)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for name in list(element.attrib):
            element.set(name.rpartition("}")[2], element.attrib.pop(name))
    return root


def definitions(drawings: list[ElementTree.Element]) -> dict[str, ElementTree.Element]:
    """Return everything on a page that a drawing can refer to, by its name."""
    return {
        element.get("id", ""): element
        for drawing in drawings
        for element in drawing.iter()
        if element is not drawing and element.get("id")
    }


def referred(element: ElementTree.Element) -> set[str]:
    """Return the names that a drawing, or a part of one, refers to."""
    return {
        found[1] or found[2]
        for part in element.iter()
        for value in part.attrib.values()
        for found in REFERENCE.finditer(value)
    }


def is_drawn(drawing: ElementTree.Element) -> bool:
    """Return whether a drawing shows something: some only hold what others refer to."""
    return any(child.tag not in ("defs", "title", "desc") for child in drawing)


def as_file(drawing: ElementTree.Element, known: dict[str, ElementTree.Element]) -> bytes:
    """Return a drawing as an SVG file that has all it refers to; a page's drawings share parts."""
    own = definitions([drawing])
    needed: dict[str, ElementTree.Element] = {}
    waiting = referred(drawing) - set(own)
    while waiting:
        name = waiting.pop()
        needed[name] = known[name]
        own |= definitions([known[name]])
        waiting |= referred(known[name]) - set(own) - set(needed)
    # A definition within another one that is needed is there already.
    inner = {name for part in needed.values() for name in definitions([part])}
    _, _, width, height = re.split(r"[\s,]+", drawing.get("viewBox", "0 0 0 0").strip())
    root = ElementTree.Element(
        "svg",
        {"xmlns": SVG, "xmlns:xlink": XLINK, "version": "1.1", "color": INK}
        | {"viewBox": drawing.get("viewBox", ""), "width": width, "height": height}
        | {"fill-rule": drawing.get("fill-rule", "nonzero")},
    )
    shared = ElementTree.SubElement(root, "defs")
    shared.extend(part for name, part in needed.items() if name not in inner)
    group = ElementTree.SubElement(root, "g")
    # Joints and ends of lines, which a style sheet or the element's own style says.
    group.set("style", "stroke-linejoin:round;stroke-linecap:butt")
    group.extend(drawing)
    for element in root.iter():
        if element.tag == "path":
            element.set("d", element.get("d", "M0 0"))  # a blank is a letter without lines
        if (target := element.attrib.pop("href", None)) is not None:
            element.set("xlink:href", target)  # which old readers need
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)


def converted(page: Page) -> tuple[str, dict[str, bytes]]:
    """Return a page as XHTML, and the files that it needs besides, by name."""
    content, files = page.content, {}
    drawings = [parsed(drawing) for drawing in page.drawings]
    known = definitions(drawings)
    soup = BeautifulSoup("", "html.parser")
    for stand_in in content("svg"):
        drawing = drawings[int(stand_in["data-picture"])]
        if not is_drawn(drawing):
            stand_in.decompose()
            continue
        name = f"figures/{address(page.name).removesuffix('.xhtml')}-{len(files) + 1}.svg"
        files[name] = as_file(drawing, known)
        width = re.search(r"(?:^|;)\s*width:\s*(\d+)px", drawing.get("style", ""))
        # Panels that stack are one picture, whose text alternative is around them.
        around = stand_in.find_parent(attrs={"role": "img", "aria-label": True})
        alt = drawing.get("aria-label") or ("" if not around else around.get("aria-label"))
        if around:
            around["aria-label"] = ""  # said by the first of them
        image = soup.new_tag("img", attrs={"class": "drawing", "src": name, "alt": alt or ""})
        if width:
            image["style"] = f"width:{width[1]}px"
        stand_in.replace_with(image)
    for image in content("img", src=True, class_=lambda names: names != "drawing"):
        source = posixpath.normpath(posixpath.join(posixpath.dirname(page.name), image["src"]))
        name = f"images/{posixpath.basename(source)}"
        files[name] = (HTML / source).read_bytes()
        image["src"] = name
        image["alt"] = image.get("alt", "")
    for element in content(True):
        for attribute in ATTRIBUTES:
            if element.name != "math":
                del element[attribute]
    return content.decode_contents(formatter="minimal"), files


def cover() -> bytes:
    """Return the cover: the book's card, which has its logo and its title, on a portrait page."""
    with Image.open(ROOT / "_static" / "card.png") as card:
        page = Image.new("RGB", COVER, "white")
        page.paste(card.convert("RGB"), (0, (COVER[1] - card.height) // 3))
    buffer = io.BytesIO()
    page.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def navigation(root: Page, chapters: list[tuple[str, list[Page]]]) -> str:
    """Return the table of contents: parts, their pages, and the sections of these."""

    def link(page: Page) -> str:
        sections = "".join(
            f'<li><a href="{address(page.name, section["id"])}">'
            f"{html.escape(section.find('h2').get_text())}</a></li>"
            for section in page.content("section", id=True)
            if section.find("h2", recursive=False)
        )
        inner = f"<ol>{sections}</ol>" if sections else ""
        return f'<li><a href="{address(page.name)}">{html.escape(page.title)}</a>{inner}</li>'

    listed = "".join(
        f"<li><span>{html.escape(caption)}</span><ol>{''.join(map(link, pages))}</ol></li>"
        for caption, pages in chapters
    )
    return PAGE.format(
        title="Contents",
        body=f'<nav epub:type="toc" id="toc"><h1>Contents</h1><ol>{link(root)}{listed}</ol></nav>',
    )


def package(files: dict[str, bytes], spine: list[str], modified: datetime.datetime) -> str:
    """Return the list of files, and what the book is."""
    config = settings()
    site = config["html"]["baseurl"]

    def item(name: str, content: bytes) -> str:
        kind = TYPES.get(Path(name).suffix, "application/xhtml+xml")
        if name == "style.css":
            kind = "text/css"
        properties = {"nav.xhtml": ["nav"], "cover.png": ["cover-image"]}.get(name, [])
        if name.endswith(".xhtml") and b"<math" in content:
            properties = [*properties, "mathml"]
        said = f' properties="{" ".join(properties)}"' if properties else ""
        return f'<item id="{identifier(name)}" href="{name}" media-type="{kind}"{said}/>'

    about = "".join(
        f'<meta property="schema:{name}">{value}</meta>\n'
        for name, values in ACCESSIBILITY.items()
        for value in values
    )
    items = "\n".join(item(name, content) for name, content in files.items())
    order = "\n".join(f'<itemref idref="{identifier(name)}"/>' for name in spine)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="book" \
xml:lang="en" prefix="schema: http://schema.org/">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="book">urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, site)}</dc:identifier>
<dc:title>{html.escape(config["title"])}</dc:title>
<dc:creator>{html.escape(config["author"])}</dc:creator>
<dc:language>en</dc:language>
<dc:source>{site}</dc:source>
<dc:rights>Text and figures: CC BY 4.0. Code: MIT.</dc:rights>
<dc:description>Convolutional networks, built and measured on the page. Version {VERSION}.\
</dc:description>
<meta property="dcterms:modified">{modified:%Y-%m-%dT%H:%M:%SZ}</meta>
{about}<meta name="cover" content="{identifier("cover.png")}"/>
</metadata>
<manifest>
{items}
</manifest>
<spine>
{order}
</spine>
</package>
"""


def identifier(name: str) -> str:
    """Return the name by which the list of files knows a file."""
    return "f-" + re.sub(r"[^\w.-]", "-", name)


def book() -> dict[str, bytes]:
    """Return the files of the EPUB, by name, in the order in which they are stored."""
    root, chapters = contents()
    names = [root, *(name for _, part in chapters for name in part)]
    pages = {name: read(name, set(names), address) for name in names}
    listed = navigation(pages[root], [(c, [pages[n] for n in part]) for c, part in chapters])
    title = html.escape(settings()["title"])
    light = HtmlFormatter(style="a11y-high-contrast-light").get_style_defs(".highlight")
    # Backgrounds are of the whole block, see above.
    colors = re.sub(r"background(-color)?: [^;}]*;?", "", light)
    files = {
        "nav.xhtml": listed.encode(),
        "style.css": f"{STYLE}{colors}\n".encode(),
        "cover.png": cover(),
        "cover.xhtml": PAGE.format(
            title=title, body=f'<div class="cover"><img src="cover.png" alt="{title}"/></div>'
        ).encode(),
        "title.xhtml": PAGE.format(
            title=title, body=f'<div class="front"><h1>{title}</h1>{front_matter()}</div>'
        ).encode(),
    }
    spine = ["cover.xhtml", "title.xhtml", "nav.xhtml"]
    for name, page in pages.items():
        said = html.escape(page.title)
        text, more = converted(page)
        files[address(name)] = PAGE.format(title=said, body=text).encode()
        files |= more
        spine.append(address(name))
    now = datetime.datetime.now(datetime.timezone.utc)
    listing = package(files, spine, now).encode()
    inside = {f"book/{name}": content for name, content in files.items()}
    return {"META-INF/container.xml": CONTAINER.encode(), "book/content.opf": listing} | inside


def zipped(files: dict[str, bytes]) -> bytes:
    """Return the files as an EPUB, which names its type in the first of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def complaints(path: Path) -> str | None:
    """Return what epubcheck says of an EPUB, nothing if it is valid; None without epubcheck."""
    program = shutil.which("epubcheck")
    if program is None:
        return None
    # Debian's program is the archive itself, which not every system can start.
    with open(program, "rb") as file:
        java = ["java", "-jar"] if file.read(2) == b"PK" else []
    result = subprocess.run(
        [*java, program, "--failonwarnings", str(path)], capture_output=True, text=True, check=False
    )
    return f"{result.stdout}{result.stderr}" if result.returncode else ""


def main() -> int:
    if not (HTML / "index.html").is_file():
        print(f"there is no built book in {HTML}; run `make book` first", file=sys.stderr)
        return 1
    write_whole(EPUB, zipped(book()))
    print(f"{EPUB}: {EPUB.stat().st_size / 2**20:.1f} MiB")
    found = complaints(EPUB)
    if found:
        print(found, file=sys.stderr)
        return 1
    print("not checked: epubcheck is not installed" if found is None else "epubcheck: valid")
    return 0


if __name__ == "__main__":
    sys.exit(main())
