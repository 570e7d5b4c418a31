"""What `summary`, `receptive_field` and `trace` take as input, and what they say to the rest."""

import numpy as np
import pytest
import torch
from torch import nn

from cnnbook import analysis


def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())


FORMS = {
    "tuple": (3, 8, 8),
    "list": [3, 8, 8],
    "torch.Size": torch.Size([3, 8, 8]),
    "numpy integers": tuple(np.array([3, 8, 8])),
    "numpy array": np.array([3, 8, 8]),
    "with a batch": (1, 3, 8, 8),
    "with a larger batch": (16, 3, 8, 8),
    "batch": torch.randn(5, 3, 8, 8),
    "one image": torch.randn(3, 8, 8),
    "tuple of one": (torch.randn(2, 3, 8, 8),),
    "tuple of one shape": ((3, 8, 8),),
}


@pytest.mark.parametrize("form", FORMS)
def test_all_forms_give_the_same_numbers(form):
    expected = analysis.trace(network(), (3, 8, 8))
    found = analysis.trace(network(), FORMS[form])
    assert found.input_shape == (3, 8, 8)
    assert [(c.shape, c.macs) for c in found.calls] == [(c.shape, c.macs) for c in expected.calls]
    assert analysis.receptive_field(network(), FORMS[form], "0").size == (3, 3)
    assert analysis.summary(network(), FORMS[form])[0]["macs"] == 36 * 4 * 27


@pytest.mark.parametrize(
    "wrong",
    [
        *(8, 8.5, None, "small", (), (3, 0, 8), (3, -8, 8), (3, 8.0, 8), {"x": (3, 8, 8)}),
        *((True, 8, 8), ((3, 8, 8), 4), np.zeros((3, 8, 8)), torch.zeros(0, 3, 8, 8), ((),)),
    ],
)
def test_other_forms_are_refused_by_name(wrong):
    for look in (
        lambda: analysis.summary(network(), wrong),
        lambda: analysis.receptive_field(network(), wrong, "0"),
        lambda: analysis.trace(network(), wrong),
    ):
        with pytest.raises(ValueError, match="input_shape must be the shape of one image"):
            look()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((4, 8, 8), r"input_shape begins with the channels: try \(3, 8, 8\)"),
        ((8, 8), r"input_shape begins with the channels: try \(3, 8, 8\) or \(1, 8, 8\)"),
        ((8, 8, 3), r"input_shape begins with the channels: try \(3, 8, 8\)"),
        ((3, 2, 2), r"input_shape must be what it takes. It says: .*[Kk]ernel size"),
        (torch.zeros(1, 3, 8, 8).long(), r"tensor of shape .*int64; input_shape must be"),
        (((3, 8, 8), (3, 8, 8)), r"inputs of shapes .*input_shape takes"),
    ],
)
def test_what_the_network_does_not_take(given, message):
    with pytest.raises(ValueError, match=rf"the network does not run on .*{message}"):
        analysis.summary(network(), given)


