"""A network as overlapping sheets, one for each feature map."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Polygon, Rectangle
from torch import Tensor

from cnnbook._checks import check_dense
from cnnbook._errors import check_kind, unknown
from cnnbook.analysis import Activations
from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import (
    _is_map,
    _range,
    _stretched,
    _text_width,
    check_number_of_input,
)
from cnnbook.plots.style import COLORS, INK, WIDTH, new_figure

# In points: between layers, width of a vector and of the room on its sides, size of letters,
# and what is above and below the sheets.
GAP, COLUMN, ROOM, LETTER, ABOVE, BELOW = 15.0, 9.0, 8.5, 9.0, 30.0, 30.0
# Of a sheet's side: the shift from one to the next, and that of all of them together, at most.
SHIFT, REACH = 0.21, 2.2


def sheets(
    seen: Activations,
    image: Tensor | None = None,
    *,
    titles: Mapping[str, str] | None = None,
    steps: Mapping[str, str] | None = None,
    windows: Mapping[str, int] | None = None,
    classes: Sequence[str] = (),
    index: int = 0,
    alt: str | None = None,
) -> Figure:
    """Draw what every layer makes of an image, in the way of LeCun et al. 1998 (Figure 2).

    Parameters
    ----------
    seen
        Result of :func:`cnnbook.analysis.activations`. Outputs ``(N, C, H, W)`` become C
        overlapping sheets, all at one scale of pixels; vectors become columns of one height.
    image
        The picture to show in gray as the input, ``(C, H, W)``. If not given, the network's input.
    titles
        Layer name, or ``"input"``, to what stands above it; its name if not given.
    steps
        Layer name to what stands below the gap before it: how it is computed.
    windows
        Layer name to the side, in positions, of what one of its units reads of the block before it.
        It is marked, with lines to the unit.
    classes
        Names to write beside the units of the last layer, if that is a vector.
    index
        Which of the N inputs.
    alt
        Text alternative; lists the layers with their shapes if not given.

    Returns
    -------
    Figure
        Each layer has its own color scale. The last feature map lies in front.

    Raises
    ------
    ValueError
        If there is no such layer, or there are not as many classes as units of the last layer.
    TypeError
        If `seen` is something else, or `image` not a tensor.

    Examples
    --------
    >>> from cnnbook import analysis, data, models
    >>> boots = data.load("fashion-mini", size=32)[1].images / 255
    >>> seen = analysis.activations(models.lenet5(), boots[:1], ["c1", "f6"])
    >>> sheets(seen, windows={"c1": 5})
    <Figure: Layers as overlapping feature maps. input: 1×32×32, c1: 6×28×28, f6: 84.>
    """
    check_kind("seen", seen, Activations, "a result of cnnbook.analysis.activations")
    check_number_of_input(index)
    check_kind("classes", classes, Collection, "a list of names")
    named = {"titles": titles, "steps": steps, "windows": windows}
    for name, given in named.items():
        check_kind(name, given, Mapping | None, "a mapping from layer names")
    if image is not None:
        check_dense("image", image)
    titles, steps, windows = titles or {}, steps or {}, windows or {}
    for name in [*titles, *steps, *windows]:
        if name not in seen and name != "input":
            raise unknown("layer", name, seen)
    shown = _stretched(seen.images[index]) if image is None else image.detach().cpu().float()
    blocks = {"input": shown.mean(0, keepdim=True)}
    for name, found in seen.channels_first().items():
        block = found[index].cpu().float()
        blocks[name] = block if _is_map(block) else block.flatten()
    *_, last = blocks
    if classes and blocks[last].shape != (len(classes),):
        shape = "×".join(map(str, blocks[last].shape))
        raise ValueError(f"{len(classes)} classes do not fit the last layer, {last!r}: {shape}")

    spans = {name: _span(block) for name, block in blocks.items() if block.ndim == 3}
    names = 0.55 * LETTER * max(map(len, classes), default=0)
    columns = (len(blocks) - len(spans)) * (COLUMN + 2 * ROOM)
    free = 72 * WIDTH - 8 - names - GAP * (len(blocks) - 1) - columns
    # A title may be wider than its sheets, and reaches half way into the gaps.
    lines = {name: titles.get(name, name).split("\n") for name in spans}
    letters = {name: max(map(_text_width, lines[name])) - GAP / 2 for name in spans}
    pixel = free / sum(spans.values())  # in points
    for _ in range(50):
        pixel *= free / sum(max(pixel * span, letters[name]) for name, span in spans.items())
    tall = max(pixel * max(spans.values()), 1.25 * LETTER * len(classes))
    left = 4.0
    with new_figure(WIDTH, (tall + ABOVE + BELOW) / 72) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        front = Rectangle((0, 0), 0, 0)  # of the block before
        for name, block in blocks.items():
            if name in steps:
                axes.text(left - GAP / 2, tall + 6, steps[name], ha="center", va="top", size=LETTER)
            behind = front
            if name in spans:
                span = pixel * spans[name]
                wide = max(span, letters[name])
                corner = left + (wide - span) / 2, (tall - span) / 2
                front = _draw_sheets(axes, block, corner, pixel)
            else:
                left, wide = left + ROOM, COLUMN
                front = _draw_column(axes, block, left, tall)
            if name in windows:
                _draw_window(axes, behind, pixel * windows[name], front)
            middle = left + wide / 2
            title = titles.get(name, name)
            axes.text(middle, -6, title, ha="center", va="bottom", size=LETTER)
            left += wide + GAP + (0 if name in spans else ROOM)
        _write_classes(axes, classes, front)
        axes.set(xlim=(0, 72 * WIDTH), ylim=(tall + BELOW, -ABOVE))
        axes.set_axis_off()
    listed = ", ".join(f"{name}: {'×'.join(map(str, b.shape))}" for name, b in blocks.items())
    return Figure(figure, alt or f"Layers as overlapping feature maps. {listed}.")


def _shift(block: Tensor) -> float:
    """Return the distance from one sheet to the next, in pixels."""
    return max(block.shape[1:]) * min(SHIFT, REACH / max(1, len(block) - 1))


def _span(block: Tensor) -> float:
    """Return the side of the square that overlapping sheets take, in pixels."""
    return max(block.shape[1:]) + _shift(block) * (len(block) - 1)


def _draw_sheets(axes: Axes, block: Tensor, corner: tuple[float, float], pixel: float) -> Rectangle:
    """Draw feature maps from the back, upper left, to the front; return the front one's frame."""
    colors, low, high = _range(block)
    height, width = (pixel * side for side in block.shape[1:])
    for number, sheet in enumerate(block.numpy()):
        x, y = (at + number * pixel * _shift(block) for at in corner)
        frame = Rectangle((x, y), width, height, fc="none", ec=INK, lw=0.4, zorder=2 + number)
        extent = (x, x + width, y + height, y)
        order = frame.get_zorder()
        axes.imshow(sheet, cmap=colors, vmin=low, vmax=high, extent=extent, zorder=order)
        axes.add_patch(frame)
    return frame


