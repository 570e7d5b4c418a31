"""The parameters in a summary add up to the network's, whatever calls show."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import plots
from cnnbook.analysis import summary
from cnnbook.tables import Table


class Lists(nn.Module):
    """A list of parameters, which is no layer that is called."""

    def __init__(self):
        super().__init__()
        self.ps = nn.ParameterList([nn.Parameter(torch.zeros(5)), nn.Parameter(torch.zeros(7))])
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x):
        return self.conv(x) + self.ps[0].sum()


class Dicts(nn.Module):
    def __init__(self):
        super().__init__()
        self.ps = nn.ParameterDict({"a": nn.Parameter(torch.zeros(5))})
        self.conv = nn.Conv2d(3, 6, 3)

    def forward(self, x):
        return self.conv(x) * self.ps["a"][0]


class Functional(nn.Module):
    """Uses a layer's weight without calling the layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 2)

    def forward(self, x):
        return F.linear(self.a(x), self.b.weight, self.b.bias)


class Indexed(nn.Module):
    """Reads a row of an embedding."""

    def __init__(self):
        super().__init__()
        self.e, self.c = nn.Embedding(10, 4), nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.c(x) + self.e.weight[0].view(1, 4, 1, 1)


class Auxiliary(nn.Module):
    """A second head that runs only in training."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten())
        self.head = nn.Linear(144, 5)
        self.aux = nn.Sequential(nn.Linear(144, 7), nn.ReLU(), nn.Linear(7, 5))

    def forward(self, x):
        x = self.body(x)
        return (self.head(x), self.aux(x)) if self.training else self.head(x)


class Deep(nn.Module):
    """Layers that are not called, two levels down, beside others that are."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            [nn.ModuleDict({"on": nn.Linear(8, 8), "off": nn.Linear(8, 3)})]
        )

    def forward(self, x):
        return self.blocks[0]["on"](x)


class Elsewhere(nn.Module):
    """A block is called with a layer that it does not own."""

    class Block(nn.Module):
        def forward(self, x, layer):
            return layer(x)

    def __init__(self):
        super().__init__()
        self.block, self.layer = self.Block(), nn.Linear(8, 3)

    def forward(self, x):
        return self.block(x, self.layer)


def tied():
    net = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU())
    net[1].weight = net[0].weight
    return net


def frozen():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    net[0].requires_grad_(False)
    return net


# Parameters by hand; the shape of the input.
NETWORKS = {
    "ParameterList": (Lists, (3, 8, 8), 6 * 28 + 12),
    "ParameterDict": (Dicts, (3, 8, 8), 6 * 28 + 5),
    "weights used without a call": (Functional, (8,), 36 + 10),
    "indexed embedding": (Indexed, (3, 8, 8), 40 + 4 * 28),
    "head for training only": (Auxiliary, (3, 8, 8), 4 * 28 + 725 + 1015 + 40),
    "idle layers in nested lists": (Deep, (8,), 72 + 27),
    "called by a stranger": (Elsewhere, (8,), 27),
    "tied": (tied, (8,), 64 + 8 + 8),
    "frozen": (frozen, (3, 8, 8), 4 * 28 + 725),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("depth", [1, 2, 9])
def test_the_column_adds_up(name, depth):
    make, shape, expected = NETWORKS[name]
    net = make().train()
    table = summary(net, shape, depth=depth)
    assert sum(p.numel() for p in net.parameters()) == expected
    assert sum(row["parameters"] for row in table.rows) == expected
    assert table.total_parameters == expected
    assert f"total parameters: {expected:,} (" in repr(table)
    assert f"total parameters: {expected:,} (" in table._repr_html_()


@pytest.mark.slow
def test_a_wrapped_network_has_the_rows_of_the_network():
    net = Lists()
    plain = summary(net, (3, 8, 8)).to_dicts()
    assert summary(nn.DataParallel(net), (3, 8, 8)).to_dicts() == plain
    assert summary(torch.compile(net, backend="eager"), (3, 8, 8)).to_dicts() == plain


def test_what_is_not_called_says_so():
    rows = {row["layer"]: row for row in summary(Auxiliary(), (3, 8, 8)).rows}
    assert list(rows) == ["body", "head", "aux (not called)"]
    aux = rows["aux (not called)"]
    assert (aux["output"], aux["parameters"], aux["macs"]) == ("", 1015 + 40, 0)
    names = [row["layer"] for row in summary(Deep(), (8,)).rows]
    assert names == ["blocks.0.on", "blocks.0.off (not called)"]
    names = [row["layer"] for row in summary(Elsewhere(), (8,)).rows]
    assert names == ["block", "layer (called by others)"]


def test_trainable_and_frozen_parameters():
    table = summary(frozen(), (3, 8, 8))
    assert (table.trainable_parameters, table.non_trainable_parameters) == (725, 112)
    assert "(trainable: 725, non-trainable: 112)" in repr(table)


def test_lazy_layers_count_once_they_have_a_shape():
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.LazyBatchNorm1d())
    assert summary(net, (3, 4, 4)).total_parameters == 48 * 16 + 16 + 32


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "side", "published"),
    [
        (torchvision.models.inception_v3, 299, 27_161_264),
        (torchvision.models.googlenet, 224, 13_004_888),
    ],
)
def test_torchvisions_networks_with_auxiliary_heads(make, side, published):
    with torch.device("meta"):
        net = make(weights=None, init_weights=False)
    assert summary(net, (3, side, side)).total_parameters == published


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "maxvit_t"])
def test_torchvisions_transformers(name):
    with torch.device("meta"):
        net = getattr(torchvision.models, name)()
    total = sum(p.numel() for p in net.parameters())
    for depth in (1, 3):
        assert summary(net, (3, 224, 224), depth=depth).total_parameters == total


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_quantized_layers_have_macs_that_nobody_counts():
    plain = nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 2))
    quantized = torch.ao.quantization.quantize_dynamic(plain, {nn.Linear})
    table = summary(quantized, (3, 4, 4))
    assert [row["macs"] for row in table.rows] == [0, None, 0, None]
    assert table.total_macs is None
    assert table.total_parameters == 0
    text = repr(table)
    assert "total MACs: ?" in text
    assert "2 layers have quantized weights, which are not counted" in text
    assert "unknown of 2" in table.plot().alt
    whole = summary(nn.Sequential(quantized), (3, 4, 4))
    assert [row["macs"] for row in whole.rows] == [None]


@pytest.mark.slow
def test_unknown_macs_are_drawn_as_such():
    rows = [
        {"layer": "a", "parameters": 5, "macs": 10},
        {"layer": "b", "parameters": 0, "macs": None},
    ]
    figure = plots.layer_costs(Table(rows))
    texts = [text.get_text() for axes in figure.figure.axes for text in axes.texts]
    assert "?" in texts
    assert "10  100%" in texts


class Joined(nn.Module):
    """Two convolutions side by side: each makes 2×8×8 floats, their concatenation 4×8×8."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 2, 1)
        self.b = nn.Conv2d(3, 2, 1)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], 1)


def test_the_total_of_activations_is_the_networks_at_any_depth():
    net = nn.Sequential(Joined())
    outer, inner = (summary(net, (3, 8, 8), depth=depth) for depth in (1, 2))
    assert outer.total_activation_kib == inner.total_activation_kib == (2 + 2 + 4) * 64 * 4 / 1024
    assert [row["activation_kib"] for row in inner.rows] == [0.5, 0.5]
    assert "activations: 2.0 KiB, 1.0 of them outside the layers listed" in repr(inner)
    assert "outside" not in repr(outer)
