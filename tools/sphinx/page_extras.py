"""Sphinx extension: facts about each chapter, and names for what the theme leaves unnamed.

A page's description is its question, and a chapter says how long it takes. Parts of pages without a
name for screen readers get one. Scripts that a page does not need, or not at once, do not delay it.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from pages import kind, rewrite
from reading import number
from sphinx.application import Sphinx

TEMPLATES = Path(__file__).with_name("templates")
LONGEST_DESCRIPTION = 200  # characters; search engines truncate longer ones

# Guesses for a student who reads for the first time; the result is rounded to five minutes.
WORDS_A_MINUTE = 220
CODE_LINES_A_MINUTE = 30
FOLDED = ("hide-input", "hide-cell")  # tags of cells whose code is not seen at first


def description(doctree: nodes.document) -> str:
    """Return the first sentences of a page, which in a chapter state its question."""
    for paragraph in doctree.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split()).removeprefix("The question.").strip()
        first, *others = re.findall(r".+?[.?!](?=\s|$)", text) or [""]
        for sentence in others:
            if len(first + sentence) > LONGEST_DESCRIPTION:
                break
            first += sentence
        if first:
            return first
    return ""


def describe(app, pagename, templatename, context, doctree) -> None:
    """Say what a page is about; sphinxext-opengraph makes the other tags and the card.

    Cause: sphinxext-opengraph 0.13.0 takes the first 200 characters, including headings and the
      words “The question.”, and cuts them off within a word.
    Delete when: it can end with a sentence, or pages have their own descriptions.
    """
    if doctree is None:
        return
    title = html.unescape(re.sub(r"<.*?>", "", context["title"]))
    text = html.escape(description(doctree) or title)
    context["meta"] = (context["meta"] or {}) | {"og:description": text}
    context["metatags"] += f'\n<meta name="description" content="{text}" />\n'


def reading_minutes(doctree: nodes.document) -> int:
    """Return how long a page takes to read, up to its exercises: text, and code that is shown."""
    last = [
        s for s in doctree.findall(nodes.section) if s[0].astext() in ("Exercises", "References")
    ]
    after = {id(node) for section in last for node in section.findall()}
    words = lines = 0
    for node in doctree.findall(nodes.TextElement):
        if id(node) in after:
            continue
        if isinstance(node, nodes.literal_block):
            is_code = "cell_input" in node.parent.get("classes", ())
            is_folded = is_code and any(is_in(node, f"tag_{tag}") for tag in FOLDED)
            lines += (is_code and not is_folded) * sum(map(bool, node.astext().splitlines()))
        elif isinstance(node, (nodes.paragraph, nodes.title)):
            words += len(node.astext().split())
    minutes = words / WORDS_A_MINUTE + lines / CODE_LINES_A_MINUTE
    return max(5, 5 * round(minutes / 5))


def is_in(node: nodes.Node | None, cls: str) -> bool:
    """Return whether a node is inside an element of a class, at any depth.

    Before a page is written, myst-nb puts folded code into one more container.
    """
    while node is not None:
        if isinstance(node, nodes.Element) and cls in node.get("classes", ()):
            return True
        node = node.parent
    return False


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return "about a minute" if minutes == 1 else f"about {minutes} minutes"


def say_how_long(app, pagename, templatename, context, doctree) -> None:
    """State below a chapter's title how long it takes to read and to run.

    Cause: this book: a reader wants to know; no maintained extension counts code and outputs.
    Delete when: chapters no longer say it.
    """
    if doctree is None or kind(pagename) != "chapter":
        return
    text = f"Chapter {number(pagename)}. About {reading_minutes(doctree)} minutes to read."
    executed = app.env.nb_metadata.get(pagename, {}).get("exec_data") or {}
    if seconds := executed.get("runtime"):
        # Measured where the page is built; the output of its first cell names the machine.
        text += f" Its code ran in {duration(seconds)} when this page was built."
    times = f'</h1>\n<p class="cnnbook-times">{text}</p>'
    context["body"] = context["body"].replace("</h1>", times, 1)


def name_parts_of_navigation(app, pagename, templatename, context, doctree) -> None:
    """Name the arrows that unfold parts of the table of contents.

    Cause: pydata-sphinx-theme 0.17.1 makes them <summary> elements that hold an icon only.
    Delete when: its add_collapse_checkboxes gives them a label.
    """
    if "generate_toctree_html" not in context:
        return
    make = context["generate_toctree_html"]

    def with_names(*args, **kwargs):
        tree = make(*args, **kwargs)
        for summary in tree.select("details > summary"):
            parent = summary.parent.parent.find("a", recursive=False)
            summary["aria-label"] = f"Pages of “{parent.get_text(strip=True)}”"
        return tree

    context["generate_toctree_html"] = with_names


def name_folded_cells(app, pagename, templatename, context, doctree) -> None:
    """Name what is folded by the words it shows, “Show code cell source”.

    Cause: myst-nb 1.4.0 labels it “Toggle hidden content”, which hides those words from screen
      readers and from voice control (WCAG 2.5.3, Label in Name).
    Delete when: visit_HideCellInput in myst_nb/sphinx_.py writes no aria-label.
    """
    if "body" in context:
        label = '<summary aria-label="Toggle hidden content">'
        context["body"] = context["body"].replace(label, "<summary>")


def name_references(app, pagename, templatename, context, doctree) -> None:
    """Give entries of the bibliography a valid role.

    Cause: docutils 0.21.2 writes role="doc-biblioentry", which ARIA has deprecated, into a list,
      which allows only list items.
    Delete when: docutils/writers/_html_base.py writes another role.
    """
    if "body" in context:
        body = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')
        context["body"] = body


def name_parameters(app, pagename, templatename, context, doctree) -> None:
    """Mark up the parameters of a signature as a list, one per line.

    Cause: Sphinx 7.4.7 writes them as <dd> without <dt>, definitions of nothing.
    Delete when: depart_desc_parameter in sphinx/writers/html5.py writes other elements.
    """

    def as_list(signature: re.Match) -> str:
        text = signature[0].replace("<dl>", '<dl role="list">')
        return text.replace("<dd>", '<dd role="listitem">')

    if "body" in context:
        signatures = r'<dt class="sig .*?</dt>'
        context["body"] = re.sub(signatures, as_list, context["body"], flags=re.S)


def drop_icon_script(app: Sphinx, exception: Exception | None) -> None:
    """Leave icons to the theme's style sheet, which draws them with fonts.

    Cause: pydata-sphinx-theme 0.17.1 also loads a script that replaces them with the same icons as
      SVG: more than half the size of a page without explorers. Without it, icons must be hidden
      from screen readers.
    Delete when: the theme makes fontawesome.js an option.
    """

    def without_script(page: str, _path: Path) -> str:
        text = re.sub(r'<script defer src="[^"]*/fontawesome\.js[^"]*"></script>', "", page)
        return re.sub(r'<(i|span) (?=class="[^"]*\bfa-)', r'<\1 aria-hidden="true" ', text)

    rewrite(app, exception, without_script)
    for path in (Path(app.outdir) / "_static" / "scripts").glob("fontawesome.js*"):
        path.unlink()


def defer_scripts(app: Sphinx, exception: Exception | None) -> None:
    """Load scripts alongside the page, not before it.

    Cause: pydata-sphinx-theme 0.17.1 and Sphinx 7.4.7 load a dozen scripts, one of them the index
      of the whole book, in the head of every page, which is drawn only after them.
    Delete when: their layout.html defers them.
    """
    # Options stay first: scripts within the page use them.
    scripts = r'<script (?!defer)(?=[^>]*src="(?![^"]*documentation_options)[^"]+\.js)'

    def deferred(page: str, _path: Path) -> str:
        head, end, body = page.partition("</head>")
        return re.sub(scripts, "<script defer ", head) + end + body

    rewrite(app, exception, deferred)


def use_templates(app: Sphinx, config) -> None:
    """Replace two of the theme's buttons; the templates say what differs.

    Cause: pydata-sphinx-theme 0.17.1 gives the search button a name other than the one it shows,
      and the theme switch a title for each of its three icons.
    Delete when: neither template differs from the theme's in what it says.
    """
    config.templates_path.insert(0, str(TEMPLATES))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", use_templates)
    app.connect("html-page-context", describe, priority=400)  # before sphinxext-opengraph, 500
    for change in (
        say_how_long,
        name_parts_of_navigation,
        name_folded_cells,
        name_references,
        name_parameters,
    ):
        app.connect("html-page-context", change, priority=900)
    app.connect("build-finished", drop_icon_script)
    app.connect("build-finished", defer_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
