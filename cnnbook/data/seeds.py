"""Seeds of random generators, from any integer."""

import hashlib
import operator

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
    """
    return torch_seed(operator.index(seed) * 100_003 + number)


def generator(seed: int) -> torch.Generator:
    """Return a generator on the CPU with `seed`, any integer."""
    return torch.Generator().manual_seed(torch_seed(operator.index(seed)))
