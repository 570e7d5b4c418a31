"""How good a network is on labeled images."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import settings
from cnnbook._networks import Selector, evaluating, input_type, scores_of
from cnnbook.data import BatchSource, DataLike, make_batches
from cnnbook.data.sources import has_own_batches
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

_IGNORED = -100  # cross-entropy's mark for a label that does not count
_NARROW = (torch.float16, torch.bfloat16)


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
        """Fraction of images that are classified correctly, 0 to 1.

        Labels of -100, which cross-entropy ignores, do not count. If the labels are not classes,
        as in a regression, the accuracy is not a number (``nan``).
        """
        right, counted = right_and_counted(self.scores, self.labels)
        return float(right) / float(counted) if counted else float("nan")

    def __repr__(self) -> str:
        """Return size, loss and accuracy."""
        return f"<{len(self.labels):,} images: loss {self.loss:.4f}, accuracy {self.accuracy:.2%}>"


def evaluate(
    model: nn.Module,
    dataset: DataLike,
    *,
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy,
    output: Selector = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    device: torch.device | str | None = None,
) -> Evaluation:
    """Run a network once over a data set.

    Parameters
    ----------
    model
        Network, or a :class:`TrainedModel`, moved to `device`. It runs in evaluation mode and is
        left in the mode it was in. Images are converted to the type of its parameters.
    dataset
        Images and labels, in any form that :func:`cnnbook.data.make_batches` takes.
    loss
        Called as ``loss(output, labels)`` with what the network returned; torch's own losses are
        called with the scores in it. It returns the mean over the images it is given.
    output
        Which part of what the network returns are its class scores: a key of a dict, an index of a
        tuple, or a function. By default, the first tensor of a tuple, or the entry ``"logits"``,
        ``"out"``, ``"scores"`` or ``"output"`` of a dict.
    batch_size
        Images per batch; 1000 if not given.
    steps_per_epoch
        Batches to draw from an iterable whose length is not known.
    device
        Where to run; the machine's fastest device if not given.

    Returns
    -------
    Evaluation
        Scores of every image, mean loss, accuracy.

    Raises
    ------
    TypeError
        If `model` is not a network, `dataset` not a data set, `loss` not a function, or no scores
        are found in what the network returns.
    ValueError
        If there are no images, or images or labels are not what the network needs.

    Notes
    -----
    The loss is that over all images at once, whatever the batch size, also if it weights classes
    or ignores labels. A loss of your own is called with the outputs of all batches, concatenated.
    Only if that is impossible, because the network returns something other than tensors with one
    entry per image, is it the mean of the batches' losses, weighted by their sizes.

    To classify images without labels, normalize them as in training: for a :class:`TrainedModel`
    `trained` and uint8 `images`, ``(N, C, H, W)``, give them any labels, such as
    ``torch.zeros(len(images), dtype=torch.int64)``, in a ``data.Dataset("mine", images, labels,
    trained.classes, tuple(trained.info["mean"]), tuple(trained.info["std"]))``. The scores are then
    ``evaluate(trained, dataset).scores``; :func:`predict` does this for image files.

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
    if not isinstance(model, nn.Module) and isinstance(getattr(model, "network", None), nn.Module):
        model = model.network
    check_network(model, "evaluate(model, dataset)")
    check_loss(loss)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    device = settings.device(device)
    batches = as_batches(
        dataset,
        batch_size,
        1000,
        steps_per_epoch=steps_per_epoch,
        shuffle=False,
        device=device,
    )
    check_not_empty(batches, "dataset")
    model.to(device)
    mean = _MeanLoss(loss, output)
    scores, labels = [], []
    for part, y in _predictions(model, batches, mean, device, torch.float32):
        scores.append(part)
        labels.append(y)
    return Evaluation(torch.cat(scores).cpu(), torch.cat(labels).cpu(), mean.result(of_all=False))


def as_batches(
    images: Any,
    batch_size: int | None,
    default: int,
    *,
    steps_per_epoch: int | None = None,
    **options: Any,
) -> BatchSource:
    """Return batches of anything that :func:`make_batches` takes, of `default` images each.

    Raises
    ------
    ValueError
        If `batch_size`, or augmentation, is given for something that has batches of its own.
    """
    given = {"batch_size": batch_size, "augment": options.get("augment")}
    if has_own_batches(images):
        for name, value in given.items():
            if value is not None:
                raise ValueError(
                    f"{name}={value} is for images; a source of batches has its own: leave out "
                    f"{name}="
                )
    if steps_per_epoch is not None:
        check_count("steps_per_epoch", steps_per_epoch)
        options["steps_per_epoch"] = int(steps_per_epoch)
    return make_batches(images, int(batch_size or default), **options)


