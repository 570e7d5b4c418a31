"""The style of every figure: colors, lines, sizes, and a matplotlib figure in that style.

With these, your own figure looks like the book's and suits light and dark pages: draw with
matplotlib in :func:`new_figure`, and return a :class:`cnnbook.plots.Figure`, which adds the text
alternative.

Examples
--------
>>> from cnnbook.plots import Figure
>>> with new_figure(CHART, 2.5) as figure:
...     axes = figure.add_subplot()
...     for i, label in enumerate(("3×3", "5×5")):
...         _ = axes.plot([1, 2, 3], [i, i + 1, i + 3], label=label, **line_style(i))
...     _ = axes.set(xlabel="layer", ylabel="receptive field (pixels)")
...     _ = axes.legend()
>>> Figure(figure, "Receptive field by layer, for two sizes of kernels.")
<Figure: Receptive field by layer, for two sizes of kernels.>
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.figure
from matplotlib.layout_engine import PlaceHolderLayoutEngine

#: Six colors for data, after Okabe and Ito's for color-blind readers, without those too pale on
#: white: each has a contrast of at least 3:1 with a white page and with a dark one.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#B4608F", "#8A7B00", "#777777")
#: Six line styles, so that lines also differ without color.
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
#: Diverging color map of weights and other signed values, purple below zero and orange above.
SIGNED = "PuOr_r"
#: Color map of values that are not negative, from black at zero.
POSITIVE = "gray"

#: Color of text and axes. It stands for "the color of the text around the figure" and becomes that
#: color when the SVG is written.
INK = "#010203"
#: Color of words on a patch that is light on dark pages, too. Words in "black" become INK, since
#: matplotlib gives that color to all words that are not told another.
ON_LIGHT = "#111111"
#: Width of the book's text column at a window of 1280 px, in inches, for rows of images.
WIDTH = 7.0
#: Width of charts, in inches, narrower so that they remain readable when shrunk on a phone.
CHART = 5.8

#: The matplotlib settings with which figures are drawn and saved.
#:
#: :meta hide-value:
STYLE = {
    "font.size": 10.5,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "axes.prop_cycle": mpl.cycler(color=COLORS, linestyle=LINES),
    "image.interpolation": "none",
    "svg.fonttype": "path",
    "svg.hashsalt": "cnnbook",
    # Whatever the user has set, set_layout_engine("none") means none.
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
}


def line_style(i: int) -> dict[str, Any]:
    """Return color and dashes of the `i`-th line; they repeat together only after 36 lines.

    Parameters
    ----------
    i
        Number of the line, from 0.

    Returns
    -------
    dict
        Arguments ``color`` and ``linestyle`` of matplotlib's ``plot``.

    Examples
    --------
    >>> line_style(0), line_style(1)["linestyle"]
    ({'color': '#0072B2', 'linestyle': '-'}, '--')
    """
    dashes = LINES[(i + i // len(COLORS)) % len(LINES)]
    return {"color": COLORS[i % len(COLORS)], "linestyle": dashes}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[mpl.figure.Figure]:
    """Make a matplotlib figure in the book's style.

    Parameters
    ----------
    width, height
        Size in inches; the width is usually :data:`CHART` or :data:`WIDTH`.

    Yields
    ------
    matplotlib.figure.Figure
        With constrained layout, which is final when the block ends: add axes and draw in it. After
        ``figure.set_layout_engine("none")``, axes stay where they are, which is faster.

    Examples
    --------
    >>> with new_figure(CHART, 2.0) as figure:
    ...     _ = figure.add_subplot().barh(["5×5", "3×3 twice"], [25, 18], color=COLORS[0])
    >>> figure.get_size_inches().tolist()
    [5.8, 2.0]
    """
    with mpl.rc_context(STYLE):
        figure = mpl.figure.Figure((width, height), layout="constrained")
        yield figure
        engine = figure.get_layout_engine()
        if isinstance(engine, PlaceHolderLayoutEngine | None):
            # Nothing is left to lay out, and without an engine savefig draws once, not twice.
            figure.set_layout_engine(None)
        elif figure.axes:
            # A layout is final only when it has been made twice: once more before it is saved.
            engine.execute(figure)
