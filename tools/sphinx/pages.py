"""What several extensions need to know of pages, and how they change those that are written."""

import re
from collections.abc import Callable
from pathlib import Path

from sphinx.application import Sphinx


def kind(page: str) -> str:
    """Return what a page is for: it decides how high the search ranks it."""
    if re.fullmatch(r"chapters/\d\d-[^/]*", page):
        return "chapter"
    for part, name in (
        ("/solutions/", "solution"),
        ("/package/", "api"),
        ("/claims", "claims"),
        ("/glossary", "glossary"),
    ):
        if part in page:
            return name
    return "reference" if "/reference/" in page else "home"


def rewrite(app: Sphinx, exception: Exception | None, change: Callable[[str, Path], str]) -> None:
    """Change the text of every page after a successful build; `change` also gets its path."""
    if exception or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        text = change(page, path)
        if text != page:
            path.write_text(text, encoding="utf-8")
