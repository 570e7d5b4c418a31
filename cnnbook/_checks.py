"""Checks of the numbers and tensors that users pass, worded for them.

Every room may import them, so this module imports nothing of the package.
"""

import os
from math import isfinite
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def is_number(value: object) -> bool:
    """Whether `value` is a real number; True and False are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_index(value: object) -> bool:
    """Whether `value` is the index of one image: an integer, also NumPy's or torch's."""
    if isinstance(value, Tensor):
        return value.ndim == 0 and not (value.is_floating_point() or value.dtype == torch.bool)
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_positive(name: str, value: Any) -> None:
    """Refuse what is not a finite number above zero."""
    _check_number(name, value)
    if not (value > 0 and isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {name}={value}")


def check_fraction(name: str, value: Any) -> None:
    """Refuse what is not a number from 0 to 1."""
    _check_number(name, value)
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a fraction from 0 to 1, got {name}={value}")


def check_whole(name: str, value: object) -> None:
    """Refuse what is not a whole number."""
    _check_number(name, value)
    if not isinstance(value, Integral):
        raise TypeError(f"{name} is a whole number, got {name}={value}")


def _check_number(name: str, value: object) -> None:
    if not is_number(value):
        raise TypeError(
            f"{name} must be a number, got {name}={value!r} of type {type(value).__name__}"
        )


def check_count(name: str, value: Any) -> None:
    """Refuse what is not an integer of at least 1 that torch can count to."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    if value >= 2**63:
        raise ValueError(f"{name} must be less than 2**63, got {value}")


def no_tensor(name: str, value: object) -> TypeError:
    """Return the error for an argument that is not the tensor that it must be, with a cure."""
    if type(value).__module__ == "numpy":
        given, cure = "a numpy array", f"; use torch.from_numpy({name})"
    elif type(value).__name__ in ("Conv2d", "Linear"):
        given, cure = f"a layer {type(value).__name__}", f"; pass {name}=layer.weight"
    elif isinstance(value, list | tuple):
        given, cure = f"a {type(value).__name__}", "; torch.stack or torch.tensor makes one"
    else:
        given, cure = type(value).__name__, ""
    return TypeError(f"{name} must be a torch tensor, got {given}{cure}")


def check_dense(name: str, x: Any) -> None:
    """Refuse what is not a tensor that has a value for each position."""
    if not isinstance(x, Tensor):
        raise no_tensor(name, x)
    if x.is_meta or x.layout != torch.strided:
        kind = "one without values, on the meta device" if x.is_meta else f"{x.layout}"
        cure = "" if x.is_meta else "; to_dense() makes one"
        raise ValueError(f"{name} must be a dense tensor, got {kind}{cure}")


def check_finite(name: str, values: Any) -> None:
    """Refuse what is not a dense tensor of finite numbers."""
    check_dense(name, values)
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got infinite values or NaN")


def as_numbers(name: str, given: object, like: Tensor) -> Tensor:
    """Return one finite number or several as a tensor on the device and of the type of another."""
    try:
        values = torch.as_tensor(given, dtype=like.dtype, device=like.device)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} must be a number, or one for each channel; got {given!r}"
        ) from None
    if not values.isfinite().all():
        raise ValueError(f"{name} must be finite, got {given}")
    return values


def check_fits(what: str, size: int) -> None:
    """Refuse images whose bytes are more than this machine's memory, before they are made."""
    memory = memory_of_this_machine()
    if memory is not None and size > memory:
        raise ValueError(
            f"{what} take {size / 1e9:,.1f} GB, this machine has {memory / 1e9:,.1f} GB of memory; "
            "choose a smaller size"
        )


def memory_of_this_machine() -> int | None:
    """Return the bytes of memory that this machine has, if it says so."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
