"""Tables and single values that read well in a terminal and on a web page."""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cnnbook._frames import data_frame
from cnnbook._notebook import in_book

# Headings that cannot be derived from a key.
_LABELS = {"macs": "MACs", "activation_kib": "activations (KiB)"}


def _heading(key: str) -> str:
    """Return a key of the package as a heading; the name of a layer, conv1_1, stays as it is."""
    if re.fullmatch(r"[a-z]+(_[a-z]+)+", key):
        return _LABELS.get(key, re.sub(r"\bmacs\b", "MACs", key.replace("_", " ")))
    return _LABELS.get(key, key)


# Control and format characters, such as those that turn the direction of writing; line separators.
_UNPRINTABLE = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}


def printable(text: str) -> str:
    r"""Return text without what would move a terminal's cursor or begin a line.

    Class names and messages may come from a stranger's file.

    Examples
    --------
    >>> printable("cat\nall fine \x1b[2J")
    'cat�all fine �[2J'
    """
    return "".join("�" if unicodedata.category(c) in _UNPRINTABLE else c for c in text)


def _shown(value: object, spec: str | None) -> str:
    """Return a value as it is displayed."""
    if value is None:
        return ""
    if isinstance(value, list):  # no separators in integers: a comma ends each value
        spec_of = {int: "d", float: ".3g"}
        shown = (
            format(v, spec or spec_of[type(v)]) if type(v) in spec_of else f"{v!r}" for v in value
        )
        return f"[{', '.join(shown)}]"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    default = "," if isinstance(value, int) else ".3g"
    return format(value, default if spec is None else spec)


