"""A bench of faults that cannot fail would prove nothing."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def bench(pytester, monkeypatch):
    monkeypatch.delenv("CNNBOOK_FAULTS", raising=False)
    pytester.makeconftest((Path(__file__).parent / "conftest.py").read_text())
    return pytester


def run(bench, *lines: str):
    bench.makepyfile("\n".join(["def test_it(faults):", *(f"    {line}" for line in lines)]))
    return bench.runpytest_inprocess("-p", "no:cacheprovider")


def test_harm_fails_and_is_counted(bench):
    ran = run(
        bench,
        "for i in range(faults.number('bytes', quick=3, full=9)):",
        "    faults.tried('accepted' if i == 1 else None)",
    )
    ran.stdout.fnmatch_lines(["*1× accepted*", "*3 tried     1 harmful  bytes"])
    assert ran.ret == 1


@pytest.mark.parametrize("body", ["pass", "faults.number('bytes', quick=3, full=9)"])
def test_nothing_tried_fails(bench, body):
    assert run(bench, body).ret == 1


def test_survivors_pass(bench):
    ran = run(bench, "faults.number('bytes', quick=1, full=9)", "faults.tried()")
    ran.stdout.fnmatch_lines(["*1 tried     0 harmful  bytes"])
    assert ran.ret == 0
