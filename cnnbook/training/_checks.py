"""Checks of what is passed to training, with the same wording everywhere."""

from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook.data import BatchSource


def check_positive(name: str, value: object) -> None:
    """Raise unless a value is a number greater than zero."""
    if not _number(name, value) > 0:
        raise ValueError(f"{name} must be positive, got {name}={value}")


def check_count(name: str, value: object) -> None:
    """Raise unless a value is a whole number greater than zero."""
    check_whole(name, value)
    check_positive(name, value)


def check_whole(name: str, value: object) -> None:
    """Raise TypeError unless a value is a whole number."""
    _number(name, value)
    if not isinstance(value, Integral):
        raise TypeError(f"{name} is a whole number, got {name}={value}")


def check_fraction(name: str, value: object) -> None:
    """Raise unless a value is a number from 0 to 1."""
    if not 0 <= _number(name, value) <= 1:
        raise ValueError(f"{name} is a fraction from 0 to 1, got {name}={value}")


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} is a number, got {name}={value!r} of type {type(value).__name__}")
    return float(value)


def check_network(model: object, call: str) -> None:
    """Raise TypeError unless something is a network; `call` says where it belongs."""
    if isinstance(model, nn.Module):
        return
    if isinstance(model, type):
        got = f"the class {model.__name__}; create one: {model.__name__}(...)"
    elif isinstance(model, str):
        got = f"the string {model!r}; to build a network by name: models.create({model!r})"
    elif isinstance(getattr(model, "network", None), nn.Module):
        got = f"a {type(model).__name__}; pass its .network"
    else:
        got = f"{type(model).__name__}"
    raise TypeError(f"{call} needs a network, a torch.nn.Module, as model, got {got}")


def check_loss(loss: object) -> None:
    """Raise TypeError unless something can be called as ``loss(output, labels)``."""
    example = "torch.nn.CrossEntropyLoss()"
    if isinstance(loss, type):
        raise TypeError(f"loss is the class {loss.__name__}; create one: add (), as in {example}")
    if not callable(loss):
        raise TypeError(
            f"loss is called as loss(output, labels), got {loss!r} of type {type(loss).__name__}; "
            f"pass a function or a module, for example {example}"
        )


def check_loss_value(value: object) -> None:
    """Raise ValueError unless a loss is one number in a tensor."""
    if not isinstance(value, Tensor):
        got = f"{type(value).__name__}, not a tensor"
    elif value.numel() != 1:
        got = f"a tensor of shape {tuple(value.shape)}"
    else:
        return
    raise ValueError(f"loss= returned {got}; the batch's mean, one number in a tensor, is needed")


def check_not_empty(batches: BatchSource, what: str) -> None:
    """Raise ValueError if a source announces no images."""
    if len(batches) < 1 or batches.images_per_epoch < 1:
        raise ValueError(
            f"{what} has no images: its length is {len(batches)} batches and images_per_epoch is "
            f"{batches.images_per_epoch}"
        )


def check_labels(output: Any, labels: Any, classes: int = 0) -> None:
    """Raise ValueError if cross-entropy cannot compare a network's output with labels.

    Parameters
    ----------
    output
        What the network returned for a batch.
    labels
        The batch's labels.
    classes
        Classes of the data, if known: the network needs an output for each.
    """
    if not isinstance(output, Tensor):
        raise ValueError(
            f"the network returned {type(output).__name__}, not one tensor of scores; pass "
            "a loss= that accepts it, for example models.googlenet_loss"
        )
    if output.ndim < 2:
        raise ValueError(
            f"the network returned scores of shape {tuple(output.shape)}; (N, classes) is needed"
        )
    outputs = output.shape[1]
    if outputs < classes:
        raise ValueError(
            f"the data have {classes} classes, the network has {outputs} outputs; "
            f"create it with num_classes={classes}"
        )
    if len(labels) != len(output):
        raise ValueError(f"a batch has {len(labels)} labels, but the network {len(output)} outputs")
    right_type = labels.dtype in (torch.int64, torch.uint8)
    if labels.shape != output.shape[:1] + output.shape[2:] or not right_type:
        cure = "labels"
        if output.ndim == labels.ndim == 2:
            cure += ".squeeze(1)" if labels.shape[1] == 1 else ".argmax(1)"
        if not right_type and not cure.endswith("argmax(1)"):
            cure += ".long()"
        raise ValueError(
            f"the data yield labels that are {labels.dtype} of shape {tuple(labels.shape)}; "
            f"torch.int64 of shape (N,), the index of each image's class, is needed: {cure}"
        )
    # -100 is cross-entropy's mark for what it leaves out.
    wrong = labels[(labels >= outputs) | (labels < 0) & (labels != -100)]
    if len(wrong):
        raise ValueError(
            f"a label is {int(wrong[0])}, but the network has {outputs} outputs, for classes 0 to "
            f"{outputs - 1}; create it with as many as there are classes"
        )


def check_batch(batch: object, layout: torch.memory_format) -> None:
    """Raise if what a source of batches yields is not a pair of images and labels."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(
            f"a source of batches yields pairs (images, labels), this one a {type(batch).__name__}"
        )
    for what, value in zip(("images", "labels"), batch, strict=True):
        if not isinstance(value, Tensor):
            raise TypeError(
                f"a source of batches yields tensors, this one {what} that are "
                f"{type(value).__name__}; make them with torch.as_tensor"
            )
    images, labels = batch
    if layout == torch.channels_last and images.ndim != 4:
        raise ValueError(
            f"the source of batches yields images of shape {tuple(images.shape)}; (N, C, H, W) is "
            "needed"
        )
    if labels.ndim == 0 or len(images) != len(labels):
        raise ValueError(
            f"the source of batches yields {len(images)} images with labels of shape "
            f"{tuple(labels.shape)}: one for each image is needed"
        )


def explain_images(model: nn.Module, images: Tensor, error: RuntimeError) -> None:
    """Raise ValueError, after a network has failed, if its images are not of its own type."""
    own = next((p for p in model.parameters() if p.is_floating_point()), None)
    if own is None:
        return
    if images.device.type != own.device.type:
        raise ValueError(
            f"the data yield images on {images.device}, but the network is on {own.device}: "
            f"images.to({str(own.device)!r})"
        ) from error
    if images.dtype != own.dtype:
        cure = ".float()" if own.dtype == torch.float32 else f".to({own.dtype})"
        scale = " / 255, then normalized" if images.dtype == torch.uint8 else ""
        raise ValueError(
            f"the data yield images that are {images.dtype} of shape {tuple(images.shape)}, but "
            f"the network is {own.dtype}: images{cure}{scale}"
        ) from error
