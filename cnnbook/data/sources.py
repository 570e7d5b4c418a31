"""Data sets by name, and the kind of batches that each one needs."""

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset, TensorDataset

from cnnbook._checks import no_tensor
from cnnbook._errors import unknown
from cnnbook._files import expanded
from cnnbook.data import cifar, imagenette
from cnnbook.data.augment import Augment
from cnnbook.data.batches import Batches, BatchSource
from cnnbook.data.cifar import load_cifar
from cnnbook.data.clutter import cluttered
from cnnbook.data.datasets import (
    FASHION_MNIST,
    Dataset,
    digits,
    fashion_mini,
    fashion_mnist,
    in_channels,
)
from cnnbook.data.files import Archive, IdxFile
from cnnbook.data.folder import ImageFolder, StreamingBatches, load_image_folder
from cnnbook.data.items import ItemBatches
from cnnbook.data.iterables import IterableBatches

DataLike: TypeAlias = (
    Dataset
    | ImageFolder
    | BatchSource
    | torch.utils.data.Dataset[Any]
    | tuple[Tensor, Tensor]
    | Iterable[tuple[Tensor, Tensor]]
    | Iterable[list[Tensor]]
)


def _cifar10(download: bool) -> tuple[Dataset, Dataset]:
    return load_cifar(cifar.CIFAR10, download=download)


def _cifar100(download: bool) -> tuple[Dataset, Dataset]:
    return load_cifar(cifar.CIFAR100, download=download)


def _cluttered_fashion(download: bool) -> tuple[Dataset, Dataset]:
    return _two_cluttered("cluttered-fashion", *fashion_mini(download))


def _cluttered_fashion_mnist(download: bool) -> tuple[Dataset, Dataset]:
    return _two_cluttered("cluttered-fashion-mnist", *fashion_mnist(download))


def _two_cluttered(name: str, train: Dataset, test: Dataset) -> tuple[Dataset, Dataset]:
    # Each part from its own images, placed at its own random numbers.
    train = cluttered(train, seed=0)
    test = cluttered(test, seed=1, normalize_as=train)
    return replace(train, name=f"{name} train"), replace(test, name=f"{name} test")


_IN_MEMORY: dict[str, Callable[[bool], tuple[Dataset, Dataset]]] = {
    "fashion-mini": fashion_mini,
    "cluttered-fashion": _cluttered_fashion,
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "cluttered-fashion-mnist": _cluttered_fashion_mnist,
    "cifar10": _cifar10,
    "cifar100": _cifar100,
}
# Data sets that are made from others when they are loaded.
MADE_FROM = {
    "cluttered-fashion": "fashion-mini",
    "cluttered-fashion-mnist": "fashion-mnist",
}
_FOLDER = "imagefolder:"


def published_files(name: str) -> tuple[IdxFile | Archive, ...]:
    """Return the files that data set `name` is downloaded as; none for those in the package."""
    files: dict[str, tuple[IdxFile | Archive, ...]] = {
        "fashion-mnist": FASHION_MNIST,
        "cifar10": (cifar.CIFAR10.archive,),
        "cifar100": (cifar.CIFAR100.archive,),
        "imagenette": (imagenette.ARCHIVE,),
    }
    return files.get(name, ())


def list_datasets() -> list[str]:
    """Return the names of the data sets that :func:`load` accepts.

    Examples
    --------
    >>> for name in list_datasets():
    ...     print(name)
    fashion-mini
    cluttered-fashion
    digits
    fashion-mnist
    cluttered-fashion-mnist
    cifar10
    cifar100
    imagenette
    """
    return [*_IN_MEMORY, "imagenette"]


@overload
def load(
    name: Literal[
        "fashion-mini",
        "cluttered-fashion",
        "digits",
        "fashion-mnist",
        "cluttered-fashion-mnist",
        "cifar10",
        "cifar100",
    ],
    *,
    size: int | None = None,
    channels: int | None = None,
    download: bool = True,
) -> tuple[Dataset, Dataset]: ...


@overload
def load(
    name: Literal["imagenette"],
    *,
    size: int | None = None,
    channels: int | None = None,
    download: bool = True,
) -> tuple[ImageFolder, ImageFolder]: ...


@overload
def load(
    name: str, *, size: int | None = None, channels: int | None = None, download: bool = True
) -> tuple[Dataset, Dataset] | tuple[ImageFolder, ImageFolder]: ...


