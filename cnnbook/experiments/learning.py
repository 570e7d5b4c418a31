"""How the experiments train: the same optimizer and schedule for every arm."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import analysis, data, training

BATCH_SIZE = 128


def learn(
    net: nn.Module,
    train: data.Dataset,
    val: data.Dataset,
    test: data.Dataset,
    *,
    lr: float,
    epochs: int,
    seed: int,
    images_per_epoch: int | None = None,
    batch_size: int = BATCH_SIZE,
    weight_decay: float = 5e-4,
    optimizer: torch.optim.Optimizer | None = None,
    augment: data.Augment | None = None,
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    until: float | None = None,
) -> dict[str, Any]:
    """Train a network, and return what is recorded of it.

    Stochastic gradient descent with Nesterov momentum 0.9; the learning rate climbs to `lr` in the
    first three tenths of the steps and then falls to nearly zero, so that training ends on a
    plateau whenever the number of steps is enough (Smith & Topin 2017, arXiv:1708.07120).

    Parameters
    ----------
    net
        Network with new weights.
    train, val, test
        Images to train on, to choose the learning rate with, and to report.
    lr
        Largest learning rate.
    epochs
        Number of epochs, each followed by an evaluation on `val`.
    seed
        Order of the images, their augmentation, and random layers.
    images_per_epoch
        Images in what counts as an epoch here, `train` being repeated as often as necessary: all
        arms then take the same number of steps, whatever the size of `train`. All images once if
        not given.
    batch_size
        Images per step.
    weight_decay
        Of all parameters.
    optimizer
        Another optimizer, of constant learning rate; then `lr` and `weight_decay` are not used.
    augment
        Random transforms of the training images.
    loss
        Loss function.
    until
        Stop after the first epoch whose mean training error is at most this fraction.

    Returns
    -------
    dict
        ``"val_error"``, ``"test_error"`` and ``"train_error"`` of the trained network in evaluation
        mode, fractions; the last over at most 10,000 training images as they are. ``"steps"``,
        ``"parameters"``, ``"macs"`` of one image, ``"seconds"`` of training, and ``"curves"``:
        ``"train_error"`` and ``"train_loss"``, means over an epoch while the weights change, and
        ``"val_error"``. If the loss became infinite: errors of 1, and the curves that far.
    """
    macs = analysis.summary(net, tuple(train[:1].images.shape[1:])).total_macs
    facts: dict[str, Any] = {
        "parameters": sum(p.numel() for p in net.parameters()),
        "macs": macs,
    }
    seen = train if images_per_epoch is None else repeated(train, images_per_epoch, seed)
    watched = Watched(until)
    options: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
    if optimizer is not None:
        options = {"optimizer": optimizer}
    try:
        history = training.fit(
            net,
            seen,
            val,
            epochs=epochs,
            batch_size=batch_size,
            augment=augment,
            loss=loss,
            seed=seed,
            callbacks=[watched],
            progress=False,
            **options,
        )
    except FloatingPointError:
        history = watched.history
        errors = dict.fromkeys(("val_error", "test_error", "train_error"), 1.0)
        diverged = True
    else:
        if history.stopped and not watched.arrived:  # fit returns after Ctrl-C
            raise KeyboardInterrupt
        parts = {"val_error": val, "test_error": test, "train_error": train[:10_000]}
        errors = {k: 1 - training.evaluate(net, part).accuracy for k, part in parts.items()}
        diverged = False
    curves = {
        "train_error": [1 - x for x in history.train_accuracy],
        "train_loss": history.train_loss,
        "val_error": [1 - x for x in history.val_accuracy],
    }
    return {
        **errors,
        "diverged": diverged,
        "steps": len(history.step_loss),
        "seconds": history.seconds[-1] if history.seconds else 0.0,
        **facts,
        "curves": curves,
    }


def he_start(net: nn.Module) -> None:
    """Draw the weights of all convolutions and linear layers as He et al. 2015; biases are zero.

    torch's own weights are too small for deep networks without normalization to start from.

    Examples
    --------
    >>> net = nn.Sequential(nn.Linear(2000, 50), nn.ReLU())
    >>> he_start(net)
    >>> round(1000 * net[0].weight.var().item())  # variance 2 / 2000
    1
    """
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def repeated(dataset: data.Dataset, count: int, seed: int) -> data.Dataset:
    """Return `count` images: all of them as often as possible, and a random part once more.

    Examples
    --------
    >>> digits, _ = data.load("digits")
    >>> few = repeated(digits[:30], 100, seed=0)
    >>> len(few), few.labels.bincount().sum().item()
    (100, 100)
    """
    whole, rest = divmod(count, len(dataset))
    generator = torch.Generator().manual_seed(seed)
    index = torch.arange(len(dataset)).repeat(whole)
    return dataset[torch.cat([index, torch.randperm(len(dataset), generator=generator)[:rest]])]


class Watched(training.Callback):
    """Keeps the history of a run, which an error would otherwise take with it, and can end it."""

    def __init__(self, until: float | None = None) -> None:
        self.history = training.History()
        self.until, self.arrived = until, False

    def on_fit_begin(self, run: training.Run) -> None:
        """Take hold of the history, to which each epoch adds."""
        self.history = run.history

    def on_epoch_end(self, run: training.Run) -> None:
        """Stop the run if its training error is small enough."""
        if self.until is not None and 1 - run.history.train_accuracy[-1] <= self.until:
            self.arrived = True
            run.stop(f"training error of {self.until:.1%} reached")
