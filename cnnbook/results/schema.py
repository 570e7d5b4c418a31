"""What the JSON file of a recorded run holds: ``FIELDS``, ``MACHINE``, and :class:`Row` by row."""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

SCHEMA = 1
FIELDS = ("schema", "title", "command", "machine", "rows")
MACHINE = (
    *("processor", "cores", "threads", "device", "date"),
    *("python", "torch", "torchvision", "cnnbook"),
)


@dataclass(frozen=True)
class Row:
    """One measurement: a row of a recorded run.

    Parameters
    ----------
    part, task, contender
        The kind of run, what is measured, and what is being compared.
    value, unit
        The result. Fewer seconds are better; for all other units, more is better.
    ratio
        How many times faster cnnbook was in the same rounds; None if that has no meaning.
    note
        Anything not in the other columns.
    more
        Further columns, the same in all rows of a part. A value is a string, a finite number, None,
        or a list of finite numbers, such as one for each seed.

    Examples
    --------
    >>> Row("speed", "running", "hare", 18, "m/s", None, more={"laps": [1, 2]}).to_dict()["laps"]
    [1, 2]
    """

    part: str
    task: str
    contender: str
    value: float
    unit: str
    ratio: float | None
    note: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all columns by name."""
        return {name: getattr(self, name) for name in COLUMNS} | dict(self.more)


COLUMNS = tuple(column.name for column in fields(Row) if column.name != "more")


def document(
    title: str, command: str, machine: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return a run as plain values, in the order of the schema."""
    return dict(zip(FIELDS, (SCHEMA, title, command, machine, rows), strict=True))


def check(content: Any) -> None:
    """Raise ValueError, naming the field, unless `content` follows the schema."""
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise ValueError(f"schema is {schema!r}, this cnnbook reads {SCHEMA}; record the run again")
    _check_fields("the record", content, FIELDS)
    for name in ("title", "command"):
        if not isinstance(content[name], str):
            raise ValueError(f"{name} is {content[name]!r:.80}, not a text")
    check_machine(content["machine"])
    rows = content["rows"]
    if isinstance(rows, str) or not isinstance(rows, Sequence):
        raise ValueError(f"rows is {rows!r:.80}, not a list")
    if not rows:
        raise ValueError("rows is empty; a run has at least one measurement")
    for number, row in enumerate(rows):
        first = rows[0] if isinstance(rows[0], Mapping) else {}
        _check_fields(f"row {number}", row, dict.fromkeys([*COLUMNS, *first]))
        for name in COLUMNS:
            if name == "ratio" and row[name] is None:
                continue
            kind, said = (int | float, "number") if name in ("value", "ratio") else (str, "text")
            if not isinstance(row[name], kind):
                raise ValueError(f"row {number}: {name} is {row[name]!r:.80}, not a {said}")
        for name, value in row.items():
            numbers = value if isinstance(value, list) else [value]
            if not (all(map(_is_finite, numbers)) or value is None or isinstance(value, str)):
                raise ValueError(
                    f"row {number}: {name} is {value!r}; allowed are a text, a finite number, "
                    "null and a list of finite numbers"
                )


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # of an integer with hundreds of digits
        return False


def check_machine(machine: Any) -> None:
    """Raise ValueError unless `machine` is what :func:`describe_machine` returns."""
    _check_fields("machine", machine, MACHINE)
    for name, value in machine.items():
        kind, said = (int | str, "number") if name in ("cores", "threads") else (str, "text")
        if not isinstance(value, kind):
            raise ValueError(f"machine: {name} is {value!r:.80}, not a {said}")


def _check_fields(where: str, found: Any, wanted: Iterable[str]) -> None:
    wanted = list(wanted)
    if not isinstance(found, Mapping):
        raise ValueError(f"{where} is {found!r:.80}, not an object with {', '.join(wanted)}")
    for name in [*wanted, *found]:
        if name not in found or name not in wanted:
            problem = "missing" if name in wanted else "unknown"
            raise ValueError(f"{where}: {name!r} is {problem}; its fields are {', '.join(wanted)}")


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return a record as it is stored in a file, each list of numbers on one line.

    Examples
    --------
    >>> as_json({"laps": [1, 2.5]}).decode().splitlines()
    ['{', ' "laps": [1, 2.5]', '}']
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    text = re.sub(r"\[\n([-+.\de,\s]+)\]", lambda m: f"[{' '.join(m[1].split())}]", text)
    return f"{text}\n".encode()


def sealed(content: Mapping[str, Any]) -> bytes:
    """Return a record as it is stored in a file, with a checksum of everything else in it."""
    return as_json({**content, "sha256": _checksum(content)})


def unsealed(stored: bytes) -> Any:
    """Return what a record's file holds, without the checksum.

    The first records had none.

    Raises
    ------
    ValueError
        If it is not JSON, or not what was written.
    """
    try:
        content = json.loads(stored)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if isinstance(content, dict) and "sha256" in content:
        written = content.pop("sha256")
        if written != _checksum(content):
            raise ValueError(
                "it is damaged or was changed: its checksum does not match its content. Record "
                "the run again"
            )
    return content


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(as_json(content)).hexdigest()
