"""Every function that looks at a network leaves it, and the random state, as they were."""

import array
import collections
import contextlib
import inspect
import random
import threading
import weakref

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import weight_norm

from cnnbook import analysis, plots, training, widgets
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


class Counter:
    """A helper object of the author's."""

    def __init__(self):
        self.calls, self.values = 0, []


class Slotted:
    __slots__ = ("__private", "first", "later")

    def __init__(self):
        self.__private, self.first = [], 0

    def use(self):
        self.__private.append(1)
        self.first += 1
        self.later = True


class Checked(dict):
    """Refuses what others put into it."""

    def __setitem__(self, key, value):
        raise TypeError("closed")

    clear = update = __setitem__

    def count(self):
        super().__setitem__("calls", self.get("calls", 0) + 1)


class KeepsElsewhere(nn.Module):
    """Keeps things outside its tensors, and draws from generators of its own."""

    def __init__(self):
        super().__init__()
        self.recent = collections.deque(range(3), maxlen=3)
        self.ordered = collections.OrderedDict(a=1, b=2)
        self.counts = collections.Counter(x=1)
        self.default = collections.defaultdict(list)
        self.numbers = np.zeros(3)
        self.objects = np.array([[], None], dtype=object)
        self.bytes = bytearray(b"abc")
        self.array = array.array("l", [0, 0])
        self.ids = {1}
        self.pair = ([], np.zeros(2))
        self.helper = Counter()
        self.slotted = Slotted()
        self.checked = Checked()
        self.weak = weakref.WeakKeyDictionary()
        self.hidden = [nn.BatchNorm2d(4)]  # a layer that the network does not know of
        self.lock = threading.Lock()
        self.of_torch = torch.Generator().manual_seed(1)
        self.of_python = random.Random(1)
        self.of_numpy = np.random.default_rng(1)
        self.of_old_numpy = np.random.RandomState(1)
        self.weight = nn.Parameter(torch.ones(4))
        self.limit = nn.Parameter(torch.ones(4), requires_grad=False)
        self.register_buffer("nan", torch.full((2,), float("nan")))
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x):
        self.recent.append(len(x))
        self.ordered.move_to_end("a")
        self.counts["x"] += 1
        self.default["new"].append(1)
        self.numbers += 1
        self.objects[0].append(1)
        self.objects[1] = 1
        self.bytes += b"d"
        self.array[0] += 1
        self.ids.add(2)
        self.pair[0].append(1)
        self.pair[1][:] = 1
        self.helper.calls += 1
        self.helper.values.append(self.helper.calls)
        self.helper.new = {}
        self.slotted.use()
        self.checked.count()
        self.weak[self] = 1
        noise = torch.rand(1, generator=self.of_torch).item() + self.of_python.random()
        noise += self.of_numpy.random() + self.of_old_numpy.rand()
        noise += random.random() + np.random.rand()  # noqa: NPY002
        self.weight.data = self.weight.data.clamp(-0.5, 0.5)  # as a limit of the norm does
        with torch.no_grad():
            self.limit.mul_(0.5)
        self.limit.requires_grad_()
        self.total += x.mean((0, 2, 3)) * self.weight  # with a graph
        if not x.is_meta:
            x = self.hidden[0](x)
        return x * self.weight.view(-1, 1, 1) + 1e-3 * noise


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.keeps = Keeps()
        self.elsewhere = KeepsElsewhere()
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5)
        self.fc = weight_norm(nn.Linear(4 * 36, 3))

    def forward(self, x):
        x = self.elsewhere(self.keeps(self.relu(self.norm(self.conv(x)))))
        return self.fc(F.dropout(self.drop(x), 0.1, training=True).flatten(1))  # draws, always


def network():
    torch.manual_seed(0)
    net = Net().train()
    net.norm.eval()  # modes are mixed
    net.conv.bias.requires_grad_(False)
    F.cross_entropy(net(X), Y).backward()  # there are gradients
    net.keeps, net.elsewhere = Keeps(), KeepsElsewhere()
    net.fc.register_forward_hook(lambda *_: None)
    net.conv.register_forward_pre_hook(lambda *_: None)
    return net


def plain(value):
    """Return a copy to compare with: tensors as lists, other objects with all that they hold."""
    if isinstance(value, torch.Tensor):
        grad = value.grad.tolist() if value.is_leaf and value.grad is not None else None
        kind = (id(value), value.requires_grad, str(value.dtype), str(value.device))
        return (*kind, value.is_inference(), value.grad_fn, str(value.tolist()), grad)
    if isinstance(value, (np.ndarray, array.array)):
        return (id(value), [plain(each) for each in value.tolist()])
    if isinstance(value, torch.Generator):
        return (id(value), value.get_state().tolist())
    if isinstance(value, random.Random):
        return (id(value), value.getstate())
    if isinstance(value, (np.random.Generator, np.random.RandomState)):
        return (
            (id(value), repr(value.__getstate__()), repr(value.bit_generator.state))
            if hasattr(value, "bit_generator")
            else (id(value), repr(value.get_state()))
        )
    if isinstance(value, dict):
        return (id(value), [(key, plain(each)) for key, each in value.items()])
    if isinstance(value, (list, tuple, set, collections.deque)):
        return (id(value), [plain(each) for each in value])
    if isinstance(value, (Counter, weakref.WeakKeyDictionary, nn.BatchNorm2d)):
        return (id(value), plain(vars(value)))
    if isinstance(value, Slotted):
        return [value.first, hasattr(value, "later"), list(value._Slotted__private)]
    known = (int, float, str, bytes, bytearray, bool, type(None))
    return str(value) if isinstance(value, known) else id(value)


