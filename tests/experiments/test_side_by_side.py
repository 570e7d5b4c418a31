"""Eight networks: equal multiply–adds, one protocol, and what is concluded."""

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
    told = result_of(make_result, {"VGG-11": 0.1, "ResNet-18": 0.095}).verdict
    assert (
        "VGG-11 has the highest accuracy on upright clothes (79.0), no difference from ResNet-18 "
        "being shown, and 10.0 (7.7 to 12.3) more than the lowest, that of LeNet-5"
    ) in told
    assert (
        "on changed images (noise, blur, shift) LeNet-5 loses least, 0.0 (0.0 to 0.0) on average, "
        "and ResNet-50 most, 10.0 (10.0 to 10.0)"
    ) in told
    assert "an image takes AlexNet 4.4 times as long in training as LeNet-5" in told


def test_verdict_where_nothing_differs(make_result):
    told = result_of(make_result, {}).verdict
    assert "more than the lowest" not in told
    assert "ResNet-34 or ResNet-50 being shown" in told


def test_a_network_that_has_not_learned_is_not_called_robust(make_result):
    told = result_of(make_result, {"AlexNet": -0.58}).verdict
    assert "that of AlexNet; on changed images" in told
    assert "(noise, blur, shift) LeNet-5 loses least" in told


@pytest.mark.slow
def test_figure_names_every_network_and_change(make_result):
    text = str(result_of(make_result, {}).plot())
    for name in (*side_by_side.NETWORKS, *side_by_side.CHANGES, *TASKS):
        assert name in text


@pytest.mark.slow
def test_live():
    result = experiments.run("side_by_side", progress=False)
    assert {arm.runs[0]["steps"] for arm in result} == {96}
    for arm in result:
        assert max(arm.values("test_error")) < 0.6
        assert min(arm.values("milliseconds")) > 0
