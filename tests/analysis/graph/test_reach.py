"""The arithmetic of boxes."""

import pytest
import torch
from torch import nn

from cnnbook.analysis import Reach, Untraceable, receptive_field
from cnnbook.analysis.graph import Part, Span, join, product

IMAGE = Reach.of_image((1, 3, 8, 12))


def test_of_an_image_every_element_is_one_pixel():
    assert IMAGE.shape == (1, 3, 8, 12)
    assert IMAGE.spans == (Span(0, 0), Span(0, 0))
    assert [IMAGE.grid(axis) for axis in (0, 1)] == [(8, 1), (12, 1)]
    assert IMAGE.whole(1) == Span(0, 11)


def test_reshaping_there_and_back_changes_nothing():
    for shape in ((1, 3 * 8 * 12), (1, 3, 4, 2, 12), (3, 8, 1, 12), (1, 3, 8, 3, 4)):
        there = IMAGE.reshape(shape)
        assert there.shape == shape
        assert there.reshape(IMAGE.shape) == IMAGE
    assert IMAGE.reshape((1, 3, 4, 2, 12)).dims[2:4] == ((Part(4, 0, 2),), (Part(2, 0, 1),))
    with pytest.raises(Untraceable, match="mixes positions and channels"):
        IMAGE.reshape((1, 5, 8, 12))


def test_windows_of_windows_compose():
    once = IMAGE.windows((1, 3, 4, 6), kernel=3, stride=2, padding=1)
    twice = once.windows((1, 3, 2, 2), kernel=(2, 3), stride=(2, 3))
    assert twice.spans == (Span(-1, 3), Span(-1, 5))
    assert [twice.grid(axis) for axis in (0, 1)] == [(2, 4), (2, 6)]


@pytest.mark.parametrize(
    ("settings", "length"),
    [
        ({"kernel": 3}, 12),  # padding= forgotten
        ({"kernel": 3, "stride": 2}, 6),  # the same, hidden by the stride
        ({"kernel": 3, "padding": 1}, 14),
        ({"kernel": 3, "padding": 1, "dilation": 2}, 12),
        ({"kernel": 3, "stride": 2, "ceil_mode": True}, 7),
    ],
)
def test_windows_that_do_not_fit_give_no_number(settings, length):
    match = f"{length} positions of a window of 3, .* do not fit into 1.*padding="
    with pytest.raises(Untraceable, match=match):
        IMAGE.window(3, length=length, **settings)
    kernel = settings.pop("kernel")
    with pytest.raises(Untraceable, match=match):
        IMAGE.permute([0, 1, 3, 2]).windows((1, 3, length), (kernel,), **settings)


def test_windows_that_leave_pixels_unused_give_no_number():
    with pytest.raises(Untraceable, match=r"6 positions .* leave 5 of 12 .* is stride= missing"):
        IMAGE.windows((1, 3, 4, 6), kernel=(1, 2), stride=(2, 1))


@pytest.mark.parametrize("ceil_mode", [False, True])
def test_windows_fit_whenever_torch_makes_them(ceil_mode):
    for size in (5, 6, 7, 8):
        for kernel in (1, 2, 3):
            for stride in (1, 2, 3, 4):
                for padding in range(kernel // 2 + 1):
                    pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil_mode)
                    length = pool(torch.zeros(1, 1, size, size)).shape[-1]
                    settings = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode}
                    found = Reach.of_image((1, 1, size, size)).windows(
                        (1, 1, length, length), kernel, **settings
                    )
                    assert found.spans[0] == Span(-padding, kernel - 1 - padding)


def test_padding_at_one_end_only():
    causal = IMAGE.window(3, 3, padding=2, end_padding=0, length=12)
    assert causal.spans[1] == Span(-2, 0)
    with pytest.raises(Untraceable, match="do not fit into 12"):
        IMAGE.window(3, 3, end_padding=0, length=12)


@pytest.mark.parametrize("wrong", [(9, 1, 4), (-1, 1, 4), (0, 4, 4)])
def test_positions_that_do_not_exist_cannot_be_kept(wrong):
    with pytest.raises(Untraceable, match="are not all among 12"):
        IMAGE.keep(3, *wrong)
    assert IMAGE.keep(3, 9, 1, 3).whole(1) == Span(9, 11)
    assert IMAGE.keep(3, 12, 1, 0).shape == (1, 3, 8, 0)


def test_a_sum_over_positions_sees_them_all():
    row = IMAGE.reduce([-1])
    assert row.shape == (1, 3, 8)
    assert row.spans == (Span(0, 0), Span(0, 11))
    assert IMAGE.reduce([2, 3], keepdim=True).shape == (1, 3, 1, 1)
    assert not IMAGE.mix([3]).varies(1)


def test_operands_that_shift_differently_do_not_meet():
    wide = IMAGE.windows((1, 3, 8, 12), kernel=3, padding=1)
    assert join([IMAGE, wide], wide.shape).spans == wide.spans
    with pytest.raises(Untraceable, match="different steps"):
        join([IMAGE.keep(2, 0, 2, 4), IMAGE.keep(2, 0, 1, 4)], (1, 3, 4, 12))
    part = IMAGE.keep(2, 0, 1, 4).reduce([2], keepdim=True)
    with pytest.raises(Untraceable, match="with and without positions"):
        join([IMAGE, part], IMAGE.shape)


def test_a_matrix_product_sees_what_it_sums_over():
    a, b = IMAGE.reshape((3, 8, 12)), IMAGE.reshape((3, 8, 12)).permute([0, 2, 1])
    assert product(a, None, (3, 8, 5)).spans == (Span(0, 0), Span(0, 11))
    assert product(None, b, (3, 5, 8)).spans == (Span(0, 0), Span(0, 11))


class Shuffle(nn.Module):
    """Distribute channels over 2×2 pixels, as nn.PixelShuffle does."""

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(n, c // 4, 2 * h, 2 * w)


def test_neighbors_that_share_a_field_are_not_counted_as_one():
    # Of the 20×20 units, two by two see the same: no single distance is right for all.
    net = nn.Sequential(nn.Conv2d(1, 4, 3), Shuffle())
    x = torch.rand(1, 1, 12, 12)
    assert torch.equal(net[1](x.expand(1, 4, 12, 12)), nn.PixelShuffle(2)(x.expand(1, 4, 12, 12)))
    with pytest.raises(ValueError, match="neighboring units share one field"):
        receptive_field(net, (1, 12, 12), "1")
    # Flattened, positions and channels share a dimension, and the positions are still known.
    flat = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    assert receptive_field(flat, (1, 12, 12), "1").positions == (10, 10)
