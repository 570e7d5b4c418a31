"""Explorers of one convolution: how it is computed, and what a kernel does to a photograph."""

import functools
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from matplotlib.patches import Rectangle
from torch import Tensor

from cnnbook.data import photo
from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import _framed
from cnnbook.plots.style import CHART, COLORS, SIGNED, new_figure
from cnnbook.widgets.explore import explore, preferred

if TYPE_CHECKING:
    from cnnbook.widgets.linked import Explorer

# Kernels of image processing. Those that sum to 1 keep the brightness; those that sum to 0 respond
# only to differences.
KERNELS: dict[str, Sequence[Sequence[float]]] = {
    "nothing": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "blur (mean)": [[1 / 9] * 3] * 3,
    "blur (Gaussian)": [
        [1 / 16, 2 / 16, 1 / 16],
        [2 / 16, 4 / 16, 2 / 16],
        [1 / 16, 2 / 16, 1 / 16],
    ],
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "vertical edges": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "horizontal edges": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "all edges": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "relief": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
}


def gray(picture: Tensor) -> Tensor:
    """Return a picture, uint8 or float in 0…1, ``(1 or 3, H, W)``, as brightness ``(H, W)``.

    Raises
    ------
    ValueError
        If the shape is different.
    """
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"the picture must be (1 or 3, H, W), got {tuple(picture.shape)}")
    picture = picture.detach().cpu().float() / (255 if picture.dtype == torch.uint8 else 1)
    if len(picture) == 1:
        return picture[0]
    # ITU-R BT.601
    return 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]


def convolution(
    picture: Tensor | None = None,
    kernel: Sequence[Sequence[float]] = KERNELS["vertical edges"],
    *,
    strides: Sequence[int] = (1, 2),
    paddings: Sequence[int] = (0, 1),
    dilations: Sequence[int] = (1, 2),
) -> "Explorer":
    """Slide a kernel over a few pixels, step by step, with every product and the sum.

    Parameters
    ----------
    picture
        Pixels, uint8 or float in 0…1, ``(1 or 3, H, W)`` with H and W of 3 to 8. By default 5×5
        pixels: a cat's eye, reduced in size.
    kernel
        Square kernel, ``(k, k)``.
    strides, paddings, dilations
        Values to choose from.

    Returns
    -------
    Explorer
        Chooses stride, padding, dilation and the step. Brightness is stretched and rounded to 0…9,
        so that the sum can be checked by mental arithmetic. If a setting has fewer steps than the
        longest one, its last step remains.

    Raises
    ------
    ValueError
        If the picture has a different shape, or the kernel does not fit.

    Examples
    --------
    >>> import torch
    >>> corner = torch.zeros(1, 4, 4)
    >>> corner[0, 2:, 2:] = 1
    >>> convolution(corner, strides=(1,), paddings=(0,), dilations=(1,))
    <Explorer of 4 states (stride: 1, padding: 1, dilation: 1, step: 4)>
    """
    if picture is None:
        picture = photo("cat", 16)[:, 4:9, 2:7]
    pixels = gray(picture)
    pixels = (9 * (pixels - pixels.min()) / (pixels.max() - pixels.min()).clamp(min=1e-6)).round()
    weights = torch.as_tensor(kernel, dtype=torch.float32)
    if not 3 <= min(pixels.shape) <= max(pixels.shape) <= 8:
        raise ValueError(f"the picture must have 3 to 8 rows and columns, got {pixels.shape}")
    if weights.ndim != 2 or weights.shape[0] != weights.shape[1]:
        raise ValueError(f"the kernel must be (k, k), got {tuple(weights.shape)}")

    outputs = {}
    for stride in strides:
        for padding in paddings:
            for dilation in dilations:
                reach = dilation * (len(weights) - 1) + 1
                if reach > min(pixels.shape) + 2 * padding:
                    raise ValueError(
                        f"a {len(weights)}×{len(weights)} kernel with dilation {dilation} spans "
                        f"{reach} pixels: more than {tuple(pixels.shape)} with padding {padding}"
                    )
                outputs[stride, padding, dilation] = F.conv2d(
                    pixels[None, None], weights[None, None], None, stride, padding, dilation
                )[0, 0]
    steps = max(output.numel() for output in outputs.values())

    @functools.cache
    def draw_step(stride: int, padding: int, dilation: int, step: int):
        output = outputs[stride, padding, dilation]
        return _step(pixels, weights, output, stride, padding, dilation, step)

    def draw(stride: int, padding: int, dilation: int, step: int):
        return draw_step(
            stride, padding, dilation, min(step, outputs[stride, padding, dilation].numel())
        )

    return explore(
        draw, stride=strides, padding=paddings, dilation=dilations, step=range(1, steps + 1)
    )


