"""The built pages as one volume: what the book as a PDF and as an EPUB have in common.

Both are made of the pages in `_build/html`, so they have what the extensions and the notebooks have
put there; what nobody can use in a volume is left out.
"""

import datetime
import functools
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urldefrag

import yaml
from bs4 import BeautifulSoup, Comment, Tag

from cnnbook import __version__ as VERSION

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"

# What nobody reads in a volume: figures with controls, and the package function by function.
LEFT_OUT = re.compile(r"chapters/reference/(explorers$|package/)")
# Of a page: what its scripts need, links for copying an address, definitions that appear on demand,
# and the code that is folded, which by the rules of this book only prepares and draws.
LEFT_OUT_OF_PAGES = (
    "script, style, button, .cnnbook-own-row, .headerlink, .cnnbook-definition, .toctree-wrapper, "
    "details.above-input"
)
# Pictures that are alive on the web page, and what links it.
ALIVE = {
    ".cnnbook-still": "This figure can be changed on the web page",
    ".cnnbook-live-still": "Draw on the web page",
}
PICTURE = re.compile(r"<svg\b.*?</svg>", re.S)
STAND_IN = re.compile(r'<svg data-picture="(\d+)"></svg>')


@dataclass
class Page:
    """A page of the volume.

    Parameters
    ----------
    name
        Its name in the table of contents: ``"chapters/04-lenet"``.
    content
        Its article. Drawings are XML, which an HTML parser would change; ``<svg data-picture="3">``
        stands for the fourth of them.
    drawings
        The drawings, as they are on the page.
    """

    name: str
    content: Tag
    drawings: list[str]

    @property
    def title(self) -> str:
        """Its title, with the number of a chapter."""
        text = self.content.find("h1").get_text()
        chapter = re.match(r"chapters/(\d\d)-", self.name)
        return f"{int(chapter[1])} {text}" if chapter else text

    def html(self) -> str:
        """Return its article with the drawings in it."""
        return STAND_IN.sub(lambda found: self.drawings[int(found[1])], str(self.content))


@functools.cache
def settings() -> dict:
    """Return what `_config.yml` says."""
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))


def parts(toc: dict) -> list[tuple[str, list[str]]]:
    """Return the parts of the table of contents: captions, and the pages of the volume."""

    def files(entries: list[dict]):
        for entry in entries:
            yield entry["file"]
            yield from files(entry.get("sections", []))

    return [
        (part["caption"], [file for file in files(part["chapters"]) if not LEFT_OUT.match(file)])
        for part in toc["parts"]
    ]


def contents() -> tuple[str, list[tuple[str, list[str]]]]:
    """Return the first page, and the parts that follow it."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    return toc["root"], parts(toc)


def relinked(
    address: str, page: str, pages: set[str], site: str, inside: Callable[[str, str], str]
) -> str:
    """Return where a page's link leads in the volume.

    Parameters
    ----------
    address, page
        The link, and the page it is on.
    pages
        The pages of the volume; links to others lead to the site.
    inside
        Returns the address of a page of the volume, or of a fragment of one.
    """
    if re.match(r"[a-z]+:|//", address):
        return address
    path, fragment = urldefrag(address)
    path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
    if (name := path.removesuffix(".html").removesuffix(".ipynb")) in pages:
        return inside(name, fragment)
    return f"{site}{path}" + (f"#{fragment}" if fragment else "")


def read(page: str, pages: set[str], inside: Callable[[str, str], str]) -> Page:
    """Return a page with addresses that hold in the volume; see :func:`relinked`."""
    site = settings()["html"]["baseurl"]
    drawings: list[str] = []

    def stand_in(found: re.Match) -> str:
        drawings.append(found[0])
        return f'<svg data-picture="{len(drawings) - 1}"></svg>'

    text = PICTURE.sub(stand_in, (HTML / f"{page}.html").read_text(encoding="utf-8"))
    content = BeautifulSoup(text, "html.parser").find("article")
    if content is None:
        raise ValueError(f"{HTML / page}.html has no article; has the theme changed?")
    for element in content.select(LEFT_OUT_OF_PAGES):
        element.decompose()
    for comment in content(string=lambda text: isinstance(text, Comment)):
        comment.extract()
    for element in content(attrs={"aria-describedby": True}):
        del element["aria-describedby"]
    for link in content("a", href=True):
        link["href"] = relinked(link["href"], page, pages, site, inside)
    soup = BeautifulSoup("", "html.parser")
    for kind, words in ALIVE.items():
        for still in content.select(kind):
            section = still.find_parent("section", id=True)
            fragment = f"#{section['id']}" if section else ""
            link = soup.new_tag("a", href=f"{site}{page}.html{fragment}")
            link.string = words
            note = soup.new_tag("p", attrs={"class": "cnnbook-elsewhere"})
            note.extend([link, "."])
            still.append(note)
    return Page(page, content, drawings)


def front_matter() -> str:
    """Return the paragraphs of the title page, as HTML."""
    config = settings()
    site, today = config["html"]["baseurl"], datetime.date.today()
    return (
        f"<p>{config['author']}</p>"
        f"<p>Version {VERSION}, made on {today.day} {today:%B %Y} from "
        f'<a href="{site}">{site}</a>, where the figures with controls can be used and the code '
        "can be copied. Code that only prepares or draws is left out here; there, it is folded.</p>"
        f"<p>{config['html']['extra_footer']}</p>"
    )
