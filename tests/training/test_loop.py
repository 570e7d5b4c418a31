"""The training loop against a slower, obvious one."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, training
from cnnbook.models import lenet5


def test_fit_takes_the_same_steps_as_a_plain_loop(sets):
    train, _ = sets
    model = lenet5()
    plain = lenet5()
    plain.load_state_dict(model.state_dict())
    options = {"epochs": 2, "batch_size": 64, "seed": 5, "progress": False, "device": "cpu"}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.03)
    history = training.fit(model, train, optimizer=optimizer, **options)

    losses, right = [], 0
    batches = data.Batches(train, 64, seed=5, device="cpu")
    for epoch in range(2):
        for x, y in batches.epoch(epoch):
            scores = plain(x)
            loss = F.cross_entropy(scores, y)
            plain.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in plain.parameters():
                    parameter -= 0.03 * parameter.grad
            losses.append(loss.item())
            right += (scores.argmax(1) == y).sum().item() if epoch == 1 else 0

    assert history.step_loss == pytest.approx(losses, rel=1e-6)
    assert history.train_accuracy[1] == right / 300
    weights = [64] * 4 + [44]
    mean = sum(w * v for w, v in zip(weights, losses[5:], strict=True)) / 300
    assert history.train_loss[1] == pytest.approx(mean, rel=1e-6)
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_the_default_recipe_is_a_plain_loop_to_the_bit(sets, tiny):
    train, _ = sets
    model, plain = tiny(), tiny()  # with dropout
    history = training.fit(model, train, epochs=2, lr=0.1, seed=3, device="cpu", progress=False)

    batches = data.Batches(train, 64, seed=3, device="cpu")
    sgd = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(sgd, 0.1, 2 * 5, cycle_momentum=False)
    losses = []
    with torch.random.fork_rng():
        for epoch in range(2):
            plain.train()
            for x, y in batches.epoch(epoch):
                torch.manual_seed(3 * 1_000_003 + len(losses))
                loss = F.cross_entropy(plain(x), y)
                sgd.zero_grad()
                loss.backward()
                sgd.step()
                schedule.step()
                losses.append(loss.item())

    assert history.step_loss == losses
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True)
    )


@pytest.mark.parametrize(("precision", "error"), [("bfloat16", 0.02), ("float16", 0.004)])
def test_mixed_precision_stays_near_full_precision(sets, precision, error):
    def run(precision):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 5, stride=2), nn.Tanh(), nn.Flatten())
        net.append(nn.Linear(784, 10))
        history = training.fit(
            net, sets[0], epochs=2, lr=0.02, precision=precision, device="cpu", progress=False
        )
        assert all(p.dtype == torch.float32 for p in net.parameters())
        return torch.tensor(history.step_loss)

    full, mixed = run("float32"), run(precision)
    assert not torch.equal(mixed, full)  # it did compute with fewer digits
    assert ((mixed - full).abs() / full).max() < error


def test_same_seed_same_numbers_other_seed_others(tiny, sets):
    def run(seed):
        history = training.fit(tiny(), *sets, epochs=2, seed=seed, progress=False)
        return history.step_loss, history.val_accuracy

    assert run(1) == run(1)
    assert run(1) != run(2)


DRAWS = {
    "torch": lambda: torch.rand(()).item(),
    "Python": random.random,
    "NumPy": np.random.rand,
}


def seed_all(seed):
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the generator that is tested)


def drawing(net, draw):
    """A network and a loss that draw in each step."""

    class Draws(nn.Module):
        def forward(self, x):
            return x * draw() if self.training else x

    def loss(scores, labels):
        return F.cross_entropy(scores, labels) * (1 + draw())

    return nn.Sequential(Draws(), net), loss


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_the_callers_random_state_is_left_alone(tiny, sets, draw):
    seed_all(9)
    expected = draw()
    net, loss = drawing(tiny(), draw)
    seed_all(9)
    training.fit(net, *sets, epochs=1, loss=loss, progress=False)
    assert draw() == expected


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_what_a_network_and_a_loss_draw_depends_on_the_seed_alone(tiny, sets, draw):
    def run(seed, before):
        net, loss = drawing(tiny(), draw)
        seed_all(before)
        options = {"epochs": 2, "loss": loss, "device": "cpu", "progress": False}
        return training.fit(net, sets[0], seed=seed, **options).step_loss

    assert run(-1, before=0) == run(-1, before=1) != run(1, before=0)


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_run_that_draws_is_resumed_to_the_bit(tiny, sets, draw, tmp_path):
    class Stop(training.Callback):
        def on_step(self, run):
            if run.step == 7:
                run.stop()

    def run(*callbacks, **options):
        net, loss = drawing(tiny(), draw)
        options |= {"epochs": 3, "loss": loss, "callbacks": callbacks, "device": "cpu"}
        return training.fit(net, sets[0], progress=False, **options).step_loss

    seed_all(0)
    whole = run()
    seed_all(1)
    run(Stop(), checkpoint=tmp_path / "run")
    seed_all(2)
    assert run(checkpoint=tmp_path / "run") == whole
    assert len(set(whole)) == len(whole)


def test_infinite_loss_stops_and_names_the_step(tiny, sets):
    model = tiny()

    def loss(scores, labels):
        loss.calls += 1
        return F.cross_entropy(scores, labels) * (float("nan") if loss.calls == 3 else 1)

    loss.calls = 0
    with pytest.raises(FloatingPointError, match=r"became nan at step 3 \(epoch 1\)"):
        training.fit(model, sets[0], epochs=2, loss=loss, progress=False)


@pytest.mark.parametrize("batches", [0, 1])
def test_a_source_with_fewer_batches_than_it_says_does_not_hang(tiny, sets, batches):
    x, y = next(data.Batches(sets[0], 8, device="cpu").epoch(0))

    class Source:
        batch_size, images_per_epoch = 8, 16

        def __len__(self):
            return 2

        def epoch(self, number, start=0):
            return iter([(x, y)] * max(0, batches - start))

    with pytest.raises(ValueError, match="announces 2 batches in an epoch, but yields none"):
        training.fit(tiny(), Source(), epochs=1, device="cpu", progress=False)
