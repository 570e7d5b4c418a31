"""Data sets by name, and the kind of batches that each one needs."""

from pathlib import Path
from typing import Any, Literal, overload

from cnnbook._errors import unknown
from cnnbook.data.batches import Batches, BatchSource
from cnnbook.data.datasets import Dataset, digits, fashion_mini, fashion_mnist
from cnnbook.data.folder import ImageFolder, StreamingBatches, load_image_folder

_IN_MEMORY = {"fashion-mini": fashion_mini, "digits": digits, "fashion-mnist": fashion_mnist}
_FOLDER = "imagefolder:"


def list_datasets() -> list[str]:
    """Return the names of the data sets that :func:`load` accepts.

    Examples
    --------
    >>> list_datasets()
    ['fashion-mini', 'digits', 'fashion-mnist']
    """
    return list(_IN_MEMORY)


@overload
def load(
    name: Literal["fashion-mini", "digits", "fashion-mnist"],
    *,
    size: int | None = None,
    channels: int = 3,
    download: bool = True,
) -> tuple[Dataset, Dataset]: ...


@overload
def load(
    name: str, *, size: int | None = None, channels: int = 3, download: bool = True
) -> tuple[Dataset, Dataset] | tuple[ImageFolder, ImageFolder]: ...


def load(
    name: str, *, size: int | None = None, channels: int = 3, download: bool = True
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

    ``"imagefolder:PATH"`` is your own folder in ImageNet's layout, ``PATH/train/CLASS/*.jpg`` and
    ``PATH/val/CLASS/*.jpg``. Its images stay on disk and are read during training.

    Parameters
    ----------
    name
        ``"fashion-mini"``, ``"digits"``, ``"fashion-mnist"`` or ``"imagefolder:PATH"``.
    size
        If given, center the images on black squares of this side (see :meth:`Dataset.padded`).
        For an image folder, the height and width of the crops; 224 by default.
    channels
        For an image folder: 3 for color, 1 for gray.
    download
        Whether files that are not on this machine may be downloaded.

    Returns
    -------
    train, test : Dataset or ImageFolder
        The training and the test part.

    Raises
    ------
    ValueError
        For an unknown name, or a `size` smaller than the images.
    DataError
        If a file or folder is missing and cannot be downloaded, or is truncated or altered.

    Examples
    --------
    >>> train, test = load("fashion-mini", size=32)
    >>> train
    <fashion-mini train: 10,000 images of 1×32×32, 10 classes>
    """
    if isinstance(name, str) and name.startswith(_FOLDER):
        side = 224 if size is None else size
        return load_image_folder(name.removeprefix(_FOLDER), size=side, channels=channels)
    if not isinstance(name, str) or name not in _IN_MEMORY:
        if isinstance(name, str | Path) and Path(name).expanduser().is_dir():
            raise ValueError(f"{name} is a folder; use data.load('{_FOLDER}{name}')")
        raise unknown("data set", name, [*_IN_MEMORY, f"{_FOLDER}PATH"])
    train, test = _IN_MEMORY[name](download)
    if size is not None:
        train, test = train.padded(size), test.padded(size)
    return train, test


def make_batches(
    dataset: Dataset | ImageFolder | BatchSource, batch_size: int = 128, **options: Any
) -> BatchSource:
    """Return batches of a data set, in memory or on disk.

    Parameters
    ----------
    dataset
        Images in memory, an image folder, or a source of batches, which is returned unchanged.
    batch_size
        Images per batch.
    **options
        Passed to :class:`Batches` or :class:`StreamingBatches`.

    Raises
    ------
    TypeError
        For anything else.

    Examples
    --------
    >>> train, _ = load("digits")
    >>> batches = make_batches(train, 300, shuffle=False, device="cpu")
    >>> [len(y) for _, y in batches.epoch(0)]
    [300, 300, 300, 100]
    >>> make_batches(batches) is batches
    True
    """
    if isinstance(dataset, Dataset):
        return Batches(dataset, batch_size, **options)
    if isinstance(dataset, ImageFolder):
        return StreamingBatches(dataset, batch_size, **options)
    parts = ("epoch", "images_per_epoch", "batch_size", "__len__")
    lacking = [part for part in parts if not hasattr(dataset, part)]
    if not lacking and not isinstance(dataset, type):
        return dataset
    if isinstance(dataset, type):
        got = f"the class {dataset.__name__}: create one"
    elif "epoch" not in lacking:
        got = f"{type(dataset).__name__}, which lacks {' and '.join(lacking)}, see BatchSource"
    else:
        got = (
            f"{type(dataset).__name__}. Make one: data.Dataset(name, images, labels, classes, "
            "mean, std) of uint8 images, or for other data an object like data.BatchSource"
        )
    raise TypeError(f"expected a Dataset, an ImageFolder or a source of batches, got {got}")
