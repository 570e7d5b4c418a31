"""AlexNet against Krizhevsky, Sutskever and Hinton 2012 and torchvision."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import assert_same_network, count, shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnbook.models import AlexNet, AlexNet2014, AlexNetTwoDevices
from cnnbook.models.alexnet import ResponseNorm

SMALL = {"stem": "small", "width": 0.1}


def meta(*args, **options):
    with torch.device("meta"):
        return AlexNet(*args, **options)


def test_parameters():
    assert count(meta()) == 60_965_224
    assert count(meta(towers=1)) == 62_378_344


def test_parameters_by_layer():
    # Section 3.5: kernels of 11×11×3, 5×5×48, 3×3×256, 3×3×192, 3×3×192, each with a bias
    assert {name: count(child) for name, child in meta().named_children() if count(child)} == {
        "conv1": (11 * 11 * 3 + 1) * 96,
        "conv2": (5 * 5 * 48 + 1) * 256,
        "conv3": (3 * 3 * 256 + 1) * 384,
        "conv4": (3 * 3 * 192 + 1) * 384,
        "conv5": (3 * 3 * 192 + 1) * 256,
        "fc6": (6 * 6 * 256 + 1) * 4096,
        "fc7": (4096 + 1) * 4096,
        "fc8": (4096 + 1) * 1000,
    }


@pytest.mark.parametrize("stem", ["227", "224"])
def test_shapes_of_figure_2(stem):
    found = shapes(meta(stem=stem), torch.empty(1, 3, int(stem), int(stem), device="meta"))
    assert found["conv1"] == (96, 55, 55)
    # The caption counts neurons from conv2 on (its figure for conv1 is not 55·55·96).
    neurons = [found[f"conv{i}"] for i in (2, 3, 4, 5)]
    assert [c * h * w for c, h, w in neurons] == [186_624, 64_896, 64_896, 43_264]
    assert found["pool5"] == (256, 6, 6)
    assert [found[f"fc{i}"] for i in (6, 7, 8)] == [(4096,), (4096,), (1000,)]


def test_224_without_padding_would_lose_pixels():
    # (224 - 11) / 4 + 1 is not whole; 227 without or 224 with a padding of 2 gives 55.
    for stem, padding, sides in (("227", 0, {224: 54, 227: 55}), ("224", 2, {224: 55})):
        conv1 = meta(stem=stem).conv1[0]
        assert conv1.padding == (padding, padding)
        for side, expected in sides.items():
            x = torch.empty(1, 3, side, side, device="meta")
            assert conv1(x).shape[2:] == (expected, expected)


@pytest.mark.parametrize("towers", [1, 2])
def test_response_normalization_is_the_papers_formula(towers):
    torch.manual_seed(0)
    a = torch.rand(2, 12, 3, 3) * 30
    expected = torch.empty_like(a)
    half = 12 // towers
    for i in range(12):
        first = i // half * half
        near = range(max(first, i - 2), min(first + half, i + 3))
        total = sum(a[:, j] ** 2 for j in near)
        expected[:, i] = a[:, i] / (2 + 1e-4 * total) ** 0.75
    torch.testing.assert_close(ResponseNorm(towers)(a), expected)


def test_grouped_convolutions_see_their_own_tower_only():
    torch.manual_seed(0)
    net = AlexNet(10, 3, **SMALL).eval()
    for name in ("conv2", "conv4", "conv5"):
        layer = getattr(net, name)
        x = torch.randn(1, layer[0].in_channels, 7, 7)
        other = x.clone()
        other[:, x.shape[1] // 2 :] += 1  # the second tower's channels
        a, b = layer(x), layer(other)
        half = a.shape[1] // 2
        assert torch.equal(a[:, :half], b[:, :half])
        assert not torch.equal(a[:, half:], b[:, half:])
    x = torch.randn(1, net.conv3[0].in_channels, 7, 7)
    other = x.clone()
    other[:, x.shape[1] // 2 :] += 1
    assert (net.conv3(x) != net.conv3(other)).any(dim=(0, 2, 3)).float().mean() > 0.9


def compare_forms(devices):
    torch.manual_seed(0)
    grouped = AlexNet(10, 3, dropout=0.0, **SMALL)
    two = AlexNetTwoDevices(10, 3, devices=devices, dropout=0.0, **SMALL).copy_from(grouped)
    assert count(two) == count(grouped)
    x, y = torch.randn(4, 3, 32, 32), torch.randint(10, (4,))
    scores = grouped(x), two(x)
    torch.testing.assert_close(scores[1].cpu(), scores[0], rtol=1e-5, atol=1e-6)
    for s in scores:
        F.cross_entropy(s, y.to(s.device)).backward()
    for name, parameter in grouped.named_parameters():
        if name.startswith("fc8"):
            found = two.get_parameter(name).grad.cpu()
        else:
            halves = [tower.get_parameter(name).grad.cpu() for tower in two.towers]
            found = torch.cat(halves)
        torch.testing.assert_close(found, parameter.grad, rtol=1e-5, atol=1e-6)


def test_two_devices_equal_the_grouped_form():
    compare_forms(("cpu", "cpu"))


@pytest.mark.may_skip("the machines of CI have no two GPUs")
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_equal_the_grouped_form():
    torch.backends.cudnn.allow_tf32 = False
    compare_forms(("cuda:0", "cuda:1"))


def test_devices_exchange_exactly_where_the_paper_says(monkeypatch):
    two = AlexNetTwoDevices(10, 3, devices=("cpu", "cpu"), **SMALL)
    grouped = AlexNet(10, 3, **SMALL)
    sent = []
    exchange = AlexNetTwoDevices.exchange

    def spy(self, halves):
        sent.append([tuple(half.shape[1:]) for half in halves])
        return exchange(self, halves)

    monkeypatch.setattr(AlexNetTwoDevices, "exchange", spy)
    two(torch.zeros(1, 3, 32, 32))
    inputs = [grouped.conv3[0].in_channels, grouped.fc6[0].in_features, grouped.fc7[0].in_features]
    assert [2 * halves[0][0] for halves in sent] == inputs  # before conv3, fc6, fc7
    # Elsewhere a tower's layer takes half of what the grouped network has.
    tower = two.towers[0]
    for name in ("conv2", "conv4", "conv5"):
        whole = getattr(grouped, name)[0].in_channels
        assert getattr(tower, name)[0].in_channels == whole // 2


def test_paper_initialization():
    torch.manual_seed(0)
    net = AlexNet(10, 3, **SMALL).init_as_in_paper()
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"):
        layer = getattr(net, name)[0]
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert layer.bias.unique().tolist() == [float(name not in ("conv1", "conv3"))]
    assert net.fc8.bias.abs().max() == 0


@pytest.mark.slow
def test_2014_network_equals_torchvisions():
    torch.manual_seed(0)
    theirs = torchvision.models.alexnet()
    ours = AlexNet2014()
    assert count(ours) == 61_100_840
    assert_same_network(ours, theirs, torch.randn(2, 3, 224, 224))


@settings(max_examples=15, deadline=None)
@given(
    width=st.floats(0.02, 0.2),
    size=st.integers(28, 96),
    channels=st.integers(1, 4),
    towers=st.sampled_from([1, 2]),
    pool=st.sampled_from([2, 3]),
    lrn=st.booleans(),
)
def test_every_option_on_small_images(width, size, channels, towers, pool, lrn):
    options = {"width": width, "input_size": size, "towers": towers, "pool": pool}
    net = AlexNet(7, channels, stem="small", lrn=lrn, activation=nn.Tanh, **options)
    assert net(torch.zeros(1, channels, size, size)).shape == (1, 7)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: meta(stem="smal"), "Did you mean 'small'"),
        (lambda: meta(towers=3), "1 or 2 towers, got towers=3"),
        (lambda: meta(width=0), "width must be positive and finite, got width=0"),
        (lambda: meta(input_size=32), "32×32 are too small .* or stem='small'"),
        (lambda: AlexNet(10, **SMALL)(torch.zeros(1, 3, 28, 28)), r"got \(1, 3, 28, 28\)"),
        (lambda: AlexNet(10, **SMALL)(torch.zeros(1, 1, 32, 32)), r"\(N, 3, 32, 32\)"),
        (lambda: AlexNetTwoDevices(devices=("cpu",)), "two devices"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
