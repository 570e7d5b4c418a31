"""A network without values: a copy whose tensors have shapes only."""

import contextlib
import copy
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from cnnbook.analysis._unchanged import unchanged

# Whatever else a layer may refer to is looked into for tensors, except these.
_OPAQUE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, str, bytes)


@contextlib.contextmanager
def meta_copy(model: nn.Module) -> Iterator[nn.Module]:
    """Lend a network on the meta device: a copy, so that what it stores on itself is lost with it.

    A network that cannot be copied is lent itself, its tensors exchanged while the block runs.
    """
    metas = {id(tensor): _on_meta(tensor) for tensor in _tensors(model)}
    try:
        lent = copy.deepcopy(model, dict(metas))
    except Exception:  # locks, open files, …
        with unchanged(model):
            _exchange(model, metas)
            yield model
    else:
        yield lent


def _on_meta(tensor: Tensor) -> Tensor:
    if isinstance(tensor, UninitializedBuffer | UninitializedParameter):
        kind = UninitializedParameter if isinstance(tensor, nn.Parameter) else UninitializedBuffer
        return kind(device="meta", dtype=tensor.dtype)  # type: ignore[call-arg]
    meta = torch.empty_like(tensor.detach(), device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta


def _tensors(model: nn.Module) -> list[Tensor]:
    """Return all tensors that a network holds: weights, caches, those of helper objects."""
    found: list[Tensor] = []
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or isinstance(value, _OPAQUE):
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, types.MethodType):
            waiting.append(value.__self__)
        elif hasattr(value, "__dict__"):
            waiting.append(vars(value))
    return found


def _exchange(model: nn.Module, metas: dict[int, Tensor]) -> None:
    """Put meta tensors in the place of all others among the attributes of a network's layers."""
    for module in model.modules():
        stores: list[dict[str, Any]] = [module._parameters, module._buffers, module.__dict__]
        for store in stores:
            for name, value in store.items():
                if id(value) in metas:
                    store[name] = metas[id(value)]
