"""Callbacks: the order of their hooks, and what each that is provided does."""

import re
import signal
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import training
from cnnbook.training import Callback


class Noted(Callback):
    """Notes which hooks were called, and with how much of the history."""

    def __init__(self):
        self.calls = []

    def on_fit_begin(self, run):
        self.calls.append(("begin", run.step, run.epoch))

    def on_step(self, run):
        self.calls.append(("step", run.step, run.epoch))

    def on_epoch_end(self, run):
        history = run.history
        assert len(history.step_loss) == run.step
        assert len(history.train_loss) == len(history.val_loss) == run.epoch
        self.calls.append(("epoch end", run.step, run.epoch))

    def on_fit_end(self, run):
        self.calls.append(("end", run.step, run.epoch))

    def on_exception(self, run, error):
        self.calls.append((error, run.step, run.epoch))


def stop_after(step, reason):
    def on_step(run):
        if run.step == step:
            run.stop(reason)

    return SimpleNamespace(on_step=on_step)


def test_hooks_are_called_in_order(fit, small):
    noted = Noted()
    fit(small, epochs=2, callbacks=[noted])
    steps = [("step", n, 1 + n // 5) for n in range(1, 9)]
    steps = [*steps[:4], ("epoch end", 4, 1), *steps[4:], ("epoch end", 8, 2)]
    assert noted.calls == [("begin", 0, 0), *steps, ("end", 8, 2)]


def test_callbacks_take_turns_in_the_order_of_their_list(fit, small):
    turns = []
    both = [SimpleNamespace(on_step=lambda run, i=i: turns.append(i)) for i in range(2)]
    fit(small, epochs=1, callbacks=both)
    assert turns == [0, 1] * 4


@pytest.mark.parametrize(("step", "epochs"), [(2, 0), (4, 1)])
def test_a_callback_stops_training_with_a_reason(fit, small, step, epochs):
    noted = Noted()
    stopping = [stop_after(step, "seen enough"), stop_after(step, "too late"), noted]
    history = fit(small, epochs=3, callbacks=stopping)
    assert history.stopped == "seen enough"
    assert len(history.step_loss) == step
    # An epoch whose steps have all been taken is closed and validated.
    assert len(history.val_loss) == len(history.train_loss) == epochs
    assert noted.calls[-1] == ("end", step, 1)


def test_a_callback_stops_before_the_first_step(fit, small):
    noted = Noted()
    at_once = SimpleNamespace(on_fit_begin=lambda run: run.stop())
    history = fit(small, epochs=3, callbacks=[at_once, noted])
    assert history.stopped == "stopped at step 0 of 12"
    assert noted.calls == [("begin", 0, 0), ("end", 0, 0)]


def test_all_see_the_error_of_one(fit, small, tmp_path):
    def fail(run):
        if run.step == 6:
            raise KeyError("mine")

    first, last = Noted(), Noted()
    before = signal.getsignal(signal.SIGINT)
    three = [first, SimpleNamespace(on_step=fail), last]
    with pytest.raises(KeyError, match="mine") as error:
        fit(small, epochs=3, callbacks=three, checkpoint=tmp_path / "run")
    assert first.calls[-2:] == [("step", 6, 2), (error.value, 6, 2)]
    assert last.calls[-2:] == [("step", 5, 2), (error.value, 6, 2)]
    assert signal.getsignal(signal.SIGINT) == before
    # What was saved is the last good state; the same call, mended, goes on.
    assert training.load_checkpoint(tmp_path / "run")[1]["step"] == 4
    assert len(fit(small, epochs=3, checkpoint=tmp_path / "run").step_loss) == 12


@pytest.mark.parametrize("hook", ["on_fit_begin", "on_epoch_end", "on_fit_end"])
def test_an_error_in_any_hook_is_raised(fit, small, hook):
    def fail(run):
        raise KeyError(hook)

    with pytest.raises(KeyError, match=hook):
        fit(small, epochs=1, callbacks=[SimpleNamespace(**{hook: fail})], progress=True)


def test_a_callback_sees_the_run(fit, small):
    class Seen(Callback):
        def on_step(self, run):
            assert run.model is small[0]
            assert run.images_seen == 64 * run.step
            assert run.optimizer.param_groups[0]["lr"] == run.scheduler.get_last_lr()[0]
            losses.append(run.loss.item())
            seconds.append(run.seconds)

    losses, seconds = [], []
    history = fit(small, epochs=2, callbacks=[Seen()])
    assert losses == history.step_loss
    assert seconds == sorted(seconds)
    assert seconds[3] <= history.seconds[0] <= seconds[4]


@pytest.mark.parametrize(
    ("callbacks", "error", "message"),
    [
        (Noted(), TypeError, "callbacks is a list of them, got Noted"),
        ([Noted], TypeError, r"holds the class Noted; create one: add \(\)"),
        ([print], TypeError, "none of the methods on_fit_begin, on_step"),
        ([None], TypeError, "None is no callback"),
        (
            [type("Mine", (Callback,), {"on_train_end": lambda self, run: None})()],
            ValueError,
            "unknown hook of Mine 'on_train_end'. Did you mean 'on_fit_end'[?] Use one of: on_",
        ),
    ],
)
def test_what_would_never_be_called_is_refused(fit, small, callbacks, error, message):
    with pytest.raises(error, match=message):
        fit(small, callbacks=callbacks)


@pytest.mark.parametrize("quiet", [True, False])
def test_progress_bar_obeys(tiny, sets, capfd, monkeypatch, quiet):
    monkeypatch.setenv("TQDM_DISABLE", "1" if quiet else "")
    training.fit(tiny(), *sets, epochs=1)
    said = capfd.readouterr().err
    assert ("img/s" in said) is not quiet
    assert ("validation accuracy" in said) is not quiet


def test_a_bar_of_ones_own_is_the_only_one(fit, small, monkeypatch):
    bars = []
    bar = training.callbacks.progress_bar
    monkeypatch.setattr(
        training.callbacks, "progress_bar", lambda *a, **o: bars.append(bar(*a, **o)) or bars[-1]
    )
    fit(small, epochs=1, progress=True, callbacks=[training.Progress()])
    fit(small, epochs=1, progress=False)
    assert len(bars) == 1
    assert bars[0].n == bars[0].total == 256


def test_a_line_for_each_epoch(fit, small, capsys):
    fit(small, epochs=2, callbacks=[training.EpochLines()])
    history = fit((*small[:2], None), epochs=1, callbacks=[training.EpochLines()])
    out, err = capsys.readouterr()
    first, second, alone = err.splitlines()
    pattern = r"epoch {}: training loss \d\.\d{{4}}, validation accuracy \d\d?\.\d\d%, \d\.\d s"
    assert re.fullmatch(pattern.format(1), first)
    assert re.fullmatch(pattern.format(2), second)
    assert alone.startswith(f"epoch 1: training loss {history.train_loss[0]:.4f}, {0}.")
    assert out == ""


def events(folder):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    found = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {name: found.Scalars(name) for name in found.Tags()["scalars"]}


def test_tensorboards_log_is_that_of_the_history(fit, small, tmp_path):
    pytest.importorskip("tensorboard")
    options = {"epochs": 3, "checkpoint": tmp_path / "run"}
    fit(small, **options, callbacks=[training.TensorBoard(tmp_path / "log"), stop_after(6, "")])
    history = fit(small, **options, callbacks=[training.TensorBoard(tmp_path / "log")])
    written = events(tmp_path / "log")
    steps = written.pop("loss/step")
    # In the second epoch, the run was interrupted and resumed.
    assert [event.step for event in steps] == list(range(1, 13))
    assert [event.value for event in steps] == pytest.approx(history.step_loss)
    assert [event.step for event in written.pop("learning_rate")] == [4, 8, 12]
    for name, values in {
        "loss/training": history.train_loss,
        "loss/validation": history.val_loss,
        "accuracy/training": history.train_accuracy,
        "accuracy/validation": history.val_accuracy,
    }.items():
        assert [event.step for event in written[name]] == [4, 8, 12]
        assert [event.value for event in written.pop(name)] == pytest.approx(values)
    assert not written


def test_tensorboard_without_its_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match="pip install tensorboard"):
        training.TensorBoard(tmp_path)


def test_target_accuracy_and_time_to_it(fit, small):
    history = fit(small, epochs=9, target_accuracy=0.3)
    assert history.val_accuracy[-1] >= 0.3
    assert all(value < 0.3 for value in history.val_accuracy[:-1])
    assert history.time_to(0.3) == history.seconds[-1]
    assert history.time_to(1.1) is None
    reached = f"{history.val_accuracy[-1]:.2%} reached in epoch {len(history.val_accuracy)}"
    assert history.stopped == f"validation accuracy {reached}"


def test_a_target_that_was_reached_is_not_trained_for_again(fit, small, tmp_path):
    options = {"epochs": 9, "checkpoint": tmp_path / "run", "target_accuracy": 0.3}
    first = fit(small, **options)
    assert len(first.val_accuracy) < 9
    assert fit(small, **options) == first


class Fixed(nn.Sequential):
    """A network whose loss in validation is the next of some numbers."""

    def __init__(self, losses):
        super().__init__(nn.Flatten(), nn.Linear(1024, 10))
        self.losses = list(losses)

    def loss(self, output, labels):
        if torch.is_grad_enabled():  # not `training`: an average is validated while this trains
            return F.cross_entropy(output, labels)
        return torch.tensor(self.losses.pop(0))


@pytest.mark.parametrize(
    ("losses", "patience", "min_delta", "epochs"),
    [
        ([3, 2, 2, 2, 1], 2, 0, 4),  # equal is no improvement
        ([3, 2, 4, 1, 5, 0], 2, 0, 6),  # each improvement restarts the wait
        ([3, 2.75, 2.25, 2, 1], 1, 0.5, 2),  # too little
        ([3, 2.75, 2.25, 2, 1.75], 2, 0.5, 5),  # from 3 to 2.25 is enough, to 1.75 is not
        ([1, 2, 3], 1, 0, 2),
    ],
)
def test_early_stopping_waits_for_an_improvement(fit, small, losses, patience, min_delta, epochs):
    net = Fixed(losses)
    stopping = training.EarlyStopping(patience=patience, min_delta=min_delta)
    history = fit((net, *small[1:]), epochs=len(losses), loss=net.loss, callbacks=[stopping])
    assert history.val_loss == losses[:epochs]
    said = f"val_loss has not improved for {patience} epoch{'s' * (patience > 1)}"
    assert history.stopped == ("" if losses == [3, 2, 4, 1, 5, 0] else said)


def test_early_stopping_of_an_accuracy_waits_for_more_of_it(fit, small):
    stopping = training.EarlyStopping("train_accuracy", patience=1)
    history = fit((*small[:2], None), epochs=99, lr=0.2, callbacks=[stopping])
    *rising, last = history.train_accuracy
    assert rising == sorted(set(rising))
    assert last <= rising[-1]


def test_early_stopping_goes_on_counting_in_a_resumed_run(fit, small, tmp_path):
    options = {"epochs": 9, "lr": 0.01, "checkpoint": tmp_path / "run"}

    def patient():
        return training.EarlyStopping("val_accuracy", patience=3, min_delta=1)

    fit(small, **options, callbacks=[patient(), stop_after(9, "")])  # after two epochs and a step
    history = fit(small, **options, callbacks=[patient()])
    assert len(history.val_accuracy) == 4
    assert fit(small, **options, callbacks=[patient()]) == history  # at once


class Mark(Callback):
    """Sets the first bias to the number of the epoch."""

    def on_step(self, run):
        with torch.no_grad():
            run.model[1].bias[0] = run.epoch


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([3, 2, 2.5, 2.6, 1], 2),  # stopped
        ([3, 2, 1, 1.5], 3),  # not stopped, but the best is not the last
        ([3, 2, 1], 3),
        ([3, 1, float("nan"), 2], 2),
    ],
)
@pytest.mark.parametrize("averaged", [False, True])
def test_the_best_weights_are_put_back(fit, small, tmp_path, losses, best, averaged):
    net = Fixed(losses)
    seen = []

    class Watch(Callback):
        def on_epoch_end(self, run):
            seen.append({n: v.clone() for n, v in run.evaluated.state_dict().items()})

    options = {"epochs": len(losses), "loss": net.loss, "ema_decay": 0.9 if averaged else None}
    path = tmp_path / "run"
    callbacks = [training.EarlyStopping(patience=2), Mark(), Watch()]
    fit((net, *small[1:]), **options, callbacks=callbacks, checkpoint=path)
    for name, value in net.state_dict().items():
        assert torch.equal(value, seen[best - 1][name]), name
    # The file has them, too, and the last ones to continue from.
    weights, state = training.load_checkpoint(path)
    assert all(torch.equal(weights[name], value) for name, value in net.state_dict().items())
    assert state.get("model", weights)["1.bias"][0] == len(seen)

    # A finished run that is read again leaves them, too.
    again = Fixed([])
    fit((again, *small[1:]), **options | {"loss": again.loss}, callbacks=[
        training.EarlyStopping(patience=2)], checkpoint=path)  # fmt: skip
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in net.state_dict().items())


