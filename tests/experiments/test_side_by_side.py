"""Eight networks: equal multiply–adds, one protocol, and what is concluded."""

import re

import pytest
import torch

from cnnbook import analysis, data, experiments
from cnnbook.experiments import side_by_side

TASKS = ("upright", "cluttered")
KEYS = ("test_error", "val_error", "train_error", "noise_error", "blur_error", "shift_error")


def errors(middle):
    return [middle - 0.01, middle, middle + 0.01]


ALIKE = {key: errors(0.31) for key in KEYS} | {"milliseconds": [1.0, 1.1, 1.2]}


def macs_of(widths):
    found = {}
    for name, width in widths.items():
        with torch.device("meta"):
            net = side_by_side.build(name, width)
        found[name] = analysis.summary(net, (1, 32, 32)).total_macs / 1e6
    return found


@pytest.mark.slow
def test_multiply_adds_are_equal_within_fifteen_percent():
    for widths, told in (
        (side_by_side._NARROW, [5.2, 5.0, 5.1, 4.9, 4.7, 4.9, 4.6, 4.8]),
        (side_by_side._TINY, [1.4, 1.4, 1.4, 1.2]),
        (side_by_side._WIDE, [20.0, 19.0, 18.9, 19.0, 19.2, 19.6, 18.2, 19.1]),
    ):
        macs = macs_of(widths)
        assert [round(m, 1) for m in macs.values()] == told
        assert max(macs.values()) / min(macs.values()) < 1.16


@pytest.mark.slow
def test_networks_have_the_papers_layers():
    """Convolutions and linear layers on the longest way, GoogLeNet's modules counted whole."""
    counted = {}
    for name, width in side_by_side._NARROW.items():
        with torch.device("meta"):
            net = side_by_side.build(name, width)
        kinds = (torch.nn.Conv2d, torch.nn.Linear)
        counted[name] = sum(
            isinstance(m, kinds) for path, m in net.named_modules() if "shortcut" not in path
        )
        assert not any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in net.modules())
    assert counted == {
        **{"LeNet-5": 5, "AlexNet": 8, "VGG-11": 11, "VGG-16": 16, "GoogLeNet": 58},
        **{"ResNet-18": 18, "ResNet-34": 34, "ResNet-50": 50},
    }


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_arms_differ_in_network_and_set_only(size):
    spec = experiments.get("side_by_side")
    arms = spec.arms(spec.sizes[size].settings)
    assert len({arm.name for arm in arms}) == len(arms) == (4 if size == "live" else 16)
    if size != "live":  # where rates are those of a search
        assert {arm.rates for arm in arms} == {(0.01, 0.03, 0.1)}
    assert all(arm.options.keys() == {"network", "set"} for arm in arms)


def test_changed_images():
    digits, _ = data.load("digits", size=32)
    few = digits[:100]
    noisy, blurred, shifted = (side_by_side.changed(few, c) for c in side_by_side.CHANGES)
    assert torch.equal(shifted.images[:, :, 3:, 3:], few.images[:, :, :-3, :-3])
    assert int(shifted.images[:, :, :3].max()) == 0
    on_gray = few.images[(few.images > 60) & (few.images < 195)].float()
    added = noisy.images[(few.images > 60) & (few.images < 195)].float() - on_gray
    assert added.std().item() == pytest.approx(25.5, rel=0.05)
    means = [part.images.float().mean().item() for part in (blurred, few)]
    assert means[0] == pytest.approx(means[1], rel=0.02)
    slopes = [part.images.float().diff(dim=3).square().mean().item() for part in (blurred, few)]
    assert slopes[0] < slopes[1] / 2
    assert torch.equal(side_by_side.changed(few, "noise").images, noisy.images)


def result_of(make_result, gains):
    changes = {
        f"{name}, {task}": {**ALIKE, **{key: errors(0.31 - gain) for key in KEYS}}
        for name, gain in gains.items()
        for task in TASKS
    }
    noisy = {"noise_error": errors(0.61)}  # 30 points, a third of which counts
    changes["ResNet-50, upright"] = {**ALIKE, **noisy}
    changes["LeNet-5, upright"] = {**ALIKE, "milliseconds": [0.25] * 3}
    changes["LeNet-5, cluttered"] = {**ALIKE, "milliseconds": [0.25] * 3}
    return make_result("side_by_side", changes, **ALIKE)


