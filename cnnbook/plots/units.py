"""What units of a network respond to."""

from cnnbook._errors import check_kind
from cnnbook.analysis import MaximizedUnits, TopPatches
from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import _framed, images
from cnnbook.plots.style import WIDTH, new_figure

_MAXIMIZED = "a result of cnnbook.analysis.maximize_activation"


def maximized_units(found: MaximizedUnits, *, columns: int = 6, alt: str | None = None) -> Figure:
    """Show the images optimized for units of a layer.

    Parameters
    ----------
    found
        From :func:`cnnbook.analysis.maximize_activation`.
    columns
        Images per row.
    alt
        Text alternative.

    Returns
    -------
    Figure

    Raises
    ------
    TypeError
        If `found` is something else.

    Examples
    --------
    >>> from torch import nn
    >>> from cnnbook import analysis
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3))
    >>> maximized_units(analysis.maximize_activation(net, "0", [0, 3], shape=(1, 16, 16), steps=4))
    <Figure: Images made to excite units of layer 0: 0, 3.>
    """
    check_kind("found", found, MaximizedUnits, _MAXIMIZED)
    units = ", ".join(map(str, found.units))
    return images(
        found.images,
        [f"unit {unit}" for unit in found.units],
        columns=columns,
        alt=alt or f"Images made to excite units of layer {found.layer}: {units}.",
    )


def top_patches(
    found: TopPatches,
    maximized: MaximizedUnits | None = None,
    *,
    kind: str = "unit",
    alt: str | None = None,
) -> Figure:
    """Show the image patches that excite units most, one row per unit.

    Parameters
    ----------
    found
        From :func:`cnnbook.analysis.top_patches`. Patches that are not uint8 are shown from
        their lowest value to their highest.
    maximized
        Images optimized for the same units of the same layer, shown at the start of their rows.
    kind
        What the number of a row counts: for a convolution, also “map”.
    alt
        Text alternative.

    Returns
    -------
    Figure
        The strongest patch is on the left. Headings give the unit's activation.

    Raises
    ------
    ValueError
        If the patches have neither one nor three channels, or `maximized` is for other units.
    TypeError
        If `found` or `maximized` is something else.

    Examples
    --------
    >>> from torch import nn
    >>> from cnnbook import analysis, data
    >>> _, test = data.load("digits")
    >>> found = analysis.top_patches(nn.Sequential(nn.Conv2d(1, 4, 3)), test, "0", [0, 1], k=3)
    >>> top_patches(found).alt.split(".")[0]
    'The 3 patches that most excite units of layer 0'
    """
    check_kind("found", found, TopPatches, "a result of cnnbook.analysis.top_patches")
    check_kind("maximized", maximized, MaximizedUnits | None, _MAXIMIZED)
    patches = found.patches.float()
    if patches.shape[2] not in (1, 3):
        raise ValueError(f"patches must have 1 or 3 channels, these have {patches.shape[2]}")
    if maximized is not None and (maximized.layer, maximized.units) != (found.layer, found.units):
        raise ValueError(
            f"maximized holds units {list(maximized.units)} of {maximized.layer!r}, the patches "
            f"are of units {list(found.units)} of {found.layer!r}"
        )
    if found.patches.is_floating_point():
        low, high = patches.min(), patches.max()
        patches = (patches - low) / (high - low).clamp(min=1e-12)
    else:
        patches = patches / 255
    rows, count = patches.shape[:2]
    extra = int(maximized is not None)
    columns = max(count + extra, 5)
    side = 0.93 * (WIDTH - 0.5) / columns
    height = rows * (side * patches.shape[3] / patches.shape[4] + 0.24)
    with new_figure(WIDTH, height + 0.05) as figure:
        grid = figure.subplots(rows, columns, squeeze=False)
        for row in range(rows):
            cells = iter(grid[row])
            if maximized is not None:
                first = next(cells)
                _show(first, maximized.images[row], "made for it")
            for patch, value in zip(patches[row], found.activation[row], strict=True):
                _show(next(cells), patch, f"{value:.3g}")
            for axes in cells:
                axes.set_axis_off()
            grid[row, 0].set_ylabel(f"{kind} {found.units[row]}", fontsize=9)
    if alt is None:
        strongest = "; ".join(
            f"{kind} {unit}: {values[0]:.3g} to {values[-1]:.3g}"
            for unit, values in zip(found.units, found.activation, strict=True)
        )
        made = ", beside images made for them" if extra else ""
        alt = (
            f"The {count} patches that most excite units of layer {found.layer}{made}. "
            f"Activations, {strongest}."
        )
    return Figure(figure, alt)


def _show(axes, picture, title: str) -> None:
    axes.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
    _framed(axes)
    axes.set_title(title, fontsize=9, pad=2)
