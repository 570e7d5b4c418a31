"""Running contenders in turn, and computing how many times faster one of them is.

A machine whose speed changes affects them all alike; a ratio is the median over the rounds.
"""

import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from cnnbook.results import Row

CNNBOOK = "cnnbook"


def race(
    contenders: Mapping[str, Callable[[], object]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Time functions in turn: first, second, …, first, second, ….

    Parameters
    ----------
    contenders
        Functions by name.
    repeats
        Rounds that count.
    warm_up
        Whether a round that does not count comes first.

    Returns
    -------
    dict of str to list of float
        Seconds of each round.

    Examples
    --------
    >>> seconds = race({"sorted": lambda: sorted("abc"), "min": lambda: min("abc")}, repeats=3)
    >>> [len(rounds) for rounds in seconds.values()]
    [3, 3]
    """
    cuda = torch.cuda.is_available()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(repeats + warm_up):
        for name, run in contenders.items():
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            if cuda:
                torch.cuda.synchronize()
            if round_number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def race_apart(
    contenders: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, list[float]]:
    """Like :func:`race`, with each contender in its own process.

    What ours sets for its process (:func:`training.device.keep_freed_memory`) must not help the
    others. The functions must be picklable.

    Raises
    ------
    RuntimeError
        If one of the processes dies.
    """
    context = torch.multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for name, run in contenders.items():
            pipes[name], other = context.Pipe()
            processes.append(context.Process(target=_run_when_told, args=(other, run)))
            processes[-1].start()
            other.close()  # so that a process that dies is noticed
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for round_number in range(repeats + 1):
            for name, pipe in pipes.items():
                pipe.send(True)
                taken = pipe.recv()
                if round_number:
                    seconds[name].append(taken)
        return seconds
    except EOFError:
        raise RuntimeError(f"the process of {name!r} died; its error is printed above") from None
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join(10)
            process.kill()


def _run_when_told(pipe: Connection, run: Callable[[], object]) -> None:
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    try:
        while pipe.recv():
            pipe.send(race({"": run}, 1, warm_up=False)[""][0])
    except EOFError:
        return


def rows_of_race(
    part: str,
    task: str,
    seconds: Mapping[str, list[float]],
    images: int,
    notes: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Return a race's rows: images per second, and how many times faster cnnbook is."""
    ours = seconds[CNNBOOK]
    return [
        Row(
            part,
            task,
            name,
            images / statistics.median(times),
            "images/s",
            statistics.median(b / a for a, b in zip(ours, times, strict=True)),
            notes.get(name, ""),
            more or {},
        )
        for name, times in seconds.items()
    ]
