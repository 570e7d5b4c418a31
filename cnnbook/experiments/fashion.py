"""Experiments that are run once and recorded: too long for a page, or made for a large GPU.

They are parts of ``python -m cnnbook bench``, beside the comparisons of :mod:`cnnbook.bench`.
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cnnbook import data, models, settings, training
from cnnbook._errors import unknown
from cnnbook.bench import OURS, SAME, Row, race, rows_of_race, torchvision_model
from cnnbook.training.device import autocast, choose_precision, is_out_of_memory

# ---------------------------------------------------------------------------- throughput

# Networks and the images per step on a GPU. Those in SAME have torchvision's beside them; alexnet
# and googlenet are the papers', which torchvision does not have.
FULL_SIZE = {
    "alexnet": 512,
    "alexnet_2014": 512,
    "vgg11": 128,
    "vgg16": 64,
    "googlenet": 256,
    "googlenet_bn": 256,
    "resnet18": 256,
    "resnet34": 256,
    "resnet50": 128,
}
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def bench_throughput(
    *, quick: bool, repeats: int, networks: Sequence[str] | None, **_: Any
) -> Iterator[Row]:
    """Training images per second of the full-size networks, beside torchvision's same ones.

    In float32 and bfloat16, with either memory layout, as torch runs it and compiled. A step is
    forward, loss, backward and the optimizer's update. Batches stay on the device, so that
    loading them counts for nothing.
    """
    for name in networks or ():
        if name not in FULL_SIZE:
            raise unknown("network of full size", name, FULL_SIZE)
    device = settings.device()
    cuda = device.type == "cuda"
    precisions = ["float32"] if quick else ["float32", "bfloat16"]
    modes = ["eager", "compiled"] if not quick and _compiles(device) else ["eager"]
    for name in networks or (["resnet18"] if quick else FULL_SIZE):
        batch_size = FULL_SIZE[name] if cuda else 1 if quick else 4
        for precision in precisions:
            for layout in LAYOUTS:
                for mode in modes:
                    variant = {"precision": precision, "layout": layout, "mode": mode}
                    rows, batch_size = _throughput(
                        name, batch_size, repeats, 10 if cuda else 1, device, **variant
                    )
                    yield from rows


def _throughput(
    name: str,
    batch_size: int,
    repeats: int,
    steps: int,
    device: torch.device,
    *,
    precision: str,
    layout: str,
    mode: str,
) -> tuple[list[Row], int]:
    """Return the rows of one variant, and the batch size, halved until it fitted."""
    while True:
        try:
            work = {
                who: _steps(net, batch_size, steps, device, precision, layout, mode)
                for who, net in _same_networks(name).items()
            }
            seconds = race(work, repeats)
            break
        except RuntimeError as error:
            if batch_size == 1 or not is_out_of_memory(error):
                raise
        # Outside the handler, whose error keeps the failed step's memory alive.
        batch_size //= 2
        if device.type == "cuda":
            torch.cuda.empty_cache()
    torch.compiler.reset()  # else torch gives up compiling after the eighth network
    task = f"{name}, batch {batch_size}, {precision}, {layout}, {mode}"
    note = ""
    if device.type == "cuda" and precision == "float32" and torch.backends.cudnn.allow_tf32:
        note = "convolutions may use TF32"
    more = {
        "network": name,
        "batch size": batch_size,
        "precision": precision,
        "layout": layout,
        "mode": mode,
    }
    images = batch_size * steps
    rows = rows_of_race("throughput", task, seconds, images, dict.fromkeys(seconds, note), more)
    return rows, batch_size


def _same_networks(name: str) -> dict[str, nn.Module]:
    options = {}
    if name.startswith("googlenet"):
        options["auxiliary"] = False
    if name == "resnet50":
        options["version"] = "v1.5"  # torchvision's
    torch.manual_seed(0)
    ours = {OURS: models.create(name, **options)}
    return ours | ({"torchvision": torchvision_model(name)} if name in SAME else {})


def _steps(
    net: nn.Module,
    batch_size: int,
    steps: int,
    device: torch.device,
    precision: str,
    layout: str,
    mode: str,
) -> Callable[[], None]:
    """Return a function that trains on the same batch a number of times."""
    side = getattr(net, "input_size", None) or 224
    x = torch.randn(batch_size, 3, side, side, device=device)
    x = x.contiguous(memory_format=LAYOUTS[layout])
    y = torch.arange(batch_size, device=device) % 1000
    net.to(device, memory_format=LAYOUTS[layout]).train()
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-4, momentum=0.9)
    network = torch.compile(net) if mode == "compiled" else net
    number_format = choose_precision(precision, device)

    def work() -> None:
        for _ in range(steps):
            with autocast(device, number_format):
                loss = F.cross_entropy(network(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return work


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


# ---------------------------------------------------------------------------- test accuracy

# The narrow forms that the chapters train, for images of 32×32.
SMALL = {
    "lenet5": {"activation": "relu"},
    "alexnet": {"stem": "small", "input_size": 32, "width": 1 / 6, "normalize": False},
    "vgg11": {"input_size": 32, "width": 1 / 16, "dropout": 0},
    "googlenet_bn": {"stem": "small", "input_size": 32, "width": 1 / 8, "auxiliary": False},
    "resnet20": {"width": 1 / 4},
}


def small_form(name: str, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Return the narrow form of a network, for images of 32×32.

    Parameters
    ----------
    name
        A key of ``SMALL``.
    num_classes
        Number of outputs.
    in_channels
        Channels of the images.

    Raises
    ------
    ValueError
        For any other name.
    """
    if name not in SMALL:
        raise unknown("network with a small form", name, SMALL)
    return models.create(name, num_classes, in_channels, **SMALL[name])


