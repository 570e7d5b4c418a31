"""Training images per second of the networks at full size."""

import itertools
import sys
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import nn

from cnnbook import models, settings
from cnnbook.bench.comparisons import with_twin
from cnnbook.bench.race import race, rows_of_race
from cnnbook.results import Row
from cnnbook.training.device import autocast, choose_precision, is_out_of_memory

# What is run if no networks are named. alexnet and googlenet are the papers' versions, which
# torchvision does not have.
NETWORKS = (
    *("alexnet", "alexnet_2014", "vgg11", "vgg16", "googlenet", "googlenet_bn"),
    *("resnet18", "resnet34", "resnet50"),
)
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def throughput(*, quick: bool, repeats: int, networks: Sequence[str] | None) -> Iterator[Row]:
    """Training images per second of the full-size networks, beside torchvision's same ones.

    In float32 and bfloat16, with either memory layout, eager and compiled. A step is the forward
    pass, the loss, the backward pass and the optimizer's update. Batches stay on the device, so
    loading does not count. On a GPU, the batch size starts at 256 and is halved until it fits.
    """
    for name in networks or ():
        models.model_spec(name)  # a misspelled name is rejected before the first is timed
    device = settings.device()
    cuda = device.type == "cuda"
    precisions = ["float32"] if quick else ["float32", "bfloat16"]
    modes = ["eager", "compiled"] if not quick and _compiles(device) else ["eager"]
    steps = 10 if cuda else 1
    for name in networks or (["resnet18"] if quick else NETWORKS):
        batch_size = 256 if cuda else 1 if quick else 4
        for precision, layout, mode in itertools.product(precisions, LAYOUTS, modes):
            variant = {"precision": precision, "layout": layout, "mode": mode}
            batch_size, seconds = _race_what_fits(name, batch_size, steps, repeats, **variant)
            task = f"{name}, batch {batch_size}, {precision}, {layout}, {mode}"
            more = {"network": name, "batch_size": batch_size, **variant}
            tf32 = cuda and precision == "float32" and torch.backends.cudnn.allow_tf32
            notes = dict.fromkeys(seconds, "convolutions may use TF32" if tf32 else "")
            images = batch_size * steps
            yield from rows_of_race("throughput", task, seconds, images, notes, more)


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
    x = torch.randn(batch_size, *spec.input_shape, device=device)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    y = torch.arange(batch_size, device=device) % spec.num_classes
    net.to(device, memory_format=LAYOUTS[layout]).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    network = torch.compile(net) if mode == "compiled" else net
    number_format = choose_precision(precision, device)

    def run() -> None:
        for _ in range(steps):
            with autocast(device, number_format):
                loss = spec.loss(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def _compiles(device: torch.device) -> bool:
    """Return whether torch.compile works here: it needs a compiler, on a CPU one for C++."""
    try:
        net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1), nn.ReLU()).to(device)
        torch.compile(net)(torch.zeros(1, 1, 8, 8, device=device)).sum().backward()
    except Exception as error:  # whatever torch's and the system's compilers raise
        reason = str(error).partition("\n")[0]
        print(f"torch.compile does not work here, left out: {reason}", file=sys.stderr)
        return False
    return True
