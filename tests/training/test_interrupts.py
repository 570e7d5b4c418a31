"""Ctrl-C ends a training cleanly."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from cnnbook import training


@pytest.fixture(autouse=True)
def signals_that_are_heard():
    """As in a terminal: nohup has SIGHUP ignored, and a script SIGINT in its background."""
    own = {signal.SIGINT: signal.default_int_handler}
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {n: signal.getsignal(n) for n in (getattr(signal, name) for name in names)}
    for number, handler in before.items():
        if handler is signal.SIG_IGN:
            signal.signal(number, own.get(number, signal.SIG_DFL))
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_returns_the_history_so_far(fit, small, tmp_path):
    class Interrupt(training.Callback):
        def on_step(self, run):
            if run.step == 6:
                signal.raise_signal(signal.SIGINT)
                time.sleep(0)

    history = fit(small, epochs=3, checkpoint=tmp_path / "run", callbacks=[Interrupt()])
    assert len(history.train_loss) == 1
    assert history.stopped == "stopped at step 7 of 12"
    assert len(fit(small, epochs=3, checkpoint=tmp_path / "run").step_loss) == 12


def test_a_second_ctrl_c_stops_at_once_and_gives_the_signals_back(fit, small):
    class Interrupt(training.Callback):
        def on_step(self, run):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        fit(small, epochs=3, callbacks=[Interrupt()])
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_other_signals_end_a_training_cleanly(fit, small, tmp_path, name):
    class Ends(training.Callback):
        def on_step(self, run):
            if run.step == 6:
                signal.raise_signal(getattr(signal, name))

    history = fit(small, epochs=3, checkpoint=tmp_path / "run", callbacks=[Ends()])
    assert history.stopped == "stopped at step 7 of 12"
    assert len(fit(small, epochs=3, checkpoint=tmp_path / "run").step_loss) == 12


class Broken:
    """A stream whose reader is gone, or whose disk is full."""

    encoding = "ascii"

    def write(self, text):
        raise BrokenPipeError(32, "Broken pipe")

    def flush(self):
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("stream", [None, Broken()])
def test_a_training_survives_that_nobody_can_read_what_it_says(
    fit, small, tmp_path, monkeypatch, stream
):
    monkeypatch.setattr("sys.stderr", stream)

    class Interrupt(training.Callback):
        def on_step(self, run):
            if run.step == 6:
                signal.raise_signal(signal.SIGINT)

    options = {"epochs": 3, "checkpoint": tmp_path / "run", "progress": True}
    history = fit(small, callbacks=[Interrupt()], **options)
    assert history.stopped == "stopped at step 7 of 12"
    assert len(fit(small, **options).step_loss) == 12


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_that_is_ignored_stays_ignored(fit, small, name):
    """As SIGHUP is under nohup, and SIGINT in a script's background."""

    class Signals(training.Callback):
        def on_step(self, run):
            signal.raise_signal(number)

    number = getattr(signal, name)
    before = signal.signal(number, signal.SIG_IGN)
    try:
        history = fit(small, epochs=1, callbacks=[Signals()])
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
    assert (history.stopped, len(history.step_loss)) == ("", 4)


def test_a_signal_during_a_message_is_no_error(fit, small, monkeypatch):
    """Python refuses to write to a file within a write to the same file."""

    class Busy(Broken):
        def write(self, text):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    class Interrupt(training.Callback):
        def on_step(self, run):
            if run.step == 2:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("sys.stderr", Busy())
    assert fit(small, epochs=1, callbacks=[Interrupt()]).stopped == "stopped at step 3 of 4"


@pytest.mark.slow
def test_workers_that_load_images_leave_the_answer_to_the_training(capfd):
    interrupts = training.interrupts.Interrupts()
    with interrupts:
        pid = os.fork()
        if not pid:
            signal.raise_signal(signal.SIGTERM)
            os._exit(interrupts.requested)
        assert os.waitpid(pid, 0)[1] == 0
        assert not interrupts.requested
    assert capfd.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start", "name"),
    [("fork", "SIGINT"), ("fork", "SIGTERM"), ("fork", "SIGHUP"), ("spawn", "SIGTERM")],
)
def test_a_signal_to_a_loaders_workers_too_ends_a_training_cleanly(fit, tmp_path, start, name):
    """As a terminal and a cluster send it."""
    number = getattr(signal, name)

    class ToAll(training.Callback):
        def on_step(self, run):
            if run.step == 7:
                workers = set(multiprocessing.active_children()) - others
                assert len(workers) == 2
                for pid in [*(worker.pid for worker in workers), os.getpid()]:
                    os.kill(pid, number)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    images = TensorDataset(torch.randn(80, 1, 4, 4), torch.arange(80) % 5)
    loader = DataLoader(
        images, 2, num_workers=2, multiprocessing_context=start, worker_init_fn=round
    )
    others = set(multiprocessing.active_children())
    history = fit((net, loader), checkpoint=tmp_path / "run", callbacks=[ToAll()], epochs=1)
    assert history.stopped == "stopped at step 8 of 40"
    assert len(history.step_loss) == 8
    assert loader.worker_init_fn is round  # as it was, and called in the workers
    assert len(fit((net, loader), checkpoint=tmp_path / "run", epochs=1).step_loss) == 40


class Fails:
    """Batches of which one cannot be read, because `before` was done."""

    batch_size, images_per_epoch = 8, 80

    def __init__(self, before):
        self.before = before

    def __len__(self):
        return 10

    def epoch(self, number, start=0):
        for batch in range(start, 10):
            if batch == 4:
                self.before()
                raise RuntimeError("a worker exited unexpectedly")
            yield torch.ones(8, 1, 4, 4), torch.arange(8) % 5


def later():
    threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()


@pytest.mark.parametrize("before", [lambda: signal.raise_signal(signal.SIGTERM), later])
def test_images_that_a_signal_keeps_from_being_read_end_a_training_cleanly(fit, tmp_path, before):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    history = fit((net, Fails(before)), epochs=1, checkpoint=tmp_path / "run")
    assert history.stopped == "stopped at step 4 of 10"
    assert training.load_checkpoint(tmp_path / "run")[1]["step"] == 4


def test_images_that_cannot_be_read_are_an_error(fit, tmp_path):
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 5))
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        fit((net, Fails(lambda: None)), epochs=1, checkpoint=tmp_path / "run")
