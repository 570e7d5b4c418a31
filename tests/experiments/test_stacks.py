"""Large kernels and stacks: equal where it is claimed, and what is concluded."""

from dataclasses import replace

import pytest
import torch

from cnnbook import analysis, experiments
from cnnbook.experiments import stacks

ALIKE = {
    "test_error": [0.30, 0.31, 0.32],
    "val_error": [0.30, 0.31, 0.32],
    "train_error": [0.25, 0.26, 0.25],
}


@pytest.mark.parametrize(("size", "side"), [("live", 14), ("desk", 32), ("full", 32)])
def test_parameters_operations_and_surroundings_are_equal(size, side):
    settings = experiments.get("stacks").sizes[size].settings
    channels = settings["channels"]
    counted = {}
    for arm in stacks.arms(settings):
        net = stacks.build(arm.options, 10, 1, channels)
        counted[arm.name] = (
            sum(p.numel() for p in net.parameters()),
            analysis.summary(net, (1, side, side)).total_macs,
        )
    for k in settings["kernels"]:
        large = counted[stacks.LARGE[k]]
        name = stacks.STACK[k]
        assert counted[f"{name}, {stacks.EQUAL}"] == pytest.approx(large, rel=0.02)
        assert counted[f"{name}, {stacks.LINEAR}"] == counted[f"{name}, {stacks.EQUAL}"]
        if stacks.NARROW not in settings["stacks"]:
            continue
        fewer = counted[f"{name}, {stacks.NARROW}"]
        share = 9 * (k // 2) / k**2  # 27/49 or 18/25
        assert fewer[0] / large[0] == pytest.approx(share, abs=0.04)


def test_desk_numbers():
    """18 channels: exactly as many weights in two 3×3 layers as in one 5×5."""
    nets = {
        arm.name: stacks.build(arm.options, 10, 1, 18)
        for arm in stacks.arms(experiments.get("stacks").sizes["desk"].settings)
    }
    weights = {
        name: sum(p.numel() for p in net.parameters() if p.ndim == 4) for name, net in nets.items()
    }
    assert weights["one 5×5"] == weights["two 3×3, ReLU between"] == 162 + 2 * 8_100
    assert weights["one 7×7"] == 162 + 2 * 15_876
    assert weights["three 3×3, ReLU between"] == 162 + 2 * 16_128


def test_receptive_fields_are_equal_and_only_relu_differs():
    names = dict.fromkeys((5, 7), (stacks.EQUAL, stacks.LINEAR, stacks.NARROW))
    for k, found in names.items():
        for stack in found:
            layers = stacks.layers({"kernel": k, "stack": stack}, 6)
            net = torch.nn.Sequential(*layers)
            reach = analysis.receptive_field(net, (6, 20, 20), str(len(layers) - 1))
            assert reach.size == (k, k)
    inside = [type(x).__name__ for x in stacks.layers({"kernel": 7, "stack": stacks.EQUAL}, 6)]
    linear = [type(x).__name__ for x in stacks.layers({"kernel": 7, "stack": stacks.LINEAR}, 6)]
    assert inside == ["Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d"]
    assert linear == ["Conv2d"] * 3


def test_without_relu_a_stack_is_one_large_kernel():
    torch.manual_seed(0)
    stack = torch.nn.Sequential(*stacks.layers({"kernel": 7, "stack": stacks.LINEAR}, 4)).double()
    one = torch.nn.Conv2d(4, 4, 7).double()
    zero = torch.zeros(1, 4, 19, 19, dtype=torch.double)
    with torch.no_grad():
        one.bias.copy_(stack(zero)[0, :, 9, 9])
        for i in range(4):
            point = zero.clone()
            point[0, i, 9, 9] = 1
            answer = (stack(point) - stack(zero))[0, :, 6:13, 6:13]
            one.weight[:, i] = answer.flip(1, 2)
        x = torch.randn(2, 4, 19, 19, dtype=torch.double)
        inside = stack(x)[..., 3:-3, 3:-3]
        assert torch.allclose(inside, one(x), atol=1e-12)
        relu = torch.nn.Sequential(*stacks.layers({"kernel": 7, "stack": stacks.EQUAL}, 4)).double()
        doubled = relu(2 * x) - relu(zero)
        assert not torch.allclose(doubled, 2 * (relu(x) - relu(zero)), atol=1e-3)


def test_signals_have_the_same_size_after_every_stack():
    x = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for arm in stacks.arms(experiments.get("stacks").sizes["desk"].settings):
        torch.manual_seed(0)
        net = stacks.build(arm.options, 10, 1, 18)
        assert 0.1 < net(x).std().item() < 10, arm.name


def test_verdict_tells_shown_from_not_shown_and_from_the_other_way_round(make_result):
    changes = {
        "three 3×3, ReLU between": {"test_error": [0.20, 0.21, 0.22]},
        "two 3×3, ReLU between": {"test_error": [0.40, 0.41, 0.42]},
    }
    said = make_result("stacks", changes, **ALIKE).verdict
    assert said == (
        "With three 3×3 layers in place of one 7×7, the test error is 10.0 points lower (7.7 to "
        "12.3) with equal parameters, not shown to differ (0.0 points, −2.3 to 2.3) with equal "
        "parameters but no ReLU in between, and not shown to differ (0.0 points, −2.3 to 2.3) with "
        "equal width, that is, fewer parameters. With two 3×3 layers in place of one 5×5, the test "
        "error is 10.0 points higher (7.7 to 12.3) with equal parameters, not shown to differ (0.0 "
        "points, −2.3 to 2.3) with equal parameters but no ReLU in between, and not shown to "
        "differ (0.0 points, −2.3 to 2.3) with equal width, that is, fewer parameters. With ReLU "
        "in between, compared with no ReLU, the error is 10.0 points lower (7.7 to 12.3) in a "
        "stack of three and 10.0 points higher (7.7 to 12.3) in a stack of two (95 % intervals). "
        "No network was trained to its end: training errors are 25 %."
    )


def test_verdict_says_how_far_training_went_and_how_rates_were_chosen(make_result):
    result = make_result("stacks", {"one 5×5": {"train_error": [0.1, 0.1, 0.1]}}, **ALIKE)
    assert result.verdict.endswith(
        "No network was trained to its end: training errors are 10 to 25 %."
    )
    tuned = replace(result, arms=[replace(arm, tried={"0.1": 0.3}) for arm in result])
    assert tuned.verdict.endswith(
        "training errors are 10 to 25 %, and each learning rate was chosen in single, shorter "
        "runs, which may explain differences of one or two points."
    )
    for size in ("desk", "full"):
        chosen = experiments.get("stacks").sizes[size]
        assert chosen.tuning_seeds == 1
        assert chosen.tuning
    done = make_result("stacks", {"one 5×5": {"train_error": [0.01, 0.02, 0.01]}}, **ALIKE)
    assert done.verdict.endswith("(95 % intervals).")


def test_figure_names_every_arm(make_result):
    result = make_result("stacks", {}, **ALIKE)
    (axes,) = result.plot().axes
    shown = [label.get_text() for label in axes.get_yticklabels()]
    assert len(shown) == 8
    for arm, label in zip(result, shown, strict=True):
        assert label.startswith(f"{arm.name} (1,000")


@pytest.mark.slow
def test_live_size():
    result = experiments.run("stacks", progress=False)
    for arm in result:
        assert not any(run["diverged"] for run in arm.runs)
        assert arm.interval("test_error").mean < 0.6
    large, equal = result["one 7×7"].runs[0], result["three 3×3, ReLU between"].runs[0]
    assert equal["steps"] == large["steps"]
    assert equal["macs"] == pytest.approx(large["macs"], rel=0.02)
    assert result.verdict.startswith("With three 3×3 layers in place of one 7×7")
