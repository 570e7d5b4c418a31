"""What a run is made of, in plain values: to say, when it is resumed, what is different."""

import functools
import hashlib
import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook.training._checks import shortened
from cnnbook.training.checkpoint import plain_names
from cnnbook.training.run import Run

# How an optimizer computes, and what a schedule notes down in it.
_OF_DEVICE = {"foreach", "fused", "capturable"}
_OF_PARAMETERS = {"params", "param_names"}
_NOT_COMPARED = {"initial_lr"} | _OF_DEVICE | _OF_PARAMETERS
# What is not noted down, because most parameters and layers are so.
_USUAL = {"parameter": "trained", "layer": "in training mode"}
PARAMETERS = "optimizer parameters"
OTHERS = "not the model's"
_FEW = 20  # numbers that are noted down themselves
_MANY = 1_000_000  # numbers of which no checksum is made: that would take as long as a step


def description(run: Run) -> dict[str, Any]:
    """Return what must be the same when a run is resumed, by name, in plain values.

    Options of the default optimizer are left out: those of :func:`fit` that it is made from are
    compared.
    """
    found: dict[str, Any] = {"optimizer": _name(run.optimizer), PARAMETERS: names_in_groups(run)}
    if "lr" not in run.same:
        found |= _of_optimizer(run)
    callbacks = [getattr(callback, "scheduler", None) for callback in run.callbacks]
    for scheduler in [run.scheduler, *callbacks]:
        if scheduler is not None and "lr" not in run.same and hasattr(scheduler, "state_dict"):
            found["scheduler"] = _name(scheduler)
            found |= {f"scheduler {k}": plain(v) for k, v in scheduler.state_dict().items()}
    found |= dict(_of_loss("loss", run.val_loss_fn))
    found["output"] = plain(run.output)
    found["types of the weights"] = sorted({str(p.dtype) for p in run.model.parameters()})
    for name, parameter in parameters_of(run).items():
        if not parameter.requires_grad:
            found[f"parameter {name}"] = "frozen"
    for layer, name in _layers_of(run).items():
        if layer in run.in_evaluation:
            found[f"layer {name}"] = "in evaluation mode"
    return found


def differences(kept: Mapping[str, Mapping[str, Any]], own: Mapping[str, Any]) -> list[str]:
    """Return what is different from a run that is to be resumed, in words.

    Parameters
    ----------
    kept
        Descriptions of that run: ``begun``, from before its first step, and ``last``, from when it
        was saved. Everything may be as in the one, as in a new process, or as in the other, if the
        same objects are used again.
    own
        Description of this run.
    """
    said: dict[str, str] = {}
    begun, last = kept["begun"], kept["last"]
    for key in sorted(begun.keys() | last.keys() | own.keys()):
        kind = key.partition(" ")[0]
        if kind in said:
            continue  # another class has other options
        usual = _USUAL.get(kind)
        if usual is None and key != kind and key not in begun:
            continue  # a newer torch may have options that the file lacks
        was, now = begun.get(key, usual), own.get(key, usual)
        if not _alike(was, now) and not _alike(last.get(key, usual), now):
            said[key] = f"{key} was {shortened(was)}, is {shortened(now)}"
    return list(said.values())


def parameters_of(run: Run) -> dict[str, nn.Parameter]:
    """Return the parameters of the network, and those of the loss if it has any, by name."""
    own = dict(run.model.named_parameters())
    plain = plain_names(run.model, own)
    named = {plain[name]: parameter for name, parameter in own.items()}
    if (loss := loss_module(run)) is not None:
        named |= {f"{name} of the loss": parameter for name, parameter in loss.named_parameters()}
    return named


def loss_module(run: Run) -> nn.Module | None:
    """Return the module that computes the loss, if one does that is not part of the network."""
    loss: Any = run.val_loss_fn  # as the caller gave it
    while isinstance(loss, functools.partial):
        loss = loss.func
    loss = getattr(loss, "__self__", loss)  # of a method
    own = isinstance(loss, nn.Module) and loss not in set(run.model.modules())
    return loss if own else None


def _layers_of(run: Run) -> dict[nn.Module, str]:
    """Return the layers of the network, with their names; a wrapper has that of what it wraps."""
    own = {f"{name}.": layer for name, layer in run.model.named_modules()}
    plain = plain_names(run.model, own)
    return {layer: plain[name].removesuffix(".") for name, layer in own.items()}


def names_in_groups(run: Run) -> list[list[str]]:
    """Return the names of the parameters in each group of the optimizer."""
    names = {id(p): name for name, p in parameters_of(run).items()}
    groups = run.optimizer.param_groups
    return [[names.get(id(p), OTHERS) for p in group["params"]] for group in groups]


