"""Sphinx extension: what helps to find one's way: numbers, addresses, and pages about the book.

Chapters carry the number of their file wherever they are listed, every exercise links its solution,
every figure has an address, every page says which version it is of, and the site has a map and a
page for addresses that lead nowhere.

The docstring of every function that is connected to Sphinx says whose behavior it works around and
when it can be deleted.
"""

import html
import re
from pathlib import Path, PurePosixPath
from string import Template

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from cnnbook import __version__ as VERSION

NOT_FOUND = Path(__file__).with_name("not-found.html")
CHAPTER = re.compile(r"(?:^|/)(\d\d)-[^/]*?(?:\.html)?$")
# A figure that is an output of its own; those inside controls are not: they change.
FIGURE = '<div class="output text_html"><figure class="cnnbook-figure"'
SECTION = re.compile(
    rf'<section\b[^>]*?\bid="([^"]+)"[^>]*>|</section>|{re.escape(FIGURE)}|</figure>'
)


logger = logging.getLogger(__name__)


def number(page: str) -> int | None:
    """Return the number of a chapter, or of the chapter that a page of solutions belongs to."""
    found = CHAPTER.search(page)
    return int(found[1]) if found else None


def number_chapters(app, pagename, templatename, context, doctree) -> None:
    """Show a chapter's number in the sidebar, and where the next and the previous page are named.

    Cause: jupyter-book 1.0.4.post1 can number chapters, from 1, in the order of the contents; here
      the first is 0, as its file says, and pages about other things have none.
    Delete when: sphinx-external-toc takes a chapter's number.
    """
    for name in ("prev", "next"):
        if (neighbor := context.get(name)) and (n := number(neighbor["link"])) is not None:
            context[name] = neighbor | {"title": f"{n} · {neighbor['title']}"}
    if "generate_toctree_html" not in context:
        return
    make = context["generate_toctree_html"]

    def with_numbers(*args, **kwargs):
        tree = make(*args, **kwargs)
        for link in tree.select("li.toctree-l1 > a"):
            n = number(pagename if link["href"] == "#" else link["href"])
            if n is not None:
                tag = tree.new_tag("span", attrs={"class": "cnnbook-number"})
                tag.string = f"{n} "
                link.insert(0, tag)
        return tree

    context["generate_toctree_html"] = with_numbers


def solutions_of(page: str, env) -> str | None:
    """Return the page with the solutions to a chapter's exercises, if there is one."""
    path = PurePosixPath(page)
    solutions = str(path.parent / "solutions" / path.name)
    return solutions if solutions in env.found_docs else None


def chapter_of(page: str, env) -> str | None:
    """Return the chapter whose exercises a page solves, if it is such a page."""
    path = PurePosixPath(page)
    chapter = str(path.parent.parent / path.name)
    is_solved = path.parent.name == "solutions" and chapter in env.found_docs
    return chapter if is_solved else None


def note_counterpart(app: Sphinx, doctree: nodes.document) -> None:
    """Have a chapter written again when its solutions have changed, and these when it has.

    Cause: this book: links to solutions name their headings, and solutions repeat the exercises.
    Delete when: LinkSolutions and ShowExercises are deleted.
    """
    page, env = app.env.docname, app.env
    if other := solutions_of(page, env) or chapter_of(page, env):
        env.note_dependency(str(env.doc2path(other, base=False)))


class LinkSolutions(SphinxPostTransform):
    """End every exercise with a link to its own solution, the heading with its number.

    Cause: this book: solutions are on a page of their own, of a dozen screens.
    Delete when: exercises link to their solutions in the notebooks.
    """

    default_priority = 20
    formats = ("html",)

    def run(self, **_options) -> None:
        """Add the links, and warn about exercises without a solution."""
        page = solutions_of(self.env.docname, self.env)
        if page is None:
            return
        address = self.app.builder.get_relative_uri(self.env.docname, page)
        headings = {}
        for section in self.env.get_doctree(page).findall(nodes.section):
            if found := re.match(r"(\d+)\. ", section.next_node(nodes.title).astext()):
                headings[int(found[1])] = section["ids"][0]
        for n, exercise in enumerate(exercises(self.document), 1):
            if n not in headings:
                logger.warning("exercise %d has no solution in %s", n, page, location=exercise)
                continue
            if not isinstance(exercise[-1], nodes.paragraph):
                exercise += nodes.paragraph()
            link = nodes.reference(
                "", f"Solution {n}", internal=True, refuri=f"{address}#{headings[n]}"
            )
            exercise[-1] += [nodes.Text(" "), link]


class ShowExercises(SphinxPostTransform):
    """Begin every solution with its exercise, and a link back to it.

    Cause: this book: exercises stand in the chapters, and who reads a solution wants to see what
      was asked.
    Delete when: solutions repeat them in the notebooks.
    """

    default_priority = 19  # before KeepTogether, and after links to other pages are resolved
    formats = ("html",)

    def run(self, **_options) -> None:
        """Add the text of each exercise below the heading with its number."""
        chapter = chapter_of(self.env.docname, self.env)
        if chapter is None:
            return
        address = self.app.builder.get_relative_uri(self.env.docname, chapter)
        asked = dict(enumerate(exercises(self.env.get_doctree(chapter)), 1))
        for section in self.document.findall(nodes.section):
            title = section.next_node(nodes.title)
            found = re.match(r"(\d+)\. ", title.astext())
            if found is None or int(found[1]) not in asked:
                continue
            text = repeated(asked[int(found[1])])
            link = nodes.reference(
                "", f"Exercise {found[1]}", internal=True, refuri=f"{address}#exercises"
            )
            first = text[0] if isinstance(text[0], nodes.paragraph) else None
            if first is None:
                first = nodes.paragraph()
                text.insert(0, first)
            first[:0] = [link, nodes.Text(". ")]
            section.insert(section.index(title) + 1, text)


