"""``cnnbook train``: train a network by name, and save it to a file that describes it."""

import argparse
import ast
import dataclasses
import inspect
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbook import data, models, settings, training
from cnnbook._checks import check_fraction
from cnnbook._errors import check_options
from cnnbook._files import expanded
from cnnbook.data.seeds import torch_seed
from cnnbook.tables import printable
from cnnbook.training import processes
from cnnbook.training.evaluation import loss_and_accuracy
from cnnbook.training.trained import image_shape


def train(chosen: argparse.Namespace) -> int:
    """Train a network and print the result."""
    # In a file name, a path's separators would create folders.
    source = Path(chosen.data).name if chosen.data.startswith("imagefolder:") else chosen.data
    checkpoint = chosen.checkpoint
    if checkpoint is None:
        checkpoint = f"{chosen.model}-{source}.safetensors"
    with training.join_processes() as device:
        result = run_training(
            chosen.model,
            chosen.data,
            size=chosen.size,
            options=parse_options(chosen.option),
            augment=parse_options(chosen.augment),
            val_fraction=chosen.val_fraction,
            label_smoothing=chosen.label_smoothing,
            checkpoint=None if chosen.no_checkpoint else checkpoint,
            tensorboard=chosen.tensorboard,
            patience=chosen.patience,
            time_limit=chosen.time_limit,
            quiet=chosen.quiet,
            seed=chosen.seed,
            epochs=chosen.epochs,
            batch_size=chosen.batch_size,
            lr=chosen.lr,
            weight_decay=chosen.weight_decay,
            ema_decay=chosen.ema_decay,
            target_accuracy=chosen.target_accuracy,
            precision=chosen.precision,
            channels_last=chosen.channels_last,
            compile=chosen.compile,
            checkpoint_every=chosen.checkpoint_every,
            resume=not chosen.no_resume,
            device=chosen.device or device,
        )
        if processes.is_main_process():
            show_training(result, as_json=chosen.json)
    return 130 if interrupted(result["stopped"]) else 0


def show_training(result: dict[str, Any], *, as_json: bool) -> None:
    """Print what :func:`run_training` returned."""
    if as_json:
        print(json.dumps(result))
        return
    done = len(result["train_loss"])
    trained = printable(f"{result['model']} on {result['data']}")
    print(f"{trained}: {result['parameters']:,} parameters")
    if done:
        accuracy = result["val_accuracy"]
        measured = f"validation accuracy {accuracy[-1]:.2%}" if accuracy else "trained"
        print(
            f"{measured} after {done} epoch{'s' if done > 1 else ''} and "
            f"{result['seconds'][-1]:.1f} s of training"
        )
    if result["stopped"]:
        print(result["stopped"])
    if result["best_epoch"]:
        print(f"kept the weights of epoch {result['best_epoch']}, of the lowest validation loss")
    if result["test_accuracy"] is not None:
        print(f"test accuracy {result['test_accuracy']:.2%}")
    if result["checkpoint"]:
        saved = printable(result["checkpoint"])
        print(f"saved in {saved}; try: cnnbook evaluate {saved}")


def parse_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Turn ``["width=0.5", "stem=small"]`` into ``{"width": 0.5, "stem": "small"}``.

    Raises
    ------
    ValueError
        If a pair has no equals sign.

    Examples
    --------
    >>> parse_options(["width=0.5", "stem=small"])
    {'width': 0.5, 'stem': 'small'}
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not (name and sign):
            raise ValueError(f"options are given as NAME=VALUE, got {pair!r}")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options


Images = data.Dataset | data.ImageFolder


