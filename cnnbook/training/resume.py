"""Saving a run to a checkpoint, and resuming from one as if nothing had happened."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnbook import _files
from cnnbook.training import processes
from cnnbook.training.checkpoint import (
    CheckpointError,
    check_storable,
    check_tensors,
    load_checkpoint,
    other_buffers_of,
    refuse_folder,
    save_checkpoint,
    set_other_buffers,
    set_state,
    set_weights,
    state_of,
    weights_of,
)
from cnnbook.training.history import History
from cnnbook.training.made_of import (
    description,
    differences,
    loss_module,
    parameters_of,
    set_as_saved,
    set_groups,
)
from cnnbook.training.run import Run


def with_state(callbacks: Iterable[object]) -> dict[str, Any]:
    """Return the callbacks that go into a checkpoint, under the names they have there."""
    named: dict[str, Any] = {}
    for callback in callbacks:
        if hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
            name = type(callback).__name__
            before = sum(type(other) is type(callback) for other in named.values())
            named[f"{name} {before + 1}" if before else name] = callback
    return named


def check_writable(path: Path) -> None:
    """Find out before hours of training whether a file can be written.

    Raises
    ------
    CheckpointError
        If it cannot.
    """
    refuse_folder(path)
    if not processes.is_main_process():
        return
    try:
        _files.check_writable(path)
    except OSError as error:
        raise CheckpointError(str(error)) from None


def claim(path: Path) -> _files.Claim | None:
    """Keep other runs from writing a file, until what this returns is released.

    Raises
    ------
    CheckpointError
        If another run is going to write it.
    """
    if not processes.is_main_process():
        return None
    try:
        return _files.Claim(path)
    except _files.InUse as error:
        raise CheckpointError(
            f"{path} is the checkpoint of a run that is still going on ({error}), and each would "
            "overwrite the other's: wait until it has ended, stop it, or choose another file"
        ) from None


def save_run(run: Run, path: Path, info: Any = None) -> None:
    """Write what a run needs to continue.

    Parameters
    ----------
    run
        The run, between two steps.
    path
        File to write.
    info
        Anything the caller wants to store with it, in plain Python values.

    Raises
    ------
    FloatingPointError
        If a loss or a weight is infinite or not a number; the file keeps the last good state.
    CheckpointError
        If the file cannot be written.
    """
    run.read_losses()
    # Only one process writes, and the others need not wait for it.
    if not processes.is_main_process():
        return
    weights = weights_of(run.model)
    trained = {name for name, _ in run.model.named_parameters(remove_duplicate=False)}
    for name, value in weights.items():
        if not (value.is_floating_point() or value.is_complex()):
            continue
        # A buffer may have infinities from the start, such as the mask of attention.
        if bool((~value.isfinite() if name in trained else value.isnan()).any()):
            kept = f"; {path} keeps the last good state" if path.exists() else ""
            raise FloatingPointError(
                f"{name} has values that are not finite after step {run.step}: lower the "
                f"learning rate or check the inputs{kept}"
            )
    state = _state(run, info)
    if run.evaluated is not run.model:
        # The file's weights are the ones to use; training continues from these.
        state["model"] = weights
        weights = weights_of(run.evaluated)
    save_checkpoint(path, weights, state)


def holds_result(run: Run, path: Path) -> bool:
    """Return whether a run's file has the weights that the run ends with."""
    kept, _ = load_checkpoint(path)
    weights = weights_of(run.evaluated)
    return kept.keys() == weights.keys() and all(
        torch.equal(value.cpu(), kept[name]) for name, value in weights.items()
    )


def check_state(run: Run, info: Any = None, *, begun: bool = True) -> None:
    """Find out before the first epoch is over whether a run can be saved.

    Parameters
    ----------
    run
        The run.
    info
        What is to be stored with it.
    begun
        Whether a step has been taken, so that optimizer and callbacks have their state.

    Raises
    ------
    TypeError
        If it has a value that a checkpoint cannot hold. The message says where.
    """
    check_storable("checkpoint_info", info)
    for name, value in run.model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(
                f"a checkpoint cannot hold {name!r} of the network's state_dict(), which is "
                f"{type(value).__name__}: get_extra_state() must return a tensor"
            )
    check_tensors(state_of(run.model))
    state = _state(run, info, with_callbacks=begun)
    for name, value in state.pop("callbacks", {}).items():
        check_storable(f"the state_dict() of the callback {name}", value)
    del state["info"]
    for name, value in state.items():
        check_storable(f"the run's {name!r}", value)


