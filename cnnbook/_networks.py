"""What training and analysis both need to know about a network that somebody brings."""

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

#: Which part of a network's output are its scores: a key, an index, or a function of the output.
Selector = str | int | Callable[[Any], Tensor] | None

# Names under which networks return their class scores, in order of preference: Hugging Face's,
# torchvision's segmentation networks', and what people write themselves.
_SCORES = ("logits", "out", "scores", "output")


def scores_of(output: Any, selector: Selector = None) -> Tensor:
    """Return the scores in what a network returned.

    Parameters
    ----------
    output
        A tensor; a tuple or list, whose first tensor is taken, as networks with auxiliary
        classifiers return their main scores first; or a dict with an entry ``logits``, ``out``,
        ``scores`` or ``output``, or with a single tensor.
    selector
        Says which part it is instead: a key of a dict, the name of an attribute, an index of a
        tuple, or a function.

    Raises
    ------
    TypeError
        If no scores are found. The message says what there is, and how to choose.

    Examples
    --------
    >>> scores_of({"logits": torch.ones(1, 2), "features": torch.zeros(1, 9)})
    tensor([[1., 1.]])
    >>> scores_of((torch.zeros(3), torch.ones(1, 2)), 1)
    tensor([[1., 1.]])
    """
    if selector is not None:
        found = _selected(output, selector)
    elif isinstance(output, Mapping):
        named = [output[key] for key in _SCORES if isinstance(output.get(key), Tensor)]
        tensors = [value for value in output.values() if isinstance(value, Tensor)]
        found = named[0] if named else tensors[0] if len(tensors) == 1 else None
    elif isinstance(output, (tuple, list)):
        found = next((value for value in output if isinstance(value, Tensor)), None)
    else:
        found = output
    if isinstance(found, Tensor):
        return found
    chosen = "" if selector is None else f", and output={selector!r} is {type(found).__name__}"
    raise TypeError(
        f"the network returned {_described(output)}{chosen}; output= says which part are the "
        'scores: a key such as output="logits", an index, or a function of what was returned'
    )


def _selected(output: Any, selector: str | int | Callable[[Any], Tensor]) -> Any:
    if callable(selector):
        return selector(output)
    try:
        if isinstance(selector, str) and not isinstance(output, Mapping):
            return getattr(output, selector)
        return output[selector]
    except (AttributeError, KeyError, IndexError, TypeError):
        raise TypeError(
            f"the network returned {_described(output)}, which has no part {selector!r}"
        ) from None


def _described(output: Any) -> str:
    kind = type(output).__name__
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    if isinstance(output, Mapping):
        return f"a {kind} with the entries {', '.join(map(repr, output))}"
    if isinstance(output, (tuple, list)):
        return f"a {kind} of {', '.join(type(value).__name__ for value in output) or 'nothing'}"
    return f"an object of type {kind}"


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's first parameter or buffer, or the CPU if it has none."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def input_type(model: nn.Module) -> torch.dtype:
    """Return the type of the images that a network takes: that of most of its real parameters.

    Examples
    --------
    >>> input_type(nn.Linear(2, 3).half())
    torch.float16
    """
    numbers: dict[torch.dtype, int] = {}
    for parameter in model.parameters():
        if parameter.is_floating_point() or parameter.is_complex():
            size = 0 if isinstance(parameter, UninitializedParameter) else parameter.numel()
            numbers[parameter.dtype] = numbers.get(parameter.dtype, 0) + size
    return max(numbers, key=lambda kind: numbers[kind], default=torch.float32)


def is_lazy_network(model: nn.Module) -> bool:
    """Whether a network has weights or averages that get their shape in the first run.

    Examples
    --------
    >>> is_lazy_network(nn.LazyLinear(3)), is_lazy_network(nn.Linear(2, 3))
    (True, False)
    """
    tensors = (*model.parameters(), *model.buffers())
    return any(isinstance(each, UninitializedParameter | UninitializedBuffer) for each in tensors)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the network itself from what torch.compile or a data-parallel wrapper made of it.

    Examples
    --------
    >>> net = nn.Linear(2, 3)
    >>> unwrapped(nn.DataParallel(net)) is net
    True
    """
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]  # what torch.compile wraps
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.module
        else:
            return model


# By the id of the network: networks may define what it means to be equal, or be no keys at all.
_locks: dict[int, threading.RLock] = {}
_making = threading.Lock()


@contextmanager
def alone(model: nn.Module) -> Iterator[None]:
    """Let one thread at a time look at a network: others wait until the block ends.

    What one thread changes for a while, modes, hooks and what a run leaves, another would take
    for the network's own.
    """
    network = unwrapped(model)
    with _making:
        lock = _locks.get(id(network))
        if lock is None:
            lock = _locks[id(network)] = threading.RLock()
            weakref.finalize(network, _locks.pop, id(network), None)
    with lock:
        yield


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode; afterwards, restore every layer's own mode."""
    with alone(model):
        modes = [(module, module.training) for module in model.modules()]
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode
