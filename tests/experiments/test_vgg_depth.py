"""VGG's configurations: nothing but depth differs; the verdict."""

from dataclasses import replace

import pytest
import torch

from cnnbook import experiments
from cnnbook.experiments import vgg_depth

EQUAL = {key: [0.3, 0.31, 0.32] for key in ("train_error", "val_error", "test_error")}


def test_configurations_differ_in_their_convolutions_alone():
    settings = experiments.get("vgg_depth").sizes["full"].settings
    assert settings["width"] == 0.5
    counts = {}
    for arm in vgg_depth.arms(settings):
        with torch.device("meta"):
            net = vgg_depth.network(arm.options["configuration"], settings)
        counts[arm.name] = sum(p.numel() for p in net.parameters())
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in net.modules())
        assert [net.fc6[0].in_features, net.fc7[0].in_features] == [256, 2048]
    # Between A and D: one convolution each of 32, 64, 128, 256 and 256 channels.
    between = sum(n * n * 9 + n for n in (32, 64, 128, 256, 256))
    assert counts["D"] - counts["A"] == between
    assert counts["E"] - counts["D"] == sum(n * n * 9 + n for n in (128, 256, 256))


def test_all_layers_start_from_hes_weights():
    torch.manual_seed(0)
    net = vgg_depth.network("A", {"width": 0.25, "side": 20})
    layers = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear)]
    assert len(layers) == 11
    for layer in layers:
        factor = layer.weight.std().item() * (layer.weight[0].numel() / 2) ** 0.5
        assert factor == pytest.approx(1, rel=0.25 if layer is layers[0] else 0.1)


@pytest.mark.parametrize("size", ["desk", "full"])
def test_rates_are_tuned_in_runs_of_full_length(size):
    chosen = experiments.get("vgg_depth").sizes[size]
    assert (chosen.tuning, chosen.tuning_seeds) == ({}, 2)
    assert len({arm.rates for arm in vgg_depth.arms(chosen.settings)}) == 1


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([0.40, 0.41, 0.42], "10.0 points higher (7.7 to 12.3)"),
        ([0.20, 0.21, 0.22], "10.0 points lower (7.7 to 12.3)"),
        (EQUAL["test_error"], "not shown to differ (0.0 points, −2.3 to 2.3)"),
    ],
)
def test_verdict_compares_the_deepest_with_the_shallowest(make_result, errors, said):
    result = make_result("vgg_depth", {"E": {"test_error": errors}}, **EQUAL)
    assert result.verdict == (
        f"With the 19 layers of E instead of the 11 of A, the test error is {said}, and that on "
        "training images not shown to differ (0.0 points, −2.3 to 2.3) (95 % intervals). The "
        "learning rate of E is 0.1, and that of A 0.1. No network was trained to its end: training "
        "errors are 31 %."
    )


def test_an_effect_that_follows_the_learning_rates_is_not_called_one_of_depth(make_result):
    worse = {"test_error": [0.40, 0.41, 0.42]}
    result = make_result("vgg_depth", {"B": worse, "E": worse}, **EQUAL)
    rates = dict(zip("ABCDE", (0.1, 0.01, 0.1, 0.1, 0.01), strict=True))
    ranked = replace(result, arms=[replace(arm, lr=rates[arm.name]) for arm in result])
    assert ranked.verdict == (
        "The effect of depth cannot be told from that of the learning rates, which were chosen for "
        "each network and rank the test errors: with 0.1, A, C and D have 31.0 to 31.0 %; with "
        "0.01, B and E have 41.0 to 41.0 %."
    )
    mixed = replace(
        ranked, arms=[*ranked.arms[:2], replace(ranked.arms[2], lr=0.01), *ranked.arms[3:]]
    )
    assert mixed.verdict.startswith("With the 19 layers of E")


def test_figure_shows_both_errors_of_every_configuration(make_result):
    figure = make_result("vgg_depth", {"E": {"train_error": [0.4, 0.41, 0.42]}}, **EQUAL).plot()
    for name, layers in zip("ABCDE", (11, 13, 16, 16, 19), strict=True):
        assert f"{name} ({layers} layers) 31.0 %" in figure.alt
    assert "training images A (11 layers) 31.0 %" in figure.alt
    assert figure.alt.endswith("E (19 layers) 41.0 %.")
    (axes,) = figure.axes
    titles = [label.get_text() for label in axes.get_xticklabels()]
    assert titles[0] == "A\n11 layers"
    seeds = sorted(y for line in axes.lines if line.get_marker() == "." for y in line.get_ydata())
    assert seeds == pytest.approx([*sorted(9 * [30.0, 31.0, 32.0]), 40.0, 41.0, 42.0])


@pytest.mark.slow
def test_live_size_trains_both_ends():
    result = experiments.run("vgg_depth", progress=False)
    assert [arm.name for arm in result] == ["A", "E"]
    assert min(result["A"].values("test_error")) < 0.6  # of ten classes
