"""How the end of a network turns feature maps into scores, drawn value by value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle, Rectangle
from torch import nn

from cnnbook._errors import check_kind
from cnnbook.analysis import trace
from cnnbook.plots.architecture.boxes import Box, boxes_of
from cnnbook.plots.architecture.layout import LINE, Point
from cnnbook.plots.architecture.nodes import TEXT, text_width
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import COLORS, INK, new_figure

MAPS = 4  # drawn of a feature map's channels; their number is written beside them
MAP = 0.35  # side, in inches, like all lengths
MAP_GAP = 0.07
CELLS = 7  # drawn of a feature map's side, at most
VALUES_OF_MAP = 6  # drawn of the values of one feature map, when it is flattened
UNITS = 8  # drawn of a layer's units, at most
RADIUS = 0.045
STEP = 0.62  # from row to row
MARGIN = 0.03
GUTTER = 0.05
BESIDE = 0.08  # between a row and its text

NEEDED = (
    "a head takes feature maps (C, H, W) and has global average pooling or flattening, then "
    "linear layers, as nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 10))"
)


@dataclass
class _Head:
    """Text of a head, row by row from top to bottom, and what is drawn."""

    title: str
    maps: Box
    reduction: Box
    layers: list[Box]

    @property
    def pooled(self) -> bool:
        """Whether each feature map becomes one value."""
        return self.reduction.kind == "pooling"

    @property
    def sizes(self) -> list[str]:
        """What each row has."""
        values = self.reduction.shape[0]
        sizes = [f"{values:,} mean values" if self.pooled else f"{values:,} values"]
        hidden = [f"{box.shape[0]:,} units" for box in self.layers[:-1]]
        return [self.maps.size, *sizes, *hidden, f"{self.layers[-1].shape[0]:,} scores"]

    @property
    def steps(self) -> list[str]:
        """What leads from each row to the next."""
        first = "global average pooling" if self.pooled else "flatten"
        return [first, *(f"{box.parameters:,} parameters" for box in self.layers)]

    @property
    def total(self) -> str:
        """All parameters."""
        return f"{sum(box.parameters for box in self.layers):,} parameters"


def heads(
    modules: Mapping[str, nn.Module], input_shape: Sequence[int], *, alt: str | None = None
) -> Figure:
    """Draw heads side by side: how each turns the same feature maps into scores.

    Parameters
    ----------
    modules
        Heads by title. Each has global average pooling or flattening, then linear layers;
        activations and dropout may be between them.
    input_shape
        Shape of the feature maps of one image, ``(C, H, W)``.
    alt
        Text alternative; lists the sizes and the parameters if not given.

    Returns
    -------
    Figure
        A circle is a value. Of the many values, some are drawn; how many there are is written
        beside them, and how many parameters each layer has. Pooling joins each feature map with one
        value; the lines of a linear layer join everything with everything.

    Raises
    ------
    ValueError
        If a module is not a head of this kind, or `input_shape` has not three dimensions.
    TypeError
        If `modules` is something else.

    Examples
    --------
    >>> average = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    >>> flat = nn.Sequential(nn.Flatten(), nn.Linear(16 * 7 * 7, 10))
    >>> heads({"GAP": average, "FC": flat}, (16, 7, 7))  # doctest: +NORMALIZE_WHITESPACE
    <Figure: From feature maps to scores. GAP: 16×7×7, global average pooling, 16 mean values,
    170 parameters, 10 scores; 170 parameters in all. FC: 16×7×7, flatten, 784 values,
    7,850 parameters, 10 scores; 7,850 parameters in all.>
    """
    needed = "a mapping from titles to heads, each a torch.nn.Module"
    check_kind("modules", modules, Mapping, needed)
    for title, module in modules.items():
        check_kind(f"modules[{title!r}]", module, nn.Module, "a torch.nn.Module")
    check_kind("input_shape", input_shape, list | tuple, "three numbers, (C, H, W)")
    if len(input_shape) != 3:
        raise ValueError(f"input_shape must be (C, H, W), got {tuple(input_shape)}")
    if not modules:
        raise ValueError(f"no module is given; {NEEDED}")
    found = [_head(title, module, tuple(input_shape)) for title, module in modules.items()]
    drawn = MAPS * MAP + (MAPS - 1) * MAP_GAP + 0.2
    texts = [(t, True) for head in found for t in head.sizes]
    texts += [(t, False) for head in found for t in head.steps]
    wide = drawn + BESIDE + max(text_width(t, bold=b) for t, b in texts) + 3 * MARGIN
    tall = max(2 * MARGIN + 2 * LINE + MAP + STEP * (1 + len(head.layers)) + LINE for head in found)
    width = wide * len(found) + GUTTER * (len(found) - 1)
    with new_figure(width, tall) as figure:
        figure.set_layout_engine("none")
        for i, head in enumerate(found):
            place = ((wide + GUTTER) * i / width, 0, wide / width, 1)
            axes = figure.add_axes(place)
            axes.set(xlim=(0, wide), ylim=(-tall, 0))
            axes.set_axis_off()
            _draw(axes, head, drawn)
    return Figure(figure, alt or _describe(found), stacks=True)


def _head(title: str, module: nn.Module, shape: tuple[int, ...]) -> _Head:
    boxes = boxes_of(trace(module, shape))
    kinds = [box.kind for box in boxes[2:]]
    chain = all(box.inputs == [i] for i, box in enumerate(boxes[1:]))
    first = boxes[1].label if len(boxes) > 1 else "nothing"
    reduces = first in ("global avg pool", "flatten")
    if not (chain and reduces and kinds and set(kinds) == {"fully connected"}):
        layers = ", ".join(box.label for box in boxes[1:]) or "nothing that depends on its input"
        raise ValueError(f"{title} has {layers}; {NEEDED}")
    return _Head(title, boxes[0], boxes[1], boxes[2:])


def _draw(axes: Axes, head: _Head, width: float) -> None:
    color = COLORS[1] if head.pooled else COLORS[5]
    text = {"size": TEXT, "va": "center_baseline"}
    y = -MARGIN
    axes.text(MARGIN, y, head.title, size=TEXT + 1, va="top", weight="bold")
    y -= 1.6 * LINE
    right = MARGIN + width + BESIDE
    lefts = [MARGIN + i * (MAP + MAP_GAP) for i in range(MAPS)]
    for left in lefts:
        _draw_map(axes, left, y - MAP, head.maps.shape)
    _dots(axes, MARGIN + width - 0.16, y - MAP / 2)
    axes.text(right, y - MAP / 2, head.sizes[0], weight="bold", **text)
    y -= MAP
    above = [(left + MAP / 2, y - 0.03) for left in lefts]
    if head.pooled:
        row = [(x, y - STEP) for x, _ in above]
        joined = list(zip(above, row, strict=True))
    else:
        spread = MAP / VALUES_OF_MAP
        row = [
            (left + (i + 0.5) * spread, y - STEP) for left in lefts for i in range(VALUES_OF_MAP)
        ]
        joined = [(above[i // VALUES_OF_MAP], value) for i, value in enumerate(row)]
    radius = RADIUS if head.pooled else 0.6 * RADIUS
    axes.text(right, y - STEP / 2, head.steps[0], **text)
    _lines(axes, joined, radius, color, 1.2)
    for layer, size, step in zip(head.layers, head.sizes[1:], head.steps[1:], strict=False):
        y -= STEP
        _units(axes, row, radius, color)
        _dots(axes, MARGIN + width - 0.16, y)
        axes.text(right, y, size, weight="bold", **text)
        count = min(UNITS if layer is not head.layers[-1] else UNITS - 2, layer.shape[0])
        inner = width - 0.3
        below = [(MARGIN + (i + 0.5) * inner / count, y - STEP) for i in range(count)]
        _lines(axes, [(a, b) for a in row for b in below], RADIUS, COLORS[2], 0.5)
        axes.text(right, y - STEP / 2, step, **text)
        row, radius, color = below, RADIUS, COLORS[2]
    y -= STEP
    _units(axes, row, radius, color)
    if head.layers[-1].shape[0] > len(row):
        _dots(axes, MARGIN + width - 0.16, y)
    axes.text(right, y, head.sizes[-1], weight="bold", **text)


def _draw_map(axes: Axes, x: float, y: float, shape: tuple[int, ...]) -> None:
    rows, columns = (min(side, CELLS) for side in shape[1:])
    axes.add_patch(Rectangle((x, y), MAP, MAP, fc=COLORS[0], ec="none", alpha=0.3))
    lines = [[(x + MAP * i / columns, y), (x + MAP * i / columns, y + MAP)] for i in range(columns)]
    lines += [[(x, y + MAP * i / rows), (x + MAP, y + MAP * i / rows)] for i in range(rows)]
    axes.add_collection(LineCollection(lines, colors=COLORS[0], linewidths=0.5))
    axes.add_patch(Rectangle((x, y), MAP, MAP, fc="none", ec=COLORS[0], lw=1.1))


def _dots(axes: Axes, x: float, y: float) -> None:
    axes.text(x, y, "…", ha="left", va="center_baseline", size=12)


def _units(axes: Axes, row: Sequence[Point], radius: float, color: str) -> None:
    for center in row:
        axes.add_patch(Circle(center, radius, fc=color, ec=INK, lw=0.6, zorder=3))


def _lines(
    axes: Axes, pairs: Sequence[tuple[Point, Point]], radius: float, color: str, lw: float
) -> None:
    ends = [[a, (b[0], b[1] + radius)] for a, b in pairs]
    axes.add_collection(LineCollection(ends, colors=color, linewidths=lw, zorder=1))


def _describe(found: Sequence[_Head]) -> str:
    parts = []
    for head in found:
        steps = [t for pair in zip(head.sizes, head.steps, strict=False) for t in pair]
        parts.append(f"{head.title}: {', '.join([*steps, head.sizes[-1]])}; {head.total} in all.")
    return f"From feature maps to scores. {' '.join(parts)}"
