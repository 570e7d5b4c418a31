"""A batch of one image is refused before training where batch norm cannot be trained on it."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from cnnbook import data, training


def vectors():
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)
    )


def pooled():
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(1, 10))


def maps():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))


def frozen():
    net = vectors()
    net[2].eval()
    return net


def fit(net, images, **options):
    steps = []
    options |= {"epochs": 1, "device": "cpu", "progress": False}
    watch = SimpleNamespace(on_step=lambda run: steps.append(run.step))
    try:
        training.fit(net, data.load("digits")[0][:images], callbacks=[watch], **options)
    finally:
        fit.steps = len(steps)


@pytest.mark.parametrize("make", [vectors, pooled])
@pytest.mark.parametrize(
    ("images", "size", "message"),
    [
        (65, 64, r"the last of 2 batches would have .* \(65 images, batch_size=64\).*_size=63 "),
        (129, 64, r"the last of 3 batches .*\(129 images, batch_size=64\).* batch_size=63 leaves"),
        (1, 64, r"the last of 1 batches .*\(1 images, batch_size=64\)"),
        (8, 1, r"every batch would have a single image \(8 images, batch_size=1\).* larger batch"),
    ],
)
def test_refused_before_the_first_step(make, images, size, message):
    net = make()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        fit(net, images, batch_size=size)
    assert fit.steps == 0
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_what_is_advised_trains():
    fit(vectors(), 65, batch_size=63)
    assert fit.steps == 2


@pytest.mark.parametrize("make", [maps, frozen])
def test_networks_that_can_be_trained_on_one_image_are(make):
    fit(make(), 65)
    assert fit.steps == 2


def test_the_trial_changes_no_step():
    """The trial reads the first batch; training reads it, too."""
    torch.manual_seed(0)
    net = maps()
    twin = maps()
    twin.load_state_dict(net.state_dict())
    train = data.load("digits")[0][:65]
    options = {"epochs": 2, "device": "cpu", "progress": False, "lr": 0.01}
    history = training.fit(net, train, **options)
    batches = data.Batches(train, 64, device="cpu")
    sgd = torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, 0.01, total_steps=4, cycle_momentum=False)
    losses = []
    for epoch in range(2):
        for x, y in batches.epoch(epoch):
            loss = nn.functional.cross_entropy(twin(x), y)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            schedule.step()
            losses.append(loss.item())
    assert history.step_loss == pytest.approx(losses, rel=1e-5)
    assert net[1].num_batches_tracked == 4


def test_a_source_that_does_not_know_its_sizes_is_explained_when_it_happens():
    class Source:
        batch_size = images_per_epoch = None

        def __len__(self):
            return 2

        def epoch(self, number, start=0):
            sizes = [8, 1][start:]
            return ((torch.rand(n, 1, 8, 8), torch.zeros(n, dtype=torch.int64)) for n in sizes)

    options = {"epochs": 1, "device": "cpu", "progress": False}
    with pytest.raises(ValueError, match=r"a batch has a single image, .*drop_last=True"):
        training.fit(vectors(), Source(), **options)
    assert len(training.fit(maps(), Source(), **options).step_loss) == 2
