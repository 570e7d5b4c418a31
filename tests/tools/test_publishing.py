"""The files that publish the book and the package, and that readers find on GitHub."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import check_release
import pytest
import set_version
import yaml

import cnnbook

ROOT = Path(__file__).parents[2]

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(
    set((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    - {ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"}
)
PAPERS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md")]

by_name = {"ids": lambda path: path.name}


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_workflows_ask_for_little_and_end_some_time(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        if "uses" not in job:
            assert job["timeout-minutes"] <= 120, name


@pytest.mark.parametrize("path", WORKFLOWS, **by_name)
def test_workflows_use_what_exists(path):
    text = path.read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"run: (?:make|bash \.ci/run) (\w+)", text):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for script in re.findall(r"run: python (tools/\S+)", text):
        assert (ROOT / script).is_file(), script
    for action in re.findall(r"uses: (\S+)", text):
        if action.startswith("./"):
            assert (ROOT / action).is_file(), action


@pytest.mark.parametrize("path", FORMS, **by_name)
def test_issue_forms_are_complete(path):
    form = yaml.safe_load(path.read_text())
    assert set(form) == {"name", "description", "labels", "body"}
    ids = [field["id"] for field in form["body"] if field["type"] != "markdown"]
    assert len(ids) == len(set(ids))
    for field in form["body"]:
        assert field["type"] in ("input", "textarea", "dropdown", "markdown")
        assert field["attributes"].get("label" if field["type"] != "markdown" else "value")
    assert any(field.get("validations", {}).get("required") for field in form["body"])


@pytest.mark.parametrize("path", PAPERS, **by_name)
def test_links_and_commands_exist(path):
    text = path.read_text()
    for target in re.findall(r"\]\((?!http|mailto)([^)#]+)[^)]*\)", text):
        assert (path.parent / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?<![\w`] )(?:^|`)make (?:[A-Z]+=\S+ )?(\w+)", text, flags=re.M):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    for script in re.findall(r"python (tools/[\w/]+\.py)", text):
        assert (ROOT / script).is_file(), script


def test_everything_names_the_packages_version():
    found = set_version.written()
    assert all(versions == {cnnbook.__version__} for versions in found.values()), found
    notebooks = {str(path.relative_to(ROOT)) for path in (ROOT / "chapters").rglob("*.ipynb")}
    assert {*notebooks, "README.md", "CITATION.cff", "cnnbook/__init__.py"} <= set(found)


@pytest.fixture
def small_book(tmp_path):
    """Return a repository with one file of every kind that names a version."""
    names = ["cnnbook/__init__.py", "CITATION.cff", "README.md", "chapters/04-lenet.ipynb"]
    for name in [*names, "CHANGELOG.md"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path, set(names)


def test_a_version_is_set_everywhere_and_back(small_book):
    book, names = small_book
    before = {name: (book / name).read_bytes() for name in names}
    assert {str(p.relative_to(book)) for p in set_version.set_version("12.0.3", book)} == names
    assert set_version.written(book) == {name: {"12.0.3"} for name in names}
    first = next(
        "".join(cell["source"])
        for cell in json.loads((book / "chapters/04-lenet.ipynb").read_text())["cells"]
        if cell["cell_type"] == "code"
    )
    assert 'cnnbook.require("12.0.3")' in first
    assert "/cnnbook@v12.0.3\n" in first
    set_version.set_version(cnnbook.__version__, book)
    assert {name: (book / name).read_bytes() for name in names} == before
    with pytest.raises(ValueError, match="three numbers"):
        set_version.set_version("v1.2", book)


def test_a_release_needs_the_same_version_everywhere(small_book):
    book, names = small_book
    log = "# Changes\n\n## Not yet released\n\n- b\n\n## {}\n\n- a\n## 0.0.1 (2026-01-02)\n\n- z\n"
    tag = f"v{cnnbook.__version__}"
    (book / "CHANGELOG.md").write_text(log.format(cnnbook.__version__))
    (undated,) = check_release.problems(tag, book)
    assert undated.startswith("CHANGELOG.md names 0.0.1")
    (book / "CHANGELOG.md").write_text(log.format(f"{cnnbook.__version__} (2026-05-06)"))
    assert check_release.problems(tag, book) == []
    assert check_release.notes(book) == "- a"
    assert len(check_release.problems("v99.0.0", book)) == len(names) + 1


def test_binder_has_the_books_versions():
    lines = (ROOT / ".binder" / "requirements.txt").read_text().splitlines()
    assert "--constraint=../constraints.txt" in lines
    assert "." in lines  # the package, from the checkout
    # Versions stand in constraints.txt, and nowhere else.
    assert not any(sign in line for line in lines for sign in ("==", "<", ">"))
    ci = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    python = ci["jobs"]["book"]["steps"][1]["with"]["python-version"]
    assert (ROOT / ".binder" / "runtime.txt").read_text() == f"python-{python}\n"
    assert os.access(ROOT / ".binder" / "start", os.X_OK)
