"""The scripts behind the Makefile."""

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import book
import check_machine
import nbformat
import psutil
import pytest
from jupyter_cache import get_cache

ROOT = Path(__file__).parents[2]


def test_a_good_machine_has_no_problems():
    assert check_machine.problems((3, 10, 0), 9e9, True) == []


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (((3, 9, 18), 9e9, True), "Python 3.10 or newer; this is 3.9"),
        (((3, 12, 0), 2e9, True), "only 2.0 GB are free"),
        (((3, 12, 0), 9e9, False), "python3-venv"),
    ],
)
def test_problems_are_named(machine, words):
    (problem,) = check_machine.problems(*machine)
    assert words in problem


@pytest.mark.slow
def test_fingerprint_follows_package_and_preset(monkeypatch, tmp_path):
    (tmp_path / "cnnbook").mkdir()
    source = tmp_path / "cnnbook" / "a.py"
    source.write_text("1")
    monkeypatch.setattr(book, "ROOT", tmp_path)
    first = book.fingerprint()
    assert book.fingerprint() == first
    source.write_text("2")
    second = book.fingerprint()
    monkeypatch.setenv("CNNBOOK_PRESET", "another")
    assert len({first, second, book.fingerprint()}) == 3


def notebook(path, *sources):
    new = nbformat.v4.new_notebook()
    new.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(new, path)
    return path


