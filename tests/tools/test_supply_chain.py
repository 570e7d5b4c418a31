"""What is installed and run by others' hands is named by its content, not by a name that moves."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def pinned(path: Path) -> set[str]:
    """Return the lines "name==version ; marker" of a file of requirements."""
    lines = path.read_text().splitlines()
    return {line.removesuffix("\\").strip() for line in lines if re.match(r"[\w.-]+==", line)}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_named_by_commit_and_version(path):
    for line in path.read_text().splitlines():
        if (found := re.search(r"\buses:\s*(\S+)(.*)", line)) and not found[1].startswith("./"):
            assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", found[1]), line
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", found[2]), f"no version beside it: {line}"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_is_run_finds_no_credentials_in_the_checkout(path):
    for name, job in yaml.safe_load(path.read_text())["jobs"].items():
        used = [step for step in job.get("steps", []) if "actions/checkout" in step.get("uses", "")]
        assert all(step["with"] == {"persist-credentials": False} for step in used), name
        # What may write checks nothing out that could be run.
        assert not (used and "write" in job.get("permissions", {}).values()), name


def test_notebooks_install_the_versions_that_the_book_is_built_with():
    versions = pinned(ROOT / "constraints.txt")
    installed = 0
    for path in (ROOT / "chapters").rglob("*.ipynb"):
        for words in re.findall(r"%pip install --quiet ([^\\]+)", path.read_text()):
            for word in words.split():
                installed += 1
                ours = re.fullmatch(r"git\+https://github.com/[\w./-]+@v\d+\.\d+\.\d+", word)
                assert ours or word in versions, f"{path.name}: {word}"
    assert installed > 20


def test_an_action_has_one_version():
    texts = [path.read_text() for path in WORKFLOWS]
    uses = {use for text in texts for use in re.findall(r"\buses:\s*(\S+@\S+ # \S+)", text)}
    names = [use.partition("@")[0] for use in uses]
    assert len(names) == len(set(names)) == 7, sorted(uses)


def test_the_lock_has_the_constraints_versions():
    assert pinned(ROOT / "lock.txt") == pinned(ROOT / "constraints.txt")


@pytest.mark.parametrize("name", ["lock.txt", ".ci/build.txt", ".github/release.txt"])
def test_every_version_has_checksums(name):
    text = (ROOT / name).read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(lines) >= (3 if name.startswith(".ci") else 20)
    for line in lines:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", line), line[:80]


def test_make_installs_what_is_locked_only():
    recipes = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    first, second, third = re.findall(r"-m pip install (.+)", recipes)
    assert "--require-hashes -r .ci/build.txt" in first
    # With isolation, pip fetches what builds a package by name.
    assert re.search(r"--require-hashes --no-build-isolation\s+-r lock.txt", second)
    assert "--no-deps --no-build-isolation -e ." in third


def test_what_builds_packages_is_locked():
    built_by = pinned(ROOT / ".ci" / "build.txt")
    assert built_by <= pinned(ROOT / "lock.txt")
    assert {line.partition("==")[0] for line in built_by} == {"packaging", "setuptools", "wheel"}


def test_a_release_is_built_by_locked_tools():
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    runs = [
        step.get("run", "") for job in release["jobs"].values() for step in job.get("steps", [])
    ]
    installs = [run for run in runs if "pip install" in run]
    assert installs == ["python -m pip install --require-hashes -r .github/release.txt"]
    assert "python -m build --no-isolation" in runs
    names = {line.partition("==")[0] for line in pinned(ROOT / ".github" / "release.txt")}
    assert names >= {"build", "twine", "hatchling"}


def test_only_publishing_may_ask_for_an_identity():
    for path in WORKFLOWS:
        workflow = yaml.safe_load(path.read_text())
        for name, job in workflow["jobs"].items():
            if "id-token" in job.get("permissions", {}):
                assert name == "publish", path.name
                # Nothing is installed or built where there is an identity to be stolen.
                assert not any("run" in step for step in job["steps"]), path.name
