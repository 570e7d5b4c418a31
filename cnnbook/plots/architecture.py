"""Drawings of networks, made from the networks themselves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Circle, FancyArrowPatch, Polygon, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from torch import nn

from cnnbook.analysis import Trace, trace
from cnnbook.analysis.trace import IMAGE, Block
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import COLORS, INK, WIDTH, new_figure

# What torch's operations make of a layer; the first kind that occurs in it decides.
ROLES = {
    "convolution": {"convolution"},
    "dense": {"mm", "addmm", "bmm", "baddbmm"},
    "pooling": {
        *("max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d"),
        *("avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool2d"),
    },
}
VIEWS = {"view", "_unsafe_view", "permute", "transpose", "squeeze", "unsqueeze", "clone"}
ROLE_COLORS = {
    "convolution": COLORS[0],
    "pooling": COLORS[1],
    "dense": COLORS[2],
    "other": COLORS[5],
}
SYMBOLS = {"add": "+", "mul": "×", "sub": "−", "div": "÷"}

TEXT = 9  # points; all other lengths are inches
LINE = 0.15  # height of a line of text
EDGE = 0.08  # around the drawing
GAP = 0.3  # between columns, for arrows …
NARROW_GAP = 0.22  # … if all fit into one row
WIDEST_GAP = 0.55
LANE_GAP = 0.14
ROW_GAP = 0.3
TURN = 0.22  # beside the rows of a long network
NARROWEST = 4.4
LONG = 14  # with more blocks than this, equal ones are drawn as one
LEGEND = 0.5  # height below the rows
BUS = 0.06  # between arrows that go to the next row side by side
ARC = 0.13  # between arrows that pass above blocks
SLICE_GAP = 0.04  # between equal blocks
THICKEST = 0.46
TALLEST = {1: 1.25, 2: 0.8}  # by the number of lanes
TALLEST_OF_MANY = 0.55
SLANT = 0.26  # the map's width, drawn along a diagonal, is shortened to this
RADIUS = 0.07  # of the arrows' corners
JOIN = 0.1  # radius of a join's circle


@dataclass
class _Node:
    """What is drawn for a block. Inputs are numbers of nodes; node 0 is the network's input."""

    title: str
    shape: tuple[int, ...]
    inputs: list[int]
    kind: str = ""
    role: str = "other"
    symbol: str = ""  # in a circle, instead of a box
    details: list[str] = field(default_factory=list)
    channels_last: bool = False
    likeness: object = None  # equal for blocks that may be drawn as one
    times: int = 1  # how many it stands for
    wrap: bool = False  # whether the shape takes two lines
    # Where it is drawn, from left to right, and in which of several parallel paths.
    rank: int = 0
    lane: float = 0.0  # lanes lie symmetrically about 0, one apart, from the top
    lanes: int = 1
    row: int = 0
    # Thickness, height, and width along the diagonal, in x and y alike.
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    x: float = 0.0  # left side of the block
    y: float = 0.0  # height at which arrows meet it
    label_y: float = 0.0
    turns: tuple[float, float] = (0.0, 0.0)  # where arrows turn, before and after it

    @property
    def titles(self) -> list[str]:
        """The name, broken at its dots if it is long."""
        first, *rest = self.title.split(".")
        lines = [first]
        for part in rest:
            if len(lines[-1]) + len(part) < 11:
                lines[-1] += f".{part}"
            else:
                lines.append(f".{part}")
        return lines

    @property
    def lines(self) -> list[str]:
        """The label below the block."""
        if self.symbol:
            return []
        shape = ["×".join(map(str, self.shape))]
        if self.wrap and len(self.shape) > 2:
            shape = [f"{self.shape[0]}×", "×".join(map(str, self.shape[1:]))]
        equal = [f"({self.times} equal)"] if self.times > 1 else []
        return [*self.titles, *equal, *self.details, *shape]

    @property
    def sides(self) -> tuple[int, int, int]:
        """Channels, height and width; a vector has maps of one pixel."""
        shape = (self.shape[-1], *self.shape[:-1]) if self.channels_last else self.shape
        channels, height, width = (*shape, 1, 1, 1)[:3]
        return channels, height, width

    @property
    def slices(self) -> int:
        """How many boxes are drawn side by side."""
        return min(self.times, 4)

    @property
    def width(self) -> float:
        if self.symbol:
            return 2 * JOIN
        return self.slices * self.size[0] + (self.slices - 1) * SLICE_GAP + self.size[2]

    @property
    def height(self) -> float:
        return 2 * JOIN if self.symbol else self.size[1] + self.size[2]

    @property
    def column(self) -> float:
        """Width with the label."""
        bold = len(self.titles)
        return max([self.width, *(_text_width(t, bold=i < bold) for i, t in enumerate(self.lines))])


