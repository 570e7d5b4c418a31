"""Trained networks: built for a data set, read from a file or by name, used on pictures."""

import dataclasses
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from cnnbook import data, models, settings
from cnnbook._checks import check_whole
from cnnbook._errors import check_options, unknown
from cnnbook._files import expanded
from cnnbook._networks import Selector, device_of, evaluating, input_type, scores_of, unwrapped
from cnnbook.models import Preprocessing
from cnnbook.tables import Table
from cnnbook.training._checks import check_network
from cnnbook.training.checkpoint import CheckpointError, kind_of, load_checkpoint, refuse_folder

if TYPE_CHECKING:
    from PIL import Image

Picture: TypeAlias = "str | Path | Image.Image | Tensor"
Pictures: TypeAlias = (
    "Picture | Iterable[Picture] | data.Dataset | data.ImageFolder | torch.utils.data.Dataset[Any]"
)

_BATCH = 64  # pictures that are classified at a time


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained network, with everything needed to use it.

    Parameters
    ----------
    network
        The network, in evaluation mode.
    classes
        Names of the classes; score ``i`` belongs to ``classes[i]``.
    info
        What is known about it, see :func:`model_info`.

    Examples
    --------
    >>> info = {"model": "lenet5", "image": [1, 32, 32]}
    >>> TrainedModel(models.lenet5(2), ("even", "odd"), info)
    <TrainedModel: lenet5, images of 1×32×32, 2 classes>

    The network takes normalized images. :meth:`prepare` and :func:`predict` resize, crop and
    normalize pictures as `preprocessing` says:

    >>> trained = load("efficientnet_lite0")
    >>> trained
    <TrainedModel: efficientnet_lite0, images of 3×224×224, 1000 classes>
    >>> trained.preprocessing.resize, trained.preprocessing.interpolation
    (224, 'bicubic')
    >>> scores = trained.network(trained.prepare(data.photo("cat")))
    >>> trained.classes[scores.argmax()]
    'Egyptian cat'
    """

    network: nn.Module
    classes: tuple[str, ...]
    info: dict[str, Any]

    def __repr__(self) -> str:
        """Return name, image shape and number of classes."""
        shape = "×".join(map(str, self.info["image"]))
        return (
            f"<TrainedModel: {self.info['model']}, images of {shape}, {len(self.classes)} classes>"
        )

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become the network's input."""
        info = self.info
        return Preprocessing(
            resize=round(info["side"] * info["margin"]),
            crop=info["side"],
            mean=tuple(info["mean"]),
            std=tuple(info["std"]),
            interpolation=info.get("interpolation", "bilinear"),
            padded_to=info["image"][1],
        )

    def prepare(self, pictures: Pictures) -> Tensor:
        """Read pictures as the network's test images were read.

        Parameters
        ----------
        pictures
            One or several: image files, PIL images, tensors ``(C, H, W)`` or ``(N, C, H, W)``
            (uint8, or floats from 0 to 1), a data set or a DataLoader. Of any size, in color or
            gray: each is resized, center-cropped and normalized as `preprocessing` says. Tensors,
            and data sets in memory, that already have the network's height and width are only
            normalized.

        Returns
        -------
        Tensor
            ``(N, C, H, W)``, ready for `network`.

        Raises
        ------
        DataError
            If a file is missing or not an image.
        TypeError
            If `pictures` are none of these.
        ValueError
            If there are no pictures, a path is a folder, or a tensor holds no image.
        """
        return torch.stack([self._input(picture) for _, picture in _each(pictures)])

    def _input(self, picture: Picture) -> Tensor:
        """Return one picture as the network takes it, ``(C, H, W)``."""
        channels, *size = self.info["image"]
        if isinstance(picture, Tensor) and list(picture.shape[-2:]) == size:
            return self.preprocessing.normalize(picture)
        if isinstance(picture, (str, Path)):
            picture = _read(picture, channels)
        return self.preprocessing(picture)

    def load_data(
        self, name: str | None = None
    ) -> tuple[data.Dataset | data.ImageFolder, data.Dataset | data.ImageFolder]:
        """Load a data set in the size, with the channels and normalized as the network takes it.

        Parameters
        ----------
        name
            As in :func:`cnnbook.data.load`; what the network was trained on if not given. A network
            trained on ImageNet also takes ImageNet's own folders, named n01440764 and so on.

        Returns
        -------
        train, test : Dataset or ImageFolder

        Raises
        ------
        ValueError
            If the data set has other classes than the network learned, or if no name is given and
            it is not known what the network was trained on.
        DataError
            If files of the data set are missing or damaged.
        """
        name = name or self.info["data"]
        if name is None:
            raise ValueError(
                "it is not known which data set the network was trained on: give load_data the "
                "name of one"
            )
        channels, side, _ = self.info["image"]
        train, test = data.load(name, size=side, channels=channels)
        if test.classes != self.classes and not (
            self.info.get("weights") == "imagenet" and _are_wordnet_ids(test.classes)
        ):
            raise ValueError(
                f"the network was trained on the classes {_listed(self.classes)}, {name} has "
                f"{_listed(test.classes)}"
            )
        return self._normalized(train), self._normalized(test)

    def _normalized(
        self, dataset: data.Dataset | data.ImageFolder
    ) -> data.Dataset | data.ImageFolder:
        mean, std = tuple(self.info["mean"]), tuple(self.info["std"])
        if isinstance(dataset, data.ImageFolder):
            margin = self.info["margin"]
            return dataclasses.replace(dataset, mean=mean, std=std, margin=margin)
        return dataclasses.replace(dataset, mean=mean, std=std)