def _state(run: Run, info: Any, *, with_callbacks: bool = True) -> dict[str, Any]:
    """Return what is saved beside the weights."""
    state: dict[str, Any] = {
        "same": run.same,
        "made of": {"begun": run.begun, "last": description(run)},
        "info": info,
        "torch": torch.__version__,
        **run.counters(),
        "history": run.history.to_dict(),
        "buffers": other_buffers_of(run.model),
        "optimizer": run.optimizer.state_dict(),
        "scheduler": run.scheduler and run.scheduler.state_dict(),
        "scaler": run.scaler.state_dict(),
    }
    loss = loss_module(run)
    if loss is not None and loss.state_dict():  # it may learn, too
        state["loss"] = loss.state_dict()
    if others := _other_parameters(run):
        state["other parameters"] = [parameter.detach() for parameter in others]
    callbacks = with_state(run.callbacks)
    if callbacks and with_callbacks:  # before the first step, they may have none yet
        state["callbacks"] = {name: each.state_dict() for name, each in callbacks.items()}
    return state


def _other_parameters(run: Run) -> list[Tensor]:
    """Return what the optimizer trains beside the network and the loss, as far as these are known.

    A function may use parameters of its own, such as a temperature, which have no names.
    """
    known = {id(p) for p in parameters_of(run).values()}
    return [
        p for group in run.optimizer.param_groups for p in group["params"] if id(p) not in known
    ]


def resume_run(run: Run, path: Path) -> None:
    """Restore a run to the state saved in a checkpoint.

    Parameters
    ----------
    run
        A run that has not begun, made with the same options.
    path
        What :func:`save_run` wrote.

    Raises
    ------
    CheckpointError
        If the file is damaged or of another run; then network, loss, optimizer and scheduler are
        left as they were.
    """
    weights, state = load_checkpoint(path)
    if not isinstance(state, dict) or not {"same", "made of", "step"} <= state.keys():
        raise CheckpointError(
            f"{path} was not written by fit(); choose another file, or resume=False to replace it"
        )
    try:
        _check_same_run(run, path, state)
        with _unchanged_by_errors(run):
            _restore(run, weights, state)
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise CheckpointError(
            f"{path} does not fit this network and optimizer: {error}. Choose another file, or "
            "resume=False to start over"
        ) from error


@contextmanager
def _unchanged_by_errors(run: Run) -> Iterator[None]:
    """Undo what was done to objects of the caller's when one of them has refused its part.

    What fits is found out by loading it, one part after the other.
    """
    optimizer, scheduler, loss = run.optimizer, run.scheduler, loss_module(run)
    weights = copy.deepcopy(state_of(run.model))
    trained = [(p, p.requires_grad) for p in parameters_of(run).values()]
    groups = [{**group, "params": list(group["params"])} for group in optimizer.param_groups]
    values = [value for group in groups for value in group.values() if isinstance(value, Tensor)]
    written = [(x, x.detach().clone()) for x in [*_other_parameters(run), *values]]
    state = dict(optimizer.state)  # loading replaces what it has for a parameter
    of_scheduler = copy.deepcopy(scheduler.state_dict()) if scheduler is not None else None
    of_loss = copy.deepcopy(loss.state_dict()) if loss is not None else None
    try:
        yield
    except BaseException:
        set_state(run.model, weights)
        for parameter, was in trained:
            parameter.requires_grad_(was)
        with torch.no_grad():
            for tensor, value in written:
                tensor.copy_(value)
        optimizer.param_groups[:] = groups
        optimizer.state.clear()
        optimizer.state.update(state)
        if scheduler is not None and of_scheduler is not None:
            scheduler.load_state_dict(of_scheduler)
        if loss is not None and of_loss is not None:
            loss.load_state_dict(of_loss)
        raise