def test_the_last_weights_stay_if_wanted(fit, small):
    net = Fixed([1, 2, 3, 4])
    stopping = training.EarlyStopping(patience=2, restore_best=False)
    fit((net, *small[1:]), epochs=4, loss=net.loss, callbacks=[stopping, Mark()])
    assert net[1].bias[0] == 3


@pytest.mark.parametrize("stop", [1, 5, 6, 9])
@pytest.mark.parametrize("averaged", [False, True])
def test_best_weights_of_a_resumed_run(fit, small, tmp_path, stop, averaged):
    """Interrupted anywhere, the run goes on with the last weights and returns the best."""
    losses = [3, 1, 2, 2.5, 0]
    options = {"epochs": 5, "ema_decay": 0.9 if averaged else None}

    def run(net, path, *more):
        callbacks = [training.EarlyStopping(patience=2), *more]
        options["loss"] = net.loss
        return fit((net, *small[1:]), **options, callbacks=callbacks, checkpoint=path)

    torch.manual_seed(0)
    whole = Fixed(losses)
    expected = run(whole, tmp_path / "whole")
    torch.manual_seed(0)
    begun = Fixed(losses)
    run(begun, tmp_path / "parts", stop_after(stop, ""))
    resumed = Fixed(begun.losses)
    history = run(resumed, tmp_path / "parts")
    assert history.step_loss == expected.step_loss
    assert history.stopped == expected.stopped == "val_loss has not improved for 2 epochs"
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_one_early_stopping_watches_one_run_after_another(fit, small):
    stopping = training.EarlyStopping(patience=9)
    first, second = Fixed([1, 2]), Fixed([3, 2])
    for net in (first, second):
        fit((net, *small[1:]), epochs=2, loss=net.loss, callbacks=[stopping, Mark()])
    assert [first[1].bias[0], second[1].bias[0]] == [1, 2]


