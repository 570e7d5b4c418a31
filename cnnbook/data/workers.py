"""A loader's worker processes, which a signal that stops a training must not end before it."""

import atexit
import signal
import weakref
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader


class LeavingSignals:
    """A ``worker_init_fn`` after which the training decides on a job's signals, not the worker.

    A terminal sends Ctrl-C, and a cluster its termination signal, to the workers, too. If they
    died, torch would end the training with an error before it could stop after a step.

    A class and not a closure, because workers that are not forked get it pickled.

    Parameters
    ----------
    own
        The loader's own function.
    """

    def __init__(self, own: Callable[[int], Any] | None = None):
        self.own = own

    def __call__(self, worker: int) -> None:
        """Prepare a worker, in its process."""
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            if hasattr(signal, name):  # SIGHUP is not known on Windows
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        if self.own is not None:
            self.own(worker)


def begin(source: Any) -> Iterator[Any]:
    """Return ``iter(source)``; the workers that a ``DataLoader`` starts survive a job's signals."""
    # Those of a class with another __iter__ could not be ended.
    if getattr(type(source), "__iter__", None) is not DataLoader.__iter__ or not source.num_workers:
        return iter(source)
    own = source.worker_init_fn
    source.worker_init_fn = LeavingSignals(own)
    try:
        begun: Iterator[Any] = iter(source)
    finally:
        source.worker_init_fn = own
    end_at_exit(begun)
    return begun


_with_workers: "weakref.WeakSet[Any]" = weakref.WeakSet()


def end_at_exit(source: Any) -> None:
    """End the workers of a loader, or of what iterates over it, when the program ends.

    Python would wait forever for them, because they ignore its SIGTERM.
    """
    _with_workers.add(source)


@atexit.register
def _end_workers() -> None:
    for source in list(_with_workers):
        begun = getattr(source, "_iterator", source)
        # Without workers, torch's iterator has nothing to shut down.
        if hasattr(begun, "_shutdown_workers"):
            begun._shutdown_workers()
            for worker in begun._workers:
                if worker.is_alive():  # one that hangs in a data set
                    worker.kill()
