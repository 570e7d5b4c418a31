"""Auxiliary classifiers: equal networks and weights, other losses; the verdict."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from cnnbook import experiments, models
from cnnbook.experiments import auxiliary

EQUAL = {key: [0.3, 0.31, 0.32] for key in ("train_error", "val_error", "test_error")}
EQUAL["first_gradient"] = [0.1, 0.1, 0.1]
GUESSES = {key: [0.9, 0.9, 0.9] for key in ("train_error", "val_error", "test_error")}


def test_arms_of_one_start_train_the_same_network_with_other_losses(monkeypatch):
    settings = {**experiments.get("auxiliary").sizes["desk"].settings, "data": "fashion-mini"}
    settings |= {"images": 100, "val_images": 100, "weak": 0.4}
    asked = []

    def learn(net, *_, **how):
        asked.append((net, how["loss"]))
        return {}

    monkeypatch.setattr(auxiliary, "learn", learn)
    gradients = []
    for arm in auxiliary.arms(settings):
        torch.manual_seed(0)
        gradients.append(auxiliary.train(arm.options, settings, 0.1, 0)["first_gradient"])
    (a, plain), (b, full) = asked[:2]
    for ours, theirs in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert (plain, full) == (auxiliary.main_loss, models.googlenet_loss)
    assert gradients[1] > 10 * gradients[0]  # weak start
    scores = torch.randn(3, 4, 10)
    labels = torch.arange(4)
    output = models.GoogLeNetOutput(*scores)
    assert auxiliary.main_loss(output, labels) == F.cross_entropy(scores[0], labels)
    assert auxiliary.main_loss(scores[1], labels) == F.cross_entropy(scores[1], labels)


def test_weak_weights_are_a_fraction_of_hes():
    settings = {"width": 0.125, "weak": 0.4}
    nets = []
    for start in auxiliary.STARTS:
        torch.manual_seed(0)
        nets.append(auxiliary.network(start, settings, 14))
    for weak, he in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.allclose(weak, 0.4 * he)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in nets[0].modules())


START = (
    "start, auxiliary classifiers make the first layer’s gradient {} as large before the first "
    "step; {}the final test accuracy with them is"
)

LEARN = "{} of 3 runs learn without them, and {} with them; over all runs, "


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {
                arm: {**GUESSES, "first_gradient": [0.001, 0.0001, 0.01]}
                for arm in ("weak start, without", auxiliary.CONTROL)
            },
            "From a weak "
            f"{START.format('100 times', LEARN.format(0, 3))} 59.0 points higher (56.5 to 61.5). "
            f"From He’s {START.format('1.0 times', '')} not shown to differ (0.0 points, "
            "0.0 to 0.0) (95 % intervals).",
        ),
        (
            {"weak start, with": GUESSES},
            "From a weak "
            f"{START.format('1.0 times', LEARN.format(3, 0))} 59.0 points lower (56.5 to 61.5). "
            f"From He’s {START.format('1.0 times', '')} not shown to differ (0.0 points, "
            "0.0 to 0.0) (95 % intervals).",
        ),
    ],
)
def test_verdict_counts_what_learns(make_result, changes, said):
    assert make_result("auxiliary", changes, **EQUAL).verdict == said
    assert make_result("auxiliary", {}, **EQUAL).verdict.count("not shown to differ") == 2


def test_verdict_names_rates_where_the_control_is_compared_and_says_that_errors_fall(make_result):
    one_lost = {key: [0.3, 0.31, 0.9] for key in ("train_error", "val_error", "test_error")}
    changes = {"weak start, without": GUESSES, auxiliary.CONTROL: one_lost}
    result = make_result("auxiliary", changes, **EQUAL)
    arms = [replace(arm, lr=0.03) if arm.name == auxiliary.CONTROL else arm for arm in result]
    result = replace(result, arms=arms)
    told = (
        "2 of 3 runs learn without them (at a learning rate of 0.03; none at 0.1{}), and 3 with "
        "them; over all runs, the final test"
    )
    assert told.format("") in result.verdict
    arms[0] = replace(arms[0], tried={"0.1": 0.8})
    assert told.format(", which short runs chose") in result.verdict
    assert "fall" not in result.verdict
    for arm in result:
        for run in arm.runs:
            run["curves"]["val_error"] = [0.6, 0.4, 0.3]
    assert result.verdict.count(", while validation errors still fall") == 2
    result["weak start, with"].runs[0]["curves"]["val_error"] = [0.9]  # diverged at once
    assert result.verdict.count(", while validation errors still fall") == 1


def test_caption_says_how_weak_the_start_is(make_result):
    said = make_result("auxiliary", {}, **EQUAL).conditions
    assert "Weak start: 0.87 times He’s weights. With auxiliary classifiers, the loss is" in said
    assert "Thin, dashed: a run that is left out" in said


def test_figure_names_every_arm(make_result):
    figure = make_result("auxiliary", {"weak start, without": GUESSES}, **EQUAL).plot()
    assert [axes.get_title() for axes in figure.axes] == ["weak start", "He’s start"]
    assert figure.alt == (
        "Validation error by epoch. Weak start: without, rate 0.1, none learned ends at 90.0 %; "
        "with, rate 0.1 ends at 31.0 %; without, rate 0.03 ends at 31.0 %. He’s start: "
        "without, rate 0.1 ends at 31.0 %; with, rate 0.1 ends at 31.0 %."
    )
    colors = [[line.get_color() for line in axes.get_legend().get_lines()] for axes in figure.axes]
    assert colors[1] == colors[0][:2]  # without and with look alike in both panels


@pytest.mark.slow
def test_live_size_shows_the_larger_gradient():
    result = experiments.run("auxiliary", progress=False)
    without, with_ = (result[f"weak start, {which}"] for which in ("without", "with"))
    for a, b in zip(without.values("first_gradient"), with_.values("first_gradient"), strict=True):
        assert b > 2 * a > 0
    assert "times as large before the first step" in result.verdict
    result.plot()


def test_the_verdict_takes_the_better_of_two_learning_rates(make_result):
    lost = make_result("auxiliary", {"weak start, without": GUESSES}, **EQUAL)
    assert auxiliary.best_without(lost, "weak").name == auxiliary.CONTROL
    assert lost.verdict.count("not shown to differ") == 2
    kept = make_result("auxiliary", {auxiliary.CONTROL: GUESSES}, **EQUAL)
    assert auxiliary.best_without(kept, "weak").name == "weak start, without"
    assert auxiliary.best_without(kept, "He").name == "He start, without"
