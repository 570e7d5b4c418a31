"""One style for every figure, and the object that puts it on a page.

Figures are inline SVG whose text and axes take the colour of the text around them, so that the
same output is readable on a light and on a dark page. Data colours have a contrast of at least
3:1 with both.
"""

import base64
import hashlib
import html
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.figure
from matplotlib.axes import Axes

from cnnbook._files import write_whole

# After Okabe and Ito's colours for colour-blind readers, without the ones too pale for white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B4608F", "#8A7B00", "#777777")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))
# Diverging colour map of weights and signed maps: purple below zero, orange above.
SIGNED = "PuOr_r"
POSITIVE = "gray"

# Stands for "the colour of the text around the figure" until the SVG is written.
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
    "axes.prop_cycle": mpl.cycler(color=COLOURS, linestyle=LINES),
    "image.interpolation": "none",
    "svg.fonttype": "path",
    "svg.hashsalt": "cnnbook",
}


def line_style(i: int) -> dict[str, Any]:
    """Return colour and dashes of the `i`-th line; they repeat together only after 36 lines."""
    dashes = LINES[(i + i // len(COLOURS)) % len(LINES)]
    return {"color": COLOURS[i % len(COLOURS)], "linestyle": dashes}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[mpl.figure.Figure]:
    """Make a matplotlib figure of `width` × `height` inches, drawn in the book's style."""
    with mpl.rc_context(STYLE):
        figure = mpl.figure.Figure((width, height), layout="constrained")
        yield figure
        # The layout settles with the second drawing; savefig would be only the first.
        figure.draw_without_rendering()


class Figure:
    """A finished picture with a text alternative.

    In a notebook it shows itself when it is the last value of a cell.

    Parameters
    ----------
    figure
        The matplotlib figure.
    alt
        What the picture shows, for readers who do not see it.

    Examples
    --------
    The axes are matplotlib's, and the text alternative is what a screen reader says:

    >>> import torch
    >>> from cnnbook.plots import bars
    >>> figure = bars(["5×5", "3×3 twice"], torch.tensor([25, 18]), xlabel="weights")
    >>> figure.alt
    'Bars, weights: 5×5 25; 3×3 twice 18.'
    >>> _ = figure.axes[0].set_xlim(0, 30)
    """

    def __init__(self, figure: mpl.figure.Figure, alt: str):
        self.figure = figure
        self.alt = alt

    def __repr__(self) -> str:
        """Return the text alternative."""
        return f"<Figure: {self.alt}>"

    @property
    def axes(self) -> list[Axes]:
        """The matplotlib axes, for changes of your own."""
        return self.figure.axes

    def svg(self) -> str:
        """Return the picture as an ``<svg>`` element that takes on its surroundings' colour."""
        buffer = io.StringIO()
        with mpl.rc_context(STYLE):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None})
        text = buffer.getvalue()
        text = text[text.index("<svg") :]
        text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
        text = text.replace(INK, "currentColor")
        # Two equal images would have one id, which nothing refers to.
        text = re.sub(r'(<image [^>]*?) id="[^"]*"', r"\1", text)
        # Several figures share a page: their ids must not meet.
        prefix = "f" + hashlib.sha256(text.encode()).hexdigest()[:10] + "-"
        text = re.sub(r'\bid="', f'id="{prefix}', text)
        text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", text)
        # The wrapping element carries the description; size follows the page.
        width = self.figure.get_figwidth() * 96
        least = "min-width:30rem;" if width > 600 else ""
        style = f"width:{width:.0f}px;max-width:100%;{least}height:auto;display:block"
        label = html.escape(self.alt, quote=True)
        for size in ("width", "height"):
            text = re.sub(rf'^(<svg[^>]*?) {size}="[^"]*"', r"\1", text, count=1)
        return text.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1)

    def png(self, *, dpi: int = 150) -> bytes:
        """Return the picture as a PNG with dark text on white, `dpi` pixels per inch."""
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE):
            self.figure.savefig(buffer, format="png", dpi=dpi, facecolor="white")
        return buffer.getvalue()

    def save(self, path: str | Path) -> None:
        """Write the picture to a file: PNG, PDF or SVG by the suffix of `path`.

        Parameters
        ----------
        path
            Where to write. An existing file is replaced only once the new one is complete.
        """
        path = Path(path)
        buffer = io.BytesIO()
        with mpl.rc_context(STYLE):
            kind = path.suffix.removeprefix(".") or "png"
            self.figure.savefig(buffer, format=kind, dpi=200, facecolor="white")
        write_whole(path, buffer.getvalue())

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {
            "text/html": (
                '<figure class="cnnbook-figure" tabindex="0" style="margin:0;overflow-x:auto">'
                f"{self.svg()}</figure>"
            ),
            "image/png": base64.b64encode(self.png()).decode(),
            "text/plain": repr(self),
        }
