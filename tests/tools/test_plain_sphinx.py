"""The way out of Jupyter Book: the same book by Sphinx and MyST-NB alone."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import plain_sphinx
import pytest
import yaml
from sphinx.config import Config

ROOT = Path(__file__).parents[2]


def read(folder: Path) -> dict[str, object]:
    """Return the settings of a conf.py as Sphinx reads them."""
    return Config.read(folder)._raw_config


@pytest.mark.slow
def test_the_configuration_is_jupyter_books_without_jupyter_book(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("_config.yml", "_toc.yml", "_static"):
        (tmp_path / name).symlink_to(ROOT / name)
    jupyter_book = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", jupyter_book, "config", "sphinx", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    theirs = read(tmp_path)

    monkeypatch.setattr(plain_sphinx, "ROOT", tmp_path)
    plain_sphinx.write_configuration(tmp_path / "conf.py")
    ours = read(tmp_path)
    assert set(theirs) - set(ours) == set(plain_sphinx.UNKNOWN)
    assert set(ours) - set(theirs) == {"sys"}
    different = {name for name in theirs if name in ours and theirs[name] != ours[name]}
    assert different == {"extensions", "nb_execution_cache_path"}
    assert set(theirs["extensions"]) - set(ours["extensions"]) == set(plain_sphinx.LEFT_OUT)
    assert not any("jupyter_book" in str(value) for value in ours.values())


def test_the_configuration_holds_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    plain_sphinx.write_configuration(tmp_path / "deep" / "conf.py")
    monkeypatch.chdir(ROOT)
    settings = read(tmp_path / "deep")
    files = [*settings["html_static_path"], *settings["bibtex_bibfiles"], settings["html_favicon"]]
    assert len(files) == 3
    for name in files:
        assert (tmp_path / "deep" / name).exists(), name
    local = yaml.safe_load((ROOT / "_config.yml").read_text())["sphinx"]["local_extensions"]
    assert set(local) <= set(settings["extensions"])
    for name in settings["extensions"]:
        assert importlib.util.find_spec(name), name


@pytest.mark.book
def test_a_page_is_built_without_jupyter_book(tmp_path):
    for name in ("cnnbook", "_config.yml", "_static", "references.bib"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: chapters/page\n")
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "page.md").write_text("# A page\n\nIs $a$ a letter?\n")
    result = subprocess.run(
        [sys.executable, "tools/plain_sphinx.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    page = (tmp_path / "_build" / "sphinx" / "html" / "chapters" / "page.html").read_text()
    assert '<meta property="og:description" content="Is a a letter?" />' in page
    assert "<math" in page
    assert "_static/book.css" in page
    assert "thebe" not in page
