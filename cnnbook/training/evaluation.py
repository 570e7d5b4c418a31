"""How good a network is on labelled images."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import settings
from cnnbook.data import Batches, Dataset


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
        """Fraction of images whose prediction is right, 0 to 1."""
        return (self.predictions == self.labels).double().mean().item()

    def __repr__(self) -> str:
        """Return size, loss and accuracy."""
        return f"<{len(self.labels):,} images: loss {self.loss:.4f}, accuracy {self.accuracy:.2%}>"


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: Dataset,
    *,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    batch_size: int = 1000,
    device: torch.device | str | None = None,
) -> Evaluation:
    """Run a network once over a data set.

    Parameters
    ----------
    model
        Network, moved to `device`. It runs in evaluation mode and is left in the mode it was in.
    dataset
        Images and labels.
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
    """
    device = settings.device() if device is None else torch.device(device)
    model.to(device)
    was_training = model.training
    model.eval()
    try:
        scores, total = [], torch.zeros((), device=device)
        for x, y in Batches(dataset, batch_size, shuffle=False, device=device).epoch(0):
            scores.append(model(x))
            total += loss(scores[-1], y) * len(y)
    finally:
        model.train(was_training)
    return Evaluation(torch.cat(scores).cpu(), dataset.labels, total.item() / len(dataset))
