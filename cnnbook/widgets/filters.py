"""An explorer of what a kernel does to a photograph."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbook._checks import check_dense
from cnnbook._errors import check_kind
from cnnbook.data import photo
from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import _framed
from cnnbook.plots.style import CHART, ON_LIGHT, SIGNED, new_figure
from cnnbook.widgets.explore import explored, preferred
from cnnbook.widgets.own import own_picture

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
    TypeError
        If it is not a tensor.
    """
    check_dense("picture", picture)
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"the picture must be (1 or 3, H, W), got {tuple(picture.shape)}")
    picture = picture.detach().cpu().float() / (255 if picture.dtype == torch.uint8 else 1)
    if len(picture) == 1:
        return picture[0]
    # ITU-R BT.601
    return 0.299 * picture[0] + 0.587 * picture[1] + 0.114 * picture[2]


def in_words(value: float) -> str:
    """Return a number in few characters, a part of 1 as a fraction."""
    # The weights of blurring kernels, and products with them, are ninths or sixteenths.
    fraction = Fraction(value).limit_denominator(16)
    simple = abs(fraction - Fraction(value)) < 1e-5 and (abs(value) < 1 or fraction == int(value))
    return (str(fraction) if simple else f"{value:.2g}").replace("-", "−")


def _weights(axes, weights: Tensor, limit: float) -> None:
    """Show a kernel, with its numbers if there is room."""
    axes.imshow(weights.numpy(), cmap=SIGNED, vmin=-limit, vmax=limit)
    if len(weights) <= 5:
        for y, line in enumerate(weights.tolist()):
            for x, weight in enumerate(line):
                color = "white" if abs(weight) > 0.6 * limit else ON_LIGHT
                axes.text(x, y, in_words(weight), ha="center", va="center", size=9.5, color=color)
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
        the border, the picture is padded with its border pixels. On a page of the book, one can put
        in a picture of one's own, which is shrunk to the same size.

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
    check_kind("kernels", kernels, Mapping, "a mapping from names to square kernels")
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
    weights = {name: kernel.tolist() for name, kernel in tensors.items()}
    own = own_picture("filters", before.shape, weights, only={"times": str(times[0])})
    return explored(draw, preferred(choices, filter="vertical edges"), choices, own)


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
