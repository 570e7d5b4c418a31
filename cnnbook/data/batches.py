"""Batches: from a data set held on the device, or from anywhere else by the same interface."""

from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from cnnbook import settings
from cnnbook.data.augment import Augment
from cnnbook.data.datasets import Dataset


class BatchSource(Protocol):
    """What training and evaluation ask of a source of batches.

    Attributes
    ----------
    images_per_epoch
        Images in an epoch, over all processes.
    batch_size
        Images in a full batch, over all processes.

    Examples
    --------
    Whatever has these four can be trained on. :class:`Batches` has:

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


def epoch_seed(seed: int, number: int) -> int:
    """Return a seed for one epoch that other seeds and epochs do not share."""
    return seed * 100_003 + number


def share(index: Tensor, batch_size: int, rank: int, processes: int) -> list[Tensor]:
    """Divide an epoch's images into batches and take one process's part of each batch.

    All parts together hold every image exactly once. They differ by at most one image, so a last
    batch smaller than the number of processes leaves some with an empty part.

    Parameters
    ----------
    index
        Numbers of the epoch's images, in order.
    batch_size
        Images per batch, over all processes.
    rank, processes
        Number of this process, from 0, and of all of them.

    Returns
    -------
    list of Tensor
        This process's image numbers, one tensor per batch.
    """
    return [batch[rank::processes] for batch in index.split(batch_size)]


def normalize(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn uint8 images into floats of mean 0 and deviation 1.

    Parameters
    ----------
    images
        uint8, ``(N, C, H, W)``.
    mean, std
        Per channel, of images scaled to 0…1.

    Returns
    -------
    Tensor
        float32, of the same shape, on the same device.
    """
    mean = torch.tensor(mean, device=images.device).view(-1, 1, 1)
    std = torch.tensor(std, device=images.device).view(-1, 1, 1)
    # (v/255 - mean) / std, as one multiplication and one addition per pixel
    return images.float().mul_(1 / (255 * std)).add_(-mean / std)


class Batches:
    """Shuffled, normalized, augmented batches of a data set held on the device.

    The images stay uint8 on the device. Each batch is gathered by index, turned to float,
    augmented and normalized there, so no image passes through Python on its own.

    Parameters
    ----------
    dataset
        Where the images come from.
    batch_size
        Images per batch, N. The last batch of an epoch may be smaller.
    shuffle
        Whether to draw a new order for each epoch.
    augment
        Random changes, drawn anew for each image in each epoch.
    seed
        Seed of the order and the changes. They depend on seed and epoch only, not on the device
        or the batch size.
    device
        Where to hold the data; the machine's fastest device if not given.
    rank, processes
        Yield only every `processes`-th image of each batch, from image `rank` on: the part of
        one of several training processes.

    Raises
    ------
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
        dataset: Dataset,
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        rank: int = 0,
        processes: int = 1,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not len(dataset):
            raise ValueError(f"{dataset!r} has no images to make batches of")
        self.images_per_epoch = len(dataset)
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.augment = augment
        self.seed = seed
        self.rank, self.processes = rank, processes
        self.device = settings.device(device)
        self.images = dataset.images.to(self.device)
        self.labels = dataset.labels.to(self.device)
        self.mean, self.std = dataset.mean, dataset.std

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.images_per_epoch // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over every image once.

        Parameters
        ----------
        number
            Number of the epoch, from 0; it selects order and changes.
        start
            Batch to begin with, from 0.

        Yields
        ------
        images : Tensor
            Normalized float images, ``(N, C, H, W)``.
        labels : Tensor
            Class numbers, ``(N,)``.
        """
        seed = epoch_seed(self.seed, number)
        order = torch.arange(self.images_per_epoch)
        if self.shuffle:
            order = torch.randperm(len(order), generator=torch.Generator().manual_seed(seed))
        parts = share(order.to(self.device), self.batch_size, self.rank, self.processes)
        if self.augment is not None:
            size = tuple(self.images.shape[2:])
            changes = self.augment.draw(len(order), size, seed).to(self.device)
        for index in parts[start:]:
            images = self.images[index]
            if self.augment is None:
                images = normalize(images, self.mean, self.std)
            else:
                images = self.augment(images, changes[index], mean=self.mean, std=self.std)
            yield images, self.labels[index]
