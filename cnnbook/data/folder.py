"""Data sets too large for memory: folders of images, read during training."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from cnnbook import settings
from cnnbook._checks import check_count, is_index
from cnnbook._errors import counted
from cnnbook._files import expanded
from cnnbook._pictures import SUFFIXES, ThinPictureError, check_not_thin, open_picture
from cnnbook.data.augment import Augment
from cnnbook.data.batches import check_batch_options, check_dataset, share
from cnnbook.data.checks import check_epoch, check_index, check_several
from cnnbook.data.datasets import Indices
from cnnbook.data.files import DataError
from cnnbook.data.pixels import normalize
from cnnbook.data.seeds import epoch_seed, generator, torch_seed
from cnnbook.data.splits import stratified
from cnnbook.data.workers import LeavingSignals, end_at_exit

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# For gray images: the mean over the three color channels.
GRAY_MEAN, GRAY_STD = (0.449,), (0.226,)
# Of files beside the images, those that nobody takes for one.
_NO_IMAGES = {"", ".csv", ".db", ".ini", ".json", ".md", ".txt", ".xml", ".yaml", ".yml"}


@dataclass(frozen=True, eq=False)
class ImageFolder(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Images in one folder per class, ImageNet's layout.

    It is a :class:`torch.utils.data.Dataset`, too: ``dataset[i]`` reads image ``i`` and returns
    ``(image, label)``: cropped (at random in the training part, by torch's random numbers),
    normalized as in training, float32 ``(C, size, size)``, and the label, an integer. So it works
    in a ``DataLoader``, with any number of workers. A slice, a list or an index tensor gives an
    image folder.

    Files are JPEG, PNG, WebP, TIFF, GIF (its first frame), BMP, PPM, PGM or PBM, as their content
    says. Photographs are turned upright as their EXIF data say; of 16 bits per pixel, the upper
    eight are kept; transparency is dropped, as in torchvision.

    Parameters
    ----------
    name
        Name of the data set and its part.
    folder
        Folder that contains one folder per class.
    paths
        Paths relative to `folder`, as an array of bytes: a million strings would be copied into
        each worker process.
    labels
        int64, ``(N,)``.
    classes
        Names of the classes.
    train
        True for random crops (as in Szegedy et al. 2015, Section 6), half of them mirrored; False
        for center crops.
    size
        Height and width of the crops, in pixels.
    channels
        3 for color, 1 for gray.
    mean, std
        Mean and standard deviation per channel, to normalize with.
    margin
        For center crops: the shorter side is first resized to `margin` times `size`. The usual
        ratio is 256 to 224 pixels; with 1 the crop is the largest square.

    Examples
    --------
    Only file names are read until an image is requested:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from cnnbook import data
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for part in ("train", "val"):
    ...         for color in ("blue", "red"):
    ...             folder = Path(root, part, color)
    ...             folder.mkdir(parents=True)
    ...             Image.new("RGB", (40, 30), color).save(folder / "1.png")
    ...     _, test = data.load(f"imagefolder:{root}", size=16)
    ...     picture = test.read(1, test.transform())
    ...     normalized, label = test[1]
    >>> test.classes, test.labels.tolist()
    (('blue', 'red'), [0, 1])
    >>> picture.shape, picture[:, 8, 8].tolist()
    (torch.Size([3, 16, 16]), [255, 0, 0])
    >>> normalized.dtype, label
    (torch.float32, 1)
    """

    name: str
    folder: Path
    paths: NDArray[np.bytes_]
    labels: Tensor
    classes: tuple[str, ...]
    train: bool
    size: int = 224
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    margin: float = 256 / 224

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    @overload
    def __getitem__(self, index: Indices) -> "ImageFolder": ...

    def __getitem__(self, index: int | Indices) -> "tuple[Tensor, int] | ImageFolder":
        """Read one image and its label, or return several as an image folder.

        Parameters
        ----------
        index
            As in :class:`Dataset`.

        Returns
        -------
        tuple or ImageFolder
            For an integer, the normalized image, float32 ``(C, size, size)``, and its label.

        Raises
        ------
        IndexError
            If there is no such image.
        DataError
            If its file cannot be read.
        """
        if is_index(index):
            i = check_index(index, len(self))
            image = normalize(self.read(i, self.transform())[None], self.mean, self.std)[0]
            return image, int(self.labels[i])
        check_several(index)
        chosen = torch.arange(len(self))[index]
        return replace(self, paths=self.paths[chosen.numpy()], labels=self.labels[chosen])

    def __repr__(self) -> str:
        """Return name, size and shape."""
        shape = f"{self.channels}×{self.size}×{self.size}"
        n, classes = counted(len(self), "image"), counted(len(self.classes), "class")
        return f"<{self.name}: {n}, cropped to {shape}, {classes}>"

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple["ImageFolder", "ImageFolder"]:
        """Set a part aside, with the same share of every class; see :meth:`Dataset.split`.

        Returns
        -------
        train, val : ImageFolder
            What is left, transformed as before, and what is set aside, with center crops.
        """
        left, drawn = stratified(self.labels, fraction, seed)
        name = self.name.removesuffix(" train")
        parts = (
            (f"{name} train", left, self.train),
            (f"{name} val", drawn, False),
        )
        train, val = (replace(self[i], name=part, train=random) for part, i, random in parts)
        return train, val

    def transform(self) -> Callable[[Any], Tensor]:
        """Return torchvision's transform from a PIL image to uint8 ``(C, size, size)``."""
        from torchvision.transforms import v2

        if self.train:
            steps = [v2.RandomResizedCrop(self.size, antialias=True), v2.RandomHorizontalFlip()]
        else:
            shorter = round(self.size * self.margin)
            steps = [_RefuseThin(shorter), v2.Resize(shorter), v2.CenterCrop(self.size)]
        to_uint8: Callable[[Any], Tensor] = v2.Compose([*steps, v2.PILToTensor()])
        return to_uint8

    def read(self, index: int, transform: Callable[[Any], Tensor]) -> Tensor:
        """Return image `index`, transformed.

        Raises
        ------
        DataError
            If the file is missing, a folder, or cannot be read as an image, or if the image is so
            thin that it would be huge with its shorter side resized.
        """
        image = self._decoded(index)
        try:
            return transform(image)
        except ThinPictureError as error:
            raise DataError(f"{self._path(index)} cannot be used: {error}") from None

    def _path(self, index: int) -> Path:
        return self.folder / os.fsdecode(bytes(self.paths[index]))

    def _decoded(self, index: int) -> Any:
        path = self._path(index)
        try:
            return open_picture(path, self.channels)
        except FileNotFoundError:
            raise DataError(f"there is no file {path}") from None
        except IsADirectoryError:
            raise DataError(f"{path} is a folder; name the pictures in it ({path}/*.png)") from None
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise DataError(
                f"{path} is damaged or not an image ({error}). Replace it or leave it out"
            ) from None


