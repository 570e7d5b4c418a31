"""Images, filters and feature maps."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.figure
import numpy as np
import torch
from matplotlib.collections import PatchCollection
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from torch import Tensor, nn

from cnnbook._checks import check_count, check_dense, is_index, no_tensor
from cnnbook._errors import check_kind
from cnnbook.analysis import Activations
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import INK, POSITIVE, SIGNED, WIDTH, new_figure


def _range(values: Tensor) -> tuple[str, float, float]:
    """Choose color map and limits: signed values are centered on zero; others start there."""
    values = values[values.isfinite()]
    if values.numel() and values.min() < 0:
        limit = values.abs().max().item()
        return SIGNED, -limit, limit
    return POSITIVE, 0.0, max(values.max().item() if values.numel() else 0.0, 1e-12)


# Between tiles and around them, in points.
GAP, EDGE = 6.0, 2.0
LETTER = 9  # of titles


class _Grid:
    """Tiles in rows at page width, each with a title above it.

    All of them are drawn into one axes, whose unit is a point: with an axes for each tile,
    matplotlib needs seconds to lay out a figure.

    Parameters
    ----------
    tiles
        ``(N, H, W)``, or ``(N, H, W, 3)`` in color.
    columns
        Tiles per row.
    titles
        One for each tile, or None.
    """

    def __init__(self, tiles: Tensor, columns: int, titles: Sequence[str] | None):
        check_count("columns", columns)
        if not tiles.numel():
            raise ValueError(f"there is nothing to draw in a tensor of shape {tuple(tiles.shape)}")
        self.tiles, self.columns, self.titles = tiles, min(columns, len(tiles)), titles
        lines = max((title.count("\n") + 1 for title in titles), default=1) if titles else 0
        self.above = 1.2 * LETTER * lines + 3.5 if titles else 0.0
        self.width = (72 * WIDTH - 2 * EDGE - GAP * (self.columns - 1)) / self.columns
        self.height = self.width * tiles.shape[1] / tiles.shape[2]
        self.down = self.above + self.height + GAP  # from row to row
        self.rows = -(-len(tiles) // self.columns)

    @property
    def inches(self) -> float:
        """The height of all rows."""
        return (self.rows * self.down - GAP + 2 * EDGE) / 72

    def draw(self, figure: mpl.figure.Figure, **options: Any) -> AxesImage:
        """Draw the tiles at the top of a figure that is :data:`WIDTH` wide; return the last one."""
        figure.set_layout_engine("none")
        share = self.inches / figure.get_figheight()
        axes = figure.add_axes((0, 1 - share, 1, share))
        frames = []
        for i, tile in enumerate(self.tiles.numpy()):
            x = i % self.columns * (self.width + GAP)
            y = i // self.columns * self.down + self.above
            extent = (x, x + self.width, y + self.height, y)
            shown = axes.imshow(tile, extent=extent, **options)
            frames.append(Rectangle((x, y), self.width, self.height))
            if self.titles is not None:
                middle = x + self.width / 2
                axes.text(middle, y - 3.5, self.titles[i], ha="center", size=LETTER)
        axes.add_collection(PatchCollection(frames, fc="none", ec=INK, lw=0.4))
        bottom = 72 * self.inches - EDGE
        axes.set(xlim=(-EDGE, 72 * WIDTH - EDGE), ylim=(bottom, -EDGE))
        axes.set_axis_off()
        return shown


def _stretched(image: Tensor) -> Tensor:
    """Scale an image to floats from 0, its lowest value, to 1, so that it can be shown."""
    image = image.detach().cpu().float()
    return (image - image.min()) / (image.max() - image.min()).clamp(min=1e-6)


def check_pixels(name: str, pictures: Tensor) -> None:
    """Raise an error unless pictures are a tensor of bytes or of floats in 0…1."""
    check_dense(name, pictures)
    if pictures.is_complex():
        raise ValueError(f"{name} must be real numbers, got {pictures.dtype}")
    if pictures.dtype == torch.uint8 or not pictures.numel():
        return
    low, high = pictures.min().item(), pictures.max().item()
    if high > 1.01 or low < -0.01:  # a little more is rounding
        cure = "undo the normalization" if low < -0.01 else "divide by 255"
        kind = "float" if pictures.is_floating_point() else str(pictures.dtype)
        raise ValueError(
            f"{kind} {name} must lie in 0…1; they reach from {low:.4g} to {high:.4g}: {cure}"
        )


def check_number_of_input(index: object) -> None:
    """Refuse what is not the number of one of several inputs, counted from 0."""
    if not is_index(index):
        raise TypeError(f"index must be the number of an input, from 0, got {index!r}")


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
        If the shape is wrong, floats are not in 0…1, or there is not one title per image.
    TypeError
        If `pictures` is not a tensor.

    Examples
    --------
    >>> from cnnbook import data
    >>> _, test = data.load("digits")
    >>> images(test.images[:3], ["zero", "one", "two"])
    <Figure: 3 images: zero, one, two.>
    """
    check_pixels("pictures", pictures)
    check_kind("titles", titles, Collection | None, "a list of texts, one for each image")
    if pictures.ndim != 4 or pictures.shape[1] not in (1, 3):
        raise ValueError(f"pictures must be (N, 1 or 3, H, W), got {tuple(pictures.shape)}")
    if titles is not None and len(titles) != len(pictures):
        raise ValueError(f"{len(titles)} titles for {len(pictures)} pictures")
    top = 255 if pictures.dtype == torch.uint8 else 1
    grid = _Grid(pictures.cpu().permute(0, 2, 3, 1).squeeze(-1), columns, titles)
    with new_figure(WIDTH, grid.inches) as figure:
        grid.draw(figure, cmap="gray", vmin=0, vmax=top)
    if alt is None:
        alt = f"{len(pictures)} images" + (f": {', '.join(titles)}." if titles else ".")
    return Figure(figure, alt)


