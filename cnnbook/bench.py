"""Timings of this package beside what one would do without it, as ratios from one run.

The contenders of a comparison run in turn, again and again, so that a machine whose speed changes
slows them all alike; a ratio is the median over the rounds.
"""

import shlex
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnnbook import analysis, data, models, results, settings, training
from cnnbook._errors import unknown
from cnnbook._files import write_whole
from cnnbook.data.files import idx_bytes
from cnnbook.tables import Table
from cnnbook.training.device import autocast, choose_precision

OURS = "cnnbook"
ONE_BATCH = "one batch again and again"


@dataclass(frozen=True)
class Row:
    """One contender in one comparison.

    Parameters
    ----------
    part
        What the comparison belongs to.
    task
        What is timed.
    contender
        Who does it.
    value, unit
        Median of the rounds. Seconds are better when fewer, everything else when more.
    ratio
        How many times faster ours is than this contender; None where it never got there.
    note
        What is not in the other columns.
    more
        Further columns by name, the same in all rows of a part.
    """

    part: str
    task: str
    contender: str
    value: float
    unit: str
    ratio: float | None
    note: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all columns by name."""
        return {name: getattr(self, name) for name in results.ROW} | dict(self.more)


@dataclass(frozen=True)
class Result:
    """What a benchmark measured, and on what.

    Parameters
    ----------
    rows
        The measurements.
    machine
        Names and versions, see :func:`cnnbook.results.describe_machine`.
    command
        What does it again.
    title
        What was done, in one line.
    """

    rows: tuple[Row, ...]
    machine: dict[str, Any]
    command: str
    title: str

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, by the schema of :mod:`cnnbook.results`."""
        columns = dict.fromkeys(name for row in self.rows for name in row.to_dict())
        rows = [dict.fromkeys(columns) | row.to_dict() for row in self.rows]
        return results.document(self.title, self.command, self.machine, rows)

    def table(self) -> Table:
        """Return one line per contender."""
        return results.rows_table(self.to_dict()["rows"])

    def __repr__(self) -> str:
        """Return machine and table as text."""
        m = self.machine
        return (
            f"{m['processor']}, {m['threads']} threads, {m['device']} · torch {m['torch']}, "
            f"torchvision {m['torchvision']}, Python {m['python']} · {m['date']}\n"
            "times ours: how many times faster cnnbook is in the same round, median\n"
            f"{self.table()!r}"
        )

    def save(self, path: str | Path) -> None:
        """Write everything as JSON; an existing file stays until the new one is complete."""
        write_whole(Path(path).expanduser(), results.as_json(self.to_dict()))

    def plot(self):
        """Draw the ratios as bars, one per contender that is not ours.

        Returns
        -------
        cnnbook.plots.Figure

        Raises
        ------
        ValueError
            If there is no other contender, as in an experiment.
        """
        from cnnbook import plots

        others = [r for r in self.rows if r.contender != OURS and r.ratio is not None]
        if not others:
            raise ValueError(f"nothing to draw: no other contender in {self.title!r}")
        return plots.bars(
            [f"{row.task}: {row.contender}" for row in others],
            torch.tensor([row.ratio for row in others]),
            xlabel="times longer than cnnbook takes (same run, median)",
            reference=1.0,
        )


