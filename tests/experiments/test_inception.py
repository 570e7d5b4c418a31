"""Inception and the alternatives: equal MACs, the same stem and classifier; the verdict."""

import pytest
import torch
from torch import nn

from cnnbook import analysis, experiments
from cnnbook.experiments import inception
from cnnbook.experiments.inception import ProjectedInception
from cnnbook.models.googlenet import Inception, NaiveInception

EQUAL = {key: [0.3, 0.31, 0.32] for key in ("train_error", "val_error", "test_error")}


def networks(size):
    settings = experiments.get("inception").sizes[size].settings
    return {
        arm.name: inception.network(arm.options["kind"], arm.options["width"], settings)
        for arm in inception.arms(settings)
    }


@pytest.mark.parametrize(
    ("size", "side", "macs"),
    [("live", 16, 1_372_224), ("desk", 32, 5_484_276), ("full", 32, 15_284_736)],
)
def test_all_kinds_take_equal_macs(size, side, macs):
    assert experiments.get("inception").sizes[size].settings["side"] == side
    for name, net in networks(size).items():
        found = analysis.summary(net, (1, side, side)).total_macs
        assert found == pytest.approx(macs, rel=0.03), name
        if name == "Inception":
            assert found == macs


def test_kinds_differ_in_their_modules_alone():
    nets = networks("desk")
    shapes = {}
    for name, net in nets.items():
        modules = [m for m in net if not isinstance(m, nn.MaxPool2d)]
        assert len(modules) == 1 + 5 + 3  # first layer, modules, pooling, flattening, classifier
        assert [isinstance(m, nn.MaxPool2d) for m in net] == [
            isinstance(m, nn.MaxPool2d) for m in nets["Inception"]
        ]
        shapes[name] = net[0][0].weight.shape
        assert any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert set(shapes.values()) == {torch.Size([16, 1, 3, 3])}
    kinds = {name: type(net[2]) for name, net in nets.items()}
    assert kinds["Inception"] is Inception
    assert kinds["naive"] is NaiveInception
    assert kinds["naive, 1×1 after pooling"] is ProjectedInception
    layers = {
        name: sum(isinstance(m, nn.Conv2d) for m in net.modules()) for name, net in nets.items()
    }
    assert layers == {
        **{"Inception": 31, "naive": 16, "naive, 1×1 after pooling": 21},
        **{"one 3×3": 6, "two 3×3": 11},
    }


def test_pooling_passes_on_as_many_channels_as_its_projection_has():
    nets, counts = networks("desk"), {}
    for name in ("naive", "naive, 1×1 after pooling"):
        modules = [m for m in nets[name] if isinstance(m, NaiveInception | ProjectedInception)]
        own = [m.branch1[0].out_channels + m.branch3[0].out_channels for m in modules]
        own = [n + m.branch5[0].out_channels for n, m in zip(own, modules, strict=True)]
        counts[name] = [m.out_channels - n for n, m in zip(own, modules, strict=True)]
        x = torch.zeros(1, 16, 8, 8)
        assert modules[0](x).shape == (1, modules[0].out_channels, 8, 8)
    assert counts["naive"][0] == 16  # of the first layer
    assert counts["naive"] == sorted(counts["naive"])
    assert counts["naive"][-1] > 5 * counts["naive, 1×1 after pooling"][-1]


@pytest.mark.parametrize("size", ["desk", "full"])
def test_rates_are_tuned_in_whole_runs(size):
    chosen = experiments.get("inception").sizes[size]
    assert (chosen.tuning, chosen.tuning_seeds) == ({}, 2)
    arms = inception.arms(chosen.settings)
    assert {arm.rates for arm in arms} == {(0.03, 0.1, 0.3)}


@pytest.mark.parametrize(
    ("errors", "said"),
    [
        ([0.40, 0.41, 0.42], "10.0 points lower (7.7 to 12.3) compared with naive ones"),
        ([0.20, 0.21, 0.22], "10.0 points higher (7.7 to 12.3) compared with naive ones"),
        (EQUAL["test_error"], "not shown to differ (0.0 points, −2.3 to 2.3) compared with naive"),
    ],
)
def test_verdict_compares_inception_with_each_other_kind(make_result, errors, said):
    result = make_result("inception", {"naive": {"test_error": errors}}, **EQUAL)
    assert result.verdict.startswith("At 0.0 million MACs per image, the test error with ")
    assert said in result.verdict
    assert "−2.3 to 2.3) compared with two 3×3 layers in place of each" in result.verdict
    assert "−2.3 to 2.3) compared with naive ones with a 1×1 convolution" in result.verdict


def test_verdict_names_the_time_and_who_learned_least(make_result):
    changes = {
        "naive": {"train_error": [0.60, 0.61, 0.62]},
        "Inception": {"seconds": [20.0, 21.0, 22.0]},
    }
    told = make_result("inception", changes, **EQUAL).verdict
    least = "which had learned least (training error 61 against 31 %)"
    assert f"compared with naive ones, {least};" in told
    assert told.count("least") == 1
    assert told.endswith("took 3.0 times as long as with one 3×3 layer in place of each.")
    assert ". No network was trained to its end: training errors are 31 to 61 %. MACs" in told
    assert "least" not in make_result("inception", {}, **EQUAL).verdict


def test_verdict_says_that_test_errors_follow_training_errors(make_result):
    changes = {
        name: {key: [error, error + 0.002] for key in EQUAL}
        for name, error in zip(inception.KINDS, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True)
    }
    order = "training errors are 10 to 50 %, in the same order as the test errors"
    for size in ("live", "desk"):
        result = make_result("inception", changes, size=size)
        assert f"{order}." in result.verdict
        result.arms[0].runs[0]["steps"] = 564
        assert f"{order}, so this compares what they learn in 564 steps." in result.verdict
        for run in result.arms[0].runs:
            run["test_error"] = 0.6
        assert "10 to 50 %, so this compares what they learn in 564 steps." in result.verdict
        for run in result.arms[0].runs:
            run["train_error"] = 0.02
        assert "trained to its end" not in result.verdict


def test_figure_names_every_kind_with_its_parameters(make_result):
    alt = make_result("inception", {}, **EQUAL).plot().alt
    for name in inception.KINDS:
        assert f"{name}: 1 k parameters,\n0.0 M MACs, 7 s 31.0 %" in alt


@pytest.mark.slow
def test_live_size_trains_every_kind():
    result = experiments.run("inception", progress=False)
    assert {arm.name for arm in result} == set(inception.KINDS)
    for arm in result:
        assert arm.interval("test_error").mean < 0.8  # of ten classes
