"""Checks of what users pass, worded for them."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import torch


def counted(number: int, noun: str) -> str:
    """Return ``"1 image"``, ``"2 images"``, ``"3 classes"``."""
    plural = noun + ("es" if noun.endswith("s") else "s")
    return f"{number:,} {noun if number == 1 else plural}"


def is_number(value: object) -> bool:
    """Whether `value` is a real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def check_count(name: str, value: Any) -> None:
    """Refuse what is not an integer of at least 1."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_tensor(name: str, value: Any) -> None:
    """Refuse what is not a torch tensor."""
    if isinstance(value, np.ndarray):
        raise TypeError(
            f"{name} must be a torch tensor, got a numpy array; use torch.from_numpy({name})"
        )
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, got {type(value).__name__}")


def check_images(images: Any) -> None:
    """Refuse what is not a uint8 tensor of shape (N, C, H, W)."""
    check_tensor("images", images)
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