def _are_wordnet_ids(classes: tuple[str, ...]) -> bool:
    # In alphabetical order, as here, ImageNet's folders are in the order of its 1000 classes.
    return len(classes) == 1000 and all(re.fullmatch(r"n\d{8}", name) for name in classes)


def _listed(classes: tuple[str, ...]) -> str:
    more = f", … ({len(classes)} in all)" if len(classes) > 12 else ""
    return f"[{', '.join(map(repr, classes[: 10 if more else None]))}{more}]"


def _read(path: str | Path, channels: int) -> Any:
    """Return an image file as a PIL image; raise DataError if it cannot be read."""
    folder = data.ImageFolder(
        "pictures",
        Path(),
        np.array([os.fsencode(path)]),
        torch.zeros(1, dtype=torch.int64),
        ("any",),
        train=False,
        channels=channels,
    )
    return folder.read(0, lambda image: image)


def _each(pictures: Pictures) -> Iterator[tuple[str | int, Picture]]:
    """Yield a name, or a number, and one picture after the other; refuse what is none."""
    number = -1
    for number, picture in enumerate(_one_by_one(pictures)):
        if isinstance(picture, (str, Path)):
            if Path(picture).is_dir():
                name = str(picture)
                raise ValueError(f"{name} is a folder; name the pictures in it ({name}/*.png)")
            yield str(picture), picture
        else:
            yield number, picture
    if number < 0:
        raise ValueError("there are no pictures to read: give at least one")


def _one_by_one(pictures: Any) -> Iterator[Any]:
    if isinstance(pictures, data.ImageFolder):
        yield from (pictures.folder / os.fsdecode(bytes(path)) for path in pictures.paths)
    elif isinstance(pictures, data.Dataset):
        yield from pictures.images
    elif isinstance(pictures, torch.utils.data.Dataset):
        items: Any = (pictures[i] for i in range(len(pictures)))  # type: ignore[arg-type]
        yield from (item[0] if isinstance(item, (tuple, list)) else item for item in items)
    elif isinstance(pictures, Tensor) and pictures.ndim == 4:
        yield from pictures
    elif isinstance(pictures, Tensor) or not _is_several(pictures):
        yield _known(pictures)
    elif _is_labeled_batch(pictures):
        yield from pictures[0]
    else:
        for picture in pictures:
            batch = picture[0] if _is_labeled_batch(picture) else picture
            if isinstance(batch, Tensor) and batch.ndim == 4:
                yield from batch
            else:
                yield _known(batch)


