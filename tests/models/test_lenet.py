"""LeNet-5 against the numbers of Section II-B of the 1998 paper."""

import pytest
import torch
import torch.nn.functional as F
from helpers import count, shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnbook.models import lenet5, lenet5_1998, map_loss
from cnnbook.models.lenet import (
    C3_INPUTS,
    EuclideanRBF,
    PartialConv2d,
    ScaledTanh,
    Subsampling,
    digit_codes,
    random_codes,
)

MAPS = {
    "c1": (6, 28, 28),
    "s2": (6, 14, 14),
    "c3": (16, 10, 10),
    "s4": (16, 5, 5),
    "c5": (120, 1, 1),
    "f6": (84,),
    "output": (10,),
}


@pytest.mark.parametrize("build", [lenet5, lenet5_1998])
def test_shapes_are_those_of_figure_2(build):
    assert shapes(build(), torch.zeros(2, 1, 32, 32)) == MAPS


def test_parameters_of_1998():
    net = lenet5_1998()
    assert {name: count(child) for name, child in net.named_children()} == {
        "c1": 156,
        "s2": 12,
        "c3": 1516,
        "s4": 32,
        "c5": 48_120,
        "f6": 10_164,
        "output": 0,
    }
    assert count(net) == 60_000


def test_connections_of_1998_are_340_908():
    # Each kernel weight and bias works once per unit of its map; a subsampling unit has four
    # inputs and a bias; the codes of the output layer count as connections too.
    net = lenet5_1998()
    convolved = sum(count(getattr(net, n)) * MAPS[n][1] * MAPS[n][2] for n in ("c1", "c3", "c5"))
    pooled = sum(MAPS[n][0] * MAPS[n][1] * MAPS[n][2] * 5 for n in ("s2", "s4"))
    assert convolved + pooled + count(net.f6) + net.output.codes.numel() == 340_908


@pytest.mark.parametrize(("classes", "channels", "expected"), [(10, 1, 61_706), (10, 3, 62_006)])
def test_parameters_of_the_teaching_form(classes, channels, expected):
    assert count(lenet5(classes, channels)) == expected


def test_table_i():
    assert sorted(map(len, C3_INPUTS)) == [3] * 6 + [4] * 9 + [6]
    assert len(set(C3_INPUTS)) == 16
    # every feature map of S2 feeds ten of C3
    assert [sum(i in inputs for inputs in C3_INPUTS) for i in range(6)] == [10] * 6


def test_partial_convolution_equals_sixteen_separate_ones():
    torch.manual_seed(0)
    layer = PartialConv2d(C3_INPUTS)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 6, 14, 14)
    kernels = iter(layer.weight)
    for i, inputs in enumerate(C3_INPUTS):
        slow = sum(F.conv2d(x[:, [j]], next(kernels)[None, None]) for j in inputs)
        torch.testing.assert_close(layer(x)[:, i], slow[:, 0] + layer.bias[i])


def test_partial_convolution_learns_every_stored_kernel():
    layer = PartialConv2d(C3_INPUTS)
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    layer(torch.rand(1, 6, 14, 14) + 1).sum().backward()
    assert layer.weight.grad.ne(0).all()


def test_subsampling_against_a_loop():
    torch.manual_seed(0)
    layer = Subsampling(3)
    nn.init.normal_(layer.coefficient)
    nn.init.normal_(layer.bias)
    x = torch.randn(2, 3, 4, 6)
    y = layer(x)
    assert y.shape == (2, 3, 2, 3)
    for n, c, i, j in [(0, 0, 0, 0), (1, 2, 1, 2), (0, 1, 1, 0)]:
        total = sum(x[n, c, 2 * i + a, 2 * j + b] for a in (0, 1) for b in (0, 1))
        expected = layer.coefficient[c, 0, 0] * total + layer.bias[c, 0, 0]
        torch.testing.assert_close(y[n, c, i, j], expected)


def test_rbf_against_a_loop():
    torch.manual_seed(0)
    codes, x = random_codes(4), torch.randn(3, 84)
    scores = EuclideanRBF(codes)(x)
    for n in range(3):
        for i in range(4):
            penalty = sum((x[n, k] - codes[i, k]) ** 2 for k in range(84))
            torch.testing.assert_close(scores[n, i], -penalty)


def test_scaled_tanh_is_one_at_one():
    y = ScaledTanh()(torch.tensor([-1.0, 0.0, 1.0, 100.0]))
    torch.testing.assert_close(y, torch.tensor([-1.0, 0.0, 1.0, 1.7159]), atol=1e-4, rtol=0)


