"""Schedulers that look at a value, and optimizers that call a closure: supported or refused."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from cnnbook import data, training

OPTIONS = {"device": "cpu", "progress": False}


@pytest.fixture(scope="module")
def digits():
    train, test = data.load("digits")
    return train[:128], test[:50]


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def sgd(model, lr=0.1):
    return torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)


class Rates(training.Callback):
    def __init__(self):
        self.rates = []

    def on_step(self, run):
        self.rates.append(run.optimizer.param_groups[0]["lr"])


def plateau_by_hand(values, *, lr, factor, patience, best, better):
    """The rates in each epoch, as ReduceLROnPlateau's documentation describes it."""
    rates, bad = [], 0
    for value in values:
        rates.append(lr)
        best, bad = (value, 0) if better(value, best) else (best, bad + 1)
        if bad > patience:
            lr, bad = lr * factor, 0
    return rates


@pytest.mark.parametrize("mode", ["min", "max"])
def test_plateau_follows_the_validation(digits, mode):
    model, rates = net(), Rates()
    optimizer = sgd(model, 1.0)  # too much: the loss soon rises
    options = {"mode": mode, "factor": 0.5, "patience": 0, "threshold": 0.0}
    history = training.fit(
        model, *digits, epochs=8, optimizer=optimizer, callbacks=[rates],
        scheduler=lr_scheduler.ReduceLROnPlateau(optimizer, **options), **OPTIONS,
    )  # fmt: skip
    values = history.val_loss if mode == "min" else history.val_accuracy
    expected = plateau_by_hand(
        values, lr=1.0, factor=0.5, patience=0,
        best=float("inf") if mode == "min" else -float("inf"),
        better=(lambda a, b: a < b) if mode == "min" else (lambda a, b: a > b),
    )  # fmt: skip
    assert len(set(expected)) > 2
    assert rates.rates == [rate for rate in expected for _ in range(2)]


def test_a_resumed_run_goes_on_with_its_plateau(digits, tmp_path):
    def run(*callbacks, path):
        model, rates = net(), Rates()
        optimizer = sgd(model, 1.0)
        plateau = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        history = training.fit(
            model, *digits, epochs=6, optimizer=optimizer, scheduler=plateau,
            callbacks=[rates, *callbacks], checkpoint=path, **OPTIONS,
        )  # fmt: skip
        return model, history, rates.rates

    whole, expected, rates = run(path=tmp_path / "whole")
    stop = SimpleNamespace(on_step=lambda run: run.step == 7 and run.stop())
    run(stop, path=tmp_path / "parts")
    resumed, history, rest = run(path=tmp_path / "parts")
    assert history.step_loss == expected.step_loss
    assert rest == rates[7:]
    assert torch.equal(whole[1].weight, resumed[1].weight)


def test_plateau_needs_validation_images(digits):
    model = net()
    optimizer, steps = sgd(model), []
    with pytest.raises(ValueError, match=r"looks at validation images .* pass val= too"):
        training.fit(
            model, digits[0], epochs=1, optimizer=optimizer,
            scheduler=lr_scheduler.ReduceLROnPlateau(optimizer),
            callbacks=[SimpleNamespace(on_step=steps.append)], **OPTIONS,
        )  # fmt: skip
    assert not steps


class NeedsLoss(lr_scheduler.LRScheduler):
    def step(self, loss):
        self.last_epoch += 1

    def _initial_step(self):
        pass


def test_another_scheduler_that_needs_a_value_is_refused(digits):
    model = net()
    optimizer = sgd(model)
    with pytest.raises(ValueError, match=r"NeedsLoss is stepped with a value, .* on_step"):
        training.fit(
            model, *digits, epochs=1, optimizer=optimizer, scheduler=NeedsLoss(optimizer), **OPTIONS
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda sgd: lr_scheduler.LambdaLR(sgd, lambda step: 1 / (1 + step)),
        lambda sgd: lr_scheduler.CosineAnnealingWarmRestarts(sgd, 3),
        lambda sgd: lr_scheduler.CyclicLR(sgd, 0.01, 0.1, 2),
        lambda sgd: lr_scheduler.SequentialLR(
            sgd, [lr_scheduler.ConstantLR(sgd), lr_scheduler.ExponentialLR(sgd, 0.9)], [2]
        ),
        lambda sgd: lr_scheduler.ChainedScheduler(
            [lr_scheduler.ConstantLR(sgd), lr_scheduler.ExponentialLR(sgd, 0.9)]
        ),
    ],
)
def test_torchs_other_schedulers_step_with_every_batch(digits, make):
    def rates(optimizer, step):
        schedule, found = make(optimizer), []
        for _ in range(4):
            optimizer.step()
            step(schedule)
            found.append(optimizer.param_groups[0]["lr"])
        return found

    alone = sgd(net())
    expected = rates(alone, lambda schedule: schedule.step())
    model, watch = net(), Rates()
    optimizer = sgd(model)
    training.fit(
        model, digits[0], epochs=2, optimizer=optimizer, scheduler=make(optimizer),
        callbacks=[watch], **OPTIONS,
    )  # fmt: skip
    assert watch.rates == pytest.approx(expected)


class Twice(torch.optim.SGD):
    """Needs the loss twice, as sharpness-aware minimization does."""

    def step(self, closure):
        closure()


@pytest.mark.parametrize("kind", [torch.optim.LBFGS, Twice])
def test_optimizers_that_call_a_closure_are_refused(digits, kind):
    model, steps = net(), []
    with pytest.raises(ValueError, match=f"{kind.__name__} evaluates the loss several times"):
        training.fit(
            model, digits[0], epochs=1, optimizer=kind(model.parameters(), lr=0.1),
            callbacks=[SimpleNamespace(on_step=steps.append)], **OPTIONS,
        )  # fmt: skip
    assert not steps


@pytest.mark.parametrize("name", ["Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Rprop"])
def test_torchs_other_optimizers_train(digits, name):
    model = net()
    optimizer = getattr(torch.optim, name)(model.parameters(), lr=0.01)
    history = training.fit(model, digits[0], epochs=4, optimizer=optimizer, **OPTIONS)
    assert history.train_loss[-1] < history.train_loss[0]