def race(
    contenders: dict[str, Callable[[], object]], repeats: int, *, warm_up: bool = True
) -> dict[str, list[float]]:
    """Time functions in turn: first, second, …, first, second, ….

    Parameters
    ----------
    contenders
        Functions by name.
    repeats
        Rounds that count.
    warm_up
        Whether a round that does not count comes first.

    Returns
    -------
    dict of str to list of float
        Seconds of each round.
    """
    cuda = torch.cuda.is_available()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for round_number in range(repeats + warm_up):
        for name, work in contenders.items():
            if cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            work()
            if cuda:
                torch.cuda.synchronize()
            if round_number >= warm_up:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def race_apart(contenders: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """As :func:`race`, each contender in a process of its own.

    What ours sets for its process (:func:`training.device.keep_freed_memory`) must not help the
    others. The functions have to be picklable.
    """
    context = torch.multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for name, work in contenders.items():
            pipes[name], other = context.Pipe()
            processes.append(context.Process(target=_runner, args=(other, work)))
            processes[-1].start()
            other.close()  # so that a process that dies is noticed
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for round_number in range(repeats + 1):
            for name, pipe in pipes.items():
                pipe.send(True)
                taken = pipe.recv()
                if round_number:
                    seconds[name].append(taken)
        return seconds
    except EOFError:
        raise RuntimeError(f"the process of {name!r} died; its error stands above") from None
    finally:
        for pipe in pipes.values():
            pipe.close()
        for process in processes:
            process.join(10)
            process.kill()


def _runner(pipe, work: Callable[[], object]) -> None:
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    try:
        while pipe.recv():
            pipe.send(race({"": work}, 1, warm_up=False)[""][0])
    except EOFError:
        return


def rows_of_race(
    part: str,
    task: str,
    seconds: dict[str, list[float]],
    images: int,
    notes: Mapping[str, str],
    more: Mapping[str, Any] | None = None,
) -> list[Row]:
    """Return a race's rows: images per second, and how many times faster ours is."""
    ours = seconds[OURS]
    return [
        Row(
            part,
            task,
            name,
            images / statistics.median(times),
            "images/s",
            statistics.median(b / a for a, b in zip(ours, times, strict=True)),
            notes.get(name, ""),
            more or {},
        )
        for name, times in seconds.items()
    ]


# ---------------------------------------------------------------------------- augmentation


def bench_augment(*, quick: bool, repeats: int, **_: Any) -> Iterator[Row]:
    """Rotation, shift, scale, flip, brightness: per image, batched by kornia, and ours."""
    for side, channels, count in ((28, 1, 2048), (96, 3, 256)):
        count = count // 8 if quick else count
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(
            0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator
        )
        contenders, notes = _augmenters(images)
        seconds = race(contenders, repeats)
        yield from rows_of_race("augment", f"{side} px, {channels} channels", seconds, count, notes)


def _augmenters(images: Tensor) -> tuple[dict[str, Callable], dict[str, str]]:
    from torchvision.transforms import v2

    channels = images.shape[1]
    mean, std = (0.5,) * channels, (0.25,) * channels
    device = settings.device()
    here = images.to(device)
    augment = data.Augment(rotate=10, translate=0.1, scale=(0.9, 1.1), flip=0.5, brightness=0.2)
    per_image = [
        v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=0.2),
    ]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    from_pil = v2.Compose([*per_image, v2.ToImage(), *last])
    from_tensor = v2.Compose([*per_image, *last])
    pictures = [v2.functional.to_pil_image(image) for image in images]
    contenders = {
        OURS: lambda: augment(here, seed=1, mean=mean, std=std),
        "torchvision, per PIL image": lambda: torch.stack([from_pil(p) for p in pictures]),
        "torchvision, per tensor": lambda: torch.stack([from_tensor(x) for x in images]),
    }
    notes = {}
    try:
        import kornia.augmentation as K
    except ImportError:
        notes[OURS] = "kornia is not installed: pip install 'cnnbook[bench]'"
    else:
        batched = K.AugmentationSequential(
            K.RandomAffine(10.0, (0.1, 0.1), (0.9, 1.1), p=1.0),
            K.RandomHorizontalFlip(),
            K.RandomBrightness((0.8, 1.2), p=1.0),
            K.Normalize(torch.tensor(mean), torch.tensor(std)),
        ).to(device)
        contenders["kornia, batched"] = lambda: batched(here.float() / 255)
    return contenders, notes


# ---------------------------------------------------------------------------- one epoch


def _write_for_torchvision(folder: str, train: data.Dataset, test: data.Dataset) -> None:
    raw = Path(folder) / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, source in (("train", train), ("t10k", test)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(source.images[:, 0]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(source.labels.byte()))


def _torchvision_sets(folder: str, side: int = 28) -> list:
    """Return torchvision's own FashionMNIST, training and test part, image by image."""
    import torchvision
    from torchvision import transforms

    # Both steps, as Dive into Deep Learning's FashionMNIST class has them at every size.
    transform = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor()])
    return [
        torchvision.datasets.FashionMNIST(folder, train=is_train, transform=transform)
        for is_train in (True, False)
    ]


