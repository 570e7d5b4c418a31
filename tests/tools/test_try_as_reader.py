"""Chapters run as a reader runs them: what can be told without making an environment."""

import argparse
import json
import os
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
    assert "pillow missing -> 13.0.0" not in tool.changes(before, after, may_add=True)


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
    advice = (
        "…/torch/_dynamo/guards.py:1464: RuntimeWarning: Guards may run slower on Python 3.13.0. "
        "Consider upgrading to Python 3.13.1+.\n  warnings.warn(\n"
    )
    warning["text"] = [advice, "a ", "warning"]
    assert tool.written_to_stderr(notebook) == "a warning"


@pytest.fixture
def ran(monkeypatch):
    """Replace the environment by one in which a chapter changes nothing; return what it took."""
    packages = [{"torch": "2.6.0"}, {"torch": "2.6.0", "cnnbook": "0.1.0"}]
    took = {"first": 5.0, "seconds": 60.0, "memory": 10**9, "warnings": ""}
    monkeypatch.setattr(tool, "uninstall", lambda python: None)
    monkeypatch.setattr(tool, "installed", lambda python: packages.pop(0))
    monkeypatch.setattr(tool, "run_chapter", lambda python, chapter, quick: tool.Measured(**took))
    return took, packages


CHAPTER = ROOT / "chapters" / "08-resnet.ipynb"


def tried(limit=60, **options):
    return tool.try_chapters(Path(sys.executable), [CHAPTER], limit, **options)


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
        "08-resnet.ipynb: its first cell did not install cnnbook",
        "08-resnet.ipynb: its first cell took more than 4 s",
        "08-resnet.ipynb warned: deprecated",
        "08-resnet.ipynb changed torch 2.6.0 -> 2.7.0",
        "a needs b",
    ]


def test_results_are_recorded_and_good_ones_not_repeated(ran, monkeypatch, tmp_path, capsys):
    took, packages = ran
    fine = subprocess.CompletedProcess([], 0, stdout="3.11.7")
    monkeypatch.setattr(tool.subprocess, "run", lambda *args, **kwargs: fine)
    file = tmp_path / "results.json"
    packages[:] = [{"torch": "2.6.0"}, {"torch": "2.6.0", "cnnbook": "0.1.0"}] * 2
    took["warnings"] = "deprecated"
    tried(record=tool.Record(file, "torch==2.6", "3.11", True))
    tried(record=tool.Record(file, "torch==2.6", "3.11", False))
    quick, full = sorted(json.loads(file.read_text()), key=lambda row: row["mode"], reverse=True)
    assert quick["problems"] == ["08-resnet.ipynb warned: deprecated"]
    assert (quick["notebook"], quick["seconds"], quick["torch"]) == ("08-resnet", 60, "2.6.0")
    assert (quick["mode"], full["mode"]) == ("quick", "full")

    packages[:] = [{"torch": "2.6.0"}, {"torch": "2.6.0", "cnnbook": "0.1.0"}]
    took["warnings"] = ""
    tried(record=tool.Record(file, "torch==2.6", "3.11", True))
    assert len(json.loads(file.read_text())) == 2  # the new result replaced the old one
    asked = ["torch==2.6", "--python", "3.11", "--quick", "--record", str(file), str(CHAPTER)]
    monkeypatch.setattr(sys, "argv", ["", *asked])
    assert tool.main() == 0
    assert "nothing to do" in capsys.readouterr().out


@pytest.mark.slow
def test_quick_runs_cut_training_but_no_evaluation():
    code = """
import torch
from torch import nn
from cnnbook import data, training
train, val = data.load("digits")
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
history = training.fit(net, train, val, epochs=9, batch_size=50, device="cpu", progress=False)
tensors = data.Batches((train.images, train.labels), 50, device="cpu")
tested = training.evaluate(net, val, device="cpu")
print(len(history.val_accuracy), len(tensors), len(tested.labels) == len(val))
import sys
sys.argv = ["train.py"]  # as %run sets it; what it starts elsewhere is not cut, either
print(len(data.Batches((train.images, train.labels), 50, device="cpu")) > 3)
"""
    script = f"""
class Events:
    def register(self, name, function): self.function = function
    def unregister(self, name, function): assert function is self.function
class Shell:
    events = Events()
shell = Shell()
import IPython
IPython.get_ipython = lambda: shell
{tool.CUT_TRAINING}
shell.events.function(None)  # cnnbook is not there yet
import cnnbook
shell.events.function(None)
{code}
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script]
    ran = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert ran.stdout.split() == ["5", "3", "True", "True"]


def test_an_environment_with_cnnbook_is_refused(ran):
    _, packages = ran
    packages[0] = {"cnnbook": "0.1.0"}
    with pytest.raises(ValueError, match="uninstall it"):
        tried()


def test_versions_are_named_in_four_ways(capsys):
    for text in ("oldest", "newest", "present", "torch==2.9", "torch==2.15"):
        assert tool.versions_asked_for(text) == text
    for text in ("torch", "torch==2", "torch==2.9.1", "torch>=2.9"):
        with pytest.raises(argparse.ArgumentTypeError, match="none of oldest, newest, present"):
            tool.versions_asked_for(text)
    assert tool.requirements("oldest") == ["ipywidgets==7.7.1"]
    assert tool.requirements("torch==2.10") == ["ipywidgets", "torch==2.10.*"]


def test_chapters_may_follow_options_and_must_exist(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["", "oldest", "--python", "3.10", "chapters/none.ipynb"])
    with pytest.raises(SystemExit):
        tool.main()
    assert "no such notebook: chapters/none.ipynb" in capsys.readouterr().err