def load(
    name: str, *, size: int | None = None, channels: int | None = None, download: bool = True
) -> tuple[Dataset, Dataset] | tuple[ImageFolder, ImageFolder]:
    """Load a data set.

    ``"fashion-mini"`` comes with the package: 10,000 training and 2,000 test images drawn from
    Fashion-MNIST. The classes take turns, so the first ``n`` images are balanced for every ``n``.

    ``"digits"`` also comes with the package: 1,000 training and 740 test images of handwritten
    digits, 8×8 pixels, balanced in the same way (Alpaydin and Kaynak 1998,
    doi:10.24432/C50P49). The same 13 people wrote both parts.

    ``"fashion-mnist"`` is the whole set (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747), 60,000
    and 10,000 images. It is searched for in ``$CNNBOOK_DATA/fashion-mnist``, in the user's cache
    folder and in ``/usr/share/datasets/fashion-mnist`` (Debian's package dataset-fashion-mnist). If
    it is in none of them, it is downloaded into ``$CNNBOOK_DATA`` or, if that is not set, the cache
    folder. Every file is checked against its SHA-256.

    ``"cluttered-fashion"`` and ``"cluttered-fashion-mnist"`` are made from ``"fashion-mini"`` and
    ``"fashion-mnist"`` by :func:`cluttered`: as many images of 64×64 pixels, on each a garment
    turned by up to ±60°, scaled by 0.8 to 1.3 and placed at random, among six fragments of others.
    They are the same on every machine; the whole set is made in seconds. The test part shows
    nothing but test images. :func:`cluttered` makes more of them, or easier and harder ones.

    ``"cifar10"`` and ``"cifar100"`` are 50,000 and 10,000 color photographs of 32×32 pixels in 10
    and in 100 classes (Krizhevsky 2009, "Learning multiple layers of features from tiny images"),
    searched for and downloaded in the same way, as the archives ``cifar-10-binary.tar.gz`` and
    ``cifar-100-binary.tar.gz`` in folders ``cifar10`` and ``cifar100``. The classes of CIFAR-100
    are the fine ones.

    ``"imagenette"`` is 9,469 and 3,925 photographs of ten classes of ImageNet
    (https://github.com/fastai/imagenette), with a shorter side of 160 pixels. Its archive,
    ``imagenette2-160.tgz``, is searched for and downloaded in the same way, and unpacked beside it
    or in the cache. Its images stay on disk, as those of a folder of yours.

    ``"imagefolder:PATH"`` is your own folder in ImageNet's layout, ``PATH/train/CLASS/*.jpg`` and
    ``PATH/val/CLASS/*.jpg``. Its images stay on disk and are read during training.

    Parameters
    ----------
    name
        One of :func:`list_datasets`, or ``"imagefolder:PATH"``.
    size
        If given, center the images on black squares of this side (see :meth:`Dataset.padded`).
        For an image folder and ``"imagenette"``, the height and width of the crops; 224 by default.
    channels
        3 for color, 1 for gray. If not given, 3 for an image folder and ``"imagenette"``, and for
        the other sets their own. Gray images become color images with three equal channels.
    download
        Whether files that are not on this machine may be downloaded.

    Returns
    -------
    train, test : Dataset or ImageFolder
        The training and the test part.

    Raises
    ------
    ValueError
        For an unknown name, a `size` smaller than the images, or `channels` other than 1 and 3.
    DataError
        If a file or folder is missing and cannot be downloaded, or is truncated or altered.

    Examples
    --------
    >>> train, test = load("fashion-mini", size=32)
    >>> train
    <fashion-mini train: 10,000 images of 1×32×32, 10 classes>
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"images have 1 or 3 channels, got channels={channels}")
    if isinstance(name, str) and name.startswith(_FOLDER):
        side = 224 if size is None else size
        return load_image_folder(name.removeprefix(_FOLDER), size=side, channels=channels or 3)
    if isinstance(name, str) and name == "imagenette":
        side = 224 if size is None else size
        return imagenette.load_imagenette(size=side, channels=channels or 3, download=download)
    if not isinstance(name, str) or name not in _IN_MEMORY:
        if isinstance(name, str | Path) and str(name) and os.path.isdir(expanded(name)):
            raise ValueError(f"{name} is a folder; use data.load('{_FOLDER}{name}')")
        raise unknown("data set", name, [*list_datasets(), f"{_FOLDER}PATH"])
    train, test = in_channels(*_IN_MEMORY[name](download), channels)
    if size is not None:
        train, test = train.padded(size), test.padded(size)
    return train, test


def make_batches(
    dataset: DataLike,
    batch_size: int = 128,
    *,
    shuffle: bool = True,
    augment: Augment | None = None,
    seed: int = 0,
    device: torch.device | str | None = None,
    rank: int = 0,
    world_size: int = 1,
    steps_per_epoch: int | None = None,
    workers: int | None = None,
) -> BatchSource:
    """Return batches of any data.

    ================================= ===========================================================
    data                              batches
    ================================= ===========================================================
    :class:`Dataset`                  normalized; gathered on the device (:class:`Batches`)
    :class:`ImageFolder`              normalized; read by workers (:class:`StreamingBatches`)
    ``(images, labels)``, two         gathered on the device; uint8 scaled to 0…1, floats as they
    tensors, or a ``TensorDataset``   are
    a map-style data set of torch's   items ``(image, label)`` read one by one in this process: a
    or torchvision's                  PIL image or bytes scaled to 0…1, floats as they are
    a ``DataLoader``, a list, a       its own batches ``(images, labels)``, moved to the device;
    generator, another iterable       uint8 scaled to 0…1, floats as they are
    :class:`BatchSource`              returned unchanged
    ================================= ===========================================================

    Labels of any type of integers become int64; those of a custom loss, floats, stay as they are.
    Parts of these, made by ``torch.utils.data.Subset``, ``random_split`` or ``ConcatDataset``, are
    taken as well, and remain as fast as the whole.

    Parameters
    ----------
    dataset
        The data, see above.
    batch_size
        Images per batch. What yields batches of its own, such as a ``DataLoader``, keeps its own
        size.
    shuffle
        Whether to draw a new order for each epoch. What yields batches of its own keeps its order.
    augment
        Random transforms, applied to whole batches on the device. Not for what yields batches of
        its own: transform the images before they become batches.
    seed
        Any integer: seed of the order, of `augment`, and of the random numbers that a data set's
        own transforms draw from torch, Python or NumPy. (A ``DataLoader`` with a ``generator`` of
        its own keeps the order that this one gives.)
    device
        Where the batches are; the machine's fastest device by default.
    rank, world_size
        This process's number, from 0, and the number of processes: each gets its part of every
        batch. A ``DistributedSampler`` has already divided the images; it is told the epoch, and
        used as it is.
    steps_per_epoch
        For an iterable: batches in an epoch, each going on where the last one ended. A
        ``DataLoader`` or list starts again at its end. Needed if there is no length.
    workers
        For an image folder: processes that read the images.

    Returns
    -------
    BatchSource

    Raises
    ------
    TypeError
        For data of another kind.
    ValueError
        If there are no images, an option does not suit the data, or an iterable has no length and
        `steps_per_epoch` is not given.

    Examples
    --------
    >>> train, _ = load("digits")
    >>> batches = make_batches(train, 300, shuffle=False, device="cpu")
    >>> [len(y) for _, y in batches.epoch(0)]
    [300, 300, 300, 100]
    >>> make_batches(batches) is batches
    True

    Two tensors; a loader of torch's; a generator without an end:

    >>> images, labels = torch.rand(10, 3, 8, 8), torch.arange(10) % 2
    >>> x, y = next(make_batches((images, labels), 5, device="cpu").epoch(0))
    >>> x.shape, y.dtype
    (torch.Size([5, 3, 8, 8]), torch.int64)
    >>> loader = torch.utils.data.DataLoader(train, batch_size=400, shuffle=True)
    >>> [len(y) for _, y in make_batches(loader, device="cpu").epoch(0)]
    [400, 400, 200]
    >>> def noise():
    ...     while True:
    ...         yield torch.rand(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64)
    >>> endless = make_batches(noise(), steps_per_epoch=25, device="cpu")
    >>> len(endless), endless.images_per_epoch
    (25, 100)
    """
    _check_pair_of_tensors(dataset)
    data = _simplest(dataset)
    where: dict[str, Any] = {
        "seed": seed,
        "device": device,
        "rank": rank,
        "world_size": world_size,
    }
    how = where | {"shuffle": shuffle, "augment": augment}
    if steps_per_epoch is not None and (_divisible(data) or _is_source(data)):
        raise ValueError(
            f"steps_per_epoch={steps_per_epoch} is for what yields batches of its own, such as a "
            f"generator; an epoch of a {type(dataset).__name__} is one pass over it"
        )
    if workers is not None and not isinstance(data, ImageFolder):
        raise ValueError(
            f"workers={workers} is for image folders; for a {type(dataset).__name__}, use a "
            "torch.utils.data.DataLoader(…, num_workers=…)"
        )
    if isinstance(data, Dataset) or _is_pair(data):
        return Batches(data, batch_size, **how)
    if isinstance(data, ImageFolder):
        return StreamingBatches(data, batch_size, workers=workers, **how)
    if _is_source(data):
        source: BatchSource = data
        return source
    if _is_map_style(data):
        return ItemBatches(data, batch_size, **how)
    if _is_iterable(data):
        if augment is not None:
            raise ValueError(
                f"augment={augment} cannot be applied to a {type(dataset).__name__}, which yields "
                "batches of its own: put the transforms into its data set, or pass the data set "
                "itself instead of a loader"
            )
        return IterableBatches(data, steps_per_epoch=steps_per_epoch, **where)
    raise _no_data(data)


def has_own_batches(dataset: object) -> bool:
    """Whether batch size and order are the data's own, as those of a ``DataLoader``."""
    data = _simplest(dataset)
    return not _divisible(data) and (_is_source(data) or _is_iterable(data))