def load_for(
    name: str, dataset: str, size: int | None, val_fraction: float | None
) -> tuple[Images, Images | None, Images | None, int]:
    """Load a data set in the size and with the channels that a network takes.

    Parameters
    ----------
    name
        Name of the network.
    dataset
        Name of the data set.
    size
        Side of the images in pixels. If not given: the paper's for image folders, and for networks
        made for small images unless the images are larger; the images' own otherwise.
    val_fraction
        Fraction of the training images that is set aside for validation, the same images whatever
        the run's seed; 0 for none, 0.1 if not given. Image folders come with a validation part.

    Returns
    -------
    train, val, test : Dataset or ImageFolder
        Without a validation part if `val_fraction` is 0, and without a test part if the data come
        with a validation part instead.
    side : int
        Side of the images in pixels, without the black border that small ones may have been given.

    Raises
    ------
    ValueError
        If `val_fraction` does not lie between 0 and 1, or the data have a validation part.
    """
    channels, usual, _ = models.model_spec(name).input_shape
    from_folder = dataset == "imagenette" or dataset.startswith("imagefolder:")
    if from_folder and val_fraction is not None:
        raise ValueError(
            f"{dataset} has a validation part of its own: leave out val_fraction={val_fraction}"
        )
    fraction = 0.1 if val_fraction is None else val_fraction
    if not 0 <= fraction < 1:
        raise ValueError(
            f"val_fraction is 0 or more and less than 1, such as 0.1, got val_fraction={fraction}"
        )
    if size is None and from_folder:
        size = usual
    # One process downloads; the others then find the files.
    if not processes.is_main_process():
        processes.barrier()
    options: dict[str, Any] = {"size": size, "channels": channels} if from_folder else {}
    train, other = data.load(dataset, **options)
    if processes.is_main_process():
        processes.barrier()
    side = image_shape(train)[1]
    if not isinstance(train, data.Dataset) or not isinstance(other, data.Dataset):
        return train, other, None, side
    if size is None and usual <= 32:
        size = max(usual, *train.images.shape[2:])
    if size is not None:
        train, other = train.padded(size), other.padded(size)
    if fraction == 0:
        return train, None, other, side
    return *train.split(fraction), other, side


def as_trained_on(name: str, dataset: Images) -> Images:
    """Return a data set that is normalized as the images of a network's published weights were."""
    for weights in models.model_spec(name).weights.values():
        mean, std = weights.preprocessing.mean, weights.preprocessing.std
        if len(mean) == len(dataset.mean):
            return dataclasses.replace(dataset, mean=mean, std=std)
    return dataset  # models.create says what does not fit


class SmoothedInTraining:
    """A network's own loss with label smoothing, in training only.

    Parameters
    ----------
    name
        Name of the network.
    label_smoothing
        Fraction of the target that is spread over all classes.

    Raises
    ------
    ValueError
        If the loss has no label smoothing, or the fraction is not from 0 to 1.
    """

    def __init__(self, name: str, label_smoothing: float):
        self.loss: Callable[..., Tensor] = models.model_spec(name).loss
        self.label_smoothing = label_smoothing
        if "label_smoothing" not in inspect.signature(self.loss).parameters:
            loss = getattr(self.loss, "__name__", repr(self.loss))
            raise ValueError(
                f"{name} is trained with {loss}, which has no label smoothing: leave out "
                "--label-smoothing"
            )
        check_fraction("label_smoothing", label_smoothing)

    def __call__(self, output: Any, labels: Tensor) -> Tensor:
        """Return the loss. In evaluation, without gradients, labels are not smoothed."""
        smoothing = self.label_smoothing if torch.is_grad_enabled() else 0.0
        return self.loss(output, labels, label_smoothing=smoothing)


def loss_options(name: str, label_smoothing: float) -> dict[str, Any]:
    """Return the options of :func:`cnnbook.training.fit` that make it train with a network's loss.

    Raises
    ------
    ValueError
        If label smoothing is requested and the loss has none.
    """
    loss = models.model_spec(name).loss
    if loss is F.cross_entropy:  # fit's own, which checks more thoroughly
        return {"label_smoothing": label_smoothing}
    return {"loss": SmoothedInTraining(name, label_smoothing) if label_smoothing else loss}


