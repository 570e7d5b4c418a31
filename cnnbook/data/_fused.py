"""Augmentation on a GPU in one pass over the pixels: a kernel in Triton, which torch brings along.

torch's own operations read and write the whole batch about ten times. Here every image is read
once, as it is stored, and every pixel of the result is written once; whatever lies between stays
in registers.
"""

import warnings
from typing import Any

import torch
from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # on Windows and macOS, and beside torch's builds for the CPU
    triton = None

# A block of threads makes a rectangle of the result. A warp writes 32 neighbors of a row, which is
# one transaction, and reads from few rows of the old image, however much that is turned.
_ROWS, _COLUMNS = 8, 32
_CHANNELS = 4  # at most, in one block
_MOST_BLOCKS = 2**31 - 1  # in the grid's first dimension; the others end at 65,535

_PADDING = {"zeros": 0, "border": 1, "reflection": 2}

if triton is not None:

    @triton.jit
    def _position(to_x, to_y, shift, x, y, half, PADDING: tl.constexpr):
        """Return a coordinate in the old image, in pixels, as grid_sample computes it."""
        # The same operations as on the CPU, in the same order, so that all devices agree.
        to_x, to_y, shift = tl.div_rn(to_x, half), tl.div_rn(to_y, half), tl.div_rn(shift, half)
        at = (x * to_x + (y * to_y + shift) + 1.0) * half - 0.5
        if PADDING == 2:
            beyond = tl.abs(at + 0.5)
            beyond = beyond - tl.floor(tl.div_rn(beyond, 4.0 * half)) * (4.0 * half)
            at = tl.minimum(beyond, 4.0 * half - beyond) - 0.5
        # Farther outside than two pixels nothing is different, and integers would overflow.
        margin = 2.0 if PADDING == 0 else 0.0
        return tl.minimum(tl.maximum(at, -margin), 2.0 * half - 1.0 + margin)

    @triton.jit
    def _round_half_to_even(value):
        below = tl.floor(value)
        rest = value - below
        odd = below * 0.5 != tl.floor(below * 0.5)
        return tl.where((rest > 0.5) | ((rest == 0.5) & odd), below + 1.0, below)

    @triton.jit
    def _pixel(
        channel, x, y, stride_y, stride_x, width, height, wanted, gray, contrast, brightness, fill,
        BYTES: tl.constexpr, CONTRAST: tl.constexpr, BRIGHTNESS: tl.constexpr,
    ):  # fmt: skip
        """Return old pixels, 0 to 255, with their new colors, less the fill value; 0 outside."""
        inside = wanted & (x >= 0) & (x < width) & (y >= 0) & (y < height)
        color = tl.load(channel + (y * stride_y + x * stride_x), mask=inside, other=0)
        color = color.to(tl.float32)
        if not BYTES:
            color = color * 255.0
        if CONTRAST:
            color = (color - gray) * contrast + gray
            color = tl.minimum(tl.maximum(color, 0.0), 255.0)
        if BRIGHTNESS:
            color = tl.minimum(tl.maximum(color * brightness, 0.0), 255.0)
        return tl.where(inside, color - fill, 0.0)

    # Sizes and strides are not specialized on. If Triton knew that they are multiples of 16, each
    # thread would take four neighbors, to write them at once, and a warp's reads would be spread
    # over four times as many rows.
    @triton.jit(
        do_not_specialize=[
            "first", "channels", "height", "width", "stride_n", "stride_c", "stride_y", "stride_x",
            "matrix_stride", "contrast_stride", "brightness_stride", "box_stride",
        ]
    )  # fmt: skip
    def _augment(
        images, out, matrix, contrasts, brightnesses, boxes, grays, scales, offsets, fill,
        first, channels, height, width, stride_n, stride_c, stride_y, stride_x,
        matrix_stride, contrast_stride, brightness_stride, box_stride,
        BYTES: tl.constexpr, CONTRAST: tl.constexpr, BRIGHTNESS: tl.constexpr, ERASE: tl.constexpr,
        PADDING: tl.constexpr, NEAREST: tl.constexpr,
        ROWS: tl.constexpr, COLUMNS: tl.constexpr, CHANNELS: tl.constexpr,
    ):  # fmt: skip
        # One grid dimension: image, group of channels, row of tiles, column of tiles.
        block = tl.program_id(0)
        across = (width + COLUMNS - 1) // COLUMNS
        column, block = block % across, block // across
        down = (height + ROWS - 1) // ROWS
        row, block = block % down, block // down
        groups = (channels + CHANNELS - 1) // CHANNELS
        group, image = block % groups, block // groups
        n = first.to(tl.int64) + image  # a whole data set has more than 2³¹ pixels

        new_x = column * COLUMNS + tl.arange(0, COLUMNS)[None, :]
        new_y = row * ROWS + tl.arange(0, ROWS)[:, None]
        wanted = (new_x < width) & (new_y < height)
        half_width, half_height = width * 0.5, height * 0.5
        x = new_x.to(tl.float32) + 0.5 - half_width
        y = new_y.to(tl.float32) + 0.5 - half_height
        m = matrix + n * matrix_stride
        old_x = _position(tl.load(m), tl.load(m + 1), tl.load(m + 2), x, y, half_width, PADDING)
        old_y = _position(
            tl.load(m + 3), tl.load(m + 4), tl.load(m + 5), x, y, half_height, PADDING
        )

        gray, contrast, brightness = 0.0, 1.0, 1.0
        if CONTRAST:
            gray = tl.load(grays + n)
            contrast = tl.load(contrasts + n * contrast_stride)
        if BRIGHTNESS:
            brightness = tl.load(brightnesses + n * brightness_stride)
        if ERASE:
            box = boxes + n * box_stride
            erased = (new_x >= tl.load(box)) & (new_y >= tl.load(box + 1))
            erased = erased & (new_x < tl.load(box + 2)) & (new_y < tl.load(box + 3))

        if NEAREST:
            left = _round_half_to_even(old_x).to(tl.int32)
            top = _round_half_to_even(old_y).to(tl.int32)
        else:
            left, top = tl.floor(old_x), tl.floor(old_y)
            east, south = old_x - left, old_y - top  # shares of the right and the lower pixel
            west, north = 1.0 - east, 1.0 - south
            left, top = left.to(tl.int32), top.to(tl.int32)

        for k in tl.static_range(CHANNELS):
            c = group * CHANNELS + k
            there = wanted & (c < channels)
            channel = images + n * stride_n + c.to(tl.int64) * stride_c
            color = _pixel(
                channel, left, top, stride_y, stride_x, width, height, there,
                gray, contrast, brightness, fill, BYTES, CONTRAST, BRIGHTNESS,
            )  # fmt: skip
            if not NEAREST:
                color = color * (west * north)
                color += (east * north) * _pixel(
                    channel, left + 1, top, stride_y, stride_x, width, height, there,
                    gray, contrast, brightness, fill, BYTES, CONTRAST, BRIGHTNESS,
                )  # fmt: skip
                color += (west * south) * _pixel(
                    channel, left, top + 1, stride_y, stride_x, width, height, there,
                    gray, contrast, brightness, fill, BYTES, CONTRAST, BRIGHTNESS,
                )  # fmt: skip
                color += (east * south) * _pixel(
                    channel, left + 1, top + 1, stride_y, stride_x, width, height, there,
                    gray, contrast, brightness, fill, BYTES, CONTRAST, BRIGHTNESS,
                )  # fmt: skip
            scale = tl.load(scales + c, mask=c < channels, other=0.0)
            offset = tl.load(offsets + c, mask=c < channels, other=0.0)
            color = color * scale + offset
            if ERASE:
                color = tl.where(erased, offset, color)
            target = out + (n * channels + c) * height * width + (new_y * width + new_x)
            tl.store(target, color.to(out.dtype.element_ty), mask=there)


