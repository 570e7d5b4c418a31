"""The source article's claims, and the chapters' rows that say whether they hold.

The list of claims is `chapters/reference/source-claims.yml`. It has the answers of chapters whose
evidence is recorded; other chapters end with a table of claims that they compute, and the list
names the rows. As a Sphinx extension, this adds a directive that shows a section's claims, with
verdicts and links to the sections that show them:

    ```{claims} 2.1
    :verdicts: does not hold, holds in part
    ```

Without an argument, it shows the claims of all sections; without the option, all verdicts.
"""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

LIST = Path(__file__).resolve().parents[2] / "chapters" / "reference" / "source-claims.yml"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claim:
    """One claim of the source article.

    Parameters
    ----------
    number
        Section of the article, hyphen, position in the list: ``"2.1-3"``.
    says
        The claim.
    starts
        Chapter and beginning of the statement, for each row about it in a chapter's table.
    answers
        Chapter and row, for each answer that is in the list.
    """

    number: str
    says: str
    starts: tuple[tuple[str, str], ...] = ()
    answers: tuple[tuple[str, "Row"], ...] = ()

    @property
    def section(self) -> str:
        """Its section in the article."""
        return self.number.split("-")[0]


@dataclass(frozen=True)
class Row:
    """What became of a claim, and the chapter's section that shows it."""

    says: str
    verdict: str
    found: str
    where: str


def read_claims(path: Path = LIST) -> list[Claim]:
    claims = []
    for section, content in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for position, claim in enumerate(content["claims"], 1):
            starts = tuple(
                (chapter, start)
                for chapter, value in claim.get("rows", {}).items()
                for start in ([value] if isinstance(value, str) else value)
            )
            answers = tuple(read_answer(claim["says"], a) for a in claim.get("answers", ()))
            claims.append(Claim(f"{section}-{position}", claim["says"], starts, answers))
    return claims


def read_answer(says: str, answer: dict[str, str]) -> tuple[str, Row]:
    """Return the chapter and the row of an answer; it is shown in `where`, "chapter: section"."""
    chapter, _, heading = answer["where"].partition(": ")
    return chapter, Row(says, answer["verdict"], answer["found"], heading)


def rows_of_html(text: str) -> list[Row]:
    """Return the rows of an executed claim table."""
    table = ElementTree.fromstring(text)
    return [Row(*(cell.text for cell in row)) for row in table.iterfind(".//tbody/tr")]


