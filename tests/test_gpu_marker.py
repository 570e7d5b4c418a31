"""Tests for a GPU are written in tests/gpu, and run only where there is one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def pytest_says(*arguments):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_test_of_the_folder_is_for_a_gpu_and_there_are_some():
    listed = {
        marked: [
            line
            for line in pytest_says("--collect-only", "tests/gpu", *chosen).stdout.splitlines()
            if "::" in line
        ]
        for marked, chosen in (("gpu", ["-m", "gpu"]), ("all", []))
    }
    assert listed["gpu"] == listed["all"]
    assert len(listed["gpu"]) > 0
    named = {line.partition("::")[0] for line in listed["gpu"]}
    assert named == {f"tests/gpu/{path.name}" for path in (ROOT / "tests/gpu").glob("test_*.py")}


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_one_they_are_left_out_and_not_skipped():
    finished = pytest_says("tests/gpu/test_device.py", "tests/test_tables.py")
    assert finished.returncode == 0, finished.stdout
    assert "deselected" in finished.stdout
    assert "skipped" not in finished.stdout
