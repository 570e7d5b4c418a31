"""How a result draws itself without its room knowing the one above.

``plots`` imports ``analysis``, never the other way round. A result's ``plot`` method therefore
names the function that draws it, and the pictures are loaded when one is asked for: numbers need
no matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbook.plots import Figure


def draw(function: str, *args: Any, **options: Any) -> "Figure":
    """Call the function of :mod:`cnnbook.plots` that has this name.

    Parameters
    ----------
    function
        Its name, for example ``"heatmap"``.
    *args, **options
        What it takes.

    Returns
    -------
    cnnbook.plots.Figure
    """
    return getattr(importlib.import_module("cnnbook.plots"), function)(*args, **options)
