"""Small images turned, scaled and placed at random among fragments of others."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbook import settings
from cnnbook._checks import check_count, is_index, is_number
from cnnbook._errors import counted
from cnnbook.data.datasets import Dataset, mean_and_std
from cnnbook.data.seeds import generator, whole_seed

# Matrices are in units of 2⁻¹⁴, points of the source are rounded to 1/256 of a pixel. A product of
# two weights and a byte then has 24 bits, so float32 holds it exactly.
_UNIT = 14
_POINT = 8
# Images are made in groups that take about this many bytes: few enough for a CPU's cache.
_BYTES_AT_ONCE = {"cpu": 6_000_000}
_BYTES_AT_ONCE_ELSEWHERE = 400_000_000


@dataclass(frozen=True)
class Placement:
    """Where N images lie on their canvases.

    Parameters
    ----------
    angle
        Degrees, clockwise.
    scale
        Magnification.
    x, y
        Center of the bounding box on the canvas, in pixels from the left and the top edge.

    Notes
    -----
    All are float64, ``(N,)``, on the CPU.
    """

    angle: Tensor
    scale: Tensor
    x: Tensor
    y: Tensor


@dataclass(frozen=True)
class Fragments:
    """Where the squares of N images, one each, are cut out, and where they are put.

    Parameters
    ----------
    source
        Index of the image that the square is cut from.
    row, column
        Its upper left pixel there.
    top, left
        Its upper left pixel on the canvas.

    Notes
    -----
    All are int64, ``(N,)``, on the CPU.
    """

    source: Tensor
    row: Tensor
    column: Tensor
    top: Tensor
    left: Tensor


def cluttered(
    dataset: Dataset,
    count: int | None = None,
    *,
    size: int = 64,
    rotation: float = 60.0,
    scale: tuple[float, float] = (0.8, 1.3),
    fragments: int = 6,
    fragment_size: int = 9,
    seed: int = 0,
    normalize_as: Dataset | None = None,
    device: torch.device | str | None = None,
) -> Dataset:
    """Make a harder data set: each image turned, scaled and placed at random, among fragments.

    Upright, centered images are nearly solved by any network. Where position, angle and size vary,
    networks differ. The idea is that of cluttered MNIST (Mnih et al. 2014, "Recurrent models of
    visual attention", arXiv:1406.6247); there, digits are only shifted. :func:`load` makes
    ``"cluttered-fashion"`` with the default options.

    New image ``i`` shows image ``i % len(dataset)``, with its label, so classes are as balanced as
    before. It lies on black, anywhere that keeps the bounding box of its own pixels above zero,
    turned and scaled, inside the canvas: nothing of it is cut off. Squares cut anywhere from
    *other* images of the data set are put anywhere. Where things overlap, the brighter pixel is
    seen: a fragment covers only what is darker.

    Parameters
    ----------
    dataset
        Images on black, such as those of ``"fashion-mini"``.
    count
        Number of images to make; as many as there are by default. More than that show the same
        ones again, placed anew.
    size
        Side of the canvas in pixels.
    rotation
        Largest angle in degrees; the angle is uniform in ± `rotation`.
    scale
        Smallest and largest magnification, 0.1 to 10; uniform in between.
    fragments
        Squares on each image, at most 1000; 0 for none.
    fragment_size
        Their side in pixels. They are neither turned nor scaled.
    seed
        Any integer. The same images have the same placements whatever `count` is, and the first
        fragments are the same whatever `fragments` is.
    normalize_as
        Data set whose mean and standard deviation the result gets: for a test part, the cluttered
        training part. By default, those of the new images.
    device
        Where to make the images, and where they stay; where `dataset` is by default.

    Returns
    -------
    Dataset
        ``count`` images, ``size`` pixels high and wide.

    Raises
    ------
    TypeError
        If `dataset` is no :class:`Dataset`, or `count` or another number of pixels no integer.
    ValueError
        If an option is outside its range, the images do not fit on the canvas, or there are none.

    Notes
    -----
    All random numbers are drawn on the CPU, and bilinear interpolation is exact: its points are
    multiples of 1/256 of a pixel. So a seed gives the same bytes on every processor and GPU.

    To validate, split before making more images than there are: ``dataset.split()`` first, then
    ``cluttered`` of each part. Otherwise one garment is in both parts, placed differently.

    Examples
    --------
    >>> from cnnbook import data
    >>> train, test = data.load("fashion-mini")
    >>> hard = cluttered(train[:500], 2_000)
    >>> hard
    <cluttered fashion-mini train: 2,000 images of 1×64×64, 10 classes>
    >>> bool((hard.labels[500:1000] == train.labels[:500]).all())
    True

    A test part, of other garments and placements; something easier:

    >>> cluttered(test[:100], seed=1, normalize_as=hard).mean == hard.mean
    True
    >>> upright = cluttered(train[:100], rotation=0, scale=(1, 1), fragments=0, size=40)
    """
    _check(dataset, count, size, rotation, scale, fragments, fragment_size, normalize_as)
    n = len(dataset) if count is None else int(count)
    index = torch.arange(n) % len(dataset)
    boxes = bounding_boxes(dataset.images).double().cpu()
    _check_room(boxes, size, rotation, scale)
    boxes = boxes[index]
    placement = draw_placement(boxes, size, rotation, scale, seed)
    height, width = dataset.images.shape[2:]
    # grid_sample's coordinates are fractions of the sides, which are exact for powers of two.
    padded = _power_of_two(height), _power_of_two(width)
    matrix = _matrix(placement, boxes, padded)
    shape = (len(dataset), height, width)
    pieces = [
        draw_fragments(index, shape, fragment_size, size, seed, number)
        for number in range(fragments)
    ]
    device = dataset.images.device if device is None else settings.device(device)
    images = dataset.images.to(device).contiguous()
    made = torch.empty(n, images.shape[1], size, size, dtype=torch.uint8, device=device)
    group = _images_at_once(images.shape[1], size, padded, device)
    for start in range(0, n, group):
        part = slice(start, start + group)
        whole = images[index[part].to(device)]
        made[part] = _placed(whole, matrix[part].to(device), size, padded)
        for piece in pieces:
            _overlay(made[part], images, piece, part, fragment_size)
    mean, std = (
        mean_and_std(made) if normalize_as is None else (normalize_as.mean, normalize_as.std)
    )
    labels = dataset.labels.to(device)[index.to(device)]
    return Dataset(f"cluttered {dataset.name}", made, labels, dataset.classes, mean, std)


def bounding_boxes(images: Tensor) -> Tensor:
    """Return the box around each image's pixels above zero; the whole image if there are none.

    Parameters
    ----------
    images
        uint8, ``(N, C, H, W)``.

    Returns
    -------
    Tensor
        int64, ``(N, 4)``: left, top, right, bottom, the last two exclusive.
    """
    sides = []
    for dims in ((1, 2), (1, 3)):
        lit = images.amax(dims) > 0
        length = lit.shape[1]
        lit = lit | ~lit.any(1, keepdim=True)
        sides.append((lit.int().argmax(1), length - lit.flip(1).int().argmax(1)))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], 1)


def draw_placement(
    boxes: Tensor, size: int, rotation: float, scale: tuple[float, float], seed: int
) -> Placement:
    """Draw where images lie whose bounding boxes are known, as :func:`cluttered` describes."""
    angle, factor, across, down = _uniform(len(boxes), 4, seed, "placement")
    angle = (2 * angle - 1) * rotation
    factor = scale[0] + (scale[1] - scale[0]) * factor
    half_x, half_y = _half_sides(boxes, angle, factor)
    x, y = (half + (size - 2 * half) * u for half, u in ((half_x, across), (half_y, down)))
    return Placement(angle, factor, x, y)


def draw_fragments(
    index: Tensor, shape: tuple[int, int, int], side: int, size: int, seed: int, number: int
) -> Fragments:
    """Draw one square for each image.

    Parameters
    ----------
    index
        Index of the image that each new one shows; its squares come from others.
    shape
        Number, height and width of the images.
    side
        Side of the squares in pixels.
    size
        Side of the canvas in pixels.
    seed
        Any integer.
    number
        Number of the squares: each has its own random numbers.
    """
    images, height, width = shape
    which, row, column, top, left = _uniform(len(index), 5, seed, f"fragment {number}")

    def below(limit: int, share: Tensor) -> Tensor:
        return (share * limit).long()

    return Fragments(
        source=(index + 1 + below(images - 1, which)) % images,
        row=below(height - side + 1, row),
        column=below(width - side + 1, column),
        top=below(size - side + 1, top),
        left=below(size - side + 1, left),
    )


def _uniform(n: int, columns: int, seed: int, purpose: str) -> tuple[Tensor, ...]:
    """Return columns of random numbers in 0 … 1; row i is the same for every `n`."""
    # Not the seed itself, with which batches are shuffled: order and angle would be related.
    text = f"cluttered {whole_seed(seed)} {purpose}"
    own = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
    return torch.rand(n, columns, generator=generator(own), dtype=torch.float64).unbind(1)


def _half_sides(boxes: Tensor, angle: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Return half of the width and height that turned and scaled boxes take."""
    # Interpolation spreads a pixel over one pixel on either side of its center, which is half a
    # pixel beyond its edges.
    width = boxes[:, 2] - boxes[:, 0] + 1
    height = boxes[:, 3] - boxes[:, 1] + 1
    cos, sin = (angle * (math.pi / 180)).cos().abs(), (angle * (math.pi / 180)).sin().abs()
    half = factor / 2
    return half * (width * cos + height * sin), half * (height * cos + width * sin)


def _matrix(placement: Placement, boxes: Tensor, padded: tuple[int, int]) -> Tensor:
    """Return the matrices that map canvas to source, ``(N, 2, 3)``, in units of 2⁻¹⁴ pixels.

    A column of the canvas, a row and 1 become the point's distance from the padded image's center,
    x to the right, y down.
    """
    unit = 1 << _UNIT
    radians = placement.angle * (math.pi / 180)
    a = (radians.cos() / placement.scale * unit).round()
    b = (radians.sin() / placement.scale * unit).round()
    # A pixel's center is half a pixel from its edges.
    x, y = placement.x - 0.5, placement.y - 0.5
    height, width = padded
    center_x = (boxes[:, 0] + boxes[:, 2] - width) / 2 * unit
    center_y = (boxes[:, 1] + boxes[:, 3] - height) / 2 * unit
    # Shifting right rounds down; half of what it cuts off makes that to the nearest.
    half = 1 << (_UNIT - _POINT - 1)
    to_x = [a, b, (center_x - a * x - b * y).round() + half]
    to_y = [-b, a, (center_y + b * x - a * y).round() + half]
    return torch.stack([torch.stack(to_x, 1), torch.stack(to_y, 1)], 1).int()


def _placed(images: Tensor, matrix: Tensor, size: int, padded: tuple[int, int]) -> Tensor:
    """Return images resampled on canvases: rounded floats, ``(N, C, size, size)``."""
    height, width = padded
    borders = (0, width - images.shape[3], 0, height - images.shape[2])
    along = torch.arange(size, dtype=torch.int32, device=images.device)
    by_column, by_row, shift = matrix[..., None, None].unbind(2)
    points = along * by_column + (along[:, None] * by_row + shift)
    points >>= _UNIT - _POINT
    to_sides = torch.tensor([2 / width, 2 / height], dtype=torch.float32, device=images.device)
    grid = points * (to_sides / (1 << _POINT)).view(2, 1, 1)
    resampled = F.grid_sample(
        F.pad(images, borders).to(torch.float32),
        grid.permute(0, 2, 3, 1),
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return resampled.round_()


def _overlay(made: Tensor, images: Tensor, pieces: Fragments, part: slice, side: int) -> None:
    """Put one square on each new image, where it is brighter."""
    channels, height, width = images.shape[1:]
    size = made.shape[-1]
    square = torch.arange(side)
    channel = torch.arange(channels)[:, None, None]
    read = ((channel * height + square[:, None]) * width + square).flatten()
    write = ((channel * size + square[:, None]) * size + square).flatten()
    start = (pieces.source * channels * height + pieces.row) * width + pieces.column
    number = torch.arange(len(made))
    corner = (number * channels * size + pieces.top[part]) * size + pieces.left[part]
    old = (start[part, None] + read).to(images.device)
    new = (corner[:, None] + write).to(images.device)
    canvas = made.view(-1)
    canvas[new] = torch.maximum(canvas[new], images.view(-1)[old])


def _power_of_two(length: int) -> int:
    return 1 << (length - 1).bit_length()


def _images_at_once(channels: int, size: int, padded: tuple[int, int], device: torch.device) -> int:
    """Return how many images to make at once."""
    points = size * size * 2 * (4 + 4)  # integers, floats
    pixels = 5 * channels * (size * size + padded[0] * padded[1])  # floats, bytes
    memory = _BYTES_AT_ONCE.get(device.type, _BYTES_AT_ONCE_ELSEWHERE)
    return max(1, memory // (points + pixels))


def _check(
    dataset: Any,
    count: Any,
    size: Any,
    rotation: Any,
    scale: Any,
    fragments: Any,
    fragment_size: Any,
    normalize_as: Any,
) -> None:
    """Refuse options that no images can be made with."""
    if not isinstance(dataset, Dataset):
        raise TypeError(f"dataset must be a data.Dataset, in memory, got {type(dataset).__name__}")
    if not len(dataset):
        raise ValueError(f"{dataset!r} has no images to place")
    if count is not None:
        check_count("count", count)
    check_count("size", size)
    check_count("fragment_size", fragment_size)
    if isinstance(fragments, bool) or not is_index(fragments):
        raise TypeError(f"fragments must be an integer, got {fragments!r}")
    if not 0 <= fragments <= 1000:
        raise ValueError(f"fragments must lie in 0 … 1000, got {fragments}")
    if not is_number(rotation) or not 0 <= rotation <= 180:
        raise ValueError(f"rotation must lie in 0 … 180 degrees, got {rotation!r}")
    if not (isinstance(scale, Sequence) and len(scale) == 2 and all(map(is_number, scale))):
        raise ValueError(
            "scale must be two numbers, the smallest and the largest, such as (0.8, 1.3), got "
            f"{scale!r}"
        )
    if not 0.1 <= scale[0] <= scale[1] <= 10:
        raise ValueError(f"scale must be 0.1 ≤ smallest ≤ largest ≤ 10, got {scale}")
    if size > 4096:
        raise ValueError(f"size must be at most 4096, got {size}")
    if fragments:
        side = min(*dataset.images.shape[2:], size)
        if fragment_size > side:
            raise ValueError(
                f"fragment_size={fragment_size} is more than there is; choose {side} or less"
            )
        if len(dataset) == 1:
            raise ValueError(
                "fragments are cut from other images, and there is only one: pass fragments=0"
            )
    if normalize_as is None:
        return
    if not isinstance(normalize_as, Dataset):
        raise TypeError(f"normalize_as must be a data.Dataset, got {type(normalize_as).__name__}")
    channels = dataset.images.shape[1]
    if len(normalize_as.mean) != channels:
        raise ValueError(
            f"normalize_as has {counted(len(normalize_as.mean), 'channel')}, the images have "
            f"{channels}"
        )


def _check_room(boxes: Tensor, size: int, rotation: float, scale: tuple[float, float]) -> None:
    """Refuse a canvas on which an image, at some angle, would have no room."""
    width, height = boxes[:, 2] - boxes[:, 0] + 1, boxes[:, 3] - boxes[:, 1] + 1
    largest = torch.tensor(scale[1], dtype=torch.float64)
    needed = 0.0
    # A rectangle is widest when a diagonal lies level, and highest when one is upright.
    for level in (torch.atan2(height, width), torch.atan2(width, height)):
        worst = (level * (180 / math.pi)).clamp(max=rotation)
        needed = max(needed, 2 * torch.stack(_half_sides(boxes, worst, largest)).max().item())
    if needed > size:
        raise ValueError(
            f"size={size} has no room for every image: turned by up to {rotation:g}° and scaled "
            f"by up to {scale[1]:g}, one takes {math.ceil(needed)} pixels. Choose "
            f"size={math.ceil(needed)} or more, or a smaller scale"
        )
