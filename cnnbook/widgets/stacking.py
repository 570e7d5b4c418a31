"""An explorer of stacked kernels: one unit, and everything that it is computed from."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from matplotlib.collections import LineCollection
from torch import Tensor

from cnnbook._checks import check_count
from cnnbook._errors import check_kind
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import CHART, COLORS, INK, new_figure
from cnnbook.widgets.explore import explore, preferred
from cnnbook.widgets.sliding import LETTERS, _Sheet

if TYPE_CHECKING:
    from cnnbook.widgets.linked import Explorer

STACKS: dict[str, Sequence[int]] = {
    "one 5×5": (5,),
    "two 3×3": (3, 3),
    "one 7×7": (7,),
    "three 3×3": (3, 3, 3),
}
# In inches.
TITLE, BOTTOM, EDGE, GAP, LARGEST_CELL = 0.32, 0.3, 0.04, 0.45, 0.27


def stacking(stacks: Mapping[str, Sequence[int]] = STACKS, *, side: int = 8) -> "Explorer":
    """Follow one unit of a stack of convolutions back to the pixels that it is computed from.

    Parameters
    ----------
    stacks
        Name to the sides of the kernels, the first layer's first. Stride 1, no padding.
    side
        Height and width of the image, 3 to 12 pixels.

    Returns
    -------
    Explorer
        Chooses stack and unit of the output, counted row by row; a stack with fewer units than
        another stays at its last one. The number in a cell counts the paths from there to the
        unit: the derivative of the unit with respect to it, if all weights are 1.

    Raises
    ------
    ValueError
        If the image has a different size, or is too small for a stack.

    Examples
    --------
    >>> stacking({"one 5×5": (5,), "two 3×3": (3, 3)}, side=6)
    <Explorer of 8 states (kernels: 2, unit: 4)>
    """
    check_count("side", side)
    if not 3 <= side <= 12:
        raise ValueError(f"the image must have a side of 3 to 12 pixels, got {side}")
    needed = "a mapping from names to sides of kernels, such as {'two 3×3': (3, 3)}"
    check_kind("stacks", stacks, Mapping, needed)
    outputs: dict[str, int] = {}
    for name, kernels in stacks.items():
        outputs[name] = side - sum(k - 1 for k in kernels)
        if not kernels or min(kernels) < 1 or outputs[name] < 1:
            raise ValueError(
                f"stack {name!r} must have kernels that fit into {side}×{side} pixels, got "
                f"{tuple(kernels)}"
            )

    # One size for all, so that the pixels stay where they are when the stack is changed.
    cells = [
        sum(side - sum(k - 1 for k in kernels[:i]) for i in range(len(kernels) + 1))
        for kernels in stacks.values()
    ]
    gaps = [GAP * len(kernels) for kernels in stacks.values()]
    room = [(CHART - 2 * EDGE - gap) / n for gap, n in zip(gaps, cells, strict=True)]
    cell = min(LARGEST_CELL, *room)

    @functools.cache
    def draw_unit(kernels: str, unit: int):
        return _followed(kernels, stacks[kernels], side, unit, cell)

    def draw(kernels: str, unit: int):
        return draw_unit(kernels, min(unit, outputs[kernels] ** 2))

    choices = {"kernels": list(stacks), "unit": range(1, max(outputs.values()) ** 2 + 1)}
    return explore(draw, first=preferred(choices, kernels="two 3×3", unit=6), **choices)


def _paths(kernels: Sequence[int], side: int, unit: int) -> list[Tensor]:
    """Count the paths from every pixel, and from every unit of every layer, to one of the last."""
    out = side - sum(k - 1 for k in kernels)
    counts = [F.one_hot(torch.tensor(unit - 1), out * out).view(1, 1, out, out).float()]
    for k in reversed(kernels):
        counts.insert(0, F.conv_transpose2d(counts[0], torch.ones(1, 1, k, k)))
    return [count[0, 0] for count in counts]


def _followed(
    name: str, kernels: Sequence[int], side: int, unit: int, cell: float
) -> tuple[Figure, str]:
    paths = _paths(kernels, side, unit)
    seen = [int((count > 0).any(0).sum()) for count in paths]
    row, column = divmod(unit - 1, len(paths[-1]))
    cells = cell * sum(len(count) for count in paths)
    gap = (CHART - 2 * EDGE - cells) / len(kernels)
    height = TITLE + side * cell + BOTTOM
    middle, x = BOTTOM + side * cell / 2, EDGE

    with new_figure(CHART, height) as figure:
        figure.set_layout_engine("none")
        # The grids stay when the unit is changed.
        fixed, moving = _Sheet(figure, height), _Sheet(figure, height)
        before = None
        for number, count in enumerate(paths):
            n, y = len(count), middle + len(count) * cell / 2
            title = "{}×{} pixels" if number == 0 else "{}×{}"
            at = x, y, n * cell, title
            grid = fixed.grid(torch.full((n, n), torch.nan), *at)
            inner = [x + i * cell for i in range(1, n)], [y - i * cell for i in range(1, n)]
            lines = [[(a, y), (a, y - n * cell)] for a in inner[0]]
            lines += [[(x, a), (x + n * cell, a)] for a in inner[1]]
            fixed.axes.add_collection(LineCollection(lines, color=INK, lw=0.4, alpha=0.35))
            known = count.where(count > 0, torch.nan)
            # Half of the scale or less, so that colors stay pale behind the numbers.
            most = max(2 * count.max().item(), 4)
            moving.grid(known, x, y, n * cell, "", most, signed=True, numbers=True)
            moving.frame(grid, row, column, seen[number], COLORS[1])
            corner = x + column * cell, y - row * cell, seen[number] * cell
            if before is not None:
                left, top, size = before
                funnel = [
                    [(left + size, top), corner[:2]],
                    [(left + size, top - size), (corner[0], corner[1] - corner[2])],
                ]
                moving.axes.add_collection(LineCollection(funnel, color=COLORS[1], lw=1.2))
                k = kernels[number - 1]
                fixed.say(f"{k}×{k}", x - gap / 2, EDGE, va="bottom", size=LETTERS)
            before = corner
            x += n * cell + gap
    through = "".join(f" on {n}×{n} units and through them" for n in seen[-2:0:-1])
    total, most = int(paths[0].sum()), int(paths[0].max())
    words = (
        f"{name}: the unit in row {row + 1}, column {column + 1} depends{through} on "
        f"{seen[0]}×{seen[0]} pixels. {sum(k * k for k in kernels)} weights; {total:,} paths, "
        + ("one from every pixel." if most == 1 else f"{most} of them from the middle.")
    )
    return Figure(figure, f"Grids from pixels to output. {words}"), words
