"""The experiments as recorded: of today's code, fair, complete, and shown on their page."""

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest

from cnnbook import experiments

PAGE = Path(__file__).parents[2] / "chapters" / "reference" / "recorded.ipynb"

every_record = pytest.mark.parametrize("name", experiments.list_recorded())


@every_record
def test_a_record_is_of_todays_code(name):
    result = experiments.load(name)
    assert not result.is_stale, f"it is no longer what was recorded; run: {result.command} --record"
    assert name == f"{result.experiment}-{result.size}-{name.rsplit('-', 1)[1]}"
    assert result.command.startswith(f"python -m cnnbook experiment {result.experiment} --size")
    assert result.title == result.spec.title


@every_record
def test_every_arm_has_its_seeds_and_a_learning_rate_from_within_its_grid(name):
    result = experiments.load(name)
    size = result.spec.sizes[result.size]
    planned = {arm.name: arm for arm in result.spec.arms(result.settings)}
    assert [arm.name for arm in result] == list(planned)
    assert size.seeds >= 3
    for arm in result:
        assert len(arm.runs) == min(size.seeds, planned[arm.name].seeds or size.seeds)
        tried = {float(lr): error for lr, error in arm.tried.items()}
        if tried:
            assert tried[arm.lr] == min(tried.values())
            learns = min(tried.values()) < 0.8  # of ten classes; if not, no rate is the best
            inside = min(tried) < arm.lr < max(tried)
            assert inside or not learns, f"{arm.name}: {arm.lr} of {sorted(tried)}"
        else:
            assert planned[arm.name].rates == (arm.lr,)
        for run in arm.runs:
            assert {"val_error", "curves"} <= run.keys()
            assert all(curve for curve in run["curves"].values()) or run["diverged"]


@every_record
def test_a_record_says_where_and_when_and_draws_itself(name):
    result = experiments.load(name)
    assert re.search(r"recorded \d{4}-\d\d-\d\d, \w+ size, .+ on .+, torch \d", result.label)
    assert result.verdict.endswith(".")
    assert "nan" not in result.verdict
    assert len(str(result.plot())) > 40
    assert len(result.table()) == len(result.arms)


@every_record
def test_what_a_live_run_says_does_not_depend_on_how_long_it_took(name):
    """Two runs on one machine print the same."""
    live = replace(experiments.load(name), size="live")
    timed = {"seconds", "milliseconds", "seconds_per_epoch"}
    slower = replace(
        live,
        arms=[
            replace(
                arm,
                runs=[
                    {key: value * (2 + i) if key in timed else value for key, value in run.items()}
                    for run in arm.runs
                ],
            )
            for i, arm in enumerate(live)
        ],
    )
    assert slower.verdict == live.verdict


def test_the_page_shows_what_was_recorded():
    cells = nbformat.read(PAGE, as_version=4).cells
    shown = re.findall(r'^show\("(\w+)"', "\n".join(cell.source for cell in cells), flags=re.M)
    recorded = {name.rsplit("-", 2)[0] for name in experiments.list_recorded()}
    assert shown == [name for name in experiments.list_experiments() if name in recorded]
