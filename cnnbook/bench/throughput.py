"""Training images per second of the networks at full size."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from cnnbook import models, settings
from cnnbook._errors import unknown
from cnnbook._stderr import say
from cnnbook.bench.comparisons import with_twin
from cnnbook.bench.race import race, rows_of_race
from cnnbook.bench.steps import (
    CaptureError,
    capture,
    prepared,
    random_batch,
    repeated,
    training_step,
)
from cnnbook.results import Row
from cnnbook.training.device import PRECISIONS, choose_precision, is_out_of_memory

# What is run if no networks are named. alexnet and googlenet are the papers' versions, which
# torchvision does not have.
NETWORKS = (
    *("alexnet", "alexnet_2014", "vgg11", "vgg16", "googlenet", "googlenet_bn"),
    *("resnet18", "resnet34", "resnet50"),
)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MODES = ("eager", "compile", "graph")


def throughput(
    *,
    quick: bool,
    repeats: int,
    networks: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    layouts: Sequence[str] | None = None,
    modes: Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Iterator[Row]:
    """Training images per second of the full-size networks, beside torchvision's same ones.

    In float32 and bfloat16, with either memory layout, eager, compiled and, on a GPU, as one CUDA
    graph of the whole step, unless some of these are chosen. A step is the forward pass, the loss,
    the backward pass and the optimizer's update. Batches stay on the device, so loading does not
    count; nor does compiling or capturing. On a GPU, the batch size starts at 256, or at the one
    given, and is halved until it fits.
    """
    # Misspelled names are rejected before the first network is timed.
    for name in networks or ():
        models.model_spec(name)
    for kind, given, known in (
        ("precision", precisions, PRECISIONS),
        ("memory layout", layouts, LAYOUTS),
        ("mode", modes, MODES),
    ):
        for name in given or ():
            if name not in known:
                raise unknown(kind, name, known)
    device = settings.device()
    cuda = device.type == "cuda"
    modes = possible_modes(modes, device) if modes else _default_modes(device, quick=quick)
    precisions = precisions or (["float32"] if quick else ["float32", "bfloat16"])
    layouts = layouts or list(LAYOUTS)
    steps = 10 if cuda else 1
    for name in networks or (["resnet18"] if quick else NETWORKS):
        size = batch_size or (256 if cuda else 1 if quick else 4)
        for precision, layout, mode in itertools.product(precisions, layouts, modes):
            variant = {"precision": precision, "layout": layout, "mode": mode}
            try:
                size, seconds = _race_what_fits(name, size, steps, repeats, **variant)
            except CaptureError as error:
                left_out = f"{name}, {precision}, {layout}, {mode}"
                say(f"{left_out}: left out, {error}")
                continue
            task = f"{name}, batch {size}, {precision}, {layout}, {mode}"
            more = {"network": name, "batch_size": size, **variant}
            tf32 = cuda and precision == "float32" and torch.backends.cudnn.allow_tf32
            notes = dict.fromkeys(seconds, "convolutions may use TF32" if tf32 else "")
            yield from rows_of_race("throughput", task, seconds, size * steps, notes, more)


def _race_what_fits(
    name: str, batch_size: int, steps: int, repeats: int, **variant: str
) -> tuple[int, dict[str, list[float]]]:
    """Return the batch size, halved until it fits into memory, and the seconds of each round."""
    while True:
        try:
            return batch_size, _race(name, batch_size, steps, repeats, **variant)
        except RuntimeError as error:
            if batch_size == 1 or not is_out_of_memory(error):
                raise
        # Outside the except block, whose exception keeps the failed step's memory alive.
        batch_size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _race(
    name: str, batch_size: int, steps: int, repeats: int, *, precision: str, layout: str, mode: str
) -> dict[str, list[float]]:
    spec = models.model_spec(name)
    contenders = {
        who: _steps(net, spec, batch_size, steps, precision, layout, mode)
        for who, net in with_twin(name).items()
    }
    seconds = race(contenders, repeats)
    torch.compiler.reset()  # otherwise torch stops compiling after the eighth network
    return seconds


def _steps(
    net: nn.Module,
    spec: models.ModelSpec,
    batch_size: int,
    steps: int,
    precision: str,
    layout: str,
    mode: str,
) -> Callable[[], None]:
    """Return a function that trains on the same batch a given number of times."""
    device = settings.device()
    x, y = random_batch(batch_size, spec.input_shape, spec.num_classes, device, LAYOUTS[layout])
    prepared(net, device, LAYOUTS[layout])
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    network = torch.compile(net) if mode == "compile" else net
    number_format = choose_precision(precision, device)
    step = training_step(network, spec.loss, optimizer, x, y, number_format)
    return repeated(capture(step) if mode == "graph" else step, steps)


def _default_modes(device: torch.device, *, quick: bool) -> list[str]:
    """Return the modes that work on this device; when quick, only the first."""
    if quick:
        return ["eager"]
    reason = _why_no_compile(device)
    if reason:
        say(f"torch.compile does not work here, left out: {reason}")
    graph = ["graph"] if device.type == "cuda" else []
    return ["eager", *([] if reason else ["compile"]), *graph]


def possible_modes(modes: Sequence[str], device: torch.device) -> Sequence[str]:
    """Return the modes that were asked for, or raise if one does not work on this device."""
    for name in modes:
        if name not in MODES:
            raise unknown("mode", name, MODES)
    if "graph" in modes and device.type != "cuda":
        raise ValueError(f"mode 'graph' needs CUDA, and the device is {device}: choose 'eager'")
    if "compile" in modes and (reason := _why_no_compile(device)):
        raise ValueError(f"mode 'compile' does not work here ({reason}): choose 'eager'")
    return modes


def _why_no_compile(device: torch.device) -> str:
    """Return why torch.compile does not work, or "": it needs a compiler, on a CPU one for C++."""
    try:
        net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU()).to(device)
        torch.compile(net)(torch.zeros(1, 1, 8, 8, device=device)).sum().backward()
    except Exception as error:  # whatever torch's and the system's compilers raise
        return str(error).partition("\n")[0] or type(error).__name__
    return ""
