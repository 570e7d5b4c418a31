"""Batches of a data set held on the device, and the interface of any other source of batches."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from cnnbook import settings
from cnnbook._checks import check_count
from cnnbook.data.augment import Augment
from cnnbook.data.checks import check_epoch, check_images
from cnnbook.data.datasets import Dataset
from cnnbook.data.pixels import normalization, normalize
from cnnbook.data.seeds import epoch_seed, generator


class BatchSource(Protocol):
    """The interface that training and evaluation need: any source of batches that has it will do.

    Attributes
    ----------
    images_per_epoch
        Images in an epoch, over all processes.
    batch_size
        Images in a full batch, over all processes.

    Examples
    --------
    Any object with these two attributes and two methods can be trained on, such as
    :class:`Batches`:

    >>> from cnnbook import data
    >>> train, _ = data.load("fashion-mini")
    >>> batches: BatchSource = Batches(train, 64, device="cpu")
    >>> batches.images_per_epoch, batches.batch_size, len(batches)
    (10000, 64, 157)
    >>> len(next(batches.epoch(0, start=156))[1])  # the last batch is smaller
    16
    """

    images_per_epoch: int
    batch_size: int

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the batches of epoch `number` from batch `start` on, on the device.

        Images are float ``(N, C, H, W)``, labels int64 ``(N,)``.
        """
        ...


def share(index: Tensor, batch_size: int, rank: int, world_size: int) -> list[Tensor]:
    """Divide an epoch's images into batches and take one process's part of each batch.

    All parts together hold every image exactly once. Their sizes differ by at most one image, so
    a last batch smaller than the number of processes leaves some of them with an empty part.

    Parameters
    ----------
    index
        Indices of the epoch's images, in order.
    batch_size
        Images per batch, over all processes.
    rank, world_size
        Index of this process, from 0, and the number of processes.

    Returns
    -------
    list of Tensor
        This process's image indices, one tensor per batch.
    """
    return [batch[rank::world_size] for batch in torch.split(index, batch_size)]


def check_batch_options(batch_size: int, augment: object) -> None:
    """Refuse what no batches can be made with."""
    check_count("batch_size", batch_size)
    if augment is not None and not isinstance(augment, Augment):
        raise TypeError(
            f"augment must be a data.Augment, such as data.Augment(flip=0.5), got {augment!r}"
        )


def check_dataset(dataset: object, kind: type) -> None:
    """Refuse what is not the class of data set that is needed."""
    if not isinstance(dataset, kind):
        raise TypeError(
            f"dataset must be a data.{kind.__name__}, got {type(dataset).__name__}; "
            "data.make_batches chooses the kind of batches that a data set needs"
        )


def as_labels(labels: Tensor) -> Tensor:
    """Return labels of any type of integers as int64, and those of a custom loss unchanged."""
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        return labels
    return labels.long()


def as_images(images: Tensor) -> Tensor:
    """Return bytes as floats of 0 to 1, and floats unchanged."""
    if images.dtype == torch.uint8:
        return images.float().mul_(1 / 255)
    if not images.is_floating_point():
        raise ValueError(
            f"images are uint8, 0 to 255, or floats, got {images.dtype}; use images.to(torch.uint8)"
            " or images.float()"
        )
    return images


def check_pair(images: Tensor, labels: Tensor) -> None:
    """Refuse a pair of tensors that are no images and their labels."""
    if images.dtype == torch.uint8:
        check_images(images)
    as_images(images[:0])
    if labels.ndim == 0 or images.ndim < 2 or len(labels) != len(images):
        raise ValueError(
            f"a pair is (images, labels), one label per image, got tensors of shape "
            f"{tuple(images.shape)} and {tuple(labels.shape)}"
        )