def loss_and_accuracy(
    model: nn.Module,
    batches: BatchSource,
    loss: Callable[[Any, Tensor], Tensor],
    device: torch.device,
    precision: torch.dtype,
    output: Selector = None,
) -> tuple[float, float]:
    """Return mean loss and accuracy over all processes, without keeping the scores.

    Each process evaluates its part; together, they have every image once.
    """
    processes.broadcast_buffers(model)
    mean = _MeanLoss(loss, output)
    counts = torch.zeros(2, dtype=torch.int64, device=device)  # right, and all that count
    for scores, labels in _predictions(model, batches, mean, device, precision):
        right, counted = right_and_counted(scores, labels)
        counts[0] += right
        counts[1] += counted
    right, counted = processes.all_reduce(counts).tolist()
    return mean.result(of_all=True), right / counted if counted else float("nan")


def right_and_counted(scores: Tensor, labels: Tensor) -> tuple[Tensor | int, Tensor | int]:
    """Return how many labels have the largest score, and how many there are.

    Parameters
    ----------
    scores
        ``(N, classes)``, or ``(N, classes, …)`` for a class at each position.
    labels
        Classes, ``(N,)`` or ``(N, …)``, of which -100 does not count; or the probabilities of the
        classes, shaped like the scores.

    Returns
    -------
    right, counted
        ``(0, 0)`` if the labels are not classes.
    """
    if labels.is_floating_point() and labels.shape == scores.shape and scores.ndim > 1:
        # Probabilities of classes add up to one; other numbers have no class.
        if scores.shape[1] == 1:
            return 0, 0
        # As a tensor: on a GPU, a decision about numbers means waiting for them.
        classes = ((labels.sum(1) - 1).abs() <= 1e-3).all()
        right = (scores.argmax(1) == labels.argmax(1)).sum()
        return right * classes, labels.argmax(1).numel() * classes
    several = scores.ndim > 1 and scores.shape[1] > 1
    fitting = labels.shape == scores.shape[:1] + scores.shape[2:]
    if not several or not fitting or labels.is_floating_point():
        return 0, 0
    return (scores.argmax(1) == labels).sum(), (labels != _IGNORED).sum()


def takes_scores(loss: object) -> bool:
    """Return whether a loss is one of torch's own, which take one tensor of scores."""
    while isinstance(loss, functools.partial):
        loss = loss.func
    return str(getattr(loss, "__module__", "")).startswith("torch.")


def widened(scores: Tensor) -> Tensor:
    """Return scores in float32 if they are in half precision, which is too coarse for a loss."""
    return scores.float() if scores.dtype in _NARROW else scores


class _MeanLoss:
    """The mean loss over all images, from their batches, in all processes.

    A mean of batch means is not the mean over all images if the loss weights classes or ignores
    labels. For cross-entropy, each batch counts by the weight of its labels. For any other loss,
    outputs and labels are kept, and it is computed over all of them at once.
    """

    def __init__(self, loss: Callable[[Any, Tensor], Tensor], output: Selector):
        self.loss, self.output = loss, output
        self.takes_scores = takes_scores(loss)
        self.values: list[Tensor] = []
        self.weights: list[Tensor | float] = []
        self.kept: list[tuple[Any, Tensor]] = []

    def add(self, output: Any, scores: Tensor, labels: Tensor) -> None:
        given = widened(scores) if self.takes_scores else output
        weight = weight_in_mean(self.loss, labels)
        if weight is None:
            self.kept.append((given, labels))
        if weight is not None or len(self.kept) == 1:  # the first one is checked at once
            self.values.append(self._value(given, labels))
            self.weights.append(len(labels) if weight is None else weight)

    def _value(self, output: Any, labels: Tensor) -> Tensor:
        try:
            value = self.loss(output, labels)
        except IndexError:
            check_labels(scores_of(output, None if self.takes_scores else self.output), labels)
            raise
        check_loss_value(value)
        value = value.detach().reshape(())
        return value if value.dtype == torch.float64 else value.float()

    def result(self, *, of_all: bool) -> float:
        """Return the mean over this process's batches, or over those of all processes."""
        parts = processes.gather(self.kept) if of_all else [self.kept]
        kept = [pair for part in parts for pair in part]
        if len(kept) == 1 and self.values:
            return float(self.values[0])
        if kept:
            labels = [y for _, y in kept]
            try:
                joined = _joined([output for output, _ in kept], [len(y) for y in labels])
            except (TypeError, ValueError, LookupError, AttributeError, RuntimeError):
                values = [float(self._value(*pair)) for pair in kept]
                return sum(v * len(y) for v, y in zip(values, labels, strict=True)) / sum(
                    map(len, labels)
                )
            return float(self._value(joined, torch.cat(labels)))
        # In Python's double precision, so that long sums lose no precision.
        values = torch.stack(self.values).tolist() if self.values else []
        on_device = [weight for weight in self.weights if isinstance(weight, Tensor)]
        if on_device:  # all of them are, or none
            weights = [float(weight) for weight in torch.stack(on_device).tolist()]
        else:
            weights = [float(weight) for weight in self.weights]
        total = sum(v * w for v, w in zip(values, weights, strict=True) if w)
        weight = float(sum(weights))
        if of_all:
            total, weight = processes.sum_numbers([total, weight])
        return total / weight if weight else float("nan")


