"""Receptive fields where several dimensions run over one axis, or units share boxes."""

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from cnnbook import analysis
from cnnbook.analysis import receptive_field


class Last(nn.Module):
    """A function, and a layer after it."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.inner = function, nn.ModuleList(modules)
        self.out = nn.Identity()

    def forward(self, x):
        return self.out(self.function(x, *self.inner))


def support(net, shape, unit):
    """Return the rows and columns on which a unit depends, by gradients."""
    torch.manual_seed(0)
    x = (torch.rand(1, *shape).double() + 0.5).requires_grad_()
    (gradient,) = torch.autograd.grad(net.double()(x)[0, :, unit[0], unit[1]].sum(), x)
    seen = gradient[0].abs().sum(0) > 0
    return tuple(
        (int(line.nonzero().min()), int(line.nonzero().max()) + 1)
        for line in (seen.any(1), seen.any(0))
    )


BLOCK = (1, 2, 12, 2, 10, 2)


def blocks_minus_mean(x):
    y = x.view(BLOCK)
    return (y - y.mean((3, 5), keepdim=True) / 3).view(x.shape)


def pairs_of_rows(x):
    return F.softplus(x[:, :, :, None, :] + x[:, :, None, :, :]).sum(3)


def gram_of_rows(x):
    gram = torch.einsum("bchw,bcgw->bhgw", x, x).div(9).exp()
    return gram.mean(2)[:, None].expand(-1, 2, -1, -1)


def window_attention(x, shift=0):
    n, c, h, w = x.shape
    x = x.roll((-shift, -shift), (2, 3)).permute(0, 2, 3, 1)
    y = x.reshape(n, h // 4, 4, w // 4, 4, c).transpose(2, 3).reshape(-1, 16, c)
    y = F.scaled_dot_product_attention(y, y, y)
    y = y.reshape(n, h // 4, w // 4, 4, 4, c).transpose(2, 3).reshape(n, h, w, c)
    return y.permute(0, 3, 1, 2).roll((shift, shift), (2, 3))


def grid_attention(x):  # as in MaxViT: every sixth pixel together
    n, c, h, w = x.shape
    y = x.reshape(n, c, 4, h // 4, 4, w // 4).permute(0, 3, 5, 2, 4, 1).reshape(-1, 16, c)
    y = F.scaled_dot_product_attention(y, y, y)
    return y.reshape(n, h // 4, w // 4, 4, 4, c).permute(0, 5, 3, 1, 4, 2).reshape(n, c, h, w)


def global_tokens(x):
    y = x.flatten(2).transpose(1, 2)
    return (y + y.mean(1, keepdim=True)).transpose(1, 2).reshape(x.shape)


FUNCTIONS = {
    "block mean": blocks_minus_mean,
    "pairs of rows": pairs_of_rows,
    "Gram matrix": gram_of_rows,
    "window attention": window_attention,
    "shifted windows": lambda x: window_attention(x, 2),
    "two kinds of windows": lambda x: window_attention(window_attention(x), 2),
    "grid attention": grid_attention,
    "tokens": global_tokens,
    "blockwise softmax": lambda x: x.view(1, 2, 6, 4, 20).softmax(3).view(x.shape),
    "rows repeated": lambda x: x[:, :, ::2].repeat_interleave(2, 2),
    "tiled": lambda x: x[:, :, :12].repeat(1, 1, 2, 1),
    "pixels shuffled": lambda x: F.pixel_shuffle(x.repeat(1, 4, 1, 1), 2),
    "unshuffled": lambda x: F.pixel_unshuffle(x, 2),
    "patches": lambda x: F.unfold(x, 4, stride=4).view(1, 32, 6, 5),
    "flipped sum": lambda x: x + x.flip(2),
    "broadcast row": lambda x: x + x[:, :, 5:6],
    "cross": lambda x: x.mean(2, keepdim=True) + x.mean(3, keepdim=True),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_boxes_of_sampled_units_are_those_of_the_gradient(name):
    net, shape = Last(FUNCTIONS[name]), (2, 24, 20)
    field = receptive_field(net, shape, "out")
    rows, columns = net(torch.ones(1, *shape)).shape[2:]
    assert field.positions == (rows, columns)
    for unit in [(0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3), (1, columns // 2)]:
        assert field.box(*unit, clip=True) == support(net, shape, unit), unit


def test_where_no_dimension_is_known_to_hold_the_rows_all_units_see_the_same():
    def distances(x):
        y = x.mean(2)
        y = F.softplus(y[:, :, :, None] - y[:, :, None, :]).sum(3)
        return y[:, :, None].sum(3, keepdim=True).expand(-1, -1, 24, 20)

    field = receptive_field(Last(distances), (2, 24, 20), "out")
    assert field.shared
    assert field.box() == ((0, 24), (0, 20))


@pytest.mark.slow
def test_swin_windows():
    # 56×56 tokens of 4 pixels in windows of 7.
    net = torchvision.models.swin_t(weights=None).eval()
    field = receptive_field(net, (3, 224, 224), "features.1.0")
    assert (field.positions, field.size, field.jump) == ((56, 56), (28, 28), (4, 4))
    assert [field.box(i, i)[0] for i in (6, 7, 8, 14)] == [(0, 28), (28, 56), (28, 56), (56, 84)]
    shifted = receptive_field(net, (3, 224, 224), "features.1.1")
    assert shifted.box(10, 10)[0] == (28, 84)  # windows of tokens 10…16, that see windows 1 and 2
    assert not shifted.even


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize(
    "enlarge",
    [
        lambda x, f: x.repeat_interleave(f, 2).repeat_interleave(f, 3),
        lambda x, f: (
            x[:, :, :, None, :, None].expand(-1, -1, -1, f, -1, f).reshape(1, -1, 6 * f, 6 * f)
        ),
        lambda x, f: F.interpolate(x, scale_factor=f),
        lambda x, f: torch.kron(x, torch.ones(1, 1, f, f)),
    ],
)
def test_enlarged_maps_have_all_their_units(enlarge, factor):
    net = Last(lambda x: enlarge(x, factor))
    field = receptive_field(net, (1, 6, 6), "out")
    assert field.positions == (6 * factor, 6 * factor)
    assert (field.size, field.jump) == ((1, 1), (Fraction(1, factor),) * 2)
    assert field.box(2 * factor - 1, 0) == ((1, 2), (0, 1))
    assert analysis.summary(net, (1, 6, 6))[-1]["jump"] == f"1/{factor}"


def test_top_patches_of_an_enlarged_map_show_the_right_pixel():
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Upsample(scale_factor=2))
    nn.init.ones_(net[0].weight)
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 2, 3] = 1
    assert analysis.top_patches(net, x, "1", 0, k=1).patches.flatten().tolist() == [1.0]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("kernel", [3, 5])
def test_padding_modes(mode, kernel):
    net = nn.Sequential(nn.Conv2d(1, 1, kernel, padding=kernel // 2, padding_mode=mode))
    nn.init.ones_(net[0].weight)
    field = receptive_field(net, (1, 16, 16), "0")
    assert (field.size, field.jump, field.positions) == ((kernel,) * 2, (1, 1), (16, 16))
    for unit in [(0, 0), (8, 8), (15, 1)]:
        assert field.box(*unit, clip=True) == support(net, (1, 16, 16), unit)


RESIZED = {
    "transposed": nn.ConvTranspose2d(1, 1, 4, 2, 1),
    "transposed, uneven": nn.ConvTranspose2d(1, 1, 3, 2, 1, 1),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "corners": nn.Upsample(size=(13, 19), mode="bilinear", align_corners=True),
    "adaptive": nn.AdaptiveAvgPool2d((5, 7)),
    "fold": nn.Sequential(nn.Unfold(2), nn.Fold((12, 12), 2)),
}


@pytest.mark.parametrize("name", RESIZED)
def test_neighbors_whose_boxes_differ(name):
    net = nn.Sequential(RESIZED[name])
    for parameter in net.parameters():
        nn.init.ones_(parameter)
    field = receptive_field(net, (1, 12, 12), "0")
    rows, columns = net(torch.ones(1, 1, 12, 12).to(next(net.parameters(), torch.ones(1)))).shape[
        2:
    ]
    assert field.positions == (rows, columns)
    for i in range(1, rows - 1):
        assert field.box(i, 2, clip=True) == support(net, (1, 12, 12), (i, 2))


class Tokens(nn.Module):
    """A mean over windows of 2×2, a convolution; then tokens in some order."""

    def __init__(self, order):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)
        self.tokens = nn.Identity()
        self.order = order

    def forward(self, x):
        windows = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # (N, C, 4, 2, 4, 2)
        mean = windows.mean((3, 5), keepdim=True).expand_as(windows)
        return self.tokens(self.order(self.conv(mean.flatten(4).flatten(2, 3))))


def test_tokens_that_share_boxes_count_each():
    net = Tokens(lambda maps: maps.flatten(2).transpose(1, 2))
    field = analysis.receptive_field(net, (1, 8, 8), "tokens")
    assert field.positions == (8, 8)
    # Rows 2 to 4 of unit 3 are in the windows of rows 2 and 3, and 4 and 5.
    assert field.box(3, 4) == ((2, 6), (2, 6))
    assert field.box(3, 1, clip=True) == ((2, 6), (0, 4))
    x = torch.rand(1, 1, 8, 8, requires_grad=True)
    for row, column in ((3, 4), (3, 1), (5, 6)):
        (gradient,) = torch.autograd.grad(net(x)[0, 8 * row + column].sum(), x)
        seen = gradient[0, 0].nonzero()
        bounds = tuple((int(a.min()), int(a.max()) + 1) for a in seen.T)
        assert field.box(row, column, clip=True) == bounds


@pytest.mark.parametrize(
    "order",
    [
        lambda maps: maps.transpose(2, 3).flatten(2).transpose(1, 2),  # column by column
        lambda maps: maps.unflatten(3, (-1, 2)).permute(0, 4, 2, 3, 1).flatten(1, 3),
        lambda maps: maps.unflatten(2, (-1, 2)).permute(0, 2, 3, 4, 1).flatten(0, 1).flatten(1, 2),
    ],
)
def test_tokens_in_another_order_are_refused(order):
    with pytest.raises(ValueError, match=r"rows of a grid|split into windows"):
        analysis.receptive_field(Tokens(order), (1, 8, 8), "tokens")