def _is_labeled_batch(pictures: Any) -> bool:
    """Return whether this is images ``(N, C, H, W)`` and N labels, as of a DataLoader."""
    return (
        isinstance(pictures, (tuple, list))
        and len(pictures) == 2
        and all(isinstance(part, Tensor) for part in pictures)
        and (pictures[0].ndim, pictures[1].ndim) == (4, 1)
    )


def _is_several(pictures: Any) -> bool:
    return hasattr(pictures, "__iter__") and not isinstance(
        pictures, (str, Path, bytes, np.ndarray, Mapping)
    )


def _known(picture: Any) -> Any:
    """Return a picture; raise TypeError if it is of no kind that can be read."""
    from PIL import Image

    if isinstance(picture, (str, Path, Tensor, Image.Image)):
        return picture
    shape = f" of shape {picture.shape}" if isinstance(picture, np.ndarray) else ""
    cure = "; Image.fromarray(…) makes one of an array (H, W, 3)" if shape else ""
    raise TypeError(
        "pictures are image files, PIL images, tensors or a data set, got "
        f"{type(picture).__name__}{shape}{cure}"
    )


def build_for(name: str, dataset: data.Dataset | data.ImageFolder, **options: Any) -> nn.Module:
    """Build a network by name for the images and the classes of a data set.

    Parameters
    ----------
    name
        One of :func:`cnnbook.models.list_models`.
    dataset
        What it will be trained on. For images much smaller than the paper's, the network's version
        for small images is built, see :func:`cnnbook.models.create_for`.
    **options
        Options of the network, for example ``width=0.25``.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ValueError
        For an unknown name, an option that the network does not have, or images that it does not
        take.

    Examples
    --------
    >>> train, _ = data.load("fashion-mini")
    >>> net = build_for("resnet18", train, width=0.125)
    >>> net(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """
    return _build(name, image_shape(dataset), len(dataset.classes), options)


def image_shape(dataset: data.Dataset | data.ImageFolder) -> tuple[int, int, int]:
    """Return ``(C, H, W)`` of a data set's images; raise TypeError for anything else."""
    if not isinstance(dataset, (data.Dataset, data.ImageFolder)):
        raise TypeError(
            f"expected a Dataset or an ImageFolder, got {type(dataset).__name__}; make one of your "
            "tensors: data.Dataset(name, images, labels, classes, mean, std)"
        )
    if isinstance(dataset, data.ImageFolder):
        return dataset.channels, dataset.size, dataset.size
    _, channels, height, width = dataset.images.shape
    return channels, height, width


def _build(
    name: str, shape: tuple[int, int, int], num_classes: int, options: Mapping[str, Any]
) -> nn.Module:
    for given in ("num_classes", "in_channels"):
        if given in options:
            raise ValueError(f"the data set determines {given}; leave out {given}={options[given]}")
    try:
        return models.create_for(name, shape, num_classes, **options)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built with {dict(options)}: {error}") from None


