"""Which parts of an image a class score depends on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._checks import as_numbers, check_count
from cnnbook._draw import draw
from cnnbook._networks import Selector, evaluating
from cnnbook.analysis._batches import as_input, check_images, check_tensor, class_scores, forward
from cnnbook.analysis._hooks import check_differentiable, check_model, hooked, layer_names
from cnnbook.analysis._layout import channels_last_layers, made_channels_first
from cnnbook.analysis._unchanged import unchanged

if TYPE_CHECKING:
    from cnnbook.plots import Figure


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each position of an image contributes to a class.

    Parameters
    ----------
    maps
        ``(N, H, W)``, one attribution map for each image.
    images
        The network's input, ``(N, C, H, W)``.
    target
        The class that is explained in each image, ``(N,)``.
    label
        What the values of the maps are, with units.
    common_scale
        Whether values of different images can be compared.

    Examples
    --------
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> found = occlusion(net, torch.rand(1, 1, 8, 8), target=1)
    >>> found
    <Attribution of classes [1]: drop in probability, 8×8>
    >>> found.plot(titles=["noise"]).alt.split(":")[1]
    ' noise'
    """

    maps: Tensor
    images: Tensor
    target: Tensor
    label: str
    common_scale: bool = True

    def plot(
        self,
        images: Tensor | None = None,
        titles: Sequence[str] | None = None,
        *,
        label: str | None = None,
        common_scale: bool | None = None,
        alt: str | None = None,
    ) -> "Figure":
        """Overlay the maps on the images. See :func:`cnnbook.plots.attribution`.

        Parameters
        ----------
        images
            Pictures to show, ``(N, 1 or 3, H, W)``, uint8 or float from 0 to 1. If not given,
            the network's inputs, each stretched from its lowest to its highest value.
        titles
            One line above each image; the number of the class if not given.
        label, common_scale
            If not given, the attribution's own.
        alt
            Text alternative.

        Returns
        -------
        cnnbook.plots.Figure
        """
        return draw(
            "attribution", self, images, titles, label=label, common_scale=common_scale, alt=alt
        )

    def __repr__(self) -> str:
        """Return what is explained, by what, and the size of the maps."""
        height, width = self.maps.shape[1:]
        classes = self.target.tolist()
        return f"<Attribution of classes {classes}: {self.label}, {height}×{width}>"


#: A class number, or one for each image.
Target = int | Sequence[int] | Tensor | None


def _targets(scores: Tensor, target: Target) -> Tensor:
    """Return the class to explain in each image, ``(N,)``: by default, the highest-scoring one."""
    n, classes = scores.shape
    if target is None:
        return scores.argmax(1)
    given = target
    try:
        target = torch.as_tensor(given, device=scores.device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"target must be a class number, or one for each image, got {given!r}"
        ) from None
    if target.is_floating_point() or target.dtype == torch.bool:
        raise TypeError(f"target must be class numbers, which are integers; got {target.dtype}")
    if target.ndim > 1 or (target.ndim == 1 and len(target) != n):
        raise ValueError(
            f"target must be one class or one for each of {n} images, got shape "
            f"{tuple(target.shape)}"
        )
    if not 0 <= target.min() <= target.max() < classes:
        raise ValueError(
            f"target must lie in 0 … {classes - 1}, got {target.min()} … {target.max()}"
        )
    return target.long().expand(n)


