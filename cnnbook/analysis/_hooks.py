"""Looking into a network without changing it."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from cnnbook._errors import unknown

# What torch calls after a layer, with the layer, its inputs and its output.
Hook = Callable[[nn.Module, Any, Any], Any]


def check_model(model: object) -> None:
    """Raise TypeError unless `model` is a network."""
    if isinstance(model, nn.Module):
        return
    if isinstance(model, str):
        hint = f"{model!r}; models.create({model!r}) makes one if it is the name of a network"
    elif isinstance(model, type) or hasattr(model, "__name__"):
        hint = f"{model.__name__}, which makes one; call it: {model.__name__}()"
    else:
        hint = type(model).__name__
    raise TypeError(f"model must be a network, a torch.nn.Module; got {hint}")


def check_shape(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of one image, or raise ValueError if it is none."""
    what = f"{name} must be the shape of one image, (C, H, W), all positive"
    if isinstance(shape, torch.Tensor):
        sides = tuple(shape.shape[-3:])
        raise ValueError(f"{what}, got a tensor; give its shape: {name}={sides}")
    sizes = tuple(shape) if isinstance(shape, Sequence) else ()
    if not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ValueError(f"{what}, got {shape!r}")
    return sizes


def layer_names(model: nn.Module, layers: str | Sequence[str] | None) -> list[str]:
    """Return the names given, one or several; those of the direct children if None."""
    check_model(model)
    if layers is None:
        return [name for name, _ in model.named_children()]
    if isinstance(layers, nn.Module):
        raise _no_name(model, layers)
    return [layers] if isinstance(layers, str) else list(layers)


def _no_name(model: nn.Module, layer: object) -> TypeError:
    """Build the error for a layer that is not given by its name."""
    own = [name for name, module in model.named_modules() if module is layer and name]
    hint = f"; this one is {own[0]!r}" if own else ""
    return TypeError(f"name layers as in model.named_modules(), got a {type(layer).__name__}{hint}")


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Return the layer with a name as in ``model.named_modules()``.

    Raises
    ------
    ValueError
        If there is none. The message suggests the nearest name.
    TypeError
        If it is not a name.
    """
    check_model(model)
    layers: dict[str, nn.Module] = dict(model.named_modules())
    layers.pop("", None)
    if not isinstance(name, str):
        raise _no_name(model, name)
    if name not in layers:
        raise unknown("layer", name, layers, see="model.named_modules()")
    return layers[name]


def device_of(model: nn.Module) -> torch.device:
    """Return the device of the model's first parameter, or the CPU if it has none."""
    check_model(model)
    parameter = next(model.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards, restore every layer's own mode."""
    check_model(model)
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def forward_hooks(
    model: nn.Module, names: Iterable[str], hook: Callable[[str], Hook]
) -> Iterator[None]:
    """Register ``hook(name)`` as a forward hook of each named layer while the block runs.

    Raises
    ------
    ValueError
        If the model has no layer of a given name.
    """
    handles = []
    # What torch.compile has already compiled does not call hooks that are added later.
    compiled = "torch._dynamo" in sys.modules
    try:
        for name in names:
            handles.append(find_layer(model, name).register_forward_hook(hook(name)))
        # The stance is set as soon as it is made: nothing may fail between here and the block.
        with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
            yield
    finally:
        for handle in handles:
            handle.remove()
