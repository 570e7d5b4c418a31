"""CIFAR-10 and CIFAR-100, from the archives of the binary version (nothing is unpickled)."""

import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cnnbook.data.datasets import Dataset, two_parts
from cnnbook.data.files import Archive, DataError, check_archive, find

_PIXELS = 3 * 32 * 32
_MIRROR = "https://mindspore-website.obs.cn-north-4.myhuaweicloud.com/notebook/datasets/"


@dataclass(frozen=True)
class Cifar:
    """What an archive of the binary version contains (https://www.cs.toronto.edu/~kriz/cifar.html).

    Parameters
    ----------
    name
        Name of the data set.
    archive
        The published file.
    folder
        The folder in the archive.
    train, test
        Its files of training and of test images: labels, one byte each, followed by 3,072 bytes of
        pixels, the red ones first, row by row.
    names
        Its list of class names.
    labels
        Labels of an image; the last one is used (CIFAR-100 has the superclass before it).
    classes
        Number of classes.
    images
        Images in each training file and each test file.
    """

    name: str
    archive: Archive
    folder: str
    train: Sequence[str]
    test: Sequence[str]
    names: str
    labels: int
    classes: int
    images: tuple[int, int]


# SHA-256 as in the list of TensorFlow Datasets.
CIFAR10 = Cifar(
    name="cifar10",
    archive=Archive(
        "cifar-10-binary.tar.gz",
        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            _MIRROR + "cifar-10-binary.tar.gz",
        ),
        170_052_171,
    ),
    folder="cifar-10-batches-bin",
    train=[f"data_batch_{i}.bin" for i in range(1, 6)],
    test=["test_batch.bin"],
    names="batches.meta.txt",
    labels=1,
    classes=10,
    images=(10_000, 10_000),
)
CIFAR100 = Cifar(
    name="cifar100",
    archive=Archive(
        "cifar-100-binary.tar.gz",
        "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        (
            "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
            _MIRROR + "cifar-100-binary.tar.gz",
        ),
        168_513_733,
    ),
    folder="cifar-100-binary",
    train=["train.bin"],
    test=["test.bin"],
    names="fine_label_names.txt",
    labels=2,
    classes=100,
    images=(50_000, 10_000),
)


def load_cifar(spec: Cifar, *, download: bool) -> tuple[Dataset, Dataset]:
    """Read the data set from the first folder that has its archive.

    Parameters
    ----------
    spec
        Which of them.
    download
        Whether it may be downloaded.

    Returns
    -------
    train, test : Dataset

    Raises
    ------
    DataError
        If the archive is missing, or holds something else.
    """
    path = find(spec.name, spec.archive, download=download)
    check_archive(path, spec.archive)
    contents = _members(path, spec)
    names = contents[spec.names].decode(errors="replace").split()
    if len(names) != spec.classes:
        raise DataError(f"{path}: {spec.names} lists {len(names)} classes, not {spec.classes}")
    classes = tuple(name.replace("_", " ") for name in names)
    parts = []
    for files, images in zip((spec.train, spec.test), spec.images, strict=True):
        read = [_images(path, name, contents.pop(name), images, spec) for name in files]
        parts.append([torch.cat(tensors) for tensors in zip(*read, strict=True)])
    (train_images, train_labels), (test_images, test_labels) = parts
    return two_parts(spec.name, train_images, train_labels, test_images, test_labels, classes)


def _members(path: Path, spec: Cifar) -> dict[str, bytearray]:
    """Return the content of the files needed, by name."""
    wanted = {*spec.train, *spec.test, spec.names}
    contents = {}
    try:
        with tarfile.open(path, "r:gz") as tar:
            for member in tar:
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder == spec.folder and name in wanted and member.isreg():
                    stream = tar.extractfile(member)
                    contents[name] = bytearray(stream.read() if stream else b"")
    except Exception as error:  # tarfile raises many kinds, RecursionError for one
        raise DataError(f"{path} cannot be read ({error}). Delete it and run again") from None
    missing = sorted(wanted - {*contents})
    if missing:
        raise DataError(f"{path} contains no {spec.folder}/{missing[0]}")
    return contents


def _images(
    path: Path, name: str, content: bytearray, images: int, spec: Cifar
) -> tuple[Tensor, Tensor]:
    size = spec.labels + _PIXELS
    if len(content) != images * size:
        raise DataError(
            f"{path}: {name} holds {len(content):,} bytes; {images:,} images of {size:,} bytes "
            f"are {images * size:,}"
        )
    records = torch.frombuffer(content, dtype=torch.uint8).view(images, size)
    labels = records[:, spec.labels - 1]
    if labels.max() >= spec.classes:
        raise DataError(f"{path}: {name} has a label {labels.max()} among {spec.classes} classes")
    return records[:, spec.labels :].reshape(images, 3, 32, 32), labels
