"""How a result draws itself, although its package does not import ``plots``.

``plots`` imports ``analysis``, never the other way round. A result's ``plot`` method therefore
names the function that draws it, and ``plots`` is loaded only when a figure is drawn: numbers do
not need matplotlib.
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
        Passed to it.

    Returns
    -------
    cnnbook.plots.Figure
    """
    figure: Figure = getattr(importlib.import_module("cnnbook.plots"), function)(*args, **options)
    return figure