_broken = False


def usable(device: torch.device) -> bool:
    """Whether there is Triton, and it can make code for the GPU `device`."""
    if triton is None or _broken:
        return False
    return torch.version.hip is not None or torch.cuda.get_device_capability(device) >= (7, 0)


def give_up(error: Exception) -> None:
    """Say once why images will be augmented by torch's operations from now on."""
    global _broken
    _broken = True
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    warnings.warn(
        f"Augmentation on this GPU is several times slower than it could be: Triton fails with "
        f"“{reason}”. It needs a C compiler, such as gcc",
        stacklevel=4,
    )


def transform(
    images: Tensor,
    matrix: Tensor,
    contrast: Tensor,
    brightness: Tensor,
    box: Tensor,
    *,
    gray: Tensor | None,
    scale: Tensor,
    offset: Tensor,
    dtype: torch.dtype,
    change_brightness: bool,
    erase: bool,
    fill: float,
    padding: str,
    nearest: bool,
) -> Tensor:
    """Augment images in one pass.

    Parameters
    ----------
    images
        ``(N, C, H, W)``, uint8 or floats, of any strides.
    matrix, contrast, brightness, box
        As in :class:`cnnbook.data.AugmentParams`, on the images' device.
    gray
        Mean gray of each image, N of them, 0 to 255; None leaves the contrast as it is.
    scale, offset
        One number for each channel: the result is a color of 0 to 255, less `fill`, times `scale`,
        plus `offset`. Erased pixels become `offset`.
    dtype
        Type of the result.
    change_brightness, erase
        Whether `brightness` and `box` count.
    fill
        Color outside the image, 0 to 255, if `padding` is ``"zeros"``.
    padding
        ``"zeros"``, ``"border"`` or ``"reflection"``, as for ``F.grid_sample``.
    nearest
        Whether to take the nearest pixel instead of interpolating.

    Returns
    -------
    Tensor
        ``(N, C, H, W)``, contiguous.
    """
    n, channels, height, width = images.shape
    out = torch.empty(images.shape, dtype=dtype, device=images.device)
    if out.numel() == 0:
        return out
    # Of parameters, rows may lie apart, the numbers of a row may not.
    matrix, box = (_rows(x.flatten(1)) for x in (matrix, box))
    group = min(channels, _CHANNELS)
    tiles = -(-channels // group) * -(-height // _ROWS) * -(-width // _COLUMNS)
    most = max(1, _MOST_BLOCKS // tiles)
    options: dict[str, Any] = {
        "BYTES": images.dtype == torch.uint8,
        "CONTRAST": gray is not None,
        "BRIGHTNESS": change_brightness,
        "ERASE": erase,
        "PADDING": _PADDING[padding],
        "NEAREST": nearest,
        "ROWS": _ROWS,
        "COLUMNS": _COLUMNS,
        "CHANNELS": group,
    }
    gray = matrix if gray is None else gray  # any pointer: it is not read
    with torch.cuda.device_of(images):  # Triton launches on the current device and stream
        for first in range(0, n, most):
            _augment[(tiles * min(most, n - first),)](
                images, out, matrix, contrast, brightness, box, gray, scale, offset, fill,
                first, channels, height, width, *images.stride(),
                matrix.stride(0), contrast.stride(0), brightness.stride(0), box.stride(0),
                **options,
            )  # fmt: skip
    return out


def _rows(table: Tensor) -> Tensor:
    """Return a table whose rows are contiguous."""
    return table if table.stride(1) == 1 else table.contiguous()
