"""Where the nodes of a drawing are: rows, lanes and sizes, and the routes of arrows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cnnbook.plots.architecture.boxes import Box
from cnnbook.plots.architecture.nodes import JOIN, Node, padded
from cnnbook.plots.style import WIDTH

LINE = 0.15  # height of a line of text; all lengths are inches
EDGE = 0.08  # around the drawing
GAP = 0.3  # between columns, for arrows …
NARROW_GAP = 0.13  # … if all fit into one row
WIDEST_GAP = 0.55
LANE_GAP = 0.14
ROW_GAP = 0.3
TURN = 0.22  # beside the rows of a long network
NARROWEST = 4.4
BUS = 0.06  # between arrows side by side to the next row
ARC = 0.13  # between arrows that pass above blocks
THICKEST = 0.36
TALLEST = {1: 1.25, 2: 0.8}  # by the number of lanes
TALLEST_OF_MANY = 0.55
SLANT = 0.26  # the feature map's width, drawn along a diagonal, is shortened to this

Point = tuple[float, float]


def arrange(nodes: list[Node]) -> None:
    """Give nodes their ranks, from left to right, and parallel paths their lanes."""
    for node in nodes[1:]:
        node.rank = 1 + max(nodes[i].rank for i in node.inputs)
    stretch: list[Node] = []  # nodes between two that all paths cross
    for column, passed in zip(_columns(nodes), _passed(nodes), strict=True):
        if len(column) == 1 and not passed:
            assign_lanes(nodes, stretch)
            stretch = []
        else:
            stretch += column
    assign_lanes(nodes, stretch)


def _columns(nodes: Sequence[Node]) -> list[list[Node]]:
    columns: list[list[Node]] = [[] for _ in range(1 + max(node.rank for node in nodes))]
    for node in nodes:
        columns[node.rank].append(node)
    return columns


def _passed(nodes: Sequence[Node]) -> list[bool]:
    """Return for each rank whether an arrow passes over it."""
    passed = [False] * (1 + max(node.rank for node in nodes))
    for node in nodes:
        for i in node.inputs:
            for rank in range(nodes[i].rank + 1, node.rank):
                passed[rank] = True
    return passed


def assign_lanes(nodes: Sequence[Node | Box], stretch: Sequence[Node | Box]) -> None:
    """Assign each of several parallel paths to a lane."""
    ends: list[Node | Box] = []  # the last node in each lane
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


def measure(nodes: list[Node]) -> None:
    """Set the nodes' sizes, proportional to the square roots of their tensors' sides."""
    tallest = TALLEST.get(max(node.lanes for node in nodes), TALLEST_OF_MANY)
    sides = [node.sides for node in nodes]
    sides += [padded(shape) for node in nodes for _, shape in node.parts]
    most = max(channels for channels, _, _ in sides)
    largest = max(max(height, width) for _, height, width in sides)

    def size(channels: int, height: int, width: int) -> tuple[float, float, float]:
        return (
            max(0.03, THICKEST * math.sqrt(channels / most)),
            max(0.06, tallest * math.sqrt(height / largest)),
            max(0.03, SLANT * tallest * math.sqrt(width / largest)),
        )

    for node in nodes:
        node.size = size(*node.sides)
        node.part_sizes = [size(*padded(shape)) for _, shape in node.parts]


def break_into_rows(nodes: list[Node]) -> list[list[list[Node]]]:
    """Break the columns into rows; shapes take two lines if that saves a row."""
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


def _broken(nodes: list[Node]) -> list[list[list[Node]]]:
    """Break the columns into rows of about equal width, ideally where a single tensor continues."""
    columns = _columns(nodes)
    widths = [max(node.column for node in column) for column in columns]
    if sum(widths) + NARROW_GAP * (len(widths) - 1) <= WIDTH - 2 * EDGE:
        return [columns]
    widths = [width + GAP for width in widths]
    room = WIDTH - 2 * TURN + GAP
    # How many tensors continue from each rank.
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
    """Divide ranks that are too wide for a row where the fewest tensors continue."""
    parts = []
    while sum(widths[r] for r in piece) > room and len(piece) > 1:
        fits = [k for k in range(1, len(piece)) if sum(widths[r] for r in piece[:k]) <= room]
        k = min(fits or [1], key=lambda k: (crossing[piece[k - 1]], -k))
        parts.append(piece[:k])
        piece = piece[k:]
    return [*parts, piece]


@dataclass
class _RowSize:
    """Measures of a row, in inches except for the lanes."""

    lanes: int
    block: float  # the tallest block
    lane: float  # from one lane to the next
    arcs: float  # room for arrows above

    @property
    def height(self) -> float:
        """Of the row without the space to the next."""
        return self.arcs + self.lanes * self.lane - LANE_GAP


def _row_size(nodes: list[Node], row: list[list[Node]]) -> _RowSize:
    members = [node for column in row for node in column]
    block = max(node.height for node in members)
    label = LINE * max(len(node.lines) for node in members)
    levels = [level for (_, _, number), level in arcs_of(nodes).items() if number == members[0].row]
    return _RowSize(
        lanes=max(node.lanes for node in members),
        block=block,
        lane=block + 0.05 + label + LANE_GAP,
        arcs=ARC * max(levels, default=0),
    )


def position_nodes(
    nodes: list[Node], rows: list[list[list[Node]]], bottom: float
) -> tuple[float, float]:
    """Set the nodes' positions above `bottom`; return the width and height of the drawing."""
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
                # In a single lane, labels are aligned; otherwise each is close to its block.
                tall = size.block if size.lanes == 1 else node.height
                node.label_y = node.y - tall / 2 - 0.05
            x += wide + gap
        top -= size.height + ROW_GAP
    return width, total


Arc = tuple[int, int | None, int]  # from node, to node or to a later row, in a row


def arcs_of(nodes: list[Node]) -> dict[Arc, int]:
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


def route(
    nodes: list[Node], source: int, target: int, arcs: dict[Arc, int], width: float
) -> list[Point]:
    """Return the corners of an arrow's path."""
    before, node = nodes[source], nodes[target]
    points = [(before.x + before.width, before.y)]
    x, y = before.turns[1], before.y
    if before.row != node.row:
        # Around the end of the row, side by side with other arrows that go there.
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


def _height_above(nodes: list[Node], arcs: dict[Arc, int], arc: Arc) -> float:
    """Return the height of an arrow above the blocks that it passes."""
    source, target, row = arc
    low = nodes[source].rank if nodes[source].row == row else -math.inf
    high = math.inf if target is None else nodes[target].rank
    passed = [n for n in nodes if n.row == row and low < n.rank < high]
    return max(n.y + n.height / 2 for n in passed) + arcs[arc] * ARC
