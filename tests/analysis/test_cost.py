from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbook import analysis, models
from cnnbook.analysis import conv_cost, linear_cost


def test_one_by_one_reduction():
    direct = conv_cost(192, 32, 5, 28)
    assert direct.macs == 120_422_400
    assert direct.formula == "28·28·192·5·5·32 = 120,422,400"
    reduce, convolve = conv_cost(192, 16, 1, 28), conv_cost(16, 32, 5, 28)
    assert (reduce.macs, convolve.macs) == (2_408_448, 10_035_200)
    reduced = reduce + convolve
    assert reduced.macs == 12_443_648
    assert reduced.formula == "2,408,448 + 10,035,200 = 12,443,648"
    assert reduced.parameters == 192 * 16 + 16 + 16 * 25 * 32 + 32


def test_reduction_agrees_with_the_network():
    module = models.create("googlenet").inception3a
    rows = {r["layer"]: r for r in analysis.summary(module, (192, 28, 28)).rows}
    by_hand = conv_cost(192, 16, 1, 28) + conv_cost(16, 32, 5, 28)
    assert rows["branch5"]["macs"] == by_hand.macs
    assert rows["branch5"]["parameters"] == by_hand.parameters


def test_global_average_pooling_instead_of_a_fc_layer():
    fc = linear_cost((7, 7, 1024), 1024, bias=False)
    assert fc.macs == fc.parameters == 51_380_224
    assert fc.formula == "7·7·1024·1024 = 51,380,224"
    pooling = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    rows = analysis.summary(pooling, (1024, 7, 7)).rows
    assert [(r["macs"], r["parameters"]) for r in rows] == [(0, 0), (0, 0)]
    assert rows[-1]["output"] == "1024"


@pytest.mark.parametrize(("large", "small", "ratio"), [(5, 2, (25, 18)), (7, 3, (49, 27))])
def test_stack_of_small_filters(large, small, ratio):
    # Weights of one channel, without biases: 5×5 against two 3×3, 7×7 against three.
    one = conv_cost(1, 1, large, 32, bias=False)
    stack = [conv_cost(1, 1, 3, 32, bias=False)] * small
    assert (one.parameters, sum(cost.parameters for cost in stack)) == ratio
    wide = conv_cost(64, 64, large, 32, bias=False).parameters
    assert Fraction(wide, small * conv_cost(64, 64, 3, 32, bias=False).parameters) == Fraction(
        *ratio
    )


def test_sums_of_three():
    total = conv_cost(1, 1, 3, 2) + conv_cost(1, 1, 1, 2) + linear_cost(4, 1)
    assert total.formula == "36 + 4 + 4 = 44"
    assert str(total) == "36 + 4 + 4 = 44 multiply–adds; 17 parameters"
    with pytest.raises(TypeError):
        total + 1


@settings(deadline=None)
@given(
    *(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)),
    *(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.integers(1, 3), st.booleans()),
)
def test_convolutions_against_torch(seen, out, groups, kernel, stride, bias):
    layer = nn.Conv2d(seen * groups, out * groups, kernel, stride, groups=groups, bias=bias)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        y = layer(torch.zeros(1, seen * groups, 9, 8))
    cost = conv_cost(
        *(seen * groups, out * groups, kernel, tuple(y.shape[2:])), groups=groups, bias=bias
    )
    assert cost.macs == counter.get_total_flops() // 2
    assert cost.parameters == sum(p.numel() for p in layer.parameters())


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 9), st.booleans())
def test_fc_layers_against_torch(shape, outputs, bias):
    layer = nn.Sequential(nn.Flatten(), nn.LazyLinear(outputs, bias=bias))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.zeros(1, *shape))
    cost = linear_cost(shape, outputs, bias=bias)
    assert cost.macs == counter.get_total_flops() // 2
    assert cost.parameters == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv_cost(0, 1, 1, 1), "in_channels must be positive, got 0"),
        (lambda: conv_cost(1, 1, (3, 0), 1), "kernel must be positive, got 0"),
        (lambda: conv_cost(1, 1, 1, -1), "output_size must be positive, got -1"),
        (lambda: conv_cost(6, 4, 1, 1, groups=4), "6 and 4 channels .* into 4 groups"),
        (lambda: linear_cost((), 1), "inputs must be positive, got 0"),
        (lambda: linear_cost(1, 0), "outputs must be positive, got 0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
