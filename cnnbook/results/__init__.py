"""Runs that are too long for a page, or need a machine the reader may not have, as recorded.

A record is a file of JSON, written by ``python -m cnnbook bench PART --record``. Those in the
folder ``runs`` beside this file come with the package. Its schema, version 1:

``schema``
    1. A file of another version is refused.
``title``
    What was done, in one line.
``command``
    The command that does it again: ``python -m cnnbook bench …``.
``machine``
    Where and when, all of these: ``processor``, ``cores``, ``threads``, ``device`` (``"cpu"`` or
    the name of the GPU), ``python``, ``torch``, ``torchvision``, ``cnnbook`` and ``date``, as in
    ``"2026-11-26 09:30 UTC"``. ``cores`` and ``threads`` are integers, the others texts.
``rows``
    One object per measurement, at least one; all have the same keys. They begin with those of
    ``ROW``: ``part`` (the kind of run), ``task``, ``contender``, ``value`` and its ``unit``,
    ``ratio`` (how many times faster ours was in the same rounds) and ``note``. Further keys
    depend on the kind of run. A value is a text, a finite number, null, or a list of finite
    numbers, one for each seed, say.
"""

import json
import math
import os
import platform
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cnnbook._errors import unknown
from cnnbook._files import write_whole
from cnnbook.tables import Table

__all__ = ["Recorded", "describe_machine", "find", "list_runs", "load", "record"]

SCHEMA = 1
RUNS = Path(__file__).parent / "runs"
ROW = ("part", "task", "contender", "value", "unit", "ratio", "note")
MACHINE: dict[str, type] = {
    "processor": str,
    "cores": int,
    "threads": int,
    "device": str,
    "python": str,
    "torch": str,
    "torchvision": str,
    "cnnbook": str,
    "date": str,
}
_FIELDS: dict[str, type] = {
    "schema": int,
    "title": str,
    "command": str,
    "machine": dict,
    "rows": list,
}
_DATE = "%Y-%m-%d %H:%M UTC"


@dataclass(frozen=True, repr=False)
class Recorded:
    """A recorded run.

    Parameters
    ----------
    name
        Stem of its file's name.
    title
        What was done, in one line.
    command
        The command that does it again.
    machine
        Where and when: ``processor``, ``cores``, ``threads``, ``device``, ``python``, ``torch``,
        ``torchvision``, ``cnnbook``, ``date``.
    rows
        The measurements, all with the same keys.

    Examples
    --------
    >>> run = load("configurations-cpu")
    >>> run.command
    'python -m cnnbook bench configurations'
    >>> [row["contender"] for row in run.rows]
    ['A', 'B', 'C', 'D', 'E']
    """

    name: str
    title: str
    command: str
    machine: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def label(self) -> str:
        """Where and when it ran, in one line for figures and prints."""
        m = self.machine
        where = m["processor"] if m["device"] == "cpu" else m["device"]
        day = m["date"].partition(" ")[0]
        torch = m["torch"].partition("+")[0]  # what follows says how it was built
        return f"recorded {day} on {where}, torch {torch}, not run on this page"

    def table(self) -> Table:
        """Return one line per measurement, without the columns that are empty in all.

        A task that is the same in all stands in the caption.
        """
        tasks = {row["task"] for row in self.rows}
        left_out = {"part", "task"} if len(tasks) == 1 else {"part"}
        caption = ": ".join([self.title, *tasks]) if len(tasks) == 1 else self.title
        return rows_table(self.rows, caption, left_out)

    def __repr__(self) -> str:
        """Return label, command and table as text."""
        return f"{self.label}\n{self.command}\n{self.table()!r}"


def list_runs() -> list[str]:
    """Return the names of the runs recorded in the package, sorted.

    Examples
    --------
    >>> "configurations-cpu" in list_runs()
    True
    """
    return sorted(path.stem for path in RUNS.glob("*.json"))