@dataclass(frozen=True)
class _RefuseThin:
    """A transform that returns a PIL image as it is, unless resizing would make it huge."""

    shorter: int

    def __call__(self, image: Any) -> Any:
        width, height = image.size
        check_not_thin(width, height, self.shorter)
        return image


def load_image_folder(
    path: str | Path,
    *,
    size: int = 224,
    channels: int = 3,
    name: str | None = None,
    class_names: Mapping[str, str] | None = None,
) -> tuple[ImageFolder, ImageFolder]:
    """Load a data set in ImageNet's layout, ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``.

    Folders inside a class are read as well; links are followed, to each folder once, but not to a
    folder above. Hidden files and folders, such as macOS's ``._1.jpg``, are left out in silence;
    pipes, links to nothing and images of other formats with a warning that counts them per class.

    Parameters
    ----------
    path
        Folder that contains ``train`` and ``val`` (or ``test``).
    size
        Height and width of the crops, in pixels.
    channels
        3 for color, 1 for gray.
    name
        Name of the data set; the folder's by default.
    class_names
        Readable names of the classes, by the names of their folders.

    Returns
    -------
    train, test : ImageFolder
        Only paths and labels are held in memory.

    Raises
    ------
    DataError
        If folders are missing, empty or cannot be listed, or the two parts have different classes.
    """
    path = expanded(path)
    if channels not in (1, 3):
        raise ValueError(f"images have 1 or 3 channels, got channels={channels}")
    check_count("size", size)
    parts = [path / n for n in ("val", "test")]
    test_folder = next((part for part in parts if os.path.isdir(part)), parts[0])
    for folder in (path / "train", test_folder):
        if not os.path.isdir(folder):
            raise DataError(
                f"there is no folder {folder}; an image folder has train/CLASS/IMAGE.jpg and "
                "val/CLASS/IMAGE.jpg"
            )
    classes = tuple(sorted(_classes(path / "train")))
    if not classes:
        raise DataError(
            f"{path / 'train'} contains no folder of a class: there is nothing to learn"
        )
    unknown = sorted(_classes(test_folder) - set(classes))
    if unknown:
        raise DataError(
            f"{test_folder} has classes that {path / 'train'} does not have, so they could not be "
            f"learned: {unknown[:5]}"
        )
    options: dict[str, Any] = {"size": size, "channels": channels}
    if channels == 1:
        options |= {"mean": GRAY_MEAN, "std": GRAY_STD}
    name = path.name if name is None else name
    train = _scan(path / "train", classes, f"{name} train", train=True, **options)
    test = _scan(test_folder, classes, f"{name} test", train=False, **options)
    if class_names is not None:
        readable = tuple(class_names.get(c, c) for c in classes)
        train, test = replace(train, classes=readable), replace(test, classes=readable)
    return train, test


