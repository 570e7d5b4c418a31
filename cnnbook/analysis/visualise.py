"""What a unit responds to: images made for it, and image patches found for it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook.analysis._batches import check_tensor
from cnnbook.analysis._hooks import device_of, evaluation, forward_hooks


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
        ``(steps, U)``: mean of the unit's map in each step, on the randomly changed image.
    """

    layer: str
    units: tuple[int, ...]
    images: Tensor
    activation: Tensor

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
    steps: int = 256,
    lr: float = 0.05,
    jitter: float = 0.05,
    scale: float = 0.1,
    rotate: float = 10.0,
    fourier: bool = True,
    seed: int = 0,
) -> MaximizedUnits:
    """Make images that excite units of a layer, by gradient ascent from faint noise.

    After Olah, Mordvintsev & Schubert 2017, "Feature Visualization", doi:10.23915/distill.00007.
    Each step the image is shifted, resized and turned at random, so that only what survives such
    changes can raise the activation. Unchanged images would fill with fine noise that excites
    the unit as well.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode and is left unchanged.
    layer
        Name as in ``model.named_modules()``. Prefer the output of a convolution to that of the
        ReLU behind it, whose gradient is zero where the unit is silent.
    units
        Number of a channel of the layer's maps, or of an entry of its output vector; several are
        worked on at once. What is maximised is the mean of the unit's map.
    shape
        ``(C, H, W)`` of the images.
    mean, std
        How the network's images are normalised, per channel or one for all; those of a data set
        are its ``mean`` and ``std``.
    steps
        Steps of gradient ascent (Adam).
    lr
        Step size.
    jitter
        Largest shift, as a share of the image's side.
    scale
        Largest change of size, as a share.
    rotate
        Largest angle, in degrees.
    fourier
        Whether steps are taken on the image's Fourier coefficients, each scaled by one over its
        frequency, as in natural images. Otherwise on the pixels, which gives finer noise.
    seed
        Seed of the first image and of the changes. The same seed gives the same images on one
        device. The caller's random state is left as it was.

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
    """
    units = (units,) if isinstance(units, int) else tuple(units)
    channels, height, width = shape
    if not units:
        raise ValueError("units must name at least one unit")
    if steps < 1 or lr <= 0:
        raise ValueError(f"steps and lr must be positive, got steps={steps}, lr={lr}")
    for name, values in {"mean": mean, "std": std}.items():
        if len(values) not in (1, channels):
            raise ValueError(f"{name} needs 1 or {channels} values, got {len(values)}")
    for name, value in {"jitter": jitter, "scale": scale}.items():
        if not 0 <= value < 1:
            raise ValueError(f"{name} is a share from 0 to 1, got {value}")
    device = device_of(model)
    generator = torch.Generator().manual_seed(seed)
    mean, std = (torch.tensor(v, device=device).view(-1, 1, 1) for v in (mean, std))
    painted = (_Fourier if fourier else _Pixels)(
        (len(units), channels, height, width), generator, device
    )
    optimizer = torch.optim.Adam([painted.parameter], lr=lr)
    rows = torch.arange(len(units), device=device)
    columns = torch.tensor(units, device=device)
    kept: list[Tensor] = []
    activation = torch.empty(steps, len(units))

    def keeper(name: str):
        def hook(_module, _inputs, output):
            # The mean is taken at once: the next layer may work in place.
            output = check_tensor(name, output)
            count = output.shape[1]
            if not 0 <= min(units) <= max(units) < count:
                raise ValueError(f"layer {name!r} has units 0 … {count - 1}, got {units}")
            kept[:] = [output.flatten(2).mean(2) if output.ndim > 2 else output.clone()]

        return hook

    with forward_hooks(model, [layer], keeper), evaluation(model), torch.enable_grad():
        for step in range(steps):
            changed = _changed(painted.image(), jitter, scale, rotate, generator)
            model((changed - mean) / std)
            if not kept:
                raise ValueError(f"layer {layer!r} does not run in evaluation mode")
            excited = kept[0][rows, columns]
            (painted.parameter.grad,) = torch.autograd.grad(-excited.sum(), painted.parameter)
            optimizer.step()
            activation[step] = excited.detach().cpu()
    return MaximizedUnits(layer, units, painted.image().detach().cpu(), activation)


class _Pixels:
    """Images ``(N, C, H, W)`` between 0 and 1, as the sigmoid of free numbers."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device):
        noise = 0.01 * torch.randn(shape, generator=generator)
        self.parameter = noise.to(device).requires_grad_()

    def image(self) -> Tensor:
        return self.parameter.sigmoid()


class _Fourier:
    """The same by Fourier coefficients, in units of one over the frequency."""

    def __init__(self, shape: tuple[int, ...], generator: torch.Generator, device: torch.device):
        *_, self.height, self.width = shape
        rows = torch.fft.fftfreq(self.height)[:, None]
        columns = torch.fft.rfftfreq(self.width)
        frequency = (rows**2 + columns**2).sqrt()
        # The constant gets the weight of the lowest frequency.
        self.spread = (1 / frequency.clamp(min=1 / max(self.height, self.width))).to(device)
        noise = 0.01 * torch.randn(*shape[:2], *frequency.shape, 2, generator=generator)
        self.parameter = noise.to(device).requires_grad_()

    def image(self) -> Tensor:
        coefficients = torch.view_as_complex(self.parameter) * self.spread
        # norm="ortho" keeps steps of one size whatever the image's.
        size = (self.height, self.width)
        return torch.fft.irfft2(coefficients, size, norm="ortho").sigmoid()


def _changed(
    images: Tensor, jitter: float, scale: float, rotate: float, generator: torch.Generator
) -> Tensor:
    """Shift, resize and turn all images alike, mirrored at the border."""
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
