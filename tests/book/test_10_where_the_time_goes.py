"""What the page on the time of a training loop says, on every machine."""

import json
from pathlib import Path

import pytest
from executed import facts, number, printed, table

from cnnbook import results
from cnnbook.bench.recipe import EPOCHS

PAGE = Path(__file__).parents[2] / "chapters" / "10-where-the-time-goes.ipynb"


def test_the_settings_named_are_the_recipes():
    text = PAGE.read_text()
    assert f"6 * macs * {EPOCHS} * 60_000" in text
    assert EPOCHS == 12
    assert "a twelfth of these operations" in text


def test_what_is_said_of_the_recorded_run_is_what_it_found():
    accuracy, training = results.load("recipe-cpu").rows
    text = PAGE.read_text()
    assert text.count(f"{100 * accuracy['value']:.1f} %") == 2
    assert f"{100 * accuracy['accuracies_not_mirrored'][0]:.2f} % without the mirror" in text
    assert text.count(f"{accuracy['steps']:,} steps") == 2
    assert f"{accuracy['operations']:.1e}" == "1.2e+14"
    assert f"its {training['value'] / 60:.0f} minutes" in text
    assert [run.machine["device"] for run in results.find("recipe")] == ["cpu"]


def test_code_is_short():
    cells = json.loads(PAGE.read_text())["cells"]
    shown = [
        len(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and "hide-input" not in cell["metadata"].get("tags", [])
    ]
    assert sum(shown) <= 350


@pytest.mark.book
def test_single_images_take_many_calls():
    rows = table(PAGE, "loop", "images per second")
    assert len(rows) == 5  # 16-bit floats and compile need a GPU
    calls = [number(row["calls per image"]) for row in rows]
    assert 10 < calls[0] < 14  # "about a dozen"
    assert calls[1] > 10  # "does not change that"
    assert calls[2] < 0.5  # "less than half a call per image"
    assert calls[3] < calls[2]
    assert 0 <= facts(PAGE)["share_of_the_time_for_data"] < 1


@pytest.mark.book
def test_whitening_removes_correlations():
    assert facts(PAGE)["between_pixels"] > 0.5
    assert facts(PAGE)["between_outputs"] < 0.01


@pytest.mark.book
def test_the_ideas_together_reach_more():
    accuracies = [number(row["test accuracy"]) for row in table(PAGE, "recipe", "test accuracy")]
    assert len(accuracies) == 7
    assert min(accuracies[3:5]) > accuracies[0]
    assert "654,036 parameters, 27,825,096 MACs" in printed(PAGE)
    assert facts(PAGE)["operations_of_the_full_recipe"] == 6 * 27_825_096 * 12 * 60_000
