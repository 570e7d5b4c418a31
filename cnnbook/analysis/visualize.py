"""What a unit responds to: images optimized for it, and image patches found for it."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._draw import draw
from cnnbook.analysis._batches import check_tensor, image_batches
from cnnbook.analysis._hooks import check_shape, device_of, evaluation, forward_hooks
from cnnbook.analysis.activations import activations
from cnnbook.analysis.receptive import receptive_field
from cnnbook.data import Dataset

if TYPE_CHECKING:
    from cnnbook.plots import Figure


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
    layer: str,
    units: int | Sequence[int],
    *,
    shape: Sequence[int],
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    steps: int = 128,
    lr: float = 0.1,
    decay: float = 1.0,
    jitter: float = 0.05,
    scale: float = 0.1,
    rotate: float = 10.0,
    fourier: bool = True,
    seed: int = 0,
) -> MaximizedUnits:
    """Make images that excite units of a layer, by gradient ascent from faint noise.

    After Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007.
    Each step the image is shifted, resized and turned at random, so that only what survives these
    transforms can raise the activation. Without them, images would fill with fine noise, which also
    excites the unit.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode and is left unchanged.
    layer
        Name as in ``model.named_modules()``. Prefer the output of a convolution to that of the ReLU
        after it, whose gradient is zero where the unit is silent.
    units
        Number of a channel of the layer's feature maps, or of an entry of its output vector;
        several are optimized at once. What is maximized is the mean of the unit's map.
    shape
        ``(C, H, W)`` of the images.
    mean, std
        How the network's images are normalized, per channel or one for all; those of a data set
        are its ``mean`` and ``std``.
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
        falls like one over the frequency, as that of natural images does. It reaches higher
        activations than steps on the pixels, which show finer texture.
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
        If the layer or a unit does not exist, or an option is out of range.
    TypeError
        If the layer does not return a tensor.

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
    units = _listed(units)
    sides = check_shape("shape", shape)
    if len(sides) != 3:
        hint = f"; try {sides[1:]}" if len(sides) == 4 else ""
        raise ValueError(f"shape must be the shape of one image, (C, H, W), got {sides}{hint}")
    channels, height, width = sides
    if steps < 1 or lr <= 0:
        raise ValueError(f"steps and lr must be positive, got steps={steps}, lr={lr}")
    if not 0 <= lr * decay < 1:
        raise ValueError(f"decay must be from 0 to less than 1/lr = {1 / lr:g}, got {decay}")
    for name, values in {"mean": mean, "std": std}.items():
        if isinstance(values, int | float) or len(values) not in (1, channels):
            given = (
                f"{values} alone, in no list" if isinstance(values, int | float) else len(values)
            )
            raise ValueError(f"{name} needs 1 or {channels} values, got {given}")
    for name, value in {"jitter": jitter, "scale": scale}.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is a fraction from 0 to 1, got {value}")
    device = device_of(model)
    dtype = next((p.dtype for p in model.parameters()), torch.float32)
    generator = torch.Generator().manual_seed(seed)
    mu, sigma = (torch.tensor(v, device=device).view(-1, 1, 1) for v in (mean, std))
    painted = (_Fourier if fourier else _Pixels)(
        (len(units), channels, height, width), generator, device
    )
    rows = torch.arange(len(units), device=device)
    columns = torch.tensor(units, device=device)
    kept: list[Tensor] = []
    activation = torch.empty(steps, len(units))
    climbed = torch.zeros(len(units), dtype=torch.bool, device=device)

    def keeper(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: object) -> None:
            # The mean is taken at once: the next layer may operate in place.
            tensor = check_tensor(name, output)
            _check_units(name, units, tensor.shape[1])
            kept[:] = [tensor.flatten(2).mean(2) if tensor.ndim > 2 else tensor.clone()]

        return hook

    with forward_hooks(model, [layer], keeper), evaluation(model), torch.enable_grad():
        for step in range(steps):
            changed = _changed(painted.image(), jitter, scale, rotate, generator)
            model(((changed - mu) / sigma).to(dtype))
            if not kept:
                raise ValueError(f"layer {layer!r} does not run in evaluation mode")
            excited = kept[0][rows, columns]
            (gradient,) = torch.autograd.grad(excited.sum(), painted.parameter)
            climbed |= gradient.flatten(1).any(1)
            # Normalize each image's gradient: units differ in scale by orders of magnitude.
            size = gradient.flatten(1).square().mean(1).sqrt().clamp(min=1e-20)
            direction = gradient / size.view(-1, *[1] * (gradient.ndim - 1))
            with torch.no_grad():
                painted.parameter.mul_(1 - lr * decay).add_(direction, alpha=lr)
            activation[step] = excited.detach().cpu()
    if silent := [unit for unit, rose in zip(units, climbed.tolist(), strict=True) if not rose]:
        warnings.warn(
            f"the gradient of units {silent} of layer {layer!r} was zero at every step, so their "
            "images show nothing; if a ReLU makes them silent, name the layer before it",
            stacklevel=2,
        )
    return MaximizedUnits(layer, units, painted.image().detach().cpu(), activation)