def repeated(exercise: nodes.list_item) -> nodes.container:
    """Return a copy of an exercise for another page: without addresses, links as words."""
    text = nodes.container("", *exercise.deepcopy().children, classes=["cnnbook-exercise"])
    for node in list(text.findall(nodes.Element)):
        node["ids"] = []
    for link in [*text.findall(addnodes.pending_xref), *text.findall(nodes.reference)]:
        link.parent.replace(link, link.children)
    return text


class JoinHiddenCells(SphinxPostTransform):
    """Unfold the code of cells that follow each other, with nothing to see between, by one bar.

    Cause: myst-nb 1.4.0 gives every cell whose code is hidden a bar of its own; two or three bars
      in a row hold code that belongs together, which only its length has divided.
    Delete when: HideInputCells in myst_nb/sphinx_.py joins them.
    """

    default_priority = 205  # after myst-nb's, 199
    formats = ("html",)

    def run(self, **_options) -> None:
        """Move the code of a cell without output into the bar of the next."""
        cells = self.document.findall(nodes.container)
        for cell in [c for c in cells if c.get("nb_element") == "cell_code"]:
            following = cell.next_node(descend=False, siblings=True)
            bar, other = hidden_code(cell), hidden_code(following)
            if bar is not None and other is not None and len(cell) == 1:
                other[:0] = bar.children
                cell.parent.remove(cell)


def hidden_code(cell: nodes.Node | None) -> nodes.Element | None:
    """Return the bar with the hidden code of a cell, if it is a cell that has one."""
    if not isinstance(cell, nodes.container) or cell.get("nb_element") != "cell_code":
        return None
    bar = cell[0] if cell.children else None
    return bar if isinstance(bar, HideCodeCellNode) and "above-input" in bar["classes"] else None


def exercises(document: nodes.document) -> list[nodes.list_item]:
    """Return the items of the numbered list below the heading “Exercises”."""
    for section in document.findall(nodes.section):
        numbered = section.next_node(nodes.enumerated_list)
        if section[0].astext() == "Exercises" and numbered is not None:
            return list(numbered.children)
    return []


def addressed(body: str) -> str:
    """Return a page's HTML in which every figure has an address and a link to it.

    It is named by its section and its position there, so that a figure elsewhere on the page does
    not change it.
    """
    sections, counts, last = [], {}, []

    def change(found: re.Match) -> str:
        text = found[0]
        if found[1]:
            sections.append(found[1])
        elif text == "</section>":
            del sections[-1:]
        elif text == FIGURE:
            section = sections[-1] if sections else "page"
            counts[section] = counts.get(section, 0) + 1
            last.append(f"{section}-figure-{counts[section]}")
            return text.replace("<figure ", f'<figure id="{last[-1]}" ')
        elif last:
            name = last.pop()
            return (
                f'{text}<a class="headerlink cnnbook-figure-link" href="#{name}" '
                'aria-label="Link to this figure" title="Link to this figure">#</a>'
            )
        return text

    return SECTION.sub(change, body)


def address_figures(app, pagename, templatename, context, doctree) -> None:
    """Give figures addresses, as headings have them.

    Cause: myst-nb 1.4.0 gives an output no address unless its cell's metadata names one.
    Delete when: it names all of them.
    """
    if "body" in context and doctree is not None:
        context["body"] = addressed(context["body"])


def say_which_version(app, pagename, templatename, context, doctree) -> None:
    """Name the version at the foot of a page, with links to what has changed and what was wrong.

    Cause: this book: a reader who cites a page, or compares it with a printed one, needs it.
    Delete when: the pages no longer say it.
    """
    if "theme_extra_footer" not in context:
        return
    to = context["pathto"]
    changes, errata = (to(f"chapters/reference/{name}") for name in ("changelog", "errata"))
    context["theme_extra_footer"] += (
        f' Version {VERSION}: <a href="{changes}">changes</a>, <a href="{errata}">errata</a>.'
    )


def write_site_files(app: Sphinx, exception: Exception | None) -> None:
    """Write the map of the site, and the page that is shown for an address that leads nowhere.

    Cause: this book: a host shows 404.html in any folder, so that its links must be complete and
      it may need no other file.
    Delete when: sphinx-notfound-page and sphinx-sitemap are worth two more dependencies.
    """
    site = app.config.html_baseurl
    if exception or app.builder.name != "html" or not site:
        return
    pages = sorted(app.env.found_docs)
    urls = "".join(
        f"  <url><loc>{site}{app.builder.get_target_uri(page)}</loc></url>\n" for page in pages
    )
    (Path(app.outdir) / "sitemap.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n',
        encoding="utf-8",
    )
    listed = app.env.toctree_includes.get(app.config.root_doc, [])
    chapters = [page for page in listed if number(page) is not None]
    links = "".join(
        f'<li><a href="{site}{app.builder.get_target_uri(page)}">{number(page)} '
        f"{html.escape(app.env.titles[page].astext())}</a></li>\n"
        for page in chapters
        if "/solutions/" not in page
    )
    text = Template(NOT_FOUND.read_text(encoding="utf-8"))
    (Path(app.outdir) / "404.html").write_text(
        text.substitute(site=site, title=html.escape(app.config.html_title), chapters=links),
        encoding="utf-8",
    )


def setup(app: Sphinx) -> dict[str, bool]:
    for change in (number_chapters, address_figures, say_which_version):
        app.connect("html-page-context", change, priority=900)
    app.connect("doctree-read", note_counterpart)
    app.add_post_transform(LinkSolutions)
    app.add_post_transform(ShowExercises)
    app.add_post_transform(JoinHiddenCells)
    app.connect("build-finished", write_site_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
