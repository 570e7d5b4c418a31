"""What `make quick` selects; on CI a test skipped for something missing fails, unless marked."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[1]

TESTS = """
import pytest

def test_passes():
    pass

def test_needs_a_tool():
    pytest.importorskip("no_such_module")

@pytest.fixture
def browser():
    pytest.skip("no Chromium")

def test_needs_a_fixture(browser):
    pass

@pytest.mark.skipif(True, reason="no data")
def test_needs_data():
    pass

@pytest.mark.parametrize("page", [])
def test_each_page(page):
    pass

@pytest.mark.may_skip("the machines of CI have no GPU")
@pytest.mark.skipif(True, reason="needs two GPUs")
def test_needs_gpus():
    pass

@pytest.mark.xfail(reason="known")
def test_known_to_fail():
    assert False
"""


@pytest.fixture
def project(pytester, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    pytester.makeini("[pytest]\nmarkers = may_skip(reason): may be skipped on CI\n")
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    pytester.makepyfile(TESTS)
    return pytester


def run(project, *arguments):
    return project.runpytest("-p", "no:hypothesispytest", "-p", "no:xdist", *arguments)


def test_elsewhere_what_is_missing_is_skipped(project):
    run(project).assert_outcomes(passed=1, skipped=5, xfailed=1)


def test_on_ci_it_fails_and_says_why(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    result = run(project)
    # What is missed before the test itself runs is called an error.
    result.assert_outcomes(passed=1, failed=1, errors=3, skipped=1, xfailed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    for words in ("could not import 'no_such_module'", "no Chromium", "no data", "page"):
        result.stdout.fnmatch_lines([f"*{words}*"])
    result.stdout.fnmatch_lines(["*With CI=true nothing is skipped. Install what is missing*"])


def test_on_ci_a_skipped_file_fails(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    project.makepyfile(test_file="import pytest\npytest.importorskip('no_such_module')")
    result = run(project, "test_file.py")
    result.assert_outcomes(errors=1)
    assert result.ret != 0
    result.stdout.fnmatch_lines(["*could not import 'no_such_module'*"])


def test_what_may_be_skipped_says_why(project):
    project.makepyfile(
        "import pytest\n@pytest.mark.may_skip\ndef test_without_a_reason():\n    pass"
    )
    result = run(project)
    assert result.ret != 0
    result.stderr.fnmatch_lines(["*test_without_a_reason: may_skip needs the reason*"])


@pytest.mark.slow
def test_quick_has_tests_of_every_room():
    recipe = re.search(
        r"^quick-tests:.*\n\t.* -m pytest (.*)$", (ROOT / "Makefile").read_text(), re.M
    )
    command = [sys.executable, "-m", "pytest", *shlex.split(recipe[1]), "-n0", "--collect-only"]
    listed = subprocess.run([*command, "-q"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = [line for line in listed.stdout.splitlines() if "::" in line]
    rooms = [path.parent.name for path in (ROOT / "cnnbook").glob("*/__init__.py")]
    assert {"models", "training", "plots"} <= set(rooms)
    for room in (*rooms, "tools", "book"):
        assert any(re.match(rf"tests/(test_)?{room}[/.]", name) for name in names), room
    assert not any("test_quick_has_tests_of_every_room" in name for name in names)