def test_verdict_tells_the_best_those_like_it_and_times(make_result):
    told = result_of(make_result, {"VGG-11": 0.1, "ResNet-18": 0.1}).verdict
    assert told.startswith(
        "The networks take 0.0 to 0.0 million multiply–adds per image and have 1,000 parameters. "
    )
    assert (
        "On upright clothes, VGG-11 has the smallest validation error; its test accuracy is 79.0 "
        "(76.5 to 81.5). It is higher than LeNet-5’s by 10.0 (10.0 to 10.0), AlexNet’s by 10.0"
    ) in told
    assert (
        " and ResNet-50’s by 10.0 (10.0 to 10.0). No difference from ResNet-18 is shown. " in told
    )
    assert (
        "On average over noise, blur and shift, LeNet-5 loses the fewest points of accuracy, "
        "0.0 (0.0 to 0.0), and ResNet-50 the most, 10.0 (10.0 to 10.0). "
    ) in told
    assert ". On cluttered clothes, VGG-11 has the smallest" in told
    assert "Training on an image takes 4.4 times as long with AlexNet as with LeNet-5. " in told
    assert told.endswith(
        "No network was trained to its end: training errors are 21 to 31 % on upright clothes and "
        "21 to 31 % on cluttered clothes; a network with a low accuracy has less to lose when "
        "images change."
    )


def test_verdict_is_in_clauses_of_moderate_length():
    told = experiments.load("side_by_side").verdict
    clauses = re.split(r"(?<=[.;]) ", told)
    assert max(len(clause.split()) for clause in clauses) <= 35


def test_the_best_is_not_chosen_by_test_errors(make_result):
    lucky = {"ResNet-18, upright": {**ALIKE, "test_error": errors(0.2)}}
    better = {"VGG-16, upright": {**ALIKE, "val_error": errors(0.3)}}
    told = make_result("side_by_side", lucky | better, **ALIKE).verdict
    assert (
        "On upright clothes, VGG-16 has the smallest validation error; its test accuracy is 69.0 "
        "(66.5 to 71.5). It is lower than ResNet-18’s by 11.0 (11.0 to 11.0). No difference"
    ) in told
    assert "higher" not in told


def test_a_network_trained_to_its_end_is_not_called_unfinished(make_result):
    done = {"AlexNet, upright": {**ALIKE, "train_error": [0.01, 0.02, 0.03]}}
    assert "trained to its end" not in make_result("side_by_side", done, **ALIKE).verdict


def test_networks_with_batch_normalization_are_those_the_caption_means():
    for name, width in side_by_side._NARROW.items():
        with torch.device("meta"):
            net = side_by_side.build(name, width)
        normed = any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
        assert normed != (name in ("LeNet-5", "AlexNet"))
    marks = experiments.get("side_by_side").marks
    assert "LeNet-5 and AlexNet have no batch normalization, the others do." in marks


def test_networks_are_compared_in_pairs(make_result):
    """What a seed's order of images does to both networks does not count."""
    spread = {"test_error": [0.2, 0.3, 0.4]}
    changes = {"VGG-11, upright": {**ALIKE, "test_error": [0.17, 0.28, 0.39]}}
    changes["AlexNet, upright"] = ALIKE | spread
    change = side_by_side.lead(
        make_result("side_by_side", changes, **ALIKE), "upright", "VGG-11", "AlexNet"
    )
    assert str(change) == "2.0 (−0.5 to 4.5)"


def test_drops_are_means_over_changes_for_each_seed(make_result):
    changes = {"VGG-11, upright": {**ALIKE, "noise_error": errors(0.41)}}
    result = make_result("side_by_side", changes, **ALIKE)
    for kinds, drop in ((("noise",), 0.1), (("noise", "blur"), 0.05), (("shift",), 0)):
        found = side_by_side.drops(result, "upright", "VGG-11", *kinds)
        assert found == pytest.approx([drop] * 3)


def test_verdict_where_nothing_differs(make_result):
    told = result_of(make_result, {}).verdict
    assert "higher" not in told
    assert "lower" not in told
    assert "ResNet-34 or ResNet-50 is shown" in told


@pytest.mark.slow
def test_runs_that_have_not_learned_are_told_and_not_called_robust(make_result):
    one_lost = {key: [0.3, 0.31, 0.9] for key in KEYS}
    changes = {"AlexNet, cluttered": ALIKE | one_lost}
    result = make_result("side_by_side", changes, **ALIKE)
    assert " 1 of 3 runs of AlexNet learned nothing. On average" in result.verdict
    assert "LeNet-5 loses the fewest points" in result.verdict
    assert "AlexNet (1 of 3 lost) unchanged 69.5" in result.plot().alt


@pytest.mark.slow
def test_figure_names_every_network_and_change(make_result):
    figure = result_of(make_result, {}).plot()
    text = str(figure)
    assert figure.stacks
    for name in (*side_by_side.NETWORKS, *side_by_side.CHANGES, *TASKS):
        assert name in text


@pytest.mark.slow
def test_live():
    result = experiments.run("side_by_side", progress=False)
    assert {arm.runs[0]["steps"] for arm in result} == {96}
    for arm in result:
        assert max(arm.values("test_error")) < 0.6
        assert min(arm.values("milliseconds")) > 0
