"""Data sets held in memory, and those that the book uses."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cnnbook._checks import check_count, check_fits, is_index, no_tensor
from cnnbook._errors import counted
from cnnbook.data.checks import check_images, check_index, check_several, names, per_channel
from cnnbook.data.files import IdxFile, find, parse_idx, read_checked
from cnnbook.data.pixels import normalize
from cnnbook.data.splits import stratified

Indices = slice | list[int] | list[bool] | NDArray[Any] | Tensor

ASSETS = Path(__file__).parent / "assets"

FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

DIGIT_CLASSES = tuple("0123456789")

_MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
)


def _published(name: str, sha256: str, size: int) -> IdxFile:
    return IdxFile(name, sha256, [mirror + name for mirror in _MIRRORS], size)


# Train images, train labels, test images, test labels.
FASHION_MNIST = (
    _published(
        "train-images-idx3-ubyte.gz",
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        47_040_016,
    ),
    _published(
        "train-labels-idx1-ubyte.gz",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        60_008,
    ),
    _published(
        "t10k-images-idx3-ubyte.gz",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        7_840_016,
    ),
    _published(
        "t10k-labels-idx1-ubyte.gz",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        10_008,
    ),
)
FASHION_MINI = (
    IdxFile(
        "train-images-idx3-ubyte.xz",
        "68121e452b87b5ffd0a2e772a988175adf63a9eb9f3060834eb9893a641a1360",
    ),
    IdxFile(
        "train-labels-idx1-ubyte.xz",
        "2a4fb3eec0877aa3d4ab80d8f59374733af9b2b2966e8be0e50efe715f443a4d",
    ),
    IdxFile(
        "test-images-idx3-ubyte.xz",
        "25f7a61e3aa1fd43bb901f99161c7e38a909f8bd488eceea5b31a991694822e3",
    ),
    IdxFile(
        "test-labels-idx1-ubyte.xz",
        "e026daf3d28b630d395bff264d45247706f43ecba7d4f48422cba6b6a30e22d3",
    ),
)
DIGITS = (
    IdxFile(
        "train-images-idx3-ubyte.xz",
        "5481651096b1f2e5b4934ae101719f7c285e0eb614834041dca06cdfd1e3cbb7",
    ),
    IdxFile(
        "train-labels-idx1-ubyte.xz",
        "66e4c6deb5f2a061f7d8cd5ec53025fdb9dabb08265e449acb8cf64b8cd36cac",
    ),
    IdxFile(
        "test-images-idx3-ubyte.xz",
        "ef238abbcde304b25aa9afb3e55bf68ed79a3f7472f70c21e6ce9ef9502be6e8",
    ),
    IdxFile(
        "test-labels-idx1-ubyte.xz",
        "f6986a0ba78a47b6752758d4f6217fd236a065a9cf9102fef6718bad1b8d2a41",
    ),
)


@dataclass(frozen=True, eq=False)
class Dataset(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """Labeled images, as one uint8 tensor.

    It is a :class:`torch.utils.data.Dataset`, too: ``dataset[i]`` is the pair ``(image, label)``
    of image ``i``, normalized as in training, float32 ``(C, H, W)``, and its label, an integer. So
    it works in a ``DataLoader``, with any number of workers. (Our own :func:`make_batches` is much
    faster: it gathers whole batches on the device.)

    Parameters
    ----------
    name
        Name of the data set and its part, for example ``"fashion-mini train"``.
    images
        uint8, ``(N, C, H, W)``, 0 to 255.
    labels
        int64, ``(N,)``.
    classes
        Names of the classes; ``classes[labels[i]]`` names image ``i``.
    mean, std
        Mean and standard deviation per channel, of the *training* images scaled to 0…1; both
        parts are normalized with them. Lists, arrays and tensors are kept as tuples.

    Raises
    ------
    TypeError
        If `images` or `labels` are no tensors, or another value is of the wrong kind.
    ValueError
        If the tensors do not fit together, or `mean` or `std` is outside 0…1.

    Examples
    --------
    Your own tensors work as well as those of :func:`load`:

    >>> images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8)
    >>> labels = torch.tensor([0, 1, 0, 1, 0, 1])
    >>> mean, std = (images / 255).mean((0, 2, 3)), (images / 255).std((0, 2, 3))
    >>> mine = Dataset("mine", images, labels, ("cat", "dog"), mean, std)
    >>> mine[:4]
    <mine: 4 images of 3×8×8, 2 classes>
    >>> mine[mine.labels == 1].labels
    tensor([1, 1, 1])
    >>> image, label = mine[1]
    >>> image.shape, image.dtype, label
    (torch.Size([3, 8, 8]), torch.float32, 1)

    Batches by torch's own loader:

    >>> from torch.utils.data import DataLoader
    >>> [(tuple(x.shape), y.tolist()) for x, y in DataLoader(mine, batch_size=4)]
    [((4, 3, 8, 8), [0, 1, 0, 1]), ((2, 3, 8, 8), [0, 1])]
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        # A list of names or a tensor of means will do; they are kept as plain tuples.
        for name, plain in (
            ("classes", names("classes", self.classes)),
            ("mean", per_channel("mean", self.mean)),
            ("std", per_channel("std", self.std)),
        ):
            object.__setattr__(self, name, plain)
        check_images(self.images)
        if not isinstance(self.labels, Tensor):
            raise no_tensor("labels", self.labels)
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise ValueError(
                f"labels must be int64 of shape ({len(self.images)},), one per image, got "
                f"{self.labels.dtype} of shape {tuple(self.labels.shape)}{self._cure_of_labels()}"
            )
        channels = self.images.shape[1]
        if not channels == len(self.mean) == len(self.std):
            hint = ""
            if len(self.mean) == len(self.std) == self.images.shape[3]:
                hint = ". The images look like (N, H, W, C): use images.permute(0, 3, 1, 2)"
            needed = "each of " * (channels != 1) + counted(channels, "channel")
            raise ValueError(
                f"mean and std must have one value for {needed}, got {len(self.mean)} and "
                f"{len(self.std)}{hint}"
            )
        if not (all(0 <= m <= 1 for m in self.mean) and all(0 < s <= 1 for s in self.std)):
            raise ValueError(
                "mean must lie in 0 … 1, std above 0 and up to 1, for they are those of images "
                f"scaled to 0 … 1; got {self.mean} and {self.std}. Those of pixels of 0 … 255 are "
                "to be divided by 255"
            )
        if len(self.labels) and not 0 <= self.labels.min() <= self.labels.max() < len(self.classes):
            raise ValueError(
                f"labels must lie in 0 … {len(self.classes) - 1} for "
                f"{counted(len(self.classes), 'class')}, got {self.labels.min()} … "
                f"{self.labels.max()}"
            )

    def _cure_of_labels(self) -> str:
        n, shape = len(self.images), tuple(self.labels.shape)
        if shape == (n,) and not self.labels.is_floating_point():
            return "; use labels.long()"
        if shape == (n, 1):
            return "; use labels[:, 0].long()"
        if shape == (n, len(self.classes)):
            return "; if they are one-hot, use labels.argmax(1)"
        return ""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...

    @overload
    def __getitem__(self, index: Indices) -> "Dataset": ...

    def __getitem__(self, index: int | Indices) -> "tuple[Tensor, int] | Dataset":
        """Return one image and its label, or the images at several indices as a data set.

        Parameters
        ----------
        index
            An integer, also NumPy's or torch's, negative ones counting from the end; or a slice, a
            list, an array, a tensor of indices, or a mask.

        Returns
        -------
        tuple or Dataset
            For an integer, the normalized image, float32 ``(C, H, W)``, and its label.

        Raises
        ------
        IndexError
            If there is no such image.
        """
        if is_index(index):
            i = check_index(index, len(self))
            image = normalize(self.images[i : i + 1], self.mean, self.std)[0]
            return image, int(self.labels[i])
        check_several(index)
        return replace(self, images=self.images[index], labels=self.labels[index])

    def __repr__(self) -> str:
        """Return name, size and shape."""
        shape = "×".join(map(str, self.images.shape[1:]))
        n, classes = counted(len(self), "image"), counted(len(self.classes), "class")
        return f"<{self.name}: {n} of {shape}, {classes}>"

    def padded(self, size: int) -> "Dataset":
        """Return the set with every image centered on a black square.

        Parameters
        ----------
        size
            Side of the square, in pixels; at least the images' height and width.

        Returns
        -------
        Dataset
            Images of shape ``(N, C, size, size)``. Mean and standard deviation remain those of
            the original pixels, so a pixel keeps its normalized value.

        Raises
        ------
        ValueError
            If `size` is smaller than the images, or they would not fit into memory.
        """
        check_count("size", size)
        height, width = self.images.shape[2:]
        if size < max(height, width):
            raise ValueError(
                f"size={size} would crop images of {height}×{width}; choose {max(height, width)} "
                "or more"
            )
        number, channels = self.images.shape[:2]
        check_fits(f"{number:,} images of {size}×{size} pixels", number * channels * size * size)
        left, top = (size - width) // 2, (size - height) // 2
        borders = (left, size - width - left, top, size - height - top)
        return replace(self, images=F.pad(self.images, borders))

    def split(self, fraction: float = 0.1, seed: int = 0) -> tuple["Dataset", "Dataset"]:
        """Set a part aside, with the same share of every class: for validation, for example.

        Training may look at validation images to choose a learning rate or to stop early; those
        of the test set are for the end.

        Parameters
        ----------
        fraction
            Share of the images to set aside. The total is exact and each class's number is within
            one image of it; each class of two or more images is in both parts.
        seed
            Any integer. Which images are set aside depends on it, on the labels, and on nothing
            else.

        Returns
        -------
        train, val : Dataset
            What is left and what is set aside. The images keep their order.

        Raises
        ------
        TypeError
            If `fraction` is not a number.
        ValueError
            If it does not lie between 0 and 1, or no class has two images.

        Examples
        --------
        >>> from cnnbook import data
        >>> train, val = data.load("fashion-mini")[0].split(0.1)
        >>> train
        <fashion-mini train: 9,000 images of 1×28×28, 10 classes>
        >>> val
        <fashion-mini val: 1,000 images of 1×28×28, 10 classes>
        >>> val.labels.bincount().tolist()
        [100, 100, 100, 100, 100, 100, 100, 100, 100, 100]
        """
        left, drawn = stratified(self.labels, fraction, seed)
        name = self.name.removesuffix(" train")
        return replace(self[left], name=f"{name} train"), replace(self[drawn], name=f"{name} val")


