"""Batches from a data set that fits into the device's memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from cnnbook import settings
from cnnbook.data.datasets import Dataset


class Batches:
    """Shuffled, normalised batches of a data set held on the device.

    The images stay uint8 on the device. Each batch is gathered by index, turned to float and
    normalised there, so no image passes through Python on its own.

    Parameters
    ----------
    dataset
        Where the images come from.
    batch_size
        Images per batch, N. The last batch of an epoch may be smaller.
    shuffle
        Whether to draw a new order for each epoch.
    seed
        Seed of the order. The order depends on seed and epoch only, not on the device.
    device
        Where to hold the data; the machine's fastest device if not given.

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
        seed: int = 0,
        device: torch.device | str | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not len(dataset):
            raise ValueError(f"{dataset!r} has no images to make batches of")
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.device = settings.device() if device is None else torch.device(device)
        self.images = dataset.images.to(self.device)
        self.labels = dataset.labels.to(self.device)
        # (v/255 - mean) / std, as one multiplication and one addition per pixel
        mean = torch.tensor(dataset.mean, device=self.device).view(-1, 1, 1)
        std = torch.tensor(dataset.std, device=self.device).view(-1, 1, 1)
        self._scale, self._shift = 1 / (255 * std), -mean / std

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self.labels) // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over every image once.

        Parameters
        ----------
        number
            Number of the epoch, from 0; it selects the order.

        Yields
        ------
        images : Tensor
            Normalised float images, ``(N, C, H, W)``.
        labels : Tensor
            Class numbers, ``(N,)``.
        """
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + number)
            order = torch.randperm(len(self.labels), generator=generator).to(self.device)
        else:
            order = torch.arange(len(self.labels), device=self.device)
        for index in order.split(self.batch_size):
            yield self.normalise(self.images[index]), self.labels[index]

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 images ``(N, C, H, W)`` into floats of mean 0 and deviation 1."""
        return images.float().mul_(self._scale).add_(self._shift)
