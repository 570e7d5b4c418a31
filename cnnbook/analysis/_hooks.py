"""Looking into a network without changing it."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from cnnbook._errors import unknown
from cnnbook._networks import device_of, is_lazy_network, unwrapped

# Weights and averages of lazy layers before the first run.
_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)

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
    """
    handles = []
    # What torch.compile has already compiled does not call hooks that are added later.
    compiled = "torch._dynamo" in sys.modules
    try:
        for name in layer_names(model, layers):
            handles.append(find_layer(model, name).register_forward_hook(hook(name)))
        # The stance is set as soon as it is made: nothing may fail between here and the block.
        stance = torch.compiler.set_stance("force_eager") if compiled else nullcontext()
        with stance, unchanged(model):
            yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Undo, when the block ends, what running a network has changed.

    These are running averages and other buffers, whether updated in place or replaced; attributes
    that ``forward`` sets, like caches and the plain ``weight`` of old-style weight normalization;
    the layers' modes; and torch's random state. Lazy layers keep the weights they have got.

    Gradients of a single image are right there, see :class:`RightGradients`. The block runs
    outside torch's inference mode, whatever the caller does: tensors made in that
    mode can never be trained.
    """
    network = unwrapped(model)
    lazy = is_lazy_network(network)
    device = device_of(network)
    # Weights that lazy layers draw use up random numbers, like those of any new layer.
    devices = [device] if device.type == "cuda" else []
    kept = [
        _Kept(module)
        for module in network.modules()
        if not isinstance(module, (LazyModuleMixin, torch.jit.ScriptModule))
    ]
    random_state = torch.random.fork_rng(devices, enabled=not lazy)
    with torch.inference_mode(False), random_state, RightGradients():
        try:
            yield
        finally:
            for module in kept:
                module.restore()


class RightGradients(TorchFunctionMode):
    """Lets torch's normalization compute right gradients of a single image on the CPU.

    With N = 1, the strides of ``(N, H, W, C)`` can be taken for those of ``(N, C, H, W)`` and the
    other way round. The backward pass of batch normalization, on which instance normalization is
    built, does so if the gradient comes from tokens ``(N, H·W, C)``, and mixes up positions and
    channels (seen with torch 2.12). Contiguous gradients cannot be misread.
    """

    FUNCTIONS = (F.batch_norm, torch.batch_norm, F.instance_norm, torch.instance_norm)

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call a function; of a normalization, prepare the gradient."""
        output = function(*args, **(kwargs or {}))
        if torch.compiler.is_compiling() or function not in self.FUNCTIONS:
            return output
        if output.requires_grad and output.device.type == "cpu":
            output.register_hook(_contiguous)
        return output


def _contiguous(gradient: Tensor) -> Tensor:
    # Not contiguous(), which keeps what already looks contiguous in both orders.
    return gradient.clone(memory_format=torch.contiguous_format)


class _Kept:
    """A layer's attributes and the values of its buffers, to be put back."""

    def __init__(self, module: nn.Module):
        # Its attributes, the dicts that hold parameters, buffers and layers, and caches of its own.
        self.containers: list[tuple[Any, Any]] = []
        self.values: list[tuple[Tensor, Tensor]] = []
        seen: set[int] = set()
        found: list[Any] = [module.__dict__]
        while found:
            value = found.pop()
            if id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, (dict, list, set)):
                self.containers.append((value, copy(value)))
                found += value.values() if isinstance(value, dict) else value
            elif _may_change(value):
                self.values.append((value, value.detach().clone()))

    @torch.no_grad()
    def restore(self) -> None:
        for container, content in self.containers:
            container.clear()
            if isinstance(container, list):
                container.extend(content)
            else:
                container.update(content)
        for tensor, value in self.values:
            # Batch normalization changes its averages without telling torch: the values say.
            if not torch.equal(tensor, value):
                tensor.copy_(value)


def _may_change(value: object) -> bool:
    """Whether running a network may change a tensor in place: parameters stay as they are."""
    fixed = isinstance(value, (nn.Parameter, *_UNINITIALIZED))
    return isinstance(value, Tensor) and not fixed and not value.is_meta
