"""Evaluation against a slower, obvious one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training


def test_evaluation_against_a_loop(tiny, sets):
    _, test = sets
    model = tiny().train()
    result = training.evaluate(model, test, batch_size=33, device="cpu")
    assert model.training

    model.eval()
    right, total = 0, 0.0
    for x, y in data.Batches(test, 1, shuffle=False, device="cpu").epoch(0):
        scores = model(x)
        right += int(scores.argmax() == y)
        total += F.cross_entropy(scores, y).item()
    assert result.accuracy == right / 100
    assert result.loss == pytest.approx(total / 100, rel=1e-5)
    assert torch.equal(result.labels, test.labels)
    assert f"{right / 100:.2%}" in repr(result)


def test_evaluation_restores_the_mode_after_an_error(sets):
    model = nn.Sequential(nn.Linear(3, 3)).train()
    with pytest.raises(RuntimeError):
        training.evaluate(model, sets[1])
    assert model.training


def test_evaluation_leaves_frozen_layers_frozen(tiny, sets):
    net = nn.Sequential(nn.BatchNorm2d(1), tiny()).train()
    net[0].eval()
    training.evaluate(net, sets[1], device="cpu")
    assert [net.training, net[0].training, net[1].training] == [True, False, True]


def test_scores_that_are_not_numbers_are_no_predictions():
    images = torch.rand(10, 1, 8, 8)
    images[3, 0, 2, 2], images[7] = float("nan"), float("nan")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    words = (
        r"the scores of 2 of 10 images are not numbers \(nan\), the first those of image 3: check"
    )
    with pytest.raises(FloatingPointError, match=words):
        training.evaluate(net, (images, torch.arange(10)), batch_size=4, device="cpu")
    finite = (images[4:7], torch.tensor([0, 1, 2]))
    assert training.evaluate(net, finite, device="cpu").scores.isfinite().all()


def test_a_score_of_minus_infinity_is_one_that_a_network_may_give():
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    nn.init.constant_(net[1].bias[2:], float("-inf"))
    result = training.evaluate(net, (torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 0, 1])))
    assert result.loss < float("inf")
    assert result.scores[:, 2].isinf().all()
