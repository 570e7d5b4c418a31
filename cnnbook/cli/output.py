"""How commands print tables, and where they may write."""

import json
from pathlib import Path

from cnnbook._files import check_writable
from cnnbook.tables import Table


def show(table: Table, *, as_json: bool) -> None:
    """Print a table as aligned text, or its rows as JSON."""
    print(json.dumps(table.to_dicts(), indent=1, ensure_ascii=False) if as_json else table)


def check_outputs(
    *, plot: str | None, output: str | None = None, folder: str | None = None
) -> None:
    """Find out whether results can be written, before measuring takes its time.

    Parameters
    ----------
    plot
        File for a figure.
    output
        File for JSON.
    folder
        Folder for a record.

    Raises
    ------
    ValueError
        If `plot` has no suffix of a figure.
    OSError
        If one of them cannot be written.
    """
    if plot is not None and Path(plot).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"a figure is saved as .png, .svg or .pdf, got --plot {plot}")
    for path in (plot, output, folder and Path(folder) / "record.json"):
        if path is not None:
            check_writable(Path(path))
