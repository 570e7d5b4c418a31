"""Frozen first layers: where their filters come from, and what is concluded."""

import pytest
import torch

from cnnbook import data, experiments
from cnnbook.experiments import first_layer
from cnnbook.experiments.first_layer import BLURRED, FEW, MANY, NOISE, PHOTO, RANDOM

KEYS = ("test_error", "val_error", "train_error")


def errors(middle):
    return [middle - 0.01, middle, middle + 0.01]


ALIKE = {key: errors(0.31) for key in KEYS}


def test_given_filters_are_frozen_and_nothing_else_is():
    filters = torch.randn(4, 81)
    net = first_layer.build(filters, 4, 9, 16, 10)
    frozen = [name for name, p in net.named_parameters() if not p.requires_grad]
    assert frozen == ["0.weight"]
    assert torch.equal(net[0].weight.flatten(1), filters)
    free = first_layer.build(None, 4, 9, 16, 10)
    assert all(p.requires_grad for p in free.parameters())
    assert [p.shape for p in net.parameters()] == [p.shape for p in free.parameters()]


@pytest.mark.slow
def test_training_leaves_the_frozen_layer_as_it_is(monkeypatch):
    nets = []

    def keep(net, *parts, **options):
        nets.append((net, net[0].weight.clone()))
        return experiments.learning.learn(net, *parts, **options)

    monkeypatch.setattr(first_layer, "learn", keep)
    settings = {**experiments.get("first_layer").sizes["live"].settings}
    settings |= {"sets": {"upright": "digits"}, "labels": {"upright": 100}, "many": 200}
    settings |= {"val_images": 100, "test_images": 50, "images_per_epoch": 128}
    for source, changes in ((PHOTO, [False]), (FEW, [True]), (MANY, [True, False])):
        nets.clear()
        options = {"set": "upright", "source": source}
        first_layer.train(options, settings, 0.1, 0)
        assert [not torch.equal(net[0].weight.cpu(), old) for net, old in nets] == changes


@pytest.mark.slow
def test_filters_of_the_photograph_are_smoother_than_those_of_noise():
    rough = {}
    for source in (PHOTO, NOISE):
        filters = first_layer.learn_filters(first_layer._image(source), 4, 9, seed=0)
        assert torch.allclose(filters.norm(dim=1), torch.ones(4), atol=1e-5)
        rough[source] = filters.view(4, 9, 9).diff(dim=2).square().sum()
    assert rough[PHOTO] < rough[NOISE] / 2


def test_noise_has_the_brightness_and_contrast_of_the_photograph():
    photograph, noise = (first_layer._image(source) for source in (PHOTO, NOISE))
    assert photograph.shape == noise.shape == data.photo("cat").shape[1:]
    assert noise.mean().item() == pytest.approx(photograph.mean().item(), rel=0.01)
    assert noise.std().item() == pytest.approx(photograph.std().item(), rel=0.01)


def test_blurred_filters_are_a_blur_of_random_ones():
    one = torch.zeros(1, 81)
    one[0, 40] = 1
    row = torch.tensor([1.0, 4, 6, 4, 1])
    middle = first_layer.blurred(one, 9).view(9, 9)[2:7, 2:7]
    wanted = torch.outer(row, row)
    assert torch.allclose(middle, wanted / wanted.norm(), atol=1e-6)


@pytest.mark.parametrize("size", ["live", "desk", "full"])
def test_arms_differ_in_source_and_set_only(size):
    spec = experiments.get("first_layer")
    arms = spec.arms(spec.sizes[size].settings)
    assert len({arm.name for arm in arms}) == len(arms) == (3 if size == "live" else 12)
    assert all(arm.options.keys() == {"set", "source"} for arm in arms)
    assert {arm.rates for arm in arms} == {arms[0].rates}


def test_verdict_tells_higher_lower_and_open(make_result):
    result = make_result(
        "first_layer",
        {
            f"cluttered: {RANDOM}": {**ALIKE, "test_error": errors(0.41)[::-1]},
            f"cluttered: {MANY}": {**ALIKE, "test_error": errors(0.21)[::-1]},
        },
        **ALIKE,
    )
    assert (
        "With a frozen first layer learned from one photograph, the accuracy is, on cluttered "
        "clothes with 2,000 labels, higher than with random filters (+10.0 (5.0 to 15.0)), and "
        "lower than with filters learned from many labels (−10.0 (−15.0 to −5.0)), and not shown "
        "to differ from that with blurred random filters (0.0 (0.0 to 0.0)), filters from noise "
        "(0.0 (0.0 to 0.0)) or unfrozen filters learned from"
    ) in result.verdict
    assert result.verdict.startswith("With a frozen")  # those from a photograph are better
    upright = result.verdict.split("; ")[1]
    assert "higher" not in upright
    assert "lower" not in upright


def test_verdict_begins_with_what_is_not_shown(make_result):
    said = make_result("first_layer", {}, **ALIKE).verdict
    start = "Filters from one photograph are not shown to be better than others. With a frozen"
    assert said.startswith(start)


def test_caption_says_how_many_filters_and_labels(make_result):
    told = "4 filters of 9×9 pixels; many labels: {}; from the same few labels: the first layer is"
    for size, many in (("desk", "10,000"), ("full", "40,000")):
        said = make_result("first_layer", {}, size=size, **ALIKE).conditions
        assert f"{told.format(many)} trained, not frozen. Large dot" in said
    live = make_result("first_layer", {}, size="live", **ALIKE).conditions
    assert "4 filters of 9×9 pixels. Large dot" in live


@pytest.mark.slow
def test_figure_names_every_source_and_set(make_result):
    text = str(make_result("first_layer", {}, **ALIKE).plot())
    for name in (RANDOM, BLURRED, NOISE, PHOTO, FEW, MANY, "cluttered clothes", "upright clothes"):
        assert name in text


@pytest.mark.slow
def test_live():
    result = experiments.run("first_layer", progress=False)
    assert {arm.runs[0]["steps"] for arm in result} == {250}
    error = {arm.options["source"]: sum(arm.values("test_error")) / 3 for arm in result}
    assert error[PHOTO] < error[RANDOM] < 0.8
