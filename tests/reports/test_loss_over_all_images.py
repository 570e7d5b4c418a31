"""The loss of an evaluation is that over all images at once, whatever the batch size."""

import json
import math
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training

WEIGHT = torch.tensor([0.1] * 5 + [10.0] * 5)


def sorted_digits():
    """Test images in the order of their classes, so that batches differ."""
    test = data.load("digits")[1]
    return test[torch.argsort(test.labels, stable=True)]


@pytest.fixture(scope="module")
def test_set():
    return sorted_digits()


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


LOSSES = {
    "default": F.cross_entropy,
    "weights": nn.CrossEntropyLoss(weight=WEIGHT),
    "weights and smoothing": nn.CrossEntropyLoss(weight=WEIGHT, label_smoothing=0.2),
    "ignored class": nn.CrossEntropyLoss(ignore_index=3),
    "ignored and weights": nn.CrossEntropyLoss(weight=WEIGHT, ignore_index=7),
    "partial": partial(F.cross_entropy, weight=WEIGHT),
    "function": lambda o, y: F.cross_entropy(o, y, weight=WEIGHT),
    "nll": lambda o, y: F.nll_loss(o.log_softmax(1), y, weight=WEIGHT),
    "mean squared error": lambda o, y: F.mse_loss(o, F.one_hot(y, 10).float()),
    "not a mean of images": lambda o, y: (o.softmax(1).mean(0) ** 2).sum(),
    "multi margin": nn.MultiMarginLoss(weight=WEIGHT),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
def test_the_batch_size_does_not_matter(net, test_set, loss):
    x, y = next(data.Batches(test_set, 1000, shuffle=False, device="cpu").epoch(0))
    with torch.no_grad():
        expected = loss(net(x), y).item()
    for size in (7, 37, 100, 1000):
        got = training.evaluate(net, test_set, loss=loss, batch_size=size, device="cpu").loss
        assert got == pytest.approx(expected, rel=1e-5), size


def test_validation_is_the_same(net, test_set):
    """The batches of a validation have 1000 images: here is a source of smaller ones."""
    source = data.Batches(test_set, 37, shuffle=False, device="cpu")
    loss = nn.CrossEntropyLoss(weight=WEIGHT)
    options = {"epochs": 1, "device": "cpu", "progress": False, "loss": loss}
    history = training.fit(net, test_set[:64], source, **options)
    expected = training.evaluate(net, test_set, loss=loss, device="cpu")
    assert history.val_loss[0] == pytest.approx(expected.loss, rel=1e-5)
    assert history.val_accuracy[0] == expected.accuracy


class Source:
    """Batches of given tensors."""

    def __init__(self, *batches):
        self.batches = batches
        self.images_per_epoch = sum(len(y) for _, y in batches)
        self.batch_size = max(len(y) for _, y in batches)

    def __len__(self):
        return len(self.batches)

    def epoch(self, number, start=0):
        return iter(self.batches[start:])


def test_labels_that_are_ignored_count_neither_in_loss_nor_accuracy(net):
    x = torch.randn(12, 1, 8, 8)
    with torch.no_grad():
        scores = net(x)
    y = scores.argmax(1)
    y[1] = (y[1] + 1) % 10  # one error
    y[4:10] = -100
    source = Source((x[:5], y[:5]), (x[5:9], y[5:9]), (x[9:], y[9:]))  # the second: all ignored
    result = training.evaluate(net, source, device="cpu")
    kept = y >= 0
    assert result.loss == pytest.approx(F.cross_entropy(scores[kept], y[kept]).item(), rel=1e-5)
    assert result.accuracy == 5 / 6
    options = {"epochs": 1, "device": "cpu", "progress": False, "lr": 1e-12}
    mine = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    mine.load_state_dict(net.state_dict())
    two = Source(*source.batches[::2])
    history = training.fit(mine, two, source, **options)
    assert history.train_accuracy == history.val_accuracy == [5 / 6]
    assert history.val_loss[0] == pytest.approx(result.loss, rel=1e-5)


def test_a_class_at_each_position():
    torch.manual_seed(0)
    net = nn.Conv2d(1, 3, 1)
    x, y = torch.randn(5, 1, 4, 4), torch.randint(0, 3, (5, 4, 4))
    y[0, :2] = -100
    with torch.no_grad():
        scores = net(x)
    right = (scores.argmax(1) == y).sum().item() / (5 * 16 - 8)
    result = training.evaluate(net, Source((x[:1], y[:1]), (x[1:], y[1:])), device="cpu")
    assert result.loss == pytest.approx(F.cross_entropy(scores, y).item(), rel=1e-5)
    assert result.accuracy == pytest.approx(right)
    options = {"epochs": 1, "device": "cpu", "progress": False, "lr": 1e-12}
    history = training.fit(net, Source((x, y)), Source((x, y)), **options)
    assert history.train_accuracy == history.val_accuracy == [pytest.approx(right)]


def test_probabilities_as_labels(net):
    x = torch.randn(6, 1, 8, 8)
    y = torch.rand(6, 10).softmax(1)
    with torch.no_grad():
        scores = net(x)
    source = Source((x[:4], y[:4]), (x[4:], y[4:]))
    result = training.evaluate(net, source, loss=nn.CrossEntropyLoss(), device="cpu")
    assert result.loss == pytest.approx(F.cross_entropy(scores, y).item(), rel=1e-5)
    assert result.accuracy == (scores.argmax(1) == y.argmax(1)).double().mean()


@pytest.mark.parametrize(
    ("outputs", "make_labels", "loss"),
    [
        (1, lambda n: torch.randn(n, 1), F.mse_loss),  # regression
        (10, lambda n: torch.randn(n, 10), nn.MSELoss()),
        (1, lambda n: torch.rand(n, 1).round(), F.binary_cross_entropy_with_logits),
        (10, lambda n: torch.rand(n, 10).round(), nn.BCEWithLogitsLoss()),  # several classes
    ],
)
def test_what_has_no_class_has_no_accuracy(outputs, make_labels, loss):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, outputs))
    x, y = torch.randn(9, 1, 8, 8), make_labels(9)
    with torch.no_grad():
        expected = loss(net(x), y).item()
    source = Source((x[:4], y[:4]), (x[4:], y[4:]))
    result = training.evaluate(net, source, loss=loss, device="cpu")
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert math.isnan(result.accuracy)
    options = {"epochs": 2, "device": "cpu", "progress": False, "loss": loss}
    history = training.fit(net, source, source, **options)
    assert all(map(math.isnan, [*history.train_accuracy, *history.val_accuracy]))


