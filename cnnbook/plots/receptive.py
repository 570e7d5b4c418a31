"""What a unit sees, drawn on the image."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from torch import Tensor

from cnnbook._checks import is_number
from cnnbook._errors import check_kind
from cnnbook.analysis import EffectiveReceptiveField, ReceptiveField
from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import check_pixels
from cnnbook.plots.style import CHART, COLORS, INK, new_figure

HALO = [
    patheffects.Stroke(linewidth=3.5, foreground="white", alpha=0.8),
    patheffects.Normal(),
]


def _check_image(image: Tensor) -> None:
    check_pixels("image", image)
    if image.ndim != 3 or image.shape[0] not in (1, 3):
        raise ValueError(f"image must be (1 or 3, H, W), got {tuple(image.shape)}")


def _check_field(field: ReceptiveField, sides: Sequence[int]) -> None:
    check_kind("field", field, ReceptiveField, "a result of cnnbook.analysis.receptive_field")
    if field.image != tuple(sides):
        raise ValueError(
            f"the receptive field of {field.layer!r} is for images of {field.image}, not of "
            f"{tuple(sides)} pixels; pass the shape of this image to receptive_field"
        )


def _show(axes: Axes, image: Tensor, **options: Any) -> None:
    top = 255 if image.dtype == torch.uint8 else 1
    pixels = image.cpu().permute(1, 2, 0).squeeze(-1).numpy()
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=top, **options)


def receptive_fields(
    image: Tensor,
    fields: ReceptiveField | Sequence[ReceptiveField],
    *,
    unit: tuple[float, float] = (0.5, 0.5),
    alt: str | None = None,
) -> Figure:
    """Draw how the part of an image that a unit sees grows with depth.

    Parameters
    ----------
    image
        uint8 or float in 0…1, ``(C, H, W)`` with one or three channels.
    fields
        One or several results of :func:`cnnbook.analysis.receptive_field` for images of this size.
    unit
        Which unit of each layer: its row and column as fractions of the layer's height and width.
    alt
        Text alternative; lists the sizes if not given.

    Returns
    -------
    Figure
        One box per layer, drawn from pixel border to pixel border. Parts outside the image, where
        the network sees padding, are dashed; a box that leaves the drawing is clipped.

    Raises
    ------
    ValueError
        If there are no fields, `unit` is not between 0 and 1, the image has a different shape, or a
        field belongs to images of a different size.
    TypeError
        If `image` is not a tensor, or `fields` are not such results.

    Examples
    --------
    >>> from cnnbook import analysis, data, models
    >>> net = models.create("vgg11", width=0.1)
    >>> fields = [analysis.receptive_field(net, (3, 224, 224), f"block{n}") for n in (1, 3, 5)]
    >>> receptive_fields(data.photo("cat", size=224), fields)  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Image of 224×224 pixels with a box for each layer: what one of its units sees. In
    pixels: block1 4×4, block3 30×30, block5 150×150.>
    """
    _check_image(image)
    fields = [fields] if isinstance(fields, ReceptiveField) else fields
    needed = "one result of cnnbook.analysis.receptive_field, or a list of them"
    check_kind("fields", fields, Sequence, needed)
    if not fields:
        raise ValueError("no receptive fields to draw")
    needed = "two fractions from 0 to 1 of the layer's height and width, as (0.5, 0.5)"
    check_kind("unit", unit, Collection, needed)
    if len(unit) != 2 or not all(is_number(share) and 0 <= share <= 1 for share in unit):
        raise ValueError(f"unit must be {needed}, got {unit}")
    height, width = image.shape[1:]
    for field in fields:
        _check_field(field, (height, width))
    boxes = [
        field.box(*(round(u * (n - 1)) for u, n in zip(unit, field.positions, strict=True)))
        for field in fields
    ]
    sizes = ["×".join(map(str, dict.fromkeys(_size(box)))) for box in boxes]
    # Room for what lies outside the image, within reason.
    overhang = max(
        max(-top, -left, bottom - height, right - width) for (top, bottom), (left, right) in boxes
    )
    margin = min(max(overhang + 3, 0.05 * max(height, width)), 0.6 * max(height, width))
    # A phone shows the whole figure, with its names in a legible size. Of its width, one share is
    # for the drawing, the rest for names.
    total, share = 5.0, 0.7
    across, down = width + 2 * margin, height + 2 * margin
    with new_figure(total, total * share * down / across) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        axes.set(xlim=(-margin, across / share - margin), ylim=(height + margin, -margin))
        _show(axes, image, extent=(0, width, height, 0), aspect="auto")
        inside = Rectangle((0, 0), width, height, fill=False, ec="none")
        around = Rectangle((-margin, -margin), across, down, fill=False, ec="none")
        axes.add_patch(inside)
        axes.add_patch(around)

        order = sorted(range(len(fields)), key=lambda i: -_size(boxes[i])[0])
        step = min(down / len(order), 0.17 * across)
        for rank, i in enumerate(order):
            color = COLORS[rank % len(COLORS)]
            (top, bottom), (left, right) = boxes[i]
            for clip, style in ((around, (0, (3, 2))), (inside, "-")):
                box = Rectangle((left, top), right - left, bottom - top, fill=False, ec=color)
                box.set(linewidth=2, linestyle=style)
                if clip is inside:
                    box.set_path_effects(HALO)
                axes.add_patch(box)
                box.set_clip_path(clip)
            # From the upper right corner, or from where the box leaves the drawing, to its name.
            corner = (min(right, width + margin), max(top, -margin))
            name = (width + margin + 0.09 * across, rank * step + 0.4 * step - margin)
            for effects in (None, HALO):
                (line,) = axes.plot(*zip(corner, name, strict=True), color=color, lw=1, ls="-")
                if effects:
                    line.set_path_effects(effects)
                    line.set_clip_path(inside)
            x = name[0] + 0.01 * across
            axes.text(x, name[1], fields[i].layer, va="bottom", size=10)
            axes.text(x, name[1], f"{sizes[i]} pixels", va="top", size=9.5)
    if alt is None:
        listed = ", ".join(
            f"{field.layer} {'×'.join(map(str, _size(box)))}"
            for field, box in zip(fields, boxes, strict=True)
        )
        alt = (
            f"Image of {height}×{width} pixels with a box for each layer: what one of its units "
            f"sees. In pixels: {listed}."
        )
    return Figure(figure, alt)


def effective_receptive_field(
    found: EffectiveReceptiveField,
    image: Tensor | None = None,
    field: ReceptiveField | None = None,
    *,
    alt: str | None = None,
) -> Figure:
    """Draw how strongly each pixel affects one unit, over the image if there is one.

    Parameters
    ----------
    found
        Result of :func:`cnnbook.analysis.effective_receptive_field`.
    image
        uint8 or float in 0…1, ``(C, H, W)`` with one or three channels, drawn in gray.
    field
        Result of :func:`cnnbook.analysis.receptive_field` for the same layer, to draw its box.
    alt
        Text alternative; gives both sizes if not given.

    Returns
    -------
    Figure
        Color is the effect relative to the largest; where it is weak, the image shows through. The
        solid square is as large as the area that holds 95.45 % of the effect, see
        :func:`cnnbook.analysis.effective_size`; it is centered on the effect's center of mass. The
        dashed box is the theoretical field.

    Raises
    ------
    ValueError
        If the shapes do not fit together, or the effect is zero everywhere.
    TypeError
        If `found`, `image` or `field` is something else.

    Examples
    --------
    >>> import torch
    >>> from cnnbook import analysis, models
    >>> net = models.lenet5()
    >>> effective = analysis.effective_receptive_field(net, torch.randn(8, 1, 32, 32), "s4")
    >>> field = analysis.receptive_field(net, (1, 32, 32), "s4")
    >>> effective_receptive_field(effective, field=field).alt.split(".")[-2].strip()
    'The theoretical field has 16×16'
    """
    needed = "a result of cnnbook.analysis.effective_receptive_field"
    check_kind("found", found, EffectiveReceptiveField, needed)
    effect = found.effect
    height, width = effect.shape
    if image is not None:
        _check_image(image)
        if image.shape[1:] != effect.shape:
            raise ValueError(
                f"image and effect must have one size, got {tuple(image.shape[1:])} and "
                f"{tuple(effect.shape)}"
            )
    if field is not None:
        _check_field(field, effect.shape)
    side = found.size
    if side == 0:
        raise ValueError("the effect is zero everywhere: the unit depends on no pixel")

    share = (effect / effect.max()).float().cpu()
    mass = effect.double() / effect.double().sum()
    row = (mass.sum(1) * torch.arange(height)).sum().item() + 0.5
    column = (mass.sum(0) * torch.arange(width)).sum().item() + 0.5
    with new_figure(CHART, 4.6) as figure:
        axes = figure.add_subplot()
        colors = ScalarMappable(Normalize(0, 1), "inferno")
        picture = torch.from_numpy(colors.to_rgba(share.numpy()))[..., :3]
        if image is not None:
            # The effect's square root decides how much of the image shows through.
            gray = image.detach().cpu().float() / (255 if image.dtype == torch.uint8 else 1)
            veil = share.sqrt().clamp(0, 0.9)[..., None]
            picture = veil * picture + (1 - veil) * gray.mean(0)[..., None]
        axes.imshow(picture.numpy(), extent=(0, width, height, 0))
        theory = None if field is None else field.box(*found.unit)
        boxes = [((row - side / 2, column - side / 2), (side, side), "-", "95.45 % of the effect")]
        if theory is not None:
            (top, _), (left, _) = theory
            boxes.append(((top, left), _size(theory), (0, (4, 2)), "theoretical field"))
        for (top, left), (tall, wide), style, _ in boxes:
            axes.add_patch(
                Rectangle(
                    *((left, top), wide, tall),
                    **{"fill": False, "ec": "white", "lw": 1.8, "ls": style},
                    path_effects=[
                        patheffects.withStroke(linewidth=3.4, foreground="black"),
                        patheffects.Normal(),
                    ],
                )
            )
        axes.set(xlim=(0, width), ylim=(height, 0), xlabel="pixels", ylabel="pixels")
        axes.spines[:].set_visible(False)
        bar = figure.colorbar(colors, ax=axes, shrink=0.8, pad=0.03)
        bar.set_label("effect, as a share of the largest")
        bar.outline.set_visible(False)
        handles = [
            Line2D([], [], color=INK, lw=1.8, ls=style, label=f"{what}: {_sides(size)} pixels")
            for _, size, style, what in boxes
        ]
        figure.legend(handles=handles, loc="outside upper center", handlelength=3)
    if alt is None:
        ideal = "" if theory is None else f" The theoretical field has {_sides(_size(theory))}."
        alt = (
            f"Effect of each of {height}×{width} pixels on one unit. 95.45 % of it lies in an area "
            f"as large as a square of {_sides((side, side))} pixels.{ideal}"
        )
    return Figure(figure, alt)


def _size(box: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """Return how many pixels a box spans along each dimension: where units differ, this one's."""
    return tuple(stop - first for first, stop in box)


def _sides(size: Sequence[float]) -> str:
    return "×".join(f"{side:.0f}" for side in size)
