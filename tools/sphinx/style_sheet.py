"""Sphinx extension: one style sheet for the book, with the rules and the icons that its pages use.

The theme and other extensions bring a dozen style sheets, each a request, most of whose rules are
for what this book does not have, and fonts of two thousand icons. A rule is left out only if it is
for a class or an id that is a word in no page, no script, and no style sheet of the book's own. So
whatever a script can add by its name keeps its rules.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import hashlib
import logging
import os
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import tinycss2
from fontTools import subset
from pages import rewrite
from sphinx.application import Sphinx
from tinycss2.ast import AtRule, Node, QualifiedRule

SHEET = "book.css"
LINK = re.compile(
    r'<link\b(?=[^>]*\brel="stylesheet")[^>]*\bhref="([^":?{]*)_static/([^":?{]+)[^">]*"[^>]*>\n?'
)
IMPORT = re.compile(r"""@import\s+(?:url\()?["']?([^"')]+)["']?\)?\s*;""")
ADDRESS = re.compile(r"""url\(\s*["']?(?!data:|https?:|[/#])([^"')?]+)[^)]*\)""")
WORD = re.compile(r"[\w-]+")
ICON_FONT = re.compile(r'src:url\("([^"]+)\.woff2"\)[^;}]*')
CONDITIONAL = ("media", "supports")  # rules that contain rules
# Scripts without names of classes: the words of the pages; widgets, which bring their own styles.
SILENT = re.compile(r"search-data\.js$|/html-manager/")


def whole(sheet: Path, static: Path) -> str:
    """Return a style sheet with those that it imports, and addresses as seen from `static`."""
    text = sheet.read_text(encoding="utf-8").removeprefix('@charset "UTF-8";')
    text = IMPORT.sub(lambda found: f'@import "{sheet.parent / found[1]}";', text)

    def from_there(address: re.Match) -> str:
        return f'url("{Path(os.path.relpath(sheet.parent / address[1], static)).as_posix()}")'

    text = ADDRESS.sub(from_there, text)
    return IMPORT.sub(lambda found: whole(Path(found[1]), static), text)


def names(selector: list[Node]) -> Iterator[str]:
    """Return the classes and ids that an element must have, those in ``:is(…)`` and others not."""
    for before, token in pairwise(selector):
        if before == "." and token.type == "ident":
            yield token.value
    yield from (token.value for token in selector if token.type == "hash")


def selectors(prelude: list[Node]) -> Iterator[list[Node]]:
    """Return the selectors of a rule."""
    found: list[Node] = []
    for token in prelude:
        if token == ",":
            yield found
            found = []
        else:
            found.append(token)
    yield found


def reduced(rules: list[Node], words: set[str]) -> Iterator[str]:
    """Return the rules that can apply where there are only the classes and ids among `words`."""
    for rule in rules:
        if isinstance(rule, QualifiedRule):
            kept = [s for s in selectors(rule.prelude) if words.issuperset(names(s))]
            if kept:
                heading = ",".join(tinycss2.serialize(selector).strip() for selector in kept)
                yield f"{heading}{{{tinycss2.serialize(rule.content).strip()}}}"
        elif isinstance(rule, AtRule) and rule.lower_at_keyword in CONDITIONAL:
            inner = "".join(reduced(parsed(rule.content), words))
            if inner:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
        elif rule.type != "comment" or rule.value.startswith("!"):  # which holds a license
            yield rule.serialize()


def parsed(text: str | list[Node]) -> list[Node]:
    """Return the rules of a style sheet, or of a rule that contains some; raise if one is not."""
    rules = tinycss2.parse_stylesheet(text, skip_whitespace=True)
    for rule in rules:
        if rule.type == "error":
            raise ValueError(f"style sheet, line {rule.source_line}: {rule.message}")
    return rules


def with_few_icons(text: str, static: Path) -> str:
    """Write icon fonts that have only the characters in a style sheet; return it with those."""
    logging.getLogger("fontTools").setLevel(logging.WARNING)  # it remarks on what it leaves out

    def smaller(source: re.Match) -> str:
        options = subset.Options(flavor="woff", layout_features=[])
        subsetter = subset.Subsetter(options)
        subsetter.populate(text=text)
        with subset.load_font(static / f"{source[1]}.ttf", options) as font:
            subsetter.subset(font)
            subset.save_font(font, static / f"{source[1]}.woff", options)
        return f'src:url("{source[1]}.woff") format("woff")'

    return ICON_FONT.sub(smaller, text)


def join_style_sheets(app: Sphinx, exception: Exception | None) -> None:
    """Replace the style sheets of all pages with one, of the rules and icons that are used.

    Cause: pydata-sphinx-theme 0.17.1 brings all of Bootstrap and of Font Awesome; no builder or
      extension of Sphinx joins style sheets.
    Delete when: the theme loads what a page needs.
    """
    if exception or app.builder.name != "html":
        return
    static = Path(app.outdir) / "_static"
    pages = [path.read_text(encoding="utf-8") for path in Path(app.outdir).rglob("*.html")]
    scripts = [
        path.read_text(encoding="utf-8")
        for path in static.rglob("*.js")
        if not SILENT.search(path.as_posix())
    ]
    sheets = dict.fromkeys(sheet for page in pages for _, sheet in LINK.findall(page))
    sheets.pop(SHEET, None)  # on pages of an earlier build, which have not changed since
    if not sheets:
        return
    own = [sheet.read_text(encoding="utf-8") for sheet in Path(app.srcdir, "_static").glob("*.css")]
    words = {word for text in pages + scripts + own for word in WORD.findall(text)}
    joined = "\n".join(whole(static / sheet, static) for sheet in sheets)
    text = with_few_icons("\n".join(reduced(parsed(joined), words)), static)
    (static / SHEET).write_text(text, encoding="utf-8")
    version = hashlib.sha256(text.encode()).hexdigest()[:8]

    def with_one(page: str, _path: Path) -> str:
        first = LINK.search(page)
        if first is None:
            return page
        link = f'<link rel="stylesheet" href="{first[1]}_static/{SHEET}?v={version}" />\n'
        return page[: first.start()] + link + LINK.sub("", page[first.end() :])

    rewrite(app, exception, with_one)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("build-finished", join_style_sheets, priority=900)  # once pages are complete
    return {"parallel_read_safe": True, "parallel_write_safe": True}