def everything(net):
    return {
        f"{name}.{key}": plain(value)
        for name, module in net.named_modules()
        for key, value in module.__dict__.items()
    }


def random_states():
    numbers = np.random.get_state()  # noqa: NPY002 (a reader's own code may use it)
    return torch.get_rng_state().tolist(), numbers[1].tolist(), random.getstate()


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
    "plots.architecture": lambda net: plots.architecture(net, SHAPE),
    "plots.flowchart": lambda net: plots.flowchart(net, SHAPE),
    "plots.heads": lambda net: plots.heads({"net": net}, SHAPE),
    "plots.residual_block": lambda net: plots.residual_block(net, SHAPE),
    "plots.towers": lambda net: plots.towers(net, SHAPE),
    "widgets.architecture": lambda net: widgets.architecture(net, X[:1], channels=1),
    "widgets.feature_maps": lambda net: widgets.feature_maps(net, X[:1], ["conv"], channels=1),
    "widgets.live_network": lambda net: widgets.live_network(net=(net, labeled())),
    "GradientRecorder": lambda net: analysis.GradientRecorder(X, Y).on_step(
        type("Run", (), {"step": 1, "model": net})
    ),
}
# It is none of what these draw or compute.
REFUSED = ("plots.heads", "plots.residual_block", "plots.towers", "widgets.live_network")


@pytest.mark.parametrize("module", [analysis, plots, widgets])
def test_every_function_that_takes_a_network_is_tried(module):
    names = {name.partition(",")[0].partition(" of ")[0].split(".")[-1] for name in FUNCTIONS}
    for name in module.__all__:
        what = getattr(module, name)
        takes = "Module" in str(inspect.signature(what)) if inspect.isfunction(what) else False
        assert not takes or name in names, name


@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_is_as_before(name):
    net = network()
    before, state = everything(net), random_states()
    with pytest.raises(ValueError) if name in REFUSED else contextlib.nullcontext():  # noqa: PT011
        FUNCTIONS[name](net)
    now = everything(net)
    assert list(now) == list(before)
    assert [key for key in before if now[key] != before[key]] == []
    assert random_states() == state
    net(X).sum().backward()  # it can still be trained


class Fails(nn.Module):
    """Fails from the n-th call on."""

    calls = 0  # of the class: what a layer keeps itself is put back

    def __init__(self, error):
        super().__init__()
        self.error = error

    def forward(self, x):
        Fails.calls -= 1
        if Fails.calls <= 0:
            raise self.error("on purpose")
        return x


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2, 4])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_everything_is_as_before_after_an_error(name, call, error):
    net = network()
    net.drop, Fails.calls = Fails(error), call
    before, state = everything(net), random_states()
    # Some say first which input the network does not run on; others do not run it so often.
    with contextlib.suppress(error, ValueError):
        FUNCTIONS[name](net)
        assert call > 1 or name == "filter_directions", "it did not fail"
    now = everything(net)
    assert [key for key in before if now[key] != before[key]] == []
    assert random_states() == state


EVALUATIONS = {
    "evaluate": lambda net: training.evaluate(net, labeled(), device="cpu"),
    "evaluate, parts": lambda net: training.evaluate(net, labeled(), batch_size=5, device="cpu"),
}


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize("fails", [False, True])
def test_an_evaluation_leaves_weights_modes_gradients_and_hooks(name, fails):
    """What the network itself keeps of its own accord may change: it has been used."""
    net = network()
    if fails:
        net.drop, Fails.calls = Fails(KeyboardInterrupt), 1
    own = {f"keeps.{key}" for key in ("scale", "cache", "seen", "nested", "calls", "history")}
    own |= {f"elsewhere.{key}" for key in vars(net.elsewhere)}
    own |= {"keeps._buffers", "fc.weight"}  # old-style weight_norm computes it anew
    before = everything(net)
    with contextlib.suppress(KeyboardInterrupt):
        EVALUATIONS[name](net)
        assert not fails, "it did not fail"
    now = everything(net)
    assert {key for key in before if now[key] != before[key]} <= own
    assert not any(t.is_inference() for t in (net.keeps.scale, net.keeps.mean, net.fc.weight))
    Fails.calls = 9
    net(X).sum().backward()


def test_the_comparison_sees_what_a_run_leaves():
    net = network()
    before = everything(net)
    with torch.no_grad():
        net(X)
    now = everything(net)
    changed = {key for key in before if now[key] != before[key]}
    kept = {"scale", "cache", "seen", "nested", "calls", "history", "_buffers"}
    elsewhere = set(vars(KeepsElsewhere())) - set(vars(nn.Module())) - {"lock"}
    assert changed >= {f"keeps.{key}" for key in kept}
    assert changed >= {f"elsewhere.{key}" for key in {*elsewhere, "_buffers", "_parameters"}}


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
