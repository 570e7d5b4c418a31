"""The images that experiments train on: training, validation and test part."""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from cnnbook import data


def load_parts(settings: Mapping[str, Any]) -> tuple[data.Dataset, data.Dataset, data.Dataset]:
    """Return training, validation and test images as an experiment's settings say.

    Parameters
    ----------
    settings
        ``"data"``, the name of a data set; ``"val_images"``, how many are set aside to choose
        learning rates; ``"images"``, how many are trained on (all others if missing or None);
        ``"shrink"``, by how much height and width are divided (1 if missing).

    Returns
    -------
    train, val, test : Dataset
        Each with the same share of every class as the whole.

    Raises
    ------
    ValueError
        If the data set is unknown, is not read into memory, or has too few images.

    Examples
    --------
    >>> parts = load_parts({"data": "digits", "val_images": 100, "images": 300})
    >>> [len(part) for part in parts]
    [300, 100, 740]
    """
    shrink, images = settings.get("shrink", 1), settings.get("images")
    return _load(settings["data"], shrink, images, settings["val_images"])


@lru_cache(maxsize=4)  # many trainings in one process use the same
def _load(
    source: str, shrink: int, images: int | None, val_images: int
) -> tuple[data.Dataset, data.Dataset, data.Dataset]:
    train, test = data.load(source)
    if not isinstance(train, data.Dataset) or not isinstance(test, data.Dataset):
        raise ValueError(
            f"experiments train on images in memory, which {source!r} is not; use one of: "
            f"{', '.join(name for name in data.list_datasets() if name != 'imagenette')}"
        )
    wanted = val_images + (images or 1)
    if wanted > len(train):
        raise ValueError(f"{wanted:,} images are needed, and {source!r} has {len(train):,}")
    if shrink > 1:
        train, test = shrunk(train, shrink), shrunk(test, shrink)
    train, val = train.split(val_images / len(train))
    if images is not None and images < len(train):
        _, train = train.split(images / len(train), seed=1)
    return train, val, test


def shrunk(dataset: data.Dataset, times: int) -> data.Dataset:
    """Return images whose pixels are the means of `times` by `times` pixels.

    Examples
    --------
    >>> digits, _ = data.load("digits")
    >>> shrunk(digits, 2).images.shape[1:]
    torch.Size([1, 4, 4])
    """
    images = F.avg_pool2d(dataset.images.float(), times).round().to(torch.uint8)
    return replace(dataset, images=images)
