"""Batches of any data set of torch's: one that is indexed and gives pairs (image, label)."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cnnbook import settings
from cnnbook.data.augment import Augment
from cnnbook.data.batches import as_images, as_labels, check_batch_options, share
from cnnbook.data.checks import check_epoch
from cnnbook.data.randomness import kept, seed_all
from cnnbook.data.seeds import epoch_seed, generator


class ItemBatches:
    """Shuffled batches of a map-style data set, read item by item in this process.

    Whatever an item's transforms draw at random, from the global generators of torch, Python or
    NumPy, depends on seed, epoch and item alone, and the caller's random state stays as it was.

    Parameters
    ----------
    dataset
        Anything with a length and items ``(image, label)``: a PIL image, a tensor or an array, and
        an integer or a tensor.
    batch_size, shuffle, augment, seed, device, rank, world_size
        As for :class:`cnnbook.data.Batches`. `augment` is applied to whole batches on the device.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ):
        check_batch_options(batch_size, augment)
        self.dataset, self.name = dataset, type(dataset).__name__
        self.images_per_epoch, self.batch_size = len(dataset), batch_size
        if not self.images_per_epoch:
            raise ValueError(f"the {self.name} has no images to make batches of")
        self.shuffle, self.augment, self.seed = shuffle, augment, seed
        self.rank, self.world_size = rank, world_size
        self.device = settings.device(device)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.images_per_epoch // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over every image once; see :meth:`cnnbook.data.Batches.epoch`."""
        check_epoch(number, start)
        seed = epoch_seed(self.seed, number)
        order = torch.arange(self.images_per_epoch)
        if self.shuffle:
            order = torch.randperm(len(order), generator=generator(seed))
        params, size = None, None
        for index in share(order, self.batch_size, self.rank, self.world_size)[start:]:
            images, labels = self._read(index.tolist(), seed)
            images = images.to(self.device)
            if self.augment is not None:
                if params is None or size != images.shape[2:]:
                    size = images.shape[2:]
                    params = self.augment.draw(len(order), (size[0], size[1]), seed)
                images = self.augment(images, params[index].to(self.device))
            yield as_images(images), labels.to(self.device)

    def _read(self, index: list[int], seed: int) -> tuple[Tensor, Tensor]:
        with kept():
            # A process without a part of a small last batch reads one image all the same: an empty
            # batch needs its shape.
            pairs = [self._item(i, seed) for i in index or [0]]
        first = pairs[0]
        for i, pair in zip(index, pairs, strict=False):
            for what, one, other in zip(("image", "label"), first, pair, strict=True):
                if one.shape != other.shape or one.dtype != other.dtype:
                    cure = ""
                    if what == "image" and one.shape[:-2] != other.shape[:-2]:
                        cure = ". Convert all of them to one mode, such as v2.RGB()"
                    elif what == "image" and one.shape != other.shape:
                        cure = (
                            ". Add a transform that makes their sizes equal, such as "
                            "v2.Resize((224, 224)), or v2.Resize(256) and v2.CenterCrop(224)"
                        )
                    raise ValueError(
                        f"the {self.name}'s {what}s differ: that of item {index[0]} is "
                        f"{one.dtype} of shape {tuple(one.shape)}, that of item {i} {other.dtype} "
                        f"of shape {tuple(other.shape)}{cure}"
                    )
        images, labels = (torch.stack(part) for part in zip(*pairs, strict=True))
        return images[: len(index)], as_labels(labels[: len(index)])

    def _item(self, i: int, seed: int) -> tuple[Tensor, Tensor]:
        # Each image has its own seed, so neither batch size nor resuming change its transforms.
        seed_all(seed * self.images_per_epoch + i)
        item = self.dataset[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise TypeError(
                f"item {i} of the {self.name} is {describe(item)}; a pair (image, label) is "
                "needed. Wrap it in a data set whose __getitem__ returns one"
            )
        image, label = item
        return image_tensor(image, f"the image of item {i}"), label_tensor(label, i)


def describe(item: object) -> str:
    """Describe what is not a pair of images and labels."""
    if isinstance(item, dict):
        return f"a dictionary with the keys {', '.join(map(repr, item))}"
    if isinstance(item, tuple | list):
        return f"a {type(item).__name__} of {len(item)}"
    return f"of type {type(item).__name__}"


def image_tensor(image: Any, what: str) -> Tensor:
    """Return an image as a tensor ``(C, H, W)``, bytes as bytes.

    Parameters
    ----------
    image
        A PIL image; a tensor; or an array ``(H, W)``, ``(H, W, C)`` or ``(C, H, W)``.
    what
        How an error names it.
    """
    if isinstance(image, Tensor):
        return image.detach()
    if isinstance(image, np.ndarray):
        return _from_array(image, what)
    if hasattr(image, "getbands") and hasattr(image, "convert"):
        return _from_pil(image, what)
    raise TypeError(f"{what} is of type {type(image).__name__}; a PIL image or a tensor is needed")


def _from_array(image: Any, what: str) -> Tensor:
    if image.ndim == 2:
        image = image[None]
    elif image.ndim == 3:
        channels = (1, 3, 4)
        first, last = image.shape[0] in channels, image.shape[2] in channels
        if first == last:
            raise ValueError(
                f"{what} is an array of shape {image.shape}: it is not clear which axis holds the "
                "channels. Return a tensor (C, H, W)"
            )
        image = image.transpose(2, 0, 1) if last else image
    return torch.from_numpy(np.ascontiguousarray(image))


def _from_pil(image: Any, what: str) -> Tensor:
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{what} is a PIL image of mode {image.mode!r}, whose range is unknown: convert it to "
            "a tensor in a transform, or to mode 'L' or 'RGB'"
        )
    if image.mode.startswith("I;16"):
        return torch.from_numpy(np.array(image).astype(np.float32) / 65535)[None]
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    array = np.array(image)  # a copy: torch may not share a picture's own memory
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def label_tensor(label: Any, i: int) -> Tensor:
    """Return the label of item `i` as a tensor."""
    if isinstance(label, Tensor):
        return label.detach()
    if isinstance(label, int | float | np.number | np.bool_):
        tensor = torch.as_tensor(label)
        # Python's floats are double, which would make the loss so.
        return tensor.float() if tensor.dtype == torch.float64 else tensor
    if isinstance(label, np.ndarray):
        return torch.from_numpy(label)
    raise TypeError(
        f"the label of item {i} is {label!r}; an integer, the number of its class, is needed"
    )