def _step(
    pixels: Tensor,
    weights: Tensor,
    output: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    step: int,
) -> tuple[Figure, str]:
    k, (rows, columns) = len(weights), output.shape
    row, column = divmod(step - 1, columns)
    padded = F.pad(pixels, [padding] * 4)
    taps = [
        range(start, start + k * dilation, dilation) for start in (row * stride, column * stride)
    ]
    seen = torch.stack([torch.stack([padded[y, x] for x in taps[1]]) for y in taps[0]])
    value = output[row, column].item()

    with new_figure(CHART, 2.6) as figure:
        # Placed by hand: matplotlib's layout would take longer than drawing.
        figure.set_layout_engine("none")
        cells, gap = (padded.shape[1], k, columns), 0.12  # inches
        slots = [max(2, n) for n in cells]  # room for a title
        side = (CHART - 4 * gap) / sum(slots)
        bottom, height = 0.05 / 2.6, 1 - 0.31 / 2.6  # titles above
        boxes, x = [], gap
        for n, slot in zip(cells, slots, strict=True):
            boxes.append(((x + side * (slot - n) / 2) / CHART, bottom, side * n / CHART, height))
            x += side * slot + gap
        left, middle, right = map(figure.add_axes, boxes)
        left.imshow(padded.numpy(), cmap="gray", vmin=0, vmax=9)
        if padding:
            height, width = pixels.shape
            border = (padding - 0.5, padding - 0.5)
            left.add_patch(Rectangle(border, width, height, fill=False, ec=COLORS[5], lw=1.5))
        for y in taps[0]:
            for x in taps[1]:
                _number(left, y, x, padded[y, x].item(), dark=padded[y, x] < 5)
                _frame_cell(left, y, x)
        left.set_title(f"pixels, {padding} of padding" if padding else "pixels")

        limit = weights.abs().max().item() or 1.0
        _weights(middle, weights, limit)

        done = output.flatten().clone()
        done[step:] = torch.nan
        largest = output.abs().max().item() or 1.0
        right.imshow(done.view_as(output).numpy(), cmap=SIGNED, vmin=-largest, vmax=largest)
        for i in range(step):
            y, x = divmod(i, columns)
            _number(right, y, x, output[y, x].item(), dark=output[y, x].abs() > 0.6 * largest)
        _frame_cell(right, row, column)
        right.set_title(f"output, {rows}×{columns}")
        for axes, size in ((left, padded.shape), (right, output.shape)):
            axes.set(xlim=(-0.6, size[1] - 0.4), ylim=(size[0] - 0.4, -0.6))
            _framed(axes)
    products = " ".join(
        f"{'−' if w < 0 else '+'} {p:.0f}·{abs(w):.2g}"
        for p, w in zip(seen.flatten().tolist(), weights.flatten().tolist(), strict=True)
        if w
    ).removeprefix("+ ")
    count, shown = output.numel(), f"{value:.3g}".replace("-", "−")
    alt = (
        f"Convolution with stride {stride}, padding {padding}, dilation {dilation}: step {step} of "
        f"{count}, output row {row + 1}, column {column + 1}, value {value:.3g}."
    )
    return Figure(figure, alt), f"Step {step} of {count}: {products} = {shown}"