def _simplest(dataset: Any) -> Any:
    """Return parts of data sets in memory or in folders as such a data set, if they are one."""
    if type(dataset) is Subset:
        whole = _simplest(dataset.dataset)
        indices = torch.as_tensor(list(dataset.indices), dtype=torch.int64)
        if isinstance(whole, Dataset | ImageFolder):
            return whole[indices]
        if _is_pair(whole):
            return whole[0][indices], whole[1][indices]
    if type(dataset) is TensorDataset and len(dataset.tensors) == 2:
        return dataset.tensors
    if type(dataset) is ConcatDataset:
        parts = [_simplest(part) for part in dataset.datasets]
        if all(isinstance(part, Dataset) and _alike(part, parts[0]) for part in parts):
            images, labels = (
                torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels")
            )
            return replace(parts[0], images=images, labels=labels)
    if isinstance(dataset, list) and _is_pair(tuple(dataset)):
        return tuple(dataset)
    return dataset


def _alike(one: Dataset, other: Dataset) -> bool:
    described = ((d.classes, d.mean, d.std, d.images.shape[1:]) for d in (one, other))
    first, second = described
    return first == second


def _is_pair(data: object) -> bool:
    return (
        isinstance(data, tuple)
        and len(data) == 2
        and all(isinstance(part, Tensor) for part in data)
    )


