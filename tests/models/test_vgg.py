"""VGG against Simonyan and Zisserman 2015 and torchvision."""

import pytest
import torch
import torchvision
from helpers import assert_same_network, count, shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnbook.analysis import summary
from cnnbook.models import VGG
from cnnbook.models.vgg import CONFIGURATIONS


def meta(configuration, **options):
    with torch.device("meta"):
        return VGG(configuration, **options)


def weighted(net, kind=(nn.Conv2d, nn.Linear)):
    return [m for m in net.modules() if isinstance(m, kind)]


@pytest.mark.parametrize(
    ("configuration", "layers", "parameters", "millions"),
    [
        ("A", 11, 132_863_336, 133),
        ("A-LRN", 11, 132_863_336, 133),
        ("B", 13, 133_047_848, 133),
        ("C", 16, 133_638_952, 134),
        ("D", 16, 138_357_544, 138),
        ("E", 19, 143_667_240, 144),
    ],
)
def test_tables_1_and_2(configuration, layers, parameters, millions):
    net = meta(configuration)
    assert len(weighted(net)) == layers
    assert count(net) == parameters
    assert round(parameters / 1e6) == millions  # Table 2
    found = shapes(net, torch.empty(1, 3, 224, 224, device="meta"))
    assert [found[f"block{i}"] for i in range(1, 6)] == [
        (64, 112, 112),
        (128, 56, 56),
        (256, 28, 28),
        (512, 14, 14),
        (512, 7, 7),
    ]
    assert [found[f"fc{i}"] for i in (6, 7, 8)] == [(4096,), (4096,), (1000,)]


@pytest.mark.parametrize(("configuration", "billions"), [("D", 15.3), ("E", 19.6)])
def test_multiply_adds(configuration, billions):
    # Stated by He et al. 2016, Section 3.3, for VGG-16 and VGG-19
    cost = sum(r["macs"] for r in summary(meta(configuration), (3, 224, 224)).rows)
    assert cost / 1e9 == pytest.approx(billions, rel=0.015)


def test_d_and_c_differ_in_three_kernels_only():
    kernels = {c: [m.kernel_size[0] for m in weighted(meta(c), nn.Conv2d)] for c in "CD"}
    # Table 1: the last convolution of blocks 3, 4 and 5
    differ = [i for i, (c, d) in enumerate(zip(kernels["C"], kernels["D"], strict=True)) if c != d]
    assert differ == [6, 9, 12]
    assert [kernels["C"][i] for i in differ] == [1, 1, 1]
    assert set(kernels["D"]) == {3}


def torchvisions(configuration, bn, width):
    """Return torchvision's VGG with its channels and fully connected layers made narrower."""
    plan = torchvision.models.vgg.cfgs[configuration]
    narrow = [item if item == "M" else int(width * item) for item in plan]
    with torch.device("meta"):
        net = torchvision.models.VGG(nn.Sequential(), init_weights=False)
    net.features = torchvision.models.vgg.make_layers(narrow, batch_norm=bn)
    sides = [int(512 * width) * 7 * 7, int(4096 * width), int(4096 * width)]
    for i, inputs, outputs in zip((0, 3, 6), sides, [*sides[1:], 1000], strict=True):
        net.classifier[i] = nn.Linear(inputs, outputs)
    return net


@pytest.mark.slow
@pytest.mark.parametrize("bn", [False, True])
@pytest.mark.parametrize(("configuration", "depth"), [("A", 11), ("B", 13), ("D", 16), ("E", 19)])
def test_equal_to_torchvisions(configuration, depth, bn):
    # At full width, layer for layer of one shape; narrower, where a step takes no seconds, with
    # one result and one gradient.
    with torch.device("meta"):
        theirs = getattr(torchvision.models, f"vgg{depth}{'_bn' if bn else ''}")()
        ours = VGG(configuration, batch_norm=bn)
    assert [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    torch.manual_seed(0)
    theirs = torchvisions(configuration, bn, 1 / 8)
    ours = VGG(configuration, batch_norm=bn, width=1 / 8)
    assert_same_network(ours, theirs, torch.randn(1, 3, 224, 224))


@pytest.mark.parametrize(
    ("init", "std"),
    [
        ("he", (2 / (9 * 64)) ** 0.5),
        ("glorot", (2 / (9 * (32 + 64))) ** 0.5),
        ("paper", 0.1),
        ("small", 0.01),
    ],
)
def test_initializations(init, std):
    torch.manual_seed(0)
    net = VGG("A", 10, width=0.5, input_size=32, init=init)
    layer = net.block2[0]
    assert (layer.in_channels, layer.out_channels) == (32, 64)
    assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
    assert all(m.bias.abs().max() == 0 for m in weighted(net))


def test_depth_kills_the_signal_under_small_weights_and_not_under_he():
    torch.manual_seed(0)
    x = torch.randn(8, 3, 32, 32)
    spread = {}
    for init in ("he", "small"):
        for configuration in "AE":
            net = VGG(configuration, 10, width=0.25, input_size=32, init=init, dropout=0)
            spread[init, configuration] = net.eval()(x).std(0).mean().item()
    assert spread["small", "E"] < 1e-3 * spread["small", "A"]
    assert spread["he", "E"] > 0.05 * spread["he", "A"]


@settings(max_examples=12, deadline=None)
@given(
    configuration=st.sampled_from(list(CONFIGURATIONS)),
    width=st.floats(0.02, 0.15),
    size=st.integers(16, 70),
    channels=st.integers(1, 4),
    bn=st.booleans(),
)
def test_scaled_down_models(configuration, width, size, channels, bn):
    net = VGG(configuration, 7, channels, width=width, input_size=size, batch_norm=bn).eval()
    assert net(torch.zeros(1, channels, size, size)).shape == (1, 7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VGG("F"), "configuration of VGG 'F'; use one of: A, A-LRN, B, C, D, E"),
        (lambda: VGG("A", input_size=15), "at least 16×16 pixels, got input_size=15"),
        (lambda: VGG("A", init="glorott"), "Did you mean 'glorot'"),
        (
            lambda: VGG("A", 10, input_size=32, width=0.1)(torch.zeros(1, 3, 64, 64)),
            r"\(N, 3, 32, 32\), got \(1, 3, 64, 64\)",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
