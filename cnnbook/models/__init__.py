"""Networks of the papers, one file per architecture.

:func:`create` builds any of them by name; the classes take the same options. Anything that is not
in the paper is an option or a separately named variant. :func:`register_model` adds your own
network.
"""

from typing import NoReturn

from cnnbook.models._common import WeightsError, copy_weights
from cnnbook.models.alexnet import AlexNet, AlexNet2014, AlexNetTwoDevices
from cnnbook.models.efficientnet import EfficientNetLite0
from cnnbook.models.googlenet import GoogLeNet, GoogLeNetOutput, googlenet_loss
from cnnbook.models.lenet import LeNet5, LeNet51998, lenet5, lenet5_1998, map_loss
from cnnbook.models.registry import (
    ModelSpec,
    TorchvisionTwin,
    create,
    create_for,
    create_scaled_down,
    list_models,
    model_options,
    model_spec,
    register_model,
    torchvision_model,
)
from cnnbook.models.resnet import ResNet
from cnnbook.models.vgg import VGG
from cnnbook.models.weights import Preprocessing, Weights, imagenet_classes

__all__ = [
    "VGG",
    "AlexNet",
    "AlexNet2014",
    "AlexNetTwoDevices",
    "EfficientNetLite0",
    "GoogLeNet",
    "GoogLeNetOutput",
    "LeNet5",
    "LeNet51998",
    "ModelSpec",
    "Preprocessing",
    "ResNet",
    "TorchvisionTwin",
    "Weights",
    "WeightsError",
    "copy_weights",
    "create",
    "create_for",
    "create_scaled_down",
    "googlenet_loss",
    "imagenet_classes",
    "lenet5",
    "lenet5_1998",
    "list_models",
    "map_loss",
    "model_options",
    "model_spec",
    "register_model",
    "torchvision_model",
]


def __getattr__(name: str) -> NoReturn:
    """Say how a network is built that has a name, but no class or function of that name."""
    hint = f"; models.create({name!r}) builds that network" if name in list_models() else ""
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}{hint}")
