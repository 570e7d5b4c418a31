"""What running a network changes is undone, whatever kind of thing it is."""

import copy
import gc
import threading

import pytest
import torch
from torch import nn

from cnnbook import _networks, analysis, training
from cnnbook.analysis._unchanged import unchanged

X = torch.rand(2, 1, 4, 4)


class Does(nn.Module):
    """Does something to itself when it runs."""

    def __init__(self, what, **buffers):
        super().__init__()
        self.what = what
        self.fc = nn.Linear(16, 3)
        for name, value in buffers.items():
            self.register_buffer(name, value)

    def forward(self, x):
        self.what(self)
        return self.fc(x.flatten(1))


def change(name, function):
    return lambda net: function(getattr(net, name))


def set_data(tensor, value):
    tensor.data = value


CHANGES = {
    "sparse": (lambda b: b.mul_(2), torch.eye(3).to_sparse()),
    "complex": (lambda b: b.mul_(2j), torch.ones(3, dtype=torch.complex64)),
    "8 bits": (lambda b: b.zero_(), torch.ones(3).to(torch.float8_e4m3fn)),
    "expanded": (lambda b: set_data(b, b + 1), torch.zeros(1).expand(3)),
    "other shape": (lambda b: b.resize_(5).fill_(7), torch.zeros(3)),
    "other type": (lambda b: set_data(b, b.double()), torch.ones(3)),
    "other memory": (lambda b: b.set_(torch.ones(2).untyped_storage()), torch.zeros(2)),
    "half of NaN": (lambda b: b[1:].fill_(2), torch.tensor([float("nan"), 1])),
    "made in inference mode": (
        lambda b: torch.inference_mode()(torch.Tensor.add_)(b, 1),
        torch.inference_mode()(torch.zeros)(3),
    ),
    "with a graph": (lambda b: b.add_(torch.ones(3, requires_grad=True)), torch.zeros(3)),
    "requires a gradient": (lambda b: b.requires_grad_(), torch.zeros(3)),
    "has a gradient": (lambda b: setattr(b, "grad", torch.ones(3)), torch.zeros(3)),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_tensors_of_any_kind(kind):
    do, value = CHANGES[kind]
    net = Does(change("kept", do), kept=value)
    before = value.to_dense().clone()
    analysis.activations(net, X)
    assert net.kept is value
    assert value.dtype == before.dtype
    wide = torch.float32 if kind == "8 bits" else value.dtype
    now, before = value.to_dense().to(wide), before.to(wide)
    torch.testing.assert_close(now, before, rtol=0, atol=0, equal_nan=True)
    assert (value.grad_fn, value.requires_grad, value.grad) == (None, False, None)


def test_what_has_not_changed_is_not_written():
    """Autograd would refuse a graph that was made before."""
    net = Does(lambda net: None, mean=torch.full((3,), float("nan")))
    versions = [t._version for t in (*net.parameters(), *net.buffers())]
    analysis.activations(net, X)
    assert [t._version for t in (*net.parameters(), *net.buffers())] == versions


class Scripted(nn.Module):
    calls: int
    seen: list[int]

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.seen = []
        self.norm = nn.BatchNorm2d(1)
        self.register_buffer("steps", torch.zeros(1))

    def forward(self, x):
        self.calls += 1
        self.seen.append(1)
        self.steps += 1
        return self.norm(x)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_scripted_layers():
    net = nn.Sequential(torch.jit.script(Scripted()), nn.Flatten(), nn.Linear(16, 3)).train()
    mean = net[0].norm.running_mean.clone()
    analysis.activations(net, X, ["2"])
    analysis.gradient_norms(net, X, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"layer '0' is scripted .* runs no hooks"):
        analysis.activations(net, X)
    assert (net[0].calls, net[0].seen, net[0].steps.item()) == (0, [], 0)
    assert torch.equal(net[0].norm.running_mean, mean)


def test_a_lazy_network_is_seeded_for_itself_only():
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    torch.manual_seed(5)
    copied = copy.deepcopy(net)
    copied(X)  # draws the weights
    expected = torch.rand(3)
    torch.manual_seed(5)
    analysis.gradient_norms(net, X, torch.tensor([0, 1]), seed=9)
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(net[1].weight, copied[1].weight)


@pytest.mark.parametrize("seed", [2**70, -5, True])
def test_any_integer_is_a_seed(seed):
    net, labels = Does(lambda net: None), torch.tensor([0, 1])
    analysis.gradient_norms(net, X, labels, seed=seed)
    analysis.filter_directions(net, seed=seed)
    analysis.maximize_activation(net, "fc", 0, shape=(1, 4, 4), steps=1, seed=seed)
    for call in (
        lambda: analysis.gradient_norms(net, X, labels, seed="1"),
        lambda: analysis.filter_directions(net, seed=1.5),
    ):
        with pytest.raises(TypeError, match="seed must be an integer"):
            call()


class Stubborn:
    __slots__ = ("value",)

    def __init__(self):
        self.value = []


def test_one_failure_does_not_keep_the_rest_from_being_undone(monkeypatch):
    net = Does(lambda net: None)
    net.stubborn, net.calls = Stubborn(), 0

    def run():
        with unchanged(net):
            net.calls = 1
            net.stubborn.value = None
            monkeypatch.setattr(Stubborn, "__slots__", ("value", "calls"))
            monkeypatch.setattr(Stubborn, "value", property(lambda self: None))

    with pytest.raises(AttributeError):
        run()
    assert net.calls == 0


@pytest.mark.slow
def test_threads_that_look_at_one_network_take_turns():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    net.train()
    expected = analysis.activations(net, X, ["3"])["3"]
    wrong, start = [], threading.Barrier(4)

    def look(number):
        start.wait()
        for _ in range(25):
            if number % 2:
                seen = analysis.activations(net, X + 0, ["3"])["3"]
            else:
                seen = analysis.activations(net, torch.cat([X, 9 * X]), ["3"])["3"][:2]
            if not torch.allclose(seen, expected, atol=1e-6):
                wrong.append(number)

    threads = [threading.Thread(target=look, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    assert set(wrong) == set()


def test_locks_go_with_their_networks():
    net = nn.Linear(16, 3)
    number = id(net)
    training.evaluate(nn.Sequential(nn.Flatten(), net), [(X, torch.tensor([0, 1]))], device="cpu")
    analysis.activations(net, X.flatten(1), [])
    assert number in _networks._locks
    del net
    gc.collect()
    assert number not in _networks._locks
