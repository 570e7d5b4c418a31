"""Fetching the widgets' JavaScript: only what was published is served, and offline is no error."""

import io
import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
from pathlib import Path

import book_extension
import npm
import pytest
import widget_scripts

ROOT = Path(__file__).parents[2]

FILES = {
    "package/dist/embed.js": b"draw()",
    "package/dist/embed.js.map": b"large",
    "package/dist/embed-amd.js": b"larger",
    "package/dist/abc.woff2": b"font",
    "package/dist/abc.eot": b"old font",
    "package/dist/../../evil.woff2": b"elsewhere",
    "package/lib/embed.js": b"source",
}


def package(files=FILES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def published(monkeypatch):
    """A registry that serves one package, and pins that belong to it."""
    served, asked = [package()], []
    monkeypatch.setattr(widget_scripts, "PACKAGE_INTEGRITY", npm.integrity(served[0], "sha512"))
    monkeypatch.setattr(widget_scripts, "SCRIPT_INTEGRITY", npm.integrity(b"draw()", "sha384"))

    def urlopen(url, timeout):
        asked.append(url)
        return io.BytesIO(served[0])

    monkeypatch.setattr(npm.urllib.request, "urlopen", urlopen)
    monkeypatch.setenv("npm_config_registry", "https://npm.example/")
    return served, asked


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_takes_what_a_page_needs_and_asks_once(published, tmp_path):
    folder = tmp_path / "scripts" / "html-manager"
    assert widget_scripts.provide(folder) == ""
    assert names(folder) == {"embed.js", "abc.woff2"}
    assert names(folder.parent) == {"html-manager"}
    assert widget_scripts.provide(folder) == ""
    name = f"html-manager-{widget_scripts.VERSION}.tgz"
    assert published[1] == [f"https://npm.example/@jupyter-widgets/html-manager/-/{name}"]


def test_an_altered_copy_is_fetched_again(published, tmp_path):
    widget_scripts.provide(tmp_path / "a")
    (tmp_path / "a" / "embed.js").write_bytes(b"changed")
    assert widget_scripts.provide(tmp_path / "a") == ""
    assert (tmp_path / "a" / "embed.js").read_bytes() == b"draw()"
    assert len(published[1]) == 2


def test_another_package_is_refused(published, tmp_path):
    published[0][0] = package(FILES | {"package/dist/embed.js": b"steal()"})
    reason = widget_scripts.provide(tmp_path / "a")
    assert "sha512-" in reason
    assert widget_scripts.PACKAGE_INTEGRITY in reason
    assert names(tmp_path) == set()


def test_offline_is_a_reason_not_an_error(published, tmp_path, monkeypatch):
    def urlopen(url, timeout):
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(npm.urllib.request, "urlopen", urlopen)
    assert "no route to host" in widget_scripts.provide(tmp_path / "a")
    assert names(tmp_path) == set()


def test_interrupted_unpacking_leaves_nothing(published, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    assert widget_scripts.provide(tmp_path / "a") == "disk full"
    assert names(tmp_path) == set()


@pytest.mark.parametrize(
    ("environment", "script", "expected"),
    [
        (
            {"NPM_CONFIG_REGISTRY": "https://mirror.example/npm/"},
            None,
            "https://mirror.example/npm",
        ),
        ({"npm_config_registry": ""}, None, "https://registry.npmjs.org"),
        ({}, "echo https://set.example/", "https://set.example"),
        ({}, "echo undefined", "https://registry.npmjs.org"),
        ({}, None, "https://registry.npmjs.org"),
    ],
)
def test_registry_is_the_one_npm_is_set_to(environment, script, expected, monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.lower() == "npm_config_registry":
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if script:
        (tmp_path / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))  # sh has its own echo
    assert npm.registry() == expected


def test_versions_match():
    ipywidgets = pytest.importorskip("ipywidgets")
    # html-manager 1.x resolves controls ^1.5 and ^2.0 (see loadClass in its htmlmanager.ts)
    assert ipywidgets._version.__jupyter_widgets_controls_version__ == "2.0.0"
    assert widget_scripts.VERSION.startswith("1.")
    assert f"@{widget_scripts.VERSION}/" in widget_scripts.CDN


def widget(kind: str, **state) -> dict:
    header = {"model_name": kind, "model_module": "m", "model_module_version": "2"}
    return header | {"state": {f"_{k}": v for k, v in header.items()} | state}


def test_slim_data_lack_only_what_widgets_know_themselves():
    models = {
        "a": widget("LayoutModel", width="100%", height=None, _view_count=None),
        "b": widget("HTMLModel", value="×", tooltip=None, description=None),
    }
    book_extension.slim(models)
    assert models["a"]["state"] == {"width": "100%"}
    # null is kept where it may differ from what a widget starts with
    assert models["b"]["state"] == {"value": "×", "description": None}
    assert models["b"]["model_name"] == "HTMLModel"


def test_widgets_are_with_all_they_refer_to_and_with_what_links_them():
    models = {
        "a1": widget("VBoxModel", children=["IPY_MODEL_b1", "IPY_MODEL_c1"]),
        "a2": widget("VBoxModel", children=["IPY_MODEL_b2"]),
        "b1": widget("SelectionSliderModel", layout="IPY_MODEL_absent"),
        "c1": widget("StackModel"),
        "b2": widget("HTMLModel"),
        "l1": widget("LinkModel", source=["IPY_MODEL_b1", "index"], target=["IPY_MODEL_c1", "i"]),
    }
    groups = book_extension.together(models)
    assert sorted(map(sorted, groups)) == [["a1", "b1", "c1", "l1"], ["a2", "b2"]]
    assert groups[0]["a1"] is models["a1"]


@pytest.mark.book
def test_a_machine_without_the_registry_builds_the_book_with_the_cdns_script(tmp_path):
    for name in ("cnnbook", "_config.yml", "_static", "references.bib"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: chapters/page\nchapters:\n  - file: chapters/plain\n"
    )
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "plain.md").write_text("# No widgets\n")
    (tmp_path / "chapters" / "page.md").write_text(
        "---\njupytext:\n  text_representation:\n    format_name: myst\n"
        "kernelspec:\n  name: python3\n---\n# Page\n\n```{code-cell}\n"
        "from cnnbook import widgets\nwidgets.explore(lambda n: f'chosen: {n}', n=[1, 2])\n```\n"
    )
    nowhere = {"npm_config_registry": "http://127.0.0.1:9", "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "tools/book.py", "build"],
        cwd=tmp_path,
        env=os.environ | nowhere,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert f"load their script from {widget_scripts.CDN}, because" in result.stdout
    page, plain = (
        (tmp_path / "_build/html/chapters" / name).read_text()
        for name in ("page.html", "plain.html")
    )
    assert f'data-integrity="{widget_scripts.SCRIPT_INTEGRITY}"' in page
    assert f'data-manager="{widget_scripts.CDN}"' in page
    assert "chosen: 1</p>" in page
    assert "html-manager" not in plain