def _plain_epoch(net: nn.Module, loader: Iterable, optimizer: torch.optim.Optimizer) -> None:
    device = next(net.parameters()).device
    net.train()
    for x, y in loader:
        loss = F.cross_entropy(net(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def bench_epoch(*, quick: bool, repeats: int, **_: Any) -> Iterator[Row]:
    """Train LeNet-5 for one epoch: Dataset and DataLoader image by image, and ours."""
    name = "fashion-mini" if quick else "fashion-mnist"
    train, test = data.load(name)
    with tempfile.TemporaryDirectory() as folder:
        _write_for_torchvision(folder, train, test)
        contenders = {
            OURS: partial(_our_epoch, name),
            "DataLoader, 0 workers": partial(_dataloader_epoch, folder, 0),
            "DataLoader, 4 workers": partial(_dataloader_epoch, folder, 4),
            ONE_BATCH: partial(_one_batch_epoch, len(train)),
        }
        seconds = race_apart(contenders, 1 if quick else repeats)
    images = len(train)
    notes = {ONE_BATCH: "no loading at all: what torch's loop itself takes"}
    yield from rows_of_race("epoch", f"LeNet-5, {images:,} images", seconds, images, notes)


@cache
def _padded(name: str) -> data.Dataset:
    return data.load(name, size=32)[0]


def _our_epoch(name: str) -> None:
    torch.manual_seed(0)
    net = models.lenet5(activation="relu")
    training.fit(net, _padded(name), epochs=1, batch_size=256, progress=False)


def _one_batch_epoch(images: int) -> None:
    torch.manual_seed(0)
    device = settings.device()
    net = relu_lenet(nn.AvgPool2d).to(device)
    batch = torch.randn(256, 1, 28, 28, device=device), torch.arange(256, device=device) % 10
    batches = [batch] * (images // 256)
    _plain_epoch(net, batches, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))


def _dataloader_epoch(folder: str, workers: int) -> None:
    torch.manual_seed(0)
    # The border comes in the first layer, as in Dive into Deep Learning: no time per image.
    net = relu_lenet(nn.AvgPool2d).to(settings.device())
    train, _ = _torchvision_sets(folder)
    loader = DataLoader(train, 256, shuffle=True, num_workers=workers)
    _plain_epoch(net, loader, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))


# ---------------------------------------------------------------------------- time to accuracy

TARGET = 0.88


def recipe() -> tuple[nn.Module, dict[str, Any]]:
    """Return the network and the options of :func:`training.fit` that reach 88 % soonest here.

    LeNet-5 with ReLU and max pooling, batches of 128, and a one-cycle schedule over two epochs:
    its high learning rate in the middle learns fast, its low end removes the noise. Wider
    networks, augmentation and averaged weights reach more in the end, but not this sooner.
    """
    return models.lenet5(activation="relu", pool="max"), {
        "epochs": 2,
        "batch_size": 128,
        "lr": 0.1,
    }


def d2l_lenet() -> nn.Module:
    """Return Dive into Deep Learning's LeNet: logistic sigmoid, average pooling, Glorot weights."""
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2, 2)),
        *(nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2, 2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid()),
        nn.Linear(84, 10),
    )
    return _glorot(net)


def relu_lenet(pool: type[nn.Module] = nn.MaxPool2d) -> nn.Module:
    """Return the same network as many tutorials have it: ReLU, max pooling, torch's weights."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), pool(2, 2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), pool(2, 2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, 10),
    )


def d2l_vgg() -> nn.Module:
    """Return Dive into Deep Learning's VGG-11 of a quarter of the width, for 224×224 pixels."""
    layers: list[nn.Module] = []
    channels = 1
    for count, width in ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    dense = [nn.Linear(128 * 49, 4096), nn.ReLU(), nn.Dropout(0.5)]
    dense += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 10)]
    return _glorot(nn.Sequential(*layers, nn.Flatten(), *dense))


def _glorot(net: nn.Module) -> nn.Module:
    for module in net:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return net


# Network, side of the images, optimizer, batch size: what many tutorials do, and Sections 7.6 and
# 8.2 of Dive into Deep Learning (2023).
PEERS = {
    "ReLU LeNet, Adam, DataLoader": (relu_lenet, 28, partial(torch.optim.Adam, lr=1e-3), 64),
    "D2L LeNet": (d2l_lenet, 28, partial(torch.optim.SGD, lr=0.1), 128),
    "D2L VGG-11 at 224 px": (d2l_vgg, 224, partial(torch.optim.SGD, lr=0.01), 128),
}


def bench_accuracy(*, quick: bool, limit: float, **_: Any) -> Iterator[Row]:
    """Train until 88 % of Fashion-MNIST's test images are right, evaluation not counted."""
    train, test = data.load("fashion-mini" if quick else "fashion-mnist")
    limit = min(limit, 10) if quick else limit
    task = f"{TARGET:.0%} of {'fashion-mini' if quick else 'Fashion-MNIST'}"
    # The others come first: ours changes a setting of the process that would help them.
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        _write_for_torchvision(folder, train, test)
        for name, (make, side, optimizer, batch_size) in PEERS.items():
            torch.manual_seed(0)
            net = make().to(settings.device())
            sets = _torchvision_sets(folder, side)
            times[name] = _until(net, *sets, optimizer, batch_size, limit)

    torch.manual_seed(0)
    net, options = recipe()
    history = training.fit(
        net, train.padded(32), test.padded(32), target_accuracy=TARGET, progress=False, **options
    )
    ours = history.time_to(TARGET)
    note = f"epoch {len(history.seconds)}, {history.val_accuracy[-1]:.2%}"
    times = {OURS: (history.seconds[-1], ours is not None, note), **times}
    for name, (seconds, reached, note) in times.items():
        ratio = seconds / ours if ours and reached else None
        yield Row("accuracy", task, name, seconds, "seconds", ratio, note)


