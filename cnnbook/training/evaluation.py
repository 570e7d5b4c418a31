"""How good a network is on labeled images."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import settings
from cnnbook.data import BatchSource, Dataset, ImageFolder, make_batches
from cnnbook.training import processes
from cnnbook.training._checks import (
    check_batch,
    check_count,
    check_labels,
    check_loss,
    check_loss_value,
    check_network,
    check_not_empty,
    explain_images,
)
from cnnbook.training.device import autocast, memory_format


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Result of one pass over a data set.

    Parameters
    ----------
    scores
        Class scores of every image, ``(N, num_classes)``, on the CPU, in the set's order.
    labels
        True classes, ``(N,)``.
    loss
        Mean loss per image.

    Examples
    --------
    >>> scores = torch.tensor([[2.0, 0.0], [0.5, 1.0], [3.0, 1.0]])
    >>> result = Evaluation(scores, labels=torch.tensor([0, 1, 1]), loss=0.9)
    >>> result.predictions
    tensor([0, 1, 0])
    >>> result
    <3 images: loss 0.9000, accuracy 66.67%>
    """

    scores: Tensor
    labels: Tensor
    loss: float

    @property
    def predictions(self) -> Tensor:
        """The class with the largest score, ``(N,)``."""
        return self.scores.argmax(1)

    @property
    def accuracy(self) -> float:
        """Fraction of images that are classified correctly, 0 to 1."""
        return (self.predictions == self.labels).double().mean().item()

    def __repr__(self) -> str:
        """Return size, loss and accuracy."""
        return f"<{len(self.labels):,} images: loss {self.loss:.4f}, accuracy {self.accuracy:.2%}>"


def evaluate(
    model: nn.Module,
    dataset: Dataset | ImageFolder | BatchSource,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    batch_size: int = 1000,
    device: torch.device | str | None = None,
) -> Evaluation:
    """Run a network once over a data set.

    Parameters
    ----------
    model
        Network (of a :class:`TrainedModel`, its ``network``), moved to `device`. It runs in
        evaluation mode and is left in the mode it was in.
    dataset
        Images and labels, or a source of batches.
    loss
        Called as ``loss(scores, labels)``, returning the mean over the batch.
    batch_size
        Images per batch.
    device
        Where to run; the machine's fastest device if not given.

    Returns
    -------
    Evaluation
        Scores of every image, mean loss, accuracy.

    Raises
    ------
    TypeError
        If `model` is not a network, `dataset` not a data set, or `loss` not a function.
    ValueError
        If there are no images, or images or labels are not what the network needs.

    Notes
    -----
    To classify images without labels, normalize them as in training: for a :class:`TrainedModel`
    `trained` and uint8 `images`, ``(N, C, H, W)``, give them any labels, such as
    ``torch.zeros(len(images), dtype=torch.int64)``, in a ``data.Dataset("mine", images, labels,
    trained.classes, tuple(trained.info["mean"]), tuple(trained.info["std"]))``. The scores are then
    ``evaluate(trained.network, dataset).scores``; :func:`predict` does this for image files.

    Examples
    --------
    Equal scores for ten classes give a loss of log 10 and predict the first class:

    >>> from cnnbook import data
    >>> _, test = data.load("digits")
    >>> undecided = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> for parameter in undecided.parameters():
    ...     _ = nn.init.zeros_(parameter)
    >>> evaluate(undecided, test, device="cpu")
    <740 images: loss 2.3026, accuracy 10.00%>
    """
    check_network(model, "evaluate(model, dataset)")
    check_loss(loss)
    check_count("batch_size", batch_size)
    device = settings.device(device)
    batches = make_batches(dataset, batch_size, shuffle=False, device=device)
    check_not_empty(batches, "dataset")
    model.to(device)
    seen = list(_predictions(model, batches, loss, device, torch.float32))
    scores, labels, losses = zip(*seen, strict=True)
    return Evaluation(
        torch.cat(scores).cpu(), torch.cat(labels).cpu(), _mean(list(losses), list(labels))
    )


def loss_and_accuracy(
    model: nn.Module,
    batches: BatchSource,
    loss: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
    precision: torch.dtype,
) -> tuple[float, float]:
    """Return mean loss and accuracy over all processes, without keeping the scores.

    Each process evaluates its part; summed over all processes, every image counts once.
    """
    processes.broadcast_buffers(model)
    right = torch.zeros((), dtype=torch.int64, device=device)
    losses, sizes = [], []
    for scores, labels, batch_loss in _predictions(model, batches, loss, device, precision):
        right += (scores.argmax(1) == labels).sum()
        losses.append(batch_loss)
        sizes.append(labels)
    if processes.world_size() == 1:
        return _mean(losses, sizes), right.item() / batches.images_per_epoch
    weighted = [value * len(y) for value, y in zip(losses, sizes, strict=True)]
    sums = torch.stack([*weighted, torch.zeros((), device=device)]).sum()
    images = batches.images_per_epoch
    return processes.all_reduce(sums).item() / images, processes.all_reduce(right).item() / images


@torch.inference_mode()
def _predictions(
    model: nn.Module,
    batches: BatchSource,
    loss: Callable[[Tensor, Tensor], Tensor],
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield scores, labels and mean loss of every batch, in evaluation mode."""
    layout = memory_format(model)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        checked = False
        for batch in batches.epoch(0):
            if not checked:
                check_batch(batch, layout)
            x, y = batch
            if len(y):  # with several processes, the last batch may leave one without images
                with autocast(device, precision):
                    try:
                        scores = model(x.contiguous(memory_format=layout))
                    except RuntimeError as error:
                        explain_images(model, x, error)
                        raise
                    if loss is F.cross_entropy and not checked:
                        check_labels(scores, y)
                    checked = True
                    batch_loss = loss(scores, y)
                    check_loss_value(batch_loss)
                yield scores.float(), y, batch_loss.float()
        if not checked and processes.world_size() == 1:
            raise ValueError(
                f"the source of batches announces {len(batches)} batches in an epoch, but yields "
                "none"
            )
    finally:
        for module, mode in modes:
            module.training = mode


def _mean(losses: list[Tensor], labels: list[Tensor]) -> float:
    # In Python's double precision, so that long sums lose no precision.
    sizes = [len(y) for y in labels]
    values: list[float] = torch.stack(losses).tolist()
    return sum(v * n for v, n in zip(values, sizes, strict=True)) / sum(sizes)
