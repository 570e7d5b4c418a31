"""How the recorded experiments train: Adam under a one-cycle schedule, once for each seed."""

import statistics
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import data, training
from cnnbook.results import Row


def load_images(source: str, *, quick: bool) -> tuple[data.Dataset, data.Dataset]:
    """Return a data set's images of 32×32 pixels to train and to test on, few if `quick`.

    Raises
    ------
    ValueError
        For an unknown data set, or one that is not read into memory.
    """
    train, test = data.load(source, size=32)
    if not isinstance(train, data.Dataset) or not isinstance(test, data.Dataset):
        raise ValueError(
            f"the experiments train on images in memory, got {source!r}; use one of: "
            f"{', '.join(name for name in data.list_datasets() if name != 'imagenette')}"
        )
    return (train[:640], test[:200]) if quick else (train, test)


def amount(train: data.Dataset, source: str, epochs: int) -> str:
    """Describe the amount of training, as part of a task's name."""
    return f"{len(train):,} images of {source}, {epochs} epoch{'s' if epochs > 1 else ''}"


def train_and_test(
    part: str,
    task: str,
    contender: str,
    build: Callable[[], nn.Module],
    train: data.Dataset,
    test: data.Dataset,
    *,
    epochs: int,
    seeds: int,
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
) -> Row:
    """Train a network once for each seed; return the mean test accuracy and each seed's results.

    Parameters
    ----------
    part, task, contender
        As in :class:`cnnbook.results.Row`.
    build
        Returns the network, with new weights.
    train, test
        Images to train and to test on.
    epochs
        Passes over the training images.
    seeds
        How many times the network is trained, with seeds 0, 1, ….
    loss
        Its loss function.

    Raises
    ------
    KeyboardInterrupt
        If training was interrupted: an incomplete run must not be recorded.
    """
    batch_size, lr = 64, 0.002
    accuracies, losses = [], []
    for seed in range(seeds):
        torch.manual_seed(seed)
        net = build()
        adam = torch.optim.Adam(net.parameters(), lr)
        steps = epochs * -(-len(train) // batch_size)
        history = training.fit(
            net,
            train,
            epochs=epochs,
            batch_size=batch_size,
            optimizer=adam,
            scheduler=torch.optim.lr_scheduler.OneCycleLR(adam, lr, steps),
            loss=loss,
            seed=seed,
            progress=False,
        )
        if history.stopped:  # fit() returns after Ctrl-C
            raise KeyboardInterrupt
        accuracies.append(training.evaluate(net, test).accuracy)
        losses.append(history.train_loss[-1])
    more = {
        "lowest": min(accuracies),
        "highest": max(accuracies),
        "parameters": sum(p.numel() for p in net.parameters()),
        "accuracies": accuracies,
        "training_losses": losses,
    }
    accuracy = statistics.mean(accuracies)
    return Row(part, task, contender, accuracy, "test accuracy", None, more=more)