def load(name_or_path: str | Path) -> Recorded:
    """Read a recorded run.

    Parameters
    ----------
    name_or_path
        A name that :func:`list_runs` returns, or the path of a file. A text is a path if it
        ends in ``.json``.

    Returns
    -------
    Recorded

    Raises
    ------
    ValueError
        If no such run is recorded, naming those that are; or if the file does not follow the
        schema, naming the field.
    FileNotFoundError
        If there is no file at the path.

    Examples
    --------
    >>> run = load("configurations-cpu")
    >>> run.title
    "Test accuracy of VGG's configurations A to E, alike in everything but depth"
    """
    if isinstance(name_or_path, Path) or name_or_path.endswith(".json"):
        path = Path(name_or_path).expanduser()
        if not path.is_file():
            raise FileNotFoundError(
                f"there is no file {path}; recorded in the package: {_recorded_here()}"
            )
    elif name_or_path in list_runs():
        path = RUNS / f"{name_or_path}.json"
    elif list_runs():
        raise unknown("recorded run", name_or_path, list_runs())
    else:
        raise ValueError(f"unknown recorded run {name_or_path!r}; {_recorded_here()}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    check(content, str(path))
    fields = {name: content[name] for name in ("title", "command", "machine", "rows")}
    return Recorded(path.stem, **fields)


def _recorded_here() -> str:
    return ", ".join(list_runs()) or "no run is recorded yet"


def find(part: str, device: str | None = None) -> list[Recorded]:
    """Return all runs of a kind that are recorded in the package.

    Parameters
    ----------
    part
        The kind: the part of ``python -m cnnbook bench`` that measured it.
    device
        Only those whose device has this in its name, for example ``"cpu"`` or ``"H100"``; the
        case of letters does not matter.

    Returns
    -------
    list of Recorded
        Newest first; empty if there is none.

    Examples
    --------
    >>> [run.name for run in find("configurations", device="cpu")]
    ['configurations-cpu']
    """
    runs = [
        run
        for run in map(load, list_runs())
        if any(row["part"] == part for row in run.rows)
        and (device is None or device.lower() in run.machine["device"].lower())
    ]
    return sorted(runs, key=lambda run: _date(run.machine["date"]), reverse=True)


def record(
    title: str,
    command: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    machine: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
) -> Path:
    """Write a run to a file named after its part and device, such as ``throughput-cpu.json``.

    A file of that name is replaced, but only once the new one is complete.

    Parameters
    ----------
    title
        What was done, in one line.
    command
        The command that does it again.
    rows
        The measurements: same keys in all, beginning with those of ``ROW``.
    machine
        Where and when; :func:`describe_machine` if not given.
    folder
        Where to write, created if it is not there; the package's own runs if not given.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        If something does not follow the schema. Nothing is written then.
    OSError
        If the file cannot be written. One that was there before stays.

    Examples
    --------
    >>> import tempfile
    >>> row = {"part": "mine", "task": "sum of ten numbers", "contender": "Python", "value": 0.2}
    >>> row |= {"unit": "µs", "ratio": None, "note": ""}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = load(record("An example", "python mine.py", [row], folder=folder))
    >>> run.command, run.rows == [row]
    ('python mine.py', True)
    """
    content = document(title, command, machine or describe_machine(), rows)
    check(content)
    name = f"{content['rows'][0]['part']}-{_slug(content['machine']['device'])}"
    path = (RUNS if folder is None else Path(folder).expanduser()) / f"{name}.json"
    write_whole(path, as_json(content))
    return path


def document(
    title: str, command: str, machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a run as plain values, in the order of the schema."""
    return {
        "schema": SCHEMA,
        "title": title,
        "command": command,
        "machine": dict(machine),
        "rows": [dict(row) for row in rows],
    }


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return a document as it stands in a file."""
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    # A list of numbers reads better on one line.
    text = re.sub(r"\[\n([-+.\de,\s]+)\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return f"{text}\n".encode()


def _slug(device: str) -> str:
    # "NVIDIA H100 80GB HBM3" is an H100 to everybody.
    short = re.sub(r"[ -]\d+ ?GB\b.*", "", device)
    return re.sub(r"[^a-z0-9]+", "-", short.lower()).strip("-")


def check(content: Any, source: str = "this record") -> None:
    """Raise an error that names what does not follow the schema, if anything does not.

    Parameters
    ----------
    content
        What a file's JSON holds.
    source
        Whose error it is.

    Raises
    ------
    ValueError
        Naming the first field that is missing or wrong, and what it should be.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{source}: a record is an object, got {type(content).__name__}")
    if content.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(
            f"{source}: schema is {content['schema']!r}, this cnnbook reads {SCHEMA}; update it, "
            "or record the run again"
        )
    _check_fields(content, _FIELDS, source)
    _check_fields(content["machine"], MACHINE, f"{source}: machine")
    try:
        _date(content["machine"]["date"])
    except ValueError:
        raise ValueError(
            f"{source}: machine: date is {content['machine']['date']!r}; write it as in "
            "'2026-11-26 09:30 UTC'"
        ) from None
    rows = content["rows"]
    if not rows:
        raise ValueError(f"{source}: rows is empty; a run has at least one measurement")
    for number, row in enumerate(rows):
        _check_row(row, rows[0], f"{source}: row {number}")


def _check_fields(content: dict, fields: Mapping[str, type], source: str) -> None:
    for name, kind in fields.items():
        if name not in content:
            raise ValueError(f"{source}: {name} is missing; needed are {', '.join(fields)}")
        if not isinstance(content[name], kind) or isinstance(content[name], bool):
            found = type(content[name]).__name__
            raise ValueError(f"{source}: {name} must be {kind.__name__}, got {found}")
    extra = [name for name in content if name not in fields]
    if extra:
        raise ValueError(f"{source}: unknown field {extra[0]!r}; allowed are {', '.join(fields)}")


def _check_row(row: Any, first: dict, source: str) -> None:
    if not isinstance(row, dict):
        raise ValueError(f"{source} must be an object, got {type(row).__name__}")
    missing = [name for name in ROW if name not in row]
    if missing:
        raise ValueError(f"{source}: {missing[0]} is missing; needed are {', '.join(ROW)}")
    if list(row) != list(first):
        raise ValueError(f"{source} has columns {list(row)}, row 0 has {list(first)}")
    if not isinstance(row["part"], str) or not re.fullmatch(r"[a-z0-9-]+", row["part"]):
        # It becomes the file's name.
        raise ValueError(
            f"{source}: part is {row['part']!r}; use small letters, digits and hyphens"
        )
    for name, value in row.items():
        values = value if isinstance(value, list) else [value]
        numbers = all(_is_number(v) for v in values)
        if not (numbers or (not isinstance(value, list) and isinstance(value, str | None))):
            raise ValueError(
                f"{source}: {name} is {value!r}; allowed are a text, a finite number, null and "
                "a list of finite numbers"
            )


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _date(text: str) -> datetime:
    return datetime.strptime(text, _DATE).replace(tzinfo=timezone.utc)


def rows_table(
    rows: Sequence[Mapping[str, Any]], caption: str = "", left_out: Collection[str] = ()
) -> Table:
    """Return measurements as a table, without the columns that are empty in all of them.

    Parameters
    ----------
    rows
        Mappings with the keys of ``ROW`` and perhaps others, the same in all.
    caption
        Title of the table.
    left_out
        Columns that are not to be shown.

    Returns
    -------
    cnnbook.tables.Table
        The column ``ratio`` is called ``times ours``; the note comes last.
    """
    names = [n for n in rows[0] if n != "note"] + ["note"]
    filled = [n for n in names if any(row[n] not in (None, "") for row in rows)]
    filled = [n for n in filled if n not in left_out]
    shown = []
    for row in rows:
        line = {"times ours" if n == "ratio" else n: _shown(row[n]) for n in filled}
        if _is_number(row["value"]) and abs(row["value"]) >= 100 and "value" in line:
            line["value"] = round(row["value"])
        shown.append(line)
    return Table(shown, caption, {"times ours": ".2f"})


def _shown(value: Any) -> Any:
    return ", ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else value


def describe_machine() -> dict[str, Any]:
    """Return processor, threads, device, versions and the date of this moment.

    Examples
    --------
    >>> sorted(describe_machine())[:4]
    ['cnnbook', 'cores', 'date', 'device']
    """
    import torch
    import torchvision

    import cnnbook
    from cnnbook import settings

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    device = settings.device()
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "cnnbook": cnnbook.__version__,
        "date": datetime.now(timezone.utc).strftime(_DATE),
    }
