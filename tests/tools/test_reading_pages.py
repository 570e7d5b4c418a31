"""A small book: exercises lead to their solutions, and numbers stay with their units."""

import subprocess
import sys
from pathlib import Path

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parents[2]

SETTINGS = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tools" / "sphinx")!r}]
project = "a small book"
extensions = ["myst_parser", "reading", "spaces"]
"""
CHAPTER = """# A chapter

It errs in 2.1 % (1.9 % to 2.3 %) of cases, `2.1 %` as code.

## Exercises

1. By hand.
2. In code:

   ```
   x = 1
   ```
3. Both, as in the [chapters](index.md).

Solutions are in the [appendix](solutions/04-chapter.md).
"""
SOLUTIONS = "# Solutions\n\n## 1. First\n\nText.\n\n## 2. Second\n\nText.\n\n"


def build(folder: Path, solutions: str) -> subprocess.CompletedProcess:
    (folder / "solutions").mkdir(exist_ok=True)
    (folder / "conf.py").write_text(SETTINGS)
    toctree = "```{toctree}\n04-chapter\nsolutions/04-chapter\n```\n"
    (folder / "index.md").write_text(f"# Start\n\n{toctree}")
    (folder / "04-chapter.md").write_text(CHAPTER)
    (folder / "solutions" / "04-chapter.md").write_text(solutions)
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-W", "--keep-going", ".", "html"]
    return subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)


@pytest.mark.slow
def test_exercises_lead_to_their_solutions_and_prose_keeps_numbers_together(tmp_path):
    result = build(tmp_path, SOLUTIONS + "## 3. Third\n\nText.\n")
    assert result.returncode == 0, result.stderr
    chapter = BeautifulSoup((tmp_path / "html/04-chapter.html").read_text(), "html.parser")
    solutions = BeautifulSoup(
        (tmp_path / "html/solutions/04-chapter.html").read_text(), "html.parser"
    )
    items = chapter.select("#exercises > ol > li")
    links = [item.select("a")[-1] for item in items]
    assert [link.get_text() for link in links] == ["Solution 1", "Solution 2", "Solution 3"]
    # A solution begins with its exercise.
    asked = solutions.select("section > h2 + .cnnbook-exercise")
    texts = [" ".join(text.get_text().split()) for text in asked]
    assert texts == [
        "Exercise 1. By hand.",
        "Exercise 2. In code: x = 1",
        "Exercise 3. Both, as in the chapters.",
    ]
    for text in asked:
        assert [link["href"] for link in text.select("a")] == ["../04-chapter.html#exercises"]
    for number, link in enumerate(links, 1):
        address, _, name = link["href"].partition("#")
        assert address == "solutions/04-chapter.html"
        assert solutions.find("section", id=name).find("h2").get_text().startswith(f"{number}. ")
    text = chapter.find("section").find("p")
    joined = "\N{NO-BREAK SPACE}"
    assert f"2.1{joined}%{joined}(1.9{joined}%{joined}to{joined}2.3{joined}%)" in text.get_text()
    assert text.find("code").get_text() == "2.1 %"

    # A chapter follows its solutions when these change, and a missing one is noticed.
    result = build(tmp_path, SOLUTIONS)
    assert result.returncode == 1
    assert "exercise 3 has no solution in solutions/04-chapter" in result.stderr
