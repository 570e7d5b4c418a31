"""The drawing of a network in towers for a narrow page: from top to bottom, side by side."""

import math
from collections.abc import Sequence
from itertools import pairwise

import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from cnnbook.plots.architecture.columns import CROSSED, Column, Scale
from cnnbook.plots.architecture.drawing import draw_box, rounded
from cnnbook.plots.architecture.layout import EDGE, LINE, Point
from cnnbook.plots.architecture.nodes import ROLE_COLORS, TEXT, text_width
from cnnbook.plots.style import INK, new_figure

# All lengths are inches; a phone of 360 pixels has room for 3.4.
WIDEST = 0.6  # feature map, with its slanted side
LONGEST = 0.9  # vector
THICKEST = 0.24
TOWER_GAP = 0.1
GAP = 0.24  # between rows …
CROSSING = 0.42  # … where arrows cross
SPLIT = 0.3  # … between the towers and a layer that is not divided
APART = 0.1  # between a tower's own arrow and one from another
HEAD = 0.24  # for the tower's name
NOTE = ("Width, slant: √ of feature map size;", "thickness: √ of channels; bars: √ of units.")


def draw_downward(columns: Sequence[Column], rows: int) -> matplotlib.figure.Figure:
    """Draw the columns of a drawing of towers from top to bottom, one tower for each of its rows.

    What each layer does stands on the left, once for all towers.
    """
    size = Scale(columns, WIDEST, LONGEST, THICKEST)
    texts = [(text, bold) for c in columns for text, bold in _texts(c)]
    words = max(text_width(text, bold=bold) for text, bold in texts)
    tower = max(
        0.2 + max(text_width(label) for column in columns for label in column.labels),
        0.2 + max(_width(size, s) for c in columns if _divided(c) for s in c.shapes),
        0.2 + 2 * APART,
    )
    left = EDGE + words + 0.12
    middles = [left + (i + 0.5) * tower + i * TOWER_GAP for i in range(rows)]
    notes = [EDGE + text_width(note) + EDGE for note in NOTE]
    width = max(middles[-1] + tower / 2 + EDGE, *notes, _legend_width(columns))

    tops, y = [], 0.0  # downward, from the upper edge
    for before, column in pairwise([None, *columns]):
        if before is None:
            y += EDGE
        elif _divided(before) != _divided(column):
            y += SPLIT + (HEAD if _divided(column) else 0.0)
        else:
            y += CROSSING if column.crossed else GAP
        tops.append(y)
        text = LINE * len(_texts(column)) + 0.07 - (GAP if _divided(column) else 0.0)
        y += max(_height(size, column) + LINE + 0.04, text)
    height = y + 0.15 + LINE * (len(NOTE) + 1.6) + EDGE

    with new_figure(width, height) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        tops = [height - top for top in tops]
        _draw_towers(axes, columns, tops, middles, tower, size)
        for column, top in zip(columns, tops, strict=True):
            color = INK if column is columns[0] else ROLE_COLORS[column.role]
            _draw_layer(axes, column, color, top, middles, size)
        _draw_arrows(axes, columns, tops, middles, size)
        _draw_legend(axes, columns)
    return figure


def _width(size: Scale, shape: tuple[int, ...]) -> float:
    width, _, slant = size.lying(shape)
    return width + slant


def _height(size: Scale, column: Column) -> float:
    """Return the height of a layer's boxes with their slanted sides."""
    return max(sum(size.lying(shape)[1:]) for shape in column.shapes)


def _divided(column: Column) -> bool:
    return len(column.shapes) > 1


def _texts(column: Column) -> list[tuple[str, bool]]:
    """Return the lines on the left of a layer, and whether each is bold."""
    return [(column.title, True), *((line, False) for line in column.lines)]


def _across(column: Column, middles: Sequence[float]) -> list[float]:
    """Return where a layer's boxes have their middle."""
    return list(middles) if _divided(column) else [sum(middles) / len(middles)]


