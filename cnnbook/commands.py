"""What the commands of ``python -m cnnbook`` do, as functions."""

import ast
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cnnbook import analysis, data, models, training
from cnnbook.data import datasets, files
from cnnbook.tables import Table
from cnnbook.training import processes


def models_table(names: Sequence[str]) -> Table:
    """Return one row per network: paper, input, parameters, multiply–adds, last layers.

    Parameters
    ----------
    names
        Names as in :func:`cnnbook.models.list_models`; all of them if empty.

    Returns
    -------
    Table
        Multiply–adds are for one image of the size given.
    """
    rows = []
    for name in names or models.list_models():
        known = models.model_spec(name)
        with torch.device("meta"):  # shapes and counts need no values
            net = models.create(name)
        layers = analysis.summary(net, known.input_shape).rows
        rows.append(
            {
                "name": name,
                "paper": known.paper,
                "input": "×".join(map(str, known.input_shape)),
                "parameters": sum(p.numel() for p in net.parameters()),
                "macs": sum(row["macs"] for row in layers),
                "top layers": " ".join(row["layer"] for row in layers[-3:]),
            }
        )
    return Table(rows)


def data_table() -> Table:
    """Return one row per data set: where its files are, if they are on this machine."""
    rows = []
    for name in data.list_datasets():
        if (datasets.ASSETS / name).is_dir():
            where, size = "in the package", _size([datasets.ASSETS / name])
        else:
            found = [
                next(
                    (
                        f / file.name
                        for f in files.search_folders(name)
                        if (f / file.name).is_file()
                    ),
                    None,
                )
                for file in datasets.FASHION_MNIST
            ]
            missing = found.count(None)
            where = f"{missing} of {len(found)} files missing" if missing else found[0].parent
            size = _size(path for path in found if path)
        rows.append({"name": name, "where": str(where), "bytes": size})
    rows.append({"name": "imagefolder:PATH", "where": "a folder of yours", "bytes": None})
    return Table(rows)


def _size(paths: Sequence[Path]) -> int:
    return sum(
        file.stat().st_size
        for path in paths
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    )


def verify_data(name: str, download: bool) -> Table:
    """Read a data set, comparing every file with its checksum, and count its images.

    Parameters
    ----------
    name
        As in :func:`cnnbook.data.load`.
    download
        Whether missing files may be downloaded.

    Returns
    -------
    Table
        One row per part: images, classes, images of the rarest and the commonest class.

    Raises
    ------
    DataError
        If a file is missing or damaged. For an image folder, every image is decoded.
    """
    rows = []
    for part in data.load(name, download=download):
        if isinstance(part, data.ImageFolder):
            for index in range(len(part)):
                part.read(index, lambda image: image)
        counts = torch.bincount(part.labels, minlength=len(part.classes))
        rows.append(
            {
                "part": part.name,
                "images": len(part),
                "classes": len(part.classes),
                "rarest": int(counts.min()),
                "commonest": int(counts.max()),
            }
        )
    return Table(rows)


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn ``["width=0.5", "stem=small"]`` into ``{"width": 0.5, "stem": "small"}``.

    Raises
    ------
    ValueError
        If a pair has no equals sign.
    """
    options = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise ValueError(f"options are given as NAME=VALUE, got {pair!r}")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


def load_for(name: str, dataset: str, size: int | None):
    """Load a data set in the size and with the channels that a network takes.

    Parameters
    ----------
    name
        Name of the network.
    dataset
        Name of the data set.
    size
        Side of the images in pixels. If not given: the paper's for image folders and for networks
        that were made for small images, the images' own for all others.

    Returns
    -------
    train, test : Dataset or ImageFolder
    side : int
        Side of the images in pixels, without the black border that small ones may have been given.
    """
    channels, side, _ = models.model_spec(name).input_shape
    from_folder = dataset.startswith("imagefolder:")
    if size is None and (from_folder or side <= 32):
        size = side
    # One process downloads; the others then find the files.
    if not processes.is_main_process():
        processes.barrier()
    train, test = data.load(dataset, size=size if from_folder else None, channels=channels)
    if processes.is_main_process():
        processes.barrier()
    side = image_shape(train)[1]
    if size is not None and not from_folder:
        train, test = train.padded(size), test.padded(size)
    return train, test, side


def image_shape(dataset: data.Dataset | data.ImageFolder) -> tuple[int, int, int]:
    """Return ``(C, H, W)`` of a data set's images."""
    if isinstance(dataset, data.ImageFolder):
        return dataset.channels, dataset.size, dataset.size
    return tuple(dataset.images.shape[1:])