def _check_pair_of_tensors(data: object) -> None:
    """Refuse pairs of images and labels that are no tensors, or of which one is none."""
    if isinstance(data, tuple | list) and len(data) == 2:
        arrays = [type(part).__module__ == "numpy" for part in data]
        if any(arrays) or any(isinstance(part, Tensor) for part in data):
            for name, part in zip(("images", "labels"), data, strict=True):
                if not isinstance(part, Tensor):
                    raise no_tensor(name, part)


def _is_source(data: object) -> bool:
    parts = ("epoch", "images_per_epoch", "batch_size", "__len__")
    return not isinstance(data, type) and all(hasattr(data, part) for part in parts)


def _is_map_style(data: object) -> bool:
    if isinstance(data, type | IterableDataset) or not hasattr(data, "__getitem__"):
        return False
    torchs = isinstance(data, torch.utils.data.Dataset) and type(data).__getitem__ is not (
        torch.utils.data.Dataset.__getitem__
    )
    return hasattr(data, "__len__") and (torchs or not hasattr(data, "__iter__"))


def _divisible(data: object) -> bool:
    return isinstance(data, Dataset | ImageFolder) or _is_pair(data) or _is_map_style(data)


def _is_iterable(data: object) -> bool:
    if isinstance(data, type | str | bytes | dict | set | Tensor | Path):
        return False
    if type(data).__module__ == "numpy":
        return False
    if isinstance(data, torch.utils.data.Dataset) and not isinstance(data, IterableDataset):
        return False
    return hasattr(data, "__iter__")


def _no_data(data: Any) -> TypeError:
    """Build the error for what no batches can be made of."""
    if type(data).__module__ == "numpy":
        return no_tensor("images", data)
    hint = ""
    if isinstance(data, type):
        got = f"the class {data.__name__}: create one"
    elif hasattr(data, "epoch"):
        parts = ("epoch", "images_per_epoch", "batch_size", "__len__")
        lacking = [part for part in parts if not hasattr(data, part)]
        got = f"{type(data).__name__}, which lacks {' and '.join(lacking)}, see BatchSource"
    elif isinstance(data, Tensor):
        got = "a tensor without labels: pass a pair (images, labels)"
    elif isinstance(data, str):
        got = f"str {data!r}"
        hint = f". data.load({data!r}) loads a data set by its name"
    elif isinstance(data, dict):
        got = f"a dictionary with the keys {', '.join(map(repr, data))}: pass (images, labels)"
    elif isinstance(data, torch.utils.data.Dataset):
        got = f"{type(data).__name__}, a data set without a length"
    elif callable(data):
        got = f"{type(data).__name__}, which is callable: call it, and pass what it returns"
    else:
        got = type(data).__name__
    return TypeError(
        "expected a Dataset, an ImageFolder, a torch data set, a pair of tensors (images, labels), "
        f"a DataLoader or another iterable of such pairs, or a source of batches, got {got}{hint}"
    )
