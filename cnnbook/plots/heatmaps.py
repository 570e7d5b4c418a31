"""What an image's class depends on, drawn over the image."""

from collections.abc import Collection, Sequence

import torch
import torch.nn.functional as F
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from cnnbook._errors import check_kind
from cnnbook.analysis import Attribution
from cnnbook.plots.figure import Figure
from cnnbook.plots.pictures import _framed, _stretched, check_pixels
from cnnbook.plots.style import CHART, SIGNED, WIDTH, new_figure


def attribution(
    maps: Attribution | Tensor,
    images: Tensor | None = None,
    titles: Sequence[str] | None = None,
    *,
    label: str | None = None,
    common_scale: bool | None = None,
    alt: str | None = None,
) -> Figure:
    """Overlay heat maps on images, each image beside or above its overlay.

    Parameters
    ----------
    maps
        Result of :func:`cnnbook.analysis.grad_cam` or :func:`cnnbook.analysis.occlusion`, or your
        own heat maps, ``(N, h, w)``, or ``(h, w)`` for one image. Maps whose size differs from the
        images' are resized, with bilinear interpolation.
    images
        uint8, or float from 0 to 1, ``(N, 1 or 3, H, W)``, or one image without N; up to 8. If not
        given, the network's input, each image stretched from its lowest to its highest value; a
        tensor of maps needs images.
    titles
        One line above each image. If not given, an attribution names the classes it explains.
    label
        What the maps' values are, with units; "importance" if neither this nor an attribution gives
        them.
    common_scale
        Whether colors mean the same in all images. Otherwise each map is drawn relative to its own
        largest value, for scores that are not comparable between images. If not given, an
        attribution decides; tensors share a scale.
    alt
        Text alternative.

    Returns
    -------
    Figure
        The overlays' images are gray. The color scale starts at zero, or is symmetric about it
        if there are negative values.

    Raises
    ------
    ValueError
        If the shapes do not fit together, there are no images, or more than 8.
    TypeError
        If `maps` or `images` is something else.

    Examples
    --------
    >>> import torch
    >>> from cnnbook import data
    >>> pictures = data.photo("cat", size=64)[None]
    >>> maps = torch.zeros(1, 64, 64)
    >>> maps[0, 20:40, 20:40] = 1
    >>> attribution(maps, pictures, ["the middle"])  # doctest: +NORMALIZE_WHITESPACE
    <Figure: 1 image with a heat map of importance. It is largest at: the middle: 32% from
    the left and 32% from the top.>
    """
    if isinstance(maps, Attribution):
        if titles is None:
            titles = [f"class {number}" for number in maps.target.tolist()]
        images = torch.stack([*map(_stretched, maps.images)]) if images is None else images
        label = maps.label if label is None else label
        common_scale = maps.common_scale if common_scale is None else common_scale
        maps = maps.maps
    needed = "a result of cnnbook.analysis.grad_cam or occlusion, or a torch tensor of heat maps"
    check_kind("maps", maps, Tensor, needed)
    if images is None:
        raise ValueError("heat maps given as a tensor need the images they belong to: images=")
    label = "importance" if label is None else label
    check_kind("titles", titles, Collection | None, "a list of texts, one for each image")
    check_pixels("images", images)
    images = images[None] if images.ndim == 3 else images
    maps = maps[None] if maps.ndim == 2 else maps
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not 1 <= len(images) <= 8:
        raise ValueError(
            f"images must be (N, 1 or 3, H, W) with N up to 8, got {tuple(images.shape)}; of more, "
            "choose some, and their maps"
        )
    n = len(images)
    if maps.ndim != 3 or len(maps) != n:
        raise ValueError(f"maps must be ({n}, h, w) for {n} images, got {tuple(maps.shape)}")
    if titles is not None and len(titles) != n:
        raise ValueError(f"{len(titles)} titles for {n} images")
    images = images.detach().cpu()
    images = images / 255 if images.dtype == torch.uint8 else images.float().clamp(0, 1)
    maps = maps.detach().cpu().float()[:, None]
    maps = F.interpolate(maps, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    if common_scale is False:
        maps = maps / maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)
        label = f"{label}, as a share of each image's largest"
    signed = bool(maps.min() < 0)
    limit = max(maps.abs().max().item(), 1e-12)
    norm = Normalize(-limit if signed else 0, limit)
    scale = ScalarMappable(norm, SIGNED if signed else "inferno")
    # One image: beside its overlay. Several: overlays in a second row.
    rows, columns = (1, 2) if n == 1 else (2, n)
    whole = CHART if n == 1 else WIDTH
    side = min(0.94 * whole / columns, 2.7)
    height = side * images.shape[2] / images.shape[3]
    total = 1.04 * rows * (height + 0.04) + 0.32 * (titles is not None) + 0.65
    with new_figure(whole, total) as figure:
        grid = figure.subplots(rows, columns, squeeze=False).reshape(2, n)
        for i, (image, values) in enumerate(zip(images, maps, strict=True)):
            grid[0, i].imshow(image.permute(1, 2, 0).squeeze(-1).numpy(), "gray", vmin=0, vmax=1)
            gray = image.mean(0)[..., None].numpy()
            # Blended here: not every output format supports per-pixel opacity.
            color = scale.to_rgba(values.numpy())[..., :3]
            # Where a signed map is near zero, the image shows; in others, black means zero.
            opacity = (0.75 * values.abs() / limit).sqrt() if signed else torch.tensor(0.6)
            opacity = opacity[..., None].numpy()
            grid[1, i].imshow(opacity * color + (1 - opacity) * gray)
            if titles is not None:
                grid[0, i].set_title(titles[i], fontsize=9, pad=3)
        for axes in grid.flat:
            _framed(axes)
        bar = figure.colorbar(
            scale, ax=grid, location="bottom", fraction=0.05, aspect=45, shrink=0.5, pad=0.03
        )
        bar.set_label(label, fontsize=9)
        bar.outline.set_linewidth(0.4)
        bar.locator = MaxNLocator(5)  # more do not fit beside each other
    if alt is None:
        peaks = []
        for values in maps:
            row, column = divmod(int(values.argmax()), values.shape[1])
            across = 100 * (column + 0.5) / values.shape[1]
            down = 100 * (row + 0.5) / values.shape[0]
            peaks.append(f"{across:.0f}% from the left and {down:.0f}% from the top")
        names = [f"{title}: " for title in titles] if titles else [""] * n
        listed = "; ".join(name + peak for name, peak in zip(names, peaks, strict=True))
        shown = "1 image" if n == 1 else f"{n} images"
        alt = f"{shown} with a heat map of {label}. It is largest at: {listed}."
    return Figure(figure, alt)