def build(name: str, shape: Sequence[int], num_classes: int, options: dict) -> torch.nn.Module:
    """Create a network, with an unknown option as a ValueError.

    Raises
    ------
    ValueError
        For an option that the network does not have, or one with a wrong value.
    """
    try:
        return models.create_for(name, tuple(shape), num_classes, **options)
    except TypeError as error:
        raise ValueError(f"{name} cannot be built with {options}: {error}") from None


def train(
    name: str,
    dataset: str,
    *,
    size: int | None,
    options: dict[str, Any],
    augment: dict[str, Any],
    checkpoint: str | Path | None,
    tensorboard: str | None,
    quiet: bool,
    seed: int,
    **fit_options,
) -> dict[str, Any]:
    """Train a network and keep it in a file that :func:`evaluate` and :func:`predict` understand.

    Parameters
    ----------
    name, dataset
        Names of the network and of the data set.
    size
        Side of the images.
    options
        Options of the network.
    augment
        Options of :class:`cnnbook.data.Augment`; empty for no augmentation.
    checkpoint
        File for the trained network; if it exists, training goes on from it. None for no file.
    tensorboard
        Folder for TensorBoard's log, or None.
    quiet
        Whether to say nothing on the way.
    seed
        Seed of the weights and of the training.
    **fit_options
        Passed to :func:`cnnbook.training.fit`.

    Returns
    -------
    dict
        Names, history, checkpoint.
    """
    train_set, test_set, side = load_for(name, dataset, size)
    shape = image_shape(train_set)
    try:
        changes = data.Augment(**augment) if augment else None
    except TypeError as error:
        raise ValueError(f"cannot augment with {augment}: {error}") from None
    torch.manual_seed(seed)
    network = build(name, shape, len(train_set.classes), options)
    auxiliary = isinstance(network, models.GoogLeNet) and network.auxiliary
    loss = models.googlenet_loss if auxiliary else None
    if isinstance(network, models.LeNet51998):
        loss = models.map_loss
    info = {
        "model": name,
        "options": options,
        "data": dataset,
        "image": list(shape),
        "margin": getattr(train_set, "margin", 1.0),
        "side": side,
        "classes": list(train_set.classes),
        "mean": list(train_set.mean),
        "std": list(train_set.std),
    }
    if checkpoint is not None and fit_options.get("resume", True):
        _check_same_network(checkpoint, info)
    # A bar moves on a terminal; in a cluster's log, a line per epoch is read instead.
    bar = not quiet and sys.stderr.isatty()
    callbacks: list[training.Callback] = []
    if not quiet and not bar:
        callbacks.append(training.EpochLines())
    if tensorboard is not None:
        try:
            callbacks.append(training.TensorBoard(tensorboard))
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from None
    history = training.fit(
        network,
        train_set,
        test_set,
        loss=loss,
        augment=changes,
        checkpoint=checkpoint,
        checkpoint_info=info if checkpoint is not None else None,
        callbacks=callbacks,
        progress=bar,
        seed=seed,
        **fit_options,
    )
    return {
        "model": name,
        "data": dataset,
        "parameters": sum(p.numel() for p in network.parameters()),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        **history.to_dict(),
    }


def _check_same_network(path: str | Path, info: dict[str, Any]) -> None:
    """Raise CheckpointError if a file holds another network, or one that learned other data."""
    if not Path(path).expanduser().exists():
        return
    before = training.load_checkpoint(path)[1].get("info") or {}
    info = json.loads(json.dumps(info))  # tuples come back as lists
    if info["data"].startswith("imagefolder:"):
        del info["data"]  # the folder may have been moved; its classes are compared
    other = [f"{k} was {before.get(k)}, is {v}" for k, v in info.items() if before.get(k) != v]
    if other:
        raise training.CheckpointError(
            f"{path} is of another run: {'; '.join(other)}. Give the same options, another "
            "--checkpoint, or --no-resume to begin anew"
        )


