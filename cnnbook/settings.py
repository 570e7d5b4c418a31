"""Where to run and at what size: preset, device, seeds."""

import json
import operator
import os
import platform
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
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
    TypeError
        If `wanted` is neither a name nor a device.
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
        if not isinstance(wanted, str | int | torch.device):
            raise TypeError(f"a device is a name, such as 'cpu' or 'cuda:1', got {wanted!r}")
        try:
            torch.empty(0, device=wanted)
        except (RuntimeError, AssertionError) as error:
            # torch's first line says which names it knows, or why there is no GPU.
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"this machine has no device {str(wanted)!r} ({reason}). Omit the device to use "
                f"the fastest one, {device()}"
            ) from None
        if torch.device(wanted).type == "meta":
            raise ValueError(
                "the device 'meta' has shapes and no values: nothing can be computed there. Omit "
                f"the device to use the fastest one, {device()}"
            )
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
    TypeError
        If `value` is not an integer.
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
    try:
        value = operator.index(value)  # NumPy's and torch's integers, too
    except (TypeError, RuntimeError):  # RuntimeError: a tensor of several numbers
        raise TypeError(f"a seed is an integer, got {value!r}") from None
    if not 0 <= value < 2**32:
        raise ValueError(f"seed {value} is outside 0 … 2**32 - 1, the range NumPy accepts")

    import numpy as np
    import torch

    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 (readers' own code may use the global generator)
    torch.manual_seed(value)


def start(chapter: str | None = None, *, seed: int = 0) -> None:
    """Begin a chapter: print versions, device, preset and what it will take; seed the generators.

    Parameters
    ----------
    chapter
        Name of the notebook, such as ``"08-resnet"`` or ``"solutions/08-resnet"``, to be told what
        it takes: for the ``cpu`` preset, how long all of it took on two cores; for the ``gpu``
        preset, the steps and operations of its training, and an estimate from a quick
        measurement of how long they take on this GPU.
    seed
        Passed to :func:`cnnbook.seed`.

    Raises
    ------
    ValueError
        If there is no such chapter, or ``CNNBOOK_PRESET`` is not a preset.

    Examples
    --------
    >>> start("08-resnet", seed=0)  # doctest: +ELLIPSIS
    cnnbook ... · torch ...
    device  ... (...)
    preset  ...  (to change it, run %env CNNBOOK_PRESET=... before cnnbook.start)
    takes   ...
    """
    import torch

    import cnnbook

    chosen, fastest = preset(), device()
    takes = None if chapter is None else _takes(chapter, chosen, fastest)
    cnnbook.seed(seed)  # after the measurement, which draws random numbers
    if fastest.type == "cuda":
        name = torch.cuda.get_device_name()
    else:
        threads = torch.get_num_threads()
        name = f"{platform.machine()}, {threads} thread{'s' * (threads != 1)}"
    other = "gpu" if chosen == "cpu" else "cpu"
    print(f"cnnbook {cnnbook.__version__} · torch {torch.__version__}")
    print(f"device  {fastest.type} ({name})")
    change = f"to change it, run %env CNNBOOK_PRESET={other} before cnnbook.start"
    print(f"preset  {chosen}  ({change})")
    if takes is not None:
        print(f"takes   {takes}")


def _takes(chapter: str, chosen: str, fastest: "torch.device") -> str | None:
    """Return what a chapter takes under a preset, in words, or None if it was never timed."""
    # Written by tools/gpu_budget.py.
    recorded = json.loads(Path(__file__).with_name("chapters.json").read_text(encoding="utf-8"))
    known = recorded["gpu"]["notebooks"]
    if not isinstance(chapter, str) or chapter not in known:
        raise unknown("chapter", chapter, known)
    if chosen == "cpu":
        timed = recorded["cpu"]["notebooks"]  # a new chapter has been counted, but not timed
        return f"about {_about(timed[chapter])} on two cores" if chapter in timed else None
    counted = known[chapter]
    mantissa, power = f"{counted['operations']:.0e}".split("e")
    exponent = str(int(power)).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
    training = f"{counted['steps']:,} training steps"
    if counted["operations"]:
        training += f", {mantissa}·10{exponent} operations"
    if fastest.type != "cuda":
        return f"{training}: made for a CUDA GPU, and this machine has none"
    return f"{training}: about {_about(_training_seconds(counted, fastest))} on this GPU"


def _about(seconds: float) -> str:
    """Return a time in words: seconds in steps of five, from two minutes on in minutes."""
    if seconds < 120:
        return f"{max(5, 5 * round(seconds / 5))} s"
    return f"{round(seconds / 60)} minutes"


def _training_seconds(counted: Mapping[str, float], fastest: "torch.device") -> float:
    """Estimate how long training takes on a GPU, from what it does and a measurement of 0.1 s.

    A small network waits for Python to launch its kernels, a large one for their operations.

    Parameters
    ----------
    counted
        ``steps`` of the optimizer, ``operations``, and ``kernels``: operators called in all
        forward passes.
    fastest
        The device to measure.

    Returns
    -------
    float
        Seconds, without data, figures and evaluations.
    """
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    net = nn.Sequential(*layers).to(fastest)
    sgd = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    x = torch.randn(8, 8, 8, 8, device=fastest)
    large = torch.randn(1024, 1024, device=fastest, dtype=torch.float16)

    def step() -> None:
        sgd.zero_grad()
        net(x).square().mean().backward()
        sgd.step()

    def seconds(run: Callable[[], object], times: int) -> float:
        run()
        x[0, 0, 0, 0].item()  # waits for the GPU
        began = time.perf_counter()
        for _ in range(times):
            run()
        x[0, 0, 0, 0].item()
        return (time.perf_counter() - began) / times

    launch = seconds(step, 5) / len(layers)
    if fastest.type != "cuda":  # half precision is for GPUs
        large = large.float()
    rate = 2 * len(large) ** 3 / seconds(lambda: large @ large, 5)
    # Around the network, a step launches about a dozen kernels more: batch, loss, metrics,
    # schedule. Convolutions of this book's sizes reach a fifth of the rate of matrix products.
    around = 12 * counted["steps"]
    return (counted["kernels"] + around) * launch + counted["operations"] / (0.2 * rate)
