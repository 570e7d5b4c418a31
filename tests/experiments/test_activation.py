"""LeNet-5's activation functions: fair arms, starts that suit them, and what is concluded."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from cnnbook import experiments
from cnnbook.experiments import activation

ALIKE = {
    "test_error": [0.10, 0.11, 0.12],
    "val_error": [0.10, 0.11, 0.12],
    "train_error": [0.05, 0.06, 0.05],
}


def test_arms_differ_in_activation_and_start_alone():
    nets = {}
    for size in ("desk", "full"):
        settings = experiments.get("activation").sizes[size].settings
        found = activation.arms(settings)
        assert len(found) == 8
        for arm in found:
            assert len(arm.rates) >= 3
            nets[arm.name] = activation.build(arm.options, 10, 1)
    for name, net in nets.items():
        assert sum(p.numel() for p in net.parameters()) == 61_706, name
        kinds = {type(layer) for layer in net.modules() if not list(layer.children())}
        squash = activation.models.lenet.ACTIVATIONS[
            {label: key for key, label in activation.LABELS.items()}[name.split(",")[0]]
        ]
        assert kinds == {nn.Conv2d, nn.Linear, nn.AvgPool2d, squash}


@pytest.mark.parametrize("name", ["sigmoid", "tanh", "scaled_tanh", "relu"])
def test_own_start_carries_more_of_the_signal_than_torchs(name):
    """Standard deviation of F6's outputs over images of noise."""
    x = torch.randn(64, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    spread = {}
    for start in ("own", "torch"):
        torch.manual_seed(0)
        net = activation.build({"activation": name, "start": start}, 10, 1)
        spread[start] = net.f6(net.forward_features(x).flatten(1)).std(0).mean().item()
    assert spread["own"] > 1.5 * spread["torch"]


def test_starts_are_those_of_the_papers():
    torch.manual_seed(0)
    for name, factor in {"sigmoid": 16, "tanh": 1}.items():
        net = activation.build({"activation": name, "start": "own"}, 10, 1)
        variance = net.c5[0].weight.var().item()
        assert variance == pytest.approx(factor * 2 / (16 * 25 + 120 * 25), rel=0.03)
    net = activation.build({"activation": "scaled_tanh", "start": "own"}, 10, 1)
    assert net.c5[0].weight.var().item() == pytest.approx(1 / 400, rel=0.03)
    net = activation.build({"activation": "relu", "start": "own"}, 10, 1)
    assert net.c5[0].weight.var().item() == pytest.approx(2 / 400, rel=0.03)
    assert all(not p.any() for n, p in net.named_parameters() if n.endswith("bias"))


def test_verdict_tells_shown_from_not_shown_and_from_the_other_way_round(make_result):
    changes = {
        "logistic sigmoid, own start": {"test_error": [0.15, 0.16, 0.17]},
        "scaled tanh, own start": {"test_error": [0.05, 0.06, 0.07]},
        "logistic sigmoid, torch's start": {"test_error": [0.90, 0.90, 0.90]},
    }
    said = make_result("activation", changes, **ALIKE).verdict
    assert said == (
        "With initial weights and a learning rate that suit each function, LeNet-5's test error is "
        "11.0 % with ReLU and, compared with that, 5.0 points higher (2.7 to 7.3) with the "
        "logistic sigmoid, not shown to differ (0.0 points, −2.3 to 2.3) with tanh and 5.0 points "
        "lower (2.7 to 7.3) with the scaled tanh; with the logistic sigmoid from torch's initial "
        "weights, compared with suited ones, it is 74.0 points higher (71.5 to 76.5) (95 % "
        "intervals)."
    )


def test_verdict_says_which_function_has_trained_less_far(make_result):
    one_lost = {"train_error": [0.05, 0.06, 0.9], "test_error": [0.1, 0.11, 0.9]}
    changes = {
        "ReLU, own start": one_lost,
        "logistic sigmoid, own start": {"train_error": [0.12, 0.12, 0.12]},
        "tanh, own start": {"train_error": [0.1, 0.1, 0.1]},
    }
    said = make_result("activation", changes, **ALIKE).verdict
    assert said.count("trained less far") == 1
    assert (
        "with the logistic sigmoid (which has trained less far: training error 12.0 against 5.5 %)"
    ) in said


def test_a_run_that_learned_nothing_is_counted_and_not_averaged(make_result):
    died = [0.10, 0.11, 0.90]
    dead = {"ReLU, own start": {"test_error": died}}
    result = make_result("activation", dead, **ALIKE)
    assert result.verdict.startswith("Of the runs that learned: with initial weights and")
    assert "test error is 10.5 % with ReLU" in result.verdict
    assert result.verdict.endswith(
        "ReLU with suited initial weights ends no better than by guessing in 1 of 3 seeds; means "
        "leave these runs out."
    )
    row = next(row for row in result.table() if row["arm"] == "ReLU, own start")
    assert row["test_error"] == pytest.approx(10.5)
    assert row["seeds"] == "2 of 3"
    assert "ReLU (1 of 3 lost) ends at" in result.plot().alt


def test_an_arm_of_which_hardly_a_run_learned_is_averaged_as_a_whole(make_result):
    died = [0.10, 0.90, 0.90]
    dead = {"ReLU, own start": {"test_error": died}}
    arm = make_result("activation", dead, **ALIKE)["ReLU, own start"]
    assert len(arm.learned.runs) == 1
    assert arm.compared is arm


def test_runs_that_hardly_differ_are_averaged_together(make_result):
    poor = {"ReLU, own start": {"test_error": [0.78, 0.79, 0.81]}}
    arm = make_result("activation", poor, **ALIKE)["ReLU, own start"]
    assert len(arm.learned.runs) == 2
    assert arm.compared is arm


def test_figure_names_every_arm(make_result):
    figure = make_result("activation", {}, **ALIKE).plot()
    for name in ("logistic sigmoid", "tanh", "scaled tanh", "ReLU"):
        assert figure.alt.count(f"{name} ends at") >= 2
    titles = ["suited initial weights", "torch's initial weights"]
    titles += [f"{title}, the low end" for title in titles]
    assert [axes.get_title() for axes in figure.axes] == titles
    low, high = figure.axes[2].get_ylim()
    assert low < 10 < 12 < high < 60  # the curves begin at 60 %


def test_verdict_says_which_rate_was_chosen_at_chance(make_result):
    result = make_result("activation", {}, **ALIKE)
    name = "logistic sigmoid, torch's start"
    tried = {name: {"0.1": 0.9, "0.3": 0.892}, "tanh, own start": {"0.1": 0.9, "0.3": 0.5}}
    arms = [replace(arm, tried=tried.get(arm.name, {})) for arm in result]
    assert [arm.name for arm in arms if arm.chosen_at_chance] == [name]
    said = replace(result, arms=arms).verdict
    assert ", at a learning rate that was chosen in runs that had learned nothing yet" in said
    assert "chosen in runs" not in result.verdict


@pytest.mark.slow
def test_live_size():
    result = experiments.run("activation", progress=False)
    final = {arm.name: arm.interval("test_error").mean for arm in result}
    own = {name: error for name, error in final.items() if name.endswith("own start")}
    assert len(own) == 4
    assert max(own.values()) < 0.5
    assert final["logistic sigmoid, torch's start"] > max(own.values()) + 0.2
    assert "points higher" in result.verdict