def set_as_saved(run: Run, last: Mapping[str, Any]) -> None:
    """Freeze and thaw parameters, and set layers' modes, as callbacks had done.

    Parameters
    ----------
    run
        The run that is resumed.
    last
        Its description from when it was saved.

    Raises
    ------
    ValueError
        If the network lacks one of them; then nothing is changed.
    """
    named, layers = parameters_of(run), _layers_of(run)
    known = {"parameter": set(named), "layer": set(layers.values())}
    for key, was in last.items():
        kind, _, name = key.partition(" ")
        if kind in known and name not in known[kind]:
            raise ValueError(
                f"{kind} {name}, which was {was}, is not in the network; if a callback has added "
                "it in training, add it before fit instead"
            )
    for name, parameter in named.items():
        parameter.requires_grad_(f"parameter {name}" not in last)
    run.in_evaluation = {layer for layer, name in layers.items() if f"layer {name}" in last}


def set_groups(run: Run, last: Mapping[str, Any], groups: list[dict[str, Any]]) -> None:
    """Give the optimizer the groups of parameters that callbacks had made.

    Parameters
    ----------
    run
        The run that is resumed.
    last
        Its description from when it was saved.
    groups
        What its optimizer's ``state_dict()["param_groups"]`` was then.

    Raises
    ------
    ValueError
        If a parameter is not found; then nothing is changed.
    """
    now = names_in_groups(run)
    names: list[list[str]] = last[PARAMETERS]
    if names == now:
        return
    optimizer, named = run.optimizer, parameters_of(run)
    found: list[list[nn.Parameter]] = []
    for number, group in enumerate(names):
        found.append([])
        for index, name in enumerate(group):
            before = number < len(now) and now[number][index : index + 1] == [name]
            own = optimizer.param_groups[number]["params"][index] if before else named.get(name)
            if own is None:
                what = "that is neither the network's nor the loss's" if name == OTHERS else name
                raise ValueError(
                    f"a callback has added a parameter {what} to group {number + 1} of the "
                    "optimizer, and it is not found again: give it to the optimizer, or to the "
                    "network, before fit"
                )
            found[-1].append(own)
    del optimizer.param_groups[len(names) :]
    for group_now, parameters in zip(optimizer.param_groups, found, strict=False):
        group_now["params"] = parameters
    for number in range(len(optimizer.param_groups), len(names)):
        options = {k: v for k, v in groups[number].items() if k not in _OF_DEVICE | _OF_PARAMETERS}
        for name, default in optimizer.defaults.items():
            if isinstance(default, Tensor) and name in options:  # on the device
                options[name] = torch.full_like(default, float(options[name]))
        given: list[Any] = list(found[number])
        if "param_names" in groups[number]:
            given = list(zip(groups[number]["param_names"], given, strict=True))
        optimizer.add_param_group({**options, "params": given})


def _of_optimizer(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    groups = run.optimizer.param_groups
    for number, group in enumerate(groups, 1):
        start = "optimizer " if len(groups) == 1 else f"optimizer group {number} "
        found |= {start + k: plain(v) for k, v in group.items() if k not in _NOT_COMPARED}
    return found


def _of_loss(name: str, loss: Any) -> Iterator[tuple[str, Any]]:
    """Yield the name of a loss, and its options, each with its name."""
    options: dict[Any, Any]
    if isinstance(loss, functools.partial):
        yield from _of_loss(name, loss.func)
        options = {**dict(enumerate(loss.args)), **loss.keywords}
    else:
        yield name, _name(loss)
        options = _outer_variables(loss)
    if isinstance(loss, nn.Module):
        options |= dict(loss.named_buffers())
        for path, layer in loss.named_modules():
            start = f"{path}." if path else ""
            options |= {start + k: v for k, v in vars(layer).items() if k != "training"}
    elif not inspect.isroutine(loss) and not isinstance(loss, functools.partial):
        options |= getattr(loss, "__dict__", {})
    for key, value in options.items():
        if value is None or isinstance(value, bool | int | float | str | Tensor):
            yield f"{name} {key}", plain(value)


def _outer_variables(function: Any) -> dict[str, Any]:
    if not inspect.isfunction(function):
        return {}
    try:
        return dict(inspect.getclosurevars(function).nonlocals)
    except ValueError:  # one of them has no value yet
        return {}


def _name(value: object) -> str:
    """Return the name of a function, or that of an object's class."""
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def plain(value: Any) -> Any:
    """Return a value in terms that a checkpoint can hold, and that can be compared."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return _name(value)


def _of_tensor(value: Tensor) -> Any:
    try:
        if value.numel() <= _FEW:
            return str(value.tolist()) if value.is_complex() else value.tolist()
        if value.numel() <= _MANY:
            content = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest = hashlib.sha256(content.numpy().tobytes()).hexdigest()[:12]
            return f"{tuple(value.shape)} values with the checksum {digest}"
    except (RuntimeError, NotImplementedError):  # sparse, or without values
        pass
    return f"{tuple(value.shape)} values"


def _alike(one: Any, other: Any) -> bool:
    """Return whether two plain values are the same, but for the rounding of another device."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_alike(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6) or (one != one and other != other)
    return bool(one == other)
