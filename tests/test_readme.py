"""What the README tells a reader to type works as printed."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_python_examples_run_as_printed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", TEXT, flags=re.S):
        exec(block, names)
    assert "test accuracy" in capsys.readouterr().out
    assert (tmp_path / "c1.png").read_bytes().startswith(b"\x89PNG")


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake (\w+)", re.sub(r"`make`", "", TEXT)):
        assert re.search(rf"^{target}:", makefile, flags=re.M), target


def test_linked_files_exist():
    # Whole addresses: PyPI shows this file too.
    assert re.findall(r"\]\((?!http)[^)]+\)", TEXT) == []
    paths = re.findall(r"github(?:\.com)?/[\w-]+/[\w.-]+/blob/main/(\S+?)\)", TEXT)
    assert "LICENSE" in paths
    for path in paths:
        assert (ROOT / path).exists(), path
