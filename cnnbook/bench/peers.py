"""What people train without this package: the networks and loops of tutorials."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cnnbook import data
from cnnbook.data.files import idx_bytes


def d2l_lenet() -> nn.Sequential:
    """Return Dive into Deep Learning's LeNet: logistic sigmoid, average pooling, Glorot weights."""
    net = nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2, 2)),
        *(nn.Conv2d(6, 16, 5), nn.Sigmoid(), nn.AvgPool2d(2, 2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.Sigmoid(), nn.Linear(120, 84), nn.Sigmoid()),
        nn.Linear(84, 10),
    )
    return _glorot(net)


def relu_lenet(pool: type[nn.Module] = nn.MaxPool2d) -> nn.Sequential:
    """Return the same network as in many tutorials: ReLU, max pooling, torch's default weights."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), pool(2, 2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), pool(2, 2), nn.Flatten()),
        *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, 10),
    )


def d2l_vgg() -> nn.Sequential:
    """Return Dive into Deep Learning's VGG-11 at a quarter of the width, for 224×224 pixels."""
    layers: list[nn.Module] = []
    channels = 1
    for count, width in ((1, 16), (1, 32), (2, 64), (2, 128), (2, 128)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2, 2))
    fc = [nn.Linear(128 * 49, 4096), nn.ReLU(), nn.Dropout(0.5)]
    fc += [nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, 10)]
    return _glorot(nn.Sequential(*layers, nn.Flatten(), *fc))


def _glorot(net: nn.Sequential) -> nn.Sequential:
    for module in net:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return net


@dataclass(frozen=True)
class Peer:
    """A network, and how its source trains it: height of the images, optimizer, batch size."""

    build: Callable[[], nn.Module]
    side: int
    optimizer: Callable[..., torch.optim.Optimizer]
    batch_size: int


# What many tutorials do, and Sections 7.6 and 8.2 of Dive into Deep Learning (2023).
PEERS = {
    "ReLU LeNet, Adam, DataLoader": Peer(relu_lenet, 28, partial(torch.optim.Adam, lr=1e-3), 64),
    "D2L LeNet": Peer(d2l_lenet, 28, partial(torch.optim.SGD, lr=0.1), 128),
    "D2L VGG-11 at 224 px": Peer(d2l_vgg, 224, partial(torch.optim.SGD, lr=0.01), 128),
}


def write_for_torchvision(folder: str, train: data.Dataset, test: data.Dataset) -> None:
    """Write both parts of a data set as the files of torchvision's FashionMNIST."""
    raw = Path(folder) / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for part, source in (("train", train), ("t10k", test)):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(source.images[:, 0]))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(source.labels.byte()))


def torchvision_sets(folder: str, side: int = 28) -> tuple[Any, Any]:
    """Return torchvision's own FashionMNIST, training and test part, image by image."""
    import torchvision
    from torchvision import transforms

    # Both steps, as in Dive into Deep Learning's FashionMNIST class at every size.
    transform = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor()])
    fashion_mnist = partial(torchvision.datasets.FashionMNIST, folder, transform=transform)
    return fashion_mnist(train=True), fashion_mnist(train=False)


def plain_epoch(
    net: nn.Module, loader: Iterable[Sequence[Tensor]], optimizer: torch.optim.Optimizer
) -> None:
    """Train for one epoch, as tutorials write it."""
    device = next(net.parameters()).device
    net.train()
    for x, y in loader:
        loss = F.cross_entropy(net(x.to(device)), y.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def count_right(net: nn.Module, loader: Iterable[Sequence[Tensor]]) -> int:
    """Return how many images a network classifies correctly, as tutorials write it."""
    device = next(net.parameters()).device
    net.eval()
    with torch.inference_mode():
        return sum(int((net(x.to(device)).argmax(1).cpu() == y).sum()) for x, y in loader)


def train_until(
    target: float, net: nn.Module, train: Any, test: Any, peer: Peer, limit: float
) -> tuple[float, bool, str]:
    """Train as a notebook does, until the test accuracy reaches `target` or time is up.

    Returns
    -------
    seconds
        Spent on training; evaluation does not count.
    reached
        Whether the target was reached.
    note
        After how many epochs, and the accuracy.
    """
    optimizer = peer.optimizer(net.parameters())
    options: dict[str, Any] = {"num_workers": 4, "persistent_workers": True}
    loader = DataLoader(train, peer.batch_size, shuffle=True, **options)
    test_loader = DataLoader(test, peer.batch_size, **options)
    seconds, epoch, best = 0.0, 0, 0.0
    while True:
        start, steps = time.perf_counter(), 0
        try:
            plain_epoch(net, _until(loader, start + limit - seconds), optimizer)
        except _OutOfTime as late:
            steps = late.args[0]
        seconds += time.perf_counter() - start
        if steps:
            done = epoch + steps / len(loader)
            reached = f", at best {best:.2%}" if epoch else ""
            return seconds, False, f"not reached in {done:.2f} epochs{reached}"
        epoch += 1
        accuracy = count_right(net, test_loader) / len(test)
        best = max(best, accuracy)
        if accuracy >= target:
            return seconds, True, f"epoch {epoch}, {accuracy:.2%}"


class _OutOfTime(Exception):
    pass


def _until(loader: DataLoader[Any], end: float) -> Iterator[Sequence[Tensor]]:
    for number, batch in enumerate(loader):
        if number and time.perf_counter() > end:
            raise _OutOfTime(number)
        yield batch