def test_outputs_that_cannot_be_joined_are_weighted(test_set):
    class Opaque(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.fc = nn.Linear(64, 10)

        def forward(self, x):
            return {"logits": self.fc(x.flatten(1)), "penalty": self.fc.weight.square().mean()}

    def loss(output, labels):
        return F.cross_entropy(output["logits"], labels) + output["penalty"]

    net = Opaque()
    whole = training.evaluate(net, test_set, loss=loss, device="cpu").loss
    parts = training.evaluate(net, test_set, loss=loss, batch_size=37, device="cpu").loss
    assert parts == pytest.approx(whole, rel=1e-5)


SCRIPT = """
import json, sys, torch
import torch.nn.functional as F
from torch import nn
from cnnbook import data, training

weight = torch.tensor([0.1] * 5 + [10.0] * 5)
losses = {
    "module": nn.CrossEntropyLoss(weight=weight),
    "function": lambda o, y: F.cross_entropy(o, y, weight=weight),
}
with training.join_processes():
    test = data.load("digits")[1]
    test = test[torch.argsort(test.labels, stable=True)][:101]
    for name, loss in losses.items():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        val = data.Batches(
            test, 25, shuffle=False, device="cpu", rank=training.processes.rank(),
            world_size=training.processes.world_size(),
        )  # the last batch has one image: one process has none
        history = training.fit(
            net, test[:64], val, epochs=1, lr=1e-9, loss=loss, device="cpu", progress=False,
        )
        exact = training.evaluate(net, test, loss=loss, device="cpu")
        if training.processes.rank() == 0:
            pair = history.val_loss[0], exact.loss, history.val_accuracy[0], exact.accuracy
            print("RESULT", name, json.dumps(pair))
"""


@pytest.mark.slow
def test_two_processes_have_the_same_loss(tmp_path):
    path = tmp_path / "run.py"
    path.write_text(SCRIPT)
    launch = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    said = subprocess.run(
        [sys.executable, *launch, str(path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    ).stdout
    found = [line.split(maxsplit=2) for line in said.splitlines() if line.startswith("RESULT")]
    assert [name for _, name, _ in found] == ["module", "function"]
    for _, _, pair in found:
        val, exact, accuracy, right = json.loads(pair)
        assert val == pytest.approx(exact, rel=1e-5)
        assert accuracy == right
