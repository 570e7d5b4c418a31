"""The peers' networks and loops, compared with the same computation written out."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from cnnbook import data
from cnnbook.bench import peers
from cnnbook.bench.peers import PEERS, Peer

# What the sources say: activation, pooling, after which convolutions, and the border of each.
SAID = {
    "ReLU LeNet, Adam, DataLoader": (torch.relu, F.max_pool2d, {0, 1}, (2, 0)),
    "D2L LeNet": (torch.sigmoid, F.avg_pool2d, {0, 1}, (2, 0)),
    "D2L VGG-11 at 224 px": (torch.relu, F.max_pool2d, {0, 1, 3, 5, 7}, (1,) * 8),
}


def scores_by_hand(name, parameters, x):
    activation, pool, pooled, padding = SAID[name]
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    for number, (weight, bias) in enumerate(layers):
        if number < len(padding):
            x = activation(F.conv2d(x, weight, bias, padding=padding[number]))
            x = pool(x, 2) if number in pooled else x
        else:
            x = F.linear(x.flatten(1), weight, bias)
            x = x if number == len(layers) - 1 else activation(x)
    return x


@pytest.mark.slow
@pytest.mark.parametrize("name", PEERS)
def test_peers_compute_what_their_sources_say(name):
    torch.manual_seed(0)
    peer = PEERS[name]
    net = peer.build().eval()
    x = torch.rand(3, 1, peer.side, peer.side)
    with torch.no_grad():
        scores = net(x)
        torch.testing.assert_close(scores, scores_by_hand(name, list(net.parameters()), x))
    assert scores.shape == (3, 10)
    assert (scores[0] != scores[1]).any()


def test_peers_have_the_sizes_of_their_sources():
    lenet, vgg = peers.relu_lenet(), peers.d2l_vgg()
    assert sum(p.numel() for p in lenet.parameters()) == 61_706
    shapes = [[p.shape for p in net.parameters()] for net in (lenet, peers.d2l_lenet())]
    assert shapes[0] == shapes[1]
    widths = [p.shape[0] for p in vgg.parameters() if p.ndim == 4]
    assert widths == [n // 4 for n in (64, 128, 256, 256, 512, 512, 512, 512)]
    assert [p.shape[0] for p in vgg.parameters() if p.ndim == 2] == [4096, 4096, 10]


def test_weights_of_dive_into_deep_learning_are_glorots():
    torch.manual_seed(0)
    for weight in peers.d2l_lenet().parameters():
        if weight.ndim > 1:
            area = weight[0, 0].numel()
            bound = (6 / (area * (weight.shape[0] + weight.shape[1]))) ** 0.5
            assert 0.9 * bound < weight.abs().max() <= bound


@pytest.mark.parametrize("name", ["ReLU LeNet, Adam, DataLoader", "D2L LeNet"])
def test_an_epoch_is_one_step_of_the_optimizer_for_each_batch(name):
    torch.manual_seed(0)
    peer = PEERS[name]
    net = peer.build()
    expected = [p.detach().clone().requires_grad_() for p in net.parameters()]
    by_hand = peer.optimizer(expected)
    batches = [(torch.rand(8, 1, 28, 28), torch.arange(8)) for _ in range(3)]
    for x, y in batches:
        loss = F.cross_entropy(scores_by_hand(name, expected, x), y)
        for p, gradient in zip(expected, torch.autograd.grad(loss, expected), strict=True):
            p.grad = gradient
        by_hand.step()
    peers.plain_epoch(net, batches, peer.optimizer(net.parameters()))
    torch.testing.assert_close(list(net.parameters()), expected)


def test_right_answers_are_counted_one_by_one():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    x, y = torch.randn(50, 1, 4, 4), torch.arange(50) % 3
    expected = sum(int(net(x[n : n + 1]).argmax()) == y[n].item() for n in range(50))
    assert 0 < expected < 50
    assert peers.count_right(net, DataLoader(TensorDataset(x, y), 16)) == expected


def test_torchvision_reads_what_is_written_for_it(tmp_path):
    train, test = data.load("fashion-mini")
    train, test = train[:20], test[:10]
    peers.write_for_torchvision(str(tmp_path), train, test)
    for ours, theirs in zip((train, test), peers.torchvision_sets(str(tmp_path)), strict=True):
        assert len(theirs) == len(ours)
        for image, label, (x, y) in zip(ours.images, ours.labels, theirs, strict=True):
            assert torch.equal((255 * x).round().byte(), image)
            assert y == label
    assert peers.torchvision_sets(str(tmp_path), side=56)[0][0][0].shape == (1, 56, 56)


# The peers read with four processes, as their sources do, on two processors, too.
four_workers = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture
def brightness():
    """Images that are dark or bright, which one linear layer tells apart."""
    y = torch.arange(64) % 2
    return TensorDataset(y[:, None].float() - 0.5 + torch.zeros(64, 4), y)


@pytest.mark.slow
@four_workers
def test_training_ends_at_the_target(brightness):
    torch.manual_seed(0)
    net = torch.nn.Linear(4, 2)
    torch.nn.init.zeros_(net.weight)  # the first guess is the same for all: half are right
    peer = Peer(torch.nn.Linear, 0, partial(torch.optim.SGD, lr=0.1), batch_size=16)
    seconds, reached, note = peers.train_until(0.99, net, brightness, brightness, peer, limit=60)
    assert (reached, note) == (True, "epoch 1, 100.00%")
    assert 0 < seconds < 60
    assert peers.count_right(net, DataLoader(brightness, 64)) == 64


@four_workers
def test_training_ends_with_its_time(brightness):
    net = torch.nn.Linear(4, 2)
    peer = Peer(torch.nn.Linear, 0, partial(torch.optim.SGD, lr=0.1), batch_size=16)
    _, reached, note = peers.train_until(0.99, net, brightness, brightness, peer, limit=0)
    assert (reached, note) == (False, "not reached in 0.25 epochs")  # one batch of four