def load_trained(path: str | Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """Rebuild the network that :func:`train` kept.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    network : torch.nn.Module
        In evaluation mode.
    info : dict
        Its name, options, data set, classes, image shape and normalization.

    Raises
    ------
    CheckpointError
        If the file is damaged, or does not say which network it holds.
    """
    weights, state = training.load_checkpoint(path)
    info = state.get("info") if isinstance(state, dict) else None
    if not isinstance(info, dict) or "model" not in info:
        raise training.CheckpointError(
            f"{path} does not say which network it holds; only files that `python -m cnnbook "
            "train` wrote do. Build the network yourself and use training.load_weights()"
        )
    network = build(info["model"], info["image"], len(info["classes"]), info["options"])
    network.load_state_dict(weights)
    return network.eval(), info


def evaluate(path: str | Path, dataset: str | None, **options) -> tuple[dict[str, Any], Table]:
    """Measure a trained network on the test part of a data set.

    Parameters
    ----------
    path
        File that :func:`train` wrote.
    dataset
        Name of the data set; the one it was trained on if not given.
    **options
        Passed to :func:`cnnbook.training.evaluate`.

    Returns
    -------
    result : dict
        Images, loss and accuracy.
    table : Table
        Accuracy and the most frequent mistake, by class.

    Raises
    ------
    ValueError
        If the data set has other classes than the network learned.
    """
    network, info = load_trained(path)
    dataset = dataset or info["data"]
    channels, side, _ = info["image"]
    _, test = data.load(dataset, size=side, channels=channels)
    if list(test.classes) != info["classes"]:
        raise ValueError(
            f"{path} was trained on the classes {info['classes']}, {dataset} has "
            f"{list(test.classes)}"
        )
    result = training.evaluate(network, test, **options)
    matrix = analysis.confusion_matrix(result.labels, result.predictions, len(test.classes))
    rows = []
    for name, row, own in zip(test.classes, matrix, matrix.diagonal(), strict=True):
        wrong = row.clone()
        wrong[len(rows)] = 0
        most = test.classes[int(wrong.argmax())] if wrong.any() else ""
        images = int(row.sum())
        accuracy = int(own) / images if images else None
        rows.append(
            {"class": name, "images": images, "accuracy": accuracy, "most often taken for": most}
        )
    summary = {
        "model": info["model"],
        "data": dataset,
        "images": len(result.labels),
        "loss": result.loss,
        "accuracy": result.accuracy,
    }
    return summary, Table(rows, formats={"accuracy": ".1%"})


def predict(path: str | Path, pictures: Sequence[str], top: int, **options) -> list[dict[str, Any]]:
    """Name what is on pictures.

    Parameters
    ----------
    path
        File that :func:`train` wrote.
    pictures
        Image files, of any size; shrunk and cut as the test images were.
    top
        How many classes to name for each.
    **options
        Passed to :func:`cnnbook.training.evaluate`.

    Returns
    -------
    list of dict
        For each picture and each of its `top` classes: image, rank, class, probability.

    Raises
    ------
    DataError
        If a file is missing or not an image.
    ValueError
        If `top` is not positive.
    """
    if top < 1:
        raise ValueError(f"at least one class must be named, got top={top}")
    network, info = load_trained(path)
    channels, side, _ = info["image"]
    folder = data.ImageFolder(
        "pictures",
        Path(),
        np.array([os.fsencode(p) for p in pictures]),
        torch.zeros(len(pictures), dtype=torch.int64),
        tuple(info["classes"]),
        train=False,
        size=info["side"],
        channels=channels,
        mean=tuple(info["mean"]),
        std=tuple(info["std"]),
        margin=info["margin"],
    )
    transform = folder.transform()
    images = torch.stack([folder.read(i, transform) for i in range(len(folder))])
    given = data.Dataset(
        folder.name, images, folder.labels, folder.classes, folder.mean, folder.std
    ).padded(side)
    # The 1998 network's scores are minus distances: their softmax is that of the paper's eq. 9,
    # less its constant class.
    chances = training.evaluate(network, given, **options).scores.softmax(1)
    rows = []
    for picture, chance in zip(pictures, chances, strict=True):
        best = chance.topk(min(top, len(chance)))
        for rank, (p, i) in enumerate(zip(*map(torch.Tensor.tolist, best), strict=True), 1):
            rows.append(
                {"image": picture, "rank": rank, "class": folder.classes[i], "probability": p}
            )
    return rows
