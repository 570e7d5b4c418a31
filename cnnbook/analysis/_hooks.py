"""Looking into a network without changing it."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from cnnbook._errors import unknown
from cnnbook._networks import alone, device_of, unwrapped
from cnnbook.analysis._unchanged import unchanged

# What torch calls after a layer, with the layer, its inputs and its output.
Hook = Callable[[nn.Module, Any, Any], Any]

#: One layer or several, by name or as modules.
Layers = str | nn.Module | Iterable[str | nn.Module]


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


def check_values(model: nn.Module) -> None:
    """Raise ValueError if the weights of a network have shapes only."""
    if device_of(model).type == "meta":
        raise ValueError(
            "the network is on the meta device: its weights have shapes, but no values. Of such a "
            "network, there are trace, summary and receptive_field"
        )


def check_differentiable(model: nn.Module) -> None:
    """Raise ValueError if torch takes no gradients through the weights of a network."""
    if any(not is_lazy(each) and each.is_inference() for each in model.parameters()):
        raise ValueError(
            "the weights were made in torch.inference_mode(), and no gradient leads through those; "
            "copy.deepcopy(model), outside of that mode, makes a network that has gradients"
        )


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


def layer_names(model: nn.Module, layers: Layers | None) -> list[str]:
    """Return the names of layers given by their names or as modules, one or several.

    Parameters
    ----------
    model
        The network, or what torch.compile or a data-parallel wrapper made of it.
    layers
        A name, a layer of the network, or any iterable of these; the members of an
        ``nn.ModuleList``, which never runs itself. The direct children if None.

    Returns
    -------
    list of str
        Names as in ``unwrapped(model).named_modules()``, each once, in the order given. A layer
        that the network has under two names keeps the one given, and so does one in a compiled part
        of the network; a module gets the first.

    Raises
    ------
    ValueError
        If the network has no such layer. The message suggests the nearest name.
    TypeError
        If something is neither a name nor a module.
    """
    check_model(model)
    if layers is None:
        return [name for name, _ in unwrapped(model).named_children()]
    if isinstance(layers, nn.ModuleList) or (
        isinstance(layers, Iterable) and not isinstance(layers, (str, nn.Module))
    ):
        return list(dict.fromkeys(_find(model, layer)[0] for layer in layers))
    return [_find(model, layers)[0]]


def find_layer(model: nn.Module, layer: str | nn.Module) -> nn.Module:
    """Return a layer given by its name, as in ``model.named_modules()``, or as the module.

    A network in a wrapper, as of torch.compile or ``nn.DataParallel``, goes by the names that its
    layers have without the wrapper; those with ``_orig_mod.`` or ``module.`` are understood too.

    Raises
    ------
    ValueError
        If the network has no such layer. The message suggests the nearest name.
    TypeError
        If it is neither a name nor a module.
    """
    check_model(model)
    return _find(model, layer)[1]


def _find(model: nn.Module, layer: object) -> tuple[str, nn.Module]:
    """Return the name of a layer in the network without its wrapper, and the layer."""
    network = unwrapped(model)
    # With both names of a layer that has two.
    layers = dict(network.named_modules(remove_duplicate=False))
    layers.pop("", None)
    if isinstance(layer, nn.Module):
        own = next((name for name, module in layers.items() if module is layer), None)
        if own is not None:
            return own, layer
        inside = unwrapped(layer)
        if inside is network:
            raise ValueError(
                f"{type(inside).__name__} is the network itself, not one of its layers"
            )
        if inside is not layer:
            return _find(model, inside)
        raise ValueError(
            f"this {type(layer).__name__} is not a layer of the network; a copy of a network has "
            "layers of its own"
        )
    if not isinstance(layer, str):
        raise TypeError(
            "layers are given by name, as in model.named_modules(), or as modules of the network; "
            f"got {type(layer).__name__}"
        )
    if layer in layers:
        return layer, layers[layer]
    plain = {_without_wrappers(name): name for name in reversed(layers)}  # the outermost counts
    found = plain.get(_without_wrappers(layer))
    if found is None:
        raise unknown("layer", layer, layers, see="model.named_modules()")
    # Without the wrapper of the whole network; that of one of its layers may be named or not.
    return found if layer.endswith(f".{found}") else layer, layers[found]


def _without_wrappers(name: str) -> str:
    """Return a layer's name without what torch.compile and data-parallel wrappers add to it."""
    return ".".join(part for part in name.split(".") if part not in ("_orig_mod", "module"))


@contextmanager
def forward_hooks(model: nn.Module, layers: Layers, hook: Callable[[str], Hook]) -> Iterator[None]:
    """Register ``hook(name)`` as a forward hook of each layer while the block runs.

    Layers and errors as for :func:`layer_names`. The network is left as it was: :func:`unchanged`.
    So gradients are taken within the block: what the run has changed may be part of them.
    """
    with hooked(model, layers, hook), unchanged(model):
        yield


@contextmanager
def hooked(model: nn.Module, layers: Layers, hook: Callable[[str], Hook]) -> Iterator[None]:
    """Register hooks as :func:`forward_hooks` does, and leave in the network what a run changes."""
    handles = []
    # What torch.compile has already compiled does not call hooks that are added later.
    compiled = "torch._dynamo" in sys.modules
    check_model(model)
    check_values(model)
    with alone(model):  # hooks would see what the network does in another thread
        try:
            for name in layer_names(model, layers):
                layer = find_layer(model, name)
                if isinstance(layer, torch.jit.ScriptModule):
                    raise ValueError(
                        f"layer {name!r} is scripted (torch.jit), and what is compiled so runs no "
                        "hooks; name layers around it, or take the network as it was before"
                    )
                handles.append(layer.register_forward_hook(hook(name)))
            # The stance is set as soon as it is made: nothing may fail between here and the block.
            with torch.compiler.set_stance("force_eager") if compiled else nullcontext():
                yield
        finally:
            for handle in handles:
                handle.remove()
