"""Sphinx extension: formulas as MathML, and no scripts the pages do not use.

MathML is drawn by the browser itself, so a page needs no script for its formulas, shows them at
once, and works without internet; MathJax would be fetched from another host.
"""

import html

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(node: nodes.Element, display: str) -> str:
    """Return the formula of `node` as a ``<math>`` element, its TeX as text alternative."""
    tex = node.astext()
    try:
        element = convert(tex, display=display)
    except Exception as error:
        logger.warning("cannot convert the formula %r: %s", tex, error, location=node)
        return f"<code>{html.escape(tex)}</code>"
    return element.replace("<math ", f'<math alttext="{html.escape(tex, quote=True)}" ', 1)


def visit_inline(translator, node: nodes.math) -> None:
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator, node: nodes.math_block) -> None:
    translator.body.append(f'<div class="math" tabindex="0">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Leave out Thebe, which Jupyter Book adds to every page, twice; no button starts it."""

    def is_thebe(file) -> bool:
        return "thebe" in f"{file.filename} {getattr(file, 'attributes', {}).get('body', '')}"

    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if not is_thebe(file)]


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
