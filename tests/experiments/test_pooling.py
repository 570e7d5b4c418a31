"""Heads on upright and on cluttered clothes: the same layers below; the verdict."""

import pytest
import torch
from torch import nn

from cnnbook import analysis, experiments
from cnnbook.experiments import pooling

EQUAL = {key: [0.3, 0.31, 0.32] for key in ("train_error", "val_error", "test_error")}
GAP, FC, DROPOUT = pooling.HEADS


def test_heads_differ_alone():
    settings = experiments.get("pooling").sizes["desk"].settings
    nets = {}
    for head in pooling.HEADS:
        torch.manual_seed(0)
        nets[head] = pooling.network(head, settings).eval()
    parameters = {head: sum(p.numel() for p in net.parameters()) for head, net in nets.items()}
    assert parameters == {GAP: 135_674, FC: 8_534_266, DROPOUT: 8_534_266}
    macs = [analysis.summary(net, (1, 32, 32)).total_macs for net in nets.values()]
    assert macs[1] == macs[2] == macs[0] + 8_192 * 1024 + 1024 * 10 - 128 * 10
    x = torch.randn(2, 1, 32, 32)
    assert torch.equal(nets[FC](x), nets[DROPOUT](x))  # both have the same first weights
    below = [nn.Sequential(*list(net)[:17])(x) for net in nets.values()]
    assert torch.equal(below[0], below[1])


@pytest.mark.slow
def test_both_forms_have_one_size_and_as_many_images():
    settings = experiments.get("pooling").sizes["live"].settings
    upright, cluttered = (pooling.images(form, settings) for form in pooling.FORMS)
    for a, b in zip(upright, cluttered, strict=True):
        assert a.images.shape == b.images.shape
        assert a.images.shape[1:] == (1, 32, 32)
        assert torch.equal(a.labels.bincount(), b.labels.bincount())


def test_verdict_compares_with_every_fully_connected_head(make_result):
    fitted = {"train_error": [0.0, 0.01, 0.0]}
    changes = {
        f"upright: {FC}": {"test_error": [0.20, 0.22, 0.21]} | fitted,
        f"upright: {DROPOUT}": {"test_error": [0.01, 0.02, 0.03]} | fitted,
        f"cluttered: {FC}": {"test_error": [0.50, 0.52, 0.51]} | fitted,
        f"cluttered: {DROPOUT}": {"test_error": [0.60, 0.61, 0.62]},
    }
    result = make_result("pooling", changes, **EQUAL)
    assert result.verdict == (
        "With 2,000 training images, the test accuracy with global average pooling is, on upright "
        "clothes, 10.0 points lower (7.5 to 12.5) compared with fully connected layers, and 29.0 "
        "points lower (29.0 to 29.0) compared with the same layers with dropout; on cluttered "
        "clothes, 20.0 points higher (17.5 to 22.5) compared with fully connected layers, and 30.0 "
        "points higher (30.0 to 30.0) compared with the same layers with dropout, whose training "
        "error is 31 % after equally many steps (95 % intervals)."
    )
    same = make_result("pooling", {}, **EQUAL).verdict
    assert same.count("not shown to differ (0.0 points, 0.0 to 0.0)") == 4


def test_caption_has_the_parameters_of_both_heads():
    said = experiments.load("pooling").conditions
    assert "Parameters: 0.14 million with pooling, 8.5 million with fully connected layers." in said


def test_figure_names_every_arm(make_result):
    alt = make_result("pooling", {}, **EQUAL).plot().alt
    for form in pooling.FORMS:
        for head in pooling.HEADS:
            assert f"{form}, {head}: training 69.0, test 69.0 %" in alt


@pytest.mark.slow
def test_live_size_shows_that_pooling_is_worth_more_where_position_varies():
    result = experiments.run("pooling", progress=False)
    assert result[f"upright: {FC}"].interval("train_error").mean < 0.2
    gains = [
        result[f"{form}: {FC}"].interval("test_error").mean
        - result[f"{form}: {GAP}"].interval("test_error").mean
        for form in pooling.FORMS
    ]
    assert gains[1] > gains[0] + 0.05