def test_time_limit(fit, small, monkeypatch):
    now = SimpleNamespace(time=100.0)
    monkeypatch.setattr(training.run.time, "perf_counter", lambda: now.time)

    def second(run):
        now.time += 1

    def evaluation(run):
        now.time += 1000

    clock = SimpleNamespace(on_step=second, on_epoch_end=evaluation)
    history = fit(small, epochs=9, callbacks=[clock, training.TimeLimit(6)])
    assert history.stopped == "time limit of 6 s reached at step 6 of 36"
    assert history.seconds == [4.0]


def test_time_limit_counts_what_a_resumed_run_had_trained(fit, small, tmp_path):
    options = {"epochs": 9, "checkpoint": tmp_path / "run"}
    fit(small, **options, callbacks=[stop_after(4, "")])
    history = fit(small, **options, callbacks=[training.TimeLimit(1e-9)])
    assert len(history.step_loss) == 4
    assert history.stopped == "time limit of 1e-09 s reached at step 4 of 36"


def test_a_checkpoint_in_the_list_only_writes(fit, small, tmp_path):
    # It comes last, wherever it stands: the average in it is that of the same step.
    both = [training.Checkpoint(tmp_path / "b", every=3, info="mine"), training.EMA(0.9)]
    fit(small, epochs=1, callbacks=[*both, stop_after(3, "")])
    weights, state = training.load_checkpoint(tmp_path / "b")
    assert (state["step"], state["info"]) == (3, "mine")
    assert all(torch.equal(weights[name], value) for name, value in small[0].state_dict().items())
    fit(small, epochs=1, callbacks=both)
    assert training.load_checkpoint(tmp_path / "b")[1]["step"] == 4  # the end, too


