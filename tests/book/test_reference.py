"""Pages to look things up: claims, corrections, references, package, cheat sheet, notation."""

import importlib
import inspect
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest
import yaml
from docutils import nodes
from docutils.utils import new_document
from executed import chapters_and_pages, claims, executed_rows, is_claims, with_claims
from pybtex.database import parse_file

import cnnbook

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html" / "chapters" / "reference"
REFERENCE = ROOT / "chapters" / "reference"
CHAPTERS, PAGES = chapters_and_pages()
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)


def rows_of_source(path: Path) -> list[claims.Row]:
    code = [c.source for c in nbformat.read(path, as_version=4).cells if is_claims(c)]
    return [claims.Row(says, "", "", where) for says, where in claims.statements_of_source(code)]


def test_every_claim_of_the_source_has_a_row_and_every_row_a_claim():
    rows = {path.stem: rows_of_source(path) for path in CHAPTERS}
    assert all(len(rows[path.stem]) >= 5 for path in with_claims(CHAPTERS))
    assert claims.unmatched(claims.read_claims(), rows) == []


def test_claims_and_rows_without_each_other_are_named():
    answered = ("01-depth", claims.Row("C holds.", "holds", "It does.", "Where"))
    listed = [
        claims.Claim("1-1", "A holds.", (("01-depth", "a "), ("01-depth", "c"))),
        claims.Claim("1-2", "B holds."),
        claims.Claim("1-3", "C holds.", (), (answered,)),
    ]
    rows = {"01-depth": [claims.Row("a b", "", "", ""), claims.Row("d", "", "", "")]}
    first, second, third = claims.unmatched(listed, rows)
    assert "claim 1-1: 0 rows of 01-depth begin with “c”" in first
    assert second == "claim 1-2: nothing answers it"
    assert "no claim in source-claims.yml names the row “d”" in third
    assert claims.verdicts_on(listed[2], rows) == [answered]


def test_rows_are_read_from_code():
    code = "x = 1\nclaims = [(\n 'a '\n 'b', 'holds' if x else 'open', f'{x}', 'Where')]\n"
    assert list(claims.statements_of_source([code])) == [("a b", "Where")]


@every_chapter
def test_rows_name_a_heading_of_the_chapter(path):
    markdown = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "markdown"]
    text = "\n".join(cell.source for cell in markdown)
    headings = set(re.findall(r"^##+ (.+)$", text, flags=re.M))
    assert {row.where for row in rows_of_source(path)} - headings == set()


def test_the_page_of_claims_has_all_sections_of_the_source():
    content = yaml.safe_load(claims.LIST.read_text())
    text = (REFERENCE / "claims.md").read_text()
    assert re.findall(r"^```\{claims\} (\S+)$", text, flags=re.M) == list(content)
    headings = [
        f"{key}{'' if '.' in key else '.'} {part['title']}" for key, part in content.items()
    ]
    assert re.findall(r"^## (.+)$", text, flags=re.M) == headings


def plain(text: str) -> str:
    return " ".join(text.replace("’", "'").split())


class Tables(HTMLParser):
    """The rows of the tables of claims on a page, and the links before and in them."""

    def __init__(self, text: str):
        super().__init__()
        self.rows, self.before, self.inside, self.depth = [], set(), set(), 0
        self.feed(text)
        self.rows = [tuple(map(plain, row)) for row in self.rows if row]  # not the heads

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "table" and "claims" in attributes.get("class", "").split():
            self.depth = 1
        elif self.depth and tag == "tr":
            self.rows.append([])
        elif self.depth and tag == "td":
            self.rows[-1].append("")
        elif tag == "a":
            (self.inside if self.depth else self.before).add(attributes.get("href"))

    def handle_endtag(self, tag):
        if tag == "table":
            self.depth = 0

    def handle_data(self, data):
        if self.depth and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def shown(page: str) -> Tables:
    return Tables((HTML / f"{page}.html").read_text())


@pytest.mark.book
def test_the_page_of_claims_shows_what_the_chapters_found():
    rows = {path.stem: executed_rows(path) for path in CHAPTERS}
    expected = [
        (plain(f"{claim.number} {claim.says}"), row.verdict, plain(f"{row.found} → {row.where}"))
        for claim in claims.read_claims()
        for _, row in claims.verdicts_on(claim, rows)
    ]
    assert len(expected) > 100
    assert shown("claims").rows == expected


def cell(code: str, *tags: str) -> nodes.container:
    block = nodes.literal_block(code, code, language="ipython3")
    return nodes.container(
        "", nodes.container("", block), classes=["cell", *(f"tag_{tag}" for tag in tags)]
    )


def test_only_cells_of_claims_that_follow_each_other_are_joined():
    document = new_document("a chapter")
    document += [cell("a"), cell("b", "claims"), nodes.paragraph("", "between")]
    document += [cell(code, "claims") for code in "cde"] + [cell("f")]
    document[-2] += nodes.paragraph("", "the table")
    claims.JoinCells(document).apply()
    blocks = list(document.findall(nodes.literal_block))
    assert [block.astext() for block in blocks] == ["a", "b", "c\n\nd\n\ne", "f"]
    assert [block["language"] for block in blocks] == 4 * ["ipython3"]
    assert document[-2].astext().endswith("the table")


@pytest.mark.book
def test_every_claim_that_does_not_hold_is_corrected_in_words():
    page = shown("corrections")
    assert page.rows == [row for row in shown("claims").rows if row[1] == "does not hold"]
    assert page.inside - page.before == set()


def names_of(module) -> list[str]:
    """Return a module's public names: what it lists, or else what it defines."""
    if hasattr(module, "__all__"):
        return [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]


