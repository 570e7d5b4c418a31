"""Networks of the papers, one file per architecture.

:func:`create` builds any of them by name; the classes take the same options. Whatever is not in
the paper is an option or a variant with a name of its own.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from cnnbook._errors import unknown
from cnnbook.models._common import copy_weights
from cnnbook.models.alexnet import AlexNet, AlexNet2014, AlexNetTwoDevices
from cnnbook.models.googlenet import GoogLeNet, GoogLeNetOutput, googlenet_loss
from cnnbook.models.lenet import LeNet5, LeNet51998, lenet5, map_loss
from cnnbook.models.resnet import CIFAR, IMAGENET, ResNet
from cnnbook.models.vgg import VGG

__all__ = [
    "VGG",
    "AlexNet",
    "AlexNet2014",
    "AlexNetTwoDevices",
    "GoogLeNet",
    "GoogLeNetOutput",
    "LeNet5",
    "LeNet51998",
    "ModelSpec",
    "ResNet",
    "copy_weights",
    "create",
    "create_for",
    "googlenet_loss",
    "lenet5",
    "list_models",
    "map_loss",
    "published",
]


class ModelSpec(NamedTuple):
    """A network that can be created by name.

    Parameters
    ----------
    build
        Called with `num_classes`, `in_channels` and options.
    paper
        Where it comes from.
    input_shape
        ``(C, H, W)`` of the images it was made for.
    num_classes
        Number of outputs it was made for.
    small
        Options of its form for images of 28 to 96 pixels; None if it has no such form.
    sized
        Whether the network is built for one size of image, its option `input_size`.

    Examples
    --------
    >>> model_spec("resnet20").paper
    'He et al. 2016'
    >>> model_spec("resnet20").input_shape, model_spec("resnet18").input_shape
    ((3, 32, 32), (3, 224, 224))
    """

    build: Callable[..., nn.Module]
    paper: str
    input_shape: tuple[int, int, int]
    num_classes: int
    small: dict[str, str] | None = None
    fixed_input_size: bool = False


_LECUN, _KRIZHEVSKY = "LeCun et al. 1998", "Krizhevsky et al. 2012"
_SIMONYAN, _SZEGEDY, _HE = "Simonyan & Zisserman 2015", "Szegedy et al. 2015", "He et al. 2016"
_VGG = {"vgg11": "A", "vgg11_lrn": "A-LRN", "vgg13": "B", "vgg16_c": "C", "vgg16": "D"}
_VGG["vgg19"] = "E"
_IMAGE = (3, 224, 224)
_STEM = {"stem": "small"}

_MODELS = {
    "lenet5": ModelSpec(lenet5, f"{_LECUN}, as taught today", (1, 32, 32), 10),
    "lenet5_1998": ModelSpec(partial(lenet5, form="1998"), _LECUN, (1, 32, 32), 10),
    "alexnet": ModelSpec(AlexNet, _KRIZHEVSKY, (3, 227, 227), 1000, _STEM, fixed_input_size=True),
    "alexnet_one_column": ModelSpec(
        partial(AlexNet, towers=1),
        f"{_KRIZHEVSKY}, one column",
        (3, 227, 227),
        1000,
        _STEM,
        fixed_input_size=True,
    ),
    "alexnet_2014": ModelSpec(AlexNet2014, "Krizhevsky 2014", _IMAGE, 1000),
    **{
        name: ModelSpec(
            partial(VGG, configuration), _SIMONYAN, _IMAGE, 1000, {}, fixed_input_size=True
        )
        for name, configuration in _VGG.items()
    },
    **{
        f"{name}_bn": ModelSpec(
            partial(VGG, configuration, batch_norm=True),
            f"{_SIMONYAN}, with batch norm",
            _IMAGE,
            1000,
            {},
            fixed_input_size=True,
        )
        for name, configuration in _VGG.items()
        if name != "vgg11_lrn"
    },
    "googlenet": ModelSpec(GoogLeNet, _SZEGEDY, _IMAGE, 1000, _STEM, fixed_input_size=True),
    "googlenet_bn": ModelSpec(
        partial(GoogLeNet, batch_norm=True),
        f"{_SZEGEDY}, with batch norm",
        _IMAGE,
        1000,
        _STEM,
        fixed_input_size=True,
    ),
    **{f"resnet{d}": ModelSpec(partial(ResNet, d), _HE, _IMAGE, 1000, _STEM) for d in IMAGENET},
    **{f"resnet{d}": ModelSpec(partial(ResNet, d), _HE, (3, 32, 32), 10, {}) for d in CIFAR},
}


def list_models() -> list[str]:
    """Return the names that :func:`create` accepts, by year.

    Examples
    --------
    >>> list_models()[:3]
    ['lenet5', 'lenet5_1998', 'alexnet']
    """
    return list(_MODELS)


def model_spec(name: str) -> ModelSpec:
    """Return paper, input shape and number of classes of a network.

    Parameters
    ----------
    name
        One of :func:`list_models`.

    Raises
    ------
    ValueError
        For an unknown name. The message suggests the nearest one.

    Examples
    --------
    Where a dense layer reads whole maps, another size of the images must be said when it is built:

    >>> [name for name in ("alexnet", "vgg16", "resnet18") if model_spec(name).fixed_input_size]
    ['alexnet', 'vgg16']
    """
    if name not in _MODELS:
        raise unknown("model", name, _MODELS)
    return _MODELS[name]


def create(
    name: str, num_classes: int | None = None, in_channels: int | None = None, **options: Any
) -> nn.Module:
    """Build a network by name.

    Parameters
    ----------
    name
        One of :func:`list_models`.
    num_classes
        Number of outputs; the paper's if not given.
    in_channels
        Channels of the input image; the paper's if not given.
    **options
        Passed to the network's class, for example ``width=0.25``.

    Returns
    -------
    torch.nn.Module
        Maps ``(N, in_channels, H, W)`` to scores ``(N, num_classes)``.

    Raises
    ------
    ValueError
        For an unknown name, or as the class says.
    TypeError
        For an option the class does not have.

    Examples
    --------
    >>> import torch
    >>> net = create("resnet18", num_classes=10, in_channels=1, stem="small", width=0.25)
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    model = model_spec(name)
    return model.build(
        num_classes=model.num_classes if num_classes is None else num_classes,
        in_channels=model.input_shape[0] if in_channels is None else in_channels,
        **options,
    )


