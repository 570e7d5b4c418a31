"""Sphinx extension: what every page says about itself, and names for what has none.

A page gets a description, for search engines and for the cards that chats and social networks
show, and a chapter the time it takes. Parts of pages that programs reading aloud cannot name,
because the theme or Sphinx left their names out, get them. Scripts that a page does not need, or
not at once, do not keep it waiting.
"""

import html
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx

TEMPLATES = Path(__file__).with_name("templates")
CARD = "_static/card.png"  # made by tools/make_card.py
CARD_ALT = "CNNs, paper by paper: an image, and its maps, fewer pixels and more maps layer by layer"

LONGEST_DESCRIPTION = 200  # characters; search engines cut what is longer

CHAPTER = re.compile(r"chapters/\d\d-[^/]*")
# Guesses for a reader who stops to think; the result is rounded to five minutes.
WORDS_A_MINUTE = 180
CODE_LINES_A_MINUTE = 30


def description(doctree: nodes.document) -> str:
    """Return the first sentences of a page, which in a chapter are those of its question."""
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
    """Add the description and the card to a page's head."""
    if doctree is None:
        return
    title = re.sub(r"<.*?>", "", context["title"])  # HTML
    text = description(doctree) or html.unescape(title)
    home = app.config.html_baseurl.rstrip("/")
    is_home = pagename == app.config.root_doc
    tags = [
        ("name", "description", text),
        ("property", "og:type", "website" if is_home else "article"),
        ("property", "og:site_name", context["docstitle"]),
        ("property", "og:title", html.unescape(title)),
        ("property", "og:description", text),
        ("property", "og:url", context["pageurl"]),
        ("property", "og:image", f"{home}/{CARD}"),
        ("property", "og:image:alt", CARD_ALT),
        ("name", "twitter:card", "summary_large_image"),
    ]
    for kind, name, content in tags:
        context["metatags"] += f'\n<meta {kind}="{name}" content="{html.escape(content)}" />'


def reading_minutes(doctree: nodes.document) -> int:
    """Return how long a page takes to read, its code included and its outputs not."""
    words = lines = 0
    for node in doctree.findall(nodes.TextElement):
        if isinstance(node, nodes.literal_block):
            is_code = "cell_input" in node.parent.get("classes", ())
            lines += is_code * sum(map(bool, node.astext().splitlines()))
        elif isinstance(node, (nodes.paragraph, nodes.title)):
            words += len(node.astext().split())
    minutes = words / WORDS_A_MINUTE + lines / CODE_LINES_A_MINUTE
    return max(5, 5 * round(minutes / 5))


def duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return "less than a minute"
    return "about a minute" if minutes == 1 else f"about {minutes} minutes"


def say_how_long(app, pagename, templatename, context, doctree) -> None:
    """Say below a chapter's title how long it takes to read and to run."""
    if doctree is None or not CHAPTER.fullmatch(pagename):
        return
    text = f"About {reading_minutes(doctree)} minutes to read."
    executed = app.env.nb_metadata.get(pagename, {}).get("exec_data") or {}
    if seconds := executed.get("runtime"):
        # Measured wherever the page is built: on which machine, the first output of it says.
        text += f" Its code ran in {duration(seconds)} when this page was built."
    times = f'</h1>\n<p class="cnnbook-times">{text}</p>'
    context["body"] = context["body"].replace("</h1>", times, 1)


def name_parts(app, pagename, templatename, context, doctree) -> None:
    """Give names and roles to what the theme and Sphinx leave without."""
    if "generate_toctree_html" in context:
        make = context["generate_toctree_html"]

        def with_names(*args, **kwargs):
            tree = make(*args, **kwargs)
            for summary in tree.select("details > summary"):
                parent = summary.parent.parent.find("a", recursive=False)
                summary["aria-label"] = f"Pages of “{parent.get_text(strip=True)}”"
            return tree

        context["generate_toctree_html"] = with_names

    def name_parameters(signature: re.Match) -> str:
        # Sphinx writes parameters, one a line, as definitions of nothing.
        text = signature[0].replace("<dl>", '<dl role="list">')
        return text.replace("<dd>", '<dd role="listitem">')

    if "body" in context:
        # What is folded says in words what it is.
        body = context["body"].replace('<summary aria-label="Toggle hidden content">', "<summary>")
        # The bibliography's list takes items; an entry's role is one that ARIA has given up.
        body = body.replace('role="doc-biblioentry"', 'role="listitem"')
        signatures = r'<dt class="sig .*?</dt>'
        context["body"] = re.sub(signatures, name_parameters, body, flags=re.S)


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Take scripts out of the way of pages that are written.

    The theme's style sheet draws its icons from fonts. A script, more than half of what a page
    without explorers weighs, would replace them by the same icons as SVG; without it they have
    to be kept from programs reading aloud. What searches is loaded beside the page, not before.
    """
    if exception or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        text = re.sub(r'<script defer src="[^"]*/fontawesome\.js[^"]*"></script>', "", page)
        text = re.sub(r'<(i|span) (?=class="[^"]*\bfa-)', r'<\1 aria-hidden="true" ', text)
        text = re.sub(
            r'<script (?=src="[^"]*(searchtools|language_data|searchindex)\.js)',
            "<script defer ",
            text,
        )
        if text != page:
            path.write_text(text, encoding="utf-8")


def use_templates(app: Sphinx, config) -> None:
    config.templates_path.insert(0, str(TEMPLATES))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("config-inited", use_templates)
    app.connect("html-page-context", describe, priority=900)
    app.connect("html-page-context", say_how_long, priority=900)
    app.connect("html-page-context", name_parts, priority=900)
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