def _restore(run: Run, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Set everything that a run has to what was saved."""
    # The resumed run may end for a different reason.
    history = History(**{**state["history"], "stopped": ""})
    begun, last = state["made of"]["begun"], state["made of"]["last"]
    set_groups(run, last, state["optimizer"]["param_groups"])
    others, kept_others = _other_parameters(run), state.get("other parameters", [])
    if [p.shape for p in others] != [p.shape for p in kept_others]:
        raise ValueError("the parameters in the optimizer that are not the network's are different")
    set_weights(run.model, state.get("model", weights))
    set_other_buffers(run.model, state["buffers"])
    _restore_optimizer(run.optimizer, state["optimizer"])
    if run.scheduler is not None:
        own = run.scheduler.state_dict()
        run.scheduler.load_state_dict(_typed(state["scheduler"], own))
    run.scaler.load_state_dict(state["scaler"])
    loss = loss_module(run)
    if loss is not None and "loss" in state:
        loss.load_state_dict(state["loss"])
    with torch.no_grad():
        for parameter, kept in zip(others, kept_others, strict=True):
            parameter.copy_(kept)
    set_as_saved(run, last)
    for name, callback in with_state(run.callbacks).items():
        callback.load_state_dict(state["callbacks"][name])
    run.go_on_from(state)
    run.history = history
    run.begun = begun


def _restore_optimizer(optimizer: torch.optim.Optimizer, kept: dict[str, Any]) -> None:
    own = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(kept)
    for group, before, saved in zip(optimizer.param_groups, own, kept["param_groups"], strict=True):
        for name in saved.keys() & before.keys() - {"params"}:
            group[name] = _typed(group[name], before[name])
        _keep_implementation(group, before)
        for parameter, number in zip(group["params"], saved["params"], strict=True):
            values = optimizer.state.get(parameter, {})
            for name, value in kept["state"].get(number, {}).items():
                if name in values:
                    values[name] = _as_saved(value, values[name], parameter)


def _as_saved(value: Any, loaded: Any, parameter: Tensor) -> Any:
    """Return a part of a parameter's state, which torch has converted to the parameter's type."""
    if isinstance(value, Tensor) and isinstance(loaded, Tensor):
        if value.shape == parameter.shape:
            # The same layout in memory, or sums would be rounded differently than before.
            return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        return value.to(loaded.device)
    if isinstance(value, dict) and isinstance(loaded, dict):
        return {key: _as_saved(item, loaded.get(key), parameter) for key, item in value.items()}
    if isinstance(value, list) and isinstance(loaded, list):
        pairs = zip(value, loaded, strict=True)
        return [_as_saved(item, other, parameter) for item, other in pairs]
    return loaded


def _typed(value: Any, own: Any) -> Any:
    """Return what a file holds in the types of what it is going to replace.

    A file has lists for tuples, and plain dicts for counters.
    """
    if isinstance(value, dict) and isinstance(own, dict):
        typed = copy.copy(own)
        typed.clear()
        typed.update({key: _typed(item, own.get(key)) for key, item in value.items()})
        return typed
    if isinstance(value, list) and isinstance(own, list | tuple):
        fitting = own if len(own) == len(value) else [None] * len(value)
        items = [_typed(item, other) for item, other in zip(value, fitting, strict=True)]
        if isinstance(own, tuple):
            return type(own)(*items) if hasattr(own, "_fields") else type(own)(items)
        return items
    return value


def _keep_implementation(group: dict[str, Any], own: dict[str, Any]) -> None:
    """Keep how an optimizer computes on this device; the file may be from another one."""
    for name in ("foreach", "fused", "capturable"):
        if name in own:
            group[name] = own[name]
    if "lr" not in group or "lr" not in own:
        return  # not every optimizer has one
    rate = group["lr"]
    if isinstance(own["lr"], Tensor):  # a tensor that a recording may read
        group["lr"] = own["lr"].fill_(float(rate))
    elif isinstance(rate, Tensor):
        group["lr"] = float(rate)


def _check_same_run(run: Run, path: Path, state: dict[str, Any]) -> None:
    """Raise CheckpointError if a checkpoint is of a run with other options."""
    before, history = state["same"], state["history"]
    other = [
        f"{key} was {before.get(key)}, is {run.same.get(key)}"
        for key in sorted(before.keys() | run.same.keys())
        if before.get(key) != run.same.get(key)
    ]
    for name in sorted(state.get("callbacks", {}).keys() ^ with_state(run.callbacks).keys()):
        other.append(f"the callback {name} was given to only one of the two runs")
    awaits = state["awaits_validation"]
    begun = len(history["train_loss"]) > 0 and state["step"] < run.total_steps
    if (begun or awaits) and (bool(history["val_accuracy"]) or awaits) != (run.val is not None):
        other.append("validation images were given to only one of the two runs")
    other += differences(state["made of"], description(run))
    if other:
        raise CheckpointError(
            f"{path} is of another run: {'; '.join(other)}. Give the same options, another file, "
            "or resume=False to start over"
        )
    now = run.optimizer.state_dict()["param_groups"]
    kept = state["optimizer"]["param_groups"]
    # A newer torch may have options that the file lacks.
    if any(a.keys() - b.keys() for a, b in zip(kept, now, strict=False)):
        raise CheckpointError(
            f"{path} is of a run with another optimizer; give the same one, another file, or "
            "resume=False to start over"
        )
