"""What the README tells a reader to type works as printed."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from cnnbook import data
from cnnbook.cli import build_parser, main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


@pytest.mark.slow
def test_python_examples_run_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S):
        exec(block, names)
    assert "validation accuracy" in capsys.readouterr().out
    assert (tmp_path / "c1.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_commands_run_as_printed(tmp_path, monkeypatch, capsys):
    lines = re.findall(r"^(?:torchrun .* -m )?cnnbook (.*)$", TEXT, flags=re.M)
    commands = [shlex.split(line, comments=True) for line in lines]
    for command in commands:
        build_parser().parse_args(command)
    monkeypatch.chdir(tmp_path)
    _, test = data.load("fashion-mini")
    Image.fromarray(test.images[0, 0].numpy()).save("boot.png")
    on_a_laptop = [c for c in commands if "resnet18-fashion-mini.safetensors" in c]
    train = next(c for c in commands if c[0] == "train")
    for command in [train, *on_a_laptop]:
        assert main(command) == 0
    out = capsys.readouterr().out
    assert "after 1 epoch and" in out
    assert [c[0] for c in on_a_laptop] == ["evaluate", "predict"]


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"\bmake (\w+)", re.sub(r"`make`", "", TEXT))
    assert "book" in targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_linked_files_exist():
    # Whole addresses: PyPI shows this file too.
    assert re.findall(r"\]\((?!http)[^)]+\)", TEXT) == []
    paths = re.findall(r"github(?:\.com)?/[\w-]+/[\w.-]+/blob/main/(\S+?)\)", TEXT)
    assert "LICENSE" in paths
    for path in paths:
        assert (ROOT / path).exists(), path
