"""Who runs when, and the arithmetic of ratios. How fast things are is not tested."""

import os
from functools import partial

import pytest
import torch

from cnnbook import bench
from cnnbook.bench.race import race_apart, rows_of_race


def test_ratios_are_taken_round_by_round():
    seconds = {bench.CNNBOOK: [1.0, 2.0, 4.0], "other": [3.0, 8.0, 8.0]}
    ours, other = rows_of_race("part", "task", seconds, 100, {"other": "slow"}, {"batch_size": 4})
    assert (ours.ratio, ours.value) == (1.0, 50.0)
    assert (other.ratio, other.value, other.note) == (3.0, 100 / 8, "slow")
    assert ours.note == ""
    assert [row.more for row in (ours, other)] == [{"batch_size": 4}] * 2


def test_contenders_take_turns():
    calls = []
    contenders = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = bench.race(contenders, 2)
    assert calls == ["a", "b"] * 3  # a round to warm up, two that count
    assert [len(times) for times in seconds.values()] == [2, 2]
    calls.clear()
    assert len(bench.race(contenders, 1, warm_up=False)["b"]) == 1
    assert calls == ["a", "b"]


@pytest.mark.slow
def test_processes_apart_take_turns(tmp_path):
    order = tmp_path / "order"
    # The shell's parent is the contender's process.
    contenders = {name: partial(os.system, f"echo {name} $PPID >> '{order}'") for name in "ab"}
    seconds = race_apart(contenders, 2)
    assert [len(times) for times in seconds.values()] == [2, 2]
    names, processes = zip(*map(str.split, order.read_text().splitlines()), strict=True)
    assert names == ("a", "b") * 3
    assert processes == processes[:2] * 3
    assert len({*processes, str(os.getpid())}) == 3


@pytest.mark.slow
def test_a_process_that_dies_is_noticed():
    with pytest.raises(RuntimeError, match="the process of 'bad' died"):
        race_apart({"bad": torch.cat}, 1)
