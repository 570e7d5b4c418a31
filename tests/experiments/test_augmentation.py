"""Random changes of training images: one at a time, and what is concluded."""

import re
from dataclasses import fields

import pytest

from cnnbook import data, experiments
from cnnbook.experiments import augmentation
from cnnbook.experiments.augmentation import CHANGES, HALF_TURN, LONGER, NOTHING, TOGETHER

KEYS = ("test_error", "val_error", "train_error", "pair_error", "others_error")


def errors(middle):
    return [middle - 0.01, middle, middle + 0.01]


def changed(middle):  # other images are hard than without a change, so that pairs differ
    return errors(middle)[::-1]


ALIKE = {key: errors(0.31) for key in KEYS} | {"train_error": [0.0, 0.01, 0.02]}


def test_single_changes_change_one_thing():
    default = data.Augment()
    for name, options in CHANGES.items():
        augment = data.Augment(**options)
        changed = [
            f.name for f in fields(augment) if getattr(augment, f.name) != getattr(default, f.name)
        ]
        assert len(changed) == {NOTHING: 0, LONGER: 0, TOGETHER: 3}.get(name, 1), name
    together = {k: v for name in augmentation._SINGLE[:3] for k, v in CHANGES[name].items()}
    assert CHANGES[TOGETHER] == together


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_arms_of_a_set_differ_in_images_and_changes_only(size):
    spec = experiments.get("augmentation")
    settings = spec.sizes[size].settings
    arms = spec.arms(settings)
    assert len({arm.name for arm in arms}) == len(arms)
    for arm in arms:
        assert arm.options["steps"] == (2 if arm.options["change"] == LONGER else 1)
        assert arm.rates == arms[0].rates
        assert arm.options["change"] in CHANGES
        plan = settings["sets"][arm.options["set"]]
        assert plan["at"] in plan["counts"]  # single changes have their base and its control
    if size != "live":
        assert sum(arm.options["change"] == LONGER for arm in arms) == sum(
            len(plan["counts"]) for plan in settings["sets"].values()
        )


def test_digits_are_enlarged_with_a_margin_and_keep_both_digits_of_the_pair():
    train, val, test = augmentation._parts("digits", 300, 1)
    assert train.images.shape[1:] == (1, 20, 20)
    assert int(train.images[:, :, :2].max()) == 0
    assert [len(part) for part in (train, val, test)] == [700, 300, 740]
    assert set(augmentation.PAIR) <= set(train.classes)


def test_half_a_turn_makes_a_six_more_like_a_nine():
    train, _, _ = augmentation._parts("digits", 300, 1)
    images = train.images.float()
    means = {n: images[train.labels == train.classes.index(n)].mean(0) for n in "0123456789"}
    turned = means["6"].flip(1, 2)
    distance = {n: (turned - mean).square().mean() for n, mean in means.items()}
    assert min(distance, key=distance.get) == "9"


def test_caption_says_how_many_test_digits_make_a_pair():
    _, _, test = augmentation._parts("digits", 300, 1)
    pair = sum(test.classes[label] in augmentation.PAIR for label in test.labels.tolist())
    said = experiments.load("augmentation").conditions
    assert f"(of {len(test)} test images, {pair} are 6 or 9); Fashion" in said


def result_of(make_result, gains, pair=0.0, others=0.0, longer=0.0):
    """Errors at 31 % but for what changes gain at 500 images of upright clothes."""
    changes = {
        f"upright, 500: {name}": {**ALIKE, "test_error": changed(0.31 - gain)}
        for name, gain in gains.items()
    }
    changes[f"upright, 100: {LONGER}"] = {**ALIKE, "test_error": errors(0.31 - longer)}
    changes[f"upright, 100: {TOGETHER}"] = {**ALIKE, "test_error": changed(0.21)}
    changes[f"digits, 500: {HALF_TURN}"] = {
        **ALIKE,
        "pair_error": changed(0.31 + pair),
        "others_error": changed(0.31 + others),
    }
    return make_result("augmentation", changes, **ALIKE)


