"""Checks of what is passed to training, with the same wording everywhere."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils.data import Subset, TensorDataset

from cnnbook._checks import no_tensor
from cnnbook._networks import input_type
from cnnbook.data import BatchSource
from cnnbook.training.ignored import USUAL


def check_network(model: object, call: str) -> None:
    """Raise unless something is a network that has its values; `call` says where it belongs.

    Raises
    ------
    TypeError
        If it is not a network.
    ValueError
        If some of its parameters or buffers are on the device ``"meta"``.
    """
    if isinstance(model, nn.Module):
        for name, tensor in _tensors_of(model):
            if tensor.is_meta:
                raise ValueError(
                    f"{call} needs a network with values, and {name} of {type(model).__name__} is "
                    "on the device 'meta', where there are only shapes: build the network outside "
                    'torch.device("meta")'
                )
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


def _tensors_of(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def check_gradients_on() -> None:
    """Raise ValueError in a context in which torch computes no gradients."""
    if not torch.is_grad_enabled():
        mode = "inference_mode" if torch.is_inference_mode_enabled() else "no_grad"
        raise ValueError(
            f"nothing can be trained under torch.{mode}, where no gradients are computed: call "
            "fit() outside"
        )


def check_trainable(model: nn.Module) -> None:
    """Raise ValueError if no parameter of a network can be trained."""
    parameters = list(model.parameters())
    name = type(model).__name__
    if not parameters:
        raise ValueError(f"{name} has no parameters to train")
    if not any(p.requires_grad for p in parameters):
        raise ValueError(
            f"all {len(parameters)} parameters of {name} are frozen, so that there is nothing to "
            "train: requires_grad_(True) on the layers to be trained, for example the last one"
        )
    for path, tensor in _tensors_of(model):
        if not is_lazy(tensor) and tensor.is_inference():
            raise ValueError(
                f"{path} of {name} was made under torch.inference_mode, and cannot be trained; "
                "make it outside"
            )


def check_one_scale(train: object, val: object) -> None:
    """Raise ValueError if validation images are known to differ from the training images in kind.

    A network that has learned from images of one mean and standard deviation says little about
    images that are normalized differently.
    """
    advice = ""
    if bool(_scaled_only(train)) != bool(_scaled_only(val)):
        advice = "; uint8 tensors are only scaled to 0…1: make a data.Dataset of them, with both"
    for what, cure in {
        "classes": "use one list of classes, in one order",
        "channels": "use images with as many channels",
        "mean": f"normalize both with the training images' mean{advice}",
        "std": f"normalize both with the training images' std{advice}",
    }.items():
        one, other = _known(train, what), _known(val, what)
        if one is not None and other is not None and one != other:
            raise ValueError(
                f"train has {what} {shortened(one)}, val has {shortened(other)}: {cure}"
            )


def _scaled_only(data: object) -> int:
    """Return the channels of uint8 tensors, which are scaled to 0…1 and not normalized; or 0."""
    while isinstance(data, Subset):
        data = data.dataset
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, tuple | list) and len(data) == 2:
        images = data[0]
        if isinstance(images, Tensor) and images.dtype == torch.uint8 and images.ndim == 4:
            return images.shape[1]
    return 0


def _known(data: object, what: str) -> object:
    """Return what a data set, or that in a loader of it, says about its images, if anything."""
    if channels := _scaled_only(data):
        own = {"channels": channels, "mean": (0.0,) * channels, "std": (1.0,) * channels}
        return own.get(what)
    while data is not None:
        if what == "channels" and isinstance(getattr(data, "images", None), Tensor):
            return data.images.shape[1]  # type: ignore[attr-defined]
        value = getattr(data, what, None)
        if isinstance(value, int):
            return value
        if isinstance(value, list | tuple):
            return tuple(round(v, 6) if isinstance(v, float) else v for v in value)
        data = getattr(data, "dataset", None)
    return None


def shortened(value: object) -> str:
    """Return a value as text of a sentence's length."""
    text = str(value)
    return text if len(text) < 120 else f"{text[:110]} …"


