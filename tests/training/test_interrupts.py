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
