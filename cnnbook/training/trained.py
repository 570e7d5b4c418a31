"""Trained networks: built for a data set, read from a file, used on pictures."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cnnbook import data, models
from cnnbook._errors import check_options
from cnnbook.data.pixels import normalize
from cnnbook.tables import Table
from cnnbook.training.checkpoint import CheckpointError, load_checkpoint
from cnnbook.training.evaluation import evaluate


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A network read from a file, with everything needed to use it.

    Parameters
    ----------
    network
        The network, in evaluation mode.
    classes
        Names of the classes; score ``i`` belongs to ``classes[i]``.
    info
        What the file says about it, see :func:`model_info`.

    Examples
    --------
    The network expects normalized images. For files, :meth:`prepare` and :func:`predict` normalize
    them; a tensor ``x`` of fractions from 0 to 1, ``(N, C, H, W)``, is classified by
    ``network((x - mean) / std)``, with ``info["mean"]`` and ``info["std"]`` of each channel. See
    :func:`load_trained`:

    >>> info = {"model": "lenet5", "image": [1, 32, 32]}
    >>> TrainedModel(models.lenet5(2), ("even", "odd"), info)
    <TrainedModel: lenet5, images of 1×32×32, 2 classes>
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

    def prepare(self, pictures: str | Path | Sequence[str | Path]) -> Tensor:
        """Read image files as the network's test images were read.

        Parameters
        ----------
        pictures
            One image file or several, of any size, in color or gray. Each is resized,
            center-cropped and normalized.

        Returns
        -------
        Tensor
            ``(N, C, H, W)``, ready for `network`.

        Raises
        ------
        DataError
            If a file is missing or not an image.
        TypeError
            If `pictures` are not paths.
        ValueError
            If there are no pictures, or a path is a folder.
        """
        given = self._read(_paths(pictures))
        return normalize(given.images, given.mean, given.std)

    def _read(self, pictures: Sequence[str | Path]) -> data.Dataset:
        """Return image files as a data set without true labels: all are 0."""
        info = self.info
        channels, side, _ = info["image"]
        folder = data.ImageFolder(
            "pictures",
            Path(),
            np.array([os.fsencode(picture) for picture in pictures]),
            torch.zeros(len(pictures), dtype=torch.int64),
            self.classes,
            train=False,
            size=info["side"],
            channels=channels,
            mean=tuple(info["mean"]),
            std=tuple(info["std"]),
            margin=info["margin"],
        )
        transform = folder.transform()
        images = torch.stack([folder.read(i, transform) for i in range(len(folder))])
        return data.Dataset(
            folder.name, images, folder.labels, folder.classes, folder.mean, folder.std
        ).padded(side)

    def load_data(
        self, name: str | None = None
    ) -> tuple[data.Dataset | data.ImageFolder, data.Dataset | data.ImageFolder]:
        """Load a data set in the size and with the channels that the network takes.

        Parameters
        ----------
        name
            As in :func:`cnnbook.data.load`; what the network was trained on if not given.

        Returns
        -------
        train, test : Dataset or ImageFolder

        Raises
        ------
        ValueError
            If the data set has other classes than the network learned, or if no name is given and
            the file holds none.
        DataError
            If files of the data set are missing or damaged.
        """
        name = name or self.info["data"]
        if name is None:
            raise ValueError(
                "the file does not say what the network was trained on: give load_data the name of "
                "a data set"
            )
        channels, side, _ = self.info["image"]
        train, test = data.load(name, size=side, channels=channels)
        if test.classes != self.classes:
            raise ValueError(
                f"the network was trained on the classes {list(self.classes)}, {name} has "
                f"{list(test.classes)}"
            )
        return train, test


def _paths(pictures: str | Path | Sequence[str | Path]) -> list[str | Path]:
    """Return paths as a list; raise an error that says what else was given."""
    if isinstance(pictures, (str, Path)):
        pictures = [pictures]
    if isinstance(pictures, (Tensor, np.ndarray)):
        raise TypeError(
            f"pictures are paths of image files, got a {type(pictures).__name__} of shape "
            f"{tuple(pictures.shape)}; for images in memory, normalize them as the training images "
            "were and call the network: trained.network(x)"
        )
    try:
        paths = list(pictures)
    except TypeError:
        raise TypeError(
            f"pictures are paths of image files, got {type(pictures).__name__}"
        ) from None
    for path in paths:
        if not isinstance(path, (str, Path)):
            raise TypeError(f"pictures are paths of image files, got {type(path).__name__} in them")
        if Path(path).is_dir():
            raise ValueError(f"{path} is a folder; name the pictures in it ({path}/*.png)")
    if not paths:
        raise ValueError("there are no pictures to read: give at least one file")
    return paths


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
    name: str,
    dataset: data.Dataset | data.ImageFolder,
    options: Mapping[str, Any] | None = None,
    *,
    source: str | None = None,
    side: int | None = None,
) -> dict[str, Any]:
    """Return what :func:`load_trained` needs to find in a file: `checkpoint_info` of :func:`fit`.

    Parameters
    ----------
    name
        Name of the network.
    dataset
        What it is trained on.
    options
        Options that the network was built with.
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
        If `dataset` is not a data set, or `options` are not a mapping.
    ValueError
        For an unknown name, or an option that the network does not have.

    Examples
    --------
    >>> train, _ = data.load("digits", size=32)
    >>> info = model_info("lenet5", train, {"activation": "relu"}, source="digits", side=8)
    >>> info["image"], info["side"], info["data"]
    ([1, 32, 32], 8, 'digits')
    """
    build = models.model_spec(name).build
    if options is not None and not isinstance(options, Mapping):
        raise TypeError(f'options are a dict such as {{"width": 0.5}}, got {options!r:.50}')
    check_options(f"option of {name}", options or {}, build, ("num_classes", "in_channels"))
    shape = image_shape(dataset)
    return {
        "model": name,
        "options": dict(options or {}),
        "data": source,
        "image": list(shape),
        "margin": getattr(dataset, "margin", 1.0),
        "side": shape[1] if side is None else side,
        "classes": list(dataset.classes),
        "mean": list(dataset.mean),
        "std": list(dataset.std),
    }


def load_trained(path: str | Path) -> TrainedModel:
    """Rebuild a network from the file that its training wrote.

    Parameters
    ----------
    path
        File that ``cnnbook train`` wrote, or :func:`fit` with ``checkpoint=`` and
        ``checkpoint_info=model_info(...)``.

    Returns
    -------
    TrainedModel
        The network, in evaluation mode, and the names of its classes.

    Raises
    ------
    CheckpointError
        If the file is missing or damaged, does not say which network it holds, or holds one that
        is not registered here.

    Examples
    --------
    >>> import tempfile
    >>> from cnnbook.training import fit
    >>> train, _ = data.load("digits", size=32)
    >>> net = build_for("lenet5", train, activation="relu")
    >>> info = model_info("lenet5", train, {"activation": "relu"}, source="digits", side=8)
    >>> options = {"checkpoint_info": info, "device": "cpu", "progress": False}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "digits.safetensors")
    ...     _ = fit(net, train, epochs=1, checkpoint=path, **options)
    ...     trained = load_trained(path)
    >>> trained
    <TrainedModel: lenet5, images of 1×32×32, 10 classes>
    >>> _, test = trained.load_data()
    >>> before, after = evaluate(net, test), evaluate(trained.network, test)
    >>> torch.allclose(before.scores, after.scores, atol=1e-5)
    True
    """
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
    classes = tuple(info["classes"])
    network = _build(info["model"], tuple(info["image"]), len(classes), info["options"])
    if mismatches := _mismatches(weights, network.state_dict()):
        more = f"; and {len(mismatches) - 5} more" if len(mismatches) > 5 else ""
        raise CheckpointError(
            f"{path} does not fit {info['model']} as it is built here: "
            f"{'; '.join(mismatches[:5])}{more}. Was the network built with options that "
            f"model_info was not given (options={info['options']})?"
        )
    network.load_state_dict(weights)
    return TrainedModel(network.eval(), classes, info)


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
    return said


def predict(
    trained: TrainedModel,
    pictures: str | Path | Sequence[str | Path],
    *,
    top: int = 3,
    device: torch.device | str | None = None,
) -> Table:
    """Classify pictures.

    Parameters
    ----------
    trained
        A network with its classes, see :func:`load_trained`.
    pictures
        One image file or several, of any size; resized and cropped as the test images were.
    top
        How many classes to name for each picture.
    device
        Where to run; the machine's fastest device if not given.

    Returns
    -------
    Table
        One row for each picture and each of its `top` classes: ``image``, ``rank``, ``class``,
        ``probability``.

    Raises
    ------
    DataError
        If a file is missing or not an image.
    TypeError
        If `trained` is not a :class:`TrainedModel`, or `pictures` are not paths.
    ValueError
        If there are no pictures, a path is a folder, or `top` is not positive.

    Examples
    --------
    A network that has learned nothing, and a picture that shows nothing:

    >>> import tempfile
    >>> from PIL import Image
    >>> train, _ = data.load("digits", size=32)
    >>> net = build_for("lenet5", train).eval()
    >>> _ = nn.init.zeros_(net.output.weight), nn.init.zeros_(net.output.bias)
    >>> trained = TrainedModel(net, train.classes, model_info("lenet5", train))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     picture = Path(folder, "black.png")
    ...     Image.new("L", (40, 30)).save(picture)
    ...     rows = predict(trained, [picture], top=2, device="cpu")
    >>> [(row["rank"], round(row["probability"], 3)) for row in rows]
    [(1, 0.1), (2, 0.1)]
    """
    if not isinstance(trained, TrainedModel):
        raise TypeError(
            f"predict takes a TrainedModel, which knows its classes, got {type(trained).__name__}; "
            "load_trained(FILE) returns one"
        )
    pictures = _paths(pictures)
    if not isinstance(top, int):
        raise TypeError(f"top is a whole number, got top={top!r}")
    if top < 1:
        raise ValueError(f"at least one class must be named, got top={top}")
    # The 1998 network's scores are minus distances: their softmax is that of the paper's eq. 9,
    # without its constant class.
    scores = evaluate(trained.network, trained._read(pictures), device=device).scores
    rows = []
    for picture, chances in zip(pictures, scores.softmax(1), strict=True):
        best = chances.topk(min(top, len(chances)))
        for rank, (chance, i) in enumerate(
            zip(best.values.tolist(), best.indices.tolist(), strict=True), 1
        ):
            rows.append(
                {
                    "image": str(picture),
                    "rank": rank,
                    "class": trained.classes[i],
                    "probability": chance,
                }
            )
    return Table(rows, formats={"probability": ".1%"})