def check_gradient(loss: Tensor) -> Tensor:
    """Return a loss in training; raise ValueError if no parameter can be trained with it."""
    if not loss.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            "the loss depends on no parameter that is trained: the layers before it are frozen, "
            "or their result is detached or computed under torch.no_grad"
        )
    return loss


def check_no_other_scores(output: Any, scores: Tensor) -> None:
    """Raise ValueError if a network returned more scores than the loss would be computed from."""
    parts = list(output.values()) if isinstance(output, Mapping) else output
    if not isinstance(parts, list | tuple):
        return
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if sum(part.shape == scores.shape for part in tensors) > 1:
        raise ValueError(
            f"the network returned {type(output).__name__} of several tensors of scores, as those "
            "with auxiliary classifiers do; pass a loss= that accepts it, for example "
            "models.googlenet_loss, or say with output= which scores alone to train on"
        )


def check_not_empty(batches: BatchSource, what: str) -> None:
    """Raise ValueError if a source announces no images."""
    # How many images an iterable has may not be known.
    if len(batches) < 1 or (batches.images_per_epoch or 1) < 1:
        raise ValueError(
            f"{what} has no images: its length is {len(batches)} batches and images_per_epoch is "
            f"{batches.images_per_epoch}"
        )


def check_labels(
    output: Tensor, labels: Tensor, classes: int = 0, ignored: Sequence[int] = (USUAL,)
) -> None:
    """Raise ValueError if cross-entropy cannot compare a network's scores with labels.

    Parameters
    ----------
    output
        The scores of a batch.
    labels
        The batch's labels.
    classes
        Classes of the data, if known: the network needs an output for each.
    ignored
        Labels that the loss leaves out.
    """
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
        if labels.shape == output.shape and labels.is_floating_point() and output.shape[1] > 1:
            cure += ", or, if they are probabilities of the classes, loss=nn.CrossEntropyLoss()"
        elif not right_type and not cure.endswith("argmax(1)"):
            cure += ".long()"
        raise ValueError(
            f"the data yield labels that are {labels.dtype} of shape {tuple(labels.shape)}; "
            f"torch.int64 of shape (N,), the index of each image's class, is needed: {cure}"
        )
    wrong = labels[(labels >= outputs) | (labels < 0)]
    for label in ignored:
        wrong = wrong[wrong != label]
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
            raise TypeError(f"a source of batches yields tensors: {no_tensor(what, value)}")
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
    kind = input_type(model)
    own = next((p for p in model.parameters() if p.dtype == kind), None)
    if own is None:
        return
    if images.device.type != own.device.type:
        raise ValueError(
            f"the data yield images on {images.device}, but the network is on {own.device}: "
            f"images.to({str(own.device)!r})"
        ) from error
    expected = re.search(r"expected input(\[[\d, ]+\]) to have (\d+) channels", str(error))
    if expected and expected[1] == str(list(images.shape)):
        cure = "use images, or build a network, with as many"
        if images.ndim == 4 and images.shape[-1] == int(expected[2]):
            cure = "if the channels come last, images.permute(0, 3, 1, 2)"
        raise ValueError(
            f"the network takes images of {expected[2]} channels, got {images.shape[1]} in images "
            f"of shape {tuple(images.shape)}: {cure}"
        ) from error
    kinds: dict[torch.dtype, list[str]] = {}
    for name, parameter in model.named_parameters():
        kinds.setdefault(parameter.dtype, []).append(name)
    if len(kinds) > 1 and "type" in str(error):
        found = ", ".join(
            f"{kind} ({names[0]}{f' and {len(names) - 1} more' * (len(names) > 1)})"
            for kind, names in kinds.items()
        )
        raise ValueError(
            f"the network has parameters of several types, and does not convert between them: "
            f"{found}; make them one, for example model.float()"
        ) from error
    # Other types of floats are converted.
    if images.dtype != own.dtype and not images.is_floating_point():
        cure = ".float()" if own.dtype == torch.float32 else f".to({own.dtype})"
        scale = " / 255, then normalized" if images.dtype == torch.uint8 else ""
        raise ValueError(
            f"the data yield images that are {images.dtype} of shape {tuple(images.shape)}, but "
            f"the network is {own.dtype}: images{cure}{scale}"
        ) from error
