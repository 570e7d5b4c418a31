"""Every function of `analysis` leaves a network, and torch's random state, as they were."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import weight_norm

from cnnbook import analysis
from cnnbook.data import Dataset

X, Y = torch.rand(4, 1, 8, 8), torch.arange(4) % 3
SHAPE = (1, 8, 8)
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # old-style weight_norm


def labeled():
    pixels = torch.arange(12 * 64).view(12, 1, 8, 8).remainder(251).to(torch.uint8)
    return Dataset("noise", pixels, torch.arange(12) % 3, ("a", "b", "c"), (0.5,), (0.3,))


class Keeps(nn.Module):
    """Keeps things in every way that networks do: caches, buffers, counters."""

    def __init__(self):
        super().__init__()
        self.scale = None
        self.cache = {}
        self.seen = []
        self.calls = 0
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.history = torch.zeros(4)  # a tensor that is no buffer
        self.nested = {"of": {"images": []}}

    def forward(self, x):
        if self.scale is None:
            self.scale = torch.ones(4, device=x.device)
        self.cache[tuple(x.shape)] = x.detach().mean()
        self.seen.append(len(x))
        self.nested["of"]["images"].append(len(x))
        self.calls += 1
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3))  # by assignment
        self.steps += 1  # in place
        self.history.add_(1)
        return x * self.scale.view(-1, 1, 1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.keeps = Keeps()
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.fc = weight_norm(nn.Linear(4 * 36, 3))

    def forward(self, x):
        x = self.keeps(self.relu(self.norm(self.conv(x))))
        return self.fc(F.dropout(self.drop(x), 0.1, training=True).flatten(1))  # draws, always


def network():
    torch.manual_seed(0)
    net = Net().train()
    net.norm.eval()  # modes are mixed
    net.conv.bias.requires_grad_(False)
    F.cross_entropy(net(X), Y).backward()  # there are gradients
    net.keeps.scale = None
    net.keeps.cache.clear()
    net.fc.register_forward_hook(lambda *_: None)
    net.conv.register_forward_pre_hook(lambda *_: None)
    return net


def plain(value):
    """Return a copy to compare with: tensors as lists, objects by identity."""
    if isinstance(value, torch.Tensor):
        grad = value.grad.tolist() if value.is_leaf and value.grad is not None else None
        return (id(value), value.requires_grad, str(value.dtype), value.tolist(), grad)
    if isinstance(value, dict):
        return (id(value), [(key, plain(each)) for key, each in value.items()])
    if isinstance(value, (list, tuple, set)):
        return [plain(each) for each in value]
    return value if isinstance(value, (int, float, str, bool, type(None))) else id(value)


def everything(net):
    return {
        f"{name}.{key}": plain(value)
        for name, module in net.named_modules()
        for key, value in module.__dict__.items()
    }


FUNCTIONS = {
    "activation_statistics": lambda net: analysis.activation_statistics(net, X),
    "activations": lambda net: analysis.activations(net, X),
    "activations, grad": lambda net: analysis.activations(net, X, grad=True),
    "effective_receptive_field": lambda net: analysis.effective_receptive_field(net, X, "conv"),
    "filter_directions": analysis.filter_directions,
    "grad_cam": lambda net: analysis.grad_cam(net, X, "conv"),
    "gradient_flow": lambda net: analysis.gradient_flow({"net": net}, X, Y),
    "gradient_norms": lambda net: analysis.gradient_norms(net, X, Y),
    "gradient_norms of a set": lambda net: analysis.gradient_norms(net, labeled()),
    "linear_probes": lambda net: analysis.linear_probes(net, labeled(), labeled()),
    "loss_surface": lambda net: analysis.loss_surface(net, labeled(), steps=3),
    "maximize_activation": lambda net: analysis.maximize_activation(
        net, "conv", [0, 2], shape=SHAPE, steps=2
    ),
    "occlusion": lambda net: analysis.occlusion(net, X),
    "receptive_field": lambda net: analysis.receptive_field(net, SHAPE, "conv"),
    "summary": lambda net: analysis.summary(net, SHAPE),
    "top_patches": lambda net: analysis.top_patches(net, X, "conv", [0, 2], k=2),
    "trace": lambda net: analysis.trace(net, SHAPE),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_is_as_before(name):
    net = network()
    before, state = everything(net), torch.get_rng_state()
    FUNCTIONS[name](net)
    now = everything(net)
    assert list(now) == list(before)
    assert [key for key in before if now[key] != before[key]] == []
    assert torch.equal(torch.get_rng_state(), state)
    net(X).sum().backward()  # it can still be trained


@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_is_as_before_after_an_error(name):
    class Broken(nn.Module):
        def forward(self, x):
            raise ZeroDivisionError("on purpose")

    net = network()
    net.drop = Broken()
    before = everything(net)
    if name != "filter_directions":
        # Some say first which input the network does not run on.
        with pytest.raises((ZeroDivisionError, ValueError), match="on purpose"):
            FUNCTIONS[name](net)
    now = everything(net)
    assert [key for key in before if now[key] != before[key]] == []


def test_the_comparison_sees_what_a_run_leaves():
    net = network()
    before = everything(net)
    with torch.no_grad():
        net(X)
    now = everything(net)
    changed = {key for key in before if now[key] != before[key]}
    kept = {"scale", "cache", "seen", "nested", "calls", "history", "_buffers"}
    assert changed >= {f"keeps.{key}" for key in kept}


class Average(nn.Module):
    """Updates a buffer by assigning a new one, in training."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(64, 10)
        self.register_buffer("mean", torch.zeros(64))

    def forward(self, x):
        x = x.flatten(1)
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return self.fc(x - self.mean)


@pytest.mark.parametrize(
    "look",
    [
        analysis.gradient_norms,
        lambda net, x, y: analysis.gradient_flow({"net": net}, x, y),
        lambda net, x, y: analysis.GradientRecorder(x, y).on_step(
            type("Run", (), {"step": 1, "model": net})
        ),
    ],
)
def test_buffers_replaced_in_training_are_put_back(look):
    net = Average()
    buffer = net.mean
    look(net, torch.rand(8, 1, 8, 8) + 1, torch.arange(8))
    assert net.mean is buffer
    assert net.mean.abs().max() == 0


def test_what_a_network_keeps_can_be_trained_later():
    """Nothing is made in inference mode, not even if the caller is in it."""
    for look in (
        lambda net: analysis.activations(net, X),
        lambda net: analysis.activation_statistics(net, X),
        lambda net: analysis.linear_probes(net, labeled(), labeled()),
        lambda net: analysis.loss_surface(net, labeled(), steps=1),
        lambda net: analysis.gradient_norms(net, X, Y),
    ):
        lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(6), nn.ReLU(), nn.LazyLinear(3))
        with torch.inference_mode():
            look(lazy)
        assert [type(layer) for layer in lazy][1] is nn.Linear
        F.cross_entropy(lazy(X), Y).backward()
        assert lazy[1].weight.grad.abs().sum() > 0