def statements_of_source(code: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the statement and heading of the rows that code cells define, without running them."""
    for cell in code:
        for node in ast.walk(ast.parse(cell)):
            if not isinstance(node, ast.List):
                continue
            for row in node.elts:
                if isinstance(row, ast.Tuple) and len(row.elts) == 4:
                    yield ast.literal_eval(row.elts[0]), ast.literal_eval(row.elts[3])


def begun(rows: dict[str, list[Row]], chapter: str, start: str) -> list[Row]:
    """Return the rows of a chapter whose statement begins in a given way."""
    return [row for row in rows.get(chapter, ()) if row.says.startswith(start)]


def verdicts_on(claim: Claim, rows: dict[str, list[Row]]) -> list[tuple[str, Row]]:
    """Return the chapter and row of each verdict on a claim."""
    found = [
        (chapter, row) for chapter, start in claim.starts for row in begun(rows, chapter, start)
    ]
    return [*claim.answers, *found]


def unmatched(claims: list[Claim], rows: dict[str, list[Row]]) -> list[str]:
    """Return the mismatches between the list of claims and the chapters' rows."""
    problems, used = [], set()
    for claim in claims:
        if not claim.starts and not claim.answers:
            problems.append(f"claim {claim.number}: nothing answers it")
        for chapter, start in claim.starts:
            found = begun(rows, chapter, start)
            used |= {(chapter, row.says) for row in found}
            if len(found) != 1:
                problems.append(
                    f"claim {claim.number}: {len(found)} rows of {chapter} begin with “{start}”, "
                    "there must be one"
                )
    for chapter, listed in rows.items():
        problems += [
            f"{chapter}: no claim in {LIST.name} names the row “{row.says}”"
            for row in listed
            if (chapter, row.says) not in used
        ]
    return problems


class Claims(nodes.General, nodes.Element):
    """Placeholder for a table of claims, until all chapters have been read."""


class ClaimsDirective(SphinxDirective):
    """The claims of one section of the source, or of all."""

    optional_arguments = 1
    option_spec = {"verdicts": directives.unchanged}  # noqa: RUF012 (docutils' convention)

    def run(self) -> list[nodes.Node]:
        """Leave a placeholder for the table."""
        self.env.note_dependency(str(LIST))
        self.env.note_reread()  # it depends on all chapters
        verdicts = [v.strip() for v in self.options.get("verdicts", "").split(",") if v.strip()]
        section = self.arguments[0] if self.arguments else None
        mark = Claims(section=section, verdicts=verdicts)
        self.set_source_info(mark)
        return [mark]


def is_claims(node: nodes.Node) -> bool:
    """Return whether a node is a cell that makes a chapter's table of claims."""
    return isinstance(node, nodes.container) and "tag_claims" in node.get("classes", ())


class JoinCells(SphinxTransform):
    """Show the cells that make a chapter's table of claims as one, behind one button.

    Cells of a notebook are short. On a page they are folded, and ten buttons with nothing between
    them would say no more than one.

    Cause: myst-nb 1.4.0 folds each cell by itself.
    Delete when: every claim has its answer in the list.
    """

    default_priority = 900  # after the page has been read

    def apply(self, **_options) -> None:
        """Put the code of each such cell in front of that of the next, and drop the cell."""
        for cell in list(self.document.findall(is_claims)):
            after = cell.next_node(descend=False, siblings=True)
            if after is None or not is_claims(after):
                continue
            code, code_after = (c.next_node(nodes.literal_block) for c in (cell, after))
            text = f"{code.astext()}\n\n{code_after.astext()}"
            joined = nodes.literal_block(text, text, **code_after.attributes)
            code_after.replace_self(joined)
            cell.parent.remove(cell)


def plain(text: str) -> str:
    return text.replace("’", "'").strip()


def collect(app, env) -> None:
    """Collect the claim tables and the addresses of headings from the chapters that were read.

    Cause: this book: verdicts are computed in the chapters and shown on other pages, too.
    Delete when: every claim has its answer in the list.
    """
    app.claims, app.claim_rows, app.claim_headings = [], {}, {}
    if not env.reread_always:  # a book without such tables
        return
    app.claims = read_claims()
    for docname in env.found_docs:
        folder, _, chapter = docname.rpartition("/")
        if folder != "chapters":
            continue
        document = env.get_doctree(docname)
        tables = [
            rows_of_html(raw.astext())
            for cell in document.findall(is_claims)
            for raw in cell.findall(nodes.raw)
            if raw.get("format") == "html" and "cnnbook-table" in raw.astext()
        ]
        if tables:
            app.claim_rows[chapter] = tables[-1]
        app.claim_headings[chapter] = (
            docname,
            {
                plain(section.next_node(nodes.title).astext()): section["ids"][0]
                for section in document.findall(nodes.section)
            },
        )
    for problem in unmatched(app.claims, app.claim_rows):
        logger.warning("%s", problem)


def table_of(lines: list[list[nodes.Node]], head: list[str], widths: list[int]) -> nodes.table:
    def row(cells: Iterable[nodes.Node]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *c)) for c in cells))

    columns = [nodes.colspec(colwidth=width) for width in widths]
    group = nodes.tgroup("", *columns, cols=len(widths))
    group += nodes.thead("", row([[nodes.Text(text)] for text in head]))
    group += nodes.tbody("", *map(row, lines))
    return nodes.table("", group, classes=["claims", "colwidths-given"])


def fill(app, document, docname: str) -> None:
    """Replace the directives with the tables.

    Cause: this book: a directive is read before the chapters it depends on.
    Delete when: collect is deleted.
    """
    for mark in list(document.findall(Claims)):
        lines = []
        for claim in app.claims:
            if mark["section"] not in (None, claim.section):
                continue
            for chapter, row in verdicts_on(claim, app.claim_rows):
                if mark["verdicts"] and row.verdict not in mark["verdicts"]:
                    continue
                target, headings = app.claim_headings.get(chapter, (chapter, {}))
                if plain(row.where) not in headings:
                    logger.warning("%s has no section “%s”", target, row.where, location=mark)
                    continue
                address = app.builder.get_relative_uri(docname, target)
                address += "#" + headings[plain(row.where)]
                link = nodes.reference("", row.where, internal=True, refuri=address)
                lines.append(
                    [
                        [
                            nodes.inline("", claim.number, classes=["claim-number"]),
                            nodes.Text(" " + claim.says),
                        ],
                        [nodes.strong("", row.verdict)],
                        [nodes.Text(row.found + " "), nodes.inline("", "→ "), link],
                    ]
                )
        if not lines:
            logger.warning("no claims to show", location=mark)
        head = ["The source says", "Verdict", "What we found, and where"]
        mark.replace_self(table_of(lines, head, [37, 14, 49]))


def setup(app) -> dict[str, bool]:
    app.add_directive("claims", ClaimsDirective)
    app.add_node(Claims)
    app.add_transform(JoinCells)
    app.connect("env-check-consistency", collect)
    app.connect("doctree-resolved", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
