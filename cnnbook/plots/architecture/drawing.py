"""Nodes, arrows and legend, drawn with matplotlib."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Polygon, Rectangle
from matplotlib.path import Path

from cnnbook.plots.architecture.layout import EDGE, LINE, Point, arcs_of, route
from cnnbook.plots.architecture.nodes import JOIN, ROLE_COLORS, TEXT, Node, text_width
from cnnbook.plots.style import INK

RADIUS = 0.07  # of the arrows' corners, in inches like all lengths


def draw_node(axes: Axes, node: Node, *, is_input: bool) -> None:
    """Draw a block with its label, or the circle of an addition."""
    if node.symbol:
        x, y = node.x + JOIN, node.y
        axes.add_patch(Circle((x, y), JOIN, fc="none", ec=INK, lw=1.2))
        axes.text(x, y, node.symbol, ha="center", va="center_baseline", size=12)
        return
    for part in node.slices:
        color = INK if is_input else ROLE_COLORS[part.role]
        corner = (node.x + part.x, node.y - sum(part.size[1:]) / 2)
        draw_box(axes, corner, part.size, color, open_side=part.open_side, faint=is_input)
    for i, line in enumerate(node.lines):
        weight = "bold" if i < len(node.titles) else "normal"
        x, y = node.x + node.width / 2, node.label_y - i * LINE
        axes.text(x, y, line, ha="center", va="top", size=TEXT, weight=weight)


def draw_box(
    axes: Axes,
    corner: Point,
    size: tuple[float, float, float],
    color: str,
    *,
    open_side: bool = True,
    faint: bool = False,
) -> None:
    """Draw a block of a thickness, height and slant; its right side may be hidden."""
    (x, y), (t, h, d) = corner, size
    front = ((x, y), (x + t, y), (x + t, y + h), (x, y + h))
    top = ((x, y + h), (x + t, y + h), (x + t + d, y + h + d), (x + d, y + h + d))
    side = ((x + t, y), (x + t + d, y + d), (x + t + d, y + h + d), (x + t, y + h))
    for corners, alpha in ((front, 0.55), (top, 0.25), (side, 0.8))[: 3 if open_side else 2]:
        axes.add_patch(Polygon(corners, fc=color, ec="none", alpha=alpha * (0.4 if faint else 1)))
        axes.add_patch(Polygon(corners, fc="none", ec=color, lw=0.9, joinstyle="round"))


def draw_arrows(axes: Axes, nodes: list[Node], width: float) -> None:
    """Draw the arrows between positioned nodes, in a drawing of a given width."""
    arcs = arcs_of(nodes)
    for target, node in enumerate(nodes):
        for source in node.inputs:
            axes.add_patch(
                FancyArrowPatch(
                    path=rounded(route(nodes, source, target, arcs, width)),
                    arrowstyle="-|>,head_length=4,head_width=2.2",
                    **{"color": INK, "lw": 1.0, "joinstyle": "round", "capstyle": "butt"},
                )
            )


def rounded(points: Sequence[Point], radius: float = RADIUS) -> Path:
    """Return a path with rounded corners."""
    corners = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
    vertices, codes = [corners[0]], [Path.MOVETO]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        a, b = (math.dist(corner, other) for other in (before, after))
        r = min(radius, a / 2, b / 2)
        vertices += [_towards(corner, before, r / a), corner, _towards(corner, after, r / b)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, corners[-1]], [*codes, Path.LINETO])


def _towards(a: Point, b: Point, share: float) -> Point:
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))


def draw_legend(axes: Axes, roles: Sequence[str]) -> None:
    """Draw the colors of some roles, and what the sides of boxes mean."""
    x = EDGE
    for role in roles:
        corner = (x, EDGE + 1.15 * LINE)
        color = ROLE_COLORS[role]
        axes.add_patch(Rectangle(corner, 0.11, 0.11, fc=color, ec=color, alpha=0.7))
        axes.text(x + 0.16, corner[1] + 0.055, role, va="center", size=TEXT)
        x += 0.16 + text_width(role) + 0.2
    note = "Height, slant: √ of feature map size; thickness: √ of channels."
    axes.text(EDGE, EDGE, note, va="bottom", size=TEXT)
