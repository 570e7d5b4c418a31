"""The race of ReLU and tanh: alike but for the activation, how it ends, and what is concluded."""

import warnings
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from cnnbook import experiments
from cnnbook.experiments import relu_race

ALIKE = {
    "test_error": [0.10, 0.11, 0.12],
    "val_error": [0.2, 0.2, 0.2],
    "train_error": [0.15, 0.15, 0.15],
    "reached": [True, True, True],
    "epochs_to_level": [5.0, 5.2, 5.4],
    "seconds_per_epoch": [2.0, 2.0, 2.0],
}


def build(activation, setup, w=16, shape=(1, 28, 28), std=(0.35,)):
    torch.manual_seed(0)
    return relu_race.build({"activation": activation, "setup": setup}, 10, shape, std, w)


@pytest.mark.parametrize("setup", relu_race.SETUPS)
def test_only_the_activation_differs_within_a_setup(setup):
    relu, tanh = build("ReLU", setup), build("tanh", setup)
    assert len(relu) == len(tanh)
    for a, b in zip(relu, tanh, strict=True):
        if isinstance(a, nn.ReLU):
            assert isinstance(b, nn.Tanh)
        else:
            assert repr(a) == repr(b)
    if setup != "start scaled":  # even their first weights are the same
        for a, b in zip(relu.parameters(), tanh.parameters(), strict=True):
            assert torch.equal(a, b)
    assert sum(p.numel() for p in relu.parameters()) == sum(p.numel() for p in tanh.parameters())


def test_network_has_four_weighted_layers_and_the_width_of_cuda_convnet():
    net = build("ReLU", "as in 2012", 32, (3, 32, 32), (0.2, 0.2, 0.2))
    weighted = [x for x in net if isinstance(x, nn.Conv2d | nn.Linear)]
    assert [tuple(x.weight.shape) for x in weighted] == [
        (32, 3, 5, 5),
        (32, 32, 5, 5),
        (64, 32, 5, 5),
        (10, 1024),
    ]
    for layer in weighted:
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.05)
        assert not layer.bias.any()


def test_setups_change_one_thing_at_a_time():
    raw, divided, scaled = (build("tanh", setup) for setup in relu_race.SETUPS)
    for a, b in zip(raw.parameters(), divided.parameters(), strict=True):
        assert torch.equal(a, b)
    x = torch.randn(4, 1, 28, 28)
    assert torch.allclose(raw[0](x), x * 255 * 0.35)
    assert repr(divided) == repr(scaled)
    assert scaled[0].weight.std() > 5 * divided[0].weight.std()


def test_in_2012_the_first_layer_of_tanh_is_flat_and_that_of_relu_is_not():
    train, _ = experiments.images.data.load("fashion-mini")
    x, _ = next(experiments.images.data.Batches(train, 64, device="cpu").epoch(0))
    flat = {}
    for setup in relu_race.SETUPS:
        first = build("tanh", setup, std=train.std)[: 3 if setup == "as in 2012" else 2]
        flat[setup] = (1 - first(x).square() < 0.1).float().mean().item()
    assert flat["as in 2012"] > 0.4
    assert flat["pixels scaled"] < 0.01
    assert flat["start scaled"] < 0.4


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.9, 0.5, 0.3, 0.1], 3.25),
        ([0.9, 0.5, 0.25], 3.0),
        ([0.2, 0.1], 1.0),
        ([0.9, 0.8], None),
        ([], None),
    ],
)
def test_when_the_level_is_reached(errors, expected):
    found = relu_race.epochs_to(errors, 0.25)
    assert found == (None if expected is None else pytest.approx(expected))


def test_level_is_the_papers_on_cifar10():
    settings = experiments.get("relu_race").sizes["desk"].settings
    assert relu_race.level_of(settings) == settings["level"] == 0.15
    assert relu_race.level_of({**settings, "data": "cifar10"}) == 0.25


