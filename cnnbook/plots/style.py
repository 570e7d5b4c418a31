"""The style of every figure: colors, lines, sizes, and a matplotlib figure that has it.

Text and axes are drawn in :data:`INK`, which becomes the color of the text around the figure.
Data colors have a contrast of at least 3:1 with a white and with a dark page.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import matplotlib.figure

# After Okabe and Ito's colors for color-blind readers, without the ones too pale for white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#B4608F", "#8A7B00", "#777777")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
# Diverging color map of weights and signed maps: purple below zero, orange above.
SIGNED = "PuOr_r"
POSITIVE = "gray"

# Stands for "the color of the text around the figure" until the SVG is written.
INK = "#010203"
WIDTH = 7.0  # inches: the text column of the book at a width of 1280 px
CHART = 5.8  # inches: charts stay readable when a phone shrinks them to its width

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
}


def line_style(i: int) -> dict[str, Any]:
    """Return color and dashes of the `i`-th line; they repeat together only after 36 lines."""
    dashes = LINES[(i + i // len(COLORS)) % len(LINES)]
    return {"color": COLORS[i % len(COLORS)], "linestyle": dashes}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[mpl.figure.Figure]:
    """Make a matplotlib figure of `width` × `height` inches, drawn in the book's style."""
    with mpl.rc_context(STYLE):
        figure = mpl.figure.Figure((width, height), layout="constrained")
        yield figure
        # The layout settles with the second drawing; savefig would be only the first.
        figure.draw_without_rendering()
