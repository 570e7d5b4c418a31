"""Every function of `analysis` takes any network, and says the same of it as of its plain twin."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from cnnbook import analysis
from cnnbook.data import Dataset

SHAPE = (1, 8, 8)
pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # old-style weight_norm
    pytest.mark.filterwarnings("ignore:.*Lazy modules are a new feature:UserWarning"),
]


def images(count=4):
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def labeled():
    pixels = (255 * images(12)).to(torch.uint8)
    return Dataset("noise", pixels, torch.arange(12) % 3, ("a", "b", "c"), (0.5,), (0.3,))


def plain():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 4, 3),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).eval()


class Returns(nn.Module):
    """The plain network, whose scores are part of something."""

    def __init__(self, pack):
        super().__init__()
        self.body, self.pack = plain(), pack

    def forward(self, x):
        return self.pack(self.body(x))


def normalized(normalize):
    def make():
        net = plain()
        normalize(net[3])
        return net.eval()

    return make


def shared():
    net = plain()
    net.again = net[3]  # a second name
    net.forward = lambda x: nn.Sequential(*[net[i] for i in range(6)])(x)
    return net


def lazy():
    """As before its first run; seeded, for its weights to be those of the plain network."""
    return nn.Sequential(
        nn.LazyConv2d(4, 3),
        nn.LazyBatchNorm2d(),
        nn.ReLU(inplace=True),
        nn.LazyConv2d(4, 3),
        nn.Flatten(),
        nn.LazyLinear(3),
    ).eval()


# How to make each; where it has the plain network's layers; the precision of its results.
NETWORKS = {
    "frozen": (lambda: plain().requires_grad_(False), "", 1e-5),
    "partly frozen": (lambda: freeze_first(plain()), "", 1e-5),
    "training mode": (lambda: plain().train(), "", 1e-5),
    "half": (lambda: plain().half(), "", 3e-2),
    "bfloat16": (lambda: plain().bfloat16(), "", 2e-1),
    "double": (lambda: plain().double(), "", 1e-5),
    "compiled": (lambda: torch.compile(plain(), backend="eager"), "", 1e-5),
    "DataParallel": (lambda: nn.DataParallel(plain()), "", 1e-5),
    "compiled DataParallel": (
        lambda: torch.compile(nn.DataParallel(plain()), backend="eager"),
        "",
        1e-5,
    ),
    "compiled inside": (lambda: nn.Sequential(torch.compile(plain(), backend="eager")), "0.", 1e-5),
    "weight_norm, old": (normalized(weight_norm), "", 1e-5),
    "weight_norm": (normalized(parametrizations.weight_norm), "", 1e-5),
    "spectral_norm, old": (normalized(spectral_norm), "", None),
    "spectral_norm": (normalized(parametrizations.spectral_norm), "", None),
    "pruned": (normalized(lambda m: prune.l1_unstructured(m, "weight", 1)), "", None),
    "two names": (shared, "", 1e-5),
    "tuple": (lambda: Returns(lambda y: (y, 0 * y, None)), "body.", 1e-5),
    "list": (lambda: Returns(lambda y: [y, 0 * y]), "body.", 1e-5),
    "dict": (lambda: Returns(lambda y: {"features": 0 * y, "logits": y}), "body.", 1e-5),
    "lazy": (lazy, "", None),
}


def freeze_first(net):
    net[0].requires_grad_(False)
    return net


def numbers(value):
    return torch.as_tensor(value).double().flatten()


# What each function says of the network, as numbers; given the network and where its layers are.
FUNCTIONS = {
    "activations": lambda net, p: analysis.activations(net, images(), f"{p}3")[f"{p}3"],
    "activations, grad": lambda net, p: gradient_of_scores(net, p),
    "activation_statistics": lambda net, p: [
        v
        for row in analysis.activation_statistics(net, images(), [f"{p}0", f"{p}5"]).rows
        for v in (row["mean"], row["standard_deviation"], row["units"])
    ],
    "linear_probes": lambda net, p: [
        row["features"] for row in analysis.linear_probes(net, labeled(), labeled(), f"{p}3").rows
    ],
    "loss_surface": lambda net, p: analysis.loss_surface(net, labeled(), steps=1).loss,
    "effective_receptive_field": lambda net, p: (
        analysis.effective_receptive_field(net, images(), f"{p}3").effect
    ),
    "grad_cam": lambda net, p: analysis.grad_cam(net, images(), f"{p}3", 1).maps,
    "occlusion": lambda net, p: analysis.occlusion(net, images(), 1).maps,
    "maximize_activation": lambda net, p: (
        analysis.maximize_activation(net, f"{p}3", 1, shape=SHAPE, steps=2).activation
    ),
    "top_patches": lambda net, p: analysis.top_patches(net, images(), f"{p}3", 1, k=2).activation,
    "receptive_field": lambda net, p: analysis.receptive_field(net, SHAPE, f"{p}3").size,
    "summary": lambda net, p: [
        analysis.summary(net, SHAPE).total_macs,
        analysis.summary(net, SHAPE, depth=9).total_macs,
    ],
}


def gradient_of_scores(net, prefix):
    seen = analysis.activations(net, images(), [f"{prefix}3", f"{prefix}5"], grad=True)
    (gradient,) = torch.autograd.grad(seen[f"{prefix}5"][:, 1].sum(), seen[f"{prefix}3"])
    return gradient


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_any_network_in_any_function(function, network):
    make, prefix, precision = NETWORKS[network]
    net = make()
    found = numbers(FUNCTIONS[function](net, prefix))
    assert found.isfinite().all()
    if precision is not None:  # its weights are those of the plain network
        expected = numbers(FUNCTIONS[function](plain(), ""))
        assert found.shape == expected.shape
        assert torch.allclose(found, expected, rtol=precision, atol=precision)


@pytest.mark.parametrize("network", [name for name in NETWORKS if name != "frozen"])
def test_gradients_of_any_network(network):
    make, _, precision = NETWORKS[network]
    norms = analysis.gradient_norms(make(), images(), torch.tensor([0, 1, 2, 0]))
    assert all(norm > 0 for norm in norms.values())
    assert not any("_orig_mod" in name and network != "compiled inside" for name in norms)
    if network in ("half", "double", "compiled", "DataParallel", "tuple", "list", "dict"):
        expected = analysis.gradient_norms(plain(), images(), torch.tensor([0, 1, 2, 0]))
        assert list(norms.values()) == pytest.approx(list(expected.values()), rel=10 * precision)


def test_the_gradients_of_a_frozen_network_are_refused():
    with pytest.raises(ValueError, match="unfreeze some"):
        analysis.gradient_norms(plain().requires_grad_(False), images(), torch.arange(4) % 3)


@pytest.mark.parametrize("function", [name for name in FUNCTIONS if name != "summary"])
def test_layers_given_as_modules(function):
    """The same function, with modules where it takes names."""
    net = plain()
    expected = numbers(FUNCTIONS[function](net, ""))
    real = {name: getattr(analysis, name) for name in analysis.__all__}
    modules = dict(net.named_modules())

    def with_modules(call):
        def called(model, *arguments, **options):
            changed = [
                modules[a] if isinstance(a, str) else [modules[b] for b in a]
                for a in arguments
                if isinstance(a, str) or (isinstance(a, list) and isinstance(a[0], str))
            ]
            rest = iter(changed)
            arguments = [
                next(rest)
                if isinstance(a, str) or (isinstance(a, list) and isinstance(a[0], str))
                else a
                for a in arguments
            ]
            return call(model, *arguments, **options)

        return called

    name = function.split(",")[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, name, with_modules(real[name]))
        found = numbers(FUNCTIONS[function](net, ""))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("select", "pack"),
    [
        ("b", lambda y: {"a": 0 * y, "b": y, "c": 2 * y}),
        (1, lambda y: (0 * y, y)),
        (lambda out: out["x"][0], lambda y: {"x": [y]}),
        ("scores", lambda y: type("Output", (), {"scores": y})()),
    ],
)
def test_the_part_that_holds_the_scores_can_be_named(select, pack):
    net, y = Returns(pack), torch.tensor([0, 1, 2, 0])
    assert list(analysis.gradient_norms(net, images(), y, output=select).values()) == list(
        analysis.gradient_norms(plain(), images(), y).values()
    )
    surfaces = [
        analysis.loss_surface(n, labeled(), steps=3, output=o).loss
        for n, o in ((net, select), (plain(), None))
    ]
    assert torch.equal(*surfaces)


def test_without_a_name_the_message_says_what_there_is():
    net = Returns(lambda y: {"a": y, "b": y})
    for call in (
        lambda: analysis.gradient_norms(net, images(), torch.arange(4) % 3),
        lambda: analysis.loss_surface(net, labeled(), steps=1),
    ):
        with pytest.raises(TypeError, match="a dict with the entries 'a', 'b'; output= says"):
            call()


def test_names_of_wrapped_networks_work_with_and_without_the_wrapper():
    net = plain()
    expected = analysis.activations(net, images(), "3")["3"]
    for wrapped, names in {
        torch.compile(net, backend="eager"): ("3", "_orig_mod.3"),
        nn.DataParallel(net): ("3", "module.3"),
        nn.DataParallel(torch.compile(net, backend="eager")): ("3", "module._orig_mod.3"),
    }.items():
        for name in (*names, net[3]):
            found = analysis.activations(wrapped, images(), name)
            assert list(found) == ["3"]
            assert torch.equal(found["3"], expected)


def test_a_layer_with_two_names_goes_by_either():
    net = shared()
    found = analysis.activations(net, images(), ["again", "3"])
    assert torch.equal(found["again"], found["3"])
    table = analysis.activation_statistics(net, images(), ["again"])
    assert (table[0]["layer"], table[0]["units"]) == ("again", 4)


def test_a_copys_layer_is_not_the_networks():
    net = plain()
    with pytest.raises(ValueError, match="this Conv2d is not a layer of the network; a copy"):
        analysis.activations(net, images(), copy.deepcopy(net)[3])


def test_several_layers_come_as_any_iterable_and_a_string_is_one():
    net = nn.Sequential()
    net.add_module("conv", nn.Conv2d(1, 2, 3))
    net.blocks = nn.ModuleList([nn.ReLU(), nn.Identity()])
    net.forward = lambda x: net.blocks[1](net.blocks[0](net.conv(x)))
    assert list(analysis.activations(net, images(), "conv")) == ["conv"]
    for layers in (
        ["conv", net.blocks[0]],
        ("conv", "blocks.0"),
        (module for module in (net.conv, net.blocks[0])),
        {"conv": 1, "blocks.0": 2},
    ):
        assert list(analysis.activations(net, images(), layers)) == ["conv", "blocks.0"]
    assert list(analysis.activations(net, images(), net.blocks)) == ["blocks.0", "blocks.1"]


def test_outputs_keep_their_device_type_and_graph_only_if_asked():
    net = plain().double()
    seen = analysis.activations(net, images(), ["0", "2"])
    assert {t.dtype for t in seen.values()} == {torch.float64}
    assert not any(t.requires_grad for t in seen.values())
    x = images().double().requires_grad_()
    seen = analysis.activations(net, x, ["3", "5"], grad=True)
    assert seen.inputs is x
    seen["5"].sum().backward()
    by_hand = torch.autograd.grad(net(x).sum(), x)[0]
    assert torch.allclose(x.grad, by_hand)
    assert net[0].weight.grad is not None  # as after any backward()


def test_gradients_at_layers_before_in_place_ones():
    """The values before a ReLU that overwrites them, and their gradient."""
    net = plain()
    seen = analysis.activations(net, images(), ["1", "5"], grad=True)
    (gradient,) = torch.autograd.grad(seen["5"].sum(), seen["1"])
    twin = plain()
    twin[2] = nn.ReLU()
    values = twin[1](twin[0](images())).detach().requires_grad_()
    (expected,) = torch.autograd.grad(twin[2:](values).sum(), values)
    assert torch.equal(seen["1"], values)
    assert torch.allclose(gradient, expected)


class TwoImages(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(1, 2, 3)

    def forward(self, x, y):
        return self.a(x) - self.a(y)


def test_several_inputs():
    net, x = TwoImages(), images()
    seen = analysis.activations(net, (x, x.flip(0)), "a")
    assert torch.equal(seen["a"], net.a(x.flip(0)))  # its last run
    assert torch.equal(seen.images, x)
    assert repr(seen) == "<Activations of 4 inputs: a 2×6×6>"
    seen = analysis.activations(net, (x, x.flip(0)), grad=True)
    assert [each.requires_grad for each in seen.inputs] == [True, True]
    with pytest.raises(TypeError, match="x must be a torch tensor, got a numpy array"):
        analysis.activations(net, (x, x.numpy()))
    with pytest.raises(TypeError, match="x must be a torch tensor, got a list"):
        analysis.activations(net, [x, x])


class Recurrent(nn.Module):
    """Layers that return tuples."""

    def __init__(self):
        super().__init__()
        self.lstm, self.attention = nn.LSTM(8, 6, batch_first=True), nn.MultiheadAttention(6, 2)

    def forward(self, x):
        x = self.lstm(x[:, 0])[0]
        return self.attention(x, x, x)[0].mean(1)


def test_layers_that_return_tuples():
    net = Recurrent().eval()
    seen = analysis.activations(net, images(), ["lstm", "attention"])
    assert torch.allclose(seen["lstm"], net.lstm(images()[:, 0])[0], atol=1e-6)
    weights = analysis.activations(net, images(), "attention", output=1)["attention"]
    assert weights.shape == (8, 4, 4)
    last = analysis.activations(net, images(), "lstm", output=lambda found: found[1][0])["lstm"]
    assert last.shape == (1, 4, 6)
    seen = analysis.activations(net, images(), ["lstm", "attention"], grad=True)
    (gradient,) = torch.autograd.grad(seen["attention"].sum(), seen["lstm"])
    assert gradient.abs().sum() > 0


def test_complex_and_double_networks_keep_their_type():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, dtype=torch.complex64), nn.Flatten())
    seen = analysis.activations(net, images(), "0")
    assert seen["0"].dtype == torch.complex64
    with pytest.raises(ValueError, match="layer '0' has complex outputs"):
        analysis.activation_statistics(net, images(), "0")
    table = analysis.activation_statistics(net, images(), "0", output=torch.abs)
    assert table[0]["mean"] == pytest.approx(seen["0"].abs().mean().item(), rel=1e-5)
    values = analysis.activations(nn.Sequential(nn.Identity()), images().double())["0"]
    assert values.dtype == torch.float64  # a network without weights takes what it gets
