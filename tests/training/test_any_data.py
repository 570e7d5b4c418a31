"""``fit`` and ``evaluate`` take what people hold: loaders, data sets, pairs, generators."""

import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from cnnbook import data, training

OPTIONS = {"epochs": 2, "device": "cpu", "progress": False}


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.fixture(scope="module")
def pair():
    """Normalized float images and labels, as torch's users hold them: 100 of them."""
    train, _ = data.load("digits")
    x, y = next(data.Batches(train[:100], 100, shuffle=False, device="cpu").epoch(0))
    return x, y


class Items(torch.utils.data.Dataset):
    """A data set of single images."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __len__(self):
        return len(self.y)

    def __getitem__(self, index):
        return self.x[index], int(self.y[index])


class Stream(IterableDataset):
    """Images whose number is not known."""

    def __init__(self, x, y):
        self.x, self.y = x, y

    def __iter__(self):
        return iter(zip(self.x, self.y, strict=True))


def endless(x, y, size=32):
    while True:
        yield from zip(x.split(size), y.split(size), strict=True)


def ragged(x, y):
    """Batches of which no two are of one size."""
    parts = [10, 40, 3, 47]
    return list(zip(x.split(parts), y.split(parts), strict=True))


# How the data are made, options, and the sizes of an epoch's batches.
FORMS = {
    "loader": (lambda x, y: DataLoader(TensorDataset(x, y), batch_size=32), {}, [32, 32, 32, 4]),
    "loader, drop_last": (
        lambda x, y: DataLoader(TensorDataset(x, y), batch_size=32, drop_last=True),
        {},
        [32, 32, 32],
    ),
    "loader of a stream": (
        lambda x, y: DataLoader(Stream(x, y), batch_size=32),
        {"steps_per_epoch": 4},
        [32, 32, 32, 4],
    ),
    "loader of items": (lambda x, y: DataLoader(Items(x, y), batch_size=50), {}, [50, 50]),
    "batches of many sizes": (ragged, {}, [10, 40, 3, 47]),
    "generator": (endless, {"steps_per_epoch": 4}, [32, 32, 32, 4]),
    "pair": (lambda x, y: (x, y), {"batch_size": 32}, [32, 32, 32, 4]),
    "tensors": (TensorDataset, {"batch_size": 32}, [32, 32, 32, 4]),
    "items": (Items, {"batch_size": 32}, [32, 32, 32, 4]),
}


@pytest.mark.parametrize(("make", "options", "sizes"), FORMS.values(), ids=FORMS.keys())
def test_fit(pair, make, options, sizes):
    seen = []

    class Watch(training.Callback):
        def on_step(self, run):
            seen.append(run.images_seen)

    net = linear()
    history = training.fit(net, make(*pair), pair, callbacks=[Watch()], **options, **OPTIONS)
    assert [b - a for a, b in zip([0, *seen], seen, strict=False)] == sizes * 2
    # Means are over the images that were seen.
    losses = history.step_loss[len(sizes) :]
    mean = sum(v * n for v, n in zip(losses, sizes, strict=True)) / sum(sizes)
    assert history.train_loss[1] == pytest.approx(mean)
    with torch.no_grad():
        scores = net(pair[0])
    assert history.val_loss[1] == pytest.approx(F.cross_entropy(scores, pair[1]).item(), rel=1e-5)
    assert 0 < history.train_accuracy[1] <= 1


@pytest.mark.parametrize(("make", "options", "sizes"), FORMS.values(), ids=FORMS.keys())
def test_evaluate(pair, make, options, sizes):
    result = training.evaluate(linear(), make(*pair), device="cpu", **options)
    used = sum(sizes)
    with torch.no_grad():
        scores = linear()(pair[0][:used])
    torch.testing.assert_close(result.scores, scores)
    assert torch.equal(result.labels, pair[1][:used])
    assert result.loss == pytest.approx(F.cross_entropy(scores, pair[1][:used]).item(), rel=1e-5)
    assert result.accuracy == (scores.argmax(1) == pair[1][:used]).double().mean().item()


def test_a_loader_takes_the_steps_of_its_batches(pair):
    """Against a loop over the same loader, with the optimizer that fit makes."""
    net, plain = linear(), linear()
    loader = DataLoader(TensorDataset(*pair), batch_size=32)
    history = training.fit(net, loader, lr=0.1, **OPTIONS)
    sgd = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, 0.1, total_steps=8, cycle_momentum=False)
    losses = []
    for _ in range(2):
        for x, y in loader:
            loss = F.cross_entropy(plain(x), y)
            sgd.zero_grad()
            loss.backward()
            sgd.step()
            schedule.step()
            losses.append(loss.item())
    assert history.step_loss == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(pair, tmp_path, name):
    make, options, _ = FORMS[name]

    class Stop(training.Callback):
        def on_step(self, run):
            if run.step == 3:
                run.stop()

    def run(path, *callbacks):
        net = linear()
        history = training.fit(
            net, make(*pair), pair, checkpoint=path, callbacks=callbacks, **options, **OPTIONS
        )
        return net, history

    whole, expected = run(tmp_path / "whole")
    run(tmp_path / "parts", Stop())
    resumed, history = run(tmp_path / "parts")
    assert history.step_loss == expected.step_loss
    assert history.train_loss == expected.train_loss
    assert history.train_accuracy == expected.train_accuracy
    assert torch.equal(whole[1].weight, resumed[1].weight)


def test_a_shuffled_loader_has_one_order_for_each_seed(pair):
    def run(seed):
        loader = DataLoader(TensorDataset(*pair), batch_size=32, shuffle=True)
        return training.fit(linear(), loader, seed=seed, **OPTIONS).step_loss

    assert run(1) == run(1)
    assert run(1) != run(2)


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_batch_that_is_looked_at_first_is_not_lost(pair):
    """A lazy network needs a batch before the first step; a generator yields each once."""
    read = []

    def batches():
        for number, batch in enumerate(endless(*pair)):
            read.append(number)
            yield batch

    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    history = training.fit(net, batches(), steps_per_epoch=4, **OPTIONS)
    assert len(history.step_loss) == 8
    assert read == list(range(8))


def test_a_last_batch_of_one_in_a_loader(pair):
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    loader = DataLoader(TensorDataset(*pair), batch_size=33)
    with pytest.raises(ValueError, match=r"the last of 4 batches .* drop_last=True"):
        training.fit(net, loader, **OPTIONS)
    loader = DataLoader(TensorDataset(*pair), batch_size=33, drop_last=True)
    assert len(training.fit(net, loader, **OPTIONS).step_loss) == 6


@pytest.mark.parametrize("options", [{"batch_size": 32}, {"augment": data.Augment(flip=0.5)}])
@pytest.mark.parametrize("name", ["loader", "generator"])
def test_what_has_batches_of_its_own_has_its_own_size(pair, name, options):
    make, more, _ = FORMS[name]
    with pytest.raises(ValueError, match=next(iter(options))):
        training.fit(linear(), make(*pair), **options, **more, **OPTIONS)


def test_regression_on_pairs(pair):
    """Labels that are numbers: the loss is what counts, and there is no accuracy."""
    x = pair[0]
    y = x.mean((1, 2, 3))[:, None]
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    options = {**OPTIONS, "epochs": 5, "lr": 1e-3}
    history = training.fit(net, loader, loader, loss=nn.MSELoss(), **options)
    assert history.train_loss[-1] < history.train_loss[0]
    with torch.no_grad():
        assert history.val_loss[-1] == pytest.approx(F.mse_loss(net(x), y).item(), rel=1e-4)
    assert all(map(math.isnan, history.val_accuracy))


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_the_example_of_the_packages_page(capsys):
    page = Path(__file__).parents[2] / "chapters/reference/package/training.md"
    section = page.read_text().partition("## Any data, any network")[2]
    exec(re.search(r"```python\n(.*?)```", section, flags=re.S)[1], {})
    assert re.search(r"<96 images: loss \d\.\d{4}, accuracy ", capsys.readouterr().out)