def mean_and_std(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 images, scaled to 0…1."""
    # From the histogram of the 256 values: no float copy of the images.
    value = torch.arange(256).double() / 255
    means, stds = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).cpu().double() / channel.numel()
        mean = (share * value).sum()
        means.append(mean.item())
        stds.append((share * (value - mean).square()).sum().sqrt().item())
    return tuple(means), tuple(stds)


def in_channels(train: Dataset, test: Dataset, channels: int | None) -> tuple[Dataset, Dataset]:
    """Return both parts of a data set in color (3) or in gray (1), or as they are (None)."""
    own = train.images.shape[1]
    if channels is None or channels == own:
        return train, test
    if channels == 3:
        gray, color = [train, test], []
        for part in gray:
            images = part.images.repeat(1, 3, 1, 1)
            color.append(replace(part, images=images, mean=part.mean * 3, std=part.std * 3))
        return color[0], color[1]
    images, others = _gray(train.images), _gray(test.images)
    mean, std = mean_and_std(images)
    return (
        replace(train, images=images, mean=mean, std=std),
        replace(test, images=others, mean=mean, std=std),
    )


def _gray(images: Tensor) -> Tensor:
    """Return the luminance of color images, as Pillow computes it, in whole numbers."""
    red, green, blue = images.int().unbind(1)
    return ((19595 * red + 38470 * green + 7471 * blue + 2**15) >> 16).to(torch.uint8)[:, None]


def _from_idx(
    name: str, contents: list[bytes], classes: tuple[str, ...]
) -> tuple[Dataset, Dataset]:
    train_images, train_labels, test_images, test_labels = map(parse_idx, contents)
    return two_parts(
        name, train_images[:, None], train_labels, test_images[:, None], test_labels, classes
    )


def two_parts(
    name: str,
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: tuple[str, ...],
) -> tuple[Dataset, Dataset]:
    """Return both parts of a published data set, normalized by the training images."""
    mean, std = mean_and_std(train_images)
    return (
        Dataset(f"{name} train", train_images, train_labels.long(), classes, mean, std),
        Dataset(f"{name} test", test_images, test_labels.long(), classes, mean, std),
    )


def fashion_mini(download: bool) -> tuple[Dataset, Dataset]:
    """Read the 12,000 images that come with the package; nothing is ever downloaded."""
    return _embedded("fashion-mini", FASHION_MINI, FASHION_CLASSES)


def digits(download: bool) -> tuple[Dataset, Dataset]:
    """Read the handwritten digits that come with the package; nothing is ever downloaded."""
    return _embedded("digits", DIGITS, DIGIT_CLASSES)


def _embedded(
    name: str, parts: tuple[IdxFile, ...], classes: tuple[str, ...]
) -> tuple[Dataset, Dataset]:
    return _from_idx(name, [read_checked(ASSETS / name / f.name, f) for f in parts], classes)


def fashion_mnist(download: bool) -> tuple[Dataset, Dataset]:
    """Read Fashion-MNIST from the first folder that has it."""
    paths = [find("fashion-mnist", f, download=download) for f in FASHION_MNIST]
    contents = [read_checked(path, f) for path, f in zip(paths, FASHION_MNIST, strict=True)]
    return _from_idx("fashion-mnist", contents, FASHION_CLASSES)
