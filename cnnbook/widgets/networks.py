"""Explorers of a network: what its layers see, compute and cost."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from torch import Tensor, nn

from cnnbook import analysis
from cnnbook._checks import check_count, check_dense
from cnnbook._errors import check_kind
from cnnbook.data import photo
from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import _framed, _stretched
from cnnbook.plots.style import CHART, COLORS, POSITIVE, SIGNED, new_figure
from cnnbook.tables import Table
from cnnbook.widgets.explore import explore, preferred

if TYPE_CHECKING:
    from cnnbook.widgets.linked import Explorer


def receptive_field(
    picture: Tensor | None = None,
    *,
    layers: Sequence[int] = range(1, 7),
    kernels: Sequence[int] = (3, 5, 7),
    strides: Sequence[int] = (1, 2),
) -> "Explorer":
    """See how much of a photograph one unit sees, through a stack of equal convolutions.

    Parameters
    ----------
    picture
        uint8, ``(1 or 3, H, W)``; a cat of 160×160 pixels by default.
    layers
        Numbers of convolutions to choose from.
    kernels
        Sides of their kernels, odd; each is padded by half of it.
    strides
        Their strides.

    Returns
    -------
    Explorer
        Chooses layers, kernel and stride. The box is that of the unit in the middle of the last
        layer, the dashed one that of its neighbor to the right. Everything is computed by
        :func:`cnnbook.analysis.receptive_field`.

    Raises
    ------
    ValueError
        If the picture has a different shape.

    Examples
    --------
    >>> from cnnbook import data
    >>> receptive_field(data.photo("cat", size=64), layers=(1, 2), kernels=(3,), strides=(1, 2))
    <Explorer of 4 states (layers: 2, kernel: 1, stride: 2)>
    """
    picture = photo("cat", 160) if picture is None else picture
    check_dense("picture", picture)
    if picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"the picture must be (1 or 3, H, W), got {tuple(picture.shape)}")

    def draw(layers: int, kernel: int, stride: int):
        with torch.device("meta"):  # weights without values: only the geometry matters
            stack = nn.Sequential(
                *(nn.Conv2d(1, 1, kernel, stride, kernel // 2, bias=False) for _ in range(layers))
            )
        shape = (1, *picture.shape[1:])
        field = analysis.receptive_field(stack, shape, str(layers - 1))
        return _seen(picture, field, f"{layers} × {kernel}×{kernel}, stride {stride}")

    choices = {"layers": layers, "kernel": kernels, "stride": strides}
    return explore(draw, first=preferred(choices, layers=3, kernel=3, stride=2), **choices)


def _seen(picture: Tensor, field: analysis.ReceptiveField, what: str) -> tuple[Figure, str]:
    height, width = picture.shape[1:]
    (top, bottom), (left, right) = field.box()
    margin = 0.12
    with new_figure(4.2, 4.2 * height / width) as figure:
        axes = figure.add_subplot()
        axes.imshow(
            picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", extent=(0, width, height, 0)
        )
        # One shape with a hole: four rectangles would show seams.
        hole = [(left, top), (left, bottom), (right, bottom), (right, top), (left, top)]
        border = [(0, 0), (width, 0), (width, height), (0, height), (0, 0)]
        hole = [(min(max(x, 0), width), min(max(y, 0), height)) for x, y in hole]
        outline = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY]
        shade = Path(border + hole, outline * 2)
        axes.add_patch(PathPatch(shade, color="black", alpha=0.5, lw=0))
        size = (right - left, bottom - top)
        neighbor = (left + field.jump[1], top)
        axes.add_patch(Rectangle(neighbor, *size, fill=False, ec=COLORS[0], lw=2.2, ls="--"))
        axes.add_patch(Rectangle((left, top), *size, fill=False, ec=COLORS[1], lw=2.2))
        axes.set(
            xlim=(-margin * width, (1 + margin) * width),
            ylim=((1 + margin) * height, -margin * height),
        )
        axes.set_axis_off()
    words = (
        f"{what}: {field.positions[0]}×{field.positions[1]} units, each with a receptive field of "
        f"{field.size[0]}×{field.size[1]} pixels on an image of {height}×{width}; neighbors are "
        f"{field.jump[0]} {'pixel' if field.jump[0] == 1 else 'pixels'} apart."
    )
    return Figure(figure, f"Receptive field on a photograph. {words}"), words


def feature_maps(
    model: nn.Module,
    images: Tensor,
    layers: Sequence[str] | None = None,
    *,
    channels: int = 8,
) -> "Explorer":
    """Look at the feature maps of a network one by one, layer × channel.

    Parameters
    ----------
    model
        Any network, preferably trained; left unchanged.
    images
        Its input, normalized as in training, ``(N, C, H, W)``. With several, the reader also
        chooses the image.
    layers
        Names as in ``model.named_modules()``; by default the direct children of `model` whose
        feature maps have more than one pixel.
    channels
        How many feature maps of each layer to offer, from the first; at most as many as the
        narrowest layer has.

    Returns
    -------
    Explorer
        Chooses layer, channel and image. The color scale is the same for all feature maps of a
        layer; if there are negative values, it is symmetric about zero.

    Raises
    ------
    ValueError
        If `images` or a layer's output has a different number of dimensions, or no layer remains.

    Examples
    --------
    >>> from cnnbook import data, models
    >>> _, test = data.load("fashion-mini", size=32)
    >>> feature_maps(models.lenet5(), test.images[:1] / 255, ["c1"], channels=2)
    <Explorer of 2 states (layer: 1, channel: 2)>
    """
    check_kind("model", model, nn.Module, "a network (a torch.nn.Module)")
    check_dense("images", images)
    check_count("channels", channels)
    if images.ndim != 4 or len(images) == 0:
        raise ValueError(f"images must be (N, C, H, W), got {tuple(images.shape)}")
    maps: dict[str, Tensor] = analysis.activations(model, images, layers)
    if layers is None:
        maps = {n: m for n, m in maps.items() if m.ndim == 4 and max(m.shape[2:]) > 1}
    for name, value in maps.items():
        if value.ndim != 4:
            raise ValueError(
                f"layer {name!r} returns {tuple(value.shape)}, not feature maps (N, C, H, W)"
            )
    if not maps:
        raise ValueError(
            "no layer returns feature maps of more than one pixel; name some in layers="
        )
    count = min(channels, *(m.shape[1] for m in maps.values()))

    def draw(layer: str, channel: int, image: int = 1):
        return _one_map(images[image - 1], maps[layer], layer, channel, image)

    choices = {"layer": list(maps), "channel": range(1, count + 1)}
    if len(images) > 1:
        choices["image"] = range(1, len(images) + 1)
    return explore(draw, **choices)


def _one_map(image: Tensor, maps: Tensor, layer: str, channel: int, number: int) -> Figure:
    shown = maps[number - 1, channel - 1]
    signed = maps.min() < 0
    limit = maps.abs().max().item() or 1.0
    with new_figure(CHART, 2.9) as figure:
        left, right = figure.subplots(1, 2)
        image = _stretched(image)
        picture = image if len(image) == 3 else image[:1]
        left.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
        left.set_title(f"image, {image.shape[1]}×{image.shape[2]}")
        drawn = right.imshow(
            shown.numpy(),
            cmap=SIGNED if signed else POSITIVE,
            vmin=-limit if signed else 0,
            vmax=limit,
        )
        right.set_title(f"{layer}, channel {channel}: {shown.shape[0]}×{shown.shape[1]}")
        bar = figure.colorbar(drawn, ax=right, fraction=0.05)
        bar.set_label("activation")
        bar.outline.set_visible(False)
        for axes in (left, right):
            _framed(axes)
    alt = (
        f"Image {number} and channel {channel} of layer {layer}: "
        f"{shown.shape[0]}×{shown.shape[1]}, from {shown.min():.2g} to {shown.max():.2g}."
    )
    return Figure(figure, alt)


def architecture(model: nn.Module, image: Tensor, *, channels: int = 8) -> "Explorer":
    """Walk through a network block by block: shapes, parameters, operations, feature maps.

    Parameters
    ----------
    model
        Any network; left unchanged.
    image
        One input, normalized as in training, ``(1, C, H, W)``.
    channels
        How many of each block's feature maps to show, from the first.

    Returns
    -------
    Explorer
        Chooses a block: one of the direct children of `model`, in the order in which they run.

    Raises
    ------
    ValueError
        If `image` is not a single image.

    Examples
    --------
    >>> from cnnbook import data, models
    >>> _, test = data.load("fashion-mini", size=32)
    >>> architecture(models.lenet5(), test.images[:1] / 255, channels=1)
    <Explorer of 7 states (block: 7)>
    """
    check_kind("model", model, nn.Module, "a network (a torch.nn.Module)")
    check_dense("image", image)
    check_count("channels", channels)
    if image.ndim != 4 or len(image) != 1:
        raise ValueError(f"image must be (1, C, H, W), got {tuple(image.shape)}")
    table = analysis.summary(model, image.shape[1:])
    # Rows with a star are what the model itself holds or computes outside its layers.
    known = dict(model.named_modules())
    table = Table([row for row in table.rows if row["layer"] in known])
    names = [row["layer"] for row in table.rows]
    outputs = analysis.activations(model, image, names)
    shapes = {"input": tuple(image.shape[1:])}
    shapes |= {name: tuple(outputs[name].shape[1:]) for name in names}
    blocks = analysis.trace(model, image.shape[1:]).blocks()
    # The image has number -1. A layer that only passes on its input is not a block.
    read = {
        block.name: " and ".join(
            "×".join(map(str, blocks[i].shape if i >= 0 else shapes["input"])) for i in block.inputs
        )
        for block in blocks
    }

    def draw(block: str):
        row = table[names.index(block)]
        words = (
            f"{block} ({row['kind']}): {read.get(block, row['output'])} in, {row['output']} out. "
            f"{row['parameters']:,} parameters, {row['macs']:,} multiply–adds"
        )
        if row["receptive_field"] is not None:
            words += f", receptive field {row['receptive_field']} pixels"
        return [_blocks(shapes, block, outputs[block][0], channels), words + "."]

    return explore(draw, block=names)


def _blocks(shapes: dict[str, tuple[int, ...]], chosen: str, output: Tensor, count: int) -> Figure:
    def sides(shape: tuple[int, ...]) -> tuple[float, float]:
        """Return width (after the number of channels) and height (after theirs) of a block."""
        height = shape[1] / largest if len(shape) == 3 else 0
        return 0.35 + 0.13 * math.log2(shape[0]), 0.15 + 1.85 * height

    largest = max(shape[1] for shape in shapes.values() if len(shape) == 3)
    tiles = output[:count] if output.ndim == 3 else output.view(1, 1, -1)
    limit = tiles.abs().max().item() or 1.0
    signed = tiles.min() < 0
    with new_figure(CHART, 3.6) as figure:
        top, bottom = figure.subfigures(2, 1, height_ratios=[2.2, 1])
        axes = top.add_subplot()
        left = 0.0
        centers = []
        for name, shape in shapes.items():
            width, height = sides(shape)
            color = COLORS[1] if name == chosen else COLORS[0] if name != "input" else COLORS[5]
            axes.add_patch(Rectangle((left, -height / 2), width, height, color=color, lw=0))
            centers.append(left + width / 2)
            left += width + 0.25
        axes.set(xlim=(-0.1, left - 0.15), ylim=(-1.05, 1.05), yticks=[])
        axes.set_xticks(centers, list(shapes), rotation=90 if len(shapes) > 8 else 0)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        row = bottom.subplots(1, len(tiles), squeeze=False)[0]
        for tile, tile_axes in zip(tiles, row, strict=True):
            tile_axes.imshow(
                tile.numpy(),
                cmap=SIGNED if signed else POSITIVE,
                vmin=-limit if signed else 0,
                vmax=limit,
                aspect="equal" if output.ndim == 3 else "auto",
            )
            _framed(tile_axes)
        what = f"first {len(tiles)} feature maps" if output.ndim == 3 else "vector"
        bottom.suptitle(f"{chosen}: {what}", size=10.5)
    listed = ", ".join(f"{name} {'×'.join(map(str, s))}" for name, s in shapes.items())
    alt = f"The blocks of a network, {listed}; chosen is {chosen}, with its {what}."
    return Figure(figure, alt)