def grad_cam(
    model: nn.Module,
    x: Tensor,
    layer: str | nn.Module,
    target: Target = None,
    *,
    output: Selector = None,
    upsample: bool = True,
) -> Attribution:
    """Show where a layer's feature maps support a class (Selvaraju et al. 2017, arXiv:1610.02391).

    Each feature map of the layer is weighted by the mean of the class score's gradient over it
    (their equation 1); the weighted sum's positive part is the result (equation 2). In a network
    that ends with global average pooling and one fully connected layer, the last feature maps give
    the class activation maps of Zhou et al. 2016, up to a constant factor.

    Parameters
    ----------
    model
        Any network that returns class scores ``(N, K)``, alone or in a tuple or dict. It runs in
        evaluation mode and is left unchanged; frozen parameters do not matter.
    x
        Images, ``(N, C, H, W)``. Moved to the device and the type of the model's parameters.
    layer
        A layer that outputs feature maps ``(N, M, h, w)``, or ``(N, h, w, M)`` as Swin and ConvNeXt
        do inside; usually the last one. The module, or its name as in ``model.named_modules()``. If
        it runs more than once, its last output counts.
    target
        Class number, or one for each image ``(N,)``, as a list, an array or a tensor; the class
        with the highest score if not given.
    output
        Which part of what the network returns are the scores: a key, an index, or a function of
        it. Not needed for a tensor, a tuple that begins with the scores, or a dict with an entry
        ``"logits"`` or ``"out"``.
    upsample
        Whether to enlarge the result to the images' size, with bilinear interpolation.

    Returns
    -------
    Attribution
        On the device of `x`. Its ``maps`` are not negative, in units of the score: ``(N, H, W)``,
        or ``(N, h, w)`` without `upsample`. Its ``plot`` overlays them on the images.

    Raises
    ------
    ValueError
        If there is no such layer, it outputs no feature maps, it cannot be told which dimension
        holds the channels, the score does not depend on the layer, or the target is not a class.
    TypeError
        If `x` is not a tensor, the target is not an integer, or the layer or the network does not
        return a tensor.

    Examples
    --------
    For a network that scores brightness on the left, the support is on the left:

    >>> net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Flatten(), nn.Linear(16, 1))
    >>> with torch.no_grad():
    ...     _ = net[0].weight.fill_(1), net[0].bias.zero_(), net[2].weight.zero_()
    ...     net[2].weight.view(4, 4)[:, :2] = 1
    >>> picture = torch.zeros(1, 1, 4, 4)
    >>> picture[..., 0] = 1
    >>> grad_cam(net, picture, "0").maps[0, 0]
    tensor([0.5000, 0.0000, 0.0000, 0.0000])
    """
    check_images(x)
    (name,) = layer_names(model, [layer])
    check_differentiable(model)
    kept: list[Tensor] = []
    first = False

    def keeper(name: str) -> Callable[..., Tensor]:
        def hook(_module: nn.Module, _inputs: Any, result: object) -> Tensor:
            nonlocal first
            maps = check_tensor(name, result)
            first = made_channels_first(maps)
            # Copies, because layers before and after this one may share memory and work in place.
            kept[:] = [maps.detach().clone().requires_grad_()]
            return kept[0].clone()

        return hook

    with unchanged(model), evaluating(model), torch.enable_grad():
        seen = as_input(model, x.detach())
        with hooked(model, [name], keeper):
            scores = class_scores(forward(model, seen), output)
        columns = _targets(scores, target)
        wanted = scores.gather(1, columns[:, None]).sum()
        if not kept or not wanted.requires_grad:
            raise _no_influence(name)
        maps = kept[0]
        if maps.ndim != 4:
            raise ValueError(
                f"layer {name!r} outputs {tuple(maps.shape)}, not feature maps (N, M, h, w); "
                "choose a convolution or a block of them"
            )
        (gradient,) = torch.autograd.grad(wanted, maps, allow_unused=True)
        if gradient is None:
            raise _no_influence(name)
        maps = maps.detach()
        if not first and name in channels_last_layers(model, seen.shape[1:], [name]):
            maps, gradient = maps.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
        if maps.dtype in (torch.float16, torch.bfloat16):
            maps, gradient = maps.float(), gradient.float()
        importance = gradient.mean((2, 3), keepdim=True)
        result = F.relu((importance * maps).sum(1, keepdim=True))
        if upsample:
            result = F.interpolate(result, x.shape[2:], mode="bilinear", align_corners=False)
    # Scores have no unit: their size differs from image to image.
    return Attribution(
        result[:, 0].to(x.device),
        x.detach(),
        columns.to(x.device),
        f"Grad-CAM of {name}",
        common_scale=False,
    )


def _no_influence(layer: str) -> ValueError:
    return ValueError(
        f"layer {layer!r} has no influence on the class scores, or the network computes without "
        "gradients after it; choose another"
    )


