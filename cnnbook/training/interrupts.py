"""Stopping cleanly between two steps when the user or the cluster asks for it."""

import os
import signal
import threading
import time
from types import FrameType
from typing import TYPE_CHECKING, Any

from cnnbook._stderr import say

if TYPE_CHECKING:
    from cnnbook.training.run import Run

# SIGHUP, which a closed terminal sends, is not known on Windows.
_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Interrupts:
    """Context in which Ctrl-C and the termination signal are recorded instead of raised.

    A step is never cut short: as a callback, this stops the run after it. A second Ctrl-C raises
    KeyboardInterrupt at once, for steps that take too long. A signal that was ignored before, as
    SIGHUP is under ``nohup``, stays ignored.

    Attributes
    ----------
    requested
        Whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}
        self._process = 0

    def __enter__(self) -> "Interrupts":
        # Python lets only the main thread set handlers; elsewhere Ctrl-C works as usual.
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
            for number in _SIGNALS:
                before = signal.getsignal(number)
                if before not in (None, signal.SIG_IGN):  # None: not set by Python, nor to set back
                    self._before[number] = before
                    signal.signal(number, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def arrive_within(self, seconds: float) -> bool:
        """Return whether a signal has arrived, or does so before `seconds` are over."""
        end = time.monotonic() + seconds if self._before else 0
        while not self.requested and time.monotonic() < end:
            time.sleep(0.01)
        return self.requested

    def on_step(self, run: "Run") -> None:
        """Stop the run if a signal has arrived."""
        if self.requested:
            run.stop()

    on_epoch_end = on_step  # a signal may arrive during validation

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker that loads images ends with the training
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        say("\nstopping after this step; Ctrl-C again stops at once")
