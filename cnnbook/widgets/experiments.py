"""Explorers of design decisions: augmentation, 1×1 reductions, shortcuts."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cnnbook import analysis, models
from cnnbook._checks import check_dense
from cnnbook._errors import check_kind
from cnnbook.data import Augment, Batches, load, photo
from cnnbook.plots import images
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import CHART, COLORS, line_style, new_figure
from cnnbook.widgets.explore import explore, preferred

if TYPE_CHECKING:
    from cnnbook.widgets.linked import Explorer

# Each at full strength; the explorer scales it down.
TRANSFORMS = {
    "rotate": Augment(rotate=45),
    "translate": Augment(translate=0.3),
    "scale": Augment(scale=(0.6, 1.7)),
    "shear": Augment(shear=35),
    "crop": Augment(crop=0.4),
    "flip": Augment(flip=1),
    "brightness": Augment(brightness=0.8),
    "contrast": Augment(contrast=0.9),
    "erase": Augment(erase=1),
    "all together": Augment(
        rotate=20, translate=0.15, scale=(0.8, 1.3), flip=0.5, brightness=0.4, contrast=0.4
    ),
}


def augmentation(
    picture: Tensor | None = None,
    transforms: Mapping[str, Augment] = TRANSFORMS,
    *,
    strengths: Sequence[float] = (0.25, 0.5, 1.0),
    examples: int = 3,
) -> "Explorer":
    """See what random transforms of a given strength do to a photograph.

    Parameters
    ----------
    picture
        uint8, ``(1 or 3, H, W)``; a cat of 80×80 pixels by default.
    transforms
        Name to transform at full strength.
    strengths
        Factors to choose from, see :meth:`cnnbook.data.Augment.scaled`.
    examples
        How many random draws to show; the same draws for every strength.

    Returns
    -------
    Explorer
        Chooses transform and strength.

    Raises
    ------
    ValueError
        If the picture is not uint8 of that shape.

    Examples
    --------
    >>> from cnnbook import data
    >>> cat = data.photo("cat", size=32)
    >>> transforms = {"rotate": data.Augment(rotate=30), "flip": data.Augment(flip=0.5)}
    >>> augmentation(cat, transforms, strengths=(0.5, 1.0), examples=1)
    <Explorer of 4 states (transform: 2, strength: 2)>
    """
    picture = photo("cat", 80) if picture is None else picture
    check_dense("picture", picture)
    check_kind("transforms", transforms, Mapping, "a mapping from names to data.Augment")

    def draw(transform: str, strength: float):
        batch = picture.expand(examples, *picture.shape)
        changed = transforms[transform].scaled(strength)(batch, seed=0).clamp(0, 1)
        alt = f"{examples} random draws of the transform {transform} at strength {strength:g}."
        return images(changed, columns=examples, alt=alt)

    choices = {"transform": list(transforms), "strength": strengths}
    return explore(draw, first=preferred(choices, strength=1.0), **choices)


def reduction_cost(
    *,
    size: int = 28,
    out_channels: int = 32,
    in_channels: Sequence[int] = (64, 128, 192, 256, 480),
    reduced: Sequence[int] = (8, 16, 32, 56),
    kernels: Sequence[int] = (3, 5),
) -> "Explorer":
    """Compare a convolution with the same one after a 1×1 convolution to fewer channels.

    It is the reduction of the Inception module (Szegedy et al. 2015, Section 4). With a 5×5
    kernel, 192 channels in, 16 between and 32 out, on 28×28 positions, it is the branch of module
    3a: 120,422,400 multiply–adds (MACs) become 12,443,648.

    Parameters
    ----------
    size
        Height and width of the feature maps, which stay the same.
    out_channels
        Channels of the output.
    in_channels, reduced, kernels
        Channels before and after the 1×1 convolution, and sides of the large kernel, to choose
        from.

    Returns
    -------
    Explorer
        Chooses these three. Multiply–adds are those of the kernels; biases are not counted.

    Examples
    --------
    >>> reduction_cost(in_channels=(192, 480), reduced=(16,), kernels=(5,))
    <Explorer of 2 states (in_channels: 2, reduced: 1, kernel: 1)>
    """
    widest = analysis.conv_cost(max(in_channels), out_channels, max(kernels), size, bias=False)
    most = widest.macs

    def draw(in_channels: int, reduced: int, kernel: int):
        direct, first, second = (
            analysis.conv_cost(before, after, k, size, bias=False).macs
            for before, after, k in (
                (in_channels, out_channels, kernel),
                (in_channels, reduced, 1),
                (reduced, out_channels, kernel),
            )
        )
        what = f"{kernel}×{kernel}"
        with new_figure(CHART, 1.9) as figure:
            axes = figure.add_subplot()
            axes.barh([0], [direct / 1e6], color=COLORS[0], height=0.6)
            axes.barh([1], [first / 1e6], color=COLORS[1], height=0.6, label="1×1")
            left = [first / 1e6]
            axes.barh([1], [second / 1e6], left=left, color=COLORS[0], height=0.6, label=what)
            for y, total in enumerate((direct, first + second)):
                axes.text(total / 1e6 + most / 6e7, y, f"{total:,}", va="center")
            axes.set_yticks([0, 1], [f"{what} at once", f"1×1, then {what}"])
            axes.set(xlim=(0, 1.3 * most / 1e6), xlabel="multiply–adds (million)")
            axes.invert_yaxis()
            axes.legend(loc="lower right")
        ratio = direct / (first + second)
        compared = f"{ratio:.1f} times fewer" if ratio > 1 else f"{1 / ratio:.1f} times as many"
        words = (
            f"{size}·{size}·{kernel}·{kernel}·{in_channels}·{out_channels} = {direct:,}; through "
            f"{reduced} channels {first:,} + {second:,} = {first + second:,}, {compared}."
        )
        return Figure(figure, f"Multiply–adds of a {what} convolution: {words}"), words

    choices = {"in_channels": in_channels, "reduced": reduced, "kernel": kernels}
    first = preferred(choices, in_channels=192, reduced=16, kernel=5)
    return explore(draw, first=first, **choices)


def shortcut_gradients(
    x: Tensor | None = None,
    y: Tensor | None = None,
    *,
    depths: Sequence[int] = (8, 14, 20, 32, 44, 56),
    width: float = 0.5,
    seed: int = 0,
) -> "Explorer":
    """Compare the gradients in networks with and without shortcuts, by depth.

    Parameters
    ----------
    x, y
        Normalized images, ``(N, C, H, W)``, and their classes, ``(N,)``; by default 32 images of
        ``fashion-mini``.
    depths
        Depths 6n + 2 of the networks for small images (He et al. 2016, Section 4.2).
    width
        Multiplies the numbers of channels.
    seed
        Seeds the initial weights. The caller's random state is left unchanged.

    Returns
    -------
    Explorer
        Chooses the depth. Each picture shows the root mean square of the gradient of every weight
        tensor of an untrained ResNet, and of the plain network of the same layers, for one batch;
        see :func:`cnnbook.analysis.gradient_norms`. The axes are the same for all depths.

    Raises
    ------
    ValueError
        If only one of `x` and `y` is given.

    Examples
    --------
    >>> shortcut_gradients(depths=(8, 14), width=0.25)
    <Explorer of 2 states (depth: 2)>
    """
    if (x is None) != (y is None):
        raise ValueError("give both x and y, or neither for images of fashion-mini")
    if x is None:
        train, _ = load("fashion-mini")
        x, y = next(Batches(train[:32], 32, shuffle=False, device="cpu").epoch(0))
    norms: dict[int, dict[str, list[float]]] = {}
    for depth in depths:
        norms[depth] = {}
        for label, plain in (("with shortcuts", False), ("plain", True)):
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                classes = int(y.max()) + 1
                net = models.ResNet(depth, classes, x.shape[1], plain=plain, width=width)
            norms[depth][label] = list(analysis.gradient_norms(net, x, y).values())
    values = [v for lines in norms.values() for line in lines.values() for v in line if v > 0]

    def draw(depth: int):
        with new_figure(CHART, 2.9) as figure:
            axes = figure.add_subplot()
            for i, (label, line) in enumerate(norms[depth].items()):
                axes.plot(range(1, 1 + len(line)), line, label=label, **line_style(i))
            axes.set_yscale("log")
            axes.set(
                xlim=(0, max(depths) + 1),
                ylim=(min(values) / 1.5, max(values) * 1.5),
                xlabel="layer, from the image",
                ylabel="gradient (root mean square)",
            )
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.legend(loc="upper right")
        first = "; ".join(f"{n} {line[0]:.2g}" for n, line in norms[depth].items())
        words = f"Depth {depth}. Gradient at the first layer: {first}."
        return Figure(figure, f"Gradient by layer, logarithmic. {words}"), words

    return explore(draw, first=preferred({"depth": depths}, depth=20), depth=depths)
