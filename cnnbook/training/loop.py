"""The training loop."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import settings
from cnnbook._progress import progress_bar
from cnnbook.data import Batches, Dataset
from cnnbook.tables import Table
from cnnbook.training.evaluation import evaluate


@dataclass
class History:
    """What happened during training. Every list but `step_loss` has one entry per epoch.

    Parameters
    ----------
    train_loss, train_accuracy
        Means over the epoch's batches *while* the weights change.
    test_loss, test_accuracy
        On the test set after the epoch; empty if there was none.
    seconds
        Training time since the start, without the evaluations.
    step_loss
        Loss of each batch.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_loss: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list)

    def to_dict(self) -> dict[str, list[float]]:
        """Return all lists by name."""
        return asdict(self)

    def table(self) -> Table:
        """Return one row per epoch."""
        columns = {k: v for k, v in self.to_dict().items() if k != "step_loss" and v}
        rows = [
            {"epoch": epoch, **{k.replace("_", " "): v[epoch - 1] for k, v in columns.items()}}
            for epoch in range(1, 1 + len(self.train_loss))
        ]
        formats = {"train accuracy": ".1%", "test accuracy": ".1%", "seconds": ".1f"}
        return Table(rows, formats={**formats, "train loss": ".3f", "test loss": ".3f"})

    def __repr__(self) -> str:
        """Return the table of epochs as text."""
        return repr(self.table())

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()


def fit(
    model: nn.Module,
    train: Dataset,
    test: Dataset | None = None,
    *,
    epochs: int | None = None,
    batch_size: int = 64,
    lr: float = 0.05,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train a classifier.

    Without `optimizer`, stochastic gradient descent with Nesterov momentum 0.9 runs under torch's
    one-cycle schedule: the learning rate climbs to `lr` and then falls to nearly zero.

    Parameters
    ----------
    model
        Network, moved to `device` and trained in place. Maps ``(N, C, H, W)`` to scores.
    train
        Training images.
    test
        Images to evaluate on after each epoch.
    epochs
        Passes over `train`; by the preset (10 under ``cpu``, 30 under ``gpu``) if not given.
    batch_size
        Images per step.
    lr
        Largest learning rate of the default optimizer. Ignored if `optimizer` is given.
    optimizer
        Any torch optimizer over the model's parameters.
    scheduler
        Any torch scheduler of `optimizer`; stepped after every batch.
    loss
        Called as ``loss(output, labels)`` with what the model returned, returning the mean over
        the batch.
    device
        Where to train; the machine's fastest device if not given.
    seed
        Seeds the order of the images and random layers such as dropout. The caller's random
        state is left as it was.
    progress
        Whether to show a progress bar.

    Returns
    -------
    History
        Losses, accuracies and times.

    Raises
    ------
    ValueError
        If `epochs`, `batch_size` or `lr` is not positive, or a scheduler comes without its
        optimizer.
    FloatingPointError
        If the loss becomes infinite or not a number. The message names the step.
    """
    device = settings.device() if device is None else torch.device(device)
    epochs = settings.choose(cpu=10, gpu=30) if epochs is None else epochs
    if epochs < 1 or lr <= 0:
        raise ValueError(f"epochs and lr must be positive, got epochs={epochs} and lr={lr}")
    if scheduler is not None and optimizer is None:
        raise ValueError("a scheduler needs the optimizer it was made for: pass optimizer= too")

    model.to(device)
    batches = Batches(train, batch_size, seed=seed, device=device)
    if optimizer is None:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=lr, total_steps=epochs * len(batches), cycle_momentum=False
        )
    history = History()
    seconds = 0.0
    bar = progress_bar(epochs * len(batches), show=progress, unit="step", leave=False)

    with torch.random.fork_rng([device] if device.type == "cuda" else []), bar:
        torch.manual_seed(seed)
        for epoch in range(epochs):
            model.train()
            started = time.perf_counter()
            losses, correct = [], torch.zeros((), device=device)
            for x, y in batches.epoch(epoch):
                output = model(x)
                step_loss = loss(output, y)

                optimizer.zero_grad()
                step_loss.backward()
                optimizer.step()
                if scheduler is not None:
                    scheduler.step()

                # A network with auxiliary classifiers returns their scores after its own.
                scores = output if isinstance(output, Tensor) else output[0]
                losses.append(step_loss.detach() * len(y))
                correct += (scores.argmax(1) == y).sum()
                bar.update()

            _record(history, losses, correct, len(train), batches.batch_size)
            seconds += time.perf_counter() - started
            history.seconds.append(seconds)
            if test is not None:
                result = evaluate(model, test, loss=loss, device=device)
                history.test_loss.append(result.loss)
                history.test_accuracy.append(result.accuracy)
                bar.set_postfix_str(f"test accuracy {result.accuracy:.1%}")
    return history


def _record(
    history: History, losses: list[Tensor], correct: Tensor, images: int, batch_size: int
) -> None:
    # Reading values off the device waits for it, so this happens once per epoch, not per step.
    totals = torch.stack(losses).tolist()
    sizes = [min(batch_size, images - batch_size * i) for i in range(len(totals))]
    history.step_loss += [total / size for total, size in zip(totals, sizes, strict=True)]
    history.train_loss.append(sum(totals) / images)
    history.train_accuracy.append(correct.item() / images)
    if not torch.tensor(totals).isfinite().all():
        bad = next(i for i, v in enumerate(history.step_loss) if not abs(v) < float("inf"))
        raise FloatingPointError(
            f"the loss became {history.step_loss[bad]} at step {bad + 1} (epoch "
            f"{len(history.train_loss)}): lower the learning rate or check the inputs"
        )
