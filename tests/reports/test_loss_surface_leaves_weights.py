"""A loss surface moves a network's weights, and puts every one of them back."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from cnnbook import data
from cnnbook.analysis import filter_directions, loss_surface


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def shared():
    """A layer with two names."""
    layer = nn.Linear(64, 64)
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer, nn.Linear(64, 10))


def tied():
    """Two layers with one weight."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10))
    net[2].weight = net[1].weight
    return net


class Rows(nn.Module):
    """Reads an image row by row; an LSTM keeps a list of its weights."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 10)

    def forward(self, x):
        return self.fc(self.lstm(x[:, 0])[0][:, -1])


def changed(change):
    def make():
        net = linear()
        change(net[1])
        return net

    return make


NETWORKS = {
    "plain": linear,
    "weight_norm, old": changed(weight_norm),
    "weight_norm": changed(parametrizations.weight_norm),
    "spectral_norm, old": changed(spectral_norm),
    "spectral_norm": changed(parametrizations.spectral_norm),
    "orthogonal": changed(parametrizations.orthogonal),
    "pruned by size": changed(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)),
    "pruned rows": changed(lambda layer: prune.ln_structured(layer, "weight", 0.3, n=2, dim=0)),
    "shared layer": shared,
    "tied weights": tied,
    "LSTM": Rows,
}


@pytest.fixture(scope="module")
def test_set():
    return data.load("digits")[1][:30]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore::FutureWarning")  # old-style normalization is deprecated
def test_weights_are_as_before(name, test_set):
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()  # in training mode, reading .weight changes spectral_norm's
    layers = [module for module in net.modules() if isinstance(module, (nn.Linear, nn.LSTM))]
    plain = [layer.weight for layer in layers if hasattr(layer, "weight")]
    before = [weight.detach().clone() for weight in plain]
    state = copy.deepcopy(net.state_dict())
    objects = [id(parameter) for parameter in net.parameters()]
    loss_surface(net, test_set, steps=3)
    now = [layer.weight for layer in layers if hasattr(layer, "weight")]
    assert all(torch.equal(a, b) for a, b in zip(before, now, strict=True))
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert [id(parameter) for parameter in net.parameters()] == objects


@pytest.mark.parametrize("name", ["shared layer", "tied weights", "LSTM", "weight_norm"])
def test_the_surface_is_that_of_displaced_copies(name, test_set):
    torch.manual_seed(0)
    net = NETWORKS[name]().eval()
    surface = loss_surface(net, test_set, steps=3, span=0.5)
    first, second = (filter_directions(net, seed=i) for i in range(2))
    x = (test_set.images / 255 - test_set.mean[0]) / test_set.std[0]
    for i, a in enumerate((-0.5, 0, 0.5)):
        for j, b in enumerate((-0.5, 0, 0.5)):
            moved = copy.deepcopy(net)
            with torch.no_grad():
                for key, weight in moved.named_parameters():
                    if key in first:
                        weight += a * first[key] + b * second[key]
                loss = F.cross_entropy(moved(x), test_set.labels)
            assert surface.loss[i, j].item() == pytest.approx(loss.item(), rel=1e-4)


def test_weights_are_back_after_an_error(test_set):
    net = linear()
    before = net[1].weight.detach().clone()
    calls = []

    def loss(scores, labels):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("stop")
        return F.cross_entropy(scores, labels)

    with pytest.raises(RuntimeError, match="stop"):
        loss_surface(net, test_set, steps=3, loss=loss)
    assert torch.equal(net[1].weight, before)


def test_a_loss_computed_before_can_still_go_back(test_set):
    net = linear()
    value = F.cross_entropy(net(torch.rand(2, 1, 8, 8)), torch.tensor([0, 1]))
    loss_surface(net, test_set, steps=3)
    value.backward()
    assert net[1].weight.grad.abs().sum() > 0


def test_a_loss_weighted_by_class_does_not_depend_on_the_batch_size(test_set):
    net = linear()
    loss = nn.CrossEntropyLoss(weight=torch.arange(1.0, 11.0))
    surfaces = [
        loss_surface(net, test_set, steps=1, loss=loss, batch_size=size).loss for size in (7, 30)
    ]
    x = (test_set.images / 255 - test_set.mean[0]) / test_set.std[0]
    expected = loss(net(x), test_set.labels).item()
    assert [s.item() for s in surfaces] == pytest.approx([expected] * 2, rel=1e-5)