def _draw_towers(
    axes: Axes,
    columns: Sequence[Column],
    tops: Sequence[float],
    middles: Sequence[float],
    tower: float,
    size: Scale,
) -> None:
    inside = [i for i, column in enumerate(columns) if _divided(column)]
    high = tops[inside[0]] + HEAD + 0.02
    low = tops[inside[-1]] - _height(size, columns[inside[-1]]) - LINE - 0.09
    style = {"fc": INK, "ec": "none", "alpha": 0.07, "boxstyle": "round,pad=0,rounding_size=0.06"}
    for number, middle in enumerate(middles, 1):
        corner = (middle - tower / 2, low)
        axes.add_patch(FancyBboxPatch(corner, tower, high - low, **style))
        # Beside the arrow from the input, which ends in the middle.
        x = middle + math.copysign(0.08, middle - sum(middles) / len(middles))
        side = "left" if x > middle else "right"
        axes.text(x, high - 0.05, f"GPU {number}", ha=side, va="top", size=TEXT, weight="bold")


def _draw_layer(
    axes: Axes, column: Column, color: str, top: float, middles: Sequence[float], size: Scale
) -> None:
    for x, shape, label in zip(_across(column, middles), column.shapes, column.labels, strict=True):
        w, h, d = size.lying(shape)
        corner = (x - (w + d) / 2, top - h - d)
        draw_box(axes, corner, (w, h, d), color, faint=color == INK)
        axes.text(x, corner[1] - 0.05, label, ha="center", va="top", size=TEXT)
    for i, (line, bold) in enumerate(_texts(column)):
        weight = "bold" if bold else "normal"
        axes.text(EDGE, top - i * LINE, line, ha="left", va="top", size=TEXT, weight=weight)


def _draw_arrows(
    axes: Axes,
    columns: Sequence[Column],
    tops: Sequence[float],
    middles: Sequence[float],
    size: Scale,
) -> None:
    for (before, column), (top, end) in zip(pairwise(columns), pairwise(tops), strict=True):
        start = top - _height(size, before) - LINE - 0.07
        low = end + 0.02
        for i, a in enumerate(_across(before, middles)):
            for k, b in enumerate(_across(column, middles)):
                same = not (_divided(before) and _divided(column)) or i == k
                if not (same or column.crossed):
                    continue
                joined = column.crossed and not _divided(column)
                across = column.crossed and not joined and i != k
                shift = math.copysign(APART, b - a) if across else 0.0
                x, to = a + shift, b - shift
                points: list[Point] = [(x, start), (to, low)]
                if a != b:
                    points[1:1] = [(x, start - 0.06), (to, low + 0.14)]
                style = {"color": CROSSED, "lw": 1.3} if across or joined else {"color": INK}
                axes.add_patch(
                    FancyArrowPatch(
                        path=rounded(points, 0.04),
                        arrowstyle="-|>,head_length=3.5,head_width=2",
                        **{"lw": 1.0, "joinstyle": "round", "capstyle": "butt"} | style,
                    )
                )


def _roles(columns: Sequence[Column]) -> list[str]:
    return list(dict.fromkeys(column.role for column in columns[1:]))


def _legend_width(columns: Sequence[Column]) -> float:
    texts = [*_roles(columns), "between GPUs"]
    return EDGE + sum(0.16 + text_width(text) + 0.12 for text in texts) + 0.09 - 0.12 + EDGE


def _draw_legend(axes: Axes, columns: Sequence[Column]) -> None:
    for i, line in enumerate(reversed(NOTE)):
        axes.text(EDGE, EDGE + i * LINE, line, va="bottom", size=TEXT)
    x, y = EDGE, EDGE + LINE * (len(NOTE) + 0.75)
    for role in _roles(columns):
        color = ROLE_COLORS[role]
        corner = (x, y - 0.055)
        axes.add_patch(Rectangle(corner, 0.11, 0.11, fc=color, ec=color, alpha=0.7))
        axes.text(x + 0.16, y, role, va="center_baseline", size=TEXT)
        x += 0.16 + text_width(role) + 0.12
    axes.plot([x, x + 0.2], [y, y], color=CROSSED, lw=1.3)
    axes.text(x + 0.25, y, "between GPUs", va="center_baseline", size=TEXT)