@lru_cache(maxsize=1000)
def _text_width(text: str, *, bold: bool = False) -> float:
    font = FontProperties(weight="bold" if bold else "normal")
    return TextPath((0, 0), text, size=TEXT, prop=font).get_extents().width / 72


def architecture(
    model: nn.Module, input_shape: Sequence[int], *, depth: int = 1, alt: str | None = None
) -> Figure:
    """Draw a network, or a part of one, from what it computes.

    Parameters
    ----------
    model
        Any network, or a module of one, for example an Inception module or a residual block;
        left unchanged.
    input_shape
        Shape of one input of `model`, ``(C, H, W)``.
    depth
        How far to take it apart: 1 draws the layers that `model` itself calls, 2 those that they
        call, and so on.
    alt
        Text alternative; lists the blocks and what they read if not given.

    Returns
    -------
    Figure
        Every box is the tensor that a layer returns. Its height and its slanted side are those of
        the maps, its thickness is the number of channels; all are drawn in proportion to the
        square root, so that 224 and 7 pixels fit on one page. Arrows are the ways of tensors; a
        circle adds (+) or multiplies (×). Long networks continue in the next row. A stack is a
        series of blocks of the same class and shape, drawn once.

        Under a name stand the windows of the layer's convolutions or pooling, with /2 for a
        stride of 2. Normalization, activation, dropout and flattening belong to the layer before.

    Raises
    ------
    ValueError
        If `depth` is not positive, `input_shape` is no shape, or nothing in the model depends on
        its input.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> architecture(lenet5(), (1, 32, 32))  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Drawing of LeNet5, boxes to scale: input 1×32×32, c1 6×28×28, s2 6×14×14,
    c3 16×10×10, s4 16×5×5, c5 120×1×1, f6 84, output 10.>
    """
    nodes = _stacked(_nodes(trace(model, input_shape), depth))
    if len(nodes) == 1:
        raise ValueError(f"nothing in {type(model).__name__} depends on its input")
    _arrange(nodes)
    _measure(nodes)
    rows = _rows(nodes)
    legend = [role for role in ROLE_COLORS if role in {n.role for n in nodes[1:] if not n.symbol}]
    width, height = _place(nodes, rows, LEGEND)
    with new_figure(width, height) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        for node in nodes:
            _draw_node(axes, node, is_input=node is nodes[0])
        _draw_arrows(axes, nodes, width)
        _draw_legend(axes, legend)
    return Figure(figure, alt or _describe(type(model).__name__, nodes))


# ---------------------------------------------------------------- what to draw


def _nodes(found: Trace, depth: int) -> list[_Node]:
    blocks = found.blocks(depth)
    readers = [i for block in blocks for i in block.inputs]
    nodes = [_Node("input", found.input_shape, [])]
    node_of = {IMAGE: 0}
    for number, block in enumerate(blocks):
        role = _role(found, block)
        if len(block.inputs) == 1 and block.inputs[0] != IMAGE:
            before = blocks[block.inputs[0]]
            only = readers.count(block.inputs[0]) == 1
            if role == "view" or (role == "other" and only and block.shape == before.shape):
                node_of[number] = node_of[block.inputs[0]]
                continue
        inputs = list(dict.fromkeys(node_of[i] for i in block.inputs))
        node_of[number] = len(nodes)
        call = block.call
        if call is None:
            title = {"cat": "concat"}.get(block.kind, block.kind)
            symbol = SYMBOLS.get(block.kind, "")
            nodes.append(_Node(title, block.shape, inputs, symbol=symbol))
            continue
        parameters = sum(p.numel() for p in call.module.parameters())
        nodes.append(
            _Node(
                block.name or block.kind,
                block.shape,
                inputs,
                role="other" if role == "view" else role,
                details=_windows(call.module),
                channels_last=call.channels_last,
                likeness=(block.kind, block.shape, parameters, call.macs),
            )
        )
    return nodes


def _role(found: Trace, block: Block) -> str:
    """Say what kind of work a block does; "view" if it does none."""
    if block.call is None:
        return "other"
    depth = len(block.call.calls)
    names = {o.name for o in found.operations if o.calls[:depth] == block.call.calls}
    for role, operations in ROLES.items():
        if names & operations:
            return role
    if "mean" in names and set(block.shape[1:]) <= {1}:
        return "pooling"
    return "view" if names <= VIEWS else "other"


