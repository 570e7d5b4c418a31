"""Gradients of a single image through a normalization whose output becomes tokens.

torch 2.12 mixes up positions and channels there, on the CPU; analyses must not.
"""

import pytest
import torch
from torch import nn

from cnnbook import analysis


class Tokens(nn.Module):
    """A convolution with a normalization, as the patches of XCiT; then tokens ``(N, H·W, C)``."""

    def __init__(self, norm):
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), norm)
        self.tokens = nn.LayerNorm(8)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        maps = self.patches(x)
        tokens = self.tokens(maps.flatten(2).transpose(1, 2))
        return self.head(tokens[:, 4:9].square().mean(1))


NORMS = {
    "batch": lambda: nn.BatchNorm2d(8),
    "instance": lambda: nn.InstanceNorm2d(8, affine=True),
    "group": lambda: nn.GroupNorm(2, 8),
}


@pytest.mark.parametrize("kind", NORMS)
def test_one_image_has_the_gradient_that_it_has_among_others(kind):
    torch.manual_seed(0)
    net = Tokens(NORMS[kind]()).eval()
    x = torch.rand(3, 3, 6, 6)
    alone = analysis.grad_cam(net, x[:1], "patches.0", 3, upsample=False).maps[0]
    among = analysis.grad_cam(net, x, "patches.0", 3, upsample=False).maps[0]
    assert among.max() > 0
    torch.testing.assert_close(alone, among)


def test_the_gradients_reach_only_the_pixels_that_are_seen():
    class Maps(nn.Module):
        """The tokens as maps again, for a function that takes maps."""

        def __init__(self, net):
            super().__init__()
            self.net, self.maps = net, nn.Identity()

        def forward(self, x):
            tokens = self.net.tokens(self.net.patches(x).flatten(2).transpose(1, 2))
            return self.maps(
                tokens.transpose(1, 2).unflatten(2, (6, 6)) * torch.arange(1.0, 37).view(6, 6)
            )

    torch.manual_seed(0)
    net = Maps(Tokens(nn.BatchNorm2d(8)))
    with torch.no_grad():
        net.net.tokens.weight.copy_(torch.arange(8.0))
    effect = analysis.effective_receptive_field(
        net, torch.rand(1, 3, 6, 6), "maps", unit=(2, 3)
    ).effect
    rows, columns = effect.nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (1, 3, 2, 4)


@pytest.mark.parametrize("kind", NORMS)
def test_an_image_twice_has_the_gradients_of_one(kind):
    torch.manual_seed(0)
    net = Tokens(NORMS[kind]())
    x, y = torch.rand(1, 3, 6, 6), torch.tensor([3])
    once = analysis.gradient_norms(net, x, y)
    twice = analysis.gradient_norms(net, x.repeat(2, 1, 1, 1), y.repeat(2))
    assert once == pytest.approx(twice, rel=1e-4)
