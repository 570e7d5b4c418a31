"""What a network stores on itself while it is traced does not stay there."""

import random

import pytest
import torch
import torch.nn.utils.parametrizations as parametrizations
import torch.nn.utils.prune as prune
from torch import nn

from cnnbook import analysis


class Attributes(nn.Module):
    """Makes a positional grid on first use."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 10)
        self.grid = None

    def forward(self, x):
        h = x.flatten(1)
        if self.grid is None or self.grid.shape[0] != h.shape[1]:
            self.grid = torch.linspace(0, 1, h.shape[1])
        return self.linear(h + self.grid)


class Nested(Attributes):
    """Keeps it in a list in a dict."""

    def __init__(self):
        super().__init__()
        self.cache = {"grids": [[]]}

    def forward(self, x):
        grids = self.cache["grids"][0]
        if not grids:
            grids.append(torch.linspace(0, 1, 64))
        return self.linear(x.flatten(1) + grids[0])


class Store:
    value = None


class Helper(Attributes):
    """Keeps it in an object that is no module."""

    def __init__(self):
        super().__init__()
        self.helper = Store()

    def forward(self, x):
        if self.helper.value is None:
            self.helper.value = torch.linspace(0, 1, 64)
        return self.linear(x.flatten(1) + self.helper.value)


class Buffer(Attributes):
    """Replaces a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(1))

    def forward(self, x):
        self.scale = self.scale * 2
        self.register_buffer("made", torch.zeros(64), persistent=False)
        return self.linear(x.flatten(1) * self.scale + self.made)


class Locked(Attributes):
    """Cannot be copied."""

    def __init__(self):
        super().__init__()
        self.numbers = (i for i in range(3))


class Looks(Attributes):
    """Cannot run without values."""

    def forward(self, x):
        assert not bool(x.isnan().any())
        return super().forward(x)


def wrapped(wrap):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    wrap(net[1])
    return net


NETWORKS = {
    **{kind.__name__: kind for kind in (Attributes, Nested, Helper, Buffer, Locked, Looks)},
    "prune": lambda: wrapped(lambda m: prune.l1_unstructured(m, "weight", 0.5)),
    "spectral norm": lambda: wrapped(nn.utils.spectral_norm),
    "parametrized": lambda: wrapped(parametrizations.weight_norm),
    "parametrized spectral": lambda: wrapped(parametrizations.spectral_norm),
    "shared": lambda: nn.Sequential(nn.Flatten(), *[nn.Linear(64, 64)] * 2),
    "batch norm": lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout()),
}


def tensors(net):
    """Return all tensors among the attributes of a network's layers."""
    found, seen = [], set()
    waiting = [vars(module) for module in net.modules()]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, (list, tuple)):
            waiting += value
        elif isinstance(value, Store):
            waiting.append(value.value)
    return found


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("name", [*NETWORKS, "weight norm"])
def test_a_network_is_as_before(name):
    net = (
        wrapped(torch.nn.utils.weight_norm) if name == "weight norm" else NETWORKS[name]()
    ).train()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    ids = [id(p) for p in net.parameters()]
    torch.manual_seed(3)
    random.seed(3)
    state = torch.get_rng_state()
    analysis.trace(net, (1, 8, 8))
    analysis.summary(net, (1, 8, 8))
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(tensor.is_meta for tensor in tensors(net))
    assert [id(p) for p in net.parameters()] == ids
    assert all(module.training for module in net.modules())
    assert not any(m._forward_hooks for m in net.modules())
    after = net.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert net(torch.randn(2, 1, 8, 8)).shape[0] == 2
    net(torch.randn(2, 1, 8, 8)).sum().backward()


def test_gradients_stay():
    net = nn.Linear(3, 2)
    net(torch.ones(1, 3)).sum().backward()
    gradient = net.weight.grad
    analysis.trace(net, (3,))
    assert net.weight.grad is gradient


def test_lazy_layers_stay_lazy():
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2))
    found = analysis.trace(net, (3, 8, 8))
    assert [call.shape for call in found.calls[1:]] == [(4, 6, 6), (144,), (2,)]
    assert found.calls[0].macs == 36 * 4 * 27 + 288
    assert isinstance(net[0].weight, nn.parameter.UninitializedParameter)
    assert net(torch.zeros(1, 1, 8, 8)).shape == (1, 2)  # with another number of channels
