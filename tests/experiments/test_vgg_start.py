"""VGG from several first weights: what differs between arms, and what is counted."""

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

    def make(*names):
        learns = dict.fromkeys(("val_error", "test_error", "train_error"), LEARNS)
        guesses = dict.fromkeys(learns, GUESSES)
        return make_result("vgg_start", dict.fromkeys(names, learns), **guesses)

    return make


HE = ("A, He", "D, He", "E, He")


def test_verdict_counts_the_sigmas_from_which_every_seed_starts(starting):
    names = ("A, σ = 0.03", "A, σ = 0.035", "D, σ = 0.035", "E, σ = 0.035")
    sigmas = experiments.get("vgg_start").sizes["desk"].settings["sigmas"]
    norm = [f"E, batch norm, σ = {sigma:g}" for sigma in sigmas]
    result = starting(*names, *norm, *HE)
    assert result.verdict == (
        "Of 8 starting σ, each with its best learning rate, the deepest network starts from fewer: "
        "A 2 (0.03, 0.035); D 1 (0.035); E 1 (0.035); E with batch norm 8; from He’s weights every "
        "one starts (3 seeds of each)."
    )


def test_verdict_says_so_if_depth_makes_no_difference_or_the_other_one(starting):
    assert "no difference between shallow and deep is shown" in starting().verdict
    assert "from He’s weights all but A, D, E starts" in starting().verdict
    assert "the deepest network starts from more: A 0;" in starting("E, σ = 0.03", *HE).verdict


def test_figure_names_every_network(starting):
    figure = starting("A, σ = 0.03", *HE).plot()
    assert "A (11 layers) 0 of 3, 0 of 3, 0 of 3, 3 of 3, 0 of 3" in figure.alt
    assert "E (19 layers, batch norm) 0 of 3" in figure.alt
    (legend,) = figure.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        *("A (11 layers)", "D (16 layers)", "E (19 layers)", "E (19 layers, batch norm)"),
    ]


@pytest.mark.slow
def test_live_size_starts_a_where_e_does_not():
    result = experiments.run("vgg_start", progress=False)
    for name, started in {"A, σ = 0.025": 1, "E, σ = 0.025": 0, "A, He": 1, "E, He": 1}.items():
        assert vgg_start.count_started(result[name]) == started
    assert "the deepest network starts from fewer: A 2; E" in result.verdict
    assert "one seed of each" in result.verdict
    result.plot()