def occlusion(
    model: nn.Module,
    x: Tensor,
    target: Target = None,
    *,
    output: Selector = None,
    patch: int | None = None,
    stride: int | None = None,
    fill: float | Sequence[float] = 0.0,
    batch_size: int = 100,
) -> Attribution:
    """Cover the image piece by piece and measure how a class's score falls (Zeiler & Fergus 2014).

    "Visualizing and Understanding Convolutional Networks", arXiv:1311.2901, Section 4.2.

    Parameters
    ----------
    model
        Any network that returns class scores ``(N, K)`` of at least two classes, alone or in a
        tuple or dict. It runs in evaluation mode, without gradients, and is left unchanged.
    x
        Images, ``(N, C, H, W)``. Moved to the device and the type of the model's parameters.
    target
        Class number, or one for each image ``(N,)``, as a list, an array or a tensor; the class
        with the highest score in the whole image if not given.
    output
        Which part of what the network returns are the scores, as for :func:`grad_cam`.
    patch
        Side of the covering square in pixels; a quarter of the shorter side if not given.
    stride
        Pixels from one position of the square to the next; half its side if not given. The last
        position is at the border, even if that makes the last step shorter.
    fill
        Value of the covered pixels, or one per channel, in the units of `x`. The default 0 is
        the mean of the data where images are normalized.
    batch_size
        Covered images at a time. It affects only memory and speed.

    Returns
    -------
    Attribution
        On the device of `x`. Its ``maps``, ``(N, H, W)``, hold the probability (softmax) of the
        class in the whole image minus that in the covered one, from -1 to 1, averaged at each pixel
        over the squares that cover it. Its ``plot`` overlays them on the images.

    Raises
    ------
    ValueError
        If the square does not fit into the image, `stride` would leave pixels uncovered, the
        target is not a class, or there is only one.
    TypeError
        If `x` is not a tensor, or the target, `patch` or `stride` is not an integer.

    Examples
    --------
    Only the top left quarter matters to this network, and covering it costs the most:

    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    >>> with torch.no_grad():
    ...     _ = net[1].weight.zero_(), net[1].bias.zero_()
    ...     net[1].weight[0].view(8, 8)[:4, :4] = 1
    >>> found = occlusion(net, torch.ones(1, 1, 8, 8), target=0, patch=4, stride=4)
    >>> [round(value, 2) for value in found.maps[0, ::4, ::4].flatten().tolist()]
    [0.5, 0.0, 0.0, 0.0]
    """
    check_model(model)
    check_images(x)
    n, channels, height, width = x.shape
    patch = _pixels("patch", patch, max(1, min(height, width) // 4))
    if not 1 <= patch <= min(height, width):
        raise ValueError(f"patch must be from 1 to {min(height, width)} pixels, got {patch}")
    stride = _pixels("stride", stride, max(1, patch // 2))
    if not 1 <= stride <= patch:
        raise ValueError(f"stride must be from 1 to the patch's {patch} pixels, got {stride}")
    check_count("batch_size", batch_size)
    images = as_input(model, x.detach())
    cover = as_numbers("fill", fill, images)
    if cover.ndim > 1 or (cover.ndim == 1 and len(cover) != channels):
        raise ValueError(f"fill must be one value or one for each of {channels} channels: {fill}")
    cover = cover.view(-1, 1, 1)
    positions = [
        (top, left)
        for top in _starts(height, patch, stride)
        for left in _starts(width, patch, stride)
    ]
    fall = torch.zeros(n, height, width)
    times = torch.zeros(height, width)

    def probabilities(images: Tensor) -> Tensor:
        scores = class_scores(forward(model, images), output)
        return scores.softmax(1, torch.promote_types(scores.dtype, torch.float32))

    with unchanged(model), evaluating(model), torch.no_grad():
        scores = class_scores(forward(model, images), output)
        if scores.shape[1] == 1:
            raise ValueError(
                "occlusion compares the probabilities of classes; this network has one output, "
                "whose probability among one class is always 1"
            )
        columns = _targets(scores, target)
        for image, column, seen in zip(images, columns, fall, strict=True):
            whole = probabilities(image[None])[0, column]
            for start in range(0, len(positions), batch_size):
                some = positions[start : start + batch_size]
                covered = image.repeat(len(some), 1, 1, 1)
                for one, (top, left) in zip(covered, some, strict=True):
                    one[:, top : top + patch, left : left + patch] = cover
                lost = (whole - probabilities(covered)[:, column]).cpu()
                for value, (top, left) in zip(lost, some, strict=True):
                    seen[top : top + patch, left : left + patch] += value
    for top, left in positions:
        times[top : top + patch, left : left + patch] += 1
    maps = (fall / times).to(x.device)
    return Attribution(maps, x.detach(), columns.to(x.device), "drop in probability")


def _pixels(name: str, given: int | None, default: int) -> int:
    """Return a number of pixels, which numpy's integers are too."""
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, Integral):
        raise TypeError(f"{name} is a number of pixels, the same in both directions; got {given!r}")
    return int(given)


def _starts(length: int, patch: int, stride: int) -> list[int]:
    """Return where squares begin along `length` pixels, the last one at the end."""
    starts = list(range(0, length - patch + 1, stride))
    return starts if starts[-1] == length - patch else [*starts, length - patch]
