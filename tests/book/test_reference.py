"""Pages to look things up: claims, corrections, references, package, cheat sheet, notation."""

import importlib
import inspect
import pkgutil
import re
from html.parser import HTMLParser
from pathlib import Path

import claims
import nbformat
import pytest
import yaml
from executed import chapters_and_pages
from pybtex.database import parse_file

import cnnbook

ROOT = Path(__file__).parents[2]
HTML = ROOT / "_build" / "html" / "chapters" / "reference"
REFERENCE = ROOT / "chapters" / "reference"
CHAPTERS, PAGES = chapters_and_pages()


def test_the_page_of_claims_has_all_sections_of_the_source():
    content = yaml.safe_load(claims.LIST.read_text())
    text = (REFERENCE / "claims.md").read_text()
    assert re.findall(r"^```\{claims\} (\S+)$", text, flags=re.M) == list(content)
    headings = [
        f"{key}{'' if '.' in key else '.'} {part['title']}" for key, part in content.items()
    ]
    assert re.findall(r"^## (.+)$", text, flags=re.M) == headings


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ("[]", "claim 1-2: nothing answers it"),
        ("[{verdict: hold, found: It does., where: 'a: B'}]", "1-2: the verdict 'hold' is none"),
        ("[{verdict: holds, found: '', where: 'a: B'}]", "1-2: an answer needs `found`"),
        ("[{verdict: holds, found: It does.}]", "1-2: an answer needs .*`where`"),
        ("[{verdict: holds, found: It does., where: a}]", "1-2: an answer needs .*`where`"),
        (
            "[{verdict: holds, found: A, where: 'a: B'}, {verdict: open, found: C, where: 'a: D'}]",
            "1-2: its answers have different verdicts",
        ),
    ],
)
def test_a_claim_without_a_whole_answer_is_refused_by_number(tmp_path, answers, message):
    path = tmp_path / "claims.yml"
    whole = "{says: A., answers: [{verdict: open, found: Not run., where: 'a-b: C: d'}]}"
    path.write_text(f'"1":\n  claims:\n    - {whole}\n')
    (read,) = claims.read_claims(path)
    answer = claims.Answer("open", "Not run.", "a-b", "C: d")
    assert read == claims.Claim("1-1", "A.", (answer,))
    path.write_text(path.read_text() + f"    - {{says: B., answers: {answers}}}\n")
    with pytest.raises(ValueError, match=message):
        claims.read_claims(path)


def plain(text: str) -> str:
    return " ".join(text.replace("’", "'").split())


class Tables(HTMLParser):
    """The rows of the tables of claims on a page, and the links before and in them."""

    def __init__(self, text: str):
        super().__init__()
        self.rows, self.before, self.inside, self.depth = [], [], [], 0
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
            (self.inside if self.depth else self.before).append(attributes.get("href"))

    def handle_endtag(self, tag):
        if tag == "table":
            self.depth = 0

    def handle_data(self, data):
        if self.depth and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data


def shown(page: str) -> Tables:
    return Tables((HTML / f"{page}.html").read_text())


@pytest.mark.book
def test_the_page_of_claims_has_a_row_for_every_claim():
    page, answered = shown("claims"), claims.read_claims()
    assert len(answered) > 100
    assert page.rows == [
        (
            plain(f"{claim.number} {claim.says}"),
            claim.verdict,
            plain(" ".join(f"{a.found} → {a.heading}" for a in claim.answers)),
        )
        for claim in answered
    ]
    chapters = [f"../{a.chapter}.html" for claim in answered for a in claim.answers]
    assert [link.partition("#")[0] for link in page.inside] == chapters
    assert all(link.partition("#")[2] for link in page.inside)


@pytest.mark.book
def test_every_claim_that_does_not_hold_is_corrected_in_words():
    page = shown("corrections")
    assert page.rows == [row for row in shown("claims").rows if row[1] == "does not hold"]
    assert set(page.inside) - set(page.before) == set()


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
        public = [n for n in names_of(module) if n not in ("PRESETS", "T")]
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
    assert ">DIFFERS" not in text
    assert text.count(">agrees</td>") == 13
    for number in ("61,706", "60,965,224", "138,357,544", "6,998,552", "25,557,032"):
        assert f">{number}<" in text


def test_letters_of_the_cheat_sheet_are_in_the_notation():
    formulas = re.findall(r"\$([^$]+)\$", (REFERENCE / "cheat-sheet.md").read_text())
    words = re.sub(r"\\text\{\w+\}|\\\w+(\{\w+\})?", " ", " ".join(formulas))
    letters = set(re.findall(r"[A-Za-z]", words))
    explained = set(re.findall(r"\$([A-Za-z])\b", (REFERENCE / "notation.md").read_text()))
    assert letters - explained <= {"P", "o"}  # explained where they stand
