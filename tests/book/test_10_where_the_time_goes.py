"""What the page on the time of a training loop says, on every machine."""

from pathlib import Path

import pytest
from executed import facts, number, printed, table
from prose import cells_of, minutes, unsourced, visible_lines

from cnnbook import analysis, bench, results
from cnnbook.bench.recipe import EPOCHS

PAGE = Path(__file__).parents[2] / "chapters" / "10-where-the-time-goes.ipynb"

in_book = pytest.mark.book


def test_every_number_has_a_source():
    accuracy, training = results.load("recipe-cpu").rows
    mirrored, plain = accuracy["value"], accuracy["accuracies_not_mirrored"][0]
    recorded = [
        f"classified {100 * mirrored:.1f} % of",
        f"({100 * plain:.2f} % without mirrored copies of them)",
        # Two operations are one multiply–add.
        f"{accuracy['operations'] / 2 / 1e13:.1f}·10¹³ multiply–adds",
        f"{100 * (mirrored - plain):.2f} points",
    ]
    papers = ["94 % on CIFAR-10 in 3.29 seconds"]
    settings = [
        "learning rate of the convolutions' kernels is 0.8",
        "0.1, 0.4, 1.6 and 6.4",
        "94 % on CIFAR-10 in seconds",
    ]
    smoothing = 0.2
    assert f'"label_smoothing": {smoothing}' in "".join(
        cell.source for cell in cells_of(PAGE, "code")
    )
    target = 1 - smoothing + smoothing / 10
    settings.append(f"of {smoothing} sets the target of the right class to {target:.2f}")
    assert unsourced(PAGE, recorded, papers, settings) == []
    text = PAGE.read_text()
    assert text.count(f"after {accuracy['steps']:,}") == 2
    assert f"its {training['value'] / 60:.0f} minutes" in text
    assert [run.machine["device"] for run in results.find("recipe")] == ["cpu"]


def test_operations_of_the_recorded_run():
    macs = analysis.summary(bench.WhitenedNet(), (1, 28, 28)).total_macs
    recorded = results.load("recipe-cpu")
    # Forward, and twice that backward; a multiply–add is two operations.
    assert recorded.rows[0]["operations"] == 6 * macs * EPOCHS * 60_000


def test_the_page_is_short():
    assert minutes(PAGE) <= 15
    assert visible_lines(PAGE) <= 200


@in_book
def test_single_images_take_many_calls():
    alt = next(line for line in printed(PAGE).splitlines() if "image by image" in line)
    calls = {name: number(alt.split(name)[1]) for name in ("image by image", "64 images at once")}
    assert 10 < calls["image by image"] < 14  # "about a dozen"
    assert calls["64 images at once"] < 0.5  # "less than half a call"
    assert len(table(PAGE, "loop", "images per second")) == 4  # the others need a GPU
    for name in ("image_by_image", "512_images_at_once"):  # how much is a matter of the machine
        assert 0 <= facts(PAGE)[f"share_for_data_{name}"] < 1


@in_book
def test_layout_changes_strides_only():
    text = printed(PAGE)
    assert "strides (12, 4, 2, 1)" in text
    assert "strides (12, 1, 6, 3)" in text
    assert "[0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]" in text
    assert "the same values: True" in text


@in_book
def test_the_compiler_sees_one_graph():
    seen = facts(PAGE)
    assert (seen["heavy"], seen["cheap"], seen["groups"]) == (21, 48, 20)


@in_book
def test_whitening_removes_correlations():
    assert facts(PAGE)["between_pixels"] > 0.5
    assert facts(PAGE)["between_outputs"] < 0.01
    assert "654,036 parameters, 27,825,096 MACs" in printed(PAGE)


@in_book
def test_the_ideas_together_reach_more():
    accuracies = [number(row["test accuracy"]) for row in table(PAGE, "recipe", "test accuracy")]
    assert len(accuracies) == 4
    assert accuracies[-1] > accuracies[0] + 1  # "more than a point above"