def run_training(
    name: str,
    dataset: str,
    *,
    size: int | None,
    options: dict[str, Any],
    augment: dict[str, Any],
    val_fraction: float | None,
    label_smoothing: float,
    checkpoint: str | Path | None,
    tensorboard: str | None,
    patience: int | None,
    time_limit: float | None,
    quiet: bool,
    seed: int,
    **fit_options: Any,
) -> dict[str, Any]:
    """Train a network and save it to a file for :func:`cnnbook.training.load`.

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
    val_fraction
        Fraction of the training images that is set aside for validation; see :func:`load_for`.
    label_smoothing
        Fraction of the target that is spread over all classes.
    checkpoint
        File for the trained network; if it exists, training resumes from it. None for no file.
    tensorboard
        Folder for TensorBoard's log, or None.
    patience
        Epochs without a lower validation loss after which training stops, or None.
    time_limit
        Seconds of training after which it stops, or None.
    quiet
        Whether to print nothing during training.
    seed
        Seed of the weights and of the training.
    **fit_options
        Passed to :func:`cnnbook.training.fit`.

    Returns
    -------
    dict
        Names, history, checkpoint; ``best_epoch``, from 1, whose weights are kept, if `patience`
        is given; and ``test_accuracy``, 0 to 1, of the network that is kept: None if the data have
        no test part, or a signal stopped the training.
    """
    defaults = models.model_options(name)  # "stem=227" is a text, whatever it looks like
    options = {k: str(v) if isinstance(defaults.get(k), str) else v for k, v in options.items()}
    check_options("random transform", augment, data.Augment)
    loss = loss_options(name, label_smoothing)
    train_set, val_set, test_set, side = load_for(name, dataset, size, val_fraction)
    for option, value in {
        "patience": patience, "target_accuracy": fit_options.get("target_accuracy")
    }.items():  # fmt: skip
        if val_set is None and value is not None:
            raise ValueError(
                f"{option}={value} looks at validation images: give a val_fraction above 0"
            )
    try:
        augmentation = data.Augment(**augment) if augment else None
    except TypeError as error:
        raise ValueError(f"cannot augment with {augment}: {error}") from None
    if "weights" in options:  # the network then expects images as it was trained on them
        train_set = as_trained_on(name, train_set)
        val_set = None if val_set is None else as_trained_on(name, val_set)
        test_set = None if test_set is None else as_trained_on(name, test_set)
    torch.manual_seed(torch_seed(seed))
    network = training.build_for(name, train_set, **options)
    info = training.model_info(network, train_set, source=dataset, side=side)
    if test_set is not None:  # otherwise the data come with their validation part
        info["val_fraction"] = 0.1 if val_fraction is None else val_fraction
    if "loss" in loss:  # otherwise fit itself stores the smoothing in the file, and compares it
        info["label_smoothing"] = label_smoothing
    if checkpoint is not None and fit_options.get("resume", True):
        check_same_network(checkpoint, info)
    # On a terminal, show a bar; in a cluster's log, print a line per epoch instead.
    bar = not quiet and sys.stderr.isatty()
    history = training.fit(
        network,
        train_set,
        val_set,
        augment=augmentation,
        checkpoint=checkpoint,
        checkpoint_info=info if checkpoint is not None else None,
        callbacks=callbacks_for(tensorboard, patience, time_limit, lines=not quiet and not bar),
        progress=bar,
        seed=seed,
        **loss,
        **fit_options,
    )
    best = None
    if patience is not None and history.val_loss:
        best = history.val_loss.index(min(history.val_loss)) + 1
    accuracy = None
    if test_set is not None and not interrupted(history.stopped):
        accuracy = test_accuracy(name, network, test_set, fit_options.get("device"))
    return {
        "model": name,
        "data": dataset,
        "parameters": sum(p.numel() for p in network.parameters()),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        "best_epoch": best,
        "test_accuracy": accuracy,
        **history.to_dict(),
    }


def interrupted(stopped: str) -> bool:
    """Return whether a signal stopped the training, which the same command continues."""
    return stopped.startswith("stopped at step")


def test_accuracy(
    name: str, network: torch.nn.Module, test: Images, device: torch.device | str | None
) -> float:
    """Return the accuracy on the test images, of which every process classifies a part."""
    device = settings.device(device)
    part: dict[str, Any] = {"rank": processes.rank(), "world_size": processes.world_size()}
    batches = data.make_batches(test, 1000, shuffle=False, device=device, **part)
    loss = models.model_spec(name).loss
    return loss_and_accuracy(network, batches, loss, device, torch.float32)[1]


def callbacks_for(
    tensorboard: str | None, patience: int | None, time_limit: float | None, *, lines: bool
) -> list[training.Callback]:
    """Return the callbacks that the options of the command ask for.

    Raises
    ------
    ValueError
        If TensorBoard is not installed, or a limit is not positive.
    """
    callbacks: list[training.Callback] = []
    if lines:
        callbacks.append(training.EpochLines())
    if tensorboard is not None:
        try:
            callbacks.append(training.TensorBoard(tensorboard))
        except ModuleNotFoundError as error:
            raise ValueError(str(error)) from None
    if patience is not None:
        callbacks.append(training.EarlyStopping("val_loss", patience))
    if time_limit is not None:
        callbacks.append(training.TimeLimit(time_limit))
    return callbacks


def check_same_network(path: str | Path, info: dict[str, Any]) -> None:
    """Raise CheckpointError if a file holds another network, or one trained on other data."""
    if not os.path.exists(expanded(path)):
        return
    before = training.load_checkpoint(path)[1].get("info") or {}
    info = json.loads(json.dumps(info))  # tuples come back as lists
    if info["data"].startswith("imagefolder:"):
        del info["data"]  # the folder may have been moved; its classes are compared
    other = [f"{k} was {before.get(k)}, is {v}" for k, v in info.items() if before.get(k) != v]
    if other:
        raise training.CheckpointError(
            f"{path} is of another run: {'; '.join(other)}. Give the same options, another "
            "--checkpoint, or --no-resume to start over"
        )