def _draw_column(axes: Axes, vector: Tensor, left: float, tall: float) -> Rectangle:
    colors, low, high = _range(vector)
    frame = Rectangle((left, 0), COLUMN, tall, fc="none", ec=INK, lw=0.4)
    extent = (left, left + COLUMN, tall, 0)
    axes.imshow(vector[:, None].numpy(), cmap=colors, vmin=low, vmax=high, extent=extent)
    axes.add_patch(frame)
    return frame


def _draw_window(axes: Axes, behind: Rectangle, side: float, front: Rectangle) -> None:
    """Mark what a unit reads, in the lower right of a sheet, with lines to the unit."""
    side = min(side, behind.get_width())
    x = behind.get_x() + 0.75 * (behind.get_width() - side)
    y = behind.get_y() + 0.75 * (behind.get_height() - side)
    unit = (front.get_x() + 0.25 * front.get_width(), front.get_y() + 0.75 * front.get_height())
    style: dict[str, Any] = {"ec": COLORS[2], "lw": 1.0, "zorder": 99}
    axes.add_patch(Rectangle((x, y), side, side, fc="none", **style))
    axes.add_patch(Polygon([(x + side, y), unit, (x + side, y + side)], fc="none", **style))


def _write_classes(axes: Axes, classes: Sequence[str], column: Rectangle) -> None:
    for number, name in enumerate(classes):
        y = column.get_y() + (number + 0.5) / len(classes) * column.get_height()
        x = column.get_x() + column.get_width() + 4
        axes.text(x, y, name, va="center", size=LETTER)
