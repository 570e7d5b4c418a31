"""What a unit responds to: images optimized for it, and image patches found for it."""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._checks import as_numbers, check_count, check_fits, check_positive
from cnnbook._draw import draw
from cnnbook._errors import unknown
from cnnbook._networks import device_of, evaluating, input_type, unwrapped
from cnnbook.analysis._batches import check_tensor, image_batches
from cnnbook.analysis._hooks import (
    check_differentiable,
    check_shape,
    check_values,
    forward_hooks,
    layer_names,
)
from cnnbook.analysis._layout import channels_last_layers
from cnnbook.analysis.activations import activations
from cnnbook.analysis.receptive import receptive_field
from cnnbook.data import DataLike, Dataset, seeds

if TYPE_CHECKING:
    from cnnbook.plots import Figure

#: Number of a unit, or of several.
Units = int | Iterable[int] | Tensor


@dataclass(frozen=True, eq=False)
class MaximizedUnits:
    """Images made to excite units of a layer.

    Parameters
    ----------
    layer
        Name of the layer.
    units
        Numbers of the U units.
    images
        ``(U, C, H, W)``, 0 to 1.
    activation
        ``(steps, U)``: mean of the unit's feature map in each step, on the randomly transformed
        image.

    Examples
    --------
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 3))
    >>> found = maximize_activation(net, "0", [2, 3], shape=(1, 16, 16), steps=4)
    >>> found
    <2 images for units [2, 3] of '0'>
    >>> found.images.shape, found.activation.shape
    (torch.Size([2, 1, 16, 16]), torch.Size([4, 2]))
    """

    layer: str
    units: tuple[int, ...]
    images: Tensor
    activation: Tensor

    def plot(self, *, columns: int = 6, alt: str | None = None) -> "Figure":
        """Show the images. See :func:`cnnbook.plots.maximized_units`."""
        return draw("maximized_units", self, columns=columns, alt=alt)

    def __repr__(self) -> str:
        """Return layer and units."""
        return f"<{len(self.units)} images for units {list(self.units)} of {self.layer!r}>"


