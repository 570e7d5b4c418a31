"""ResNet against He et al. 2016 and torchvision."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import assert_same_network, count, shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnbook.analysis import summary
from cnnbook.models import ResNet
from cnnbook.models.resnet import Bottleneck, ZeroPadShortcut


def meta(depth, **options):
    with torch.device("meta"):
        return ResNet(depth, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "parameters", "flops"),
    [  # FLOPs: last row of Table 1, multiply-adds, in units of 10^9
        (18, 11_689_512, 1.8),
        (34, 21_797_672, 3.6),
        (50, 25_557_032, 3.8),
        (101, 44_549_160, 7.6),
        (152, 60_192_808, 11.3),
    ],
)
def test_table_1(depth, parameters, flops):
    net = meta(depth)
    assert count(net) == parameters
    cost = sum(row["macs"] for row in summary(net, (3, 224, 224)).rows)
    # The table's 34 and 50 leave out or round down a little: within 0.1.
    assert cost / 1e9 == pytest.approx(flops, abs=0.1)
    found = shapes(net, torch.empty(1, 3, 224, 224, device="meta"))
    e = 4 if depth >= 50 else 1
    assert [found[n] for n in ("conv1", "conv2_x", "conv3_x", "conv4_x", "conv5_x", "fc")] == [
        (64, 112, 112),
        (64 * e, 56, 56),
        (128 * e, 28, 28),
        (256 * e, 14, 14),
        (512 * e, 7, 7),
        (1000,),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)]
)
def test_table_6(depth, millions):
    net = meta(depth, num_classes=10)
    assert count(net) / 1e6 == pytest.approx(millions, rel=0.02)
    found = shapes(net, torch.empty(1, 3, 32, 32, device="meta"))
    assert [found[f"conv{i}_x"] for i in (2, 3, 4)] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 20, 32, 44, 56, 110])
def test_depth_counts_the_layers_with_weights(depth):
    net = meta(depth, plain=True)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in net.modules()) == depth


def test_shortcuts_a_add_no_parameters_b_some_c_more():
    plain = count(meta(34, plain=True))
    a, b, c = (count(meta(34, shortcut=option)) for option in "ABC")
    assert plain == a < b < c
    # B projects where stages begin; each projection has its batch normalization.
    assert b - a == 64 * 128 + 128 * 256 + 256 * 512 + 2 * (128 + 256 + 512)
    # C projects the other 13 of the 16 blocks too.
    projected = [m.shortcut for m in meta(34, shortcut="C").modules() if hasattr(m, "shortcut")]
    assert len(projected) == 16
    assert all(isinstance(s[0], nn.Conv2d) for s in projected)


def test_design_rules_of_the_plain_network():
    # Section 3.3: same size, same filters; half the size, twice the filters, hence equal MACs.
    net = meta(34, plain=True)
    macs = {}
    for stage in net.stages:
        blocks = getattr(net, stage)
        assert len({m.out_channels for m in blocks.modules() if isinstance(m, nn.Conv2d)}) == 1
        side = {"conv2_x": 56, "conv3_x": 28, "conv4_x": 14, "conv5_x": 7}[stage]
        last = blocks[-1].conv2[0]
        macs[stage] = last.weight.numel() * side * side
    assert len(set(macs.values())) == 1


@pytest.mark.parametrize(("h", "w", "stride"), [(4, 6, 1), (4, 6, 2), (5, 7, 2)])
def test_zero_padding_shortcut_against_a_loop(h, w, stride):
    x = torch.randn(2, 3, h, w)
    y = ZeroPadShortcut(3, 8, stride)(x)
    assert y.shape == F.conv2d(x, torch.zeros(8, 3, 3, 3), stride=stride, padding=1).shape
    for i in range(y.shape[2]):
        for j in range(y.shape[3]):
            assert torch.equal(y[:, :3, i, j], x[:, :, stride * i, stride * j])
            assert y[:, 3:, i, j].abs().max() == 0


@pytest.mark.parametrize("version", ["v1", "v1.5"])
def test_where_a_bottleneck_strides(version):
    block = meta(50, version=version).conv3_x[0]
    assert isinstance(block, Bottleneck)
    strides = [block.conv1[0].stride[0], block.conv2[0].stride[0], block.conv3[0].stride[0]]
    assert strides == ([2, 1, 1] if version == "v1" else [1, 2, 1])


def test_zero_init_starts_as_the_identity():
    torch.manual_seed(0)
    for depth in (20, 50):
        net = ResNet(depth, 4, stem="small", width=0.25, zero_init=True)
        block = net.conv2_x[1]
        x = torch.rand(2, net.conv2_x[0].conv1[0].in_channels, 8, 8)
        x = net.conv2_x[0](x)  # not negative, after ReLU
        torch.testing.assert_close(block(x), x)
    other = ResNet(20, 4, width=0.25).conv2_x[1]
    assert not torch.allclose(other(x[:, :4]), x[:, :4])


@pytest.mark.slow
@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_equal_to_torchvisions(depth, train):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, f"resnet{depth}")()
    ours = ResNet(depth, version="v1.5")
    assert_same_network(ours, theirs, torch.randn(2, 3, 64, 64), train=train)


@settings(max_examples=20, deadline=None)
@given(
    depth=st.sampled_from([8, 14, 18, 20, 50]),
    width=st.floats(0.05, 0.3),
    height=st.integers(1, 70),
    other=st.integers(1, 70),
    channels=st.integers(1, 4),
    shortcut=st.sampled_from(["A", "B", "C"]),
    plain=st.booleans(),
    version=st.sampled_from(["v1", "v1.5"]),
    stem=st.sampled_from(["imagenet", "small"]),
)
def test_scaled_down_models(depth, width, height, other, channels, shortcut, plain, version, stem):
    net = ResNet(
        depth,
        7,
        channels,
        width=width,
        shortcut=shortcut,
        plain=plain,
        version=version,
        stem=stem,
    ).eval()
    assert net(torch.zeros(1, channels, height, other)).shape == (1, 7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ResNet(19), "depth 19 is not one of 18, 34, 50, .* nor 6n"),
        (lambda: ResNet(2), "depth 2 is not one of"),
        (lambda: ResNet(18, shortcut="D"), "shortcut option 'D'; use one of: A, B, C"),
        (lambda: ResNet(18, version="1.5"), "Did you mean 'v1.5'"),
        (lambda: ResNet(18, stem="smal"), "Did you mean 'small'"),
        (lambda: ResNet(20)(torch.zeros(1, 1, 32, 32)), r"\(N, 3, H, W\).*got \(1, 1, 32, 32\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
