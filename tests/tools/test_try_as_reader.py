"""Chapters run as a reader runs them: what can be told without making an environment."""

import subprocess
import sys
from pathlib import Path

import pytest
import set_repository
import try_as_reader as tool

import cnnbook

ROOT = Path(__file__).parents[2]


def test_changes_are_named_and_cnnbook_is_none():
    before = {"numpy": "1.26.0", "torch": "2.6.0", "tqdm": "4.66.0"}
    after = {"numpy": "2.0.0", "torch": "2.6.0", "pillow": "13.0.0", "cnnbook": "0.1.0"}
    assert tool.changes(before, before | {"cnnbook": "0.1.0"}) == []
    assert tool.changes(before, after) == [
        "numpy 1.26.0 -> 2.0.0",
        "pillow missing -> 13.0.0",
        "tqdm 4.66.0 -> missing",
    ]


def test_git_takes_the_books_address_from_this_repository(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    environment = tool.as_a_reader()
    assert "PYTHONPATH" not in environment
    tag = f"v{cnnbook.__version__}"
    command = ["git", "ls-remote", set_repository.current(), "HEAD", tag]
    asked = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True)
    # In a clone, the HEAD of its origin is listed as well.
    first, *_, last = asked.stdout.splitlines()
    assert first.split() == [head.strip(), "HEAD"]
    assert last.split() == [head.strip(), f"refs/tags/{tag}"]


def test_the_first_cell_is_timed_and_warnings_are_found():
    times = {
        "iopub.execute_input": "2026-01-02T03:04:05.500000Z",
        "shell.execute_reply": "2026-01-02T03:04:15.750000+00:00",
    }
    warning = {"output_type": "stream", "name": "stderr", "text": ["a ", "warning"]}
    printed = {"output_type": "stream", "name": "stdout", "text": "a result"}
    notebook = {
        "cells": [
            {"cell_type": "markdown"},
            {"cell_type": "code", "metadata": {"execution": times}, "outputs": [printed]},
            {"cell_type": "code", "metadata": {}, "outputs": [warning]},
        ]
    }
    assert tool.seconds_of_first_cell(notebook) == 10.25
    assert tool.written_to_stderr(notebook) == "a warning"


@pytest.fixture
def ran(monkeypatch):
    """Replace the environment by one in which a chapter changes nothing; return what it took."""
    packages = [{"torch": "2.6.0"}, {"torch": "2.6.0", "cnnbook": "0.1.0"}]
    took = {"first": 5.0, "seconds": 60.0, "memory": 10**9, "warnings": ""}
    monkeypatch.setattr(tool, "uninstall", lambda python: None)
    monkeypatch.setattr(tool, "installed", lambda python: packages.pop(0))
    monkeypatch.setattr(tool, "run_chapter", lambda python, chapter: tool.Measured(**took))
    return took, packages


def tried(limit=60):
    return tool.try_chapters(Path(sys.executable), [Path("01.ipynb")], limit)


def test_a_good_chapter_has_no_problems(ran, monkeypatch):
    fine = subprocess.CompletedProcess([], 0, stdout="No broken requirements found.")
    monkeypatch.setattr(tool.subprocess, "run", lambda *args, **kwargs: fine)
    assert tried() == []


def test_problems_are_told(ran, monkeypatch):
    took, packages = ran
    broken = subprocess.CompletedProcess([], 1, stdout="a needs b")
    monkeypatch.setattr(tool.subprocess, "run", lambda *args, **kwargs: broken)
    took["warnings"], packages[1] = "deprecated", {"torch": "2.7.0"}
    assert tried(limit=4) == [
        "01.ipynb: its first cell did not install cnnbook",
        "01.ipynb: its first cell took more than 4 s",
        "01.ipynb warned: deprecated",
        "01.ipynb changed torch 2.6.0 -> 2.7.0",
        "a needs b",
    ]


def test_an_environment_with_cnnbook_is_refused(ran):
    _, packages = ran
    packages[0] = {"cnnbook": "0.1.0"}
    with pytest.raises(ValueError, match="uninstall it"):
        tried()


def test_chapters_may_follow_options_and_must_exist(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["", "oldest", "--python", "3.10", "chapters/none.ipynb"])
    with pytest.raises(SystemExit):
        tool.main()
    assert "no such notebook: chapters/none.ipynb" in capsys.readouterr().err
