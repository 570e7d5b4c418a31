"""A network in rows, one for each GPU, as AlexNet's paper draws it."""

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import nn

from cnnbook.analysis import Trace
from cnnbook.analysis.graph import InputLike
from cnnbook.plots.architecture.columns import CROSSED, Column, Scale, columns_of
from cnnbook.plots.architecture.downward import draw_downward
from cnnbook.plots.architecture.drawing import draw_box, rounded
from cnnbook.plots.architecture.layout import EDGE, LINE, Point
from cnnbook.plots.architecture.nodes import (
    ROLE_COLORS,
    TEXT,
    name_of,
    text_width,
    traced,
)
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import INK, new_figure

NARROW = 3.6  # a phone of 390 pixels has room for it
TALLEST = 0.95  # of the boxes in a row; all lengths are inches
LONGEST = 0.8 * TALLEST  # vector
THICKEST = 0.34
GAP = 0.07  # between columns …
CROSSING = 0.26  # … where the rows cross
ROW_GAP = 0.14
APART = 0.08  # between arrows of the same row and from another
NOTE = "Height, slant: √ of feature map size; thickness: √ of channels; bars: √ of units."


def towers(
    model: nn.Module | Trace, input_shape: InputLike | None = None, *, alt: str | None = None
) -> Figure:
    """Draw a network of two towers in two rows, one for each GPU, as AlexNet's Figure 2 does.

    Parameters
    ----------
    model
        Either one network in which several convolutions have two groups, such as
        :class:`cnnbook.models.AlexNet`: every layer is divided, and a layer without groups reads
        both halves. Or a network that runs two columns of layers and joins them, such as
        :class:`cnnbook.models.AlexNetTwoDevices`. More than two rows work alike. Left unchanged. Or
        the result of :func:`cnnbook.analysis.trace`.
    input_shape
        Shape of one input of `model`, ``(C, H, W)``; a trace has its own.
    alt
        Text alternative; lists the layers and where the rows cross if not given.

    Returns
    -------
    Figure
        Height and slant of a box are proportional to the square root of the feature map's sides,
        its thickness to that of the number of channels; the height of a bar to that of the length
        of a vector. Orange arrows lead from one row to the other, or from all to a layer that is
        not divided. Pooling is written at the layer before. A narrow page shows two towers from top
        to bottom, side by side.

    Raises
    ------
    ValueError
        If the network has no two towers, or its layers do not follow each other.
    TypeError
        If a model is given without `input_shape`, or a trace with one.

    Examples
    --------
    >>> from cnnbook.models import AlexNet
    >>> towers(AlexNet(10, stem="small", width=0.25), (3, 32, 32))  # doctest: +NORMALIZE_WHITESPACE
    <Figure: AlexNet on 2 GPUs, input 3×32×32. On each GPU: conv1 (5×5, max pool 3×3 /2) 12×32×32;
    conv2 (5×5, max pool 3×3 /2) 32×15×15; conv3 (3×3) 48×7×7, reading both GPUs;
    conv4 (3×3) 48×7×7; conv5 (3×3, max pool 3×3 /2) 32×7×7; fc6 512, reading both GPUs;
    fc7 512, reading both GPUs. Then fc8 10, reading both GPUs.>
    """
    found = traced(model, input_shape)
    name = name_of(found)
    columns, rows = columns_of(found, name)
    top = max(len(column.lines) for column in columns) + 1
    _set_x(columns)
    width = columns[-1].x + columns[-1].width + EDGE
    size = Scale(columns, TALLEST, LONGEST, THICKEST)
    row = max(size.height(s) for c in columns[1:-1] for s in c.shapes) + LINE + 0.28
    legend = 2.4 * LINE + EDGE
    height = LINE * top + 0.1 + rows * row + (rows - 1) * ROW_GAP + legend + EDGE
    with new_figure(width, height) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        high = height - EDGE - LINE * top - 0.1
        middles = [high - (i + 0.5) * row - i * ROW_GAP for i in range(rows)]
        _draw_rows(axes, columns, middles, row)
        _draw_columns(axes, columns, middles, size, height - EDGE)
        _draw_arrows(axes, columns, middles, size)
        _draw_legend(axes, columns)
    narrow = draw_downward(columns, rows)
    if narrow.get_figwidth() > NARROW:
        narrow = None
    return Figure(figure, alt or _describe(name, columns, rows), shrinks=False, narrow=narrow)


def _set_x(columns: Sequence[Column]) -> None:
    size = Scale(columns, TALLEST, LONGEST, THICKEST)
    x = EDGE
    for number, column in enumerate(columns):
        texts = [(column.title, True), *((t, False) for t in (*column.lines, *column.labels))]
        column.width = max(
            *(text_width(text, bold=bold) for text, bold in texts),
            *(size.width(shape) for shape in column.shapes),
        )
        if number:
            x += CROSSING if column.crossed else GAP
        column.x = x + (0.1 if number == 1 else 0.0)
        x = column.x + column.width


def _heights(column: Column, middles: Sequence[float]) -> list[float]:
    """Return at what heights a column's boxes are."""
    return list(middles) if len(column.shapes) > 1 else [sum(middles) / len(middles)]