def test_verdict_tells_gains_harm_and_labels_that_break(make_result):
    told = result_of(make_result, {"mirrored": 0.1, "a part erased": -0.1}, pair=0.2).verdict
    assert "on upright clothes by +10.0 (5.0 to 15.0) with 100 and by 0.0 (0.0 to 0.0) with" in told
    assert (
        "Of single changes to 500 upright clothes, “mirrored” helps most, by +10.0 (5.0 to 15.0), "
        "and “a part erased” harms most, by −10.0 (−15.0 to −5.0)"
    ) in told
    assert "Of single changes to 500 cluttered clothes, none is shown to help" in told
    assert "of the other single changes to 500 digits, none is shown to help" in told
    assert (
        "changes the accuracy on 6 and 9 by −20.0 (−25.0 to −15.0), and on the other digits by 0.0"
    ) in told


def test_a_single_change_must_help_or_harm_after_equal_steps_too(make_result):
    for helped, word in ((0.1, "helps"), (-0.1, "harms")):
        result = result_of(make_result, {"mirrored": helped})
        assert f"“mirrored” {word} most" in result.verdict
        for run, error in zip(result[f"upright, 500: {NOTHING}"].runs, changed(0.31), strict=True):
            run["test_error"] = error - helped  # as good as the change
        assert word not in result.verdict.replace("to help", "")


def test_augmentation_is_compared_with_twice_the_steps(make_result):
    assert "on upright clothes by 0.0 (" in result_of(make_result, {}, longer=0.1).verdict
    assert "on upright clothes by −5.0 (" in result_of(make_result, {}, longer=0.15).verdict
    told = result_of(make_result, {}, longer=-0.1).verdict
    assert told.startswith(
        "Compared with the same network trained on unchanged images for twice the steps,"
    )
    assert "on upright clothes by +20.0 (" in told


def test_verdict_says_where_training_was_not_at_its_end(make_result):
    told = "; training errors are given from 3 %, where training was not at its end)."
    for gain, word, interval in (
        (-0.1, "harms", "−10.0 (−15.0 to −5.0"),
        (0.1, "helps", "+10.0 (5.0 to 15.0"),
    ):
        result = result_of(make_result, {"mirrored": gain})
        assert f"“mirrored” {word} most, by {interval})" in result.verdict
        assert result.verdict.endswith("95 % intervals).")
        for run in result["upright, 500: mirrored"].runs:
            run["train_error"] = 0.31
        assert f"“mirrored” {word} most, by {interval}; training error 31 %)" in result.verdict
        assert result.verdict.endswith(told)


@pytest.mark.slow
def test_figure_names_every_arm(make_result):
    result = result_of(make_result, {})
    text = str(result.plot())
    for arm in result:
        assert arm.options["change"] in text
    for name in ("digits", "upright clothes", "cluttered clothes", "6 and 9", "other digits"):
        assert name in text


@pytest.mark.slow
def test_panels_of_the_figure_are_legible_on_a_phone():
    svg = experiments.load("augmentation").plot().svg()
    widths = [int(width) for width in re.findall(r'<svg [^>]*style="width:(\d+)px', svg)]
    assert len(widths) == 5
    assert max(widths) <= 328  # a page of 360 pixels less its margins: nothing shrinks
    assert sum(widths[:3]) + 2 * 6.4 <= 672  # and a window of 1280 pixels has three in a row


@pytest.mark.slow
def test_live():
    result = experiments.run("augmentation", progress=False)
    assert {arm.runs[0]["steps"] for arm in result} == {250}
    mean = {
        (arm.options["images"], arm.options["change"], key): sum(arm.values(key)) / 3
        for arm in result
        for key in KEYS
    }
    assert mean[50, TOGETHER, "test_error"] < mean[50, NOTHING, "test_error"]
    harm = {
        key: mean[500, HALF_TURN, key] - mean[500, NOTHING, key]
        for key in ("pair_error", "others_error")
    }
    assert harm["pair_error"] > harm["others_error"] + 0.05
