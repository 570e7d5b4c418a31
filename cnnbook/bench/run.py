"""Running any of the comparisons and experiments, and their results."""

import inspect
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cnnbook._checks import check_count
from cnnbook._draw import draw
from cnnbook._errors import unknown
from cnnbook._files import expanded, write_whole
from cnnbook._stderr import say
from cnnbook.bench import comparisons
from cnnbook.bench.ceiling import ceiling
from cnnbook.bench.race import CNNBOOK
from cnnbook.bench.recipe import recipe
from cnnbook.bench.throughput import throughput
from cnnbook.results import Row, describe_machine
from cnnbook.results.records import rows_table
from cnnbook.results.schema import document, sealed
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.plots import Figure

# Run if no part is named; the others take hours.
COMPARISONS: dict[str, Callable[..., Iterator[Row]]] = {
    "augment": comparisons.augment,
    "epoch": comparisons.epoch,
    "accuracy": comparisons.accuracy,
    "models": comparisons.training_step,
}
PARTS = COMPARISONS | {"throughput": throughput, "ceiling": ceiling, "recipe": recipe}

# The options of :func:`run`: how the command line calls each, and what it is if not given.
OPTIONS: dict[str, tuple[str, Any]] = {
    "quick": ("--quick", False),
    "repeats": ("--repeats", 5),
    "networks": ("--model", None),
    "precisions": ("--precision", None),
    "layouts": ("--layout", None),
    "modes": ("--mode", None),
    "batch_size": ("--batch", None),
    "limit": ("--time-limit", 300),
    "data_set": ("--data", None),
    "seeds": ("--seeds", 3),
}


