"""EfficientNet-Lite0 beside the paper's table, timm's network and what its weights say."""

import pytest
import timm
import torch
import torch.nn.functional as F
from helpers import assert_same_network, count, shapes
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cnnbook import analysis, data, models
from cnnbook.models.efficientnet import MBConv, SamePadding

# Table 1: stage, operator, channels, layers, and the side of its output for 224 pixels, which is
# the input side of the next row.
TABLE_1 = [
    ("stage1", "Conv3x3", 32, 1, 112),
    ("stage2", "MBConv1, k3x3", 16, 1, 112),
    ("stage3", "MBConv6, k3x3", 24, 2, 56),
    ("stage4", "MBConv6, k5x5", 40, 2, 28),
    ("stage5", "MBConv6, k3x3", 80, 3, 14),
    ("stage6", "MBConv6, k5x5", 112, 3, 14),
    ("stage7", "MBConv6, k5x5", 192, 4, 7),
    ("stage8", "MBConv6, k3x3", 320, 1, 7),
    ("stage9", "Conv1x1", 1280, 1, 7),
]


@pytest.fixture(scope="module")
def trained():
    return models.create("efficientnet_lite0", weights="imagenet").eval()


def test_stages_are_those_of_table_1(trained):
    found = shapes(trained, torch.zeros(1, 3, 224, 224))
    for stage, operator, channels, layers, side in TABLE_1:
        assert found[stage] == (channels, side, side)
        blocks = [m for m in trained.get_submodule(stage).modules() if isinstance(m, MBConv)]
        if not operator.startswith("MBConv"):
            assert not blocks
            continue
        assert len(blocks) == layers
        for block in blocks:
            (depthwise,) = (m for m in block.depthwise.modules() if isinstance(m, nn.Conv2d))
            assert f"k{depthwise.kernel_size[0]}x{depthwise.kernel_size[1]}" in operator
            assert depthwise.groups == depthwise.in_channels == depthwise.out_channels
            (project,) = (m for m in block.project.modules() if isinstance(m, nn.Conv2d))
            narrow = [m.in_channels for m in block.expand.modules() if isinstance(m, nn.Conv2d)]
            factor = depthwise.in_channels // narrow[0] if narrow else 1
            assert operator.startswith(f"MBConv{factor},")
            assert project.out_channels == channels
    assert found["fc"] == (1000,)


def test_lite_has_neither_swish_nor_squeeze_and_excitation(trained):
    kinds = {type(m) for m in trained.modules()}
    assert not kinds & {nn.SiLU, nn.Sigmoid, nn.Hardsigmoid}
    assert sum(isinstance(m, nn.AdaptiveAvgPool2d) for m in trained.modules()) == 1
    assert nn.ReLU6 in kinds
    norms = [m for m in trained.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.01)}


@pytest.mark.slow
def test_parameters_and_outputs_are_timms(trained):
    theirs = timm.create_model("tf_efficientnet_lite0", bn_eps=1e-3).eval()
    assert count(theirs) == count(trained) == 4_652_008
    models.copy_weights(trained.state_dict(), theirs)
    for size in ((224, 224), (225, 97), (33, 64)):  # even and odd sizes
        x = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(trained(x), theirs(x))
            torch.testing.assert_close(trained.forward_features(x), theirs.forward_features(x))


@pytest.mark.slow
def test_gradients_are_timms():
    theirs = timm.create_model("tf_efficientnet_lite0", bn_eps=1e-3, bn_momentum=0.01)
    ours = models.create("efficientnet_lite0")
    theirs.drop_rate = ours.dropout.p = 0.0
    assert_same_network(ours, theirs, torch.randn(4, 3, 64, 64), train=True)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("side", [6, 7, 8, 9])
def test_same_padding_is_tensorflows(kernel, side):
    # TensorFlow's guide: total = max((⌈n/2⌉ - 1)·2 + k - n, 0), the smaller half before.
    total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
    x = torch.randn(1, 2, side, side + 1)
    total_width = max((-(-(side + 1) // 2) - 1) * 2 + kernel - (side + 1), 0)
    padded = SamePadding(kernel)(x)
    top, left = total // 2, total_width // 2
    expected = F.pad(x, (left, total_width - left, top, total - top))
    assert torch.equal(padded, expected)
    assert F.conv2d(padded, torch.zeros(1, 2, kernel, kernel), stride=2).shape[2:] == (
        -(-side // 2),
        -(-(side + 1) // 2),
    )


def test_the_cat(trained):
    weights = models.model_spec("efficientnet_lite0").weights["imagenet"]
    mean, std = torch.tensor(127 / 255), torch.tensor(128 / 255)
    square = data.photo("cat", 224)  # cropped and resized by another function
    inputs = [
        weights.preprocessing(data.photo("cat")),
        (square / 255 - mean) / std,
    ]
    with torch.no_grad():
        best = trained(torch.stack(inputs)).topk(3).indices
    assert best.tolist() == [[285, 282, 281]] * 2
    names = [weights.classes[i] for i in best[0].tolist()]
    assert names == ["Egyptian cat", "tiger cat", "tabby"]


@pytest.mark.parametrize(("name", "label"), [("coffee", "espresso"), ("rocket", "missile")])
def test_other_photographs(trained, name, label):
    weights = models.model_spec("efficientnet_lite0").weights["imagenet"]
    with torch.no_grad():
        scores = trained(weights.preprocessing(data.photo(name))[None])
    assert weights.classes[scores.argmax()] == label


def test_multiply_accumulates_are_those_of_timms(trained):
    """The authors' 407 million are explained in the class's notes."""
    with torch.device("meta"):
        theirs = timm.create_model("tf_efficientnet_lite0").eval()
        x = torch.zeros(1, 3, 224, 224)
    with FlopCounterMode(display=False) as counter:
        theirs(x)
    macs = analysis.summary(trained, (3, 224, 224)).total_macs
    assert macs == counter.get_total_flops() // 2 == 385_187_552
    outputs = 0

    def add(_module, _inputs, output):
        nonlocal outputs
        outputs += output.numel()

    convolutions = [m for m in theirs.modules() if isinstance(m, nn.Conv2d)]
    for convolution in convolutions:
        convolution.register_forward_hook(add)
    theirs(x)
    assert 3 <= (407e6 - macs) / outputs < 3.5


def test_fine_tuning_keeps_all_but_the_classifier(trained):
    torch.manual_seed(0)
    net = models.create("efficientnet_lite0", num_classes=5, weights="imagenet").eval()
    assert net.fc.weight.shape == (5, 1280)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(net.forward_features(x), trained.forward_features(x))


def test_width_and_stem():
    with torch.device("meta"):
        half = models.create("efficientnet_lite0", width=0.5)
        assert half.stage9[0][0].out_channels == 640
        assert half.stage2[0].project[0].out_channels == 8
        small = models.create_for("efficientnet_lite0", (1, 32, 32), 10).eval()
        assert small.forward_features(torch.zeros(1, 1, 32, 32)).shape == (1, 1280, 2, 2)
    with pytest.raises(ValueError, match="unknown stem of EfficientNet 'big'"):
        models.create("efficientnet_lite0", stem="big")
