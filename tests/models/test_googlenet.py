"""GoogLeNet against Table 1 of Szegedy et al. 2015 and, as far as it is the same, torchvision."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from helpers import assert_same_network, count, shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cnnbook.analysis import summary
from cnnbook.models import GoogLeNet, GoogLeNetOutput, googlenet_loss
from cnnbook.models.googlenet import INCEPTIONS

SMALL = {"stem": "small", "width": 0.1}


def meta(**options):
    with torch.device("meta"):
        return GoogLeNet(**options)


# Table 1: output size, parameters in thousands, operations in millions.
TABLE_1 = {
    "inception3a": ((256, 28, 28), 159, 128),
    "inception3b": ((480, 28, 28), 380, 304),
    "inception4a": ((512, 14, 14), 364, 73),
    "inception4b": ((512, 14, 14), 437, 88),
    "inception4c": ((512, 14, 14), 463, 100),
    "inception4d": ((528, 14, 14), 580, 119),
    "inception4e": ((832, 14, 14), 840, 170),
    "inception5a": ((832, 7, 7), 1072, 54),
    "inception5b": ((1024, 7, 7), 1388, 71),
}


def test_parameters():
    assert count(meta(auxiliary=False)) == 6_998_552
    assert count(meta()) == 13_378_280


@pytest.mark.slow
def test_table_1():
    net = meta()
    found = shapes(net.eval(), torch.empty(1, 3, 224, 224, device="meta"))
    assert found["conv1"] == (64, 112, 112)
    assert found["pool1"] == (64, 56, 56)
    assert found["conv2"] == (192, 56, 56)
    assert found["pool2"] == (192, 28, 28)
    cost = {row["layer"]: row["macs"] for row in summary(net, (3, 224, 224)).rows}
    for name, (shape, thousands, millions) in TABLE_1.items():
        assert found[name] == shape
        # The table counts weights, not biases, in units of 1024.
        weights = sum(p.numel() for p in getattr(net, name).parameters() if p.ndim > 1)
        if name not in ("inception4c", "inception5a"):
            assert weights / 1024 == pytest.approx(thousands, rel=0.02), name
        if name != "inception5a":
            assert cost[name] / 1e6 == pytest.approx(millions, rel=0.01), name
    assert found["output"] == (1000,)
    # Three rows contradict themselves. A convolution's operations are its weights times its
    # positions: 4c's 100M belong to 510K weights, not to the 463K stated; conv1 has 7·7·3·64
    # weights, not 2.7K; and both figures of 5a fit 48 channels of 5×5 reduction, not the 32 stated.
    ours = {
        name: sum(p.numel() for p in getattr(net, name).parameters() if p.ndim > 1)
        for name in ("inception4c", "inception5a")
    }
    assert 14 * 14 * ours["inception4c"] / 1e6 == pytest.approx(TABLE_1["inception4c"][2], rel=0.01)
    assert ours["inception4c"] / 1024 > 1.05 * TABLE_1["inception4c"][1]
    with_48 = ours["inception5a"] + (48 - 32) * (832 + 25 * 128)
    assert 7 * 7 * with_48 / 1e6 == pytest.approx(TABLE_1["inception5a"][2], rel=0.01)
    assert with_48 / 1024 == pytest.approx(TABLE_1["inception5a"][1], rel=0.02)
    assert net.inception5a.branch5[0][0].weight.shape[0] == 32
    assert net.inception4c.branch5[1][0].weight.shape == (64, 24, 5, 5)
    assert net.conv1[0].weight.numel() == 9_408


def test_22_layers_with_weights_on_the_longest_path():
    # Section 5: "22 layers deep when counting only layers with parameters".
    stem, per_module, last = 3, 2, 1
    modules = [name for name, row in INCEPTIONS.items() if row]
    assert len(modules) == 9
    assert stem + per_module * len(modules) + last == 22
    net = meta(auxiliary=False)
    for name in modules:
        branches = [getattr(getattr(net, name), b) for b in ("branch1", "branch3", "branch5")]
        depth = [sum(isinstance(m, nn.Conv2d) for m in b.modules()) for b in branches]
        assert max(depth) == per_module
    stem_layers = (net.conv1, net.conv2_reduce, net.conv2)
    assert sum(isinstance(m, nn.Conv2d) for s in stem_layers for m in s.modules()) == stem


def test_the_sources_cost_of_one_branch():
    # 28×28×192 to 28×28×32 by 5×5, without and with a reduction to 16 channels
    module = meta(auxiliary=False).inception3a
    assert [m.kernel_size for m in module.branch5.modules() if isinstance(m, nn.Conv2d)] == [
        (1, 1),
        (5, 5),
    ]
    reduced = summary(nn.Sequential(module.branch5), (192, 28, 28)).rows[0]["macs"]
    assert reduced == 2_408_448 + 10_035_200 == 12_443_648
    naive = meta(auxiliary=False, naive=True).inception3a.branch5
    direct = summary(nn.Sequential(naive), (192, 28, 28)).rows[0]["macs"]
    assert direct == 120_422_400


def test_naive_modules_pass_their_input_on():
    net = meta(naive=True, auxiliary=False)
    found = shapes(net, torch.empty(1, 3, 224, 224, device="meta"))
    channels = 192
    for name, row in INCEPTIONS.items():
        if row:
            channels += row[0] + row[2] + row[4]
            assert found[name][0] == channels


def test_fully_connected_head_costs_what_the_source_says():
    flat, gap = meta(head="fc", auxiliary=False), meta(auxiliary=False)
    assert flat.head[1].weight.numel() == 51_380_224
    assert count(gap.head) == 0
    assert count(flat) - count(gap) == 51_380_224 + 1024


def test_auxiliary_classifiers():
    net = meta()
    assert sum(p.numel() for n, p in net.named_parameters() if "auxiliary" in n) == (
        (512 + 1) * 128 + (528 + 1) * 128 + 2 * ((4 * 4 * 128 + 1) * 1024 + (1024 + 1) * 1000)
    )
    x = torch.empty(2, 3, 224, 224, device="meta")
    output = net(x)
    assert isinstance(output, GoogLeNetOutput)
    assert [o.shape for o in output] == [(2, 1000)] * 3
    assert net.eval()(x).shape == (2, 1000)
    assert meta(auxiliary=False)(x).shape == (2, 1000)


def test_loss_is_a_weighted_sum():
    torch.manual_seed(0)
    scores, y = torch.randn(3, 5, 4), torch.randint(4, (5,))
    parts = [F.cross_entropy(s, y) for s in scores]
    found = googlenet_loss(GoogLeNetOutput(*scores), y)
    torch.testing.assert_close(found, parts[0] + 0.3 * parts[1] + 0.3 * parts[2])
    torch.testing.assert_close(googlenet_loss(scores[0], y), parts[0])


def test_every_term_of_the_loss_is_smoothed():
    torch.manual_seed(0)
    scores, y = torch.randn(3, 5, 4), torch.randint(4, (5,))
    parts = [F.cross_entropy(s, y, label_smoothing=0.2) for s in scores]
    found = googlenet_loss(GoogLeNetOutput(*scores), y, label_smoothing=0.2)
    torch.testing.assert_close(found, parts[0] + 0.3 * parts[1] + 0.3 * parts[2])
    found = googlenet_loss(scores[0], y, label_smoothing=0.2)
    torch.testing.assert_close(found, parts[0])


def test_auxiliary_gradient_reaches_the_lower_half_only():
    torch.manual_seed(0)
    net = GoogLeNet(4, **SMALL)
    output = net(torch.randn(2, 3, 32, 32))
    F.cross_entropy(output.auxiliary_4a, torch.tensor([0, 1])).backward()
    assert net.conv1[0].weight.grad.abs().sum() > 0
    assert net.inception4b.branch1[0].weight.grad is None


@pytest.mark.slow
def test_equal_to_torchvisions_but_for_its_documented_differences():
    # torchvision has 3×3 where the paper has 5×5, pools 2×2 before 5a where the paper pools 3×3,
    # and another epsilon; made equal here.
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(aux_logits=False, init_weights=False)
    assert theirs.maxpool4.kernel_size == 2
    theirs.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-5
        if type(module).__name__ == "Inception":
            old = module.branch3[1].conv
            assert old.kernel_size == (3, 3)
            module.branch3[1].conv = nn.Conv2d(
                old.in_channels, old.out_channels, 5, padding=2, bias=False
            )
    ours = GoogLeNet(batch_norm=True, auxiliary=False)
    assert_same_network(ours, theirs, torch.randn(2, 3, 224, 224))


@settings(max_examples=12, deadline=None)
@given(
    width=st.floats(0.03, 0.15),
    size=st.integers(8, 96),
    channels=st.integers(1, 4),
    naive=st.booleans(),
    head=st.sampled_from(["gap", "fc"]),
    auxiliary=st.booleans(),
)
def test_scaled_down_models(width, size, channels, naive, head, auxiliary):
    net = GoogLeNet(
        7,
        channels,
        stem="small",
        input_size=size,
        width=width,
        naive=naive,
        head=head,
        auxiliary=auxiliary,
    )
    output = net(torch.zeros(1, channels, size, size))
    assert all(o.shape == (1, 7) for o in (output if auxiliary else [output]))


@pytest.mark.parametrize("stem", ["paper", "small"])
def test_the_smallest_size_promised_works(stem):
    for head in ("gap", "fc"):
        net = GoogLeNet(4, stem=stem, width=0.05, head=head, auxiliary=False, input_size=32)
        sizes = (net.smallest, net.smallest + 1) if head == "gap" else (32,)
        for size in sizes:
            assert net(torch.zeros(1, 3, size, size)).shape == (1, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GoogLeNet(stem="smal"), "Did you mean 'small'"),
        (lambda: GoogLeNet(head="dense"), "head of GoogLeNet 'dense'; use one of: gap, fc"),
        (lambda: GoogLeNet(input_size=16), "needs 32 pixels or more"),
        (lambda: GoogLeNet(4, **SMALL)(torch.zeros(1, 3, 28, 28)), r"got \(1, 3, 28, 28\)"),
        (
            lambda: GoogLeNet(4, auxiliary=False, **SMALL)(torch.zeros(1, 3, 4, 4)),
            "at least 8",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
