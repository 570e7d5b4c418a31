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
from cnnbook._checks import check_count
from cnnbook._errors import counted
from cnnbook._networks import Selector, evaluating, input_type, scores_of
from cnnbook.data import BatchSource, DataLike, make_batches
from cnnbook.data.sources import has_own_batches
from cnnbook.training import processes
from cnnbook.training._checks import (
    check_batch,
    check_labels,
    check_loss,
    check_loss_value,
    check_network,
    check_not_empty,
    explain_images,
)
from cnnbook.training.device import autocast, memory_format
from cnnbook.training.ignored import USUAL, ignored_by

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
    ignored_labels
        Labels that do not count, because the loss leaves them out.

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
    ignored_labels: tuple[int, ...] = (USUAL,)

    @property
    def predictions(self) -> Tensor:
        """The class with the largest score, ``(N,)``."""
        return self.scores.argmax(1)

    @property
    def accuracy(self) -> float:
        """Fraction of images that are classified correctly, 0 to 1.

        Labels that the loss leaves out, such as -100 in cross-entropy, do not count. If the labels
        are not classes, or some of them are not, the accuracy is not a number (``nan``): in a
        regression, of images with several labels each, or of classes that the network lacks.
        """
        return accuracy_of(*map(int, count(self.scores, self.labels, self.ignored_labels)))

    @property
    def counted(self) -> Tensor:
        """Which labels count, as booleans of the shape of `predictions`.

        A confusion matrix of those that do, at every position if there are several in an image:
        ``analysis.confusion_matrix(result.labels[result.counted],
        result.predictions[result.counted], classes)``.
        """
        if self.labels.is_floating_point():
            return torch.ones_like(self.predictions, dtype=torch.bool)
        return _counted(self.labels, self.ignored_labels)

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
    FloatingPointError
        If scores are not numbers (nan), so that there is no prediction. The message says of how
        many images, and which is the first.

    Notes
    -----
    Labels that the loss leaves out do not count in the accuracy: -100, and the ``ignore_index`` of
    torch's losses, of a ``functools.partial``, or of a loss of your own that has such an attribute
    or is made of such losses. It is not found inside the code of a function: of a label that is no
    class of the network and not known to be left out, the accuracy is ``nan``.

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
    found = torch.cat(scores).cpu()
    _refuse_nan(found)
    return Evaluation(found, torch.cat(labels).cpu(), mean.result(of_all=False), ignored_by(loss))


def _refuse_nan(scores: Tensor) -> None:
    """Refuse scores that are not numbers: the largest of them would count as a prediction."""
    nan = scores.isnan().flatten(1).any(1) if scores.ndim > 1 else scores.isnan()
    if nan.any():
        raise FloatingPointError(
            f"the scores of {int(nan.sum()):,} of {counted(len(scores), 'image')} are not numbers "
            f"(nan), the first those of image {int(nan.nonzero()[0])}: check whether these images "
            "or the network's weights have values that are not finite"
        )


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
    ignored = ignored_by(loss)
    counts = torch.zeros(3, dtype=torch.int64, device=device)
    for scores, labels in _predictions(model, batches, mean, device, precision):
        for total, found in zip(counts, count(scores, labels, ignored), strict=True):
            total += found
    return mean.result(of_all=True), accuracy_of(*processes.all_reduce(counts).tolist())


def accuracy_of(right: int, counted: int, without_classes: int) -> float:
    """Return the accuracy that sums of what :func:`count` returns stand for; or ``nan``.

    It is no number if nothing counts, and also if the labels of a single batch are not classes: an
    accuracy over the other batches would depend on which images are in a batch together.
    """
    return right / counted if counted and not without_classes else float("nan")


def count(
    scores: Tensor, labels: Tensor, ignored: Sequence[int]
) -> tuple[Tensor | int, Tensor | int, Tensor | int]:
    """Return how many labels have the largest score, how many there are, and whether they are none.

    Parameters
    ----------
    scores
        ``(N, classes)``, or ``(N, classes, …)`` for a class at each position.
    labels
        Classes, ``(N,)`` or ``(N, …)``; or the probabilities of the classes, shaped like the
        scores.
    ignored
        Labels that do not count.

    Returns
    -------
    right, counted, without_classes
        The last is 1 if the labels, or some of them, are not classes of the network; otherwise 0.
        As tensors: on a GPU, a decision about numbers means waiting for them.
    """
    if scores.ndim < 2 or scores.shape[1] < 2:
        return 0, 0, 1
    predicted = scores.argmax(1)
    if labels.is_floating_point() and labels.shape == scores.shape:
        # Probabilities of classes add up to one; other numbers have no class.
        rounding = max(1e-3, torch.finfo(labels.dtype).eps)
        wrong = (widened(labels).sum(1) - 1).abs() > rounding
        none = wrong.any() | ~(labels >= 0).all()
        return (predicted == labels.argmax(1)).sum(), predicted.numel(), none
    if labels.shape != predicted.shape or labels.is_floating_point() or labels.is_complex():
        return 0, 0, 1
    labels = labels.long()
    counts = _counted(labels, ignored)
    none = ((labels.clamp(0, scores.shape[1] - 1) != labels) & counts).any()
    return ((predicted == labels) & counts).sum(), counts.sum(), none


def _counted(labels: Tensor, ignored: Sequence[int]) -> Tensor:
    return functools.reduce(torch.logical_and, [labels != label for label in ignored])


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
            scores = scores_of(output, None if self.takes_scores else self.output)
            check_labels(scores, labels, ignored=ignored_by(self.loss))
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