def _chosen(count: int, limit: int) -> list[int]:
    """Return the indices of at most `limit` of `count` tiles, evenly spaced."""
    if count <= limit:
        return list(range(count))
    return torch.linspace(0, count - 1, limit).round().int().tolist()


def _signed_tiles(
    tiles: Tensor, columns: int, titles: Sequence[str], label: str, alt: str
) -> Figure:
    """Draw ``(N, H, W)`` with one common color scale and its bar."""
    colors, low, high = _range(tiles)
    grid = _Grid(tiles, columns, titles)
    height = grid.inches + 0.62
    with new_figure(WIDTH, height) as figure:
        shown = grid.draw(figure, cmap=colors, vmin=low, vmax=high)
        below = figure.add_axes((0.2, 0.42 / height, 0.6, 0.084 / height))
        bar = figure.colorbar(shown, cax=below, orientation="horizontal")
        bar.set_label(label, fontsize=9)
        bar.outline.set_linewidth(0.4)
    return Figure(figure, alt)


def filters(
    weight: Tensor,
    *,
    columns: int | None = None,
    limit: int = 64,
    color: bool | None = None,
    titles: Sequence[str] | None = None,
    alt: str | None = None,
) -> Figure:
    """Show the kernels of a convolution.

    Parameters
    ----------
    weight
        Kernels, ``(out, in, k, k)``.
    columns
        Tiles per row if each filter has one tile; by default 8, or 16 for more than 32 tiles.
    limit
        Maximum number of tiles. If there are more filters (and input channels), an evenly spaced
        selection is shown.
    color
        Whether to draw each kernel as one picture whose red, green and blue are the weights of
        its three input channels. By default if there are three. Otherwise, with several input
        channels, rows are filters (output channels) and columns input channels.
    titles
        One for each tile, instead of the numbers of filters and input channels.
    alt
        Text alternative.

    Returns
    -------
    Figure
        All tiles share one scale, symmetric about zero. Zero is the neutral color; in color
        pictures, middle gray.

    Raises
    ------
    ValueError
        If `weight` does not have four dimensions, color is requested without three channels, or
        there are not as many titles as tiles.
    TypeError
        If `weight` is not a tensor, but a layer for example.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> filters(lenet5().c1[0].weight)
    <Figure: 6 kernels of 5×5 weights.>
    """
    if isinstance(weight, nn.Module) and isinstance(getattr(weight, "weight", None), Tensor):
        raise TypeError(f"pass the weights of the {type(weight).__name__}: conv.weight, not conv")
    if not isinstance(weight, Tensor):
        raise no_tensor("weight", weight)
    check_count("limit", limit)
    if columns is not None:
        check_count("columns", columns)
    if weight.ndim != 4:
        raise ValueError(f"weight must be (out, in, k, k), got {tuple(weight.shape)}")
    out, channels, height, width = weight.shape
    if color and channels != 3:
        raise ValueError(f"color needs 3 input channels, the kernels have {channels}")
    color = channels == 3 if color is None else color
    weight = weight.detach().cpu().float()
    grid = channels > 1 and not color
    chosen = _chosen(out, math.isqrt(limit) if grid and out * channels > limit else limit)
    alt = alt or (
        f"{f'{out}×{channels}' if grid else out} kernels of {height}×{width} weights"
        f"{f', {len(chosen)} of {out} filters shown' if len(chosen) < out else ''}."
    )
    if grid:
        inputs = _chosen(channels, limit // len(chosen))
        tiles = weight[chosen][:, inputs].flatten(0, 1)
        titles = _titles(titles, [f"{o}, {i}" for o in chosen for i in inputs])
        return _signed_tiles(tiles, len(inputs), titles, "weight  (filter, input channel)", alt)
    columns = columns or (8 if len(chosen) <= 32 else 16)
    titles = _titles(titles, [f"filter {i}" if columns <= 10 else f"{i}" for i in chosen])
    label = "weight" if len(chosen) == out else f"weight  ({len(chosen)} of {out} filters)"
    if not color:
        return _signed_tiles(weight[chosen, 0], columns, titles, label, alt)
    limit_of_scale = weight[chosen].abs().max().clamp(min=1e-12)
    tiles = (0.5 + weight[chosen] / (2 * limit_of_scale)).clamp(0, 1)
    drawn = _Grid(tiles.permute(0, 2, 3, 1), columns, titles)
    with new_figure(WIDTH, drawn.inches + 0.25) as figure:
        drawn.draw(figure)
        bound = f"{limit_of_scale:.2g}"
        scale = f"{label} of each color: none −{bound}, half (gray) 0, full +{bound}"
        figure.supxlabel(scale, fontsize=9)
    return Figure(figure, alt)


def _titles(given: Sequence[str] | None, numbers: list[str]) -> Sequence[str]:
    """Return the titles that were given, one for each tile, or else the numbers."""
    if given is None:
        return numbers
    if len(given) != len(numbers):
        raise ValueError(f"{len(numbers)} tiles need as many titles, got {len(given)}")
    return given


def feature_maps(
    maps: Tensor, *, columns: int = 8, limit: int = 32, alt: str | None = None
) -> Figure:
    """Show the feature maps of one layer for one image.

    Parameters
    ----------
    maps
        ``(C, H, W)``, or ``(1, C, H, W)`` as :func:`cnnbook.analysis.activations` returns it for
        one image.
    columns
        Maps per row.
    limit
        Maximum number of maps. If there are more, an evenly spaced selection is shown, and the
        label says so.
    alt
        Text alternative.

    Returns
    -------
    Figure
        All maps share one scale. If there are negative values it is symmetric about zero, whose
        color is white; if not, zero is black. Titles mark maps that are zero everywhere.

    Raises
    ------
    ValueError
        If `maps` has another shape.
    TypeError
        If `maps` is not a tensor.

    Examples
    --------
    >>> from cnnbook import analysis, data, models
    >>> boots = data.load("fashion-mini", size=32)[1].images / 255
    >>> seen = analysis.activations(models.lenet5(), boots[:1], ["s2"])
    >>> feature_maps(seen["s2"]).alt.split(",")[0]
    '6 feature maps of 14×14'
    """
    if not isinstance(maps, Tensor):
        raise no_tensor("maps", maps)
    check_count("limit", limit)
    if maps.ndim == 4 and len(maps) == 1:
        maps = maps[0]
    if maps.ndim != 3 or not maps.numel():
        raise ValueError(f"maps must be (C, H, W) of one image, got {tuple(maps.shape)}")
    maps = maps.detach().cpu().float()
    count, height, width = maps.shape
    shown = _chosen(count, limit)
    some = "" if len(shown) == count else f"{len(shown)} of {count} feature maps"
    if alt is None:
        alt = f"{count} feature maps of {height}×{width}, from {maps.min():.2g} to {maps.max():.2g}"
        alt += f"; {len(shown)} of {count} are shown." if some else "."
    titles = [f"map {i}" if maps[i].any() else f"{i}: all 0" for i in shown]
    label = f"activation  ({some})" if some else "activation"
    return _signed_tiles(maps[shown], columns, titles, label, alt)


def activations(
    maps: Mapping[str, Tensor],
    image: Tensor | None = None,
    *,
    index: int = 0,
    rows: int | None = None,
    titles: Mapping[str, str] | None = None,
    alt: str | None = None,
) -> Figure:
    """Show an image and the feature maps of several layers, all at the same pixel scale.

    Parameters
    ----------
    maps
        Result of :func:`cnnbook.analysis.activations`, or any mapping from layer name to
        output: ``(N, C, H, W)``, or ``(N, C)`` for a vector.
    image
        The picture to show as the input, ``(1 or 3, H, W)``; three channels as uint8 or as floats
        from 0 to 1. If not given, the network's input, stretched from its lowest to its highest
        value; your own mapping needs an image.
    index
        Which of the N inputs.
    rows
        Maximum number of maps in a column; a layer with more gets further columns. If not given, a
        layer's maps take about the height and width of the image, or three times that for images
        smaller than 64 pixels. If a layer has more maps, an evenly spaced selection is shown, and
        the heading says how many.
    titles
        Layer name to heading.
    alt
        Text alternative.

    Returns
    -------
    Figure
        All pixels have the same size, so maps visibly shrink; vectors are drawn as columns of
        larger cells. Each layer has its own color scale.

    Raises
    ------
    ValueError
        If there is no image, or the image or a layer's output has another shape.
    TypeError
        If `maps` is not such a result or mapping, or `image` not a tensor.

    Examples
    --------
    >>> from cnnbook import analysis, data, models
    >>> boots = data.load("fashion-mini", size=32)[1].images / 255
    >>> seen = analysis.activations(models.lenet5(), boots[:1], ["c1", "c3"])
    >>> activations(seen)  # doctest: +NORMALIZE_WHITESPACE
    <Figure: One image and the feature maps each layer makes of it, drawn to one scale. input:
    1×32×32, c1: 6×28×28, c3: 16×10×10.>
    """
    needed = "a result of cnnbook.analysis.activations, or a mapping from layer name to output"
    check_kind("maps", maps, Mapping, needed)
    check_kind("titles", titles, Mapping | None, "a mapping from layer name to heading")
    check_number_of_input(index)
    if rows is not None:
        check_count("rows", rows)
    if image is None:
        if not isinstance(maps, Activations):
            raise ValueError("outputs in a plain mapping need the image they belong to: image=")
        image = _stretched(maps.images[index])
    if isinstance(maps, Activations):
        maps = maps.channels_first()
    check_dense("image", image)
    image = image.detach().cpu()
    if image.ndim != 3 or len(image) not in (1, 3):
        raise ValueError(f"image must be (1 or 3, H, W), got {tuple(image.shape)}")
    for name, value in maps.items():
        if not isinstance(value, Tensor):
            raise no_tensor(f"maps[{name!r}]", value)
        if value.ndim not in (2, 4) or not 0 <= index < len(value):
            raise ValueError(
                f"the output of {name!r} must be (N, C, H, W) or (N, C) with N > index = {index}, "
                f"got {tuple(value.shape)}"
            )
    blocks = {name: value[index].detach().cpu().float() for name, value in maps.items()}
    given = {"input": "input", **{name: name for name in maps}, **(titles or {})}

    mosaics = {}
    for name, block in blocks.items():
        if _is_map(block):
            mosaics[name] = _stacked(block, image.shape[1:], rows)
            if mosaics[name].count < len(block):
                given[name] += f"\n{mosaics[name].count} of {len(block)}"
    side = max([image.shape[1], *(m.height for m in mosaics.values())])
    for name, block in blocks.items():
        if not _is_map(block):
            mosaics[name] = _column(block.flatten(), side)
    mosaics = {"input": _Mosaic(image[:1].float(), 1, 0), **{n: mosaics[n] for n in maps}}

    # As many pixels per point of the page as make all blocks and headings fit side by side.
    letters = {name: max(map(_text_width, given[name].split("\n"))) for name in mosaics}
    between, page = 12, 72 * WIDTH - 4  # in points
    point = 0.5
    for _ in range(50):
        slots = {name: max(m.width, point * letters[name]) for name, m in mosaics.items()}
        point = (sum(slots.values()) + between * point * (len(slots) - 1)) / page
    heading = 13 * point * (1 + max(title.count("\n") for title in given.values()))
    left = 0.0
    with new_figure(WIDTH, (side / point + heading / point + 4) / 72) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        for name, mosaic in mosaics.items():
            x = left + (slots[name] - mosaic.width) / 2
            y = (side - mosaic.height) / 2
            extent = (x, x + mosaic.width, y + mosaic.height, y)
            if name == "input" and len(image) == 3:
                picture = image.permute(1, 2, 0)
                picture = picture if image.dtype == torch.uint8 else picture.clamp(0, 1)
                axes.imshow(picture.numpy(), extent=extent)
            else:
                colors, low, high = _range(mosaic.tiles)
                axes.imshow(mosaic.array(), cmap=colors, vmin=low, vmax=high, extent=extent)
            boxes = mosaic.boxes()
            if min(boxes[0][2:]) < 6 * point:  # frames would dominate
                boxes = [(0, 0, mosaic.width, mosaic.height)]
            frames = [Rectangle((x + u, y + v), w, h) for u, v, w, h in boxes]
            axes.add_collection(PatchCollection(frames, fc="none", ec=INK, lw=0.3))
            middle = left + slots[name] / 2
            axes.text(middle, -3 * point, given[name], ha="center", va="bottom", size=9.5)
            left += slots[name] + between * point
        edge = 2 * point
        axes.set(xlim=(-edge, 72 * WIDTH * point - edge), ylim=(side + edge, -heading - edge))
        axes.set_axis_off()
    if alt is None:
        steps = {"input": image, **blocks}
        listed = ", ".join(f"{n}: {'×'.join(map(str, b.shape))}" for n, b in steps.items())
        alt = (
            f"One image and the feature maps each layer makes of it, drawn to one scale. {listed}."
        )
    return Figure(figure, alt)


def _text_width(line: str) -> float:
    """Return the width of a heading in points, with a little to spare for hinting."""
    return 1.05 * TextPath((0, 0), line, size=9.5).get_extents().width if line.strip() else 0.0


def _is_map(block: Tensor) -> bool:
    return block.ndim == 3 and block.shape[1:] != (1, 1)


class _Mosaic:
    """Tiles in columns, filled from the top, sizes in pixels of the image.

    Parameters
    ----------
    tiles
        ``(N, h, w)``.
    down
        Tiles in a column.
    gap
        Pixels between tiles.
    cell
        Pixels of the image that a pixel of a tile takes.
    """

    def __init__(self, tiles: Tensor, down: int, gap: int, cell: int = 1):
        self.tiles, self.down, self.gap, self.cell = tiles, min(down, len(tiles)), gap, cell
        self.count = len(tiles)
        self.across = -(-self.count // self.down)
        self.height, self.width = (
            cell * (n * (side + gap) - gap)
            for n, side in zip((self.down, self.across), tiles.shape[1:], strict=True)
        )

    def boxes(self) -> list[tuple[int, int, int, int]]:
        """Return left, top, width and height of each tile."""
        h, w = self.tiles.shape[1:]
        return [
            tuple(
                self.cell * v
                for v in (i // self.down * (w + self.gap), i % self.down * (h + self.gap), w, h)
            )
            for i in range(self.count)
        ]

    def array(self) -> np.ma.MaskedArray:
        """Return all tiles as one picture, transparent between them."""
        whole = np.full((self.height // self.cell, self.width // self.cell), np.nan)
        for tile, box in zip(self.tiles.numpy(), self.boxes(), strict=True):
            x, y, w, h = (v // self.cell for v in box)
            whole[y : y + h, x : x + w] = tile
        return np.ma.masked_invalid(whole)


def _stacked(block: Tensor, size: Sequence[int], rows: int | None) -> _Mosaic:
    """Arrange maps in columns of `rows`, or so that they take about as much space as the image."""
    if rows is not None:
        return _Mosaic(block, rows, 3)
    times = 3 if min(size) < 64 else 1
    gap = max(2, times * block.shape[1] // 28)
    down, across = (
        max(1, round(times * whole / (side + gap)))
        for whole, side in zip(size, block.shape[1:], strict=True)
    )
    block = block[_chosen(len(block), down * across)]
    across = -(-len(block) // down)
    return _Mosaic(block, -(-len(block) // across), gap)


def _column(vector: Tensor, height: int) -> _Mosaic:
    """Arrange a vector as cells, in columns of equal length a little lower than `height`."""
    cell = max(3, height // 75)
    across = -(-len(vector) // max(1, height // cell - 4))
    return _Mosaic(vector.view(-1, 1, 1), -(-len(vector) // across), 0, cell)
