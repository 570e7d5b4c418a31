"""Ctrl-C ends a training cleanly."""

import signal
import time

import pytest

from cnnbook import training


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
