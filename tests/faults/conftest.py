"""How faults are counted: how many of each kind were tried, and how many did harm.

The tests of this folder run few of them in `make test`, and as many as the table of each kind names
in `make faults`, which prints that table.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FULL = os.environ.get("CNNBOOK_FAULTS") == "full"
# Programs, which import each other from their own folder.
collect_ignore = ["command_lines.py", "forks.py", "pair.py", "trainer.py"]


class Faults:
    """The faults that one test tries, all of one kind.

    A test calls :meth:`tried` once for each fault, with what went wrong, or None; it fails at its
    end if anything did, and says what and how often.
    """

    def __init__(self) -> None:
        self.kind = ""
        self.count = 0
        self.harm: Counter[str] = Counter()

    full = FULL

    def number(self, kind: str, *, quick: int, full: int) -> int:
        """Name the kind, as the table names it, and return how many to try."""
        self.kind = kind
        return full if FULL else quick

    def tried(self, harm: str | None = None) -> None:
        """Count one fault, and what it did that it must not do."""
        self.count += 1
        if harm:
            self.harm[harm] += 1


@pytest.fixture
def faults(record_property) -> Iterator[Faults]:
    """Count the faults of a test, and fail if one did harm or none was tried."""
    counted = Faults()
    yield counted
    assert counted.kind, "a test of faults names their kind: faults.number(kind, …)"
    record_property("faults", [counted.kind, counted.count, counted.harm.total()])
    assert counted.count > 0, f"{counted.kind}: no fault was tried"
    worst = "\n".join(f"{times}× {harm}" for harm, times in counted.harm.most_common(10))
    assert not counted.harm, f"{counted.kind}: {counted.harm.total()} of {counted.count}\n{worst}"


STARTS = (
    *("subprocess.Popen", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.startfile"),
    *("pickle.find_class", "socket.connect"),
)
watching: list[list[str]] = []


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if watching and event in STARTS:
        watching[-1].append(f"{event} {arguments!r:.80}")


sys.addaudithook(_note)  # for good: Python cannot remove one


@pytest.fixture
def started() -> Iterator[list[str]]:
    """Collect every program that is started, class that is unpickled and connection made."""
    watching.append([])
    yield watching[-1]
    watching.pop()


@pytest.fixture
def peak():
    """Return a function that gives the bytes that this process grew by, at most, since it began.

    Only Linux tells; elsewhere it is 0.
    """
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    if not clear.exists():
        return lambda: 0

    def most() -> int:
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return 1024 * int(line.split()[1])

    clear.write_text("5")
    before = most()
    return lambda: most() - before


@pytest.fixture(scope="module")
def memory_folder() -> Iterator[Path]:
    """A folder in memory if there is one: hundreds of checkpoints wait for a disk to write them."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=where) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def asking():
    """A function that starts a script, and gives one that asks it: JSON lines to and fro."""

    @contextlib.contextmanager
    def start(script: Path) -> Iterator[Callable[..., Any]]:
        with subprocess.Popen(
            [sys.executable, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},  # threads do not survive a fork
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None

            def ask(**what: Any) -> Any:
                process.stdin.write(json.dumps(what) + "\n")
                process.stdin.flush()
                return json.loads(process.stdout.readline())

            yield ask
            process.stdin.close()

    return start


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark the tests whose scripts work in forks of themselves: those that ask one."""
    if "asking" in getattr(item, "fixturenames", ()):
        item.add_marker(pytest.mark.slow)
        item.add_marker(pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no os.fork"))
        item.add_marker(pytest.mark.may_skip("there is no fork on Windows"))


def pytest_terminal_summary(terminalreporter):
    """Print one line for each kind: how many were tried, how many did harm."""
    tried: Counter[str] = Counter()
    harm: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == "faults" and report.when == "teardown":
                    tried[value[0]] += value[1]
                    harm[value[0]] += value[2]
    if tried:
        terminalreporter.section("faults")
        for kind in sorted(tried):
            terminalreporter.line(f"{tried[kind]:>7,} tried {harm[kind]:>5,} harmful  {kind}")
