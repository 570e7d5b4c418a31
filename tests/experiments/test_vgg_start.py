"""VGG from several first weights: what differs between arms, and what is counted."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cnnbook import experiments
from cnnbook.experiments import vgg_start

GUESSES = [0.9, 0.9, 0.9]
LEARNS = [0.2, 0.2, 0.2]


def test_a_sigma_is_that_of_the_papers_width():
    for width in (1 / 8, 1 / 2):
        torch.manual_seed(0)
        settings = {"width": width, "side": 16}
        options = {"configuration": "A", "batch_norm": False, "sigma": 0.03}
        net = vgg_start.network(options, settings)
        layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(layers) == 11
        for layer in layers[1:-1]:
            assert layer.weight.std().item() == pytest.approx(0.03 / width**0.5, rel=0.1)
            assert not layer.bias.any()
        # So a layer's factor, σ·√(fan-in / 2), is that of the paper's 512 channels.
        last = layers[7].weight
        factor = (last.std() * (last[0].numel() / 2) ** 0.5).item()
        assert factor == pytest.approx(0.03 * (512 * 9 / 2) ** 0.5, rel=0.05)


def test_he_arms_keep_the_weights_of_the_model():
    settings = {"width": 1 / 8, "side": 16}
    torch.manual_seed(0)
    net = vgg_start.network({"configuration": "E", "batch_norm": False, "sigma": None}, settings)
    weight = net.block3[2].weight
    assert weight.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_every_network_meets_every_sigma(size):
    settings = experiments.get("vgg_start").sizes[size].settings
    arms = vgg_start.arms(settings)
    assert len({arm.name for arm in arms}) == len(arms)
    for configuration, batch_norm in settings["networks"]:
        met = [
            arm.options["sigma"]
            for arm in arms
            if (arm.options["configuration"], arm.options["batch_norm"])
            == (configuration, batch_norm)
        ]
        assert met == [*settings["sigmas"], *([] if batch_norm else [None])]


@pytest.fixture
def starting(make_result):
    """Return a function that makes a result in which the named arms start."""

    def make(*names, **others):
        learns = dict.fromkeys(("val_error", "test_error", "train_error"), LEARNS)
        guesses = dict.fromkeys(learns, GUESSES)
        return make_result("vgg_start", dict.fromkeys(names, learns) | others, **guesses)

    return make


HE = ("A, He", "D, He", "E, He")


def test_verdict_says_where_all_runs_start_and_counts_the_others(starting):
    names = ("A, σ = 0.03", "A, σ = 0.035", "D, σ = 0.035", "E, σ = 0.035")
    sigmas = experiments.get("vgg_start").sizes["desk"].settings["sigmas"]
    norm = [f"E, batch norm, σ = {sigma:g}" for sigma in sigmas]
    once = {key: [0.9, 0.2, 0.9] for key in ("val_error", "test_error", "train_error")}
    result = starting(*names, *norm, "A, He", "E, He", **{"E, σ = 0.04": once})
    assert result.verdict == (
        "Without batch norm, all runs learn from σ = 0.035 (9 runs); with batch norm, 24 of 24 "
        "runs learn, over all σ. Of the 72 other runs without batch norm, 10 learn; their "
        "success also depends on the learning rate, and few rates were tried."
    )
    for run in result["E, σ = 0.1"].runs:
        run["diverged"] = True
    overflown = "(9 runs); from σ = 0.1, the loss becomes infinite in E; with batch norm, 24 of 24 "
    assert overflown in result.verdict
    assert "over all σ. Of the 69 other runs without batch norm" in result.verdict
    assert "no start from which all runs learn; with batch norm, 0 of 24" in starting().verdict


def test_verdict_and_caption_say_steps_and_how_weights_differ_from_sigma(starting):
    result = starting(*HE)
    for arm in result:
        arm.runs[0]["steps"] = 237
    said = result.verdict
    assert said.startswith(
        "Within 237 steps and without batch norm, all runs learn from He’s weights"
    )
    told = "these networks are 1/8 as wide, and their weights √8 = 2.8 times as large."
    assert told in result.conditions
    assert "1/2 as wide, and their weights √2 = 1.4 times" in (
        replace(result, settings={**result.settings, "width": 0.5}).conditions
    )
    lost = " Where no learning rate led beyond guessing, one of those tried was used. "
    assert lost not in result.conditions
    arms = [replace(arm, tried={"0.01": 0.9}) for arm in result]
    assert f"{told}{lost}" in replace(result, arms=arms).conditions


def test_a_mean_of_runs_that_learned_and_did_not_has_no_interval(starting):
    once = {key: [0.9, 0.2, 0.9] for key in ("val_error", "test_error", "train_error")}
    table = starting("A, He", **{"E, σ = 0.04": once}).table("test_accuracy")
    rows = {row["arm"]: row for row in table}
    assert (rows["E, σ = 0.04"]["low"], rows["E, σ = 0.04"]["high"]) == (None, None)
    assert rows["A, He"]["low"] == pytest.approx(80)


def test_figure_is_a_table_of_networks_and_starts(starting):
    learns = {key: [0.2, 0.9, 0.9] for key in ("val_error", "test_error", "train_error")}
    figure = starting("A, σ = 0.03", *HE, **{"E, σ = 0.04": learns}).plot()
    assert "A (11 layers): σ = 0.01 0 of 3, " in figure.alt
    assert "σ = 0.03 80 %, 3 of 3" in figure.alt
    assert figure.alt.count("He’s weights 80 %, 3 of 3") == 3
    assert "E (19 layers, batch norm): σ = 0.01 0 of 3" in figure.alt
    (axes,) = figure.axes
    sigmas = experiments.get("vgg_start").sizes["desk"].settings["sigmas"]
    assert len(axes.texts) == 4 * len(sigmas) + 3  # batch norm was not tried with He's weights
    titles = [label.get_text() for label in axes.get_xticklabels()]
    assert titles == ["A\n11 layers", "D\n16 layers", "E\n19 layers", "E\n19 layers,\nbatch norm"]
    at = {(text.get_position()): text.get_text() for text in axes.texts}
    assert at[0.48, sigmas.index(0.03) + 0.45] == "80 %, 3 of 3"
    assert at[2.48, sigmas.index(0.04) + 0.45] == "80 %, 1 of 3"  # of the one that learned


@pytest.mark.slow
def test_live_size_starts_a_where_e_does_not():
    result = experiments.run("vgg_start", progress=False)
    for name, started in {"A, σ = 0.025": 1, "E, σ = 0.025": 0, "A, He": 1, "E, He": 1}.items():
        assert len(result[name].learned.runs) == started
    assert "He’s weights (2 runs)" in result.verdict
    result.plot()