def test_steps_between_savings(fit, small, tmp_path, monkeypatch):
    saved = []
    monkeypatch.setattr(training.callbacks, "save_run", lambda run, *_: saved.append(run.step))
    for every, steps in ((None, [4, 8]), (3, [3, 6, 8]), (4, [4, 8]), (1, list(range(1, 9)))):
        saved.clear()
        fit(small, epochs=2, callbacks=[training.Checkpoint(tmp_path / "run", every)])
        assert saved == steps, every


def test_an_average_is_what_is_validated_and_left(fit, small):
    ema = training.EMA(0.5)
    history = fit(small, epochs=2, callbacks=[ema])
    assert training.evaluate(ema.average, small[2], device="cpu").loss == history.val_loss[-1]
    assert torch.equal(ema.average[1].weight, small[0][1].weight)


def test_an_average_counts_shared_weights_once(sets):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)
            self.b.weight = self.a.weight
            self.out = nn.Linear(16, 10)

        def forward(self, x):
            x = F.adaptive_avg_pool2d(x, 4).flatten(1)
            return self.out(self.b(self.a(x).relu()).relu())

    torch.manual_seed(0)
    net = Tied()
    average = {name: p.detach().clone() for name, p in net.named_parameters()}

    class Follow(Callback):
        def on_step(self, run):
            decay = min(0.9, (1 + run.step) / (10 + run.step))
            for name, p in run.model.named_parameters():
                average[name].lerp_(p.detach(), 1 - decay)

    options = {"device": "cpu", "progress": False}
    training.fit(net, sets[0], epochs=2, ema_decay=0.9, callbacks=[Follow()], **options)
    for name, p in net.named_parameters():
        assert torch.allclose(p, average[name], atol=1e-6), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: training.EMA(1.5), "decay=1.5"),
        (lambda: training.TargetAccuracy(85), "accuracy=85"),
        (lambda: training.TimeLimit(0), "seconds=0"),
        (lambda: training.Checkpoint("x", every=0), "every must be at least 1, got 0"),
        (lambda: training.EarlyStopping("val_acc"), "Did you mean 'val_accuracy'"),
        (lambda: training.EarlyStopping(patience=0), "patience must be at least 1, got 0"),
        (lambda: training.EarlyStopping(min_delta=-1), "min_delta=-1"),
    ],
)
def test_numbers_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("callback", [training.TargetAccuracy(0.5), training.EarlyStopping()])
def test_what_watches_the_validation_needs_images_for_it(fit, small, callback):
    with pytest.raises(ValueError, match=r"pass val= to fit\(\)"):
        fit((*small[:2], None), epochs=1, callbacks=[callback])
