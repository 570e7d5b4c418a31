"""What the captions of experiments' figures say of their records."""

import re
from dataclasses import replace

import pytest

from cnnbook import experiments

ALIKE = {key: [0.3, 0.31, 0.32] for key in ("val_error", "test_error", "train_error")}

every_record = pytest.mark.parametrize("name", experiments.list_recorded())


@every_record
def test_a_caption_says_what_a_figure_was_made_with(name):
    result = experiments.load(name)
    said = result.plot().caption
    assert said == result.conditions
    assert re.search(r"Fashion-MNIST(, [\w ]+)*, (14×14|28×28|32×32) pixels", said)
    assert re.search(r"[\d,]+( to [\d,]+)?( \(\w+\))? training images", said)
    assert re.search(r"[; ]\d[\d,]* steps; |[; ]\d[\d,]* (or|to) [\d,]+ steps; ", said)
    rates = [arm.lr for arm in result]
    low, high = re.search(r"each with its own learning rate \((\S+) to (\S+)\)", said).groups()
    assert (float(low), float(high)) == tuple(float(f"{f(rates):.2g}") for f in (min, max))
    assert all(len(text.replace(".", "").lstrip("0")) <= 2 for text in (low, high))
    assert f"; {len(result.arms[0].runs)} seeds." in said
    assert ("taken in pairs" in said) != ("All seeds use the same training images" in said)
    assert said.endswith(result.spec.marks)


def test_seeds_that_draw_their_images_are_said_to_be_compared_in_pairs():
    drawing = {"augmentation", "depth", "first_layer"}
    for name in experiments.list_recorded():
        result = experiments.load(name)
        assert ("in pairs" in result.conditions) == (result.experiment in drawing)


def test_a_record_says_how_long_the_runs_were_that_chose_its_rates(make_result):
    result = make_result("stacks", {}, **ALIKE)
    assert "learning rate 0.1, not tuned; 3 seeds" in result.conditions
    arms = [replace(arm, tried={"0.1": 0.3, "0.3": 0.4}) for arm in result]
    tuned = replace(result, arms=arms, tuning={"images": 4_000, "epochs": 5})
    assert "in runs with 21 % as many steps; 3 seeds" in tuned.conditions
    whole = replace(tuned, tuning={})
    assert "chosen on validation images in runs as long as these" in whole.conditions
    full = make_result("stacks", {}, size="full", **ALIKE)
    assert "; all training images" in full.conditions


def test_upright_images_have_a_frame_at_every_size(make_result):
    frame = " (upright: 28×28 in a frame of 32×32); "
    for name in ("depth", "first_layer", "pooling", "side_by_side"):
        assert f", 32×32 pixels{frame}" in experiments.load(name).conditions
    settings = {"sets": {"cluttered": "cluttered-fashion"}, "shrink": 2, "images": 9}
    assert experiments.conditions.said_images(settings) == (
        "fashion-mini, cluttered, 32×32 pixels; 9 training images"
    )
    settings["sets"] = {"upright": "fashion-mini"}
    assert experiments.conditions.said_images(settings) == (
        "fashion-mini, upright, 28×28 pixels in a frame of 32×32; 9 training images"
    )
    settings |= {"sets": {"cluttered": "cluttered-fashion", **settings["sets"]}, "shrink": 1}
    assert f"64×64 pixels{frame}" in experiments.conditions.said_images(settings)


@pytest.mark.parametrize(
    ("errors", "more", "said"),
    [
        ({"": [0.35, 0.27]}, "", "27 to 35 %."),
        ({"": [0.30, 0.30]}, ", after 9 steps", "30 %, after 9 steps."),
        (
            {"on digits": [0.1, 0.2], "on clothes": [0.3]},
            "",
            "10 to 20 % on digits and 30 % on clothes.",
        ),
        ({"": [0.03]}, "", "3 %."),
    ],
)
def test_no_network_was_trained_to_its_end(errors, more, said):
    told = experiments.conditions.said_unfinished(errors, more)
    assert told == f"No network was trained to its end: training errors are {said}"


@pytest.mark.parametrize("errors", [{"": [0.029, 0.5]}, {"on digits": [0.5], "on clothes": [0.02]}])
def test_one_network_that_was_trained_to_its_end_is_enough_to_say_nothing(errors):
    assert experiments.conditions.said_unfinished(errors, ", and more") == ""


def test_training_errors_are_said_where_training_was_not_at_its_end(make_result):
    assert "error at the end: 31 %. Large dot" in make_result("stacks", {}, **ALIKE).conditions
    small = {"train_error": [0.01, 0.01, 0.01]}
    assert "at the end" not in make_result("stacks", {}, **(ALIKE | small)).conditions
    lost = {"one 7×7": {"train_error": [0.1, 0.1, 0.9], "test_error": [0.1, 0.1, 0.9]}}
    result = make_result("stacks", lost, **ALIKE)
    assert "at the end of the runs that learned: 10 to 31 %" in result.conditions


def test_steps_are_listed_without_those_of_runs_that_diverged(make_result):
    result = make_result("dropout", {}, **ALIKE)
    assert "steps" not in result.conditions
    for arm in result:
        for run in arm.runs:
            run["steps"] = 100 * arm.options["length"]
    assert "; 100, 200 or 400 steps; " in result.conditions
    result.arms[0].runs[0] |= {"steps": 3, "diverged": True}
    assert "; 100, 200 or 400 steps; " in result.conditions
    for i, arm in enumerate(result):
        arm.runs[1]["steps"] = 1_000 + i
    assert "; 100 to 1,005 steps; " in result.conditions


def test_a_table_lists_the_rates_and_marks_those_at_an_end(make_result):
    result = make_result("stacks", {}, **ALIKE)
    tried = {"one 7×7": {"0.03": 0.4, "0.1": 0.3}, "one 5×5": {"0.03": 0.4, "0.1": 0.3, "0.3": 0.5}}
    arms = [replace(arm, tried=tried.get(arm.name, {})) for arm in result]
    rows = {row["arm"]: row for row in replace(result, arms=arms).table(rates=True)}
    assert rows["one 7×7"]["lr"] == "0.1 (highest tried)"
    assert rows["one 7×7"]["tried"] == "0.03, 0.1"
    assert rows["one 5×5"]["lr"] == "0.1"
    assert "tried" not in result.table(rates=True)[0]
    accuracies = result.table("test_accuracy")[0]
    assert accuracies["test_accuracy"] == pytest.approx(69)
    assert accuracies["low"] == pytest.approx(100 - result.table()[0]["high"])
