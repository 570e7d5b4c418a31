"""What is drawn for a network: one node for each block, with its label."""

from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from torch import nn

from cnnbook._errors import check_kind
from cnnbook.analysis import Trace, trace
from cnnbook.analysis.graph import IMAGE, Block, Call, InputLike, Role
from cnnbook.plots.style import COLORS

# The roles of operations that have a color; the first one that occurs in a layer decides.
ROLES = ("convolution", "fully connected", "pooling")
ROLE_COLORS = {
    "convolution": COLORS[0],
    "pooling": COLORS[1],
    "fully connected": COLORS[2],
    "other": COLORS[5],
}
SYMBOLS = {"add": "+", "mul": "×", "sub": "−", "div": "÷"}

TEXT = 9  # points; all other lengths are inches
SLICE_GAP = 0.04  # between equal blocks
JOIN = 0.1  # radius of a join's circle
LONG = 14  # with more blocks than this, equal ones are drawn as one


class Slice(NamedTuple):
    """A box of a node: where it begins, and its thickness, height and slant in inches."""

    x: float
    role: str
    size: tuple[float, float, float]
    open_side: bool  # whether its right side is seen


@dataclass
class Node:
    """What is drawn for a block. Inputs are numbers of nodes; node 0 is the network's input."""

    title: str
    shape: tuple[int, ...]
    inputs: list[int]
    role: str = "other"
    symbol: str = ""  # in a circle, instead of a box
    details: list[str] = field(default_factory=list)
    channels_last: bool = False
    likeness: object = None  # equal for blocks that may be drawn as one
    times: int = 1  # how many it stands for
    # Of a plain sequence of layers: roles and shapes of what each returns, drawn as slices.
    parts: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    wrap: bool = False  # whether the shape takes two lines
    # Where it is drawn, from left to right, and in which of several parallel paths.
    rank: int = 0
    lane: float = 0.0  # lanes lie symmetrically about 0, one apart, from the top
    lanes: int = 1
    row: int = 0
    # Thickness, height, and width along the diagonal, in x and y alike.
    size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    part_sizes: list[tuple[float, float, float]] = field(default_factory=list)
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
        """Channels, height and width; a vector has feature maps of one pixel."""
        shape = (self.shape[-1], *self.shape[:-1]) if self.channels_last else self.shape
        return padded(shape)

    @property
    def slices(self) -> list[Slice]:
        """The boxes that are drawn side by side."""
        if self.parts:
            sizes = [(role, s) for (role, _), s in zip(self.parts, self.part_sizes, strict=True)]
        else:
            sizes = [(self.role, self.size)] * min(self.times, 4)
        slices, x = [], 0.0
        for number, (role, size) in enumerate(sizes):
            # The next slice hides the side of this one, unless it is smaller and stands behind it.
            open_side = number == len(sizes) - 1 or sizes[number + 1][1][1] < size[1]
            slices.append(Slice(x, role, size, open_side))
            x += size[0] + SLICE_GAP + (size[2] if open_side else 0.0)
        return slices

    @property
    def width(self) -> float:
        """Of all boxes, in inches."""
        if self.symbol:
            return 2 * JOIN
        return max(part.x + part.size[0] + part.size[2] for part in self.slices)

    @property
    def height(self) -> float:
        """Of a box, with its slanted side, in inches."""
        return 2 * JOIN if self.symbol else max(sum(part.size[1:]) for part in self.slices)

    @property
    def column(self) -> float:
        """Width with the label."""
        bold = len(self.titles)
        return max([self.width, *(text_width(t, bold=i < bold) for i, t in enumerate(self.lines))])


def padded(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return channels, height and width, 1 where a shape has none."""
    channels, height, width = (*shape, 1, 1, 1)[:3]
    return channels, height, width


@lru_cache(maxsize=1000)
def text_width(text: str, *, bold: bool = False) -> float:
    """Return the width of a line of text, in inches."""
    font = FontProperties(weight="bold" if bold else "normal")
    return TextPath((0, 0), text, size=TEXT, prop=font).get_extents().width / 72


def traced(
    model: nn.Module | Trace, input_shape: InputLike | None, *, training: bool = False
) -> Trace:
    """Return the trace of a model, or the one that was given.

    Raises
    ------
    TypeError
        If a model is given without `input_shape`, a trace with one, or something else.
    """
    needed = "a network (a torch.nn.Module), or its trace, as cnnbook.analysis.trace makes it"
    check_kind("model", model, nn.Module | Trace, needed)
    if isinstance(model, Trace):
        if input_shape is not None:
            raise TypeError("a trace has its own input_shape; pass the trace alone")
        return model
    if input_shape is None:
        raise TypeError("input_shape is missing: the shape of one image, for example (3, 224, 224)")
    return trace(model, input_shape, training=training)


def name_of(found: Trace) -> str:
    """Return the class of the network that was traced."""
    return type(found.calls[0].module).__name__


def nodes_of(found: Trace, depth: int) -> list[Node]:
    """Return the nodes of a network, expanded to a depth, the input first."""
    blocks = found.blocks(depth)
    readers = [i for block in blocks for i in block.inputs]
    nodes = [Node("input", found.input_shape, [])]
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
            nodes.append(Node(title, block.shape, inputs, symbol=symbol))
            continue
        parameters = sum(p.numel() for p in call.module.parameters())
        nodes.append(
            Node(
                block.name or block.kind,
                block.shape,
                inputs,
                role="other" if role == "view" else role,
                details=_windows(call.module),
                channels_last=call.channels_last,
                likeness=(block.kind, block.shape, parameters, call.macs),
                parts=_parts(found, call),
            )
        )
    return nodes


def _parts(found: Trace, call: Call) -> list[tuple[str, tuple[int, ...]]]:
    """Return roles and shapes of the layers of a plain sequence, if it has several."""
    if not _windows(call.module):
        return []
    depth = len(call.calls)
    inside = [c for c in found.calls if c.calls[:depth] == call.calls]
    windowed = [c for c in inside if hasattr(c.module, "kernel_size") and not c.channels_last]
    parts = [(_role_of(found.roles(c), c.shape), c.shape) for c in windowed]
    return parts if len(parts) > 1 else []


def _role(found: Trace, block: Block) -> str:
    """Return what a block computes; "view" if it computes nothing."""
    if block.call is None:
        return "other"
    return _role_of(found.roles(block.call), block.shape)


def _role_of(roles: set[Role | None], shape: tuple[int, ...]) -> str:
    for role in ROLES:
        if role in roles:
            return role
    if "mean" in roles and set(shape[1:]) <= {1}:
        return "pooling"
    return "view" if roles <= {"view"} else "other"


def _windows(module: nn.Module) -> list[str]:
    """Describe the convolutions and pooling of a layer or plain sequence, if two lines suffice."""
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


def stacked(nodes: list[Node]) -> list[Node]:
    """Merge each series of equal blocks into one node, if the drawing is long."""
    if len(nodes) <= LONG:
        return nodes
    readers = [i for node in nodes for i in node.inputs]
    out: list[Node] = []
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


def describe(name: str, nodes: list[Node]) -> str:
    """Describe the drawing in words."""

    def label(node: Node) -> str:
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