def _hidden(name: str) -> bool:
    """Whether a file or folder is no picture or class but what a system or editor left behind."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def _leads_up(folder: str | Path) -> bool:
    """Whether a folder is a link to a folder that contains it."""
    target, parent = os.path.realpath(folder), os.path.realpath(os.path.dirname(folder))
    return os.path.commonpath([target, parent]) == target


def _listed(folder: str | Path) -> tuple[list[str], list[os.DirEntry[str]]]:
    """Return the folders in a folder, and whatever else is in it, without what is hidden.

    Links to folders are folders, except those to a folder above.

    Raises
    ------
    DataError
        If it cannot be listed.
    """
    folders, others = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                linked = entry.is_symlink()
                if _hidden(entry.name) or (linked and _leads_up(entry.path)):
                    continue
                # Of a link that leads to itself, entry.is_dir() raises an error.
                if os.path.isdir(entry.path) if linked else entry.is_dir():
                    folders.append(entry.path)
                else:
                    others.append(entry)
    except OSError as error:
        raise _cannot_list(folder, error) from None
    return sorted(folders), others


def _cannot_list(folder: str | Path, error: OSError) -> DataError:
    return DataError(f"{folder} cannot be listed: {error.strerror or error}")


def _classes(folder: Path) -> set[str]:
    return {os.path.basename(inner) for inner in _listed(folder.absolute())[0]}


def _images(start: str, left_out: Counter[str]) -> Iterator[str]:
    """Yield the path of every image below a folder, and count what is left out, by its kind.

    Links are followed, but to each folder only once.
    """
    waiting, seen = [start], set()
    while waiting:
        folder = waiting.pop()
        try:
            found = os.stat(folder)
        except OSError as error:
            raise _cannot_list(folder, error) from None
        if (found.st_dev, found.st_ino) in seen:
            continue
        seen.add((found.st_dev, found.st_ino))
        folders, files = _listed(folder)
        waiting += reversed(folders)
        for file in files:
            suffix = os.path.splitext(file.name)[1].lower()
            linked = file.is_symlink()
            if suffix not in SUFFIXES:
                if suffix not in _NO_IMAGES:
                    left_out[suffix] += 1
            elif os.path.isfile(file.path) if linked else file.is_file():
                yield file.path
            else:
                left_out["special file" if os.path.exists(file.path) else "dangling link"] += 1


def _scan(folder: Path, classes: tuple[str, ...], part: str, **options: Any) -> ImageFolder:
    paths: list[bytes] = []
    labels: list[int] = []
    reports = []
    start = str(folder.absolute())
    for label, class_name in enumerate(classes):
        left_out: Counter[str] = Counter()
        inside = os.path.join(start, class_name)
        if os.path.isdir(inside):  # a class need not be in both parts
            found = list(_images(inside, left_out))
            paths += [os.fsencode(file.removeprefix(start + os.sep)) for file in found]
            labels += [label] * len(found)
        if left_out:
            kinds = sorted(left_out.items())
            counts = ", ".join(f"{n} {k}" if k[0] == "." else counted(n, k) for k, n in kinds)
            reports.append(f"{class_name}: {counts}")
    if reports:
        more = f"; and of {len(reports) - 20} more classes" if len(reports) > 20 else ""
        said = "; ".join(reports[:20])
        warnings.warn(f"{start}: left out, as they cannot be read: {said}{more}", stacklevel=4)
    if not paths:
        raise DataError(f"{folder} contains no images ({', '.join(sorted(SUFFIXES))})")
    order = sorted(range(len(paths)), key=lambda i: (labels[i], paths[i]))
    return ImageFolder(
        part,
        folder,
        np.array([paths[i] for i in order]),
        torch.tensor([labels[i] for i in order]),
        classes,
        **options,
    )


class StreamingBatches:
    """Batches of an image folder, decoded in advance by worker processes.

    Workers read, crop and resize; the device converts bytes to floats, augments and normalizes,
    as :class:`Batches` does.

    Parameters
    ----------
    dataset
        The image folder.
    batch_size, shuffle, augment, seed, device, rank, world_size
        As for :class:`Batches`.
    workers
        Number of worker processes: 0 reads in this process; by default it depends on the number
        of CPU cores.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from PIL import Image
    >>> from cnnbook import data
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for part in ("train", "val"):
    ...         folder = Path(root, part, "red")
    ...         folder.mkdir(parents=True)
    ...         for name in ("1.png", "2.png", "3.png"):
    ...             Image.new("RGB", (40, 30), "red").save(folder / name)
    ...     train, _ = data.load(f"imagefolder:{root}", size=16)
    ...     batches = StreamingBatches(train, 2, device="cpu", workers=0)
    ...     shapes = [tuple(x.shape) for x, y in batches.epoch(0)]
    >>> shapes
    [(2, 3, 16, 16), (1, 3, 16, 16)]
    """

    def __init__(
        self,
        dataset: ImageFolder,
        batch_size: int = 128,
        *,
        shuffle: bool = True,
        augment: Augment | None = None,
        seed: int = 0,
        device: torch.device | str | None = None,
        rank: int = 0,
        world_size: int = 1,
        workers: int | None = None,
    ):
        check_dataset(dataset, ImageFolder)
        check_batch_options(batch_size, augment)
        self.images_per_epoch, self.batch_size = len(dataset), batch_size
        self.augment = augment
        self.dataset, self.seed = dataset, seed
        self.device = settings.device(device)
        if workers is None:
            workers = min(8, (os.cpu_count() or 1) // world_size)
        self._plan = _Plan(len(dataset), batch_size, shuffle, seed, rank, world_size)
        # Workers persist over all epochs: starting them takes seconds.
        self._loader = DataLoader(
            _Reader(dataset),
            batch_sampler=self._plan,
            collate_fn=_Stack(dataset.channels, dataset.size),
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=LeavingSignals() if workers else None,
        )
        end_at_exit(self._loader)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-self.images_per_epoch // self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over every image once; see :meth:`Batches.epoch`."""
        check_epoch(number, start)
        self._plan.number, self._plan.start = number, start
        if self.augment is not None:
            size = (self.dataset.size, self.dataset.size)
            params = self.augment.draw(self.images_per_epoch, size, epoch_seed(self.seed, number))
            params = params.to(self.device)
        mean, std = self.dataset.mean, self.dataset.std
        for batch in self._loader:
            if isinstance(batch, DataError):
                raise batch
            images, labels, index = batch
            images = images.to(self.device, non_blocking=True)
            if self.augment is None:
                images = normalize(images, mean, std)
            else:
                index = index.to(self.device, non_blocking=True)
                images = self.augment(images, params[index], mean=mean, std=std)
            yield images, labels.to(self.device, non_blocking=True)


