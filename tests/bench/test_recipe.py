"""The recipe for 94 %: its network and optimizer, and that it runs. Times are not tested."""

import pytest
import torch
from torch import nn

from cnnbook import analysis, bench, data
from cnnbook.bench.recipe import BIAS_LR, LR, Mirrored, WhitenedNet, fast_sgd


@pytest.fixture
def images():
    train, _ = data.load("fashion-mini")
    return next(data.Batches(train, 1000, device="cpu").epoch(0))[0]


def test_whitened_patches_are_uncorrelated(images):
    net = WhitenedNet().init_whitening(images, eps=0)
    out = net.whiten(images).detach()[:, :9].transpose(0, 1).flatten(1).double()
    # Exact but for rounding in 32 bits.
    torch.testing.assert_close(torch.cov(out), torch.eye(9).double(), rtol=0, atol=1e-4)
    weight = net.whiten.weight
    assert torch.equal(weight[:9], -weight[9:])
    assert not weight.requires_grad
    sizes = weight[:9].flatten(1).norm(dim=1)
    assert torch.equal(sizes, sizes.sort().values)  # the largest variance first: the least scaled


def test_blocks_begin_as_the_identity():
    net = WhitenedNet(widths=(48, 96, 192))
    conv = net.blocks[0][0]
    assert isinstance(conv, nn.Conv2d)
    x = torch.rand(1, 18, 8, 8)
    torch.testing.assert_close(conv(x)[:, :18], x)


def test_operations_and_parameters():
    summary = analysis.summary(WhitenedNet(), (1, 28, 28))
    assert summary.total_macs == 27_825_096
    assert WhitenedNet()(torch.zeros(2, 1, 28, 28)).shape == (2, 10)


def test_every_trained_parameter_is_in_one_group():
    net = WhitenedNet()
    sgd, schedule = fast_sgd(net, 100)
    grouped = [p for group in sgd.param_groups for p in group["params"]]
    trained = [p for p in net.parameters() if p.requires_grad]
    assert {*map(id, grouped)} == {*map(id, trained)}
    assert len(grouped) == len(trained)
    weights, biases = sgd.param_groups
    # One step of decay shrinks both alike.
    assert weights["lr"] * weights["weight_decay"] == pytest.approx(
        biases["lr"] * biases["weight_decay"]
    )
    rates = []
    for _ in range(100):
        rates.append([group["lr"] for group in sgd.param_groups])
        sgd.step()
        schedule.step()
    assert [b / w for w, b in rates] == pytest.approx([BIAS_LR] * 100)
    assert max(rates)[0] == pytest.approx(LR)
    assert rates.index(max(rates)) == 20
    assert rates[-1][0] <= 0.03 * LR


def test_mirrored_scores_are_the_mean():
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(Mirrored(net)(x), (net(x) + net(torch.flip(x, [3]))) / 2)


@pytest.mark.slow
def test_it_runs():
    result = bench.run(["recipe"], quick=True, seeds=2)
    accuracy, seconds = result.rows
    assert accuracy.unit == "test accuracy"
    assert seconds.unit == "seconds"
    more = accuracy.to_dict()
    assert accuracy.value == pytest.approx(sum(more["accuracies"]) / 2)
    assert accuracy.value > 0.2
    assert seconds.value == pytest.approx(sum(more["training_seconds"]) / 2)
    assert len(more["preparation_seconds"]) == 2
    assert more["steps"] == 2 * 3  # epochs of 512, 512 and 76 images
    macs = analysis.summary(WhitenedNet(widths=(8, 16, 16)), (1, 28, 28)).total_macs
    assert more["mode"] == "eager"
    assert seconds.note == "0 of 6 steps replayed: cuda_graph=False"
    assert more["operations"] == 6 * macs * 2 * 1100
    assert result.command == "python -m cnnbook bench recipe --quick --seeds=2"