# Their users type commands, which `cnnbook --help` explains; of the benchmark, a page has what one
# calls, and not each contender.
NOT_ON_PAGES = ("__main__", "cli", "bench")


@pytest.mark.book
def test_every_public_name_of_the_package_is_on_its_pages():
    text = "".join(page.read_text() for page in sorted((HTML / "package").glob("*.html")))
    modules = [m.name for m in pkgutil.iter_modules(cnnbook.__path__)]
    modules = [m for m in modules if not m.startswith("_") and m not in NOT_ON_PAGES]
    assert len(modules) > 5
    for name in modules:
        module = importlib.import_module(f"cnnbook.{name}")
        prefix = "cnnbook" if name == "settings" else module.__name__
        public = [n for n in names_of(module) if n not in ("PRESETS", "T", "VERDICTS")]
        assert public
        assert [n for n in public if f'id="{prefix}.{n}"' not in text] == [], name
    assert 'id="cnnbook.bench.run"' in text


@pytest.mark.parametrize("name", ["models", "data", "training", "analysis", "plots", "widgets"])
def test_pages_of_the_package_begin_with_a_list_of_all_names(name):
    text = (REFERENCE / "package" / f"{name}.md").read_text()
    listed = re.findall(r"^   (\w+)$", text, flags=re.M)
    assert listed == importlib.import_module(f"cnnbook.{name}").__all__


ADDRESS = re.compile(r"\]\((https?://[^)]+)\)")


def references_of(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return next(c.source for c in cells if "## References\n" in c.source).split("## References")[1]


def addresses() -> dict[str, str]:
    """Return address to key of the papers in the bibliography."""
    found = {}
    for key, entry in parse_file(ROOT / "references.bib").entries.items():
        fields = entry.fields
        if "doi" in fields:
            address = f"https://doi.org/{fields['doi']}"
        elif "eprint" in fields:
            address = f"https://arxiv.org/abs/{fields['eprint']}"
        else:
            address = fields["url"]
        assert address not in found, f"{key} and {found[address]} are one paper"
        found[address] = key
    return found


def test_papers_have_a_doi_or_an_arxiv_number_where_there_is_one():
    for key, entry in parse_file(ROOT / "references.bib").entries.items():
        fields = entry.fields
        assert sum(name in fields for name in ("doi", "eprint", "url")) == 1, key
        assert re.fullmatch(r"10\.\d{4,5}/\S+", fields.get("doi", "10.1000/x")), key
        assert re.fullmatch(r"\d{4}\.\d{4,5}", fields.get("eprint", "1512.03385")), key
        if "eprint" in fields:  # it begins with the year, which may be the one after a conference
            assert -1 <= int(fields["year"]) - 2000 - int(fields["eprint"][:2]) <= 2, key
        if "url" in fields:  # publishers that give no DOI
            publishers = r"https://(proceedings\.mlr\.press|jmlr\.org|icml\.cc|hal\.inria\.fr)/.+"
            assert re.fullmatch(publishers, fields["url"]), key


def test_chapters_and_bibliography_have_the_same_papers():
    known, cited = addresses(), set()
    for path in CHAPTERS + PAGES:
        entries = re.split(r"^- ", references_of(path), flags=re.M)[1:]
        assert entries
        for entry in entries:
            links = ADDRESS.findall(entry)
            assert len(links) == 1, f"{path.name}: {entry}"
            assert links[0] in known, f"{path.name}: references.bib lacks {links[0]}"
            cited.add(links[0])
    assert set(known) - cited == set()


@pytest.mark.slow
@pytest.mark.parametrize("path", CHAPTERS + PAGES, ids=lambda p: p.stem)
def test_references_agree_with_the_bibliography(path):
    known, papers = addresses(), parse_file(ROOT / "references.bib").entries
    for entry in re.split(r"^- ", references_of(path), flags=re.M)[1:]:
        paper = papers[known[ADDRESS.findall(entry)[0]]]
        names = [person.last_names[-1] for person in paper.persons["author"]]
        first = re.sub(r"[{}\\'\"]|\\c", "", names[0])
        letters = first.encode("ascii", "ignore").decode()
        assert letters[:4] in entry, entry
        (title,) = re.findall(r"\*(.+?)\.?\*", entry.replace("?*", "*"))
        whole = re.sub(r"[{}?\\]", "", paper.fields["title"]).lower()
        assert whole.startswith(title.lower().rstrip("?.")), (title, whole)
        assert paper.fields["year"] in entry


def test_all_papers_are_on_the_page_of_references():
    assert "```{bibliography}\n:all:\n" in (REFERENCE / "references.md").read_text()


@pytest.mark.book
def test_formulas_of_the_cheat_sheet_agree_with_torch():
    text = (HTML / "cheat-sheet.html").read_text()
    assert ">DIFFERS</td>" not in text
    assert text.count(">agrees</td>") == 13
    for number in ("61,706", "60,965,224", "138,357,544", "6,998,552", "25,557,032"):
        assert f">{number}<" in text


def test_letters_of_the_cheat_sheet_are_in_the_notation():
    formulas = re.findall(r"\$([^$]+)\$", (REFERENCE / "cheat-sheet.md").read_text())
    words = re.sub(r"\\text\{\w+\}|\\\w+(\{\w+\})?", " ", " ".join(formulas))
    letters = set(re.findall(r"[A-Za-z]", words))
    explained = set(re.findall(r"\$([A-Za-z])\b", (REFERENCE / "notation.md").read_text()))
    assert letters - explained <= {"P", "o"}  # explained where they stand
