"""What running a network leaves behind, and how it is undone."""

import array
import collections
import operator
import random
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import Enum
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter
from torch.overrides import TorchFunctionMode

from cnnbook._networks import alone, is_lazy_network, unwrapped
from cnnbook.data.randomness import set_all, state_of_all
from cnnbook.data.seeds import torch_seed, whole_seed

Undo = Callable[[], object]

# Weights and averages of lazy layers before the first run.
_UNINITIALIZED = (UninitializedParameter, UninitializedBuffer)
# What never changes itself; there may be millions in a list.
_FIXED = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size)
# What belongs to others than the network, or cannot be read from outside.
_FOREIGN = (
    *weakref.ProxyTypes,  # first: what they stand for may be gone
    *(type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType),
    *(Enum, weakref.ReferenceType, torch.utils.data.Dataset, torch.utils.data.DataLoader),
    *(torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler, torch.jit.ScriptFunction),
)
# Of the standard library's objects (loggers, threads, files, …), those that only hold others.
_HOLDERS = (
    *(types.SimpleNamespace, collections.UserDict, collections.UserList),
    *(weakref.WeakKeyDictionary, weakref.WeakValueDictionary, weakref.WeakSet),
)

_CONTAINERS = (collections.OrderedDict, dict, list, set, collections.deque)


@contextmanager
def unchanged(model: nn.Module, *, weights: bool = True) -> Iterator[None]:
    """Undo, when the block ends, what running a network has changed.

    These are the layers' attributes and whatever is found behind them: weights, running averages
    and other buffers, whether updated in place or replaced; caches, counters, lists, deques and
    arrays, also in objects of the network's own; its random generators; the layers' modes; and the
    random states of torch, NumPy and Python. Lazy layers keep the weights they have got.

    What is not reached stays as the run leaves it: attributes of classes, global variables,
    variables of functions and hooks, iterators and generators, files and connections. Other threads
    that look at the same network wait for their turn.

    Gradients of a single image are right there, see :class:`RightGradients`. The block runs
    outside torch's inference mode, whatever the caller does: tensors made in that
    mode can never be trained.

    Parameters
    ----------
    model
        The network.
    weights
        Whether its parameters are kept, too; a block that cannot change them saves the memory.
    """
    network = unwrapped(model)
    with alone(network), torch.inference_mode(False):
        undo = [*_undo_network(network, weights), *_undo_random_states(network)]
        with ExitStack() as stack:  # if one fails, the others are called all the same
            for each in undo:
                stack.callback(each)
            with RightGradients():
                yield


@contextmanager
def seeded(network: nn.Module, seed: int) -> Iterator[None]:
    """Seed the generators that a network draws from while the block runs; then, they go on."""
    gpus, number = _gpus(network), torch_seed(whole_seed(seed))
    with torch.random.fork_rng(gpus):
        # Not torch.manual_seed, which would seed those of all other devices as well.
        torch.default_generator.manual_seed(number)
        for gpu in gpus:
            torch.cuda.default_generators[gpu].manual_seed(number)
        yield


def _gpus(network: nn.Module) -> list[int]:
    tensors = (*network.parameters(), *network.buffers())
    return sorted({t.get_device() for t in tensors if t.is_cuda})


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


def _undo_random_states(network: nn.Module) -> Iterator[Undo]:
    """Yield what restores the random states of torch, NumPy and Python."""
    before = state_of_all()
    if is_lazy_network(network):
        # Weights that lazy layers draw use up random numbers, like those of any new layer.
        yield lambda: set_all((torch.default_generator.get_state(), *before[1:]))
        return
    yield partial(set_all, before)
    for gpu in _gpus(network):
        on_gpu = torch.cuda.get_rng_state(gpu)
        yield partial(torch.cuda.set_rng_state, on_gpu, gpu)


def _undo_network(network: nn.Module, weights: bool) -> list[Undo]:
    """Return what restores all that is found from a network's attributes on."""
    undo: list[Undo] = []
    # Holding what has been seen, as the id of what is gone is given again.
    seen: dict[int, Any] = {}
    waiting: list[Any] = [network]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _FOREIGN):
            continue
        seen[id(value)] = value
        if isinstance(value, Tensor):
            if weights or not isinstance(value, nn.Parameter):
                undo += _undo_tensor(value)
        elif isinstance(value, torch.jit.ScriptModule):
            undo += _undo_scripted(value)
            waiting += (*value.parameters(), *value.buffers())
        elif isinstance(value, LazyModuleMixin):
            pass  # its weights and its class are about to change, for good
        else:
            undo += _undo_value(value)
            waiting += (each for each in _inside(value) if not isinstance(each, _FIXED))
    return undo


def _inside(value: Any) -> Iterable[Any]:
    """Return what else is to be looked at: entries and attributes."""
    if isinstance(value, dict):
        yield from dict.values(value)
    elif isinstance(value, list | tuple | set | frozenset | collections.deque):
        yield from value
    elif isinstance(value, np.ndarray):
        if value.dtype == object:
            yield from value.flat
    elif isinstance(value, nn.Module) or _is_own(value):
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            yield attributes
        yield from _slots(value).values()