def _windows(module: nn.Module) -> list[str]:
    """Describe the convolutions and pooling of a layer or plain sequence, if two lines do."""
    found = _windows_in(module)
    lines = [
        f"{count} {text}" if count > 1 else text
        for text, count in ((text, len(list(same))) for text, same in groupby(found or []))
    ]
    return lines if len(lines) <= 2 else []


def _windows_in(module: nn.Module) -> list[str] | None:
    """Return the windows in the order in which they are applied; None if that is not known."""
    kernel, stride = getattr(module, "kernel_size", None), getattr(module, "stride", None)
    if isinstance(module, nn.Sequential):
        parts = [_windows_in(member) for member in module]
        return None if None in parts else [text for part in parts for text in part]
    if kernel is None or stride is None:
        inside = (getattr(m, "kernel_size", None) for m in module.modules())
        return [] if all(k is None for k in inside) else None
    kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
    stride = stride if isinstance(stride, int) else max(stride)
    what = "conv" if hasattr(module, "weight") else "pool"
    return [f"{what} {'×'.join(map(str, kernel))}" + (f" /{stride}" if stride > 1 else "")]


def _stacked(nodes: list[_Node]) -> list[_Node]:
    """Make one node of a series of equal blocks, if the drawing is long."""
    if len(nodes) <= LONG:
        return nodes
    readers = [i for node in nodes for i in node.inputs]
    out: list[_Node] = []
    node_of: dict[int, int] = {}
    opening: dict[int, str] = {}
    for number, node in enumerate(nodes):
        before = node.inputs[0] if len(node.inputs) == 1 else 0
        last = out[node_of[before]] if before else None
        if last and last.likeness == node.likeness is not None and readers.count(before) == 1:
            node_of[number] = node_of[before]
            last.times += 1
            first = opening.setdefault(node_of[before], last.title)
            last.title = _series(first, node.title)
        else:
            node.inputs = [node_of[i] for i in node.inputs]
            node_of[number] = len(out)
            out.append(node)
    return out


def _series(first: str, last: str) -> str:
    """Return ``conv2_x.0–2`` for a series from ``conv2_x.0`` to ``conv2_x.2``."""
    head, _, tail = last.rpartition(".")
    return f"{first}–{tail if head and first.startswith(head) else last}"


# ---------------------------------------------------------------- where to draw it


def _arrange(nodes: list[_Node]) -> None:
    """Give nodes their ranks, from left to right, and parallel paths their lanes."""
    for node in nodes[1:]:
        node.rank = 1 + max(nodes[i].rank for i in node.inputs)
    stretch: list[_Node] = []  # nodes between two that all paths cross
    for column, passed in zip(_columns(nodes), _passed(nodes), strict=True):
        if len(column) == 1 and not passed:
            _assign_lanes(nodes, stretch)
            stretch = []
        else:
            stretch += column
    _assign_lanes(nodes, stretch)


def _columns(nodes: Sequence[_Node]) -> list[list[_Node]]:
    columns: list[list[_Node]] = [[] for _ in range(1 + max(node.rank for node in nodes))]
    for node in nodes:
        columns[node.rank].append(node)
    return columns


def _passed(nodes: Sequence[_Node]) -> list[bool]:
    """Return for each rank whether an arrow passes over it."""
    passed = [False] * (1 + max(node.rank for node in nodes))
    for node in nodes:
        for i in node.inputs:
            for rank in range(nodes[i].rank + 1, node.rank):
                passed[rank] = True
    return passed


def _assign_lanes(nodes: list[_Node], stretch: list[_Node]) -> None:
    """Distribute parallel paths to lanes, each path to one."""
    ends: list[_Node] = []  # the last node in each lane
    lane_of: dict[int, int] = {}
    for node in stretch:
        before = [nodes[i] for i in node.inputs]
        free = [lane for lane, end in enumerate(ends) if any(end is b for b in before)]
        lane_of[id(node)] = free[0] if free else len(ends)
        if free:
            ends[free[0]] = node
        else:
            ends.append(node)
    for node in stretch:
        node.lanes = len(ends)
        node.lane = lane_of[id(node)] - (len(ends) - 1) / 2