class Batches:
    """Shuffled, normalized, augmented batches of a data set held on the device.

    The images stay on the device as uint8. Each batch is gathered by index, converted to float,
    augmented and normalized there; Python never handles single images.

    Parameters
    ----------
    dataset
        The images; or a pair of tensors, images and labels. Of a pair, uint8 images are scaled to
        0…1 and floats stay as they are: neither is normalized further.
    batch_size
        Images per batch, N. The last batch of an epoch may be smaller.
    shuffle
        Whether to draw a new order for each epoch.
    augment
        Random transforms, drawn afresh for each image in each epoch.
    seed
        Seed of the order and the augmentation. Both depend only on seed and epoch, not on the
        device or the batch size.
    device
        Device that holds the data; the machine's fastest one by default.
    rank, world_size
        Yield only every `world_size`-th image of each batch, starting with image `rank`: one
        training process's part.

    Raises
    ------
    TypeError
        If `dataset` is neither a :class:`Dataset` nor a pair of tensors, or `augment` no
        :class:`Augment`.
    ValueError
        If the data set is empty or `batch_size` is not positive.

    Examples
    --------
    >>> from cnnbook import data
    >>> train, _ = data.load("fashion-mini")
    >>> x, y = next(data.Batches(train, 64, device="cpu").epoch(0))
    >>> x.shape, y.shape
    (torch.Size([64, 1, 28, 28]), torch.Size([64]))
    """

    def __init__(
        self,
        dataset: Dataset | tuple[Tensor, Tensor],
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        if isinstance(dataset, tuple):
            images, labels = dataset
            check_pair(images, labels)
            # Bytes are scaled to 0 … 1; floats, which need neither, stay as they are.
            channels = images.shape[1] if images.ndim == 4 else 1
            self.mean, self.std = (0.0,) * channels, (1.0,) * channels
            described = f"a pair of tensors {tuple(images.shape)} and {tuple(labels.shape)}"
        else:
            check_dataset(dataset, Dataset)
            images, labels = dataset.images, dataset.labels
            self.mean, self.std = dataset.mean, dataset.std
            described = repr(dataset)
        check_batch_options(batch_size, augment)
        if not len(images):
            raise ValueError(f"{described} has no images to make batches of")
        if augment is not None and images.ndim != 4:
            check_images(images)
        self.images_per_epoch = len(images)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.augment = augment
        self.seed = seed
        self.rank, self.world_size = rank, world_size
        self.device = settings.device(device)
        self.images = images.detach().to(self.device)
        self.labels = as_labels(labels.detach().to(self.device))
        normalization(self.mean, self.std, self.device)  # kept, so that no batch waits for it

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.images_per_epoch // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over every image once.

        Parameters
        ----------
        number
            Number of the epoch, from 0; it determines order and augmentation.
        start
            Number of the first batch to yield, from 0.

        Yields
        ------
        images : Tensor
            Normalized float images, ``(N, C, H, W)``.
        labels : Tensor
            Class numbers, int64, ``(N,)``.

        Raises
        ------
        TypeError, ValueError
            If `number` or `start` is not an integer from 0.
        """
        check_epoch(number, start)
        parts = self.indices(number)
        if self.augment is None:
            yield from map(self.gather, parts[start:])
            return
        height, width = self.images.shape[2:]
        seed = epoch_seed(self.seed, number)
        params = self.augment.draw(self.images_per_epoch, (height, width), seed).to(self.device)
        params = params[torch.cat(parts)]  # in the epoch's order: a batch's are a slice, not a copy
        at = sum(len(index) for index in parts[:start])
        for index in parts[start:]:
            of_batch = params[at : at + len(index)]
            at += len(index)
            images = self.augment(self.images[index], of_batch, mean=self.mean, std=self.std)
            yield images, self.labels[index]

    def indices(self, number: int) -> list[Tensor]:
        """Return the indices of the images of each batch.

        Parameters
        ----------
        number
            Number of the epoch, from 0.

        Returns
        -------
        list of Tensor
            int64, one tensor for each batch, on the device.
        """
        order = torch.arange(self.images_per_epoch)
        if self.shuffle:
            seed = epoch_seed(self.seed, number)
            order = torch.randperm(len(order), generator=generator(seed))
        return share(order.to(self.device), self.batch_size, self.rank, self.world_size)

    def gather(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalized images and the labels at `index`, without augmentation."""
        images = self.images[index]
        if images.dtype == torch.uint8:
            images = normalize(images, self.mean, self.std)
        return images, self.labels[index]
