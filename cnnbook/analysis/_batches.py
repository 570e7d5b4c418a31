"""Images from a tensor or a data set, one batch at a time."""

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook._checks import check_count, check_dense, no_tensor
from cnnbook._networks import Selector, device_of, evaluating, input_type, scores_of, unwrapped
from cnnbook.analysis._hooks import Hook, Layers, check_values, forward_hooks, layer_names
from cnnbook.data import DataLike, make_batches


def labeled_batches(
    data: DataLike, batch_size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield normalized images and labels of labeled data, in its order.

    Raises
    ------
    TypeError
        If it is nothing that :func:`cnnbook.data.make_batches` takes.
    """
    if isinstance(data, Iterator):  # which needs no length: it is used up once
        for batch in data:
            alone: Any = [batch]
            yield from labeled_batches(alone, batch_size, device)
        return
    for x, y in make_batches(data, batch_size, shuffle=False, device=device).epoch(0):
        yield x.to(device), y.to(device)


def image_batches(
    data: Tensor | DataLike, batch_size: int, device: torch.device
) -> Iterator[Tensor]:
    """Yield images of a tensor unchanged, or those of labeled data normalized, in order.

    Raises
    ------
    ValueError
        If there are no images, a tensor is not ``(N, C, H, W)``, or the batch size is not positive.
    """
    check_count("batch_size", batch_size)
    if not isinstance(data, Tensor):
        if type(data).__module__ == "numpy":
            raise no_tensor("x", data)
        for x, _ in labeled_batches(data, batch_size, device):
            yield x
        return
    check_images(data)
    for x in torch.split(data, batch_size):
        yield x.to(device)


def one_batch(data: DataLike, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return all images and labels of labeled data.

    Raises
    ------
    TypeError
        If it is nothing that :func:`cnnbook.data.make_batches` takes.
    """
    images_only = isinstance(data, list) and any(isinstance(each, Tensor) for each in data)
    if images_only or type(data).__module__ == "numpy":
        raise no_tensor("x", data)
    batches = list(labeled_batches(data, 1000, device))
    if not batches:
        raise ValueError("x has no images; an iterator gives its batches only once")
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


def check_images(x: Tensor) -> None:
    """Raise an error unless `x` is a tensor ``(N, C, H, W)`` with at least one image."""
    check_dense("x", x)
    if x.ndim != 4 or len(x) == 0:
        raise ValueError(
            f"x must be images of shape (N, C, H, W), at least one, got {tuple(x.shape)}; "
            "put [None] after a single image"
        )


def as_input(model: nn.Module, x: Tensor) -> Tensor:
    """Return `x` on the device of a network; floats also in the type of its parameters."""
    check_dense("x", x)
    check_values(model)
    if x.is_inference():
        x = x.clone()  # can take part in a gradient
    typed = any(p.is_floating_point() or p.is_complex() for p in model.parameters())
    dtype = input_type(model) if typed and x.is_floating_point() else x.dtype
    return x.to(device_of(model), dtype)


def forward(model: nn.Module, x: Tensor | tuple[Tensor, ...]) -> Any:
    """Return what a network makes of its input, or of several.

    It runs without the wrapper of torch.compile or ``nn.DataParallel``: hooks act on the layers
    themselves, on one device. If it fails on integers, the error says that these are no
    normalized images.
    """
    inputs = x if isinstance(x, tuple) else (x,)
    try:
        return unwrapped(model)(*inputs)
    except RuntimeError as error:
        if any(each.is_floating_point() or each.is_complex() for each in inputs):
            raise
        raise ValueError(
            f"the network does not run on {inputs[0].dtype}; convert the images, and normalize "
            "them as in training: (x / 255 - mean) / std"
        ) from error


def check_tensor(name: str, output: object) -> Tensor:
    """Return the output of a layer, or raise TypeError if it is not a tensor."""
    if not isinstance(output, Tensor):
        raise TypeError(f"layer {name!r} returns {type(output).__name__}, not a tensor")
    return output


def tensor_of(layer: str, output: object, selector: Selector = None) -> Tensor:
    """Return a layer's output; of a tuple or dict, the part that `selector` names.

    As :func:`cnnbook._networks.scores_of` does, but a key or an index is not applied to a tensor:
    of several layers, some may return one.

    Raises
    ------
    TypeError
        If no tensor is found.
    """
    if isinstance(output, Tensor) and not callable(selector):
        return output
    try:
        return scores_of(output, selector)
    except TypeError as error:
        what = str(error).replace("the network returned", "it returned", 1)
        what = what.replace("are the scores", "to take", 1)
        raise TypeError(f"layer {layer!r} gives no tensor: {what}") from None


def class_scores(output: object, selector: Selector = None) -> Tensor:
    """Return the class scores ``(N, K)`` in a network's output.

    Raises
    ------
    TypeError
        If there are none.
    """
    scores = scores_of(output, selector)
    if not scores.is_floating_point():
        raise TypeError(f"class scores are floating-point numbers, got {scores.dtype}")
    if scores.ndim != 2:
        raise TypeError(
            f"the network must return class scores (N, K), got a tensor of shape "
            f"{tuple(scores.shape)}; output= says which part of a tuple or dict they are"
        )
    return scores


def cross_entropy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the mean cross-entropy.

    Raises
    ------
    ValueError
        If scores and labels do not fit together, or are no such things.
    """
    try:
        return F.cross_entropy(scores, labels)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise ValueError(
            f"no cross-entropy of scores {tuple(scores.shape)}, {scores.dtype}, and labels "
            f"{tuple(labels.shape)}, {labels.dtype}: {error}. loss= is another, and output= says "
            "which part of the network's output are the scores"
        ) from None


def silent_layers(layers: Sequence[str], ran: Collection[str]) -> ValueError:
    """Build the error for layers that were asked for and do not run."""
    silent = [name for name in layers if name not in ran]
    return ValueError(f"layers {silent} do not run in evaluation mode; leave them out")


def watch(
    model: nn.Module,
    data: Tensor | DataLike,
    layers: Layers | None,
    see: Callable[[str, Tensor], None],
    *,
    batch_size: int,
    output: Selector = None,
    batch: Callable[[Tensor], None] = lambda x: None,
) -> None:
    """Run a network over images and call ``see(layer, output)`` for each output of each layer.

    The network runs in evaluation mode, without gradients, and is left unchanged. If the next
    layer works in place, it will overwrite what `see` receives, so `see` must copy what it keeps.
    Before each batch, ``batch(images)`` is called.

    Raises
    ------
    ValueError
        If a layer that was asked for does not run.
    """
    names = layer_names(model, layers)
    ran: set[str] = set()
    seen_any = False

    def hook_of(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: object, found: object) -> None:
            ran.add(name)
            see(name, tensor_of(name, found, output))

        return hook

    with forward_hooks(model, names, hook_of), evaluating(model), torch.no_grad():
        for x in image_batches(data, batch_size, device_of(model)):
            seen_any = True
            batch(x)
            forward(model, as_input(model, x))
    if not seen_any:
        raise ValueError("x has no images; an iterator gives its batches only once")
    if layers is not None and not ran.issuperset(names):
        raise silent_layers(names, ran)
