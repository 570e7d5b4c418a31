"""Stopping cleanly between two steps when the user or the cluster asks for it."""

import signal
import threading
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
    KeyboardInterrupt at once, for steps that take too long.

    Attributes
    ----------
    requested
        Whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        # Python lets only the main thread set handlers; elsewhere Ctrl-C works as usual.
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in _SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def on_step(self, run: "Run") -> None:
        """Stop the run if a signal has arrived."""
        if self.requested:
            run.stop()

    on_epoch_end = on_step  # a signal may arrive during validation

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        say("\nstopping after this step; Ctrl-C again stops at once")