def _measure(nodes: list[_Node]) -> None:
    """Give nodes their size: in proportion to the square roots of their tensors' sides."""
    tallest = TALLEST.get(max(node.lanes for node in nodes), TALLEST_OF_MANY)
    most = max(node.sides[0] for node in nodes)
    largest = max(max(node.sides[1:]) for node in nodes)
    for node in nodes:
        channels, height, width = node.sides
        node.size = (
            max(0.03, THICKEST * math.sqrt(channels / most)),
            max(0.06, tallest * math.sqrt(height / largest)),
            max(0.03, SLANT * tallest * math.sqrt(width / largest)),
        )


def _rows(nodes: list[_Node]) -> list[list[list[_Node]]]:
    """Break the columns into rows; shapes take two lines if fewer rows do then."""
    one_line = _broken(nodes)
    if len(one_line) > 1:
        for node in nodes:
            node.wrap = True
        two_lines = _broken(nodes)
        if len(two_lines) < len(one_line):
            return two_lines
        for node in nodes:
            node.wrap = False
    return one_line


def _broken(nodes: list[_Node]) -> list[list[list[_Node]]]:
    """Break the columns into rows of about equal width, best where one tensor goes on."""
    columns = _columns(nodes)
    widths = [max(node.column for node in column) for column in columns]
    if sum(widths) + NARROW_GAP * (len(widths) - 1) <= WIDTH - 2 * EDGE:
        return [columns]
    widths = [width + GAP for width in widths]
    room = WIDTH - 2 * TURN + GAP
    # How many tensors go on from each rank.
    crossing = [
        len({i for n in nodes if n.rank > rank for i in n.inputs if nodes[i].rank <= rank})
        for rank in range(len(columns))
    ]
    pieces: list[list[int]] = [[]]  # ranks that stay together
    for rank in range(len(columns)):
        pieces[-1].append(rank)
        if crossing[rank] == 1 and rank > 0:
            pieces.append([])
    pieces = [part for piece in pieces if piece for part in _fitting(piece, widths, crossing, room)]
    # Even rows look better than a short last one: the narrowest limit with the fewest rows.
    fewest = 0
    for share in (100, *range(30, 101)):
        rows: list[list[int]] = [[]]
        for piece in pieces:
            if rows[-1] and sum(widths[r] for r in rows[-1] + piece) > room * share / 100:
                rows.append([])
            rows[-1] += piece
        if len(rows) <= fewest:
            break
        fewest = fewest or len(rows)
    return [[columns[rank] for rank in row] for row in rows]


def _fitting(
    piece: list[int], widths: list[float], crossing: list[int], room: float
) -> list[list[int]]:
    """Divide ranks that are too wide for a row where the fewest tensors go on."""
    parts = []
    while sum(widths[r] for r in piece) > room and len(piece) > 1:
        fits = [k for k in range(1, len(piece)) if sum(widths[r] for r in piece[:k]) <= room]
        k = min(fits or [1], key=lambda k: (crossing[piece[k - 1]], -k))
        parts.append(piece[:k])
        piece = piece[k:]
    return [*parts, piece]


@dataclass
class _RowSize:
    """Measures of a row, in inches but for the lanes."""

    lanes: int
    block: float  # the tallest block
    lane: float  # from one lane to the next
    arcs: float  # room for arrows above

    @property
    def height(self) -> float:
        return self.arcs + self.lanes * self.lane - LANE_GAP


def _row_size(nodes: list[_Node], row: list[list[_Node]]) -> _RowSize:
    members = [node for column in row for node in column]
    block = max(node.height for node in members)
    label = LINE * max(len(node.lines) for node in members)
    levels = [level for (_, _, number), level in _arcs(nodes).items() if number == members[0].row]
    return _RowSize(
        lanes=max(node.lanes for node in members),
        block=block,
        lane=block + 0.05 + label + LANE_GAP,
        arcs=ARC * max(levels, default=0),
    )


