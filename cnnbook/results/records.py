"""Reading, finding and writing recorded runs."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnbook._errors import unknown
from cnnbook._files import expanded, write_whole
from cnnbook.results.machine import describe_machine, where_and_when
from cnnbook.results.schema import check, document, sealed, unsealed
from cnnbook.tables import Table

RUNS = Path(__file__).parent / "runs"


@dataclass(frozen=True, repr=False)
class Recorded:
    """A recorded run.

    Parameters
    ----------
    name
        File name without the suffix.
    title, command
        What was done, in one line, and the command that does it again.
    machine
        Where and when, as :func:`describe_machine` returns it.
    rows
        The measurements, all with the same keys.

    Examples
    --------
    >>> run = load("recipe-cpu")
    >>> run.command, [row["contender"] for row in run.rows]
    ('python -m cnnbook bench recipe --seeds=1', ['test accuracy', 'training'])
    """

    name: str
    title: str
    command: str
    machine: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def label(self) -> str:
        """Where and when it ran, in one line for figures and prints."""
        where, day, torch = where_and_when(self.machine)
        return f"recorded {day} on {where}, torch {torch}, not run on this page"

    def table(self) -> Table:
        """Return one row per measurement; a task that is the same in all is the caption."""
        tasks = {row["task"] for row in self.rows}
        if len(tasks) > 1:
            return rows_table(self.rows, self.title, {"part"})
        return rows_table(self.rows, f"{self.title}: {tasks.pop()}", {"part", "task"})

    def __repr__(self) -> str:
        """Return label, command and table as text."""
        return f"{self.label}\n{self.command}\n{self.table()!r}"


def rows_table(
    rows: Sequence[Mapping[str, Any]], caption: str = "", left_out: Collection[str] = ()
) -> Table:
    """Return rows as a table without columns that are empty or left out; the note comes last."""

    def shown(name: str, value: Any) -> Any:
        if isinstance(value, list):
            return ", ".join(f"{x:.4g}" for x in value)
        return round(value) if name == "value" and abs(value) >= 100 else value

    filled = [n for n in rows[0] if any(row[n] not in (None, "") for row in rows)]
    names = sorted((n for n in filled if n not in left_out), key=lambda n: n == "note")
    lines = [{name: shown(name, row[name]) for name in names} for row in rows]
    return Table(lines, caption, {"ratio": ".2f"}, {"ratio": "times ours"})


def list_runs() -> list[str]:
    """Return the names of the runs recorded in the package, sorted.

    Examples
    --------
    >>> "recipe-cpu" in list_runs()
    True
    """
    return sorted(path.stem for path in RUNS.glob("*.json"))


def load(name_or_path: str | Path) -> Recorded:
    """Read a recorded run: one of :func:`list_runs`, or a path that ends in ``.json``.

    Raises
    ------
    ValueError
        If no run has that name, or the file does not follow the schema; the message names the
        field.
    FileNotFoundError
        If there is no file at the path.

    Examples
    --------
    >>> load("recipe-cpu").title
    "94 % of Fashion-MNIST: airbench's ideas in a network for 28×28 pixels"
    """
    path = expanded(name_or_path)
    if path.suffix != ".json":
        if name_or_path not in list_runs():
            raise unknown("recorded run", name_or_path, list_runs(), see="results.list_runs()")
        path = RUNS / f"{name_or_path}.json"
    try:
        content = unsealed(path.read_bytes())
        check(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    del content["schema"]
    return Recorded(path.stem, **content)


def find(part: str, device: str = "") -> list[Recorded]:
    """Return the package's runs of a part of ``python -m cnnbook bench``, newest first.

    Only those with `device` in the name of their device, such as ``"cpu"`` or ``"h100"``.

    Examples
    --------
    >>> [run.name for run in find("recipe", device="cpu")]
    ['recipe-cpu']
    """
    runs = [run for run in map(load, list_runs()) if run.rows[0]["part"] == part]
    runs = [run for run in runs if device.lower() in run.machine["device"].lower()]
    return sorted(runs, key=lambda run: str(run.machine["date"]), reverse=True)


def record(
    title: str,
    command: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    machine: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Write a run to a file named after its part and device, such as ``throughput-cpu.json``.

    An existing file is replaced, but only once the new one is complete.

    Parameters
    ----------
    title, command
        What was done, in one line, and the command that does it again.
    rows
        The measurements, as :meth:`Row.to_dict` returns them.
    machine
        Where and when; :func:`describe_machine` if not given.
    folder
        Where to write, created if missing; the package's own runs if not given.

    Raises
    ------
    ValueError
        If something does not follow the schema. Then nothing is written.

    Examples
    --------
    >>> import tempfile
    >>> from cnnbook.results import Row
    >>> row = Row("mine", "sum of ten numbers", "Python", 0.2, "µs", None).to_dict()
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     load(record("An example", "python mine.py", [row], folder=folder)).rows == [row]
    True
    """
    content = document(title, command, machine or describe_machine(), rows)
    check(content)
    name = f"{rows[0]['part']} {content['machine']['device']}".lower()
    name = re.sub(r"[ -]\d+ ?gb\b.*", "", name)  # "NVIDIA H100 80GB HBM3" is an H100 to everybody
    stem = re.sub("[^a-z0-9]+", "-", name).strip("-")
    path = (RUNS if folder is None else expanded(folder)) / f"{stem}.json"
    write_whole(path, sealed(content))
    return path
