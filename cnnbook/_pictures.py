"""Image files from anywhere: opened without starting anything, in bounded memory."""

import os
import stat
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

# What Pillow tells from the content, whatever the suffix says. Not EPS, for which it would start
# Ghostscript, nor formats that hardly anybody reads and hardly anybody tests.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff"}
    | {".webp"}
)
MAX_PIXELS = 178_956_970  # Pillow's own limit, which its WebP reader applies too late
_MAX_RESIZED = 2**26  # pixels of an image that has been resized and is still to be cropped


class ThinPictureError(ValueError):
    """An image is huge once its shorter side has been resized."""


def open_picture(path: Path, channels: int) -> Any:
    """Read an image file as :func:`as_8_bit` returns it.

    Parameters
    ----------
    path
        The file; its content decides the format, one of ``FORMATS``.
    channels
        1 or 3.

    Raises
    ------
    OSError
        If it is missing, a folder, or no file.
    ValueError
        If it is not such an image, damaged, or too large; the message says so without its name.
    """
    from PIL import Image

    _refuse_pipe(os.stat(path))  # opening a device can do something
    with open(path, "rb", opener=_without_waiting) as file:
        _refuse_pipe(os.fstat(file.fileno()))  # it may have been replaced
        width, height = _size_of_webp(file.read(30))
        if width * height > MAX_PIXELS:
            raise ValueError(f"too large: {width}×{height} pixels")
        file.seek(0)
        try:
            with Image.open(file, formats=FORMATS) as image:
                return as_8_bit(image, channels)
        except (MemoryError, ValueError, KeyboardInterrupt):
            raise
        except Exception as error:  # Pillow's plugins raise SyntaxError, struct.error and others
            if isinstance(error, OSError) and error.errno:
                raise
            said = str(error).replace(repr(file), "it")
            raise ValueError(said or type(error).__name__) from None


def check_not_thin(width: int, height: int, shorter: int) -> None:
    """Raise ThinPictureError for an image that would be huge with its shorter side resized."""
    pixels = shorter * shorter * max(width, height) // max(1, min(width, height))
    if pixels > _MAX_RESIZED:
        raise ThinPictureError(
            f"an image of {height}×{width} pixels would have {pixels:,} with its shorter side "
            f"resized to {shorter}, more than {_MAX_RESIZED:,}; crop it first, or choose a smaller "
            "size"
        )


def _refuse_pipe(found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise ValueError("not a file but a pipe or device")


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; of a pipe, do not wait for a writer."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def as_8_bit(image: Any, channels: int) -> Any:
    """Return a PIL image upright, in gray (mode L) or color (mode RGB).

    Of 16 bits per pixel, the upper eight are kept. Palettes are resolved, and transparency is
    dropped, as in torchvision. An image that was turned when it was taken is turned upright.

    Raises
    ------
    ValueError
        If the values have no known range.
    """
    from PIL import Image

    file_format = image.format  # which _upright may take away
    image = _upright(image)
    # Older versions of Pillow read PNG files of 16 bits as 32-bit integers.
    if image.mode.startswith("I;16") or (image.mode == "I" and file_format == "PNG"):
        # convert() would clip at 255, not scale
        image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        kind = "32-bit integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its values are {kind} of no known range; save it with 8 or 16 bits")
    return image.convert("L" if channels == 1 else "RGB")


def _upright(image: Any) -> Any:
    """Return an image turned or mirrored as its EXIF data say; those may be damaged."""
    from PIL import ImageOps

    image.load()  # if the pixels are damaged, it is their error that counts
    with suppress(Exception):  # of any kind; the pixels are whole
        return ImageOps.exif_transpose(image)
    return image


def _size_of_webp(start: bytes) -> tuple[int, int]:
    """Return width and height as a WebP file's first 30 bytes announce them; (0, 0) of others.

    Source: RFC 9649, Sections 2.5 to 2.7.
    """
    if start[:4] != b"RIFF" or start[8:12] != b"WEBP" or len(start) < 30:
        return 0, 0
    if start[12:16] == b"VP8X":
        return 1 + int.from_bytes(start[24:27], "little"), 1 + int.from_bytes(
            start[27:30], "little"
        )
    if start[12:16] == b"VP8L":
        bits = int.from_bytes(start[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", start[26:30])
    return width & 0x3FFF, height & 0x3FFF
