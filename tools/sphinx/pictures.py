"""Sphinx extension: pictures that keep their room while they load, and can be enlarged on a phone.

Below each figure is a button (enlarge.js), which only narrow screens show (phone.css). It is on the
page from the start: one that a script adds would move what is below it.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import html
import re
import struct
from pathlib import Path

from pages import rewrite
from sphinx.application import Sphinx

# A figure; or an explorer's first state and what starts the explorer, which come as one.
PICTURES = re.compile(
    r'<div class="cnnbook-still">.*?<script type="application/vnd\.jupyter\.widget-view\+json">'
    r'.*?</script>|<figure class="cnnbook-figure".*?</figure>|<figure class="align-.*?</figure>',
    flags=re.S,
)
LONGEST_NAME = 60  # characters of a text alternative in a button's name


def button(picture: str) -> str:
    """Return the button that enlarges a picture, named after its text alternative."""
    found = re.search(r"\b(?:aria-label|alt)=(?:\"([^\"]+)\"|'([^']+)')", picture)
    name = html.unescape(found[1] or found[2]) if found else ""
    if len(name) > LONGEST_NAME:
        name = name[:LONGEST_NAME].rsplit(" ", 1)[0] + " …"
    label = html.escape(f"Enlarge: {name}" if name else "Enlarge", quote=True)
    return (
        '<button type="button" class="cnnbook-enlarge pst-js-only" aria-haspopup="dialog" '
        f'aria-label="{label}">Enlarge</button>'
    )


def add_buttons(app, pagename, templatename, context, doctree) -> None:
    """Put a button below each figure and each explorer.

    Cause: this book: no maintained extension enlarges inline SVG and works without another host.
    Delete when: one does, or figures are legible on every phone.
    """
    if "body" in context:
        body = PICTURES.sub(lambda match: match[0] + button(match[0]), context["body"])
        context["body"] = body


def size_of(path: Path) -> tuple[int, int] | None:
    """Return width and height of a PNG, or of an SVG that states its size; None of other files."""
    if path.suffix == ".png":
        width, height = struct.unpack(">II", path.read_bytes()[16:24])
        return width, height
    if path.suffix == ".svg":
        head = re.search(r"<svg\b[^>]*>", path.read_text(encoding="utf-8"))
        box = re.search(r'\bviewBox="\S+ \S+ (\S+) (\S+)"', head[0]) if head else None
        return (round(float(box[1])), round(float(box[2]))) if box else None
    return None


def state_sizes(app: Sphinx, exception: Exception | None) -> None:
    """State width and height of every picture, so that nothing moves when it arrives.

    Cause: docutils 0.21.2 and pydata-sphinx-theme 0.17.1 write pictures without their size.
    Delete when: both write it.
    """

    def sized(page: str, path: Path) -> str:
        return re.sub(r"<img\b[^>]*>", lambda tag: with_size(tag[0], path.parent), page)

    rewrite(app, exception, sized)


def with_size(tag: str, folder: Path) -> str:
    """Return the tag of a picture on a page in a folder, with its size if that is not stated."""
    source = re.search(r'\bsrc="([^":?]+)', tag)
    if not source or re.search(r"\b(width|height)=", tag):
        return tag
    file = folder / source[1]
    size = size_of(file) if file.is_file() else None
    if size is None:
        return tag
    return f'<img width="{size[0]}" height="{size[1]}"' + tag.removeprefix("<img")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("html-page-context", add_buttons, priority=900)
    app.connect("build-finished", state_sizes)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
