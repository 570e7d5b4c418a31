"""What a network makes in evaluation can be trained afterwards; lazy layers need no evaluation."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training

pytestmark = pytest.mark.filterwarnings("ignore:Lazy modules")
OPTIONS = {"epochs": 1, "device": "cpu", "progress": False}


class Caches(nn.Module):
    """Computes a constant when it is first called, and keeps it."""

    def __init__(self):
        super().__init__()
        self.fc, self.kept = nn.Linear(64, 10), {}

    def forward(self, x):
        if not self.kept:
            self.kept["scale"] = torch.linspace(1, 2, 10)
        return self.fc(x.flatten(1)) * self.kept["scale"]


class BuildsLate(nn.Module):
    """Makes its layer when it sees the first images."""

    def __init__(self):
        super().__init__()
        self.fc = None

    def forward(self, x):
        if self.fc is None:
            self.fc = nn.Linear(x[0].numel(), 10)
        return self.fc(x.flatten(1))


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))


def lazy_convolutional():
    return nn.Sequential(
        nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10)
    )


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[:50]


@pytest.mark.parametrize("make", [Caches, BuildsLate, lazy, lazy_convolutional])
def test_evaluate_then_fit(digits, make):
    net = make()
    training.evaluate(net, digits[1], device="cpu")
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    history = training.fit(net, digits[0], **OPTIONS)
    assert len(history.step_loss) == 2
    for name, p in net.named_parameters():
        if p.ndim > 1:  # the bias before a batch norm has no gradient
            assert not torch.equal(before[name], p), name


@pytest.mark.parametrize("make", [lazy, lazy_convolutional])
def test_lazy_layers_are_trained_as_others(digits, make, tmp_path):
    torch.manual_seed(0)
    net = make()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    history = training.fit(net, *digits, ema_decay=0.9, checkpoint=tmp_path / "run", **OPTIONS)
    assert torch.equal(torch.get_rng_state(), state)

    # The same weights in layers of a given size take the same steps.
    torch.manual_seed(1)
    plain = make()
    with torch.no_grad():
        plain.eval()(torch.zeros(1, 1, 8, 8))
    again = training.fit(plain.train(), *digits, ema_decay=0.9, **OPTIONS)
    assert again.step_loss == history.step_loss
    assert again.val_loss == history.val_loss
    for name, value in net.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name


def test_running_statistics_count_training_alone(digits):
    net = lazy_convolutional()
    training.fit(net, digits[0], **OPTIONS)
    assert net[1].num_batches_tracked == 2


def test_a_lazy_network_loads_its_weights(digits, tmp_path):
    net = lazy()
    training.fit(net, digits[0], checkpoint=tmp_path / "run", **OPTIONS)
    fresh = training.load_weights(lazy(), tmp_path / "run")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(fresh(x), net(x))


def test_a_lazy_layer_that_nothing_reaches_is_named(digits):
    class Unreached(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.extra = nn.LazyLinear(10), nn.LazyLinear(3)

        def forward(self, x):
            return self.fc(x.flatten(1))

    with pytest.raises(ValueError, match="the lazy layer 'extra' has no size after a forward"):
        training.fit(Unreached(), digits[0], **OPTIONS)


def test_a_network_made_in_inference_mode_is_refused(digits):
    with torch.inference_mode():
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert training.evaluate(net, digits[1], device="cpu").scores.shape == (50, 10)
    with pytest.raises(ValueError, match=r"Sequential was made under torch\.inference_mode"):
        training.fit(net, digits[0], **OPTIONS)


def test_evaluation_builds_no_graph(digits):
    seen = []

    class Watch(Caches):
        def forward(self, x):
            scores = super().forward(x)
            seen.append((scores.requires_grad, torch.is_inference_mode_enabled()))
            return scores

    loss = training.evaluate(Watch(), digits[1], loss=F.cross_entropy, device="cpu").loss
    assert seen == [(False, False)]
    assert loss > 0
