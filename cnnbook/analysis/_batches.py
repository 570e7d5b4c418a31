"""Images from a tensor or a data set, one batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook._errors import no_tensor
from cnnbook._networks import Selector, input_type, unwrapped
from cnnbook._networks import scores_of as any_scores
from cnnbook.analysis._hooks import Hook, device_of, evaluation, forward_hooks
from cnnbook.data import BatchSource, Dataset, ImageFolder, make_batches

Labeled = Dataset | ImageFolder | BatchSource


def labeled_batches(
    data: Labeled, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalized images and labels of a data set, in its order."""
    for x, y in make_batches(data, batch_size, shuffle=False, device=device).epoch(0):
        yield x.to(device), y.to(device)


def image_batches(
    data: Tensor | Labeled, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield images of a tensor unchanged, or those of a data set normalized, in order.

    Raises
    ------
    ValueError
        If there are no images, a tensor is not ``(N, C, H, W)``, or the batch size is not positive.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if not isinstance(data, Tensor):
        if type(data).__module__ == "numpy":
            raise no_tensor("x", data)
        for x, _ in labeled_batches(data, batch_size, device):
            yield x
        return
    check_images(data)
    for x in torch.split(data, batch_size):
        yield x.to(device)


def check_images(x: Tensor) -> None:
    """Raise an error unless `x` is a tensor ``(N, C, H, W)`` with at least one image."""
    if not isinstance(x, Tensor):
        raise no_tensor("x", x)
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(
            f"x must be images of shape (N, C, H, W), at least one, got {tuple(x.shape)}; "
            "put [None] after a single image"
        )


def as_input(model: nn.Module, x: Tensor) -> Tensor:
    """Return `x` on the device of a network; floats also in the type of its parameters."""
    if x.is_inference():
        x = x.clone()  # can take part in a gradient
    typed = any(p.is_floating_point() or p.is_complex() for p in model.parameters())
    dtype = input_type(model) if typed and x.is_floating_point() else x.dtype
    return x.to(device_of(model), dtype)


def forward(model: nn.Module, x: Tensor) -> Any:
    """Return ``model(x)``; if it fails on integers, say that they are not normalized images."""
    try:
        return unwrapped(model)(x)
    except RuntimeError as error:
        if x.is_floating_point():
            raise
        raise ValueError(
            f"the network does not run on {x.dtype}; convert the images, and normalize them as in "
            "training: (x / 255 - mean) / std"
        ) from error


def check_tensor(name: str, output: object) -> Tensor:
    """Return the output of a layer, or raise TypeError if it is not a tensor."""
    if not isinstance(output, Tensor):
        raise TypeError(f"layer {name!r} returns {type(output).__name__}, not a tensor")
    return output


def class_scores(output: object, selector: Selector = None) -> Tensor:
    """Return the class scores ``(N, K)`` in a network's output.

    Raises
    ------
    TypeError
        If there are none.
    """
    scores = any_scores(output, selector)
    if scores.ndim != 2:
        raise TypeError(
            f"the network must return class scores (N, K), got a tensor of shape "
            f"{tuple(scores.shape)}; output= says which part of a tuple or dict they are"
        )
    return scores


def watch(
    model: nn.Module,
    data: Tensor | Labeled,
    layers: Sequence[str],
    see: Callable[[str, Tensor], None],
    *,
    batch_size: int,
) -> None:
    """Run a network over images and call ``see(layer, output)`` for each output of each layer.

    The network runs in evaluation mode, without gradients. If the next layer works in place, it
    will overwrite what `see` receives, so `see` must copy what it keeps.
    """

    def hook_of(name: str) -> Hook:
        return lambda _module, _inputs, output: see(name, check_tensor(name, output))

    with forward_hooks(model, layers, hook_of), evaluation(model), torch.no_grad():
        for x in image_batches(data, batch_size, device_of(model)):
            forward(model, x)


def scores_of(output: object) -> Tensor:
    """Return the class scores ``(N, K)`` from a network's output.

    Raises
    ------
    TypeError
        If the network returned something else.
    """
    # Networks with auxiliary classifiers return their scores after the main ones.
    scores = output[0] if isinstance(output, tuple | list) and output else output
    if not isinstance(scores, Tensor) or scores.ndim != 2:
        shape = f" of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else ""
        raise TypeError(
            f"the network must return class scores (N, K), got {type(scores).__name__}{shape}"
        )
    return scores
