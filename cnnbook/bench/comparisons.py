"""Comparisons of the package with the usual alternatives."""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnnbook import analysis, data, models, settings, training
from cnnbook.bench.peers import (
    PEERS,
    plain_epoch,
    relu_lenet,
    torchvision_sets,
    train_until,
    write_for_torchvision,
)
from cnnbook.bench.race import CNNBOOK, race, race_apart, rows_of_race
from cnnbook.results import Row
from cnnbook.training.device import autocast, choose_precision

# ---------------------------------------------------------------------------- augmentation


# Image side, channels, images in a small batch, and in a large one on a CPU and on a GPU.
AUGMENTED = ((28, 1, 64, 2048, 60_000), (96, 3, 64, 256, 4096), (224, 3, 16, 64, 1024))
DRAWN_BEFORE = "cnnbook, parameters drawn before"


def augment(*, quick: bool, repeats: int) -> Iterator[Row]:
    """Rotation, shift, scale, flip, brightness: per image, one draw for all, kornia, and ours.

    Only ``"torchvision, one draw for all"`` treats all images of a batch alike. Where images are
    transformed one by one, only small batches are timed. On a GPU, the note says what fraction of
    the memory's bandwidth our kernel reaches: one byte read and one float written for each color
    of each pixel, and nothing else. Parameters are then drawn before, as for a whole epoch.
    """
    device = settings.device()
    cuda = device.type == "cuda"
    bandwidth = memory_bandwidth(device) if cuda and not quick else None
    generator = torch.Generator().manual_seed(0)
    for side, channels, small, on_cpu, on_gpu in AUGMENTED:
        for count, few in ((small, True), (on_gpu if cuda else on_cpu, False)):
            count = max(2, count // 8) if quick else count
            shape = count, channels, side, side
            images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            contenders, notes = _augmenters(images, one_by_one=few)
            seconds = race(contenders, repeats)
            if bandwidth is not None:
                rate = 5 * images.numel() / statistics.median(seconds[DRAWN_BEFORE])
                notes[DRAWN_BEFORE] = f"{rate / bandwidth:.0%} of the memory's bandwidth"
            channel = "1 channel" if channels == 1 else f"{channels} channels"
            task = f"{count:,} × {side} px, {channel}"
            yield from rows_of_race("augment", task, seconds, count, notes)


def memory_bandwidth(device: torch.device) -> float:
    """Return the bytes per second that a copy on a GPU reads and writes, the best of ten."""
    old, new = torch.empty(2, 2**28, dtype=torch.uint8, device=device)
    return 2 * old.numel() / min(race({"copy": lambda: new.copy_(old)}, 10)["copy"])


def _augmenters(
    images: Tensor, *, one_by_one: bool = True
) -> tuple[dict[str, Callable[[], Tensor]], dict[str, str]]:
    from torchvision.transforms import v2

    channels, size = images.shape[1], (images.shape[2], images.shape[3])
    mean, std = (0.5,) * channels, (0.25,) * channels
    device = settings.device()
    on_device = images.to(device)
    ours = data.Augment(rotate=10, translate=0.1, scale=(0.9, 1.1), flip=0.5, brightness=0.2)
    drawn = ours.draw(len(images), size, 1).to(device)
    transforms = [
        v2.RandomAffine(10, (0.1, 0.1), (0.9, 1.1), interpolation=v2.InterpolationMode.BILINEAR),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(brightness=0.2),
    ]
    last = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    from_tensor = v2.Compose([*transforms, *last])
    contenders: dict[str, Callable[[], Tensor]] = {
        CNNBOOK: lambda: ours(on_device, seed=1, mean=mean, std=std),
        DRAWN_BEFORE: lambda: ours(on_device, drawn, mean=mean, std=std),
        "torchvision, one draw for all": lambda: from_tensor(on_device),
    }
    if one_by_one:
        from_pil = v2.Compose([*transforms, v2.ToImage(), *last])
        pictures = [v2.functional.to_pil_image(image) for image in images]
        contenders |= {
            "torchvision, per PIL image": lambda: torch.stack([from_pil(p) for p in pictures]),
            "torchvision, per tensor": lambda: torch.stack([from_tensor(x) for x in images]),
        }
    notes = {}
    try:
        import kornia.augmentation as K
    except ImportError:
        notes[CNNBOOK] = "kornia is not installed: pip install 'cnnbook[bench]'"
    else:
        batched = K.AugmentationSequential(
            K.RandomAffine(10.0, (0.1, 0.1), (0.9, 1.1), p=1.0),
            K.RandomHorizontalFlip(),
            K.RandomBrightness((0.8, 1.2), p=1.0),
            K.Normalize(torch.tensor(mean), torch.tensor(std)),
        ).to(device)
        contenders["kornia, batched"] = lambda: batched(on_device.float() / 255)
    return contenders, notes


# ---------------------------------------------------------------------------- one epoch

ONE_BATCH = "one batch again and again"


def epoch(*, quick: bool, repeats: int) -> Iterator[Row]:
    """Train LeNet-5 for one epoch: Dataset and DataLoader image by image, and ours."""
    name = "fashion-mini" if quick else "fashion-mnist"
    train, test = data.load(name)
    with tempfile.TemporaryDirectory() as folder:
        write_for_torchvision(folder, train, test)
        contenders = {
            CNNBOOK: partial(_cnnbook_epoch, name),
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


def _cnnbook_epoch(name: str) -> None:
    torch.manual_seed(0)
    net = models.lenet5(activation="relu")
    training.fit(net, _padded(name), epochs=1, batch_size=256, progress=False)


def _one_batch_epoch(images: int) -> None:
    torch.manual_seed(0)
    device = settings.device()
    net = relu_lenet(nn.AvgPool2d).to(device)
    batch = torch.randn(256, 1, 28, 28, device=device), torch.arange(256, device=device) % 10
    batches = [batch] * (images // 256)
    plain_epoch(net, batches, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))


def _dataloader_epoch(folder: str, workers: int) -> None:
    torch.manual_seed(0)
    # The border comes in the first layer, as in Dive into Deep Learning: no time per image.
    net = relu_lenet(nn.AvgPool2d).to(settings.device())
    train, _ = torchvision_sets(folder)
    loader: DataLoader[Any] = DataLoader(train, 256, shuffle=True, num_workers=workers)
    plain_epoch(net, loader, torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9))


# ---------------------------------------------------------------------------- time to accuracy

TARGET = 0.88


def fastest_lenet() -> tuple[nn.Module, dict[str, Any]]:
    """Return the network and the options of :func:`training.fit` that reach 88 % fastest here.

    LeNet-5 with ReLU and max pooling, batches of 128, and a one-cycle schedule over two epochs: its
    high learning rate in the middle learns fast, and its low learning rate at the end removes the
    noise. Wider networks, augmentation and averaged weights reach a higher accuracy in the end, but
    do not reach this one sooner.
    """
    return models.lenet5(activation="relu", pool="max"), {
        "epochs": 2,
        "batch_size": 128,
        "lr": 0.1,
    }


def accuracy(*, quick: bool, limit: float) -> Iterator[Row]:
    """Train until 88 % of Fashion-MNIST's test images are right, evaluation not counted."""
    train, test = data.load("fashion-mini" if quick else "fashion-mnist")
    limit = min(limit, 10) if quick else limit
    task = f"{TARGET:.0%} of {'fashion-mini' if quick else 'Fashion-MNIST'}"
    # The others come first: ours changes a setting of the process that would help them.
    times = {}
    with tempfile.TemporaryDirectory() as folder:
        write_for_torchvision(folder, train, test)
        for name, peer in PEERS.items():
            torch.manual_seed(0)
            net = peer.build().to(settings.device())
            images = torchvision_sets(folder, peer.side)
            times[name] = train_until(TARGET, net, *images, peer, limit)

    torch.manual_seed(0)
    net, options = fastest_lenet()
    history = training.fit(
        net, train.padded(32), test.padded(32), target_accuracy=TARGET, progress=False, **options
    )
    ours = history.time_to(TARGET)
    note = f"epoch {len(history.seconds)}, {history.val_accuracy[-1]:.2%}"
    times = {CNNBOOK: (history.seconds[-1], ours is not None, note), **times}
    for name, (seconds, reached, note) in times.items():
        ratio = seconds / ours if ours and reached else None
        yield Row("accuracy", task, name, seconds, "seconds", ratio, note)


# ---------------------------------------------------------------------------- every network


def with_twin(name: str) -> dict[str, nn.Module]:
    """Return a network, and torchvision's equivalent one if there is one."""
    twin = models.model_spec(name).torchvision
    torch.manual_seed(0)
    if twin is None:
        return {CNNBOOK: models.create(name)}
    return {CNNBOOK: models.create(name, **twin.options), "torchvision": twin.build()}


def training_step(*, quick: bool, repeats: int, networks: Sequence[str] | None) -> Iterator[Row]:
    """One training step, forward and backward, beside torchvision's same network.

    On a GPU, the note says what fraction of the throughput of large matrix products the network
    reaches: three times its multiply–adds (one forward, two backward), twice as many operations,
    per second. On a CPU the two come from different libraries, so the fraction would mean little.
    """
    specs = {name: models.model_spec(name) for name in networks or models.list_models()}
    device = settings.device()
    cuda = device.type == "cuda"
    precision = choose_precision("auto", device)
    batch_size = 64 if cuda else 1 if quick else 4
    peak = matmul_throughput(device, precision) if cuda else None
    chosen = [name for name in specs if networks or specs[name].torchvision]
    for name in ["resnet18"] if quick and not networks else chosen:
        spec, nets = specs[name], with_twin(name)
        x = torch.randn(batch_size, *spec.input_shape, device=device)
        x = x.contiguous(memory_format=torch.channels_last)
        y = torch.arange(batch_size, device=device) % spec.num_classes
        steps = {who: _step(net, x, y, spec.loss, precision) for who, net in nets.items()}
        seconds = race(steps, repeats)
        notes = {}
        if peak is not None:
            macs = analysis.summary(nets[CNNBOOK], spec.input_shape).total_macs
            if macs is not None:
                rate = {
                    who: 6 * batch_size * macs / statistics.median(t) for who, t in seconds.items()
                }
                notes = {
                    who: f"{r / peak:.0%} of matrix products' speed" for who, r in rate.items()
                }
        yield from rows_of_race("models", f"{name}, batch {batch_size}", seconds, batch_size, notes)


def _step(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    loss: Callable[[Any, Tensor], Tensor],
    precision: torch.dtype,
) -> Callable[[], None]:
    net.to(x.device, memory_format=torch.channels_last).train()

    def run() -> None:
        with autocast(x.device, precision):
            value = loss(net(x), y)
        net.zero_grad()
        value.backward()

    return run


def matmul_throughput(device: torch.device, precision: torch.dtype) -> float:
    """Return the operations per second of large matrix products on a GPU, the best of ten."""
    n = 8192
    a = torch.randn(n, n, device=device, dtype=precision)
    times = race({"product": lambda: a @ a}, 10)["product"]
    return 2 * n**3 / min(times)
