"""The global random generators that transforms draw from: torch's, Python's and NumPy's."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# NumPy's and torch's generators on a GPU are not asked: transforms run on the CPU.
State = tuple[torch.Tensor, Any, Any]


def seed_all(seed: int) -> None:
    """Seed the three generators with an integer of any size."""
    # Not torch.manual_seed, which would seed those of every other device, too.
    torch.default_generator.manual_seed(seed % 2**63)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (others' transforms use the global generator)


def state_of_all() -> State:
    """Return the state of the three generators."""
    return (
        torch.default_generator.get_state(),
        random.getstate(),
        np.random.get_state(),  # noqa: NPY002
    )


def set_all(state: State) -> None:
    """Put the three generators into a state."""
    torch.default_generator.set_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])  # noqa: NPY002


@contextmanager
def kept() -> Iterator[None]:
    """Leave the caller's random state as it was."""
    before = state_of_all()
    try:
        yield
    finally:
        set_all(before)