class _OutOfTime(Exception):
    pass


def _until(
    net: nn.Module, train, test, make_optimizer: Callable, batch_size: int, limit: float
) -> tuple[float, bool, str]:
    """Train as a notebook does; return seconds, whether the target was reached, and how."""
    device = next(net.parameters()).device
    optimizer = make_optimizer(net.parameters())
    options = {"num_workers": 4, "persistent_workers": True}
    loader = DataLoader(train, batch_size, shuffle=True, **options)
    test_loader = DataLoader(test, batch_size, **options)
    seconds, epoch, best = 0.0, 0, 0.0
    while True:
        start, steps = time.perf_counter(), 0
        try:
            _plain_epoch(net, _timed(loader, start + limit - seconds), optimizer)
        except _OutOfTime as late:
            steps = late.args[0]
        seconds += time.perf_counter() - start
        if steps:
            done = epoch + steps / len(loader)
            reached = f", at best {best:.2%}" if epoch else ""
            return seconds, False, f"not reached in {done:.2f} epochs{reached}"
        epoch += 1
        net.eval()
        with torch.inference_mode():
            right = sum(int((net(x.to(device)).argmax(1).cpu() == y).sum()) for x, y in test_loader)
        accuracy = right / len(test)
        best = max(best, accuracy)
        if accuracy >= TARGET:
            return seconds, True, f"epoch {epoch}, {accuracy:.2%}"


def _timed(loader: DataLoader, end: float) -> Iterator:
    for number, batch in enumerate(loader):
        if number and time.perf_counter() > end:
            raise _OutOfTime(number)
        yield batch


# ---------------------------------------------------------------------------- every network

# Ours by name, and torchvision's function for the same network.
SAME = {
    "alexnet_2014": "alexnet",
    "vgg11": "vgg11",
    "vgg13": "vgg13",
    "vgg16": "vgg16",
    "vgg19": "vgg19",
    "vgg16_bn": "vgg16_bn",
    "googlenet_bn": "googlenet",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet101": "resnet101",
    "resnet152": "resnet152",
}


def torchvision_model(name: str) -> nn.Module:
    """Return torchvision's network that does the same work as ours of a name in ``SAME``."""
    import torchvision

    build = getattr(torchvision.models, SAME[name])
    if name != "googlenet_bn":
        return build()
    net = build(aux_logits=False, init_weights=False)
    # torchvision has 3×3 where the paper has 5×5, and a smaller pooling before 5a.
    net.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    for module in net.modules():
        if type(module).__name__ == "Inception":
            old = module.branch3[1].conv
            module.branch3[1].conv = nn.Conv2d(
                old.in_channels, old.out_channels, 5, padding=2, bias=False
            )
    return net


