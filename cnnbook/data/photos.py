"""Photographs to experiment with, free of copyright restrictions."""

import numpy as np
import torch
from torch import Tensor

from cnnbook._checks import check_count, check_fits
from cnnbook._errors import unknown
from cnnbook.data.datasets import ASSETS

# Credits and checksums are in assets/photos/CREDITS.
PHOTOS = {"cat": "cat.png", "coffee": "coffee.png", "rocket": "rocket.jpg"}


def list_photos() -> list[str]:
    """Return the names of the photographs that come with the package.

    Examples
    --------
    >>> list_photos()
    ['cat', 'coffee', 'rocket']
    """
    return list(PHOTOS)


def photo(name: str = "cat", size: int | None = None) -> Tensor:
    """Return a photograph.

    Parameters
    ----------
    name
        ``"cat"`` (300×451 pixels), ``"coffee"`` (400×600) or ``"rocket"`` (427×640).
    size
        Height and width in pixels: the largest square in the center is cropped and resized. The
        whole photograph by default.

    Returns
    -------
    Tensor
        uint8, ``(3, H, W)``, 0 to 255.

    Raises
    ------
    ValueError
        If the name is unknown or `size` is not positive.

    Examples
    --------
    >>> photo("cat", size=224).shape
    torch.Size([3, 224, 224])
    """
    if name not in PHOTOS:
        raise unknown("photograph", name, PHOTOS)
    if size is not None:
        check_count("size", size)
        check_fits(f"a photograph of {size}×{size} pixels", 8 * size * size)
    from PIL import Image

    with Image.open(ASSETS / "photos" / PHOTOS[name]) as picture:
        picture = picture.convert("RGB")
        if size is not None:
            side = min(picture.size)
            left, top = ((length - side) // 2 for length in picture.size)
            square = (left, top, left + side, top + side)
            picture = picture.resize((size, size), Image.Resampling.BICUBIC, box=square)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()
