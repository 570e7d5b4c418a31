"""Seeds of random generators, from any integer."""

import operator

import torch


def torch_seed(value: int) -> int:
    """Return an integer that torch takes as a seed: `value` itself if it fits into 64 bits."""
    return value if -(2**63) <= value < 2**63 else value % 2**63


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
