"""Batches of whatever yields them: a DataLoader, a list, a generator."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader
from torch.utils.data.distributed import DistributedSampler

from cnnbook import settings
from cnnbook._checks import check_count, check_dense, no_tensor
from cnnbook.data.batches import as_images, as_labels
from cnnbook.data.checks import check_epoch
from cnnbook.data.items import describe
from cnnbook.data.randomness import kept, seed_all, set_all, state_of_all
from cnnbook.data.seeds import epoch_seed
from cnnbook.data.workers import begin


class IterableBatches:
    """Epochs of an iterable of batches ``(images, labels)``.

    The iterable is passed over again and again; an epoch is one pass, or, if `steps_per_epoch` is
    given, that many batches, going on where the last epoch ended. Every pass begins with a seed of
    its own for the global generators of torch, Python and NumPy, so a ``DataLoader`` without a
    generator of its own shuffles alike in every run with the same seed; the caller's random state
    stays as it was. To resume within an epoch, the batches before are read and dropped. (Workers
    of a loader with ``persistent_workers`` go on with their own random numbers from epoch to epoch:
    after a resumption the order is the same, but what their transforms draw is not.)

    Parameters
    ----------
    source
        The iterable.
    steps_per_epoch
        Batches in an epoch; needed if the iterable has no length.
    seed
        Any integer.
    device
        Where the batches are moved.
    rank, world_size
        This process's number, and the number of processes. Each process takes its part of every
        batch, unless a ``DistributedSampler`` has already divided the images.

    Attributes
    ----------
    images_per_epoch, batch_size
        As for :class:`cnnbook.data.BatchSource`: of a ``DataLoader``, by its sampler; of a list,
        counted. Where they cannot be known, as of a generator, the first batch is read at once, and
        all are taken to be as large; training counts the images that it sees.
    """

    def __init__(
        self,
        source: Iterable[Any],
        *,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.source, self.name = source, type(source).__name__
        self.seed, self.device = seed, settings.device(device)
        self.rank, self.world_size = rank, world_size
        self.once = iter(source) is source if isinstance(source, Iterator) else False
        self._pass_length = _length(source)
        if self._pass_length == 0:
            raise ValueError(f"the {self.name} has no batches: its length is 0")
        if steps_per_epoch is not None:
            check_count("steps_per_epoch", steps_per_epoch)
            self._steps = int(steps_per_epoch)
        elif self._pass_length is not None:
            self._steps = self._pass_length
        else:
            raise ValueError(
                f"the {self.name} has no length, so it is not known when an epoch ends: pass "
                "steps_per_epoch="
            )
        self._divided = any(isinstance(s, DistributedSampler) for s in _samplers(source))
        self._flow: Iterator[tuple[Tensor, Tensor]] | None = None
        self._next = 0  # number of the batch that the flow will yield next
        self._first: tuple[Tensor, Tensor] | None = None  # read ahead to see its size

        sizes = _sizes(source, self._steps, self._pass_length)
        if sizes is None:
            self._flow = self._batches(0)
            self._first = next(self._flow)
            size = len(self._first[1])
            sizes = self._steps * size, size
        processes = world_size if self._divided else 1
        self.images_per_epoch, self.batch_size = sizes[0] * processes, sizes[1] * processes

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return self._steps

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of an epoch; see :meth:`cnnbook.data.BatchSource.epoch`."""
        check_epoch(number, start)
        for batch in range(number * self._steps + start, (number + 1) * self._steps):
            images, labels = self._read(batch)
            if not self._divided and self.world_size > 1:
                images = images[self.rank :: self.world_size]
                labels = labels[self.rank :: self.world_size]
            images = images.to(self.device, non_blocking=True)
            yield as_images(images), as_labels(labels.to(self.device, non_blocking=True))

    def _read(self, wanted: int) -> tuple[Tensor, Tensor]:
        """Return batch number `wanted`, counted over all epochs."""
        if self._flow is None or self._next != wanted:
            self._go_to(wanted)
        assert self._flow is not None
        if self._first is not None:
            batch, self._first = self._first, None
        else:
            try:
                batch = next(self._flow)
            except BaseException:
                self._flow = None  # an iterator that has failed is finished
                raise
        self._next += 1
        return batch

    def _go_to(self, wanted: int) -> None:
        if self.once:
            if wanted < self._next:
                raise ValueError(
                    f"the {self.name} yields its batches once, and {self._next} of them have been "
                    "read already: pass a list, a DataLoader or another object that can be "
                    "iterated over again"
                )
            skipped = wanted - self._next
            if self._flow is None:
                self._flow = self._batches(0)
        else:
            passes, skipped = 0, wanted
            if self._pass_length is not None:
                passes, skipped = divmod(wanted, self._pass_length)
            self._flow, self._next, self._first = self._batches(passes), wanted - skipped, None
        for _ in range(skipped):
            self._read(self._next)

    def _batches(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of pass `number` and of all later ones."""
        while True:
            read = 0
            for batch in self._pass(number):
                yield batch
                read += 1
                if read == self._pass_length:
                    break
            if self.once:
                raise ValueError(
                    f"the {self.name} ended after {read} batches, though more are needed: an epoch "
                    f"is {self._steps} batches. Pass a DataLoader or a list, which can be iterated "
                    "over again, a generator that does not end, or fewer steps_per_epoch or epochs"
                )
            if read == 0 or (self._pass_length is not None and read < self._pass_length):
                announced = "" if self._pass_length is None else f" of {self._pass_length}"
                raise ValueError(
                    f"the {self.name} ended after {read}{announced} batches in pass {number + 1} "
                    "over the data"
                )
            number += 1

    def _pass(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over the source once, with random numbers of its own."""
        if not self.once:
            for part in (*_samplers(self.source), getattr(self.source, "dataset", None)):
                set_epoch = getattr(part, "set_epoch", None)
                if callable(set_epoch):
                    set_epoch(number)
        with kept():
            seed_all(epoch_seed(self.seed, number))
            # Only a loader that starts its workers draws a seed for them, before it draws the order
            # of the images. One that has them already shall find the same order.
            if getattr(self.source, "persistent_workers", False) and self.source._iterator:  # type: ignore[attr-defined]
                torch.empty((), dtype=torch.int64).random_()
            batches = begin(self.source)
            state = state_of_all()
        for position in range(2**62):
            # Between two batches the caller's random numbers are the caller's.
            before = state_of_all()
            set_all(state)
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                state = state_of_all()
                set_all(before)
            yield _pair(batch, self.name, position)


def _samplers(source: object) -> tuple[object, ...]:
    """Return what decides on the order of a loader's images."""
    in_batches = getattr(source, "batch_sampler", None)
    return getattr(source, "sampler", None), in_batches, getattr(in_batches, "sampler", None)


def _length(source: Iterable[Any]) -> int | None:
    try:
        return len(source)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def _sizes(source: Iterable[Any], steps: int, length: int | None) -> tuple[int, int] | None:
    """Return images in an epoch and in a full batch, as far as they are known in advance."""
    if isinstance(source, list | tuple):
        sizes = [len(_pair(batch, type(source).__name__, i)[1]) for i, batch in enumerate(source)]
        passes, rest = divmod(steps, len(sizes))
        return passes * sum(sizes) + sum(sizes[:rest]), max(sizes)
    batches = getattr(source, "batch_sampler", None)
    if not isinstance(source, DataLoader) or type(batches) is not BatchSampler or length is None:
        return None
    # The sampler of an iterable data set is a dummy without a length.
    images = _length(batches.sampler)
    if images is None:
        images = len(source.dataset)  # type: ignore[arg-type]
    size = batches.batch_size
    if batches.drop_last:
        images = length * size
    passes, rest = divmod(steps, length)
    return passes * images + min(rest * size, images), size


def _pair(batch: object, name: str, position: int) -> tuple[Tensor, Tensor]:
    """Return a batch that has been read as a pair of tensors, or say what is wrong with it."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        cure = ""
        if isinstance(batch, dict):
            cure = (
                ": pass a generator expression or a collate_fn, such as ((b['image'], b['label']) "
                "for b in loader)"
            )
        raise TypeError(
            f"batch {position} of the {name} is {describe(batch)}; pairs (images, labels) are "
            f"needed{cure}"
        )
    images, labels = batch
    if not isinstance(images, Tensor):
        raise no_tensor(f"the images of batch {position}", images)
    check_dense(f"the images of batch {position}", images)
    if isinstance(labels, int | float) or (isinstance(labels, Tensor) and labels.ndim == 0):
        raise ValueError(
            f"the {name} yields single images with their labels; put the data set into a "
            "torch.utils.data.DataLoader(…, batch_size=64), which makes batches"
        )
    if not isinstance(labels, Tensor):
        raise no_tensor(f"the labels of batch {position}", labels)
    if len(images) != len(labels):
        raise ValueError(
            f"batch {position} of the {name} has {len(images)} images, but {len(labels)} labels"
        )
    return images, labels