def _place(nodes: list[_Node], rows: list[list[list[_Node]]], bottom: float) -> tuple[float, float]:
    """Give nodes their places above `bottom`; return width and height of the drawing."""
    for number, row in enumerate(rows):
        for node in (node for column in row for node in column):
            node.row = number
    widths = [sum(max(n.column for n in column) for column in row) for row in rows]
    side = EDGE if len(rows) == 1 else TURN
    # As wide as with usual gaps, if that fits on the page.
    wanted = max(w + GAP * (len(row) - 1) for w, row in zip(widths, rows, strict=True)) + 2 * side
    width = max(NARROWEST, min(wanted, WIDTH), max(widths) + 2 * side)
    sizes = [_row_size(nodes, row) for row in rows]
    total = bottom + sum(size.height for size in sizes) + ROW_GAP * (len(rows) - 1) + EDGE
    top = total - EDGE
    for row, used, size in zip(rows, widths, sizes, strict=True):
        gap = min((width - 2 * side - used) / max(1, len(row) - 1), WIDEST_GAP)
        x = side
        if len(rows) == 1:
            x = (width - used - gap * (len(row) - 1)) / 2
        middle = top - size.arcs - size.block / 2 - (size.lanes - 1) / 2 * size.lane
        for column in row:
            wide = max(node.column for node in column)
            for node in column:
                node.x = x + (wide - node.width) / 2
                node.turns = (x - gap / 2, x + wide + gap / 2)
                node.y = middle - node.lane * size.lane
                # In one lane the labels stand in line; else each close to its block.
                tall = size.block if size.lanes == 1 else node.height
                node.label_y = node.y - tall / 2 - 0.05
            x += wide + gap
        top -= size.height + ROW_GAP
    return width, total


Arc = tuple[int, int | None, int]  # from node, to node or to a later row, in a row


def _arcs(nodes: list[_Node]) -> dict[Arc, int]:
    """Return the arrows that must pass above blocks, with their levels, the shortest lowest."""
    spans: dict[Arc, tuple[float, float]] = {}
    for target, node in enumerate(nodes):
        for source in node.inputs:
            before = nodes[source]
            if before.row == node.row:
                lane = node.lane if node.lanes > 1 else before.lane
                ways = [((source, target, node.row), lane, (before.rank, node.rank))]
            else:  # out of one row and into another
                ways = [
                    ((source, None, before.row), before.lane, (before.rank, math.inf)),
                    ((source, target, node.row), node.lane, (-math.inf, node.rank)),
                ]
            for arc, lane, (low, high) in ways:
                if any(n.row == arc[2] and low < n.rank < high and n.lane == lane for n in nodes):
                    spans[arc] = (low, high)

    last = max(node.rank for node in nodes)
    levels: dict[Arc, int] = {}
    for arc in sorted(spans, key=lambda a: min(spans[a][1], last) - max(spans[a][0], 0)):
        low, high = spans[arc]
        below = [
            level
            for other, level in levels.items()
            if other[2] == arc[2] and spans[other][0] < high and low < spans[other][1]
        ]
        levels[arc] = 1 + max(below, default=0)
    return levels


# ---------------------------------------------------------------- drawing


def _draw_node(axes: Axes, node: _Node, *, is_input: bool) -> None:
    if node.symbol:
        x, y = node.x + JOIN, node.y
        axes.add_patch(Circle((x, y), JOIN, fc="none", ec=INK, lw=1.2))
        axes.text(x, y, node.symbol, ha="center", va="center_baseline", size=12)
        return
    color = INK if is_input else ROLE_COLORS[node.role]
    for number in range(node.slices):
        x = node.x + number * (node.size[0] + SLICE_GAP)
        _draw_box(axes, node, x, color, last=number == node.slices - 1, faint=is_input)
    for i, line in enumerate(node.lines):
        weight = "bold" if i < len(node.titles) else "normal"
        place = (node.x + node.width / 2, node.label_y - i * LINE)
        axes.text(*place, line, ha="center", va="top", size=TEXT, weight=weight)


def _draw_box(axes: Axes, node: _Node, x: float, color: str, *, last: bool, faint: bool) -> None:
    t, h, d = node.size
    y = node.y - node.height / 2
    front = ((x, y), (x + t, y), (x + t, y + h), (x, y + h))
    top = ((x, y + h), (x + t, y + h), (x + t + d, y + h + d), (x + d, y + h + d))
    side = ((x + t, y), (x + t + d, y + d), (x + t + d, y + h + d), (x + t, y + h))
    # The sides of slices but the last are hidden by the next.
    for corners, alpha in ((front, 0.55), (top, 0.25), (side, 0.8))[: 3 if last else 2]:
        axes.add_patch(Polygon(corners, fc=color, ec="none", alpha=alpha * (0.4 if faint else 1)))
        axes.add_patch(Polygon(corners, fc="none", ec=color, lw=0.9, joinstyle="round"))


Point = tuple[float, float]