def bench_fashion(
    *, quick: bool, networks: Sequence[str] | None, data_set: str | None, seeds: int, **_: Any
) -> Iterator[Row]:
    """Test accuracy of the small forms, all trained alike.

    Adam under a one-cycle schedule, ten epochs. One value for each seed.
    """
    epochs = 10
    for name in networks or ():
        small_form(name)
    source = data_set or ("fashion-mini" if quick else "fashion-mnist")
    train, test = data.load(source, size=32)
    if quick:
        train, test, epochs = train[:640], test[:200], 1
    task = f"small forms, {len(train):,} images of {source}, {_passes(epochs)}"
    for name in networks or (["lenet5", "vgg11"] if quick else SMALL):
        yield _trained(
            "fashion",
            task,
            name,
            lambda name=name: small_form(name, len(train.classes), train.images.shape[1]),
            train,
            test,
            epochs,
            seeds,
        )


def bench_configurations(
    *, quick: bool, data_set: str | None, seeds: int, **_: Any
) -> Iterator[Row]:
    """Test accuracy of VGG's configurations A to E, alike in everything but depth.

    Narrow networks with He's weights, Adam under a one-cycle schedule, six epochs: the experiment
    of the chapter on VGG, on more images and for longer. One value for each seed.
    """
    epochs = 6
    source = data_set or "fashion-mini"
    train, test = data.load(source, size=32)
    if quick:
        train, test, epochs = train[:640], test[:200], 1
    task = f"VGG, width 1/16, {len(train):,} images of {source}, {_passes(epochs)}"
    options = {"width": 1 / 16, "input_size": 32, "dropout": 0}
    classes, channels = len(train.classes), train.images.shape[1]
    for column in "ABCDE":
        yield _trained(
            "configurations",
            task,
            column,
            lambda column=column: models.VGG(column, classes, channels, **options),
            train,
            test,
            epochs,
            seeds,
        )


def _passes(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs > 1 else ''}"


def _trained(
    part: str,
    task: str,
    name: str,
    make: Callable[[], nn.Module],
    train: data.Dataset,
    test: data.Dataset,
    epochs: int,
    seeds: int,
) -> Row:
    """Train a network once for each seed; return the mean and every seed's results."""
    batch_size, lr = 64, 0.002
    accuracies, losses = [], []
    for seed in range(seeds):
        torch.manual_seed(seed)
        net = make()
        adam = torch.optim.Adam(net.parameters(), lr)
        steps = epochs * -(-len(train) // batch_size)
        options = {
            "optimizer": adam,
            "scheduler": torch.optim.lr_scheduler.OneCycleLR(adam, lr, steps),
            "batch_size": batch_size,
        }
        history = training.fit(net, train, epochs=epochs, seed=seed, progress=False, **options)
        if history.stopped:  # fit() returns after Ctrl-C; half a training must not be recorded
            raise KeyboardInterrupt
        accuracies.append(training.evaluate(net, test).accuracy)
        losses.append(history.train_loss[-1])
    more = {
        "lowest": min(accuracies),
        "highest": max(accuracies),
        "parameters": sum(p.numel() for p in net.parameters()),
        "accuracies": accuracies,
        "training losses": losses,
    }
    accuracy = statistics.mean(accuracies)
    return Row(part, task, name, accuracy, "test accuracy", None, more=more)


PARTS = {
    "throughput": bench_throughput,
    "fashion": bench_fashion,
    "configurations": bench_configurations,
}