def maximize_activation(
    model: nn.Module,
    layer: str | nn.Module,
    units: Units,
    *,
    shape: Sequence[int],
    mean: float | Sequence[float] | Tensor = 0.0,
    std: float | Sequence[float] | Tensor = 1.0,
    objective: Literal["channel", "neuron"] = "channel",
    steps: int = 256,
    lr: float = 0.1,
    decay: float = 0.4,
    jitter: float = 0.05,
    scale: float = 0.1,
    rotate: float = 10.0,
    fourier: bool = True,
    power: float = 2.0,
    decorrelate: bool = True,
    seed: int = 0,
) -> MaximizedUnits:
    """Make images that excite units of a layer, by gradient ascent from faint noise.

    After Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007. At
    each step, the image is shifted, resized and turned at random, so that only what survives these
    transforms can raise the activation. Without them, images would fill with fine noise, which also
    excites the unit.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode and is left unchanged.
    layer
        A layer whose output is feature maps ``(N, M, h, w)`` or ``(N, h, w, M)``, or vectors
        ``(N, M)``: the module, or its name as in ``model.named_modules()``. Prefer the output of a
        convolution to that of the ReLU after it, whose gradient is zero where the unit is silent.
    units
        Number of a channel of the layer's feature maps, or of an entry of its output vector;
        several, as a list, a range, an array or a tensor, are optimized at once.
    shape
        ``(C, H, W)`` of the images.
    mean, std
        How the network's images are normalized, per channel or one for all; those of a data set
        are its ``mean`` and ``std``.
    objective
        What is maximized: the mean of the unit's feature map, ``"channel"``, which fills the image
        with a texture, or the activation in its middle, ``"neuron"``, which shows one object.
    steps
        Steps of gradient ascent.
    lr
        Length of a step: how far, in root mean square, it changes what is optimized, the
        logarithm of the odds p/(1 - p) of pixels p or its Fourier coefficients.
    decay
        How strongly each step pulls the image back to gray, so that it does not end up black and
        white: by the fraction ``lr * decay``.
    jitter
        Largest shift, as a fraction of the image's side.
    scale
        Largest change of size, as a fraction.
    rotate
        Largest angle, in degrees.
    fourier
        Whether steps are taken on the image's Fourier coefficients, so that a step's spectrum
        falls with the frequency, as that of photographs does. It reaches higher activations than
        steps on the pixels, which show finer texture.
    power
        How fast it falls, with `fourier`: like one over the frequency to this power. Amplitudes of
        photographs fall with a power near 1; more makes smoother images, 0 treats all frequencies
        alike.
    decorrelate
        Whether steps are taken along the principal colors of photographs, each by as much as
        photographs vary along it: much along gray, little along blue–yellow and green–magenta.
        Without it, colors are garish. Only for images of three channels, red, green and blue.
    seed
        Seed of the first image and of the transforms. The same seed gives the same images on one
        device. The caller's random state is left unchanged.

    Returns
    -------
    MaximizedUnits
        On the CPU.

    Raises
    ------
    ValueError
        If the layer or a unit does not exist, the layer does not depend on the image, it cannot be
        told which dimension of its output holds the units, or an option is out of range.
    TypeError
        If the layer does not return a tensor, or the units are not integers.

    Warns
    -----
    UserWarning
        If a unit's gradient is always zero, so that its image stays gray.

    Examples
    --------
    The image gains more of what the unit looks for, edges with dark on the left:

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 2, bias=False))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.copy_(torch.tensor([[[[-1.0, 1.0], [-1.0, 1.0]]]]))
    >>> found = maximize_activation(net, "0", 0, shape=(1, 16, 16), steps=32)
    >>> bool(found.activation[-1] > found.activation[0])
    True
    """
    (name,) = layer_names(model, [layer])
    check_differentiable(model)
    check_values(model)
    net = unwrapped(model)
    numbers = _listed(units)
    sides = check_shape("shape", shape)
    if len(sides) != 3:
        hint = f"; try {sides[1:]}" if len(sides) == 4 else ""
        raise ValueError(f"shape must be the shape of one image, (C, H, W), got {sides}{hint}")
    if objective not in ("channel", "neuron"):
        raise unknown("objective", objective, ("channel", "neuron"))
    check_count("steps", steps)
    check_positive("lr", lr)
    if not 0 <= lr * decay < 1:
        raise ValueError(f"decay must be from 0 to less than 1/lr = {1 / lr:g}, got {decay}")
    for option, value in {"jitter": jitter, "scale": scale}.items():
        if not 0 <= value < 1:
            raise ValueError(f"{option} is a fraction from 0 to 1, got {value}")
    check_fits("the images", 4 * len(numbers) * math.prod(sides))
    device = device_of(net)
    dtype = input_type(net)
    generator = seeds.generator(seed)
    mu = _per_channel("mean", mean, sides[0]).to(device)
    sigma = _per_channel("std", std, sides[0]).to(device)
    if not (sigma > 0).all():
        raise ValueError(f"std must be positive, got {std}")
    rows = torch.arange(len(numbers), device=device)
    columns = torch.tensor(numbers, device=device)
    channels_last = name in channels_last_layers(net, sides, [name])
    kept: list[Tensor] = []
    runs = 0  # of the layer in one run of the network; counted in the first step
    activation = torch.empty(steps, len(numbers))
    climbed = torch.zeros(len(numbers), dtype=torch.bool, device=device)

    def keeper(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: object) -> None:
            maps = check_tensor(name, output)
            if maps.ndim not in (2, 4):
                raise ValueError(
                    f"layer {name!r} outputs {tuple(maps.shape)}, neither feature maps "
                    "(N, M, h, w) nor vectors (N, M)"
                )
            if channels_last and maps.ndim == 4:
                maps = maps.permute(0, 3, 1, 2)
            _check_units(name, numbers, maps.shape[1])
            # Taken at once: the next layer may operate in place.
            own = maps[rows, columns]
            if own.ndim == 3:
                middle = own[:, own.shape[1] // 2, own.shape[2] // 2]
                own = own.mean((1, 2)) if objective == "channel" else middle
            kept.append(own)
            if len(kept) == runs:
                raise _Reached

        return hook

    with forward_hooks(net, [name], keeper), evaluating(net), torch.enable_grad():
        painted = _Painted(
            (len(numbers), *sides), generator, device, power if fourier else None, decorrelate
        )
        for step in range(steps):
            changed = _changed(painted.image(), jitter, scale, rotate, generator)
            kept.clear()
            # What the network computes after the layer's last run is not needed.
            with contextlib.suppress(_Reached):
                net(((changed - mu) / sigma).to(dtype))
            if not kept:
                raise ValueError(f"layer {name!r} does not run in evaluation mode")
            runs, excited = len(kept), kept[-1]
            gradient = None
            if excited.requires_grad:
                (gradient,) = torch.autograd.grad(
                    excited.sum(), painted.parameter, allow_unused=True
                )
            if gradient is None:
                raise ValueError(
                    f"layer {name!r} does not depend on the image, or the network computes without "
                    "gradients before it; choose another"
                )
            climbed |= gradient.flatten(1).any(1)
            # Normalize each image's gradient: units differ in scale by orders of magnitude.
            size = gradient.flatten(1).square().mean(1).sqrt().clamp(min=1e-20)
            direction = gradient / size.view(-1, *[1] * (gradient.ndim - 1))
            with torch.no_grad():
                painted.parameter.mul_(1 - lr * decay).add_(direction, alpha=lr)
            activation[step] = excited.detach().cpu()
    if silent := [unit for unit, rose in zip(numbers, climbed.tolist(), strict=True) if not rose]:
        warnings.warn(
            f"the gradient of units {silent} of layer {name!r} was zero at every step, so their "
            "images show nothing; if a ReLU makes them silent, name the layer before it",
            stacklevel=2,
        )
    return MaximizedUnits(name, numbers, painted.image().detach().cpu(), activation)


class _Reached(BaseException):
    """Ends a run of a network, which does not catch it as it would an Exception."""


# Principal components of the colors of ImageNet's photographs, red, green and blue from 0 to 1, as
# published with fb.resnet.torch for the color augmentation of Krizhevsky et al. 2012, Section 4.1:
# variances, and one direction per column.
COLOR_VARIANCES = (0.2175, 0.0188, 0.0045)
COLOR_DIRECTIONS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)


