"""The source article's claims, and what became of each.

They are listed, with their answers, in `chapters/reference/source-claims.yml`. As a Sphinx
extension, this adds a directive that shows a section's claims, with verdicts and links to the
sections that show them:

    ```{claims} 2.1
    :verdicts: does not hold, holds in part
    ```

Without an argument, it shows the claims of all sections; without the option, all verdicts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml
from docutils import nodes
from docutils.parsers.rst import directives
from myst_parser.mdit_to_docutils.base import default_slugify
from sphinx.util.docutils import SphinxDirective

LIST = Path(__file__).resolve().parents[2] / "chapters" / "reference" / "source-claims.yml"
VERDICTS = ("holds", "holds in part", "does not hold", "open")
HEAD = {"The source says": 37, "Verdict": 14, "What we found, and where": 49}  # widths in percent


@dataclass(frozen=True)
class Answer:
    """What became of a claim, and the section of a chapter that shows it."""

    verdict: str
    found: str
    chapter: str
    heading: str


@dataclass(frozen=True)
class Claim:
    """One claim of the source article.

    Parameters
    ----------
    number
        Section of the article, hyphen, position in the list: ``"2.1-3"``.
    says
        The claim.
    answers
        One, or one for each chapter that has an answer.
    """

    number: str
    says: str
    answers: tuple[Answer, ...]

    @property
    def section(self) -> str:
        """Its section in the article."""
        return self.number.split("-")[0]

    @property
    def verdict(self) -> str:
        """The verdict that its answers share."""
        return self.answers[0].verdict


def read_claims(path: Path = LIST) -> list[Claim]:
    """Return the listed claims.

    Raises
    ------
    ValueError
        If a claim has no answer or answers with different verdicts, or an answer lacks a part or
        has an unknown verdict.
    """
    claims = []
    for section, content in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        for position, listed in enumerate(content["claims"], 1):
            number = f"{section}-{position}"
            answers = tuple(read_answer(number, each) for each in listed.get("answers", ()))
            if not answers:
                raise ValueError(f"claim {number}: nothing answers it")
            if len({answer.verdict for answer in answers}) > 1:
                raise ValueError(f"claim {number}: its answers have different verdicts")
            claims.append(Claim(number, listed["says"], answers))
    return claims


def read_answer(number: str, listed: dict[str, str]) -> Answer:
    """Return an answer to the claim of this number; its `where` is "chapter: section"."""
    verdict, found = listed.get("verdict", ""), listed.get("found", "")
    chapter, _, heading = listed.get("where", "").partition(": ")
    if verdict not in VERDICTS:
        raise ValueError(f"claim {number}: the verdict {verdict!r} is none of {VERDICTS}")
    if not (found and chapter and heading):
        raise ValueError(f"claim {number}: an answer needs `found`, and `where` to look")
    return Answer(verdict, found, chapter, heading)


class ClaimsDirective(SphinxDirective):
    """The claims of one section of the source, or of all."""

    optional_arguments = 1
    option_spec = {"verdicts": directives.unchanged}  # noqa: RUF012 (docutils' convention)

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        self.env.note_dependency(str(LIST))
        wanted = {v.strip() for v in self.options.get("verdicts", "").split(",")} - {""}
        section = self.arguments[0] if self.arguments else None
        lines = [
            self.line(claim)
            for claim in read_claims()
            if section in (None, claim.section)
            if not wanted or claim.verdict in wanted
        ]
        if not lines:
            raise self.error("no claims to show")
        columns = [nodes.colspec(colwidth=width) for width in HEAD.values()]
        group = nodes.tgroup("", *columns, cols=len(columns))
        group += nodes.thead("", row([[nodes.paragraph("", text)] for text in HEAD]))
        group += nodes.tbody("", *map(row, lines))
        return [nodes.table("", group, classes=["claims", "colwidths-given"])]

    def line(self, claim: Claim) -> list[list[nodes.paragraph]]:
        """Return the cells of a row, with links that MyST resolves, or warns of, as any other."""
        number = nodes.inline("", claim.number, classes=["claim-number"])
        found = []
        for answer in claim.answers:
            target = f"/chapters/{answer.chapter}.ipynb#{default_slugify(answer.heading)}"
            link, _ = self.parse_inline(f"[{answer.heading}]({target})", lineno=self.lineno)
            arrow = nodes.inline("", "→ ")
            found.append(nodes.paragraph("", "", nodes.Text(answer.found + " "), arrow, *link))
        return [
            [nodes.paragraph("", "", number, nodes.Text(" " + claim.says))],
            [nodes.paragraph("", "", nodes.strong("", claim.verdict))],
            found,
        ]


def row(cells: Iterable[Iterable[nodes.Node]]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", *cell) for cell in cells))


def setup(app) -> dict[str, bool]:
    app.add_directive("claims", ClaimsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
