"""What a network is run on: shapes, examples, or several of them."""

from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook._networks import input_type

#: The shape of one image, with or without N; an example tensor; or several of these in a tuple.
InputLike = Sequence[int] | Tensor | Sequence[Sequence[int] | Tensor]

_FORMS = (
    "input_shape must be the shape of one image, (C, H, W), all positive; an example tensor; or "
    "a tuple of these for several inputs"
)


def choose(
    model: nn.Module, input_shape: InputLike
) -> Iterator[tuple[Tensor | tuple[int, ...], ...]]:
    """Yield what to run a network on, the most likely first: tensors, and shapes with N = 1.

    Raises
    ------
    ValueError
        If the input is given in another way.
    """
    given = _parsed(input_shape)
    spatial = _spatial_dimensions(model)
    if isinstance(given, Tensor):
        yield (_one_image(given, spatial),)
        return
    if isinstance(given, list):
        lengths = {x.shape[0] for x in given if isinstance(x, Tensor) and x.ndim}
        if len(lengths) == 1 and lengths != {1}:
            yield tuple(x[:1] if isinstance(x, Tensor) and x.ndim else _one(x) for x in given)
        yield tuple(map(_one, given))
        return
    yield ((1, *given),)
    with_n = len(given) == 2 + spatial if spatial is not None else len(given) in (2, 4, 5)
    if with_n:
        yield ((1, *given[1:]),)


def _one(x: Tensor | tuple[int, ...]) -> Tensor | tuple[int, ...]:
    return x if isinstance(x, Tensor) else (1, *x)


def _one_image(x: Tensor, spatial: int | None) -> Tensor:
    """Return the first of several images, so that numbers are for one."""
    if spatial is not None and x.ndim == 1 + spatial:
        return x[None]
    return x[:1] if x.ndim > 1 else x


def _spatial_dimensions(model: nn.Module) -> int | None:
    """Return over how many dimensions the first convolution slides, None if there is none."""
    for module in model.modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            return len(module.kernel_size)
    return None


def _parsed(given: Any) -> Tensor | tuple[int, ...] | list[Tensor | tuple[int, ...]]:
    if isinstance(given, Tensor):
        if 0 in given.shape:
            raise ValueError(f"{_FORMS}; got an empty tensor of shape {tuple(given.shape)}")
        if given.layout != torch.strided:
            raise ValueError(f"{_FORMS}; got a tensor of layout {given.layout}: make it dense")
        return given
    if isinstance(given, Mapping | str | bytes) or not hasattr(given, "__len__"):
        raise ValueError(f"{_FORMS}; got {given!r}")
    if type(given).__module__ == "numpy" and getattr(given, "ndim", 1) != 1:
        raise ValueError(f"{_FORMS}; got a numpy array: torch.from_numpy makes a tensor of it")
    entries = list(given)
    if entries and all(_is_size(entry) for entry in entries):
        if all(entry > 0 for entry in entries):
            return tuple(int(entry) for entry in entries)
    elif entries and all(isinstance(entry, Tensor | Sequence) for entry in entries):
        parsed = [_parsed(entry) for entry in entries]
        flat = [entry for entry in parsed if not isinstance(entry, list)]
        if len(flat) == len(parsed):
            return flat
    raise ValueError(f"{_FORMS}; got {given!r}")


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def materialized(
    model: nn.Module, inputs: Sequence[Tensor | tuple[int, ...]], device: torch.device
) -> list[Tensor]:
    """Return the inputs as tensors on a device: examples, and zeros where only shapes are given."""
    found = []
    for given in inputs:
        if isinstance(given, Tensor):
            x = given.detach()
            x = torch.empty_like(x, device=device) if device.type == "meta" else x.clone()
            found.append(x.to(device))
        else:
            found.append(torch.zeros(given, dtype=input_type(model), device=device))
    return found


def does_not_run(model: nn.Module, given: Any, error: Exception) -> ValueError:
    """Build the error for an input on which a network does not run."""
    if isinstance(given, Tensor):
        what = f"a tensor of shape {tuple(given.shape)} and type {given.dtype}"
    elif all(map(_is_size, given)):
        what = f"an image of shape {tuple(map(int, given))}"
    else:
        shapes = (tuple(x.shape) if isinstance(x, Tensor) else tuple(x) for x in given)
        what = f"inputs of shapes {', '.join(map(str, shapes))}"
    hint = _hint(model, given, error)
    if hint is None:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        hint = f"must be what it takes. It says: {lines[0]}"
    return ValueError(f"the network does not run on {what}; input_shape {hint}")


def _hint(model: nn.Module, given: Any, error: Exception) -> str | None:
    """Return what is probably wrong with an input on which a network does not run."""
    if isinstance(error, TypeError) and "positional argument" in str(error):
        return "takes a tuple for several inputs, such as ((3, 32, 32), (3, 32, 32))"
    if not isinstance(given, Tensor) and all(map(_is_size, given)):
        shape = tuple(int(size) for size in given)
        if len(shape) == 2:
            return f"begins with the channels: try {(3, *shape)} or {(1, *shape)}"
        for module in model.modules():
            if isinstance(module, nn.modules.conv._ConvNd):
                n = len(module.kernel_size)
                if module.in_channels and len(shape) == 1 + n and shape[0] != module.in_channels:
                    if shape[-1] == module.in_channels:
                        return f"begins with the channels: try {(shape[-1], *shape[:-1])}"
                    return f"begins with the channels: try {(module.in_channels, *shape[1:])}"
                break
    return None
