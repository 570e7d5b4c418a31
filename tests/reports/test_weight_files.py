"""Files of wrapped networks, and of networks that share weights, are read by any other."""

import pytest
import safetensors.torch
import torch
from torch import nn

from cnnbook import data, training
from cnnbook.training import load_weights

OPTIONS = {"epochs": 1, "device": "cpu", "progress": False}


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def compiled(net):
    return torch.compile(net, backend="eager")


class InItsPart(nn.Module):
    """A wrapper inside."""

    def __init__(self, net, wrap):
        super().__init__()
        self.body, self.rest = wrap(net), nn.Linear(10, 10)

    def forward(self, x):
        return self.rest(self.body(x))


# Networks of the same layers.
WRAPPED = {
    "plain": lambda net: net,
    "compiled": compiled,
    "data-parallel": nn.DataParallel,
    "both": lambda net: compiled(nn.DataParallel(net)),
    "both, otherwise": lambda net: nn.DataParallel(compiled(net)),
}


@pytest.fixture(scope="module")
def train():
    return data.load("digits")[0][:64]


@pytest.mark.parametrize("to", WRAPPED.values(), ids=WRAPPED.keys())
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_from_any_to_any(tmp_path, wrap, to):
    net = linear()
    safetensors.torch.save_file(wrap(net).state_dict(), tmp_path / "net")
    fresh = linear()
    load_weights(to(fresh), tmp_path / "net")
    assert torch.equal(fresh[1].weight, net[1].weight)
    assert torch.equal(fresh[1].bias, net[1].bias)


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED.keys())
def test_fits_checkpoints_have_plain_names(tmp_path, train, wrap):
    net = linear()
    options = {"checkpoint": tmp_path / "run", "ema_decay": 0.9, **OPTIONS}
    history = training.fit(wrap(net), train, **options)
    weights, state = training.load_checkpoint(tmp_path / "run")
    assert sorted(weights) == sorted(state["model"]) == ["1.bias", "1.weight"]
    assert torch.equal(weights["1.weight"], net[1].weight)
    # The run belongs to the network, wrapped or not.
    assert training.fit(linear(), train, **options) == history
    assert training.fit(compiled(linear()), train, **options) == history


@pytest.mark.parametrize("wrap", [compiled, nn.DataParallel])
def test_a_wrapped_part(tmp_path, train, wrap):
    net = InItsPart(linear(), wrap)
    training.fit(net, train, checkpoint=tmp_path / "run", **OPTIONS)
    weights, _ = training.load_checkpoint(tmp_path / "run")
    assert sorted(weights) == ["body.1.bias", "body.1.weight", "rest.bias", "rest.weight"]
    for to in (lambda net: net, compiled, nn.DataParallel):
        fresh = load_weights(InItsPart(linear(), to), tmp_path / "run")
        assert all(
            torch.equal(a, b) for a, b in zip(net.parameters(), fresh.parameters(), strict=True)
        )


def test_a_layer_that_is_called_module(tmp_path):
    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.module, self.weight = nn.Linear(3, 2), nn.Parameter(torch.rand(5))

    net, fresh = Named(), Named()
    safetensors.torch.save_file(net.state_dict(), tmp_path / "net")
    load_weights(fresh, tmp_path / "net")
    assert torch.equal(net.module.weight, fresh.module.weight)
    assert torch.equal(net.weight, fresh.weight)
    with pytest.raises(training.CheckpointError, match=r"it lacks: .*weight; it also has"):
        load_weights(linear(), tmp_path / "net")


class Tied(nn.Module):
    def __init__(self, tied=True):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        if tied:
            self.b.weight = self.a.weight

    def forward(self, x):
        return self.out(self.b(self.a(x.flatten(1)).relu()))


class SharedLayer(nn.Module):
    """One layer under two names, with its buffers."""

    def __init__(self):
        super().__init__()
        self.a = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64))
        self.b, self.out = self.a, nn.Linear(64, 10)

    def forward(self, x):
        return self.out(self.b(self.a(x.flatten(1)).relu()))


@pytest.mark.parametrize("make", [Tied, SharedLayer])
@pytest.mark.parametrize("wrap", [lambda net: net, compiled, nn.DataParallel])
def test_weights_that_are_in_the_file_once(tmp_path, make, wrap):
    net, fresh = make(), make()
    safetensors.torch.save_model(wrap(net), str(tmp_path / "net"))
    assert len(safetensors.torch.load_file(tmp_path / "net")) < len(net.state_dict())
    load_weights(fresh, tmp_path / "net")
    for name, value in net.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
    assert fresh.b is fresh.a or fresh.b.weight is fresh.a.weight


def test_from_tied_to_untied_and_back(tmp_path):
    tied, untied, again = Tied(), Tied(tied=False), Tied()
    safetensors.torch.save_model(tied, str(tmp_path / "tied"))
    load_weights(untied, tmp_path / "tied")
    assert torch.equal(untied.a.weight, tied.a.weight)
    assert torch.equal(untied.b.weight, tied.a.weight)
    training.save_checkpoint(tmp_path / "both", untied.state_dict(), {})
    load_weights(again, tmp_path / "both")
    assert torch.equal(again.a.weight, tied.a.weight)


def test_what_is_missing_is_still_missing(tmp_path):
    net = Tied()
    state = {name: t.clone() for name, t in net.state_dict().items() if "weight" not in name}
    safetensors.torch.save_file(state, tmp_path / "net")
    with pytest.raises(training.CheckpointError, match=r"lacks: a\.weight, b\.weight, out\.weight"):
        load_weights(Tied(), tmp_path / "net")


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_files_of_another_type(tmp_path, kind):
    net, fresh = linear(), linear()
    training.save_checkpoint(tmp_path / "net", net.to(kind).state_dict(), {})
    load_weights(fresh, tmp_path / "net")
    assert fresh[1].weight.dtype == torch.float32
    assert torch.equal(fresh[1].weight, net[1].weight.float())
