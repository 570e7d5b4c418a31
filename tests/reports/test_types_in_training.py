"""Images are converted to the type of a network's parameters."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training

OPTIONS = {"epochs": 2, "device": "cpu", "progress": False}
KINDS = [torch.float64, torch.float16, torch.bfloat16]


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[:50]


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def convolutional():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))


@pytest.mark.parametrize("make", [linear, convolutional])
@pytest.mark.parametrize("kind", KINDS)
def test_evaluate(digits, make, kind):
    net = make().to(kind)
    x, y = next(data.Batches(digits[1], 50, shuffle=False, device="cpu").epoch(0))
    with torch.no_grad():
        expected = F.cross_entropy(net.eval()(x.to(kind)).double(), y).item()
    for loss in (
        F.cross_entropy,
        nn.CrossEntropyLoss(),
        lambda o, y: F.cross_entropy(o.double(), y),
    ):
        result = training.evaluate(net, digits[1], loss=loss, device="cpu")
        assert result.loss == pytest.approx(expected, rel=1e-5)
    assert next(net.parameters()).dtype == kind


@pytest.mark.parametrize("make", [linear, convolutional])
@pytest.mark.parametrize("kind", KINDS)
def test_fit(digits, make, kind, tmp_path):
    net = make().to(kind)
    options = {"ema_decay": 0.5, "lr": 0.01, "checkpoint": tmp_path / "run", **OPTIONS}
    history = training.fit(net, *digits, **options)
    full = training.fit(make(), *digits, ema_decay=0.5, lr=0.01, **OPTIONS)
    assert history.step_loss == pytest.approx(full.step_loss, rel=0.05)
    assert history.val_loss == pytest.approx(full.val_loss, rel=0.05)
    assert {p.dtype for p in net.parameters()} == {kind}
    assert training.fit(make().to(kind), *digits, **options) == history


def test_an_average_in_half_precision_follows_small_changes(digits):
    """In bfloat16, which has 8 binary digits, 1 - 0.999 of a change would be rounded away."""
    net = linear().bfloat16()
    average = net[1].weight.detach().float().clone()

    class Follow(training.Callback):
        def on_step(self, run):
            decay = min(0.999, (1 + run.step) / (10 + run.step))
            average.lerp_(run.model[1].weight.detach().float(), 1 - decay)

    ema = training.EMA(0.999)
    training.fit(net, digits[0], callbacks=[ema, Follow()], lr=0.01, **{**OPTIONS, "epochs": 10})
    torch.testing.assert_close(ema.average[1].weight, average)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16])
def test_images_of_any_floating_type(kind):
    class Source:
        batch_size = images_per_epoch = 8

        def __len__(self):
            return 1

        def epoch(self, number, start=0):
            torch.manual_seed(1)
            yield torch.rand(8, 1, 8, 8).to(kind), torch.arange(8)

    net = linear()
    assert training.evaluate(net, Source(), device="cpu").scores.dtype == torch.float32
    training.fit(net, Source(), Source(), **OPTIONS)


def test_a_network_of_whole_numbers_inputs():
    """Token numbers, for example, are not converted."""

    class Source:
        batch_size = images_per_epoch = 8

        def __len__(self):
            return 1

        def epoch(self, number, start=0):
            yield torch.arange(40).reshape(8, 5) % 7, torch.arange(8) % 3

    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(20, 3))
    history = training.fit(net, Source(), Source(), **OPTIONS)
    assert len(history.val_loss) == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_precision_beside_a_type_of_its_own(digits, kind):
    net = linear().to(kind)
    with pytest.raises(ValueError, match=rf"precision='float16' is for .* is in {kind}: leave out"):
        training.fit(net, digits[0], precision="float16", **OPTIONS)
    training.fit(net, digits[0], precision="float32", **OPTIONS)