class _Pixels:
    """Images ``(N, C, H, W)`` between 0 and 1, as the sigmoid of free numbers."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device):
        noise = 0.01 * torch.randn(shape, generator=generator)
        self.parameter = noise.to(device).requires_grad_()

    def image(self) -> Tensor:
        return self.parameter.sigmoid()


class _Fourier:
    """The same, from scaled Fourier coefficients."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device):
        *_, self.height, self.width = shape
        rows = torch.fft.fftfreq(self.height)[:, None]
        columns = torch.fft.rfftfreq(self.width)
        frequency = (rows**2 + columns**2).sqrt()
        # The constant is treated like the lowest frequency. The square root, because the scale acts
        # twice: on the gradient, and on what the step changes.
        spread = frequency.clamp(min=1 / max(self.height, self.width)).rsqrt()
        # At mean square 1, steps change the image as much as steps on the pixels would.
        self.spread = (spread / spread.square().mean().sqrt()).to(device)
        noise = 0.01 * torch.randn(*shape[:2], *frequency.shape, 2, generator=generator)
        self.parameter = noise.to(device).requires_grad_()

    def image(self) -> Tensor:
        coefficients = torch.view_as_complex(self.parameter) * self.spread
        # norm="ortho" keeps the step size independent of the image size.
        size = (self.height, self.width)
        pixels: Tensor = torch.fft.irfft2(coefficients, size, norm="ortho")
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

    def plot(self, maximized: MaximizedUnits | None = None, *, alt: str | None = None) -> "Figure":
        """Show the patches, one row per unit. See :func:`cnnbook.plots.top_patches`.

        Parameters
        ----------
        maximized
            Images made for the same units by :func:`maximize_activation`, shown in front.
        alt
            Text alternative.

        Returns
        -------
        cnnbook.plots.Figure
        """
        return draw("top_patches", self, maximized, alt=alt)

    def __repr__(self) -> str:
        """Return layer, units and size of the patches."""
        count, (height, width) = self.patches.shape[1], self.patches.shape[3:]
        return (
            f"<top {count} patches of {height}×{width} pixels for units {list(self.units)} of "
            f"{self.layer!r}>"
        )


def top_patches(
    model: nn.Module,
    images: Tensor | Dataset,
    layer: str,
    units: int | Sequence[int],
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
        ``(N, C, H, W)`` as the network takes them, or a data set, whose images are normalized
        first.
    layer
        Name as in ``model.named_modules()`` of a layer that outputs feature maps
        ``(N, M, h, w)``, or vectors ``(N, M)``, which see the whole image. If it runs
        more than once, the last run counts.
    units
        Number of a channel of the feature maps or of an entry of the vector, or several.
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
        If the layer or a unit does not exist, k is not from 1 to N, or the layer's receptive
        field cannot be followed.
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
    if not isinstance(images, Tensor | Dataset):
        raise TypeError(f"images must be a tensor or a Dataset, got {type(images).__name__}")
    units = _listed(units)
    raw = images if isinstance(images, Tensor) else images.images
    if not 1 <= k <= len(raw):
        raise ValueError(f"k must be from 1 to the number of images, {len(raw)}; got {k}")
    best, flat = [], []
    for x in image_batches(images, batch_size, device_of(model)):
        output = activations(model, x, [layer])[layer]
        if output.ndim not in (2, 4):
            raise ValueError(
                f"layer {layer!r} outputs {tuple(output.shape)}, neither feature maps "
                "(N, M, h, w) nor vectors (N, M)"
            )
        _check_units(layer, units, output.shape[1])
        # A vector counts as maps with one position.
        value, where = output[:, list(units)].reshape(len(output), len(units), -1).max(2)
        best.append(value)
        flat.append(where)
    activation, index = torch.cat(best).T.sort(dim=1, descending=True, stable=True)
    activation, index = activation[:, :k], index[:, :k]
    where = torch.cat(flat).T.gather(1, index)
    columns = output.shape[3] if output.ndim == 4 else 1
    positions = torch.stack([where // columns, where % columns], 2)
    height, width = raw.shape[2:]
    field = receptive_field(model, raw.shape[1:], layer) if output.ndim == 4 else None
    patches = []
    for image, at in zip(index.flatten().tolist(), positions.flatten(0, 1).tolist(), strict=True):
        box: Sequence[tuple[int, int]] = ((0, height), (0, width))
        if field is not None:
            # If all units see the same, for example after squeeze-and-excitation, the field has one
            # position.
            box = field.box(*(min(i, n - 1) for i, n in zip(at, field.positions, strict=True)))
        patches.append(_crop(raw[image].cpu(), box))
    stacked = torch.stack(patches)
    stacked = stacked.view(len(units), k, *stacked.shape[1:])
    return TopPatches(layer, units, stacked, index, positions, activation)


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


def _listed(units: int | Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of one or several units."""
    listed = (units,) if isinstance(units, int) else tuple(units)
    if not listed:
        raise ValueError("units must name at least one unit")
    if not all(isinstance(unit, int) for unit in listed):
        raise TypeError(f"units must be the number of a unit, or several, got {units!r}")
    return listed


def _check_units(layer: str, units: Sequence[int], count: int) -> None:
    if not 0 <= min(units) <= max(units) < count:
        raise ValueError(f"layer {layer!r} has units 0 … {count - 1}, got {tuple(units)}")