@pytest.fixture
def empty_book(monkeypatch, tmp_path):
    shutil.copy(ROOT / "_config.yml", tmp_path)
    monkeypatch.setattr(book, "ROOT", tmp_path)
    monkeypatch.setattr(book, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(book, "SECONDS", tmp_path / "seconds.json")
    monkeypatch.setattr(book, "notebooks_at_once", lambda: 2)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return tmp_path


@pytest.mark.slow
def test_a_failing_notebook_is_named_and_not_kept(empty_book, capsys):
    good = notebook(empty_book / "good.ipynb", "1 + 1")
    bad = notebook(empty_book / "bad.ipynb", "raise ValueError('the reason')")
    assert book.execute([bad, good]) == 1
    error = capsys.readouterr().err
    assert "bad.ipynb" in error
    assert "ValueError: the reason" in error
    cache = get_cache(book.CACHE)
    cache.match_cache_file(str(good))
    with pytest.raises(KeyError):
        cache.match_cache_file(str(bad))
    assert set(book.seconds_before()) == {"good.ipynb"}


def running(processes):
    """Return those that have not ended; a dead one that nobody has waited for has."""
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_runs_on_when_the_build_is_ended(tmp_path, number):
    for name in ("tools/book.py", "_config.yml", "cnnbook/chapters.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    # More than there are workers, so that some wait; each keeps a core busy.
    code = "import pathlib; pathlib.Path({!r}).touch()\nwhile True: pass"
    began = [tmp_path / f"began-{i}" for i in range(9)]
    pages = [notebook(tmp_path / f"{i}.ipynb", code.format(str(b))) for i, b in enumerate(began)]
    with open(tmp_path / "log", "w") as log:
        build = subprocess.Popen(
            [sys.executable, tmp_path / "tools" / "book.py", "execute", *pages],
            stdout=log,
            stderr=log,
        )
    started = []
    try:
        assert wait_until(lambda: any(path.exists() for path in began), 120), "no notebook began"
        started = psutil.Process(build.pid).children(recursive=True)
        assert any("ipykernel_launcher" in process.cmdline() for process in started)
        build.send_signal(number)
        build.wait(30)
        assert wait_until(lambda: not running(started), 30), running(started)
    finally:
        if build.poll() is None:
            whole = psutil.Process(build.pid)
            started += [whole, *whole.children(recursive=True)]
        for process in running(started):
            process.kill()
        build.wait(30)
    assert build.returncode != 0


@pytest.mark.slow
def test_a_markdown_page_is_executed_beside_the_notebooks(empty_book):
    (empty_book / "_toc.yml").write_text(
        "format: jb-book\nroot: page\nchapters:\n- file: prose\n- file: one\n"
    )
    page = empty_book / "page.md"
    header = (
        "---\njupytext:\n  text_representation:\n    format_name: myst\n"
        "kernelspec:\n  name: python3\n---\n# Page\n\n"
    )
    page.write_text(header + "```{code-cell}\n1 + 1\n```\n")
    (empty_book / "prose.md").write_text("# No code\n")
    one = notebook(empty_book / "one.ipynb", "1 + 2")
    assert book.notebooks_of_the_book() == [one]
    assert book.executed_pages() == [page]
    assert book.execute([one, page]) == 0
    assert set(book.seconds_before()) == {"one.ipynb", "page.md"}
    # As MyST-NB looks for it.
    record = get_cache(book.CACHE).match_cache_notebook(book.read(page))
    (cell,) = (c for c in get_cache(book.CACHE).get_cache_bundle(record.pk).nb.cells if c.outputs)
    assert cell.outputs[0].data["text/plain"] == "2"


def test_notebooks_start_with_new_ones_then_the_longest(empty_book):
    short, long, new, newest = (empty_book / f"{name}.ipynb" for name in "abcd")
    for path, size in ((short, 9), (long, 1), (new, 1), (newest, 2)):
        path.write_text(size * "x")
    seconds = {"a.ipynb": 3.0, "b.ipynb": 40.0}
    assert book.longest_first([short, long, new, newest], seconds) == [newest, new, long, short]


def test_on_a_fresh_clone_notebooks_start_in_the_order_of_what_was_measured():
    seconds = book.seconds_stored()
    notebooks = [path.relative_to(book.ROOT).as_posix() for path in book.notebooks_of_the_book()]
    assert set(seconds) <= set(notebooks)
    assert all(took > 0 for took in seconds.values())


def test_memory_limits_how_many_notebooks_run_at_once(monkeypatch):
    monkeypatch.setattr(book.shutil, "which", lambda name: None)
    monkeypatch.setattr(book.os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("CNNBOOK_PRESET", raising=False)
    page = os.sysconf("SC_PAGE_SIZE")
    for gigabytes, expected in ((2, 1), (13, 3), (64, 8)):
        pages = gigabytes * 2**30 // page
        monkeypatch.setattr(
            book.os, "sysconf", lambda name, n=pages: n if name == "SC_PHYS_PAGES" else page
        )
        assert book.notebooks_at_once() == expected
    monkeypatch.setenv("CNNBOOK_PRESET", "gpu")
    assert book.notebooks_at_once() == 1


def test_serving_without_a_book_says_what_to_do(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(book, "HTML", tmp_path)
    assert book.serve(8000) == 1
    assert "make book" in capsys.readouterr().err


@pytest.mark.may_skip("newest.yml installs without constraints.txt")
@pytest.mark.skipif(
    not Path(sys.prefix, "ready").is_file(), reason="not the environment that make installs"
)
def test_everything_installed_is_pinned():
    pins = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if match := re.match(r"([\w.-]+)==([^ ;]+)", line):
            pins.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), set()).add(match[2])
    for found in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", found.name).lower()
        if name not in ("cnnbook", "pip"):
            assert found.version in pins.get(name, ()), f"{name} {found.version} is not pinned"


@pytest.mark.book
def test_a_broken_chapter_fails_the_build_twice_and_shows_the_cell(tmp_path):
    for name in ("cnnbook", "_config.yml", "_static", "references.bib"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: chapters/page\n")
    (tmp_path / "chapters").mkdir()
    page = tmp_path / "chapters" / "page.md"
    header = (
        "---\njupytext:\n  text_representation:\n    format_name: myst\n"
        "kernelspec:\n  name: python3\n---\n# Page\n\n"
    )
    page.write_text(header + "```{code-cell}\nbroken = 1 / 0\n```\n")

    def build():
        return subprocess.run(
            [sys.executable, "tools/book.py", "build"],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    for _ in range(2):  # the second time must not take the first result for a good one
        result = build()
        assert result.returncode != 0
        assert "broken = 1 / 0" in result.stderr
        assert "ZeroDivisionError" in result.stderr
        assert "NOT built" in result.stderr

    page.write_text(header + "```{code-cell}\nprint(1 + 1)\n```\n")
    result = build()
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "_build" / "html" / "chapters" / "page.html").is_file()

    # A style that changes reaches pages that do not.
    (tmp_path / "_static").unlink()
    shutil.copytree(ROOT / "_static", tmp_path / "_static")
    with (tmp_path / "_static" / "cnnbook.css").open("a") as style:
        style.write("main { --new: 1 }")
    assert build().returncode == 0
    style = tmp_path / "_build" / "html" / "_static" / "book.css"
    assert "--new: 1" in style.read_text()
