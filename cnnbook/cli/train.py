"""``cnnbook train``: train a network by name, and save it to a file that describes it."""

import argparse
import ast
import inspect
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cnnbook import data, models, training
from cnnbook._errors import check_options
from cnnbook.training import processes
from cnnbook.training.trained import image_shape


def train(chosen: argparse.Namespace) -> int:
    """Train a network and print the result."""
    # In a file name, a path's separators would create folders.
    source = Path(chosen.data).name if chosen.data.startswith("imagefolder:") else chosen.data
    checkpoint = chosen.checkpoint or f"{chosen.model}-{source}.safetensors"
    with training.join_processes() as device:
        result = run_training(
            chosen.model,
            chosen.data,
            size=chosen.size,
            options=parse_options(chosen.option),
            augment=parse_options(chosen.augment),
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
    return 130 if result["stopped"].startswith("stopped at step") else 0


def show_training(result: dict[str, Any], *, as_json: bool) -> None:
    """Print what :func:`run_training` returned."""
    if as_json:
        print(json.dumps(result))
        return
    done = len(result["val_accuracy"])
    print(f"{result['model']} on {result['data']}: {result['parameters']:,} parameters")
    if done:
        print(
            f"validation accuracy {result['val_accuracy'][-1]:.2%} after {done} "
            f"epoch{'s' if done > 1 else ''} and "
            f"{result['seconds'][-1]:.1f} s of training"
        )
    if result["stopped"]:
        print(result["stopped"])
    if result["checkpoint"]:
        print(f"saved in {result['checkpoint']}; try: cnnbook evaluate {result['checkpoint']}")


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


def load_for(
    name: str, dataset: str, size: int | None
) -> tuple[data.Dataset | data.ImageFolder, data.Dataset | data.ImageFolder, int]:
    """Load a data set in the size and with the channels that a network takes.

    Parameters
    ----------
    name
        Name of the network.
    dataset
        Name of the data set.
    size
        Side of the images in pixels. If not given: the paper's for image folders and for networks
        made for small images, the images' own otherwise.

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
    if size is not None and isinstance(train, data.Dataset) and isinstance(test, data.Dataset):
        train, test = train.padded(size), test.padded(size)
    return train, test, side


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
        if not 0 <= label_smoothing <= 1:
            raise ValueError(
                f"label_smoothing is a fraction from 0 to 1, got label_smoothing={label_smoothing}"
            )

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
        Names, history, checkpoint.
    """
    defaults = models.model_options(name)  # "stem=227" is a text, whatever it looks like
    options = {k: str(v) if isinstance(defaults.get(k), str) else v for k, v in options.items()}
    check_options("random transform", augment, data.Augment)
    loss = loss_options(name, label_smoothing)
    train_set, test_set, side = load_for(name, dataset, size)
    try:
        augmentation = data.Augment(**augment) if augment else None
    except TypeError as error:
        raise ValueError(f"cannot augment with {augment}: {error}") from None
    torch.manual_seed(seed)
    network = training.build_for(name, train_set, **options)
    info = training.model_info(network, train_set, source=dataset, side=side)
    if "loss" in loss:  # otherwise fit itself stores the smoothing in the file, and compares it
        info["label_smoothing"] = label_smoothing
    if checkpoint is not None and fit_options.get("resume", True):
        check_same_network(checkpoint, info)
    # On a terminal, show a bar; in a cluster's log, print a line per epoch instead.
    bar = not quiet and sys.stderr.isatty()
    history = training.fit(
        network,
        train_set,
        test_set,
        augment=augmentation,
        checkpoint=checkpoint,
        checkpoint_info=info if checkpoint is not None else None,
        callbacks=callbacks_for(tensorboard, patience, time_limit, lines=not quiet and not bar),
        progress=bar,
        seed=seed,
        **loss,
        **fit_options,
    )
    return {
        "model": name,
        "data": dataset,
        "parameters": sum(p.numel() for p in network.parameters()),
        "checkpoint": None if checkpoint is None else str(checkpoint),
        **history.to_dict(),
    }


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
            "--checkpoint, or --no-resume to start over"
        )