class _Plan:
    """The images, and the seed of each one's crop, in every batch of this process."""

    def __init__(self, images: int, batch_size: int, shuffle: bool, seed: int, *process: int):
        self.images, self.batch_size, self.shuffle = images, batch_size, shuffle
        self.seed, self.process = seed, process
        self.number = self.start = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        seed = epoch_seed(self.seed, self.number)
        order = torch.arange(self.images)
        if self.shuffle:
            order = torch.randperm(self.images, generator=generator(seed))
        for batch in share(order, self.batch_size, *self.process)[self.start :]:
            # Each image has its own seed, so neither workers nor resuming change its crop.
            yield [(i, torch_seed(seed * self.images + i)) for i in batch.tolist()]

    def __len__(self) -> int:
        return -(-self.images // self.batch_size)


class _Reader(torch.utils.data.Dataset[tuple[Tensor, int, int] | DataError]):
    """Images with their labels and numbers; an error, if a file cannot be read.

    Raised in a worker, it would arrive with the worker's whole traceback in its message.
    """

    def __init__(self, folder: ImageFolder):
        self.folder, self.transform = folder, folder.transform()

    def __getitem__(self, item: tuple[int, int]) -> tuple[Tensor, int, int] | DataError:
        index, seed = item
        with torch.random.fork_rng([]):
            # Not torch.manual_seed, which would seed the GPU's generator as well.
            torch.default_generator.manual_seed(seed)
            try:
                image = self.folder.read(index, self.transform)
            except DataError as error:
                return error
            return image, int(self.folder.labels[index]), index


class _Stack:
    def __init__(self, channels: int, size: int):
        self.empty = torch.empty(0, channels, size, size, dtype=torch.uint8)

    def __call__(
        self, items: list[tuple[Tensor, int, int] | DataError]
    ) -> tuple[Tensor, Tensor, Tensor] | DataError:
        read = []
        for item in items:
            if isinstance(item, DataError):
                return item
            read.append(item)
        # In a small last batch, a process may have no image.
        images = torch.stack([image for image, _, _ in read]) if read else self.empty
        labels = torch.tensor([label for _, label, _ in read], dtype=torch.int64)
        return images, labels, torch.tensor([i for _, _, i in read], dtype=torch.int64)
