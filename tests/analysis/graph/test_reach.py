"""The arithmetic of boxes."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

from cnnbook.analysis import Reach, Untraceable, receptive_field
from cnnbook.analysis.graph import Part, Span, join, product

IMAGE = Reach.of_image((1, 3, 8, 12))


def test_of_an_image_every_element_is_one_pixel():
    assert IMAGE.shape == (1, 3, 8, 12)
    assert IMAGE.box(0, 0, 0, 0) == (Span(0, 0), Span(0, 0))
    assert IMAGE.box(0, 2, 3, 5) == (Span(3, 3), Span(5, 5))
    assert IMAGE.whole(1) == Span(0, 11)


def test_reshaping_there_and_back_changes_nothing():
    for shape in ((1, 3 * 8 * 12), (1, 3, 4, 2, 12), (3, 8, 1, 12), (1, 3, 8, 3, 4)):
        there = IMAGE.reshape(shape)
        assert there.shape == shape
        assert there.reshape(IMAGE.shape) == IMAGE
    split = IMAGE.reshape((1, 3, 4, 2, 12))
    assert split.dims[2:4] == ((Part(4, 0),), (Part(2, 0),))
    assert split.box(0, 0, 3, 1, 0)[0] == Span(7, 7)
    with pytest.raises(Untraceable, match="cannot be reshaped"):
        IMAGE.reshape((1, 5, 8, 12))


def test_a_reshape_may_mix_positions_and_channels():
    # Element 100 of 3×8×12 is at row 0 of channel 1, column 4.
    mixed = IMAGE.reshape((1, 36, 8))
    assert mixed.box(0, 100 // 8, 100 % 8) == (Span(0, 0), Span(4, 4))
    assert mixed.layout is None
    assert mixed.reshape(IMAGE.shape).box(0, 1, 2, 3) == IMAGE.box(0, 1, 2, 3)


def test_windows_of_windows_compose():
    once = IMAGE.windows((1, 3, 4, 6), kernel=3, stride=2, padding=1)
    twice = once.windows((1, 3, 2, 2), kernel=(2, 3), stride=(2, 3))
    assert twice.box(0, 0, 0, 0) == (Span(-1, 3), Span(-1, 5))
    assert twice.box(0, 0, 1, 1) == (Span(3, 7), Span(5, 11))


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
                    assert found.box(0, 0, 0, 0)[0] == Span(-padding, kernel - 1 - padding)


def test_padding_at_one_end_only():
    causal = IMAGE.window(3, 3, padding=2, end_padding=0, length=12)
    assert causal.box(0, 0, 0, 0)[1] == Span(-2, 0)
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
    assert row.box(0, 0, 0) == (Span(0, 0), Span(0, 11))
    assert IMAGE.reduce([2, 3], keepdim=True).shape == (1, 3, 1, 1)
    assert not IMAGE.mix([3]).varies(1)


def test_operands_that_shift_differently_meet_unit_by_unit():
    wide = IMAGE.windows((1, 3, 8, 12), kernel=3, padding=1)
    assert join([IMAGE, wide], wide.shape) == wide
    every, second = IMAGE.keep(2, 0, 1, 4), IMAGE.keep(2, 0, 2, 4)
    assert join([every, second], every.shape).box(0, 0, 3, 0)[0] == Span(3, 6)
    gate = every.reduce([2], keepdim=True)
    found = join([IMAGE, gate], IMAGE.shape)
    assert [found.box(0, 0, row, 0)[0] for row in (1, 6)] == [Span(0, 3), Span(0, 6)]


def test_an_operand_that_is_repeated_does_not_shift():
    # The mean of a block of two rows, taken from both.
    blocks = IMAGE.reshape((1, 3, 4, 2, 12))
    mean = blocks.reduce([3], keepdim=True)
    found = join([blocks, mean], blocks.shape).reshape(IMAGE.shape)
    assert [found.box(0, 0, row, 0)[0] for row in (4, 5)] == [Span(4, 5), Span(4, 5)]


def test_beyond_the_ends_regular_rows_go_on():
    twice = IMAGE.gather(2, (np.arange(16) // 2)[:, None])
    assert [twice.window(2, 3, padding=1, length=16).box(0, 0, r, 0)[0] for r in (0, 1, 2, 15)] == [
        *(Span(-1, 0), Span(0, 1), Span(0, 1), Span(7, 8))
    ]
    uneven = IMAGE.gather(2, np.array([[0], [1], [5]]))
    assert uneven.window(2, 3, padding=1, length=3).box(0, 0, 2, 0)[0] == Span(1, 5)


def test_what_does_not_depend_on_the_image_has_an_empty_box():
    nothing = Reach.of_nothing((1, 3, 8, 12), 2)
    assert nothing.sees_nothing
    assert nothing.box(0, 0, 0, 0)[0].first > nothing.box(0, 0, 0, 0)[0].last
    assert join([IMAGE, nothing], IMAGE.shape) == IMAGE


def test_channels_are_last_only_where_that_is_known():
    assert IMAGE.channels_last is False
    last = IMAGE.permute([0, 2, 3, 1])
    assert last.channels_last is True
    assert last.mix([1, 2]).channels_last is True  # all units see all: the layout is still known
    assert IMAGE.reshape((1, 36, 8)).channels_last is None
    assert IMAGE.reshape((1, 6, 12, 4)).channels_last is None
    assert IMAGE.reshape((1, 3, 2, 4, 12)).channels_last is None


def test_a_matrix_product_sees_what_it_sums_over():
    a, b = IMAGE.reshape((3, 8, 12)), IMAGE.reshape((3, 8, 12)).permute([0, 2, 1])
    assert product(a, None, (3, 8, 5)).box(0, 0, 0) == (Span(0, 0), Span(0, 11))
    assert product(None, b, (3, 5, 8)).box(0, 0, 0) == (Span(0, 0), Span(0, 11))


class Shuffle(nn.Module):
    """Distribute channels over 2×2 pixels, as nn.PixelShuffle does."""

    def forward(self, x):
        n, c, h, w = x.shape
        x = x.view(n, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3)
        return x.reshape(n, c // 4, 2 * h, 2 * w)


def test_neighbors_that_share_a_field_are_not_counted_as_one():
    # Of the 20×20 units, two by two see the same.
    net = nn.Sequential(nn.Conv2d(1, 4, 3), Shuffle())
    x = torch.rand(1, 1, 12, 12)
    assert torch.equal(net[1](x.expand(1, 4, 12, 12)), nn.PixelShuffle(2)(x.expand(1, 4, 12, 12)))
    for member in (Shuffle(), nn.PixelShuffle(2), nn.Upsample(scale_factor=2)):
        net[1] = member
        field = receptive_field(net, (1, 12, 12), "1")
        assert (field.positions, field.size, field.jump) == (
            (20, 20),
            (3, 3),
            (Fraction(1, 2),) * 2,
        )
        assert [field.box(row, 0)[0] for row in (0, 1, 2, 19)] == [(0, 3), (0, 3), (1, 4), (9, 12)]
        assert not field.even
        assert "20×20 units 1/2×1/2 pixels apart" in str(field)
    # Flattened, positions and channels share a dimension, and the positions are still known.
    flat = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten())
    assert receptive_field(flat, (1, 12, 12), "1").positions == (10, 10)
