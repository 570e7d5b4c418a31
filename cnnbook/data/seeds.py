"""Seeds of random generators, from any integer."""

import hashlib
import operator
from typing import Any

import torch


def torch_seed(value: int) -> int:
    """Return an integer that torch takes as a seed: `value` itself if it fits into 64 bits."""
    if -(2**63) <= value < 2**63:
        return value
    # Not the remainder: torch uses the lowest 32 bits, which are all zero in high powers of 2.
    return int.from_bytes(hashlib.sha256(str(value).encode()).digest()[:7], "big")


def epoch_seed(seed: int, number: int) -> int:
    """Return a seed for one epoch that other seeds and epochs do not share.

    Parameters
    ----------
    seed
        Any integer.
    number
        Number of the epoch, from 0.

    Raises
    ------
    TypeError
        If `seed` is not an integer.
    """
    return torch_seed(whole_seed(seed) * 100_003 + number)


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU with `seed`, any integer; TypeError if it is none."""
    return torch.Generator().manual_seed(torch_seed(whole_seed(seed)))


def whole_seed(seed: Any) -> int:
    """Return an integer, also NumPy's or torch's, as Python's."""
    try:
        return operator.index(seed)
    except (TypeError, RuntimeError):  # RuntimeError: a tensor of several numbers
        raise TypeError(f"seed must be an integer, got {seed!r}") from None
