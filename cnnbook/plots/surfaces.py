"""The loss around the weights of trained networks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm

from cnnbook._checks import check_count, check_positive
from cnnbook._errors import check_kind
from cnnbook.analysis import LossSurface
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import WIDTH, new_figure


def loss_surface(
    surfaces: Mapping[str, LossSurface] | LossSurface,
    *,
    levels: int = 14,
    highest: float | None = None,
    alt: str | None = None,
) -> Figure:
    """Draw a loss surface, or several side by side with common contour levels.

    Parameters
    ----------
    surfaces
        From :func:`cnnbook.analysis.loss_surface`; or one to three by the name of the network.
    levels
        Number of contour levels, evenly spread over the logarithm of the loss.
    highest
        Highest loss shown: anything above has the same color, for surfaces that rise by many powers
        of ten; the largest loss if not given.
    alt
        Text alternative.

    Returns
    -------
    Figure
        The cross marks the network itself. Where the loss is not finite, the picture is blank.

    Raises
    ------
    ValueError
        If there are no surfaces or more than three, or one has no finite positive loss.
    TypeError
        If `surfaces` is something else.

    Examples
    --------
    >>> import torch
    >>> a = torch.linspace(-1, 1, 5)
    >>> bowl = a[:, None] ** 2 + a**2
    >>> surfaces = {"wide": LossSurface(a, a, bowl), "narrow": LossSurface(a, a, 9 * bowl)}
    >>> loss_surface(surfaces)  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Loss on a plane through the weights. wide: 0 at the network, up to 2;
    narrow: 0 at the network, up to 18.>
    """
    several = {"": surfaces} if isinstance(surfaces, LossSurface) else surfaces
    needed = "a result of cnnbook.analysis.loss_surface"
    check_kind("surfaces", several, Mapping, f"{needed}, or a mapping from names to some")
    for name, surface in several.items():
        check_kind(f"surfaces[{name!r}]", surface, LossSurface, needed)
    check_count("levels", levels)
    if highest is not None:
        check_positive("highest", highest)
    if not 1 <= len(several) <= 3:
        raise ValueError(f"give one to three surfaces, got {len(several)}")
    grids = {name: surface.loss.double().numpy() for name, surface in several.items()}
    positive = {name: g[np.isfinite(g) & (g > 0)] for name, g in grids.items()}
    for name, losses in positive.items():
        if not losses.size:
            named = f"surface {name!r}" if name else "the surface"
            raise ValueError(f"{named} has no finite positive loss; choose a smaller span")
    usable = np.concatenate([*positive.values()])
    low = usable.min()
    high = max(usable.max() if highest is None else highest, 1.01 * low)
    at = np.geomspace(low, high, levels)
    facts = []
    with new_figure(WIDTH, 0.9 + (WIDTH - 1.7) / max(2, len(grids))) as figure:
        panels = figure.subplots(1, len(grids), squeeze=False, sharey=True)[0]
        for axes, (name, surface) in zip(panels, several.items(), strict=True):
            values = grids[name]
            finite = np.isfinite(values)
            grid = np.ma.masked_where(~finite, np.clip(values, low, high)).T
            a, b = surface.a.numpy(), surface.b.numpy()
            shown = axes.contourf(a, b, grid, levels=at, norm=LogNorm(low, high), cmap="viridis")
            axes.contour(a, b, grid, levels=at, colors="white", linewidths=0.4, linestyles="-")
            axes.plot(0, 0, marker="+", color="white", markersize=9, markeredgewidth=1.6)
            axes.set(title=name, xlabel="along direction 1", aspect="equal")
            for axis, values_of in ((axes.xaxis, a), (axes.yaxis, b)):
                axis.set_ticks([values_of[0] / 2, 0, values_of[-1] / 2])
            middle = values[len(a) // 2, len(b) // 2]
            fact = f"{middle:.2g} at the network, up to {values[finite].max():.2g}"
            facts.append(f"{name}: {fact}" if name else fact)
        panels[0].set_ylabel("along direction 2\n(in norms of the filters)")
        bar = figure.colorbar(shown, ax=panels, shrink=0.9, aspect=25)
        clipped = highest is not None and usable.max() > highest
        bar.set_label(f"loss  (up to {highest:g})" if clipped else "loss")
        marks = at[:: max(1, levels // 6)]
        bar.set_ticks(marks, labels=[_short(value) for value in marks])
        bar.ax.minorticks_off()
        bar.outline.set_linewidth(0.4)
    return Figure(figure, alt or f"Loss on a plane through the weights. {'; '.join(facts)}.")


def _short(value: float) -> str:
    """Return a loss with two digits, as an integer if that is short."""
    return f"{value:.0e}" if value >= 1e5 else f"{float(f'{value:.2g}'):g}"