def as_cross_entropy(loss: object) -> nn.CrossEntropyLoss | nn.NLLLoss | None:
    """Return a loss as the module that computes the same weighted mean, if torch has it."""
    if loss is F.cross_entropy:
        return nn.CrossEntropyLoss()
    if isinstance(loss, functools.partial) and loss.func is F.cross_entropy and not loss.args:
        loss = nn.CrossEntropyLoss(**loss.keywords)
    if not isinstance(loss, nn.CrossEntropyLoss | nn.NLLLoss) or loss.reduction != "mean":
        return None
    # A class of someone's own may compute another mean.
    return loss if type(loss) in (nn.CrossEntropyLoss, nn.NLLLoss) else None


def weight_in_mean(loss: object, labels: Tensor) -> Tensor | float | None:
    """Return what a batch's loss counts in the mean of all, or None if that is not known."""
    loss = as_cross_entropy(loss)
    if loss is None:
        return None
    if labels.is_floating_point():
        return float(len(labels))
    counted = labels != loss.ignore_index
    if loss.weight is None:
        return counted.sum()
    weights: Tensor = loss.weight[labels[counted].long()]
    return weights.sum()


def _joined(outputs: Sequence[Any], sizes: Sequence[int]) -> Any:
    """Return what a network would have returned for all batches at once.

    Raises
    ------
    TypeError, ValueError, LookupError, AttributeError, RuntimeError
        If that cannot be told, for example of a number that is not one of an image.
    """
    first = outputs[0]
    if isinstance(first, Tensor):
        if any(len(output) != size for output, size in zip(outputs, sizes, strict=True)):
            raise ValueError("not one entry per image")
        return torch.cat(list(outputs))
    if isinstance(first, Mapping):
        joined: Any = copy.copy(first)
        for name in first:
            joined[name] = _joined([output[name] for output in outputs], sizes)
        return joined
    if isinstance(first, (tuple, list)):
        parts = [_joined(part, sizes) for part in zip(*outputs, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        names = [field.name for field in dataclasses.fields(first)]
        values = {n: _joined([getattr(output, n) for output in outputs], sizes) for n in names}
        return dataclasses.replace(first, **values)
    if all(output is None for output in outputs):
        return None
    raise TypeError(f"no tensor, but {type(first).__name__}")


@torch.no_grad()
def _predictions(
    model: nn.Module,
    batches: BatchSource,
    mean: _MeanLoss,
    device: torch.device,
    precision: torch.dtype,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores and labels of every batch, in evaluation mode, and add their loss to `mean`."""
    layout, kind = memory_format(model), input_type(model)
    with evaluating(model):
        checked = False
        for batch in batches.epoch(0):
            if not checked:
                check_batch(batch, layout)
            x, y = batch
            if len(y):  # with several processes, the last batch may leave one without images
                x = x.contiguous(memory_format=layout)
                if x.is_floating_point() and x.dtype != kind:
                    x = x.to(kind)
                with autocast(device, precision):
                    try:
                        output = model(x)
                    except RuntimeError as error:
                        explain_images(model, x, error)
                        raise
                    scores = scores_of(output, mean.output)
                    if mean.loss is F.cross_entropy and not checked:
                        check_labels(scores, y)
                    checked = True
                    mean.add(output, scores, y)
                yield widened(scores), y
        if not checked and processes.world_size() == 1:
            raise ValueError(
                f"the source of batches announces {len(batches)} batches in an epoch, but yields "
                "none"
            )
