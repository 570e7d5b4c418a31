"""Images, filters and feature maps."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from cnnbook.plots.figure import INK, POSITIVE, SIGNED, WIDTH, Figure, new_figure


def _range(values: Tensor) -> tuple[str, float, float]:
    """Choose colour map and limits: signed values are centred on zero, others start there."""
    values = values[values.isfinite()]
    if values.numel() and values.min() < 0:
        limit = values.abs().max().item()
        return SIGNED, -limit, limit
    return POSITIVE, 0.0, max(values.max().item() if values.numel() else 0.0, 1e-12)


def _height(tiles: Tensor, rows: int, columns: int, title: float) -> float:
    """Return the inches that `rows` of tiles need at page width, `title` inches above each."""
    return rows * (WIDTH / columns * tiles.shape[-2] / tiles.shape[-1] + title)


def _framed(axes) -> None:
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.4)


def images(
    pictures: Tensor,
    titles: Sequence[str] | None = None,
    *,
    columns: int = 10,
    alt: str | None = None,
) -> Figure:
    """Show images in a grid.

    Parameters
    ----------
    pictures
        uint8 or float in 0…1, ``(N, C, H, W)`` with one or three channels.
    titles
        One line above each image.
    columns
        Images per row.
    alt
        Text alternative; made from the titles if not given.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the shape is wrong or there is not one title per image.
    """
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        raise ValueError(f"pictures must be (N, 1 or 3, H, W), got {tuple(pictures.shape)}")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"{len(titles)} titles for {len(pictures)} pictures")
    columns = min(columns, len(pictures))
    top = 255 if pictures.dtype == torch.uint8 else 1
    rows = -(-len(pictures) // columns)
    height = _height(pictures, rows, columns, 0.25 if titles else 0.04)
    with new_figure(WIDTH, height) as figure:
        for i, picture in enumerate(pictures.cpu()):
            axes = figure.add_subplot(rows, columns, i + 1)
            axes.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=top)
            _framed(axes)
            if titles is not None:
                axes.set_title(titles[i], fontsize=9, pad=2)
    if alt is None:
        alt = f"{len(pictures)} images" + (f": {', '.join(titles)}." if titles else ".")
    return Figure(figure, alt)


def _signed_tiles(
    tiles: Tensor, columns: int, titles: Sequence[str], label: str, alt: str
) -> Figure:
    """Draw ``(N, H, W)`` with one common colour scale and its bar."""
    colours, low, high = _range(tiles)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    with new_figure(WIDTH, _height(tiles, rows, columns, 0.22) + 0.65) as figure:
        axes = [figure.add_subplot(rows, columns, i + 1) for i in range(len(tiles))]
        for i, (ax, tile) in enumerate(zip(axes, tiles, strict=True)):
            shown = ax.imshow(tile.numpy(), cmap=colours, vmin=low, vmax=high)
            _framed(ax)
            ax.set_title(titles[i], fontsize=9, pad=2)
        bar = figure.colorbar(
            shown, ax=axes, location="bottom", fraction=0.04, aspect=50, shrink=0.6, pad=0.06
        )
        bar.set_label(label, fontsize=9)
        bar.outline.set_visible(False)
    return Figure(figure, alt)


def filters(weight: Tensor, *, columns: int = 8, alt: str | None = None) -> Figure:
    """Show the kernels of a convolution.

    Parameters
    ----------
    weight
        Kernels, ``(out, in, k, k)``. With one input channel each output map gets one tile; with
        more, rows are output maps and columns input channels.
    columns
        Tiles per row when there is one input channel.
    alt
        Text alternative.

    Returns
    -------
    Figure
        All tiles share one scale, symmetric about zero, which is the neutral colour.

    Raises
    ------
    ValueError
        If `weight` does not have four dimensions.
    """
    if weight.ndim != 4:
        raise ValueError(f"weight must be (out, in, k, k), got {tuple(weight.shape)}")
    out, channels = weight.shape[:2]
    tiles = weight.detach().cpu().flatten(0, 1)
    if channels > 1:
        columns = channels
        titles = [f"{o}, {i}" for o in range(out) for i in range(channels)]
    else:
        titles = [f"map {o}" for o in range(out)]
    alt = alt or f"{out}×{channels} kernels of {weight.shape[2]}×{weight.shape[3]} weights."
    return _signed_tiles(tiles, columns, titles, "weight", alt)


def feature_maps(maps: Tensor, *, columns: int = 8, alt: str | None = None) -> Figure:
    """Show the maps of one layer for one image.

    Parameters
    ----------
    maps
        ``(C, H, W)``, or ``(1, C, H, W)`` as :func:`cnnbook.analysis.activations` returns it.
    columns
        Maps per row.
    alt
        Text alternative.

    Returns
    -------
    Figure
        All maps share one scale. If there are negative values it is symmetric about zero.

    Raises
    ------
    ValueError
        If `maps` has another shape.
    """
    if maps.ndim == 4 and len(maps) == 1:
        maps = maps[0]
    if maps.ndim != 3:
        raise ValueError(f"maps must be (C, H, W) of one image, got {tuple(maps.shape)}")
    count, height, width = maps.shape
    alt = (
        alt
        or f"{count} feature maps of {height}×{width}, from {maps.min():.2g} to {maps.max():.2g}."
    )
    return _signed_tiles(
        maps.detach().cpu(), columns, [f"map {i}" for i in range(count)], "activation", alt
    )


def maps_through_depth(
    image: Tensor,
    maps: Mapping[str, Tensor],
    *,
    rows: int = 8,
    titles: Mapping[str, str] | None = None,
    alt: str | None = None,
) -> Figure:
    """Show an image and the maps of several layers, all at the same scale of pixels.

    Parameters
    ----------
    image
        The input, ``(1, H, W)``.
    maps
        Layer name to output for that image: ``(1, C, H, W)``, or ``(1, C)`` for a vector.
    rows
        Most maps stacked on one another; a layer with more gets further columns.
    titles
        Layer name to heading.
    alt
        Text alternative.

    Returns
    -------
    Figure
        A pixel of every map has the same size, so maps are seen to shrink; vectors are drawn as
        columns of larger cells. Each layer has its own colour scale.
    """
    titles = {"input": "input", **{name: name for name in maps}, **(titles or {})}
    blocks = {"input": image.detach().cpu()[:1].float()}
    blocks |= {name: value[0].detach().cpu() for name, value in maps.items()}

    gap, cell = 3, 3  # between maps, and side of a vector's elements, in pixels of the image
    letter = 3.6  # width of a letter of the headings, likewise
    height = max(
        min(len(b), rows) * (b.shape[1] + gap) - gap for b in blocks.values() if _is_map(b)
    )
    left = 0.0
    with new_figure(WIDTH, 1) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        for name, block in blocks.items():
            if _is_map(block):
                tiles, step = block, gap
                down = min(len(tiles), rows)
            else:
                tiles, step = block.view(-1, 1, 1), 0
                across = -(-len(tiles) // max(1, height // cell - 4))
                down = -(-len(tiles) // across)
            scale = 1 if _is_map(block) else cell
            tile_height, tile_width = (scale * side for side in tiles.shape[1:])
            across = -(-len(tiles) // down)
            width = across * (tile_width + step) - step
            slot = max(width, letter * max(map(len, titles[name].split("\n"))))
            top = (height - down * (tile_height + step) + step) / 2
            colours, low, high = _range(block)
            for i, tile in enumerate(tiles):
                x = left + (slot - width) / 2 + i // down * (tile_width + step)
                y = top + i % down * (tile_height + step)
                extent = (x, x + tile_width, y + tile_height, y)
                axes.imshow(tile.numpy(), cmap=colours, vmin=low, vmax=high, extent=extent)
                corner = (x, y)
                axes.add_patch(
                    Rectangle(corner, tile_width, tile_height, fill=False, ec=INK, lw=0.3)
                )
            axes.text(left + slot / 2, -4, titles[name], ha="center", va="bottom", size=9.5)
            left += slot + 4 * gap
        right, heading = left - 4 * gap, 12 * (1 + max(t.count("\n") for t in titles.values()))
        axes.set(xlim=(-1, right + 1), ylim=(height + 1, -heading))
        axes.set_axis_off()
        figure.set_size_inches(WIDTH, WIDTH * (height + 1 + heading) / (right + 2))
    if alt is None:
        steps = ", ".join(f"{name}: {'×'.join(map(str, b.shape))}" for name, b in blocks.items())
        alt = f"One image and the maps each layer makes of it, drawn to one scale. {steps}."
    return Figure(figure, alt)


def _is_map(block: Tensor) -> bool:
    return block.ndim == 3 and block.shape[1:] != (1, 1)