def _draw_arrows(axes: Axes, nodes: list[_Node], width: float) -> None:
    arcs = _arcs(nodes)
    for target, node in enumerate(nodes):
        for source in node.inputs:
            axes.add_patch(
                FancyArrowPatch(
                    path=_rounded(_route(nodes, source, target, arcs, width)),
                    arrowstyle="-|>,head_length=4,head_width=2.2",
                    **{"color": INK, "lw": 1.0, "joinstyle": "round", "capstyle": "butt"},
                )
            )


def _route(
    nodes: list[_Node], source: int, target: int, arcs: dict[Arc, int], width: float
) -> list[Point]:
    """Return the corners of an arrow's way."""
    before, node = nodes[source], nodes[target]
    points = [(before.x + before.width, before.y)]
    x, y = before.turns[1], before.y
    if before.row != node.row:
        # Around the end of the line, side by side with others that go there.
        going = {i for n in nodes if n.row > before.row for i in n.inputs}
        members = [n for n in nodes if n.row == before.row]
        sources = sorted((i for i in going if nodes[i].row == before.row), reverse=True)
        shift = BUS * sources.index(source)
        if (source, None, before.row) in arcs:
            y = _height_above(nodes, arcs, (source, None, before.row))
            points += [(x, before.y), (x, y)]
        low = min(n.label_y - LINE * len(n.lines) for n in members) - ROW_GAP / 2 + shift
        right, left = width - TURN / 2 - shift, TURN / 2 + shift
        points += [(right, y), (right, low), (left, low)]
        x, y = left, low
    if (source, target, node.row) in arcs:
        high = _height_above(nodes, arcs, (source, target, node.row))
        points += [(x, y), (x, high)]
        if node.symbol:
            return [*points, (node.x + JOIN, high), (node.x + JOIN, node.y + JOIN)]
        return [*points, (node.turns[0], high), (node.turns[0], node.y), (node.x, node.y)]
    # To another lane where paths part, back to the middle where they meet.
    if node.lanes == 1 and before.row == node.row:
        x = node.turns[0]
    if abs(y - node.y) > 1e-6:
        points += [(x, y), (x, node.y)]
    return [*points, (node.x, node.y)]


def _height_above(nodes: list[_Node], arcs: dict[Arc, int], arc: Arc) -> float:
    """Return the height of an arrow above the blocks that it passes."""
    source, target, row = arc
    low = nodes[source].rank if nodes[source].row == row else -math.inf
    high = math.inf if target is None else nodes[target].rank
    passed = [n for n in nodes if n.row == row and low < n.rank < high]
    return max(n.y + n.height / 2 for n in passed) + arcs[arc] * ARC


def _rounded(points: Sequence[Point]) -> Path:
    """Return a path with rounded corners."""
    corners = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
    vertices, codes = [corners[0]], [Path.MOVETO]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        a, b = (math.dist(corner, other) for other in (before, after))
        r = min(RADIUS, a / 2, b / 2)
        vertices += [_towards(corner, before, r / a), corner, _towards(corner, after, r / b)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, corners[-1]], [*codes, Path.LINETO])


def _towards(a: Point, b: Point, share: float) -> Point:
    return (a[0] + share * (b[0] - a[0]), a[1] + share * (b[1] - a[1]))


def _draw_legend(axes: Axes, roles: Sequence[str]) -> None:
    x = EDGE
    for role in roles:
        corner = (x, EDGE + 1.15 * LINE)
        color = ROLE_COLORS[role]
        axes.add_patch(Rectangle(corner, 0.11, 0.11, fc=color, ec=color, alpha=0.7))
        axes.text(x + 0.16, corner[1] + 0.055, role, va="center", size=TEXT)
        x += 0.16 + _text_width(role) + 0.2
    note = "Height and slanted side: √ of map size; thickness: √ of channels."
    axes.text(EDGE, EDGE, note, va="bottom", size=TEXT)


def _describe(name: str, nodes: list[_Node]) -> str:
    """Say in words what the drawing shows."""

    def label(node: _Node) -> str:
        return {"+": "addition", "×": "product"}.get(node.symbol, node.title)

    parts = []
    for number, node in enumerate(nodes[1:], 1):
        shape = "×".join(map(str, node.shape))
        times = f"{node.times} blocks " if node.times > 1 else ""
        chain = node.inputs == [number - 1]
        source = "" if chain else f" of {' and '.join(label(nodes[i]) for i in node.inputs)}"
        parts.append(f"{times}{label(node)}{source} {shape}")
    shape = "×".join(map(str, nodes[0].shape))
    return f"Drawing of {name}, boxes to scale: input {shape}, {', '.join(parts)}."