def _is_own(value: Any) -> bool:
    """Whether an object is one of the author's, and not one that belongs to Python or torch."""
    package = type(value).__module__.partition(".")[0]
    own = package not in sys.stdlib_module_names and package not in ("torch", "numpy")
    return own or isinstance(value, (*_HOLDERS, torch.quasirandom.SobolEngine))


def _slots(value: Any) -> dict[str, Any]:
    found = {}
    for kind in type(value).__mro__:
        names = kind.__dict__.get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{kind.__name__.lstrip('_')}{name}"
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found


def _undo_value(value: Any) -> Iterator[Undo]:
    """Yield what restores one object: a container's entries, an array's values, a state."""
    if isinstance(value, _CONTAINERS):
        yield partial(_refill, value, _entries(value))
    elif isinstance(value, bytearray | array.array):
        content = value[:]
        yield partial(value.__setitem__, slice(None), content)
    elif isinstance(value, np.ndarray):
        if value.flags.writeable:
            yield partial(np.copyto, value, value.copy())
    elif isinstance(value, torch.Generator):
        yield partial(value.set_state, value.get_state())
    elif isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        yield partial(value.setstate, value.getstate())
    elif isinstance(value, np.random.RandomState):
        yield partial(value.set_state, value.get_state())
    elif isinstance(value, np.random.Generator | np.random.BitGenerator):
        bits = value.bit_generator if isinstance(value, np.random.Generator) else value
        yield partial(setattr, bits, "state", bits.state)
    elif _is_own(value):
        yield partial(_refill_slots, value, _slots(value))


def _kind(value: Any) -> Any:
    """Return the kind of container, whose methods go past what a subclass does with entries."""
    return next(kind for kind in _CONTAINERS if isinstance(value, kind))


def _entries(value: Any) -> list[Any]:
    """Return the entries of a container; of a dict, the keys and then the values."""
    kind = _kind(value)
    entries = list(kind.__iter__(value))
    return [*entries, *kind.values(value)] if issubclass(kind, dict) else entries


def _refill(value: Any, entries: list[Any]) -> None:
    """Give a container its entries back, unless it has them."""
    now, kind = _entries(value), _kind(value)
    if len(now) == len(entries) and all(map(operator.is_, now, entries)):
        return
    kind.clear(value)
    if issubclass(kind, dict):
        names, values = entries[: len(entries) // 2], entries[len(entries) // 2 :]
        for name, each in zip(names, values, strict=True):
            kind.__setitem__(value, name, each)
    elif issubclass(kind, set):
        kind.update(value, entries)
    else:
        kind.extend(value, entries)


def _refill_slots(value: Any, content: dict[str, Any]) -> None:
    now = _slots(value)
    for name in {*now, *content}:
        if name not in content:
            object.__delattr__(value, name)
        elif name not in now or now[name] is not content[name]:
            object.__setattr__(value, name, content[name])


def _undo_scripted(module: torch.jit.ScriptModule) -> Iterator[Undo]:
    """Yield what restores the attributes of a scripted layer and those in it."""
    for inner in module.modules():
        scripted: Any = inner
        for name in scripted._concrete_type.get_attributes():
            # A copy, of all but tensors.
            yield partial(scripted._c.setattr, name, scripted._c.getattr(name))


def _undo_tensor(tensor: Tensor) -> Iterator[Undo]:
    """Yield what restores a tensor's values, and what autograd knows about a parameter."""
    if isinstance(tensor, _UNINITIALIZED):
        return
    if tensor.is_leaf:
        yield partial(_restore_gradient, tensor, tensor.requires_grad, tensor.grad)
    if not tensor.is_meta:
        yield partial(_restore_values, tensor, tensor.detach().clone())


def _restore_gradient(tensor: Tensor, needed: bool, gradient: Tensor | None) -> None:
    if tensor.grad_fn is not None:  # something with a gradient was added in place
        with suppress(RuntimeError):  # impossible for a view
            tensor.detach_()
    if tensor.is_leaf and tensor.requires_grad != needed:
        tensor.requires_grad_(needed)
    if tensor.grad is not gradient:
        tensor.grad = gradient


def _restore_values(tensor: Tensor, value: Tensor) -> None:
    kind = (tensor.shape, tensor.dtype, tensor.device)
    if kind != (value.shape, value.dtype, value.device):
        tensor.data = value
    # Batch normalization changes its averages without telling torch: the values say.
    elif not _are_equal(tensor, value):
        # What was made in inference mode can be changed only there.
        with torch.inference_mode() if tensor.is_inference() else torch.no_grad():
            tensor.copy_(value)


def _are_equal(one: Tensor, other: Tensor) -> bool:
    try:
        if torch.equal(one, other):
            return True
        # NaN is not equal to itself, but unchanged.
        return bool(((one == other) | ((one != one) & (other != other))).all())
    except (RuntimeError, NotImplementedError):  # of sparse tensors, for example
        return False
