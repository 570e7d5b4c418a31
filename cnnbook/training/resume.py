"""Saving a run to a checkpoint, and resuming from one as if nothing had happened."""

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cnnbook import _files
from cnnbook.training import processes
from cnnbook.training.checkpoint import (
    CheckpointError,
    check_storable,
    load_checkpoint,
    refuse_folder,
    save_checkpoint,
    set_weights,
    weights_of,
)
from cnnbook.training.history import History
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
        raise CheckpointError(
            f"cannot write the checkpoint {path} ({error.strerror}); choose another name or folder"
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
    for name, value in weights.items():
        if value.is_floating_point() and not value.isfinite().all():
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
        "info": info,
        "torch": torch.__version__,
        **run.counters(),
        "history": run.history.to_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scheduler": run.scheduler and run.scheduler.state_dict(),
        "scaler": run.scaler.state_dict(),
    }
    callbacks = with_state(run.callbacks)
    if callbacks and with_callbacks:  # before the first step, they may have none yet
        state["callbacks"] = {name: each.state_dict() for name, each in callbacks.items()}
    return state


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
        If the file is damaged or of another run; the network is left unchanged.
    """
    weights, state = load_checkpoint(path)
    if not isinstance(state, dict) or not {"same", "step", "history"} <= state.keys():
        raise CheckpointError(
            f"{path} was not written by fit(); choose another file, or resume=False to replace it"
        )
    before_load = copy.deepcopy(run.model.state_dict())
    try:
        _check_same_run(run, path, state)
        _restore(run, weights, state)
    except CheckpointError:
        raise
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        run.model.load_state_dict(before_load)  # the tensors that fit had already been copied
        raise CheckpointError(
            f"{path} does not fit this network and optimizer: {error}. Choose another file, or "
            "resume=False to start over"
        ) from error


def _restore(run: Run, weights: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Set everything that a run has to what was saved."""
    # The resumed run may end for a different reason.
    history = History(**{**state["history"], "stopped": ""})
    set_weights(run.model, state.get("model", weights))
    own = [dict(group) for group in run.optimizer.param_groups]
    run.optimizer.load_state_dict(state["optimizer"])
    for group, before in zip(run.optimizer.param_groups, own, strict=True):
        _keep_implementation(group, before)
    # The same layout in memory, or sums would be rounded differently than before.
    for parameter, values in run.optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
    if run.scheduler is not None:
        run.scheduler.load_state_dict(state["scheduler"])
    run.scaler.load_state_dict(state["scaler"])
    for name, callback in with_state(run.callbacks).items():
        callback.load_state_dict(state["callbacks"][name])
    run.go_on_from(state)
    run.history = history


def _keep_implementation(group: dict[str, Any], own: dict[str, Any]) -> None:
    """Keep how an optimizer computes on this device; the file may be from another one."""
    for name in ("foreach", "fused", "capturable"):
        if name in own:
            group[name] = own[name]
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
    begun = len(history["train_loss"]) > 0 and state["step"] < run.total_steps
    if begun and bool(history["val_accuracy"]) != (run.val is not None):
        other.append("validation images were given to only one of the two runs")
    if other:
        raise CheckpointError(
            f"{path} is of another run: {'; '.join(other)}. Give the same options, another file, "
            "or resume=False to start over"
        )
    now = run.optimizer.state_dict()["param_groups"]
    kept = state["optimizer"]["param_groups"]
    # A newer torch may have options that the file lacks.
    if len(kept) != len(now) or any(a.keys() - b.keys() for a, b in zip(kept, now, strict=True)):
        raise CheckpointError(
            f"{path} is of a run with another optimizer; give the same one, another file, or "
            "resume=False to start over"
        )
