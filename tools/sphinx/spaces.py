"""Sphinx extension: what is read as one stays on one line: “2.1 %”, and “0.9 (0.6 to 1.2)”.

Authors type ordinary spaces. Code, formulas and outputs stay as they are.

The docstring of every class that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
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


def is_as_it_is(node: nodes.Element | None) -> bool:
    """Return whether a node is part of code or of a formula."""
    while node is not None:
        if isinstance(node, AS_IT_IS):
            return True
        node = node.parent
    return False


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_post_transform(KeepTogether)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
