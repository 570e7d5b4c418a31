"""Progress bars, in notebooks and terminals."""

import os
import sys
from typing import Any

from tqdm import tqdm

from cnnbook._notebook import in_cell
from cnnbook._stderr import Forgiving


class _CellLine:
    """A file whose last line is displayed in a notebook, each in place of the one before.

    tqdm's own bars for notebooks are widgets, which stay in the saved notebook and are empty there.
    """

    def __init__(self) -> None:
        self._shown: Any = None

    def write(self, text: str) -> None:
        """Show what tqdm writes: a carriage return and a line, or spaces to remove it."""
        if text == "\n":  # it ends a bar that stays
            return
        from IPython.display import display

        output = {"text/plain": text.strip("\r\n ")}
        if self._shown is None:
            show: Any = display
            self._shown = show(output, raw=True, display_id=True)
        else:
            self._shown.update(output, raw=True)

    def flush(self) -> None:
        """Do nothing: every line is shown at once."""


def progress_bar(total: int | None, *, show: bool = True, **options: Any) -> "tqdm[Any]":
    """Return a bar of text, which the environment variable ``TQDM_DISABLE`` hides.

    In a notebook it needs no widgets. A bar that does not stay (``leave=False``) leaves an empty
    line of output, which no front end shows.

    Parameters
    ----------
    total
        Number of steps, if known.
    show
        Whether to show the bar at all.
    **options
        Passed to tqdm.
    """
    hidden = not show or bool(os.environ.get("TQDM_DISABLE")) or sys.stderr is None
    if not hidden and not in_cell():
        options = {"file": Forgiving(sys.stderr)} | options
    elif not hidden:
        options = {"file": _CellLine(), "ascii": False, "ncols": 88, "mininterval": 0.25} | options
    return tqdm(total=total, disable=hidden, **options)
