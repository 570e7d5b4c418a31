"""A kernel and its approximation by two smaller ones."""

from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Rectangle
from torch import Tensor

from cnnbook._errors import check_kind
from cnnbook.analysis import KernelFactors
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import CHART, INK, SIGNED, new_figure

_GAP = 1.6  # between tiles, in cells


def kernel_factors(factors: KernelFactors, *, alt: str | None = None) -> Figure:
    """Show a kernel, its best approximation by two smaller ones, the difference, and the factors.

    Parameters
    ----------
    factors
        From :func:`cnnbook.analysis.factorize_kernel`, of a kernel with one input and one output
        channel, with up to four channels in between.
    alt
        Text alternative.

    Returns
    -------
    Figure
        The lower row shows the pairs of factors (∗ is their composition) whose sum is the
        approximation. The weights of kernel and factors may differ widely, so each row has its own
        scale and color bar, symmetric about zero, which is white.

    Raises
    ------
    ValueError
        If there are more channels.
    TypeError
        If `factors` is something else.

    Examples
    --------
    >>> import torch
    >>> from cnnbook import analysis
    >>> kernel = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    >>> kernel_factors(analysis.factorize_kernel(kernel, restarts=3)).alt.split(".")[0]
    'A 5×5 kernel and the best composition of two smaller kernels with 1 channel between them'
    """
    needed = "a result of cnnbook.analysis.factorize_kernel"
    check_kind("factors", factors, KernelFactors, needed)
    channels = len(factors.first)
    if factors.kernel.shape[:2] != (1, 1) or channels > 4:
        raise ValueError(
            "only kernels with one input, one output and up to 4 channels between can be shown, "
            f"got {factors}"
        )
    kernel, product = factors.kernel[0, 0], factors.product[0, 0]
    upper = {
        f"kernel {'×'.join(map(str, kernel.shape))}": kernel,
        "best product": product,
        "difference": kernel - product,
    }
    pairs = [t for pair in zip(factors.first[:, 0], factors.second[0], strict=True) for t in pair]
    limits = [max(tile.abs().max().item() for tile in row) for row in (upper.values(), pairs)]
    norm, small = (Normalize(-limit, limit) for limit in limits)

    # Lengths are in cells of the upper row. The lower one is drawn smaller if it is longer.
    width = 3 * len(kernel) + 2 * _GAP
    cell = min(1.0, width / (sum(map(len, pairs)) + _GAP * (len(pairs) - 1)))
    below = len(kernel) + 3.4
    bottom = below + cell * max(map(len, pairs))
    left, right, top = -0.2, width + 4.4, -1.5
    with new_figure(CHART, CHART * (bottom + 0.2 - top) / (right - left)) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        _row(axes, 0, 1.0, list(upper.values()), list(upper), ["−", "="], norm)
        axes.text(0, below - 1.5, "best product =", va="bottom", size=9.5)
        names = ["×".join(map(str, tile.shape)) for tile in pairs]
        signs = ["∗" if i % 2 == 0 else "+" for i in range(len(pairs) - 1)]
        _row(axes, below, cell, pairs, names, signs, small)
        axes.set(xlim=(left, right), ylim=(bottom + 0.2, top))
        axes.set_axis_off()
        # One scale for each row; the lower one has room for its name.
        ends = ((len(kernel), 0.0), (bottom, min(below, bottom - 3.0)))
        for (low, high), scale, row in zip(ends, (norm, small), ("upper", "lower"), strict=True):
            tall = bottom + 0.2 - top
            box = ((width + 1.1) / (right - left), (bottom + 0.2 - low) / tall)
            inner = figure.add_axes((*box, 0.6 / (right - left), (low - high) / tall))
            bar = figure.colorbar(ScalarMappable(scale, SIGNED), cax=inner)
            bar.set_label(f"{row} row", fontsize=9)
            bar.outline.set_linewidth(0.4)
    if alt is None:
        alt = (
            f"A {'×'.join(map(str, kernel.shape))} kernel and the best composition of two smaller "
            f"kernels with {channels} channel{'s' if channels > 1 else ''} between them. The "
            f"difference has {100 * factors.residual:.2g}% of the kernel's norm."
        )
    return Figure(figure, alt)


def _row(
    axes,
    top: float,
    cell: float,
    tiles: list[Tensor],
    titles: list[str],
    signs: list[str],
    norm: Normalize,
) -> None:
    """Draw tiles side by side, with a sign between neighbors."""
    x = 0.0
    for i, (tile, title) in enumerate(zip(tiles, titles, strict=True)):
        height, width = (cell * side for side in tile.shape)
        extent = (x, x + width, top + height, top)
        axes.imshow(tile.numpy(), cmap=SIGNED, norm=norm, extent=extent)
        axes.add_patch(Rectangle((x, top), width, height, fill=False, ec=INK, lw=0.4))
        axes.text(x + width / 2, top - 0.2, title, ha="center", va="bottom", size=9.5)
        x += width + cell * _GAP
        if i < len(signs):
            middle = (x - cell * _GAP / 2, top + height / 2)
            axes.text(*middle, signs[i], ha="center", va="center", size=14)