def _number(axes, y: int, x: int, value: float, *, dark: bool) -> None:
    # Ninths and sixteenths in blurring kernels are not round decimals.
    fraction = Fraction(value).limit_denominator(16)
    near = abs(fraction - Fraction(value)) < 1e-6
    text = str(fraction) if near else f"{value:.2g}"
    axes.text(
        x,
        y,
        text.replace("-", "−"),
        ha="center",
        va="center",
        size=9.5,
        color="white" if dark else "black",
    )


def _frame_cell(axes, y: int, x: int) -> None:
    axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, ec=COLORS[1], lw=2.2))


def _weights(axes, weights: Tensor, limit: float) -> None:
    """Show a kernel, with its numbers if there is room."""
    axes.imshow(weights.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit)
    if len(weights) <= 5:
        for y, line in enumerate(weights.tolist()):
            for x, weight in enumerate(line):
                _number(axes, y, x, weight, dark=abs(weight) > 0.6 * limit)
    axes.set_title("kernel")
    _framed(axes)


def filters(
    picture: Tensor | None = None,
    kernels: Mapping[str, Sequence[Sequence[float]]] = KERNELS,
    *,
    times: Sequence[int] = (1, 2, 4),
) -> "Explorer":
    """Try kernels on a photograph, once and repeatedly.

    Parameters
    ----------
    picture
        uint8 or float in 0…1, ``(1 or 3, H, W)``; a cat of 112×112 pixels by default.
    kernels
        Name to square kernel, ``(k, k)`` with odd k.
    times
        How many times the kernel is applied, each time to the previous output.

    Returns
    -------
    Explorer
        Chooses filter and times; shows the original brightness, the kernel, and the result. Beyond
        the border, the picture is padded with its border pixels.

    Raises
    ------
    ValueError
        If the picture or a kernel has a different shape.

    Examples
    --------
    >>> from cnnbook import data
    >>> blur = [[1 / 9] * 3] * 3
    >>> filters(data.photo("cat", size=32), {"blur": blur}, times=(1, 4))
    <Explorer of 2 states (filter: 1, times: 2)>
    """
    before = gray(photo("cat", 112) if picture is None else picture)
    tensors = {}
    for name, kernel in kernels.items():
        weights = torch.as_tensor(kernel, dtype=torch.float32)
        if weights.ndim != 2 or weights.shape[0] != weights.shape[1] or len(weights) % 2 == 0:
            raise ValueError(f"kernel {name!r} must be (k, k) with odd k, got {weights.shape}")
        tensors[name] = weights

    def draw(filter: str, times: int):
        weights, x = tensors[filter], before[None, None]
        for _ in range(times):
            x = F.conv2d(F.pad(x, [len(weights) // 2] * 4, mode="replicate"), weights[None, None])
        return _filtered(before, weights, x[0, 0], filter, times)

    choices = {"filter": list(tensors), "times": times}
    return explore(draw, first=preferred(choices, filter="vertical edges"), **choices)


def _filtered(before: Tensor, weights: Tensor, after: Tensor, name: str, times: int) -> Figure:
    # A kernel that sums to 0 responds to differences; they are shown about a middle gray.
    signed = abs(weights.sum().item()) < 1e-6
    limit = after.abs().max().item() or 1.0
    with new_figure(CHART, 2.75) as figure:
        left, middle, right = figure.subplots(1, 3, width_ratios=[3, 1.7, 3])
        left.imshow(before.numpy(), cmap="gray", vmin=0, vmax=1)
        left.set_title("before")
        largest = weights.abs().max().item() or 1.0
        _weights(middle, weights, largest)
        if signed:
            right.imshow(after.numpy(), cmap="gray", vmin=-limit, vmax=limit)
        else:
            right.imshow(after.clamp(0, 1).numpy(), cmap="gray", vmin=0, vmax=1)
        right.set_title("after" + (" (gray is 0)" if signed else ""))
        for axes in (left, right):
            _framed(axes)
    often = "once" if times == 1 else f"{times} times"
    return Figure(figure, f"A photograph before and after the filter {name}, applied {often}.")
