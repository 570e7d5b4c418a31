"""Links of the built pages: every file and every target on a page that one leads to exists."""

from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

HTML = Path(__file__).parents[2] / "_build" / "html"

# `search.html` is a page as well; these are not: an included fragment, and the sources.
NOT_PAGES = ("_static", "_sources", "reports")


class Page(HTMLParser):
    """Where a page leads, and the targets on it that one can lead to."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.targets = set(), {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src", "xlink:href", "action", "data", "poster") and value:
                self.links.add(value)
            elif name == "id" or (name == "name" and tag == "a"):
                self.targets.add(value)


@cache
def read(path: Path) -> Page:
    return Page(path.read_text(encoding="utf-8"))


def dead_links(folder: Path) -> list[str]:
    """Return the links within a folder of pages that lead nowhere."""
    dead = []
    for path in sorted(folder.rglob("*.html")):
        if path.relative_to(folder).parts[0] in NOT_PAGES:
            continue
        for link in sorted(read(path).links):
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            file = unquote(address.path)
            start = folder if file.startswith("/") else path.parent
            target = (start / file.lstrip("/")) if file else path
            target = target / "index.html" if target.is_dir() else target
            fragment = unquote(address.fragment)
            if not target.is_file():
                dead.append(f"{path.relative_to(folder)}: there is no {link}")
            elif target.suffix == ".html" and fragment not in read(target).targets:
                dead.append(f"{path.relative_to(folder)}: {link} leads nowhere on that page")
    return dead


@pytest.mark.book
def test_links_within_the_book_lead_somewhere():
    assert dead_links(HTML) == []


def test_dead_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="here"><a href="#here"><a href="b.html#there"><a href="b/">'
        '<a href="b.html#nowhere"><img src="c.png"><a href="https://example.org/x">'
        '<svg><use href="#gone"/></svg><script>"<a href=no.html>"</script>'
    )
    (tmp_path / "b.html").write_text('<h1 id="there">')
    (tmp_path / "b").mkdir()
    assert dead_links(tmp_path) == [
        "a.html: #gone leads nowhere on that page",
        "a.html: b.html#nowhere leads nowhere on that page",
        "a.html: there is no b/",
        "a.html: there is no c.png",
    ]
