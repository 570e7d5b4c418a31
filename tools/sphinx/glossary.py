"""Sphinx extension: links to the glossary that show the definition, and its row of letters.

In a chapter, a term is linked as `[feature map](reference/glossary.md#term-feature-map)`, which is
an ordinary link wherever the notebook is opened. On a page of the book, `_static/definitions.js`
also shows the definition when a reader points at such a link or moves the focus to it.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import html
import re
import unicodedata
from string import ascii_uppercase

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform

LINK = re.compile(r'<a class="reference internal" href="([^"#]*)#(term-[^"]+)">')


def anchor(term: str) -> str:
    """Return the address of an entry on its page: that of its English name, without brackets."""
    english = term.partition(" (")[0].lower().translate({ord("×"): "x", ord("–"): "-"})
    letters = unicodedata.normalize("NFKD", english).encode("ascii", "ignore").decode()
    return "term-" + re.sub(r"[^a-z0-9]+", "-", letters).strip("-")


def indexed(term: str) -> str:
    """Return a term as the index names it, without brackets.

    Sphinx takes what is in them for the module of a function, and “accuracy (정확도)” for a line of
    the property `accuracy`.
    """
    english, bracket, others = term.partition(" (")
    return f"{english} · {others.removesuffix(')')}" if bracket else term


def letters(names: list[str]) -> str:
    """Return a row of letters, each with a link to the first entry that begins with it.

    The row is HTML because docutils has no element for navigation, whose name a screen reader says.
    Letters that lead nowhere are shown, but not read out.
    """
    first = {}
    for name in names:
        first.setdefault(name.removeprefix("term-")[0].upper(), name)
    row = "".join(
        f'<li><a href="#{first[letter]}">{letter}</a></li>'
        if letter in first
        else f'<li aria-hidden="true">{letter}</li>'
        for letter in ascii_uppercase
    )
    return f'<nav class="cnnbook-letters" aria-label="Entries by letter"><ul>{row}</ul></nav>'


class AddressEntries(SphinxTransform):
    """Give entries of a glossary addresses that Markdown links can name, and note what they say.

    Cause: myst-parser 3.0.1 finds headings and its own targets on another page, and no terms; and
      Sphinx 7.4.7 derives a term's address from all of its line, Korean words and numbers included.
    Delete when: a Markdown link can name a term of another page by its English words alone.
    """

    default_priority = 870  # before MyST resolves links within the page, at 879

    def apply(self, **_options) -> None:
        """Add the addresses to the headings that links can name, and the row of letters."""
        metadata = self.env.metadata[self.env.docname]
        definitions, slugs = {}, self.document.myst_slugs
        for glossary in list(self.document.findall(addnodes.glossary)):
            for index in glossary.findall(addnodes.index):
                index["entries"] = [
                    (kind, indexed(value), *rest) for kind, value, *rest in index["entries"]
                ]
            for item in glossary.findall(nodes.definition_list_item):
                # What else there is to know, and where, follows in a second paragraph.
                definition = item.next_node(nodes.definition).next_node(nodes.paragraph)
                for term in item.findall(nodes.term):
                    name = anchor(term.astext())
                    term["ids"] = [name, *(other for other in term["ids"] if other != name)]
                    slugs[name] = (term.line, name, term.astext())
                    definitions[name] = " ".join(definition.astext().split())
            row = nodes.raw("", letters(list(definitions)), format="html")
            glossary.parent.insert(glossary.parent.index(glossary), row)
        if definitions:
            metadata["myst_slugs"], metadata["definitions"] = slugs, definitions


def pages_to_write(app, env) -> list[str]:
    """Have all pages written again when a definition has changed.

    Cause: this book: a page shows definitions that are another page's text.
    Delete when: show_definitions is deleted.
    """
    now = definitions_of(env)
    before, env.definitions_written = getattr(env, "definitions_written", now), now
    return [] if now == before else sorted(env.found_docs)


def definitions_of(env) -> dict[str, dict[str, str]]:
    """Return the definitions by page and address."""
    return {
        page: about["definitions"]
        for page, about in env.metadata.items()
        if about.get("definitions")
    }


def show_definitions(app, pagename, templatename, context, doctree) -> None:
    """Put the definitions of the terms that a page links at its end, and describe links by them.

    A screen reader reads what `aria-describedby` names, hidden or not; the script shows it.

    Cause: this book: a reader wants to look a word up without leaving the sentence.
    Delete when: a maintained extension shows a term's definition with the keyboard, too
      (sphinx-hoverxref needs a server, sphinx-tippy loads a script from another host).
    """
    pages = definitions_of(app.env)
    if "body" not in context or pagename in pages:
        return
    glossaries = {app.builder.get_relative_uri(pagename, page): page for page in pages}
    used = {}

    def described(link: re.Match) -> str:
        page = glossaries.get(link[1])
        if page is None or link[2] not in pages[page]:
            return link[0]
        used[f"definition-{link[2]}"] = pages[page][link[2]]
        start = link[0].replace("reference internal", "reference internal cnnbook-term", 1)
        return f'{start[:-1]} aria-describedby="definition-{link[2]}">'

    body = LINK.sub(described, context["body"])
    if used:
        texts = "".join(
            f'<div role="tooltip" class="cnnbook-definition" id="{name}" hidden>'
            f"{html.escape(text)}</div>\n"
            for name, text in used.items()
        )
        context["body"] = f"{body}\n{texts}"


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_transform(AddressEntries)
    app.connect("env-updated", pages_to_write)
    app.connect("html-page-context", show_definitions, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