def test_rate_is_chosen_by_the_slower_of_the_attempts(monkeypatch):
    scores = {7: 0.2, 8: 1.6, 9: 0.3}
    monkeypatch.setattr(relu_race, "race", lambda o, s, lr, seed: {"val_error": scores[seed]})
    assert relu_race.train({}, {"attempts": 2}, 0.1, 7) == {"val_error": 1.6}
    assert relu_race.train({}, {"attempts": 2}, 0.1, 8) == {"val_error": 1.6}
    assert relu_race.train({}, {}, 0.1, 7) == {"val_error": 0.2}
    del scores[9]  # nothing is trained once a training has not arrived
    assert relu_race.train({}, {"attempts": 2}, 0.1, 8) == {"val_error": 1.6}


def test_verdict_tells_shown_from_not_shown_from_faster_and_from_late(make_result):
    changes = {
        "tanh, as in 2012": {"epochs_to_level": [20.0, 21.0, 22.0]},
        "tanh, start scaled": {"epochs_to_level": [2.4, 2.5, 2.6]},
    }
    said = make_result("relu_race", changes, **ALIKE).verdict
    assert said == (
        "To reach a training error of 15 %: with pixels and initial weights as in 2012, ReLU takes "
        "5.2 epochs and tanh takes 21.0 epochs, 4.0 times as many (3.6 to 4.5; 4.0 times the "
        "seconds); with scaled pixels and the initial weights of 2012, ReLU takes 5.2 epochs and "
        "tanh takes 5.2 epochs, 1.0 times as many (0.9 to 1.1; 1.0 times the seconds): no "
        "difference is shown; with scaled pixels and initial weights that suit each function, ReLU "
        "takes 5.2 epochs and tanh takes 2.5 epochs, 0.5 times as many (0.4 to 0.5; 0.5 times the "
        "seconds): tanh is faster (95 % intervals)."
    )
    late = {"tanh, as in 2012": {"reached": [True, False, False]}}
    said = make_result("relu_race", late, **ALIKE).verdict
    assert "ReLU takes 5.2 epochs and 2 of 3 runs with tanh need more than 30;" in said


def test_caption_says_how_rates_were_chosen(make_result):
    result = make_result("relu_race", {}, **ALIKE)
    assert "learning rate 0.1, not tuned" in result.conditions
    tuned = replace(result, arms=[replace(arm, tried={"0.1": 0.3}) for arm in result])
    assert "(0.1): of the rates tried, about a factor of three apart, the" in tuned.conditions
    assert "slower of two runs reaches the gray line soonest; 3 seeds" in tuned.conditions
    assert "validation" not in tuned.conditions
    spec = experiments.get("relu_race")
    for size in ("desk", "full"):
        assert spec.sizes[size].tuning == {"attempts": 2}
        for rates in (
            r for each in spec.sizes[size].settings["rates"].values() for r in each.values()
        ):
            assert all(2.9 < b / a < 3.4 for a, b in pairwise(rates))


def test_a_number_far_from_the_curves_has_its_place(make_result):
    far = {"tanh, as in 2012": {"epochs_to_level": [200.0, 200.0, 200.0]}}
    figure = make_result("relu_race", far, **ALIKE).plot()
    assert figure.axes[0].get_xlim()[1] > 200
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, where nothing is left for the axes
        figure.png()


def test_figure_names_every_arm(make_result):
    figure = make_result("relu_race", {}, **ALIKE).plot()
    assert [axes.get_title() for axes in figure.axes] == [
        "as in 2012",
        "pixels scaled",
        "weights scaled too",
    ]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_legend().get_texts()] == ["ReLU", "tanh"]


@pytest.mark.slow
def test_live_size():
    result = experiments.run("relu_race", progress=False)
    assert all(run["reached"] for run in result["ReLU, as in 2012"].runs)
    assert all(run["reached"] for arm in result for run in arm.runs if "start" in arm.name)
    slow = result["tanh, as in 2012"].values("epochs_to_level")
    assert min(slow) > max(result["ReLU, as in 2012"].values("epochs_to_level"))
    for arm in result:
        for run in arm.runs:
            errors = run["curves"]["train_error"]
            assert all(error > 0.25 for error in errors[:-1])  # and there it ends