class Two(nn.Module):
    """Takes two images, or an image and a number."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)

    def forward(self, x, y):
        return self.a(x) + (self.b(y) if y.ndim == 4 else y[:, None, None, None])


@pytest.mark.parametrize(
    "second", [(3, 8, 8), torch.randn(1, 3, 8, 8), torch.randn(6, 3, 8, 8), torch.randn(1)]
)
def test_several_inputs(second):
    given = ((3, 8, 8), second)
    found = analysis.trace(Two(), given)
    images = 1 if isinstance(second, torch.Tensor) and second.ndim == 1 else 2
    assert found.calls[0].macs == images * 36 * 4 * 27
    assert analysis.receptive_field(Two(), given, "a").size == (3, 3)
    if images == 2:
        with pytest.raises(ValueError, match="'b' does not depend on the image"):
            analysis.receptive_field(Two(), given, "b")
        # Both are drawn.
        assert [block.name or block.kind for block in found.blocks()] == ["a", "b", "add"]
    with pytest.raises(ValueError, match="input_shape takes a tuple for several inputs"):
        analysis.summary(Two(), (3, 8, 8))


def test_words_are_given_as_an_example():
    net = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2))
    assert analysis.trace(net, torch.tensor([[1, 2, 3]])).calls[0].shape == (2,)


class NeedsPositive(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        if x.max() <= 0:
            raise RuntimeError("all black")
        return self.conv(x)


def test_the_values_of_an_example_are_used_where_a_network_needs_them():
    with pytest.raises(ValueError, match=r"input_shape must be what it takes\. It says: all black"):
        analysis.trace(NeedsPositive(), (3, 8, 8))
    assert analysis.trace(NeedsPositive(), torch.ones(2, 3, 8, 8)).calls[0].shape == (4, 6, 6)


def indexed():
    class Indexed(nn.Module):
        def forward(self, x):
            return x.index_select(2, torch.tensor([3, 0, 5, 1]))

    return nn.Sequential(nn.Conv2d(3, 4, 3), Indexed())


def test_an_index_is_followed_by_its_values():
    field = analysis.receptive_field(indexed(), (3, 8, 8), "1")
    assert [field.box(row, 0)[0] for row in range(4)] == [(3, 6), (0, 3), (5, 8), (1, 4)]


def compiled(net):
    return torch.compile(net, backend="eager")


KINDS = {
    "half": lambda net: net.half(),
    "double": lambda net: net.double(),
    "bfloat16": lambda net: net.bfloat16(),
    "compiled": compiled,
    "data-parallel": nn.DataParallel,
    "frozen": lambda net: net.requires_grad_(False),
    "complex": lambda net: net.to(torch.complex64)[:1],
    "on meta": lambda net: net.to("meta"),
    "scripted": torch.jit.script,
    "traced": lambda net: torch.jit.trace(net, torch.zeros(1, 3, 8, 8)),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Complex modules:UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_networks(kind):
    net = KINDS[kind](network())
    found = analysis.trace(net, (3, 8, 8))
    assert found.calls[0].shape == (4, 6, 6)
    if kind != "complex":  # a complex product is several real ones
        assert found.calls[0].macs == 36 * 4 * 27
    if kind in ("scripted", "traced"):  # their layers are not seen
        assert [call.name for call in found.calls] == [""]
        with pytest.raises(ValueError, match=r"'0' does not run|unknown layer"):
            analysis.receptive_field(net, (3, 8, 8), "0")
    else:
        assert [call.name for call in found.calls][:2] == ["", "0"]
        assert analysis.receptive_field(net, (3, 8, 8), "0").size == (3, 3)


def test_layers_as_modules():
    net = network()
    by_name = analysis.receptive_field(net, (3, 8, 8), "0")
    assert analysis.receptive_field(net, (3, 8, 8), net[0]) == by_name
    assert analysis.receptive_field(nn.DataParallel(net), (3, 8, 8), net[0]) == by_name
    x = torch.randn(1, 3, 8, 8)
    assert analysis.effective_receptive_field(net, x, net[1]).layer == "1"
    with pytest.raises(ValueError, match="not a layer of the network"):
        analysis.receptive_field(net, (3, 8, 8), nn.ReLU())


class Last(nn.Module):
    """Has the same maps in both layouts, and returns a dict."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.last, self.first = nn.Identity(), nn.Identity()

    def forward(self, x):
        y = self.last(nn.functional.softplus(self.conv(x).permute(0, 2, 3, 1)))
        return {"maps": self.first(y.permute(0, 3, 1, 2) * 1), "size": 3}


@pytest.mark.parametrize("unit", [None, (6, 4), (0, 8)])
def test_effective_field_of_channels_last_maps(unit):
    net, x = Last(), torch.randn(2, 3, 12, 9)
    last = analysis.effective_receptive_field(net, x, "last", unit=unit)
    first = analysis.effective_receptive_field(net, x, "first", unit=unit)
    assert last.unit == first.unit
    assert torch.equal(last.effect, first.effect)
    assert last.effect.count_nonzero() in (4, 6, 9)
    with pytest.raises(ValueError, match="has 12×9 units, none at"):
        analysis.effective_receptive_field(net, x, "last", unit=(0, 9))


def test_effective_field_of_half_networks_and_inference_tensors():
    net = Last()
    with torch.inference_mode():
        x = torch.randn(1, 3, 12, 9)
        found = analysis.effective_receptive_field(net, x, "first")
    assert found.effect.count_nonzero() == 9
    half = analysis.effective_receptive_field(net.bfloat16(), x, "first")
    assert half.effect.dtype == torch.float32
    assert torch.allclose(half.effect, found.effect, rtol=0.1, atol=0.02)
