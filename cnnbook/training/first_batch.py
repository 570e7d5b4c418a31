"""What only a batch can tell about a network, found out before the first step."""

import contextlib
import copy
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._networks import evaluating, input_type, is_lazy_network, scores_of
from cnnbook.data import Batches, BatchSource, StreamingBatches
from cnnbook.training import processes
from cnnbook.training._checks import check_batch, check_labels, explain_images
from cnnbook.training.device import autocast, explain_errors, one_image_error
from cnnbook.training.run import Run


class Peeked:
    """A source of batches whose first batch can be looked at without being lost.

    Parameters
    ----------
    source
        The batches.
    """

    def __init__(self, source: BatchSource):
        self._source = source
        self.images_per_epoch, self.batch_size = source.images_per_epoch, source.batch_size
        self._begun: tuple[Any, Iterator[Any]] | None = None

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return len(self._source)

    def first(self) -> tuple[Tensor, Tensor]:
        """Return the first batch of the first epoch."""
        if self._begun is None:
            batches = iter(self._source.epoch(0))
            self._begun = next(batches, None), batches
        batch = self._begun[0]
        if batch is None:
            raise ValueError(
                f"the source of batches announces {len(self)} batches in an epoch, but yields none"
            )
        check_batch(batch, torch.contiguous_format)
        images, labels = batch
        return images, labels

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch, of which the first batch may have been read already."""
        begun, self._begun = self._begun, None
        if begun is not None and (number, start) == (0, 0):
            yield begun[0]
            yield from begun[1]
        else:
            yield from self._source.epoch(number, start=start)


def materialize(model: nn.Module, images: Tensor) -> None:
    """Give lazy layers their sizes, by a forward pass that leaves running statistics alone.

    Raises
    ------
    ValueError
        If a layer has no size then, because the pass does not reach it.
    """
    with torch.no_grad(), evaluating(model):
        try:
            model(images)
        except RuntimeError as error:
            explain_images(model, images, error)
            raise
    names = [name for name, module in model.named_modules() if is_lazy_network(module)]
    if names:
        raise ValueError(
            f"the lazy layer {names[-1]!r} has no size after a forward pass, which does not reach "
            "it; remove it, or give it its size"
        )


def typed(images: Tensor, model: nn.Module) -> Tensor:
    """Return images of the type of a network's parameters; whole numbers stay as they are."""
    kind = input_type(model)
    return images.to(kind) if images.is_floating_point() and images.dtype != kind else images


def copied(model: nn.Module) -> nn.Module:
    """Return a deep copy, also of a network that keeps tensors which it has computed.

    Layers under weight normalization, spectral normalization or pruning do, in their old form, and
    torch refuses to copy such tensors.
    """
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in _tensors(vars(module).values(), depth=2):
            if not tensor.is_leaf:
                memo[id(tensor)] = tensor.detach().clone()
    return copy.deepcopy(model, memo)


def _tensors(values: Iterable[Any], depth: int) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif depth and isinstance(value, dict):
            yield from _tensors(value.values(), depth - 1)
        elif depth and isinstance(value, (list, tuple)):
            yield from _tensors(value, depth - 1)


def check_smallest_batch(run: Run) -> None:
    """Raise ValueError if a batch would have a single image, and the network fails on one.

    Batch normalization of single values, as after global pooling, does. It is tried on a copy.
    """
    world, batches = processes.world_size(), run.batches
    size, images = batches.batch_size, batches.images_per_epoch
    if not size or not images:
        return  # not known; then the step itself explains
    last = images - (len(batches) - 1) * size
    if len(batches) > 1 and 0 < size < 2 * world:
        which = "every batch"
    elif 0 < last < 2 * world:
        which = f"the last of {len(batches)} batches"
    else:
        return
    run.batches = peeked = Peeked(batches)
    x, _ = _own_part(run, peeked)
    if _fits(run, x[:1]) or not _fits(run, x[:1].repeat(2, *[1] * (x.ndim - 1))):
        return
    fitting = (n for n in range(size - 1, 2 * world - 1, -1) if not 0 < images % n < 2 * world)
    better = next(fitting, None)
    cure = f"batch_size={better} leaves none" if better else "use a larger batch_size"
    parts = "" if world == 1 else f" in one of {world} processes"
    raise one_image_error(
        f"{which} would have a single image{parts} ({images:,} images, batch_size={size})",
        f"{cure}; in a DataLoader, drop_last=True leaves out the last batch",
    )


