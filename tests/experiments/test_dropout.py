"""Dropout: the arms differ in it alone, each is judged at its best length; its verdict."""

import pytest
import torch
from torch import nn

from cnnbook import experiments
from cnnbook.experiments import dropout

ALIKE = {
    "test_error": [0.20, 0.21, 0.22],
    "val_error": [0.20, 0.21, 0.22],
    "train_error": [0.0, 0.01, 0.02],
}


def test_arms_differ_in_dropout_and_length_alone():
    settings = experiments.get("dropout").sizes["desk"].settings
    found = dropout.arms(settings)
    assert [arm.name for arm in found] == [
        f"{kind}, {length}×" for kind in ("without dropout", "with dropout") for length in (1, 2, 4)
    ]
    nets = []
    for p in (0, 0.5):
        torch.manual_seed(0)
        nets.append(dropout.build({"dropout": p}, 10, 1, 28, 1 / 8, 1_024))
    for a, b in zip(*(net.parameters() for net in nets), strict=True):
        assert torch.equal(a, b)
    drops = [[m.p for m in net.modules() if isinstance(m, nn.Dropout)] for net in nets]
    assert drops == [[0, 0], [0.5, 0.5]]
    x = torch.randn(2, 1, 28, 28)
    assert torch.allclose(nets[0].eval()(x), nets[1].eval()(x))


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_fully_connected_layers_hold_most_parameters_as_in_the_paper(size):
    settings = experiments.get("dropout").sizes[size].settings
    net = dropout.build({"dropout": 0}, 10, 1, 28, settings["width"], settings["fc"])
    counts = {name: p.numel() for name, p in net.named_parameters()}
    share = sum(n for name, n in counts.items() if name.startswith("fc")) / sum(counts.values())
    assert 0.9 < share < 0.99  # the paper's: 0.96


def test_a_length_is_that_many_times_the_steps_of_the_shortest(monkeypatch):
    asked = {}
    monkeypatch.setattr(dropout, "learn", lambda net, *parts, **options: options)
    settings = {**experiments.get("dropout").sizes["desk"].settings, "data": "fashion-mini"}
    settings |= {"images": 100, "val_images": 100}
    for length in (1, 2, 4):
        found = dropout.train({"dropout": 0.5, "length": length}, settings, 0.1, 3)
        asked[length] = found["epochs"] * found["images_per_epoch"]
        assert found["seed"] == 3
    assert asked == {1: 24_000, 2: 48_000, 4: 96_000}


def test_verdict_compares_each_at_its_best_length_on_validation_images(make_result):
    changes = {
        "without dropout, 1×": {"val_error": [0.19] * 3, "test_error": [0.19, 0.20, 0.21]},
        # The smallest test error does not count, as its validation error is not the smallest.
        "without dropout, 2×": {"val_error": [0.25] * 3, "test_error": [0.01, 0.02, 0.03]},
        "with dropout, 1×": {"test_error": [0.30, 0.31, 0.32]},
        "with dropout, 4×": {
            "val_error": [0.15] * 3,
            "test_error": [0.14, 0.15, 0.16],
            "train_error": [0.05, 0.06, 0.07],
        },
    }
    said = make_result("dropout", changes, **ALIKE).verdict
    assert said == (
        "When each is trained for the length that suits it best on validation images (1× without "
        "dropout; 4× with it, the longest tried), AlexNet's test error is 20.0 % without dropout "
        "and 15.0 % with it, 5.0 points lower (2.7 to 7.3); the training errors are 1.0 and 6.0 %. "
        "After the shortest training, the test error with dropout is 11.0 points higher (8.7 to "
        "13.3) (95 % intervals)."
    )
    said = make_result("dropout", {}, **ALIKE).verdict
    assert "21.0 % with it, not shown to differ (0.0 points, −2.3 to 2.3)" in said


def test_caption_says_how_long_the_shortest_training_is(make_result):
    result = make_result("dropout", {}, **ALIKE)
    for arm in result:
        for run in arm.runs:
            run["steps"] = 376 * arm.options["length"]
    assert "A length of 1× is 376 steps." in result.conditions


def test_figure_names_every_arm(make_result):
    figure = make_result("dropout", {}, **ALIKE).plot()
    left, right = figure.axes
    legends = [[t.get_text() for t in axes.get_legend().get_texts()] for axes in (left, right)]
    assert legends[0] == ["without dropout", "with dropout"]
    assert legends[1] == [
        *("validation, without dropout", "training, without dropout"),
        *("validation, with dropout", "training, while units are dropped"),
    ]
    assert figure.stacks  # on a phone, neither is cut off
    assert [label.get_text() for label in left.get_xticklabels()] == ["1×", "2×", "4×"]


@pytest.mark.slow
def test_live_size():
    result = experiments.run("dropout", progress=False)
    lengths = result.settings["lengths"]
    errors = {
        (kind, length, key): result[f"{kind}, {length}×"].interval(key).mean
        for kind in dropout.KINDS
        for length in lengths
        for key in ("train_error", "test_error")
    }
    longest = max(lengths)
    # Without dropout, it knows its training images by heart, and little more.
    assert errors["without dropout", longest, "train_error"] < 0.03
    assert 0.1 < errors["without dropout", longest, "test_error"] < 0.4
    for length in lengths:
        with_dropout = errors["with dropout", length, "train_error"]
        assert with_dropout > errors["without dropout", length, "train_error"]
    assert "with dropout" in result.verdict