def model_info(
    network: str | nn.Module,
    dataset: data.Dataset | data.ImageFolder,
    options: Mapping[str, Any] | None = None,
    *,
    source: str | None = None,
    side: int | None = None,
) -> dict[str, Any]:
    """Return what :func:`load` needs to find in a file: `checkpoint_info` of :func:`fit`.

    Parameters
    ----------
    network
        The network, if :func:`cnnbook.models.create` or :func:`build_for` built it; otherwise the
        name under which it is registered.
    dataset
        What it is trained on.
    options
        With a name: the options that the network was built with.
    source
        Name under which :func:`cnnbook.data.load` finds the data set.
    side
        Height and width of the images before :meth:`cnnbook.data.Dataset.padded` put a black
        border around them; pictures get the same one. The images' own if not given.

    Returns
    -------
    dict
        Plain values: ``model``, ``options``, ``data``, ``image`` (its shape), ``margin``,
        ``side``, ``classes``, ``mean``, ``std``.

    Raises
    ------
    TypeError
        If `dataset` is not a data set, `options` are not a mapping, or the network was built by
        something else.
    ValueError
        For an unknown name, or an option that the network does not have.

    Examples
    --------
    >>> train, _ = data.load("digits", size=32)
    >>> net = build_for("lenet5", train, activation="relu")
    >>> info = model_info(net, train, source="digits", side=8)
    >>> info["model"], info["options"], info["image"], info["side"], info["data"]
    ('lenet5', {'activation': 'relu'}, [1, 32, 32], 8, 'digits')
    """
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f'options are a dict such as {{"width": 0.5}}, got {options!r:.50}')
    if isinstance(network, nn.Module):
        name, options = _built_as(network, options)
    else:
        name, options = network, dict(options or {})
    build = models.model_spec(name).build
    check_options(f"option of {name}", options, build, ("num_classes", "in_channels"))
    shape = image_shape(dataset)
    return {
        "model": name,
        "options": dict(options),
        "data": source,
        "image": list(shape),
        "margin": getattr(dataset, "margin", 1.0),
        "side": shape[1] if side is None else side,
        "classes": list(dataset.classes),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
    }


