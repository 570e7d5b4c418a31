"""Sphinx extension: what is read as one stays on one line: “2.1 %”, “0.9 (0.6 to 1.2)”, “VGG-16”.

Authors type ordinary spaces and hyphens. Formulas and outputs stay as they are. In a sentence, an
option such as `--json` stays whole, and a long name in code breaks after a dot or an underscore.

The docstring of everything that is connected to Sphinx says whose behavior it works around and when
it can be deleted.
"""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

NO_BREAK = "\N{NO-BREAK SPACE}"
NUMBER = r"(?<![\w.,])[−+]?\d[\d,]*(?:\.\d+)?(?![\d.]*\w)"
UNIT = r"(?:%|px|[mµ]?s|min|h|[kKMGT]i?B|[MGT]?FLOPs?|[MG]?MACs|million|billion)(?!\w)"
VALUE = rf"{NUMBER}(?:\s{UNIT})?"
TOGETHER = re.compile(rf"{VALUE}(?:\s\({VALUE}\sto\s{VALUE}\)|\s(?:to|±)\s{VALUE})?")
UNITS = re.compile(rf"{NUMBER}\s{UNIT}")
LONGEST = 28  # characters; half a line of a phone
NAME = re.compile(r"\b(?:[A-Z][A-Za-z]*|top|conv|plain)-\d{1,3}\b")
# A word of code in a sentence or a signature, as Sphinx writes it, and where it may break.
CODE = re.compile(r'<span class="pre">([^<>]+)')
BREAK = re.compile(r"(?<=[A-Za-z)\]])[._(=/](?=[A-Za-z\"'&]|$)")
AS_IT_IS = (nodes.literal, nodes.FixedTextElement, nodes.math, nodes.raw, addnodes.desc_signature)


def together(text: str) -> str:
    """Return a text in which a number and its unit, and a short interval, do not break."""

    def joined(found: re.Match) -> str:
        if len(found[0]) > LONGEST:
            return UNITS.sub(joined, found[0])
        return re.sub(r"\s", NO_BREAK, found[0])

    return TOGETHER.sub(joined, text)


class KeepTogether(SphinxPostTransform):
    """Put spaces that do not break into the prose of pages.

    Cause: this book: browsers break a line at any space, also before “%”.
    Delete when: authors type such spaces, in notebooks too.
    """

    default_priority = 900  # when titles of other pages have replaced the links to them
    formats = ("html",)

    def run(self, **_options) -> None:
        """Replace every text that changes."""
        for text in list(self.document.findall(nodes.Text)):
            changed = together(text)
            if changed != text and not is_as_it_is(text.parent):
                text.parent.replace(text, nodes.Text(changed))


class KeepNames(SphinxPostTransform):
    """Put names with a number, such as VGG-16, into an element that does not break.

    Cause: this book: browsers break a line after any hyphen.
    Delete when: CSS can say after which characters a line breaks.
    """

    default_priority = 901
    formats = ("html",)

    def run(self, **_options) -> None:
        """Divide every text that has such names."""
        for text in list(self.document.findall(nodes.Text)):
            names = list(NAME.finditer(text))
            if not names or is_as_it_is(text.parent) or in_heading(text.parent):
                continue
            parts, start = [], 0
            for name in names:
                whole = nodes.inline("", name[0], classes=["cnnbook-whole"])
                parts += [nodes.Text(text[start : name.start()]), whole]
                start = name.end()
            parts.append(nodes.Text(text[start:]))
            text.parent.replace(text, [part for part in parts if part.astext()])


def in_heading(node: nodes.Element) -> bool:
    """Return whether a node is part of a heading, which other pages and lists repeat."""
    return isinstance(node, nodes.title) or (node.parent is not None and in_heading(node.parent))


def breaking(body: str) -> str:
    """Return HTML in which options of commands stay whole, and long names of code may break."""

    def changed(word: re.Match) -> str:
        if word[1].startswith("-"):
            return f'<span class="pre cnnbook-whole">{word[1]}'
        return f'<span class="pre">{BREAK.sub(lambda found: found[0] + "<wbr>", word[1])}'

    return CODE.sub(changed, body)


def break_names(app, pagename, templatename, context, doctree) -> None:
    """Say where names in code may break.

    Cause: sphinx 7.4.7 leaves it to the browser, which breaks “--json” after its hyphens, and
      “activation_statistics” after any letter.
    Delete when: browsers break code where its readers would.
    """
    if "body" in context and doctree is not None:
        context["body"] = breaking(context["body"])


def is_as_it_is(node: nodes.Element | None) -> bool:
    """Return whether a node is part of code or of a formula."""
    while node is not None:
        if isinstance(node, AS_IT_IS):
            return True
        node = node.parent
    return False


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(KeepTogether)
    app.add_post_transform(KeepNames)
    app.connect("html-page-context", break_names, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
