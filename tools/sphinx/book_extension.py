"""Sphinx extension: formulas as MathML, and interactive figures without another host.

The browser itself draws MathML, so a page needs no script for its formulas, shows them at once, and
works offline; MathJax would be fetched from another host. Interactive figures do need a script; it
is part of the book, and until it runs, the page shows their first state.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import html
import json
import os
import re
import shutil
from pathlib import Path

import widget_scripts
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from cnnbook import __version__ as VERSION

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"

# What every widget has and hardly any sets.
ALSO_UNSET = ("_view_count", "tabbable", "tooltip")

logger = logging.getLogger(__name__)


def mathml(node: nodes.Element, display: str) -> str:
    """Return the formula of `node` as a ``<math>`` element, its TeX as text alternative."""
    tex = node.astext()
    # latex2mathml 3.81.1 aligns lines in these environments only, and elsewhere shows the “&”.
    aligned = re.sub(r"\\(begin|end)\{(aligned|split)\}", r"\\\1{align*}", tex)
    try:
        element = convert(aligned, display=display)
    except Exception as error:
        logger.warning("cannot convert the formula %r: %s", tex, error, location=node)
        return f"<code>{html.escape(tex)}</code>"
    return element.replace("<math ", f'<math alttext="{html.escape(tex, quote=True)}" ', 1)


def visit_inline(translator, node: nodes.math) -> None:
    """Write a formula within a sentence.

    Cause: Sphinx 7.4.7 renders formulas only with MathJax, a script from another host, or as
      pictures.
    Delete when: Sphinx has a renderer for MathML, as docutils does.
    """
    translator.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def visit_block(translator, node: nodes.math_block) -> None:
    """Write a formula on its own line, which can be scrolled with the keyboard.

    Cause: Sphinx 7.4.7, as for formulas within a sentence.
    Delete when: Sphinx has a renderer for MathML.
    """
    translator.body.append(f'<div class="math" tabindex="0">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def drop_thebe(app, pagename, templatename, context, doctree) -> None:
    """Remove Thebe, which no button of this book starts.

    Cause: jupyter-book 1.0.4.post1 always loads sphinx-thebe, which cannot be turned off and puts
      its scripts and styles on every page.
    Delete when: conf.py lists the extensions itself (CONTRIBUTING, Leaving Jupyter Book 1.x).
    """

    def is_thebe(file) -> bool:
        return "thebe" in f"{file.filename} {getattr(file, 'attributes', {}).get('body', '')}"

    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if not is_thebe(file)]


def drop_launch(app, pagename, templatename, context, doctree) -> None:
    """Remove the buttons that open a page in Binder or Colab if these cannot open it.

    Cause: sphinx-book-theme 1.3.0 takes a Markdown page with a kernel for a notebook.
    Delete when: its _is_notebook distinguishes them, or no Markdown page has a kernel.
    """
    if Path(app.env.doc2path(pagename)).suffix != ".ipynb" and "header_buttons" in context:
        buttons = context["header_buttons"]
        buttons[:] = [b for b in buttons if b.get("label") != "launch-buttons"]


def open_tag(app, pagename, templatename, context, doctree) -> None:
    """Have Colab and Binder open the chapter at the tag of its version.

    It is the tag whose package the chapter's first cell installs, and Binder, too. The page shows
    the text of the branch main.

    Cause: sphinx-book-theme 1.3.0 has one branch for launching and for editing, which needs main.
    Delete when: it has an option for the branch or tag that is launched.
    """
    branch = re.escape(app.config.html_theme_options["repository_branch"])
    launched = rf"^(https://(?:colab\.research|mybinder)\.[^?]*?/){branch}(?=[/?])"
    for group in context.get("header_buttons", ()):
        for button in group.get("buttons", ()):
            if "url" in button:
                button["url"] = re.sub(launched, rf"\1v{VERSION}", button["url"])


def skip_fields(app, what, name, value, skip, options) -> bool | None:
    """Omit fields, which their class explains, from the package's pages.

    Cause: Sphinx 7.4.7 documents a field of a named tuple with Python's own text, “Alias for field
    number 0”, and one whose default is a function with that function's docstring, torch's say.
    Delete when: autodoc omits them, or the package's pages name their members.
    """
    of_torch = (getattr(value, "__module__", "") or "").startswith("torch")
    alias = (getattr(value, "__doc__", "") or "").startswith("Alias for field")
    return True if alias or (what == "class" and of_torch) else None


def draw_for_pages(app: Sphinx, config) -> None:
    """Have notebooks that Sphinx itself executes draw for a page, as tools/book.py does.

    Cause: this book: figures on a page are HTML, those in a notebook are bitmaps.
    Delete when: front ends of notebooks show SVG without its source.
    """
    os.environ["CNNBOOK_BOOK"] = "1"


def choose_widget_script(app: Sphinx, config) -> None:
    """Serve the widgets' script with the book, or use the CDN's if it cannot be downloaded.

    MyST-NB puts the scripts named here on the pages that have widgets, and on no other.

    Cause: myst-nb 1.4.0 loads the script, and another one that loads modules, from two CDNs.
    Delete when: a Python package ships html-manager's embed.js, and MyST-NB can serve a copy.
    """
    files = Path(app.outdir).parent / "widget-scripts"
    app.widget_script_missing = widget_scripts.provide(files / "html-manager")
    files.mkdir(parents=True, exist_ok=True)
    # Not in _static, whose scripts Jupyter Book puts on every page.
    for name in ("explorers.js", "own-picture.js"):
        shutil.copy(Path(__file__).with_name(name), files)
    config.html_static_path.append(str(files))
    # explorers.js loads the manager, 1.9 MB, when an explorer comes near the window.
    options = {"defer": "defer", "data-manager": f"html-manager/{widget_scripts.SCRIPT}"}
    if app.widget_script_missing:
        options["data-manager"] = widget_scripts.CDN
        options["data-integrity"] = widget_scripts.SCRIPT_INTEGRITY
    config.nb_ipywidgets_js = {"explorers.js": options}


def say_where_widgets_come_from(app: Sphinx, exception) -> None:
    """Warn at the end, where it is seen, that pages depend on another host.

    Cause: this book: the script is fetched when the book is built, which may be offline.
    Delete when: choose_widget_script is deleted.
    """
    pages = getattr(app.env, "nb_metadata", {}).values()
    if app.widget_script_missing and any(page.get("js_files") for page in pages):
        logger.info(
            "The interactive figures of this book load their script from %s, because it could "
            "not be fetched to be part of the book: %s",
            widget_scripts.CDN,
            app.widget_script_missing,
        )


class KeepFirstState(SphinxPostTransform):
    """Put an output's HTML in front of its widget.

    The page's script (explorers.js) removes it once the widget is drawn.

    Cause: myst-nb 1.4.0 writes one form of an output, here the widget, and the page is empty
      until, or unless, its script runs.
    Delete when: MyST-NB can write a fallback, or explorers need no widget script on a page.
    """

    default_priority = 3  # MyST-NB chooses one form of each output at 4

    def run(self, **_options) -> None:
        """Add the HTML to every output that has both forms."""

        def is_bundle(node) -> bool:
            return isinstance(node, nodes.container) and node.get("nb_element") == "mime_bundle"

        for bundle in self.document.findall(is_bundle):
            forms = {form["mime_type"]: form for form in bundle.children}
            if WIDGET_VIEW in forms and "text/html" in forms:
                forms[WIDGET_VIEW].insert(0, forms["text/html"].children)


def slim(models: dict[str, dict]) -> None:
    """Remove from a page's widget data what the widget manager knows by default.

    Every widget repeats its type, and a layout with one rule lists all others as null: a quarter of
    the data on a page with many small pictures.
    """
    for model in models.values():
        attributes = model["state"]
        unset = list(attributes) if model["model_name"] == "LayoutModel" else ALSO_UNSET
        for name in unset:
            if attributes.get(name, "") is None:
                del attributes[name]
        for name in ("model_name", "model_module", "model_module_version"):
            if attributes.get(f"_{name}") == model[name]:
                del attributes[f"_{name}"]


def together(models: dict[str, dict]) -> list[dict[str, dict]]:
    """Group widgets so that every one is with all that it refers to: one group per explorer.

    A link between two widgets refers to both, and neither of them to the link.
    """
    groups = {name: {name} for name in models}
    for name, model in models.items():
        for other in set(re.findall(r"IPY_MODEL_(\w+)", json.dumps(model["state"]))) & set(models):
            if groups[name] is not groups[other]:
                groups[name] |= groups[other]
                for member in groups[other]:
                    groups[member] = groups[name]
    unique = {id(group): group for group in groups.values()}.values()
    return [{name: models[name] for name in models if name in group} for group in unique]


def move_widget_state(app, pagename, templatename, context, doctree) -> None:
    """Move the data of each explorer from the page to a file of its own, which explorers.js loads.

    A script and not JSON, which a browser would not load for a page that is opened as a file.

    Cause: myst-nb 1.4.0 writes all data, which can be megabytes, into the head, where it delays the
      page.
    Delete when: MyST-NB loads it on demand, or explorers need no widget script on a page.
    """

    def is_data(file) -> bool:
        return getattr(file, "attributes", {}).get("type") == WIDGET_STATE

    data = [file for file in context["script_files"] if is_data(file)]
    if not data:
        return
    context["script_files"] = [file for file in context["script_files"] if not is_data(file)]
    views = re.findall(rf'<script type="{re.escape(WIDGET_VIEW)}">(.*?)</script>', context["body"])
    shown = {json.loads(view)["model_id"] for view in views}
    folder = Path(app.outdir) / "_static" / "explorers"
    folder.mkdir(parents=True, exist_ok=True)
    page = pagename.replace("/", "-")
    for old in folder.glob(f"{page}-{'[0-9a-f]' * 32}.js"):  # of an earlier execution
        old.unlink()
    for file in data:
        content = json.loads(file.attributes["body"])
        slim(content["state"])
        for models in together(content["state"]):
            text = json.dumps(
                content | {"state": models}, ensure_ascii=False, separators=(",", ":")
            )
            for view in shown & set(models):
                script = f'cnnbookExplorers["{view}"]={text};\n'
                (folder / f"{page}-{view}.js").write_text(script, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    app.connect("html-page-context", drop_thebe, priority=900)
    app.connect("html-page-context", drop_launch, priority=900)
    app.connect("html-page-context", open_tag, priority=900)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("config-inited", draw_for_pages)
    app.connect("config-inited", choose_widget_script)
    app.connect("html-page-context", move_widget_state, priority=900)
    app.connect("build-finished", say_where_widgets_come_from)
    app.add_post_transform(KeepFirstState)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