def check_validation(run: Run) -> None:
    """Raise ValueError before the first step if validation images or labels do not fit the network.

    It is tried on a copy, with two images. Sources of which one cannot tell whether looking at a
    batch changes what they yield next, such as loaders, are left alone. What is wrong with the
    training images, too, is for the first step to explain.
    """
    if run.val is None:
        return
    error = _misfit(run, run.val)
    if error is not None and _misfit(run, run.batches) is None:
        raise error


def _misfit(run: Run, source: BatchSource) -> ValueError | None:
    """Return what keeps the network from being evaluated on a source, as far as that is known."""
    sample = _sample(source, 2)
    if sample is None:
        return None
    try:
        twin = copied(run.model).eval()
    except (RuntimeError, ValueError, TypeError, AttributeError):
        return None
    try:
        output = _output(run, twin, sample)
    except Exception:  # perhaps because of their number, or of statistics that a step makes
        sample = _sample(source, source.batch_size)
        assert sample is not None  # as before
        with contextlib.suppress(Exception):
            _output(run, twin.train(), sample)
        try:
            output = _output(run, twin.eval(), sample)
        except RuntimeError as error:
            try:
                explain_images(twin, sample, error)
            except ValueError as better:
                return better
            return ValueError(
                f"the network cannot be evaluated on val, images of shape {tuple(sample.shape)}: "
                f"{error}"
            )
        except Exception:  # nothing that a shape or a type explains: let the validation fail
            return None
    if run.val_loss_fn is F.cross_entropy:
        labels = source.labels if isinstance(source, Batches) else source.dataset.labels  # type: ignore[attr-defined]
        scores = scores_of(output, run.output)
        try:
            check_labels(scores, labels[: len(sample)])
            check_labels(scores[:1].expand(len(labels), *scores.shape[1:]), labels)
        except ValueError as error:
            return ValueError(f"the labels of val do not fit: {error}")
    return None


def _sample(val: BatchSource, count: int) -> Tensor | None:
    """Return the first images of a source that can be looked at without a trace."""
    if type(val) is Batches:
        first = torch.arange(min(count, val.images_per_epoch), device=val.device)
        return val.gather(first)[0]
    if type(val) is StreamingBatches:  # reading would start its workers
        size = (val.dataset.channels, val.dataset.size, val.dataset.size)
        return torch.zeros(min(count, val.images_per_epoch), *size, device=val.device)
    return None


def _output(run: Run, twin: nn.Module, images: Tensor) -> Any:
    with torch.no_grad(), autocast(run.device, run.precision):
        return twin(typed(images.contiguous(memory_format=run.layout), twin))


def leaves_unused(run: Run) -> bool:
    """Return whether the loss leaves parameters without a gradient, in any process.

    DistributedDataParallel must know: it waits for every gradient. It is tried on a copy of the
    network, with the first batch.
    """
    if not isinstance(run.batches, Peeked):
        run.batches = Peeked(run.batches)
    x, y = _own_part(run, run.batches)
    twin = _twin(run)
    twin.zero_grad(set_to_none=True)
    with explain_errors(twin, x, run.output):
        with autocast(run.device, run.precision):
            loss = run.loss_fn(twin(x), y)
        loss.backward()
    unused = any(p.requires_grad and p.grad is None for p in twin.parameters())
    return processes.sum_numbers([float(unused)])[0] > 0


def _own_part(run: Run, batches: Peeked) -> tuple[Tensor, Tensor]:
    x, y = batches.first()
    if len(y) == 0:  # this process's part of a batch smaller than the number of processes
        x, y = x.new_zeros(2, *x.shape[1:]), y.new_zeros(2, *y.shape[1:])
    return typed(x.contiguous(memory_format=run.layout), run.model), y


def _twin(run: Run) -> nn.Module:
    """Return a copy of the network, in training mode as the run trains it."""
    twin = copied(run.model)
    for own, layer in zip(run.model.modules(), twin.modules(), strict=True):
        layer.training = own not in run.in_evaluation
    return twin


def _fits(run: Run, images: Tensor) -> bool:
    try:
        with torch.no_grad(), autocast(run.device, run.precision):
            _twin(run)(images)
    except (RuntimeError, ValueError, TypeError):  # TypeError: no copy can be made
        return False
    return True
