"""Work in forks of one process, which may come to any harm there.

The scripts beside this file load torch once, fork for every fault they are asked to try, and answer
with how that ended.
"""

import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Fork:
    """A fork of this process that does some work, and leaves its result in a file.

    Parameters
    ----------
    work
        Called in the fork; returns what :meth:`end` returns.
    result
        The file, replaced if there is one.
    patience
        Seconds it may take.
    """

    def __init__(self, work: Callable[[], dict[str, Any]], result: Path, patience: float):
        self.result = result
        self.new, self.stack = (result.with_name(result.name + end) for end in (".new", ".stack"))
        self.result.unlink(missing_ok=True)
        self.status: int | None = None
        self.seconds: float | None = None
        self._begun = time.perf_counter()
        self._patience = patience
        self.pid = os.fork()
        if not self.pid:
            try:
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # orders are not for it
                self._do(work)
            finally:
                os._exit(0 if result.exists() else 17)

    def _do(self, work: Callable[[], dict[str, Any]]) -> None:
        with open(self.stack, "w") as stack:  # soon before it is ended, what it waits for
            faulthandler.dump_traceback_later(0.9 * self._patience, file=stack)
            try:
                answer = work()
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
                answer = {"error": said, "traceback": traceback.format_exc()[-1500:]}
            # What the error keeps alive is gone by now: that, too, must not take forever.
            self.new.write_text(json.dumps(answer))
            self.new.rename(self.result)

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status, self.seconds = status, time.perf_counter() - self._begun
        return self.status is not None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it has not ended."""
        if not self.ended:
            os.kill(self.pid, number)

    def wait(self) -> None:
        """Wait until it has ended, or its time is over."""
        while not self.ended and time.perf_counter() < self._begun + self._patience:
            time.sleep(0.002)

    def end(self) -> dict[str, Any]:
        """Kill it if it has not ended; return its result, and how and when it ended.

        Of one that did not, `status` and `seconds` are None, and `stack` is what it was doing.
        """
        if not self.ended:
            self.send(signal.SIGKILL)
            os.waitpid(self.pid, 0)
        answer: dict[str, Any] = {"status": self.status, "seconds": self.seconds}
        if self.status is None and self.stack.exists():
            answer["stack"] = self.stack.read_text(errors="replace")[-3000:]
        for left in (self.new, self.stack):
            left.unlink(missing_ok=True)
        if self.result.exists():
            answer |= json.loads(self.result.read_text())
        return answer


def silence() -> None:
    """Send this process's errors nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Read a line of JSON for each order, and answer it with one."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
