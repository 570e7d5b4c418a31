"""Where to run and at what size: preset, device, seeds."""

import os
import platform
import random
from typing import TYPE_CHECKING, TypeVar

from cnnbook._errors import unknown

if TYPE_CHECKING:
    import torch

PRESETS = ("cpu", "gpu")

T = TypeVar("T")


def preset() -> str:
    """Return the size at which experiments should run: ``"cpu"`` or ``"gpu"``.

    The environment variable ``CNNBOOK_PRESET`` decides; without it, a machine with a CUDA GPU gets
    ``"gpu"`` (full data sets, wider networks, longer training), any other machine gets ``"cpu"``
    (the data that comes with the package, narrow networks, minutes on two cores).

    Returns
    -------
    str
        ``"cpu"`` or ``"gpu"``.

    Raises
    ------
    ValueError
        If ``CNNBOOK_PRESET`` holds anything else.

    Examples
    --------
    >>> from unittest.mock import patch
    >>> with patch.dict("os.environ", CNNBOOK_PRESET="gpu"):  # as if set in the shell
    ...     preset()
    'gpu'
    """
    chosen = os.environ.get("CNNBOOK_PRESET", "").strip().lower()
    if chosen:
        if chosen not in PRESETS:
            raise unknown("preset in CNNBOOK_PRESET", chosen, PRESETS)
        return chosen

    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def choose(*, cpu: T, gpu: T) -> T:
    """Return the value for the current preset.

    Parameters
    ----------
    cpu
        Value under the ``cpu`` preset.
    gpu
        Value under the ``gpu`` preset.

    Returns
    -------
    object
        `cpu` or `gpu`.

    Examples
    --------
    >>> epochs = choose(cpu=10, gpu=30)
    """
    return {"cpu": cpu, "gpu": gpu}[preset()]


def device(wanted: "torch.device | str | None" = None) -> "torch.device":
    """Return the requested device, or the fastest one: CUDA, else Apple's MPS, else the CPU.

    Parameters
    ----------
    wanted
        For example ``"cpu"`` or ``"cuda:1"``.

    Returns
    -------
    torch.device

    Raises
    ------
    ValueError
        If this machine has no such device.

    Examples
    --------
    >>> import torch
    >>> x = torch.ones(2, 3).to(device())
    >>> x.device.type in ("cuda", "mps", "cpu")
    True
    """
    import torch

    if wanted is not None:
        try:
            torch.empty(0, device=wanted)
        except (RuntimeError, AssertionError) as error:
            # torch's first line says which names it knows, or why there is no GPU.
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"this machine has no device {str(wanted)!r} ({reason}). Omit the device to use "
                f"the fastest one, {device()}"
            ) from None
        return torch.device(wanted)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def seed(value: int) -> None:
    """Seed Python's, NumPy's and torch's global random generators.

    Parameters
    ----------
    value
        Seed, 0 ≤ `value` < 2³².

    Raises
    ------
    ValueError
        If `value` is outside that range.

    Examples
    --------
    >>> import torch
    >>> seed(3)
    >>> first = torch.rand(1000)
    >>> seed(3)
    >>> torch.equal(first, torch.rand(1000))
    True
    """
    if not 0 <= value < 2**32:
        raise ValueError(f"seed {value} is outside 0 … 2**32 - 1, the range NumPy accepts")

    import numpy as np
    import torch

    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 (readers' own code may use the global generator)
    torch.manual_seed(value)


def start(*, seed: int = 0) -> None:
    """Begin a chapter: seed the random generators, and print versions, device and preset.

    Parameters
    ----------
    seed
        Passed to :func:`cnnbook.seed`.

    Examples
    --------
    >>> start(seed=0)  # doctest: +ELLIPSIS
    cnnbook ... · torch ...
    device  ... (...)
    preset  ...  (set CNNBOOK_PRESET to 'cpu' or 'gpu' to change it)
    """
    import torch

    import cnnbook

    cnnbook.seed(seed)
    fastest = device()
    if fastest.type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        name = f"{platform.machine()}, {threads} thread{'s' * (threads != 1)}"
    print(f"cnnbook {cnnbook.__version__} · torch {torch.__version__}")
    print(f"device  {fastest.type} ({name})")
    print(f"preset  {preset()}  (set CNNBOOK_PRESET to 'cpu' or 'gpu' to change it)")
