"""The page of versions says what was recorded, and what was recorded is good."""

import json
from pathlib import Path

import pytest
import versions_page
import yaml

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "chapters" / "reference"


def row(**changed):
    return {
        "versions": "torch==2.9",
        "python": "3.12",
        "mode": "quick",
        "notebook": "01-depth",
        "date": "2026-11-28",
        "seconds": 50,
        "problems": [],
        "python_version": "3.12.1",
        "torch": "2.9.1+cu128",
        "torchvision": "0.24.1",
        "numpy": "2.4.0",
        "matplotlib": "3.11.2",
        "ipywidgets": "8.1.9",
    } | changed


@pytest.fixture(scope="module")
def results():
    return json.loads((REFERENCE / "versions.json").read_text("utf-8"))


def test_the_page_says_what_the_results_say(results):
    assert (REFERENCE / "versions.md").read_text("utf-8") == versions_page.page(results)


def test_every_notebook_that_was_run_passed(results):
    assert [row for row in results if row["problems"]] == []


def test_the_workflow_runs_every_torch_and_python_of_the_results(results):
    workflow = yaml.safe_load((ROOT / ".github/workflows/readers.yml").read_text())
    included = workflow["jobs"]["quick"]["strategy"]["matrix"]["include"]
    asked = {(each["versions"], each["python"]) for each in included}
    assert {(r["versions"], r["python"]) for r in results if r["mode"] == "quick"} <= asked
    minors = [int(versions[9:]) for versions, _ in asked if versions.startswith("torch==2.")]
    assert sorted(minors) == list(range(6, versions_page.NEWEST_TORCH + 1))


def test_one_line_for_each_environment_oldest_torch_first():
    rows = [row(notebook=name) for name in ("01-depth", "02-small-filters", "solutions/01-depth")]
    page = versions_page.page(
        [row(versions="torch==2.10", torch="2.10.0", date="2026-11-29"), *rows]
    )
    lines = [line for line in page.splitlines() if line.startswith("| 2.")]
    assert lines == [
        "| 2.9.1 | 3.12 | 0.24.1 | 2.4.0, 3.11.2, 8.1.9 | quick | 2 chapters, 1 more notebook "
        "| November 28, 2026 |",
        "| 2.10.0 | 3.12 | 0.24.1 | 2.4.0, 3.11.2, 8.1.9 | quick | 01-depth | November 29, 2026 |",
    ]
    assert "What went wrong" not in page
    assert (
        "Python 3.10, Python 3.11, Python 3.13, Python 3.14, torch 2.6, torch 2.7, torch 2.8, "
        "torch 2.11, torch 2.12, torch 2.13, torch 2.14, torch 2.15." in page
    )


def test_a_problem_is_told_in_its_last_line():
    broken = row(notebook="08-resnet", problems=["Traceback\nValueError: eps must be positive\n"])
    page = versions_page.page([row(), broken])
    assert "| 1 of 2; not 08-resnet |" in page
    assert "- 08-resnet (torch 2.9.1, Python 3.12): `ValueError: eps must be positive`" in page