def _built_as(network: nn.Module, options: Mapping[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """Return the name and the options with which a network was built."""
    if options is not None:
        raise TypeError(
            "a network knows the options that it was built with: leave out options, or give its "
            "name instead of the network"
        )
    built = getattr(unwrapped(network), "created_as", None)
    if built is None:
        raise TypeError(
            f"this {type(unwrapped(network)).__name__} was not built by models.create or "
            "training.build_for, so its name is not known; register it with "
            "models.register_model, and give its name"
        )
    name, given = built
    return name, dict(given)


def load(path_or_name: str | Path) -> TrainedModel:
    """Reopen a trained network: from the file that its training wrote, or by name.

    Parameters
    ----------
    path_or_name
        File that ``cnnbook train`` wrote, or :func:`fit` with ``checkpoint=`` and
        ``checkpoint_info=model_info(...)``; or the name of a network with published weights, such
        as ``"efficientnet_lite0"``, see :class:`cnnbook.models.Weights`. If there is a file of that
        name, the file is meant.

    Returns
    -------
    TrainedModel
        The network, in evaluation mode, with its classes and preprocessing.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, does not say which network it holds, or holds one that
        is not registered here.
    WeightsError
        If published weights cannot be downloaded, are damaged, or their package is not installed.
    ValueError
        For the name of a network without published weights.

    Examples
    --------
    >>> trained = load("efficientnet_lite0")
    >>> predict(trained, data.photo("coffee"), top=1, device="cpu")[0]["class"]
    'espresso'

    >>> import tempfile
    >>> from cnnbook.training import evaluate, fit
    >>> train, _ = data.load("digits", size=32)
    >>> net = build_for("lenet5", train, activation="relu")
    >>> info = model_info(net, train, source="digits", side=8)
    >>> options = {"checkpoint_info": info, "device": "cpu", "progress": False}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "digits.safetensors")
    ...     _ = fit(net, train, epochs=1, checkpoint=path, **options)
    ...     trained = load(path)
    >>> trained
    <TrainedModel: lenet5, images of 1×32×32, 10 classes>
    >>> _, test = trained.load_data()
    >>> before, after = evaluate(net, test), evaluate(trained.network, test)
    >>> torch.allclose(before.scores, after.scores, atol=1e-5)
    True
    """
    if not isinstance(path_or_name, (str, Path)):
        raise TypeError(
            f"load takes a file or the name of a network, got {type(path_or_name).__name__}"
        )
    path = expanded(path_or_name)
    if str(path_or_name) in models.list_models() and not path.exists():
        return _published(str(path_or_name))
    refuse_folder(path)
    if not path.exists() and not path.suffix and len(path.parts) == 1:
        known = [n for n in models.list_models() if models.model_spec(n).weights]
        instead = unknown("network with published weights", str(path), known)
        raise CheckpointError(f"there is no file {path}, and it is an {instead}")
    return _from_file(path_or_name)


def _published(name: str) -> TrainedModel:
    """Return a network with the weights that were published for it."""
    spec = models.model_spec(name)
    which = next(iter(spec.weights), "imagenet")  # if there are none, create says so
    network = models.create(name, weights=which).eval()
    weights = spec.weights[which]
    wanted = weights.preprocessing
    info = {
        "model": name,
        "options": dict(weights.options),
        "weights": which,
        "data": None,
        "image": list(spec.input_shape),
        "margin": wanted.resize / wanted.crop,
        "side": wanted.crop,
        "classes": list(weights.classes),
        "mean": list(wanted.mean),
        "std": list(wanted.std),
        "interpolation": wanted.interpolation,
    }
    return TrainedModel(network, weights.classes, info)


def _from_file(path: str | Path) -> TrainedModel:
    weights, state = load_checkpoint(path)
    info = state.get("info") if isinstance(state, dict) else None
    if not isinstance(info, dict) or "model" not in info:
        raise CheckpointError(
            f"{path} does not say which network it holds; only files written by `cnnbook "
            "train` or fit(checkpoint_info=model_info(...)) do. Build the network yourself and use "
            "training.load_weights()"
        )
    if info["model"] not in models.list_models():
        raise CheckpointError(
            f"{path} holds a network named {info['model']!r}, which is not registered here. "
            "First import the module that calls register_model(); on the command line: cnnbook "
            "--import MODULE …"
        )
    _check_info(path, info)
    classes, options = tuple(info["classes"]), info["options"]
    try:
        with torch.device("meta"):  # whatever size it has, it takes no memory
            network = _build(info["model"], tuple(info["image"]), len(classes), options)
    except (ValueError, RuntimeError, OverflowError, ZeroDivisionError) as error:
        raise CheckpointError(f"{path} describes a network that cannot be built: {error}") from None
    if mismatches := _mismatches(weights, network.state_dict()):
        more = f"; and {len(mismatches) - 5} more" if len(mismatches) > 5 else ""
        raise CheckpointError(
            f"{path} does not fit {info['model']} as it is built here: "
            f"{'; '.join(mismatches[:5])}{more}. Was the network built with options that "
            f"model_info was not given (options={info['options']})?"
        )
    network = _build(info["model"], tuple(info["image"]), len(classes), options)
    network.load_state_dict(weights)
    return TrainedModel(network.eval(), classes, info)


_MAX_SIDE = 100_000  # pixels of an image, and classes of a network
_MAX_VALUES = 2**28  # of an image, 1 GB as float32
_LARGE = 1e6


def _check_info(path: str | Path, info: Mapping[str, Any]) -> None:
    """Raise CheckpointError if what a file says of its network is not what model_info returns."""

    def is_number(value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def are_numbers(value: Any) -> bool:
        return isinstance(value, list) and all(is_number(x) and abs(x) < _LARGE for x in value)

    def is_size(value: Any) -> bool:
        return is_number(value) and isinstance(value, int) and 1 <= value <= _MAX_SIDE

    def are_names(value: Any) -> bool:
        return isinstance(value, list) and all(isinstance(name, str) for name in value)

    image, options = info.get("image"), info.get("options")
    is_shape = isinstance(image, list) and len(image) == 3 and all(map(is_size, image))
    channels = image[0] if isinstance(image, list) and is_shape else 0
    are_right = {
        "image": is_shape and math.prod(image or ()) <= _MAX_VALUES,
        "classes": are_names(info.get("classes")) and is_size(len(info["classes"])),
        "options": isinstance(options, dict) and are_names(list(options)),
        "data": info.get("data") is None or isinstance(info["data"], str),
        "side": is_size(info.get("side")) and is_shape and info["side"] <= max(info["image"][1:]),
        "margin": is_number(info.get("margin")) and 0 < info["margin"] <= 4,
        "mean": are_numbers(info.get("mean")) and len(info["mean"]) == channels,
        "std": are_numbers(info.get("std"))
        and len(info["std"]) == channels
        and all(x > 1 / _LARGE for x in info["std"]),
    }
    for name, is_right in are_right.items():
        if not is_right:
            raise CheckpointError(
                f"{path} does not describe its network: its {name!r} is {info.get(name)!r:.80}; "
                "model_info() returns what a file needs"
            )
    if "weights" in info["options"]:
        raise CheckpointError(
            f"{path} asks for published weights (weights={info['options']['weights']!r:.80}) "
            "beside its own; give model_info the options without them"
        )


def check_described(network: nn.Module, info: Any, output: Selector = None) -> None:
    """Raise ValueError if :func:`load` would build another network from `info` than this one.

    Weights alone do not tell: ResNet-50's stride may be in either of two convolutions, LeNet-5's
    activation tanh or ReLU, with weights of the same shapes. Therefore both networks get the same
    weights and the same image, and their scores are compared.

    Parameters
    ----------
    network
        What is trained.
    info
        What is to be stored with it; anything that :func:`model_info` did not make is ignored.
    output
        Which part of a dict or tuple that the network returns are the scores.
    """
    if not (isinstance(info, Mapping) and info.keys() >= _DESCRIBES):
        return
    name, shape = info["model"], tuple(info["image"])
    if name not in models.list_models():
        return  # load() says so
    with torch.random.fork_rng(devices=[]):
        again = _build(name, shape, len(info["classes"]), info["options"])
    own, built = (
        {key: tuple(value.shape) for key, value in net.state_dict().items()}
        for net in (network, again)
    )
    odd = [key for key in {**own, **built} if own.get(key) != built.get(key)]
    if odd:
        key, more = odd[0], f", and {len(odd) - 1} more" if odd[1:] else ""
        difference = (
            f"{key} is {own.get(key, 'missing')} here and {built.get(key, 'missing')} there{more}"
        )
    elif _scores_differ(network, again, shape, output):
        difference = "with the same weights and the same image, they return different scores"
    else:
        return
    raise ValueError(
        f"this network is not the {name} that load() would build for images of "
        f"{'×'.join(map(str, shape))} and options={info['options']}: {difference}. Give "
        "model_info the network itself, or all options that it was built with"
    )


_DESCRIBES = {
    "model",
    "options",
    "image",
    "classes",
}  # the part of model_info that load builds from


def _scores_differ(
    network: nn.Module, again: nn.Module, shape: tuple[int, ...], output: Selector
) -> bool:
    device, kind = device_of(network), input_type(network)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, *shape, generator=generator).to(device, kind)
    # Zeros, as some weights are before training, would hide what they multiply.
    state = {
        key: value
        if not value.is_floating_point() or value.any()
        else torch.rand(value.shape, generator=generator).mul(0.1).to(value)
        for key, value in network.state_dict().items()
    }

    def scores(net: nn.Module) -> Tensor:
        with torch.no_grad(), evaluating(net):
            return scores_of(functional_call(net, state, (images,)), output)

    try:
        expected = scores(network)
    except (RuntimeError, ValueError, TypeError):
        return False  # the first batch says more
    try:
        found = scores(again.to(device, kind))
    except (RuntimeError, ValueError, TypeError):
        return True
    tolerance = 1e-3 * expected.abs().max().item()
    return found.shape != expected.shape or not torch.allclose(
        found, expected, rtol=0, atol=tolerance, equal_nan=True
    )


def _mismatches(found: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    """Return in words how the tensors of a file differ from those of a network."""
    said = []
    for name in [*own, *(name for name in found if name not in own)]:
        if name not in found:
            said.append(f"{name} is missing")
        elif name not in own:
            said.append(f"the network has no {name}")
        elif found[name].shape != own[name].shape:
            said.append(
                f"{name} is {tuple(found[name].shape)} in the file, {tuple(own[name].shape)} in "
                "the network"
            )
        elif kind_of(found[name]) != kind_of(own[name]):
            said.append(
                f"{name} is {found[name].dtype} in the file, {own[name].dtype} in the network"
            )
    return said


def predict(
    trained: TrainedModel | str | Path,
    pictures: Pictures,
    *,
    top: int = 3,
    device: torch.device | str | None = None,
) -> Table:
    """Classify pictures.

    Parameters
    ----------
    trained
        A network with its classes, or what :func:`load` takes: a file, or a name such as
        ``"efficientnet_lite0"``.
    pictures
        One or several: image files, PIL images, tensors, a data set or a DataLoader, as
        :meth:`TrainedModel.prepare` takes them; of any size, resized and cropped as the test
        images were.
    top
        How many classes to name for each picture.
    device
        Where to run; the machine's fastest device if not given. Afterwards, the network is where
        it was.

    Returns
    -------
    Table
        One row for each picture and each of its `top` classes: ``image`` (the file's name, or a
        number counted from 0), ``rank``, ``class``, ``class_index``, ``probability``.

    Raises
    ------
    DataError
        If a file is missing or not an image.
    TypeError
        If `trained` is none of these, or `pictures` are no pictures.
    ValueError
        If there are no pictures, a path is a folder, or `top` is not positive.

    Examples
    --------
    >>> rows = predict("efficientnet_lite0", data.photo("cat"), device="cpu")
    >>> [(row["rank"], row["class"], row["class_index"]) for row in rows]
    [(1, 'Egyptian cat', 285), (2, 'tiger cat', 282), (3, 'tabby', 281)]
    """
    if isinstance(trained, (str, Path)):
        trained = load(trained)
    if not isinstance(trained, TrainedModel):
        raise TypeError(
            f"predict takes a TrainedModel, which knows its classes, got {type(trained).__name__}; "
            "load(FILE or NAME) returns one"
        )
    check_network(trained.network, "predict(trained, pictures)")
    check_whole("top", top)
    if top < 1:
        raise ValueError(f"at least one class must be named, got top={top}")
    names: list[str | int] = []
    inputs: list[Tensor] = []
    chances: list[Tensor] = []
    network, home = trained.network, device_of(trained.network)
    target, kind = settings.device(device), input_type(trained.network)

    def classify() -> None:
        if inputs:
            scores = scores_of(network(torch.stack(inputs).to(target, kind)))
            # The 1998 network's scores are minus distances: their softmax is that of the paper's
            # eq. 9, without its constant class.
            chances.extend(scores.float().softmax(1).cpu())
            inputs.clear()

    try:
        with torch.no_grad(), evaluating(network):
            network.to(target)
            for name, picture in _each(pictures):
                names.append(name)
                inputs.append(trained._input(picture).cpu())
                if len(inputs) == _BATCH:
                    classify()
            classify()
    finally:
        network.to(home)
    rows = []
    for name, of_one in zip(names, chances, strict=True):
        best = of_one.topk(min(int(top), len(of_one)))
        for rank, (chance, i) in enumerate(
            zip(best.values.tolist(), best.indices.tolist(), strict=True), 1
        ):
            rows.append(
                {
                    "image": name,
                    "rank": rank,
                    "class": trained.classes[i],
                    "class_index": i,
                    "probability": chance,
                }
            )
    return Table(rows, formats={"probability": ".1%"})
