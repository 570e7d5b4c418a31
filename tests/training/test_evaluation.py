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
