"""Which labels a loss leaves out, so that no accuracy counts them."""

import functools
import inspect
from collections.abc import Iterator
from typing import Any, TypeGuard

from torch import nn

#: Cross-entropy's mark for a label that does not count, which is no class of any network.
USUAL = -100


def ignored_by(loss: object) -> tuple[int, ...]:
    """Return the labels that a loss leaves out, as far as it says so.

    A loss says so by a number ``ignore_index``: as an attribute, as an argument that has been set
    or is preset, or of a loss that it is made of. If it is made of several that leave out different
    labels, each label counts in one of them.
    """
    found = set(_indexes(loss, depth=3))
    return tuple(sorted({USUAL} | (found if len(found) == 1 else set())))


def _indexes(loss: Any, depth: int) -> Iterator[int]:
    if inspect.ismethod(loss):
        loss = loss.__self__
    own = getattr(loss, "ignore_index", None)
    if _is_index(own):
        yield own
        return
    parts: list[Any] = []
    if isinstance(loss, nn.Module):
        parts = list(loss.children())
    elif isinstance(loss, functools.partial):
        preset = loss.keywords.get("ignore_index")
        if _is_index(preset):
            yield preset
            return
        parts = [loss.func, *loss.args]
    elif inspect.isfunction(loss):
        argument = inspect.signature(loss).parameters.get("ignore_index")
        if argument is not None and _is_index(argument.default):
            yield argument.default
            return
        parts = _outer_variables(loss)
    else:
        parts = list(getattr(loss, "__dict__", {}).values())
    for part in parts if depth else []:
        if isinstance(part, nn.Module | functools.partial) or inspect.isroutine(part):
            yield from _indexes(part, depth - 1)


def _is_index(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _outer_variables(function: Any) -> list[Any]:
    try:
        found = inspect.getclosurevars(function)
    except (ValueError, TypeError):  # one of them has no value yet
        return []
    return [*found.nonlocals.values(), *found.globals.values()]