def test_codes():
    codes = digit_codes()
    assert codes.shape == (10, 84)
    assert codes.abs().eq(1).all()
    assert len(codes.unique(dim=0)) == 10
    assert torch.equal(random_codes(7), random_codes(7))
    assert random_codes(7).abs().eq(1).all()


def test_initialization_is_bounded_by_fan_in():
    torch.manual_seed(0)
    net = lenet5_1998()
    bounds = {"c1": 2.4 / 25, "s2": 2.4 / 4, "s4": 2.4 / 4, "c5": 2.4 / 400, "f6": 2.4 / 120}
    for name, bound in bounds.items():
        for parameter in getattr(net, name).parameters():
            assert parameter.abs().max() <= bound
            if parameter.numel() > 1000:
                assert parameter.abs().max() > 0.99 * bound
    kernels = iter(net.c3[0].weight)
    for inputs in C3_INPUTS:
        for _ in inputs:
            assert next(kernels).abs().max() <= 2.4 / (25 * len(inputs))


def test_map_loss_is_equation_9():
    torch.manual_seed(0)
    y, target, j = torch.rand(5, 10) * 4, torch.randint(10, (5,)), 1.5
    equation = 0.0
    for p in range(5):
        total = torch.exp(torch.tensor(-j)) + torch.exp(-y[p]).sum()
        equation += y[p, target[p]] + torch.log(total)
    torch.testing.assert_close(map_loss(-y, target, j=j), equation / 5)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "scaled_tanh", "relu"])
@pytest.mark.parametrize("pool", ["avg", "max"])
def test_teaching_form_equals_its_formula(activation, pool):
    torch.manual_seed(0)
    net = lenet5(activation=activation, pool=pool)
    f = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": torch.relu}.get(
        activation, lambda a: 1.7159 * torch.tanh(a * 2 / 3)
    )
    shrink = F.avg_pool2d if pool == "avg" else F.max_pool2d
    x = torch.randn(3, 1, 32, 32)
    w = dict(net.named_parameters())
    h = shrink(f(F.conv2d(x, w["c1.0.weight"], w["c1.0.bias"])), 2)
    h = shrink(f(F.conv2d(h, w["c3.0.weight"], w["c3.0.bias"])), 2)
    h = f(F.linear(h.flatten(1), w["c5.0.weight"].flatten(1), w["c5.0.bias"]))
    h = f(F.linear(h, w["f6.0.weight"], w["f6.0.bias"]))
    expected = F.linear(h, w["output.weight"], w["output.bias"])
    torch.testing.assert_close(net(x), expected)


@settings(max_examples=15, deadline=None)
@given(
    build=st.sampled_from([lenet5, lenet5_1998]),
    n=st.integers(0, 4),
    channels=st.integers(1, 4),
    classes=st.integers(1, 30),
)
def test_any_number_of_images_channels_and_classes(build, n, channels, classes):
    net = build(classes, channels, **({"codes": "random"} if build is lenet5_1998 else {}))
    assert net(torch.zeros(n, channels, 32, 32)).shape == (n, classes)


@pytest.mark.parametrize(
    ("net", "loss", "lr"),
    [
        (lambda: lenet5(), F.cross_entropy, 0.05),
        (lambda: lenet5_1998(), map_loss, 0.002),
    ],
)
def test_steps_lower_the_loss(net, loss, lr):
    torch.manual_seed(0)
    model, x, y = net(), torch.randn(16, 1, 32, 32), torch.randint(10, (16,))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    before = loss(model(x), y).item()
    for _ in range(5):
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    assert loss(model(x), y).item() < before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: lenet5(activation="rleu"), r"activation 'rleu'.*Did you mean 'relu'"),
        (lambda: lenet5(pool="mean"), r"pooling 'mean'; use one of: avg, max"),
        (lambda: lenet5_1998(codes="digit"), r"codes 'digit'.*Did you mean 'digits'"),
        (lambda: lenet5_1998(5), r"5 classes need \(5, 84\)"),
        (lambda: lenet5()(torch.zeros(2, 1, 28, 28)), r"\(N, 1, 32, 32\), got \(2, 1, 28, 28\)"),
        (lambda: lenet5()(torch.zeros(2, 3, 32, 32)), r"got \(2, 3, 32, 32\)"),
        (lambda: map_loss(torch.zeros(1, 2), torch.tensor([0]), j=0), "positive and finite, got 0"),
    ],
)
def test_errors_name_what_was_given_and_what_is_allowed(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_option_of_the_other_network_is_refused():
    with pytest.raises(TypeError, match="activation"):
        lenet5_1998(activation="relu")
