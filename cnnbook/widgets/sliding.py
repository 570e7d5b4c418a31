"""An explorer of one convolution: a kernel slides over an image, and every product is shown."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from matplotlib.collections import PathCollection
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath
from torch import Tensor

from cnnbook._errors import check_kind
from cnnbook.data import load
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import CHART, COLORS, INK, SIGNED, new_figure
from cnnbook.widgets.explore import explored
from cnnbook.widgets.filters import gray, in_words
from cnnbook.widgets.own import own_picture

if TYPE_CHECKING:
    from cnnbook.widgets.linked import Explorer

# With weights small enough for mental arithmetic.
BY_HAND: dict[str, Sequence[Sequence[float]]] = {
    "vertical edges": [[-1, 0, 1]] * 3,
    "horizontal edges": [[-1] * 3, [0] * 3, [1] * 3],
    "blur": [[1 / 9] * 3] * 3,
}
# Of the boot that is shown by default: the front of its shaft.
SHAFT, ON_AN_EDGE = (7, 10, 6), 10


def convolution(
    picture: Tensor | None = None,
    kernels: Mapping[str, Sequence[Sequence[float]]] = BY_HAND,
    *,
    window: tuple[int, int, int] | None = None,
    strides: Sequence[int] = (1, 2),
    paddings: Sequence[int] = (0, 1),
    dilations: Sequence[int] = (1,),
) -> "Explorer":
    """Slide a kernel over a few pixels, position by position, with every product and the sum.

    Parameters
    ----------
    picture
        Pixels, uint8 or float in 0…1, ``(1 or 3, H, W)``. By default an ankle boot of
        Fashion-MNIST's training images, 28×28 pixels.
    kernels
        Name to square kernel, ``(k, k)`` with k of 1 to 5.
    window
        Top row, left column and side of the square of 3 to 8 pixels that the kernel slides over. By
        default the whole picture if it is that small, and otherwise its center; of the boot, the
        front of its shaft.
    strides, paddings, dilations
        Values to choose from. Where there is only one, nothing is to be chosen.

    Returns
    -------
    Explorer
        Chooses kernel, stride, padding, dilation, and the position, counted row by row. Brightness
        is stretched over the picture and rounded to 0…9, so that the sum can be checked by mental
        arithmetic. On the left are the whole picture, and its feature map under the same kernel. A
        setting with fewer positions than another stays at its last one. On a page of the book, one
        can put in a picture of one's own, which is shrunk to the same size.

    Raises
    ------
    ValueError
        If the picture, the window or a kernel has a different shape, or a kernel does not fit.

    Examples
    --------
    >>> import torch
    >>> corner = torch.zeros(1, 4, 4)
    >>> corner[0, 2:, 2:] = 1
    >>> convolution(corner, {"sum of four": [[1, 1], [1, 1]]}, strides=(1,), paddings=(0,))
    <Explorer of 9 states (position: 9)>
    """
    check_kind("kernels", kernels, Mapping, "a mapping from names to square kernels")
    start = 1
    if picture is None:
        train, _ = load("fashion-mini")
        picture = train.images[train.labels == train.classes.index("Ankle boot")][1]
        window, start = window or SHAFT, ON_AN_EDGE
    whole = gray(picture)
    whole = (9 * (whole - whole.min()) / (whole.max() - whole.min()).clamp(min=1e-6)).round()
    window = _checked(window, whole)
    tensors = {name: _kernel(name, given) for name, given in kernels.items()}

    # Everything that can be chosen, with its values, and the output of each combination.
    settings = {"stride": strides, "padding": paddings, "dilation": dilations}
    slides = {
        chosen: _Slide(whole, window, tensors[chosen[0]], *chosen[1:])
        for chosen in product(tensors, *settings.values())
    }
    most = max(slide.output.numel() for slide in slides.values())

    @functools.cache
    def draw_position(chosen: tuple, position: int):
        return slides[chosen].draw(position)

    def draw(position: int, **given):
        chosen = tuple(
            given.get(name, values[0])
            for name, values in {"kernel": list(tensors), **settings}.items()
        )
        return draw_position(chosen, min(position, slides[chosen].output.numel()))

    choices: dict[str, object] = {"kernel": list(tensors)} | {
        # As buttons, which numbers get by their labels.
        name: {str(value): value for value in values}
        for name, values in settings.items()
    }
    several = {name: values for name, values in choices.items() if len(values) > 1}
    first = {"position": min(start, most)}
    only = {name: str(next(iter(values))) for name, values in choices.items()}
    weights = {name: kernel.tolist() for name, kernel in tensors.items()}
    own = own_picture("convolution", whole.shape, weights, side=window[2], only=only)
    return explored(draw, first, several | {"position": range(1, most + 1)}, own)


def _checked(window: tuple[int, int, int] | None, whole: Tensor) -> tuple[int, int, int]:
    height, width = whole.shape
    if window is None:
        side = height if height == width <= 8 else min(6, height, width)
        window = ((height - side) // 2, (width - side) // 2, side)
    top, left, side = window
    if not 3 <= side <= 8:
        raise ValueError(f"the window must have a side of 3 to 8 pixels, got {side}")
    if min(top, left) < 0 or top + side > height or left + side > width:
        raise ValueError(f"the window {window} leaves the picture of {height}×{width} pixels")
    return window


def _kernel(name: str, given: Sequence[Sequence[float]]) -> Tensor:
    weights = torch.as_tensor(given, dtype=torch.float32)
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or len(weights) > 5:
        raise ValueError(
            f"kernel {name!r} must be (k, k) with k of 1 to 5, got {tuple(weights.shape)}"
        )
    return weights


# The figure, in inches. Left: the picture, and below it its feature map. Beside them the pixels and
# the output, and below these the products of one position.
HEIGHT, EDGE, TITLE = 4.15, 0.06, 0.3
SMALL, LARGE, CELL, GAP = 1.44, 2.02, 0.32, 0.25
# On a phone the figure is shrunk to six tenths.
LETTERS, SMALL_LETTERS = 13, 10


@dataclass(frozen=True)
class _Slide:
    """A kernel that slides over a window of a picture in one setting."""

    whole: Tensor
    window: tuple[int, int, int]
    weights: Tensor
    stride: int
    padding: int
    dilation: int

    def __post_init__(self) -> None:
        k, side = len(self.weights), self.window[2]
        reach = self.dilation * (k - 1) + 1
        if reach > side + 2 * self.padding:
            raise ValueError(
                f"a {k}×{k} kernel with dilation {self.dilation} spans {reach} pixels: more than "
                f"{side} with padding {self.padding}"
            )

    def convolved(self, x: Tensor) -> Tensor:
        options = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        return F.conv2d(x[None, None], self.weights[None, None], **options)[0, 0]

    @functools.cached_property
    def pixels(self) -> Tensor:
        top, left, side = self.window
        return F.pad(self.whole[top : top + side, left : left + side], [self.padding] * 4)

    @functools.cached_property
    def output(self) -> Tensor:
        top, left, side = self.window
        return self.convolved(self.whole[top : top + side, left : left + side])

    @functools.cached_property
    def feature_map(self) -> Tensor:
        return self.convolved(self.whole)

    def taps(self, row: int, column: int) -> tuple[range, range]:
        """Return the rows and columns of the padded pixels that the kernel covers."""
        y, x, reach = row * self.stride, column * self.stride, len(self.weights) * self.dilation
        return range(y, y + reach, self.dilation), range(x, x + reach, self.dilation)

    def draw(self, position: int) -> tuple[Figure, str]:
        """Return the picture of one position, from 1, and the sum of its products in words."""
        top, left, side = self.window
        row, column = divmod(position - 1, self.output.shape[1])
        taps = self.taps(row, column)
        seen = self.pixels[list(taps[0])][:, list(taps[1])]
        value = self.output[row, column].item()
        # A kernel that sums to 0 responds to differences, with either sign.
        signed = self.weights.sum().item() < 1e-6
        done = self.output.flatten().clone()
        done[position:] = torch.nan

        with new_figure(CHART, HEIGHT) as figure:
            figure.set_layout_engine("none")
            # What stays when the kernel slides is drawn on a sheet of its own, stored once.
            fixed, moving = _Sheet(figure), _Sheet(figure)
            upper, right = HEIGHT - TITLE, CHART - EDGE
            beside = right - 2 * LARGE - 0.14
            image = fixed.grid(self.whole, EDGE, upper, SMALL, "image", 9)
            fixed.frame(image, top, left, side, COLORS[2])
            at = EDGE, EDGE + SMALL, SMALL, "feature map"
            white = 9 * self.weights.sum().item()
            fixed.grid(self.feature_map, *at, None if signed else white, signed=signed)
            title = (
                f"{side}×{side}, padding {self.padding}"
                if self.padding
                else f"{side}×{side} pixels"
            )
            under = fixed.grid(self.pixels, beside, upper, LARGE, title, 9, numbers=True)
            if self.padding:
                fixed.frame(under, self.padding, self.padding, side, COLORS[2])

            width, y = CELL * min(3, len(self.weights)), upper - LARGE - 0.52
            x = [beside + i * (CELL * 3 + GAP) for i in range(4)]
            for sign, after in zip("×==", x, strict=False):
                fixed.say(sign, after + width + GAP / 2, y - width / 2, size=14)
            total = (x[3] + right) / 2
            fixed.say("sum", total, y + 0.06, va="bottom", size=LETTERS)
            products = seen * self.weights
            moving.grid(seen, x[0], y, width, "pixels", 9, numbers=True)
            # Half the scale, so that colors stay pale behind the numbers.
            for name, of, values in (("kernel", 1, self.weights), ("products", 2, products)):
                sheet, most = (fixed if of == 1 else moving), 2 * values.abs().max().item()
                sheet.grid(values, x[of], y, width, name, most, signed=True, numbers=True)
            moving.say(in_words(value), total, y - width / 2, size=14, weight="bold")
            limit = self.output.abs().max().item() if signed else white
            at = right - LARGE, upper, LARGE, "output {}×{}", limit
            result = moving.grid(done.view_as(self.output), *at, signed=signed, numbers=True)

            # What is covered, and what becomes of it, in one color.
            apart = self.dilation > 1
            for tap in product(*taps) if apart else [(taps[0][0], taps[1][0])]:
                moving.frame(under, *tap, 1 if apart else len(self.weights), COLORS[1])
            moving.frame(result, row, column, 1, COLORS[1])
        terms = " ".join(
            f"{'−' if w < 0 else '+'} {p:.0f}·{in_words(abs(w))}"
            for p, w in zip(seen.flatten().tolist(), self.weights.flatten().tolist(), strict=True)
            if w
        ).removeprefix("+ ")
        count = self.output.numel()
        alt = (
            f"Convolution with stride {self.stride}, padding {self.padding}, dilation "
            f"{self.dilation}: position {position} of {count}, output row {row + 1}, column "
            f"{column + 1}, value {value:.3g}."
        )
        words = f"Position {position} of {count}: {terms} = {in_words(value)}"
        return Figure(figure, alt), words


@functools.cache
def _outline(text: str, size: int) -> Path:
    """Return the outline of a text of a size in points, in inches, about its center."""
    path = TextPath((0, 0), text, size=size)
    (left, bottom), (right, top) = path.get_extents().get_points()
    return Path((path.vertices - ((left + right) / 2, (bottom + top) / 2)) / 72, path.codes)


class _Sheet:
    """One pair of axes for the whole figure, in inches from its lower left corner.

    An explorer draws hundreds of figures, and what takes matplotlib longest are axes and texts. So
    panels share a pair of axes, and equal numbers are one collection of letters' outlines.
    """

    def __init__(self, figure, height: float = HEIGHT):
        figure.suppressComposite = True  # or all images would become one
        self.axes = figure.add_axes((0, 0, 1, 1), xlim=(0, CHART), ylim=(0, height))
        self.axes.set_axis_off()

    def say(self, text: str, x: float, y: float, *, va: str = "center", **style) -> None:
        self.axes.text(x, y, text, ha="center", va=va, **style)

    def grid(
        self,
        values: Tensor,
        x: float,
        y: float,
        width: float,
        title: str,
        limit: float | None = None,
        *,
        signed: bool = False,
        numbers: bool = False,
    ) -> tuple[float, float, float]:
        """Draw values as cells below a title, and return left, upper edge and side of a cell.

        Of values ``(H, W)``, NaN is left blank. Colors go from black to white, or, `signed`, from
        purple over white to orange; `limit` is where they end.
        """
        rows, columns = values.shape
        cell = width / max(rows, columns)
        limit = limit or values.abs().max().item() or 1.0
        extent = (x, x + columns * cell, y - rows * cell, y)
        colors = {"cmap": SIGNED, "vmin": -limit} if signed else {"cmap": "gray", "vmin": 0}
        self.axes.imshow(values.numpy(), extent=extent, aspect="auto", vmax=limit, **colors)
        self.axes.add_patch(Rectangle((x, y - width), width, width, fill=False, ec=INK, lw=0.8))
        self.say(title.format(rows, columns), x + width / 2, y + 0.06, va="bottom", size=LETTERS)
        if numbers:
            self._write(values, signed, limit, (x, y, cell))
        return x, y, cell

    def _write(
        self, values: Tensor, signed: bool, limit: float, grid: tuple[float, float, float]
    ) -> None:
        x, y, cell = grid
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for i, line in enumerate(values.tolist()):
            for j, value in enumerate(line):
                if value == value:
                    dark = abs(value) > 0.6 * limit if signed else value < 0.5 * limit
                    key = in_words(value), "white" if dark else "black"
                    at = x + (j + 0.5) * cell, y - (i + 0.5) * cell
                    found.setdefault(key, []).append(at)
        for (text, color), at in found.items():
            letters = PathCollection(
                [_outline(text, LETTERS if len(text) * 8.5 < 68 * cell else SMALL_LETTERS)],
                offsets=at,
                offset_transform=self.axes.transData,
                transform=self.axes.figure.dpi_scale_trans,
                facecolor=color,
                linewidth=0,
                zorder=3,
            )
            self.axes.add_collection(letters, autolim=False)

    def frame(
        self, grid: tuple[float, float, float], row: int, column: int, side: int, color: str
    ) -> None:
        """Frame a square of a grid's cells."""
        x, y, cell = grid
        corner, size = (x + column * cell, y - (row + side) * cell), side * cell
        self.axes.add_patch(Rectangle(corner, size, size, fill=False, ec=color, lw=2.4))
