"""Sphinx extension: what the figures of a page have in common is on the page once.

matplotlib defines the outlines of letters, marks and frames in each of its pictures. Here they get
names that follow from their content, and those that are used more than once move to an invisible
picture at the top of the article. Every pixel stays as it is.

Only pages are changed: a figure that is saved, or shown in a notebook, has all it needs.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import re
from pathlib import Path

from pages import rewrite
from sphinx.application import Sphinx

from cnnbook.widgets.compact import compact, inlined

ARTICLE = '<article class="bd-article">'
DRAWN = re.compile(r"<svg\b[^>]*\bxmlns:xlink=.*?</svg>", re.S)  # by matplotlib
# Words are outlines. Those who check the colors of a page have to know which are words.
WORD = re.compile(r'<g id="f\w+-text_\d+">')


def joined(article: str) -> str:
    """Return HTML after a single definition of what its figures draw more than once."""
    parts: dict[str, str] = {}

    def take(drawn: re.Match) -> str:
        picture, own = compact(WORD.sub('<g class="cnnbook-word">', drawn[0]), exact=True)
        parts.update(own)
        return picture

    return inlined(DRAWN.sub(take, article), parts)


def share_parts(app: Sphinx, exception: Exception | None) -> None:
    """Move what several figures of a page define, mostly letters, to the top of its article.

    Cause: matplotlib 3.11.2 writes the outline of every letter into every picture, under a long
      name: half of what a page with many figures weighs.
    Delete when: its words can be text in a font of the page (`svg.fonttype`) and keep their width.
    """

    def shared(page: str, _path: Path) -> str:
        head, start, article = page.partition(ARTICLE)
        return head + start + joined(article)

    rewrite(app, exception, shared)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", share_parts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
