"""Checks of images, their indices and their descriptions, worded for users."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from cnnbook._checks import is_index, is_number, no_tensor
from cnnbook._errors import counted


def check_epoch(number: Any, start: Any) -> None:
    """Refuse what is not the number of an epoch, or of its first batch: an integer from 0."""
    for name, value in (("number", number), ("start", start)):
        if not is_index(value):
            raise TypeError(f"{name} must be an integer from 0, got {value!r}")
        if value < 0:
            raise ValueError(f"{name} must be an integer from 0, got {value}")


def check_index(index: Any, length: int) -> int:
    """Return the index of one image, counted from the start; IndexError if there is none."""
    number = int(index)
    if not -length <= number < length:
        raise IndexError(f"there is no image {number}: the data set has {counted(length, 'image')}")
    return number % length


def check_several(index: object) -> None:
    """Refuse what is not the indices of several images: a slice, a list, an array or a tensor."""
    several = isinstance(index, slice | list | np.ndarray | torch.Tensor)
    if not several or getattr(index, "ndim", 1) == 0:
        raise TypeError(
            "a data set is indexed by an integer, which gives (image, label), or by a slice, a "
            f"list, a mask or an index tensor, which gives a data set; got {index!r}"
        )


def check_images(images: Any) -> None:
    """Refuse what is not a uint8 tensor of shape (N, C, H, W)."""
    if not isinstance(images, torch.Tensor):
        raise no_tensor("images", images)
    if images.ndim == 4 and images.dtype == torch.uint8:
        return
    if images.ndim == 3:
        hint = "; add the channel axis: images[:, None], or for one image images[None]"
    elif images.ndim == 4 and images.is_floating_point():
        hint = "; floats in 0 … 1 become bytes by (images * 255).round().to(torch.uint8)"
    else:
        hint = ""
    raise ValueError(
        f"images must be uint8 of shape (N, C, H, W), got {images.dtype} of shape "
        f"{tuple(images.shape)}{hint}"
    )


def names(name: str, value: Any) -> tuple[str, ...]:
    """Return `value` as a tuple of names."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        given = tuple(value)
        if all(isinstance(n, str) for n in given):
            return given
    raise TypeError(f"{name} must be a tuple of names, such as ('cat', 'dog'), got {value!r}")


def per_channel(name: str, value: Any) -> tuple[float, ...]:
    """Return `value`, a sequence, array or tensor of numbers, as a tuple of floats."""
    if isinstance(value, torch.Tensor | np.ndarray):
        value = value.tolist()
    if isinstance(value, Iterable) and not isinstance(value, str):
        given = tuple(value)
        if all(is_number(v) for v in given):
            return tuple(map(float, given))
    raise TypeError(
        f"{name} must be a tuple of one number for each channel, such as (0.5,) or "
        f"(0.5, 0.5, 0.5), got {value!r}"
    )
