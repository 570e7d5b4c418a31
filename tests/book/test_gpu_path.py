"""Every notebook under the gpu preset, executed on the CPU with its training cut short.

Not because it needs the built book, but because it takes minutes, it runs with the tests that do.
"""

import json

import book
import gpu_budget
import pytest

pytestmark = pytest.mark.book


@pytest.fixture(scope="module")
def counted():
    return gpu_budget.count_all(book.notebooks_of_the_book())


def test_every_cell_runs(counted):
    _, errors = counted
    assert errors == {}


def test_every_notebook_keeps_within_its_budget(counted):
    totals, _ = counted
    assert gpu_budget.beyond(totals) == []


def test_what_start_prints_is_what_was_counted(counted):
    totals, _ = counted
    stored = json.loads(gpu_budget.STORED.read_text())["gpu"]["notebooks"]
    told = "run python tools/gpu_budget.py --write"
    steps = {name: one["steps"] for name, one in totals.items()}
    assert steps == {name: one["steps"] for name, one in stored.items()}, told
    for name, one in totals.items():
        for key in ("operations", "kernels"):
            assert one[key] == pytest.approx(stored[name][key], rel=0.01), f"{name}: {told}"
        assert one["memory_gb"] == pytest.approx(stored[name]["memory_gb"], abs=1), told