def _draw_rows(axes: Axes, columns: Sequence[Column], middles: Sequence[float], row: float) -> None:
    divided = [column for column in columns if len(column.shapes) > 1]
    left, right = divided[0].x - 0.1, divided[-1].x + divided[-1].width + 0.1
    # The names are where no arrow crosses: in the middle of the longest stretch without.
    runs: list[list[Column]] = [[]]
    for column in divided:
        if column.crossed:
            runs.append([])
        runs[-1].append(column)
    longest = max(runs, key=len)
    x = (longest[0].x + longest[-1].x + longest[-1].width) / 2
    for number, middle in enumerate(middles, 1):
        place = ((left, middle - row / 2), right - left, row)
        style = {
            "fc": INK,
            "ec": "none",
            "alpha": 0.07,
            "boxstyle": "round,pad=0,rounding_size=0.06",
        }
        axes.add_patch(FancyBboxPatch(*place, **style))
        y = middle - row / 2 + 0.05
        axes.text(x, y, f"GPU {number}", ha="center", va="bottom", size=11, weight="bold")


def _draw_columns(
    axes: Axes, columns: Sequence[Column], middles: Sequence[float], size: Scale, top: float
) -> None:
    for column in columns:
        center = column.x + column.width / 2
        for y, shape, label in zip(
            _heights(column, middles), column.shapes, column.labels, strict=True
        ):
            t, h, d = size.of(shape)
            is_input = column is columns[0]
            color = INK if is_input else ROLE_COLORS[column.role]
            corner = (center - (t + d) / 2, y - (h + d) / 2 + 0.1)
            draw_box(axes, corner, (t, h, d), color, faint=is_input)
            low = corner[1] - 0.05
            axes.text(center, low, label, ha="center", va="top", size=TEXT)
        if column is columns[0] or len(column.shapes) == 1:
            y = _heights(column, middles)[0] + size.height(column.shapes[0]) / 2 + 0.15
            axes.text(center, y, column.title, ha="center", va="bottom", size=TEXT, weight="bold")
            continue
        for i, line in enumerate([column.title, *column.lines]):
            weight = "bold" if i == 0 else "normal"
            axes.text(center, top - i * LINE, line, ha="center", va="top", size=TEXT, weight=weight)


def _draw_arrows(
    axes: Axes, columns: Sequence[Column], middles: Sequence[float], size: Scale
) -> None:
    for before, column in pairwise(columns):
        for i, start in enumerate(_heights(before, middles)):
            for k, end in enumerate(_heights(column, middles)):
                same = len(before.shapes) == 1 or len(column.shapes) == 1 or i == k
                if not (same or column.crossed):
                    continue
                a = before.x + (before.width + size.width(before.shapes[i])) / 2 + 0.02
                b = column.x + (column.width - size.width(column.shapes[k])) / 2 - 0.02
                left, right = before.x + before.width + 0.02, column.x - 0.04
                joined = column.crossed and len(column.shapes) == 1
                across = column.crossed and not joined and i != k
                shift = math.copysign(APART, start - end) if across else 0.0
                high, low = start + 0.1 - shift, end + 0.1 + shift
                points: list[Point] = [(a, high), (b, low)]
                if start != end:
                    points[1:1] = [(max(a, left), high), (min(b, right), low)]
                axes.add_patch(
                    FancyArrowPatch(
                        path=rounded(points, 0.04),
                        arrowstyle="-|>,head_length=3.5,head_width=2",
                        **{"color": CROSSED, "lw": 1.3}
                        if across or joined
                        else {"color": INK, "lw": 1.0},
                        **{"joinstyle": "round", "capstyle": "butt"},
                    )
                )


def _draw_legend(axes: Axes, columns: Sequence[Column]) -> None:
    axes.text(EDGE, EDGE, NOTE, va="bottom", size=TEXT)
    y, x = EDGE + 1.75 * LINE, EDGE
    for role in dict.fromkeys(column.role for column in columns[1:]):
        style = {"fc": ROLE_COLORS[role], "ec": ROLE_COLORS[role], "alpha": 0.7}
        patch = FancyBboxPatch((x, y - 0.055), 0.11, 0.11, boxstyle="square,pad=0", **style)
        axes.add_patch(patch)
        axes.text(x + 0.16, y, role, va="center_baseline", size=TEXT)
        x += 0.16 + text_width(role) + 0.2
    axes.plot([x, x + 0.2], [y, y], color=CROSSED, lw=1.3)
    axes.text(x + 0.25, y, "between GPUs", va="center_baseline", size=TEXT)


def _describe(name: str, columns: Sequence[Column], rows: int) -> str:
    """Describe the drawing in words."""

    def text(column: Column) -> str:
        window, *pools = column.lines or [""]
        pairs = [" ".join(pools[i : i + 2]) for i in range(0, len(pools), 2)]
        inside = ", ".join(part for part in (window, *pairs) if part)
        crossing = ", reading both GPUs" if rows == 2 else ", reading all GPUs"
        return (
            f"{column.title}{f' ({inside})' if inside else ''} {column.labels[0]}"
            + crossing * column.crossed
        )

    divided = "; ".join(text(column) for column in columns[1:] if len(column.shapes) > 1)
    single = "; ".join(text(column) for column in columns[1:] if len(column.shapes) == 1)
    end = f" Then {single}." if single else ""
    return f"{name} on {rows} GPUs, input {columns[0].labels[0]}. On each GPU: {divided}.{end}"