class Table:
    """Rows of named values.

    Parameters
    ----------
    rows
        One mapping per row. The first row's keys are the columns; every row must have them all.
    caption
        Title of the table.
    formats
        Format specification for the numbers of a column, for example ``{"accuracy": ".1%"}``.
        Integers are printed with thousands separators, floats with three significant digits.
    labels
        Column headings by key; by default, the key with spaces for underscores. ``macs`` and
        ``activation_kib`` have special headings.
    notes
        Lines of text below the table, such as totals.

    Raises
    ------
    ValueError
        If the rows do not have the same columns.

    Examples
    --------
    >>> Table([{"layer": "C1", "parameters": 156}, {"layer": "C3", "parameters": 1516}])
    layer  parameters
    C1            156
    C3          1,516
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, object]],
        caption: str = "",
        formats: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        notes: Sequence[str] = (),
    ):
        self.rows: list[dict[str, object]] = [dict(row) for row in rows]
        self.caption = caption
        self.formats: dict[str, str] = dict(formats or {})
        self.labels: dict[str, str] = dict(labels or {})
        self.notes: list[str] = list(notes)
        self.columns: list[str] = list(self.rows[0]) if self.rows else []
        for number, row in enumerate(self.rows):
            if list(row) != self.columns:
                raise ValueError(f"row {number} has columns {list(row)}, row 0 has {self.columns}")

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, object]:
        """Return row `index` as a dict."""
        return self.rows[index]

    def to_dicts(self) -> list[dict[str, object]]:
        """Return the rows as plain dicts, values unformatted."""
        return [dict(row) for row in self.rows]

    def to_pandas(self) -> Any:
        """Return the rows as a ``pandas.DataFrame``, values unformatted.

        Raises
        ------
        ImportError
            If pandas is not installed.

        Examples
        --------
        >>> table = Table([{"layer": "C1", "macs": 117_600}, {"layer": "C3", "macs": 240_000}])
        >>> table.to_pandas().set_index("layer")["macs"].sum()  # doctest: +SKIP
        357600
        """
        return data_frame(self.to_dicts(), columns=self.columns)

    def label(self, column: str) -> str:
        """Return the heading under which a column is displayed."""
        return self.labels.get(column) or _heading(column)

    def _cell(self, column: str, value: object) -> str:
        return _shown(value, self.formats.get(column))

    def _is_number(self, column: str) -> bool:
        values = [row[column] for row in self.rows if row[column] is not None]
        return bool(values) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in values
        )

    def __repr__(self) -> str:
        """Return the table as aligned text."""
        cells = [[printable(self._cell(c, row[c])) for c in self.columns] for row in self.rows]
        heads = [self.label(c) for c in self.columns]
        widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
        right = [self._is_number(c) for c in self.columns]
        lines = [
            "  ".join(
                cell.rjust(width) if is_right else cell.ljust(width)
                for cell, width, is_right in zip(line, widths, right, strict=True)
            ).rstrip()
            for line in [heads, *cells]
        ]
        return "\n".join([*([self.caption] if self.caption else []), *lines, *self.notes])

    def _repr_html_(self) -> str:
        def cell(tag: str, column: str, text: str, attributes: str = "") -> str:
            align = "right" if self._is_number(column) else "left"
            wrap = "white-space:nowrap;" if not attributes and align == "right" else ""
            style = f"{wrap}text-align:{align};vertical-align:top;padding:.2em .5em"
            return f'<{tag}{attributes} style="{style}">{text}</{tag}>'

        def rows(cells: Iterable[str]) -> str:
            return f"<tr>{''.join(cells)}</tr>"

        def shown(column: str, value: object) -> str:
            text = self._cell(column, value)
            if isinstance(value, int | float):  # a minus sign, as wide as a plus
                text = re.sub(r"^-", "−", text)
            return html.escape(text)

        body = "".join(
            rows(cell("td", c, shown(c, row[c])) for c in self.columns) for row in self.rows
        )
        labels = {c: html.escape(self.label(c)) for c in self.columns}
        notes = "".join(
            f'<div style="margin:.3em 0 0;font-size:.93em">{html.escape(note)}</div>'
            for note in self.notes
        )
        title = html.escape(self.caption)
        if in_book():
            head = rows(cell("th", c, label, ' scope="col"') for c, label in labels.items())
            caption = f"<caption>{title}</caption>" if title else ""
            table = f"{caption}<thead>{head}</thead><tbody>{body}</tbody>"
        else:
            # nbconvert's sanitizer shows the source of every tag but div, strong, table, tr and td.
            head = rows(
                cell("td", c, f"<strong>{label}</strong>", ' role="columnheader"')
                for c, label in labels.items()
            )
            table = head + body
        above = f"<div>{title}</div>" if title and not in_book() else ""
        # The wrapper lets a wide table scroll on a phone instead of widening the page.
        return (
            '<div class="cnnbook-table" style="overflow-x:auto" tabindex="0" role="region" '
            f'aria-label="{title or "Table"}">{above}'
            f'<table style="font-size:.93em">{table}</table>{notes}</div>'
        )


def _plain(name: str, value: object) -> object:
    """Return a value as a JSON type, or raise TypeError."""
    if isinstance(value, list | tuple):
        return [_plain(name, each) for each in value]
    if hasattr(value, "item"):  # a torch or NumPy scalar
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"the fact {name!r} is a {type(value).__name__}; it must be a number, a bool, a string, "
        "or a list of these; pass the value that is to be reported"
    )


class Facts:
    """Named values, one per line, which a test of the notebook reads back by name.

    They are displayed as text in a terminal, in Jupyter, in Colab and on a web page. A notebook
    also keeps the unrounded values in the output's metadata, where nothing has to be parsed.

    Parameters
    ----------
    formats
        Format specification for a number, for example ``{"accuracy": ".1%"}``; otherwise numbers
        are displayed as in a `Table`.
    **values
        Numbers, bools, strings, or lists of these, by name. A torch or NumPy scalar counts as a
        number. A name is displayed with spaces for underscores.

    Raises
    ------
    TypeError
        If a value has any other type.

    Examples
    --------
    >>> Facts(parameters=61_706, accuracy=0.8534, equal=True, formats={"accuracy": ".1%"})
    parameters: 61,706
    accuracy: 85.3%
    equal: True
    """

    def __init__(self, *, formats: Mapping[str, str] | None = None, **values: object):
        self.values: dict[str, object] = {n: _plain(n, value) for n, value in values.items()}
        self.formats: dict[str, str] = dict(formats or {})

    def __getitem__(self, name: str) -> object:
        """Return the value of this name."""
        return self.values[name]

    def __repr__(self) -> str:
        """Return one line for each value."""
        return "\n".join(
            f"{_LABELS.get(name, name.replace('_', ' '))}: {_shown(value, self.formats.get(name))}"
            for name, value in self.values.items()
        )

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, str], dict[str, object]]:
        return {"text/plain": repr(self)}, {"cnnbook": {"facts": self.values}}