def create_for(
    name: str, image_shape: tuple[int, int, int], num_classes: int, **options: Any
) -> nn.Module:
    """Build a network by name for images of a given shape.

    For images much smaller than the paper's, this is the network's form for small images.

    Parameters
    ----------
    name
        One of :func:`list_models`.
    image_shape
        ``(C, H, W)`` with H equal to W.
    num_classes
        Number of outputs.
    **options
        As in :func:`create`. They come before what the shape suggests.

    Returns
    -------
    torch.nn.Module
        Maps ``(N, *image_shape)`` to scores ``(N, num_classes)``.

    Raises
    ------
    ValueError
        If the network has no form for images of that size.

    Examples
    --------
    >>> import torch
    >>> net = create_for("vgg11", (1, 28, 28), 10, width=0.1)
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    known = model_spec(name)
    channels, height, width = image_shape
    _, usual, _ = known.input_shape
    fits = known.small is not None and height == width
    if height != usual and not fits:
        raise ValueError(
            f"{name} takes images of {usual}×{usual} pixels, these have {height}×{width}; choose "
            "another network or another size of the images"
        )
    chosen = dict(known.small) if fits and 2 * height < usual else {}
    if known.fixed_input_size:
        chosen["input_size"] = height
    return create(name, num_classes, channels, **(chosen | options))
