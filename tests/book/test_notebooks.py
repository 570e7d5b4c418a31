"""Notebooks as stored, and what they printed when the book was built."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from executed import chapters_and_pages, executed_cells

import cnnbook

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "chapters").rglob("*.ipynb"))
CHAPTERS, PAGES = chapters_and_pages()

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)


def cells(path: Path, kind: str) -> list:
    return [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == kind]


@every_notebook
def test_stored_without_outputs(path):
    nbformat.validate(nbformat.read(path, as_version=4))
    for cell in cells(path, "code"):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.slow
def test_the_check_notices_outputs(tmp_path):
    # The same tool as in `make lint`, on a notebook that has been run.
    stored = json.loads(NOTEBOOKS[0].read_text())
    code = next(c for c in stored["cells"] if c["cell_type"] == "code")
    code["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["1\n"]}]
    run = tmp_path / "run.ipynb"
    run.write_text(json.dumps(stored))
    for path, status in ((NOTEBOOKS[0], 0), (run, 1)):
        result = subprocess.run(
            [sys.executable, "-m", "nbstripout", "--verify", path], check=False, capture_output=True
        )
        assert result.returncode == status


@every_notebook
def test_first_cell_installs_what_is_missing_or_old(path):
    first = cells(path, "code")[0].source
    address = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"]
    version = cnnbook.__version__
    assert first.startswith(f'try:\n    import cnnbook\n\n    cnnbook.require("{version}")\nexcept')
    assert f"%pip install --quiet git+{address}@v{version}\n" in first
    assert "hide-cell" in cells(path, "code")[0].metadata.tags  # with what `start` prints
    name = path.relative_to(ROOT / "chapters").with_suffix("").as_posix()
    assert f'cnnbook.start("{name}", seed=0)' in first
    for cell in cells(path, "code")[1:]:
        assert "pip install" not in cell.source


@every_notebook
def test_cells_are_short(path):
    for cell in cells(path, "code"):
        assert len(cell.source.splitlines()) <= 30, cell.source


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapter_follows_the_recipe(path):
    text = "\n".join(cell.source for cell in cells(path, "markdown"))
    parts = ["## Common misreadings", "## Check yourself", "## Exercises", "## References"]
    positions = [text.index(part) for part in parts]
    assert positions == sorted(positions)
    exercises = text[positions[-2] : positions[-1]]
    assert 4 <= len(re.findall(r"^\d\. ", exercises, flags=re.M)) <= 6
    solutions = ROOT / "chapters" / "solutions" / path.name
    solved = "\n".join(cell.source for cell in cells(solutions, "markdown"))
    asked = re.findall(r"^(\d)\. ", exercises, flags=re.M)
    assert re.findall(r"^## (\d)\. ", solved, flags=re.M) == asked


def singular(term: str) -> str:
    return re.sub(r"(?<=[^s])s$", "", term.lower())


def test_every_bold_term_is_in_the_glossary():
    text = (ROOT / "chapters" / "reference" / "glossary.md").read_text()
    entries = re.findall(r"^(\S.*) \((.*)\)\n  \S", text, flags=re.M)
    explained = {singular(english) for english, _ in entries}
    assert [e for e, korean in entries if not re.search("[가-힣]", korean)] == []
    names = [english.lower() for english, _ in entries]
    assert names == sorted(names)
    for path in CHAPTERS + PAGES:
        for cell in cells(path, "markdown"):
            bold = re.findall(r"\*\*(.+?)\*\*", cell.source)
            # What ends with a full stop opens a paragraph and is not a term.
            terms = {singular(term) for term in bold if not term.endswith(".")}
            assert terms - explained == set(), path.name


def test_every_page_is_in_the_table_of_contents():
    text = (ROOT / "_toc.yml").read_text()
    for path in [*NOTEBOOKS, *(ROOT / "chapters" / "reference").rglob("*.md")]:
        assert f"file: {path.relative_to(ROOT).with_suffix('')}\n" in text


def test_one_reads_chapters_then_solutions_then_reference():
    files = re.findall(r"file: chapters/(\S+)$", (ROOT / "_toc.yml").read_text(), flags=re.M)
    names = [path.stem for path in CHAPTERS]
    solutions = [f"solutions/{name}" for name in names]
    pages = [path.stem for path in PAGES]
    # A page comes right after the chapter with its number, and links to it.
    for page in pages:
        above = files[files.index(page) - 1]
        assert above[:2] == page[:2]
        text = (ROOT / "chapters" / f"{page}.ipynb").read_text()
        assert f"]({above}.ipynb)" in text
    files = [file for file in files if file not in pages]
    assert files[: 2 * len(names)] == names + solutions
    assert all(file.startswith("reference/") for file in files[2 * len(names) :])


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_chapters_and_solutions_are_linked(path):
    exercises = "\n".join(cell.source for cell in cells(path, "markdown")).split("## Exercises")[1]
    assert f"](solutions/{path.name})" in exercises
    solutions = cells(ROOT / "chapters" / "solutions" / path.name, "markdown")
    assert f"](../{path.name})" in solutions[0].source


@every_notebook
def test_other_chapters_are_linked(path):
    for cell in cells(path, "markdown"):
        # What is left when links are taken away must not send a reader to another page.
        text = re.sub(r"\[[^\]]*\]\([^)]*\)", "", cell.source)
        assert not re.search(r"chapters? (on|about|\d)|(next|last|previous) chapter", text, re.I)


@pytest.mark.parametrize(
    ("page", "package"), [("gallery", "analysis"), ("gallery", "plots"), ("explorers", "widgets")]
)
def test_every_function_is_shown(page, package):
    path = ROOT / "chapters" / "reference" / f"{page}.ipynb"
    code = "\n".join(cell.source for cell in cells(path, "code"))
    functions = [n for n in getattr(cnnbook, package).__all__ if n == n.lower()]
    assert len(functions) > 5
    # What is behind the `plot` of a result is shown by that.
    drawn = drawn_by_results() if package == "plots" else set()
    assert [n for n in functions if f"{package}.{n}(" not in code and n not in drawn] == []


def drawn_by_results() -> set[str]:
    files = (ROOT / "cnnbook" / "analysis").rglob("*.py")
    return {name for f in files for name in re.findall(r'\bdraw\(\s*"(\w+)"', f.read_text())}


@pytest.mark.book
@every_notebook
def test_executed_without_error_or_warning(path):
    cells = executed_cells(path)
    assert any(cell.outputs for cell in cells)
    for cell in cells:
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