@dataclass(frozen=True, repr=False)
class Result:
    """What a benchmark measured, and on what.

    Parameters
    ----------
    rows
        The measurements.
    machine
        Names and versions, see :func:`cnnbook.results.describe_machine`.
    command
        The command that repeats it.
    title
        What was done, in one line.

    Examples
    --------
    >>> rows = (
    ...     Row("adding", "1 + 1", "cnnbook", 0.1, "seconds", 1.0),
    ...     Row("adding", "1 + 1", "an abacus", 2.0, "seconds", 20.0),
    ... )
    >>> Result(rows, describe_machine(), "python -m adding", "Adding numbers").table()
    part    task   contender  value  unit     times ours
    adding  1 + 1  cnnbook      0.1  seconds        1.00
    adding  1 + 1  an abacus      2  seconds       20.00
    """

    rows: tuple[Row, ...]
    machine: dict[str, Any]
    command: str
    title: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, in the schema of :mod:`cnnbook.results`."""
        columns = dict.fromkeys(name for row in self.rows for name in row.to_dict())
        rows = [columns | row.to_dict() for row in self.rows]
        return document(self.title, self.command, self.machine, rows)

    def table(self) -> Table:
        """Return one line per contender."""
        return rows_table(self.to_dict()["rows"])

    def __repr__(self) -> str:
        """Return machine and table as text."""
        m = self.machine
        threads = "1 thread" if m["threads"] == 1 else f"{m['threads']} threads"
        return (
            f"{m['processor']}, {threads}, {m['device']} · torch {m['torch']}, "
            f"torchvision {m['torchvision']}, Python {m['python']} · {m['date']}\n"
            "times ours: how many times faster cnnbook is in the same round, median\n"
            f"{self.table()!r}"
        )

    def save(self, path: str | Path) -> None:
        """Write everything as JSON; an existing file is replaced once the new one is complete."""
        write_whole(expanded(path), sealed(self.to_dict()))

    def plot(self) -> "Figure":
        """Draw the ratios as bars, one per contender that is not ours.

        Raises
        ------
        ValueError
            If there is no other contender, as in an experiment.
        """
        others = [r for r in self.rows if r.contender != CNNBOOK and r.ratio is not None]
        if not others:
            raise ValueError(f"nothing to draw: no other contender in {self.title!r}")
        return draw(
            "bars",
            [f"{row.task}: {row.contender}" for row in others],
            torch.tensor([row.ratio for row in others]),
            xlabel="times longer than cnnbook takes (same run, median)",
            reference=1.0,
        )


def title(part: str) -> str:
    """Return what a part does, in one line.

    Examples
    --------
    >>> title("epoch")
    'Train LeNet-5 for one epoch: Dataset and DataLoader image by image, and ours'
    """
    return (PARTS[part].__doc__ or part).partition("\n")[0].rstrip(".")


def run(
    parts: Sequence[str] = (),
    *,
    quick: bool = False,
    repeats: int = 5,
    networks: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    layouts: Sequence[str] | None = None,
    modes: Sequence[str] | None = None,
    batch_size: int | None = None,
    limit: float = 300,
    data_set: str | None = None,
    seeds: int = 3,
    output: str | Path | None = None,
) -> Result:
    """Run comparisons and experiments.

    Parameters
    ----------
    parts
        Any of ``"augment"``, ``"epoch"``, ``"accuracy"`` and ``"models"``, all four if empty; or
        ``"throughput"``, ``"ceiling"`` and ``"recipe"``.
    quick
        Use little data, to check that everything runs. The numbers mean little.
    repeats
        Rounds that count.
    networks
        For ``"models"``, ``"throughput"`` and ``"ceiling"``: names of networks, including those of
        :func:`cnnbook.models.register_model`; our selection if not given.
    precisions, layouts, modes
        For ``"throughput"``: any of ``"float32"``, ``"bfloat16"`` and ``"float16"``; of
        ``"contiguous"`` and ``"channels_last"``; and of ``"eager"``, ``"compile"`` and ``"graph"``,
        one CUDA graph of the whole step. All that make sense on this device, if not given. For
        ``"recipe"``, too, modes: on a GPU ``"graph"`` if not given, ``"eager"`` elsewhere.
    batch_size
        For ``"throughput"`` and ``"ceiling"``: images per step, halved in ``"throughput"`` until
        they fit.
    limit
        For ``"accuracy"``: longest training time of each contender in seconds.
    data_set
        For ``"recipe"``: what to train on; ``"fashion-mnist"`` if not given.
    seeds
        For ``"recipe"``: how many times the network is trained.
    output
        File to save the result to, as JSON, again after every row: what was measured is kept if the
        rest takes too long.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        For an unknown part, network, data set, precision, layout or mode, a mode that does not work
        on this device, fewer than one repeat or seed, or an option that none of the parts takes.
    DataError
        If Fashion-MNIST is not on this machine and cannot be downloaded. ``quick`` does not need
        it.

    Examples
    --------
    >>> result = run(["augment"], quick=True, repeats=1)
    >>> result.command
    'python -m cnnbook bench augment --quick --repeats=1'
    >>> result.rows[0].contender, result.rows[0].unit
    ('cnnbook', 'images/s')
    """
    for part in parts:
        if part not in PARTS:
            raise unknown("part of the benchmark", part, PARTS)
    options = {
        "quick": quick,
        "repeats": repeats,
        "networks": networks,
        "precisions": precisions,
        "layouts": layouts,
        "modes": modes,
        "batch_size": batch_size,
        "limit": limit,
        "data_set": data_set,
        "seeds": seeds,
    }
    for name in ("repeats", "seeds", "batch_size"):
        if options[name] is not None:
            check_count(name, options[name])
    if not limit > 0:
        raise ValueError(f"limit must be positive, got limit={limit}")
    for name in set(options) - {"quick", "repeats"}:
        unset = OPTIONS[name][1]
        if options[name] != unset and not any(_takes(part, name) for part in parts or COMPARISONS):
            takers = ", ".join(part for part in PARTS if _takes(part, name))
            raise ValueError(
                f"{name}= is for {takers}; this runs only {', '.join(parts or COMPARISONS)}"
            )
    titles = "; ".join(map(title, parts or COMPARISONS))
    result = Result((), describe_machine(), _command(parts, options), titles)
    # The peers' notebooks ask for four workers, even on two processors.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    for part in parts or COMPARISONS:
        taken = {name: value for name, value in options.items() if _takes(part, name)}
        for row in PARTS[part](**taken):
            result = replace(result, rows=(*result.rows, row))
            if output is not None:
                result.save(output)
            say(f"{row.task}, {row.contender}: {row.value:,.4g} {row.unit}")
    return result


def _takes(part: str, option: str) -> bool:
    return option in inspect.signature(PARTS[part]).parameters


def _command(parts: Sequence[str], options: Mapping[str, Any]) -> str:
    # Built from the arguments, not from sys.argv: in a notebook, that holds something else, and
    # paths of output files are of no use to others.
    words = ["python", "-m", "cnnbook", "bench", *parts]
    for name, (flag, unset) in OPTIONS.items():
        value = options.get(name, unset)
        if value == unset or value is None:
            continue
        if value is True:
            words.append(flag)
        elif isinstance(value, list | tuple):
            words += [f"{flag}={each}" for each in value]
        else:
            words.append(f"{flag}={value:g}" if isinstance(value, float) else f"{flag}={value}")
    return shlex.join(words)