def bench_models(
    *, quick: bool, repeats: int, networks: Sequence[str] | None, **_: Any
) -> Iterator[Row]:
    """One training step, forward and backward, beside torchvision's same network.

    On a GPU the note says what share of the rate of large matrix products the network reaches:
    three times its multiply–adds (one forward, two backward), twice as many operations, per
    second. On a CPU the two come from different libraries, so that the share would mean little.
    """
    for name in networks or ():
        if name not in SAME:
            raise unknown("network that torchvision has too", name, SAME)
    device = settings.device()
    cuda = device.type == "cuda"
    precision = choose_precision("auto", device)
    batch_size = 64 if cuda else 1 if quick else 4
    rate = matrix_product_rate(device, precision) if cuda else None
    chosen = networks or (["resnet18"] if quick else list(SAME))
    for name in chosen:
        options = {"version": "v1.5"} if name in ("resnet50", "resnet101", "resnet152") else {}
        options |= {"auxiliary": False} if name == "googlenet_bn" else {}
        torch.manual_seed(0)
        pair = {OURS: models.create(name, **options), "torchvision": torchvision_model(name)}
        x = torch.randn(batch_size, 3, 224, 224, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.arange(batch_size, device=device) % 1000

        def step(net: nn.Module, x: Tensor = x, y: Tensor = y) -> Callable[[], None]:
            net.to(device, memory_format=torch.channels_last).train()

            def work() -> None:
                with autocast(device, precision):
                    loss = F.cross_entropy(net(x), y)
                net.zero_grad()
                loss.backward()

            return work

        seconds = race({who: step(net) for who, net in pair.items()}, repeats)
        notes = {}
        if rate is not None:
            layers = analysis.summary(pair[OURS], (3, 224, 224)).rows
            operations = 6 * batch_size * sum(row["macs"] for row in layers)
            notes = {
                who: f"{operations / statistics.median(times) / rate:.0%} of matrix products' rate"
                for who, times in seconds.items()
            }
        yield from rows_of_race("models", f"{name}, batch {batch_size}", seconds, batch_size, notes)


def matrix_product_rate(device: torch.device, precision: torch.dtype) -> float:
    """Return the operations per second of large matrix products on a GPU, the best of ten."""
    n = 8192
    a = torch.randn(n, n, device=device, dtype=precision)
    times = race({"product": lambda: a @ a}, 10)["product"]
    return 2 * n**3 / min(times)


PARTS = {
    "augment": bench_augment,
    "epoch": bench_epoch,
    "accuracy": bench_accuracy,
    "models": bench_models,
}


def all_parts() -> dict[str, Callable[..., Iterator[Row]]]:
    """Return every part by name: the comparisons here, then those of :mod:`cnnbook.experiments`."""
    from cnnbook import experiments  # which imports this module

    return PARTS | experiments.PARTS


def title(part: str) -> str:
    """Return what a part does, in one line."""
    return (all_parts()[part].__doc__ or part).partition("\n")[0].rstrip(".")


def run(
    parts: Sequence[str] = (),
    *,
    quick: bool = False,
    repeats: int = 5,
    networks: Sequence[str] | None = None,
    limit: float = 300,
    data_set: str | None = None,
    seeds: int = 3,
) -> Result:
    """Run comparisons and experiments.

    Parameters
    ----------
    parts
        Any of ``"augment"``, ``"epoch"``, ``"accuracy"``, ``"models"``, all four if empty; and
        ``"throughput"``, ``"fashion"``, ``"configurations"``.
    quick
        Use little data, to see whether everything runs. Its numbers mean little.
    repeats
        Rounds that count.
    networks
        For ``"models"``, ``"throughput"`` and ``"fashion"``: names of networks; all if not given.
    limit
        For ``"accuracy"``: longest training time of each contender in seconds.
    data_set
        For ``"fashion"`` and ``"configurations"``: what to train on; ``"fashion-mnist"`` and
        ``"fashion-mini"`` if not given.
    seeds
        For the same two: how often each network is trained.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        For an unknown part, network or data set, or fewer than one repeat or seed.
    DataError
        If Fashion-MNIST is neither here nor can be downloaded. ``quick`` needs no such file.
    """
    known = all_parts()
    for part in parts:
        if part not in known:
            raise unknown("part of the benchmark", part, known)
    for name, count in (("repeats", repeats), ("seeds", seeds)):
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    options = {
        "quick": quick,
        "repeats": repeats,
        "networks": networks,
        "limit": limit,
        "data_set": data_set,
        "seeds": seeds,
    }
    rows = []
    # Four workers are what the peers' notebooks ask for, on two processors too.
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    for part in parts or PARTS:
        for row in known[part](**options):
            rows.append(row)
            print(
                f"{row.task}, {row.contender}: {row.value:,.4g} {row.unit}",
                file=sys.stderr,
                flush=True,
            )
    titles = "; ".join(map(title, parts or PARTS))
    return Result(tuple(rows), results.describe_machine(), _command(parts, **options), titles)


def _command(
    parts: Sequence[str],
    *,
    quick: bool,
    repeats: int,
    networks: Sequence[str] | None,
    limit: float,
    data_set: str | None,
    seeds: int,
) -> str:
    # Built from what was asked for, not from sys.argv: in a notebook that holds something else,
    # and paths of output files are of no use to others.
    words = ["python", "-m", "cnnbook", "bench", *parts]
    words += ["--quick"] * quick
    words += [f"--repeats={repeats}"] * (repeats != 5)
    words += [f"--model={name}" for name in networks or ()]
    words += [f"--limit={limit:g}"] * (limit != 300)
    words += [f"--data={data_set}"] * (data_set is not None)
    words += [f"--seeds={seeds}"] * (seeds != 3)
    return shlex.join(words)