def _colors() -> Tensor:
    """Return the principal colors as columns, as long as colors vary along them; the longest, 1."""
    spread = torch.tensor(COLOR_VARIANCES).sqrt()
    return torch.tensor(COLOR_DIRECTIONS) * spread / spread.max()


class _Painted:
    """Images ``(N, C, H, W)`` between 0 and 1, as the sigmoid of what free numbers describe.

    Those are pixels or Fourier coefficients, of red, green and blue or of principal colors.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator,
        device: torch.device,
        power: float | None,
        decorrelate: bool,
    ):
        *_, self.height, self.width = shape
        self.colors = _colors().to(device) if decorrelate and shape[1] == 3 else None
        self.spread: Tensor | None = None
        if power is not None:
            rows = torch.fft.fftfreq(self.height)[:, None]
            columns = torch.fft.rfftfreq(self.width)
            frequency = (rows**2 + columns**2).sqrt()
            # The constant is treated like the lowest frequency. Half the power, because the scale
            # acts twice: on the gradient, and on what the step changes.
            spread = frequency.clamp(min=1 / max(self.height, self.width)) ** (-power / 2)
            # At mean square 1, steps change the image as much as steps on the pixels would.
            self.spread = (spread / spread.square().mean().sqrt()).to(device)
            shape = (*shape[:2], *frequency.shape, 2)
        noise = 0.01 * torch.randn(shape, generator=generator)
        self.parameter = noise.to(device).requires_grad_()

    def image(self) -> Tensor:
        pixels: Tensor = self.parameter
        if self.spread is not None:
            coefficients = torch.view_as_complex(pixels) * self.spread
            # norm="ortho" keeps the step size independent of the image size.
            pixels = torch.fft.irfft2(coefficients, (self.height, self.width), norm="ortho")
        if self.colors is not None:
            pixels = torch.einsum("rc,nchw->nrhw", self.colors, pixels)
        return pixels.sigmoid()


def _changed(
    images: Tensor, jitter: float, scale: float, rotate: float, generator: torch.Generator
) -> Tensor:
    """Shift, resize and rotate all images in the same way, mirrored at the border."""
    if jitter == scale == rotate == 0:
        return images
    x, y, size, turn = (2 * torch.rand(4, generator=generator) - 1).tolist()
    angle, factor = math.radians(rotate * turn), 1 + scale * size
    cos, sin = math.cos(angle) / factor, math.sin(angle) / factor
    # In the coordinates of affine_grid, which run from -1 to 1.
    aspect = images.shape[2] / images.shape[3]
    matrix = torch.tensor(
        [[cos, -sin * aspect, 2 * jitter * x], [sin / aspect, cos, 2 * jitter * y]]
    )
    matrix = matrix.to(images).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True, eq=False)
class TopPatches:
    """What excites units of a layer most in given images.

    Parameters
    ----------
    layer
        Name of the layer.
    units
        Numbers of the U units.
    patches
        What each unit sees there, ``(U, k, C, h, w)``, the strongest first: raw pixels of a data
        set, or values of the tensor given. Black (0) beyond the image's border.
    images
        Numbers of the images, ``(U, k)``.
    positions
        Row and column in the layer's feature map, ``(U, k, 2)``; 0, 0 for an output vector.
    activation
        The unit's activation there, ``(U, k)``.

    Examples
    --------
    >>> pictures = torch.rand(20, 1, 8, 8)
    >>> found = top_patches(nn.Sequential(nn.Conv2d(1, 4, 3)), pictures, "0", [0, 1], k=5)
    >>> found
    <top 5 patches of 3×3 pixels for units [0, 1] of '0'>
    >>> found.images.shape, found.positions.shape
    (torch.Size([2, 5]), torch.Size([2, 5, 2]))
    """

    layer: str
    units: tuple[int, ...]
    patches: Tensor
    images: Tensor
    positions: Tensor
    activation: Tensor

    def plot(
        self,
        maximized: MaximizedUnits | None = None,
        *,
        kind: str = "unit",
        alt: str | None = None,
    ) -> "Figure":
        """Show the patches, one row per unit. See :func:`cnnbook.plots.top_patches`.

        Parameters
        ----------
        maximized
            Images made for the same units by :func:`maximize_activation`, shown in front.
        kind
            What the number of a row counts: for a convolution, also “map”.
        alt
            Text alternative.

        Returns
        -------
        cnnbook.plots.Figure
        """
        return draw("top_patches", self, maximized, kind=kind, alt=alt)

    def __repr__(self) -> str:
        """Return layer, units and size of the patches."""
        count, (height, width) = self.patches.shape[1], self.patches.shape[3:]
        return (
            f"<top {count} patches of {height}×{width} pixels for units {list(self.units)} of "
            f"{self.layer!r}>"
        )


def top_patches(
    model: nn.Module,
    images: Tensor | DataLike,
    layer: str | nn.Module,
    units: Units,
    k: int = 9,
    *,
    batch_size: int = 100,
) -> TopPatches:
    """Find the image patches that excite units of a layer most (Zeiler & Fergus 2014).

    "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901, Section 4: the k
    images in which the unit's largest activation is highest, one patch of each. A patch is the
    unit's receptive field, or the whole image where that is larger.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode, without gradients, and is left unchanged.
    images
        ``(N, C, H, W)`` as the network takes them, or any labeled data that
        :func:`cnnbook.data.make_batches` takes, all images of one size. It is read once, in order;
        the images of a :class:`cnnbook.data.Dataset` are normalized first.
    layer
        A layer that outputs feature maps ``(N, M, h, w)`` or ``(N, h, w, M)``, or vectors
        ``(N, M)``, which see the whole image: the module, or its name as in
        ``model.named_modules()``. If it runs more than once, the last run counts.
    units
        Number of a channel of the feature maps or of an entry of the vector, or several, as a list,
        a range, an array or a tensor.
    k
        Patches per unit.
    batch_size
        Images at a time. It affects only memory and speed.

    Returns
    -------
    TopPatches
        On the CPU. Equal activations come in the order of the images.

    Raises
    ------
    ValueError
        If the layer or a unit does not exist, k is not from 1 to N, images differ in size, it
        cannot be told which dimension holds the units, or the layer's receptive field cannot be
        followed.
    TypeError
        If `images` is neither of these, or the layer does not return a tensor.

    Examples
    --------
    Which of the images has the brightest square of 2×2 pixels, and where?

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 2, bias=False))
    >>> _ = nn.init.constant_(net[0].weight, 1)
    >>> pictures = torch.zeros(10, 1, 6, 6)
    >>> pictures[7, 0, 2:4, 3:5] = 1
    >>> found = top_patches(net, pictures, "0", 0, k=1)
    >>> found.images.tolist(), found.positions.tolist(), found.activation.tolist()
    ([[7]], [[[2, 3]]], [[4.0]])
    """
    (name,) = layer_names(model, [layer])
    net = unwrapped(model)
    numbers = _listed(units)
    check_count("k", k)
    activation = torch.empty(len(numbers), 0)
    index = torch.empty(len(numbers), 0, dtype=torch.long)
    positions = torch.empty(len(numbers), 0, 2, dtype=torch.long)
    kept: dict[int, Tensor] = {}  # the images that are among the best so far
    count, maps, last, sides = 0, False, False, torch.Size()
    for x in image_batches(images, batch_size, device_of(net)):
        found = activations(net, x, [name])[name]
        if count == 0:
            sides, maps = x.shape[1:], found.ndim == 4
            last = maps and name in channels_last_layers(net, sides, [name])
        if x.shape[1:] != sides:
            raise ValueError(
                f"images must be of one size; got {tuple(sides)} and {tuple(x.shape[1:])}"
            )
        if found.ndim not in (2, 4):
            raise ValueError(
                f"layer {name!r} outputs {tuple(found.shape)}, neither feature maps "
                "(N, M, h, w) nor vectors (N, M)"
            )
        if found.isnan().any():
            raise ValueError(
                f"layer {name!r} gives values that are no numbers (NaN) for some of the images, so "
                "that none is the highest"
            )
        found = found.permute(0, 3, 1, 2) if last else found
        _check_units(name, numbers, found.shape[1])
        # A vector counts as maps with one position.
        value, flat = found[:, list(numbers)].reshape(len(x), len(numbers), -1).max(2)
        columns = found.shape[3] if maps else 1
        at = torch.stack([flat // columns, flat % columns], 2).transpose(0, 1)
        here = torch.arange(count, count + len(x)).expand(len(numbers), -1)
        activation, order = torch.cat([activation, value.T], 1).sort(
            dim=1, descending=True, stable=True
        )
        activation, order = activation[:, :k], order[:, :k]
        index = torch.cat([index, here], 1).gather(1, order)
        positions = torch.cat([positions, at], 1).gather(1, order[..., None].expand(-1, -1, 2))
        best = set(index.flatten().tolist())
        kept = {i: kept[i] if i < count else x[i - count].detach().cpu() for i in best}
        count += len(x)
    if k > count:
        raise ValueError(f"k must be from 1 to the number of images, {count}; got {k}")
    if isinstance(images, Dataset):  # its raw pixels
        kept = {i: images.images[i].cpu() for i in kept}
    field = receptive_field(net, sides, name) if maps else None
    patches = []
    for image, spot in zip(index.flatten().tolist(), positions.flatten(0, 1).tolist(), strict=True):
        box: Sequence[tuple[int, int]] = ((0, sides[1]), (0, sides[2]))
        if field is not None:
            # If all units see the same, for example after squeeze-and-excitation, the field has one
            # position.
            box = field.box(*(min(i, n - 1) for i, n in zip(spot, field.positions, strict=True)))
        patches.append(_crop(kept[image], box))
    stacked = torch.stack(patches)
    stacked = stacked.view(len(numbers), k, *stacked.shape[1:])
    return TopPatches(name, numbers, stacked, index, positions, activation)


def _crop(image: Tensor, box: Sequence[tuple[int, int]]) -> Tensor:
    """Return the pixels of a box: black beyond the image, and the whole image if it is larger."""
    for dim, (first, end) in zip((1, 2), box, strict=True):
        length = image.shape[dim]
        if end - first < length:
            # After a padded 1×1 kernel, a box may lie outside the image: then nothing of it
            # remains.
            a, b = (min(max(side, 0), length) for side in (first, end))
            before = min(max(0, -first), end - first)
            after = end - first - (b - a) - before
            image = image.narrow(dim, a, b - a)
            image = F.pad(image, (0, 0, before, after) if dim == 1 else (before, after))
    return image


def _listed(units: Units) -> tuple[int, ...]:
    """Return the numbers of one or several units, given as ints, arrays or tensors."""
    listed = units.tolist() if hasattr(units, "tolist") else units
    if isinstance(listed, Iterable) and not isinstance(listed, str):
        # Also a list of numpy's integers, or of tensors.
        listed = [one.item() if hasattr(one, "item") else one for one in listed]
    else:
        listed = [listed]
    if not listed:
        raise ValueError("units must name at least one unit")
    if not all(isinstance(unit, int) and not isinstance(unit, bool) for unit in listed):
        raise TypeError(f"units must be the number of a unit, or several, got {units!r}")
    return tuple(listed)


def _per_channel(name: str, values: float | Sequence[float] | Tensor, channels: int) -> Tensor:
    """Return one value, or one per channel, as ``(1 or C, 1, 1)``."""
    given = as_numbers(name, values, torch.zeros(()))
    if given.ndim > 1 or (given.ndim == 1 and len(given) not in (1, channels)):
        raise ValueError(f"{name} needs 1 or {channels} values, got {given.numel()}")
    return given.view(-1, 1, 1)


def _check_units(layer: str, units: Sequence[int], count: int) -> None:
    if not 0 <= min(units) <= max(units) < count:
        raise ValueError(f"layer {layer!r} has units 0 … {count - 1}, got {tuple(units)}")
