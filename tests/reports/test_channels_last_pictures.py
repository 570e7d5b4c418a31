"""Feature maps (N, H, W, C) give what the same maps permuted to (N, C, H, W) give."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis, plots


class BothWays(nn.Module):
    """A convolution whose maps pass a layer channels-last, then one channels-first."""

    def __init__(self, mix=None):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.last = mix or nn.Identity()
        self.first = nn.Identity()
        self.head = nn.Linear(5, 10)

    def forward(self, x):
        last = self.last(F.softplus(self.conv(x)).permute(0, 2, 3, 1))
        first = self.first(last.permute(0, 3, 1, 2) * 1)
        return self.head(first.pow(2).mean((2, 3)))


MIXES = [None, nn.LayerNorm(5), nn.Linear(5, 5), nn.Sequential(nn.Linear(5, 9), nn.Linear(9, 5))]
IMAGES = [(12, 9), (5, 5), (9, 12)]


@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("size", IMAGES)
def test_grad_cam(mix, size):
    net, x = BothWays(mix), torch.randn(4, 3, *size)
    for target in range(10):
        last = analysis.grad_cam(net, x, "last", target).maps
        first = analysis.grad_cam(net, x, "first", target).maps
        assert last.shape == (4, *size)
        torch.testing.assert_close(last, first, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("frozen", [False, True])
def test_grad_cam_of_frozen_networks(frozen):
    net, x = BothWays().requires_grad_(not frozen), torch.randn(1, 3, 12, 9)
    last, first = (analysis.grad_cam(net, x, layer, 1).maps for layer in ("last", "first"))
    torch.testing.assert_close(last, first, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", ["channel", "neuron"])
@pytest.mark.parametrize("mix", MIXES[1:3])
def test_maximize_activation(mix, objective):
    net = BothWays(mix)
    options = {"shape": (3, 12, 9), "steps": 3, "objective": objective}
    last, first = (
        analysis.maximize_activation(net, layer, [4, 0], **options) for layer in ("last", "first")
    )
    torch.testing.assert_close(last.activation, first.activation)
    torch.testing.assert_close(last.images, first.images, rtol=1e-3, atol=1e-4)
    for unit in (5, 7, 11):  # rows and columns, not channels
        with pytest.raises(ValueError, match="layer 'last' has units 0 … 4"):
            analysis.maximize_activation(net, "last", unit, shape=(3, 12, 9), steps=1)


@pytest.mark.parametrize("mix", MIXES[:3])
@pytest.mark.parametrize("size", IMAGES)
def test_top_patches(mix, size):
    net, x = BothWays(mix), torch.randn(6, 3, *size)
    last, first = (
        analysis.top_patches(net, x, layer, range(5), k=4) for layer in ("last", "first")
    )
    for name in ("patches", "images", "positions", "activation"):
        assert torch.equal(getattr(last, name), getattr(first, name)), name
    with pytest.raises(ValueError, match="layer 'last' has units 0 … 4"):
        analysis.top_patches(net, x, "last", 5, k=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "layer", "side"),
    [
        (torchvision.models.swin_t, "features.7", 7),
        (torchvision.models.swin_t, "features.5.1.attn", 14),
        (torchvision.models.convnext_tiny, "features.7.2.block.2", 7),
        (torchvision.models.convnext_tiny, "features.1.0.block.3", 56),
    ],
)
def test_known_networks(build, layer, side):
    found = analysis.grad_cam(build(), torch.randn(1, 3, 224, 224), layer, 1, upsample=False)
    assert found.maps.shape == (1, side, side)


class Tokens(nn.Module):
    """Tokens (N, L, C): neither feature maps nor one vector."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.tokens = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.tokens(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


def test_tokens_are_refused_in_words():
    net, x = Tokens(), torch.randn(2, 3, 16, 16)
    with pytest.raises(ValueError, match="not feature maps"):
        analysis.grad_cam(net, x, "tokens", 0)
    with pytest.raises(ValueError, match="neither feature maps"):
        analysis.maximize_activation(net, "tokens", 0, shape=(3, 16, 16), steps=1)
    with pytest.raises(ValueError, match="neither feature maps"):
        analysis.top_patches(net, x, "tokens", 0, k=1)


@pytest.mark.slow
@pytest.mark.parametrize("size", IMAGES)
def test_activations_are_drawn_as_maps(size):
    net, x = BothWays(), torch.randn(2, 3, *size)
    seen = analysis.activations(net, x, [net.conv, net.last, net.first])
    assert seen["last"].shape == (2, *size, 5)  # as the layer returned it
    maps = seen.channels_first()
    assert torch.equal(maps["last"], seen["first"])
    assert torch.equal(maps["conv"], seen["conv"])
    drawn = seen.plot(net.last)
    assert drawn.alt.startswith(f"5 feature maps of {size[0]}×{size[1]},")
    assert drawn.svg() == seen.plot("first", alt=drawn.alt).svg()
    for figure in (seen.plot(), plots.activations(seen)):
        assert f"last: 5×{size[0]}×{size[1]}, first: 5×{size[0]}×{size[1]}." in figure.alt


class TwoImages(nn.Module):
    """Two images in, channels-last maps of their sum."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.last = nn.LayerNorm(5)

    def forward(self, x, y):
        return self.last((self.conv(x) + self.conv(y)).permute(0, 2, 3, 1))


@pytest.mark.slow
def test_activations_of_several_inputs():
    x, y = torch.zeros(2, 3, 9, 8), torch.rand(2, 3, 9, 8)
    x[1, :, :4] = 1
    seen = analysis.activations(TwoImages(), (x, y))
    assert seen.channels_first(["last"])["last"].shape == (2, 5, 7, 6)
    figure = plots.activations(seen, index=1)  # the second image, not the second input
    assert "input: 3×9×8, conv: 5×7×6, last: 5×7×6." in figure.alt
    assert figure.alt == seen.plot(index=1).alt


class Unclear(nn.Module):
    """All units see everything, whatever the size: which dimension holds them cannot be told."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3 * 36, 216)
        self.maps = nn.Identity()

    def forward(self, x):
        return self.maps(self.mix(x.flatten(1)).view(-1, 6, 6, 6))


@pytest.mark.slow
def test_unclear_activations_are_kept_and_not_drawn():
    seen = analysis.activations(Unclear(), torch.rand(1, 3, 6, 6))
    assert seen["maps"].shape == (1, 6, 6, 6)
    with pytest.raises(ValueError, match=r"layer 'maps' returns .* cannot be told"):
        seen.plot("maps")
    assert plots.feature_maps(seen["maps"]).alt.startswith("6 feature maps of 6×6")
