"""The layers of a network in towers, and the sizes of their boxes in a drawing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from cnnbook.analysis import Trace
from cnnbook.plots.architecture.layout import SLANT
from cnnbook.plots.architecture.nodes import Node, nodes_of
from cnnbook.plots.style import COLORS

BAR = 0.09  # thickness of a vector; all lengths are inches
CROSSED = COLORS[1]  # color of arrows from one row to another, and from all to a layer of none


@dataclass
class Column:
    """A layer of all rows, or one that is not divided."""

    title: str
    role: str
    shapes: list[tuple[int, ...]]  # one for each row, or one
    lines: list[str] = field(default_factory=list)  # its window, and the pooling that follows
    crossed: bool = False  # whether it reads what other rows made
    x: float = 0.0  # left side
    width: float = 0.0

    @property
    def labels(self) -> list[str]:
        """The shapes as text."""
        return ["×".join(map(str, shape)) for shape in self.shapes]


def columns_of(found: Trace, name: str) -> tuple[list[Column], int]:
    """Return the columns of the drawing, the input first, and the number of rows."""
    nodes = nodes_of(found, 1)
    layers = {call.name: call.module for call in found.calls}
    levels = _levels(nodes)
    rows = max(map(len, levels))
    divided = rows > 1
    if not divided:
        rows = _groups(layers, [level[0].title for level in levels[1:]], name)
    columns: list[Column] = []
    for level in levels:
        first, last = level[0], level is levels[-1]
        shapes = [node.shape for node in level]
        crossed = any(len(node.inputs) > 1 for node in level)
        if not divided and columns and not last:
            shapes = [(first.shape[0] // rows, *first.shape[1:])] * rows
        if not divided:
            groups = _groups_of(layers.get(first.title))
            crossed = len(columns) > 1 and groups == 1
        if len(shapes) not in (1, rows):
            raise ValueError(
                f"{name} has {len(shapes)} layers side by side at {first.title} and {rows} "
                "elsewhere: towers have the same layers"
            )
        if first.role == "pooling" and columns:
            window = " ".join(first.details).removeprefix("pool ")
            columns[-1].lines += [
                "max pool" if "Max" in _kind(layers, first) else "avg pool",
                window,
            ]
            continue
        windows = [detail.removeprefix("conv ") for detail in first.details]
        title = first.title.rpartition(".")[2]
        columns.append(Column(title, first.role, shapes, windows, crossed))
    return columns, rows


def _kind(layers: dict[str, nn.Module], node: Node) -> str:
    return type(layers[node.title]).__name__


def _levels(nodes: Sequence[Node]) -> list[list[Node]]:
    """Return layers by level, with concatenations replaced by what they join."""
    read: list[list[int]] = []
    for node in nodes:
        parts = [k for i in node.inputs for k in (read[i] if nodes[i].title == "concat" else [i])]
        read.append(list(dict.fromkeys(parts)))
    levels: list[list[Node]] = []
    for node, inputs in zip(nodes, read, strict=True):
        if node.title == "concat":
            continue
        node.inputs = inputs
        node.rank = 1 + max((nodes[i].rank for i in inputs), default=-1)
        levels += [[] for _ in range(node.rank + 1 - len(levels))]
        levels[node.rank].append(node)
    return levels


def _groups(layers: dict[str, nn.Module], names: Sequence[str], network: str) -> int:
    """Return the number of groups of the grouped convolutions."""
    found = {_groups_of(layers.get(name)) for name in names} - {1, None}
    if len(found) != 1:
        what = f"convolutions with {sorted(found)} groups" if found else "no convolution in groups"
        raise ValueError(
            f"{network} has {what}; a network of towers has two columns of layers, as "
            "models.AlexNetTwoDevices, or convolutions with groups=2, as models.AlexNet(towers=2)"
        )
    return found.pop()


def _groups_of(layer: nn.Module | None) -> int | None:
    """Return the groups of a layer's weights, None if it has none."""
    for module in layer.modules() if layer is not None else ():
        is_convolution = hasattr(module, "groups") and hasattr(module, "weight")
        if is_convolution or isinstance(module, nn.Linear):
            return getattr(module, "groups", 1)
    return None


@dataclass
class Scale:
    """Sizes of boxes, proportional to square roots."""

    columns: Sequence[Column]
    tallest: float  # feature map, with its slanted side
    longest: float  # vector
    thickest: float

    def __post_init__(self) -> None:
        inside = [shape for column in self.columns[1:-1] for shape in column.shapes]
        maps = [s for s in inside if len(s) > 1] or [self.columns[0].shapes[0]]
        self.side = max(max(s[1:]) for s in maps)
        self.channels = max(s[0] for s in maps)
        self.length = max((s[0] for c in self.columns for s in c.shapes if len(s) == 1), default=1)

    def of(self, shape: tuple[int, ...]) -> tuple[float, float, float]:
        """Return thickness, height and slant of a box."""
        if len(shape) == 1:
            return BAR, self.longest * math.sqrt(shape[0] / self.length), 0.0
        tall = self.tallest / (1 + SLANT)
        channels, height, width = (*shape, 1, 1)[:3]
        return (
            max(0.03, self.thickest * math.sqrt(channels / self.channels)),
            max(0.06, tall * math.sqrt(height / self.side)),
            max(0.03, SLANT * tall * math.sqrt(width / self.side)),
        )

    def lying(self, shape: tuple[int, ...]) -> tuple[float, float, float]:
        """Return width, thickness and slant of a box that lies flat."""
        thickness, width, slant = self.of((shape[0], *shape[:0:-1]))
        return width, thickness, slant

    def height(self, shape: tuple[int, ...]) -> float:
        """Return the height of a box with its slanted side."""
        return sum(self.of(shape)[1:])

    def width(self, shape: tuple[int, ...]) -> float:
        """Return the width of a box with its slanted side."""
        thickness, _, slant = self.of(shape)
        return thickness + slant
