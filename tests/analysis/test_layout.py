"""Which dimension holds the channels, in networks of all kinds."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from cnnbook.analysis._layout import channels_last_layers, made_channels_first

IMAGE = (3, 224, 224)


class Permuted(nn.Module):
    """A convolution whose maps are permuted, mixed by `mix`, and permuted back."""

    def __init__(self, mix=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.last = mix or nn.Identity()
        self.first = nn.Identity()

    def forward(self, x):
        return self.first(self.last(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2) * 1)


class Attention(nn.Module):
    """Global attention over positions: every position sees everything."""

    def __init__(self, channels):
        super().__init__()
        self.attend = nn.MultiheadAttention(channels, 2, batch_first=True)

    def forward(self, x):
        tokens = x.flatten(1, 2)
        return self.attend(tokens, tokens, tokens)[0].view(x.shape)


@pytest.mark.parametrize("mix", [None, nn.LayerNorm(8), nn.Linear(8, 8), Attention(8)])
@pytest.mark.parametrize("image", [(3, 12, 20), (3, 16, 16)])
def test_a_permutation_is_seen_even_where_all_units_see_everything(mix, image):
    net = Permuted(mix)
    assert channels_last_layers(net, image, ["conv", "last", "first"]) == {"last"}


def test_equal_lengths_do_not_confuse():
    # (N, 8, 8, 8) either way.
    assert channels_last_layers(Permuted(), (3, 16, 16), ["last", "first"]) == {"last"}
    net = Permuted(Attention(8))
    assert channels_last_layers(net, (3, 16, 16), ["last", "first"]) == {"last"}


class Fixed(nn.Module):
    """Positions and channels are mixed, and only one size is taken: nothing tells them apart."""

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(3 * 36, 216)
        self.maps = nn.Identity()

    def forward(self, x):
        return self.maps(self.mix(x.flatten(1)).view(-1, 6, 6, 6))


def test_what_cannot_be_told_is_refused():
    with pytest.raises(ValueError, match=r"layer 'maps' returns .* cannot be told"):
        channels_last_layers(Fixed(), (3, 6, 6), ["maps"])


def test_vectors_and_layers_that_do_not_run_are_not_channels_last():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))
    net.unused = nn.Identity()
    net.forward = lambda x: net[2](net[1](net[0](x)))
    assert channels_last_layers(net, (3, 8, 8), ["1", "2", "unused"]) == set()


def test_the_random_state_and_modes_stay():
    net = Permuted(Attention(8)).train()
    state = torch.get_rng_state()
    channels_last_layers(net, (3, 16, 16), ["last"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in net.modules())
    assert all(parameter.grad is None for parameter in net.parameters())


# The layouts are what the networks' source says.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "last", "first"),
    [
        (torchvision.models.swin_t, ["features.0", "features.7", "norm"], ["permute"]),
        (torchvision.models.convnext_tiny, ["features.7.2.block.2"], ["features.7"]),
        (torchvision.models.maxvit_t, [], ["blocks.3"]),
        (torchvision.models.resnet18, [], ["layer4", "relu", "avgpool"]),
        ("swin_tiny_patch4_window7_224", ["layers.0", "layers.3", "norm"], []),
        ("convnext_tiny", ["stages.0.blocks.0.mlp"], ["stages.3"]),
        ("maxvit_tiny_tf_224", ["stages.0.blocks.0.attn_block"], ["stages.3"]),
    ],
)
def test_foreign_networks(build, last, first):
    torch.manual_seed(0)
    net = timm.create_model(build) if isinstance(build, str) else build()
    assert channels_last_layers(net, IMAGE, [*last, *first]) == set(last)


def test_autograd_proves_what_an_elementwise_tail_leaves_in_place():
    x = torch.randn(1, 3, 8, 8)
    net = Permuted()
    maps = net.conv(x)
    assert made_channels_first(maps)
    assert made_channels_first(torch.relu(maps) + maps.mean((2, 3), keepdim=True))
    assert not made_channels_first(maps.permute(0, 2, 3, 1))
    assert not made_channels_first(torch.relu(maps.permute(0, 2, 3, 1)))
    assert not made_channels_first(nn.Linear(8, 8)(x))
    assert not made_channels_first(x)
