"""Callbacks: what happens around the steps of a training run."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.spectral_norm import SpectralNorm

from cnnbook._checks import check_count, check_fraction, check_positive
from cnnbook._errors import unknown
from cnnbook._files import Claim, expanded
from cnnbook._networks import input_type
from cnnbook._progress import progress_bar
from cnnbook._stderr import say
from cnnbook.training import processes
from cnnbook.training.checkpoint import CheckpointError, as_path, set_state, state_of
from cnnbook.training.first_batch import copied
from cnnbook.training.resume import check_state, check_writable, claim, holds_result, save_run
from cnnbook.training.trained import check_described

if TYPE_CHECKING:
    from cnnbook.training.run import Run

# A tensor of an average, and the dict of a layer in which its new value is, under which name.
_Sources = list[tuple[torch.Tensor, Mapping[str, Any], str]]
_MONITORED = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")
HOOKS = ("on_fit_begin", "on_step", "on_epoch_end", "on_fit_end", "on_exception")


class Callback:
    """Hooks that :func:`fit` calls during training. Override the ones you need.

    Each hook receives the :class:`Run`; :meth:`Run.stop` ends the training. Hooks are called in the
    following order; if several callbacks have the same hook, in the order of the list:

    ``on_fit_begin``
        once, before the first step, after a checkpoint has been loaded;
    ``on_step``
        after every step of the optimizer;
    ``on_epoch_end``
        after the last step of an epoch, once it has been validated and added to the history;
    ``on_fit_end``
        once, when all steps have been taken or training has been stopped;
    ``on_exception``
        instead of ``on_fit_end``, if an error, in a callback for example, ends the training.

    With several processes, each one calls its own callbacks.

    A callback with the methods ``state_dict()`` and ``load_state_dict(state)``, like those of an
    optimizer, is part of the checkpoint: the first returns what a resumed run needs, in dicts,
    lists, tensors and plain values; the second gets it back before ``on_fit_begin``.

    Inheriting from this class is optional: any object that has one of the hooks will do.

    Examples
    --------
    Gradients that grow too large are the usual reason why training fails. (They are as the
    optimizer left them.)

    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> class GradientNorm(Callback):
    ...     def on_fit_begin(self, run):
    ...         self.norms = []
    ...     def on_step(self, run):
    ...         squares = [p.grad.square().sum() for p in run.model.parameters()]
    ...         self.norms.append(sum(squares).sqrt().item())
    >>> train, _ = data.load("digits")
    >>> net, watch = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), GradientNorm()
    >>> history = fit(net, train, epochs=1, callbacks=[watch], device="cpu", progress=False)
    >>> len(watch.norms) == len(history.step_loss) == 16
    True
    """

    def on_fit_begin(self, run: "Run") -> None:
        """Do something before the first step."""

    def on_step(self, run: "Run") -> None:
        """Do something after every step."""

    def on_epoch_end(self, run: "Run") -> None:
        """Do something after every epoch and its validation."""

    def on_fit_end(self, run: "Run") -> None:
        """Do something after the last step."""

    def on_exception(self, run: "Run", error: BaseException) -> None:
        """Do something when an error ends the training."""


def check_callbacks(callbacks: Sequence[object]) -> None:
    """Reject callbacks that would never be called.

    Raises
    ------
    TypeError
        If `callbacks` is not a list, or something in it is not a callback.
    ValueError
        If a :class:`Callback` has a method that is named like a hook but is not one.
    """
    if not isinstance(callbacks, list | tuple):
        raise TypeError(f"callbacks is a list of them, got {type(callbacks).__name__}")
    for callback in callbacks:
        if isinstance(callback, type):
            raise TypeError(f"callbacks holds the class {callback.__name__}; create one: add ()")
        if not any(callable(getattr(callback, hook, None)) for hook in HOOKS):
            raise TypeError(
                f"{callback!r} is no callback: it has none of the methods {', '.join(HOOKS)}"
            )
        if isinstance(callback, Callback):
            for name, value in vars(type(callback)).items():
                if name.startswith("on_") and callable(value) and name not in HOOKS:
                    raise unknown(f"hook of {type(callback).__name__}", name, HOOKS)


class Progress(Callback):
    """A progress bar that counts images, in a terminal or a notebook.

    ``fit(progress=True)``, the default, adds one. The environment variable ``TQDM_DISABLE`` hides
    it.

    Examples
    --------
    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> train, _ = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> _ = fit(net, train, epochs=1, progress=False, callbacks=[Progress()], device="cpu")
    """

    def __init__(self) -> None:
        self._bar: Any = None

    def on_fit_begin(self, run: "Run") -> None:
        """Show the bar."""
        images = run.batches.images_per_epoch  # of an iterable, perhaps unknown
        self._bar = progress_bar(
            run.epochs * images if images else None,
            initial=run.images_seen,
            show=processes.is_main_process(),
            unit="img",
            unit_scale=True,
            leave=False,
        )

    def on_step(self, run: "Run") -> None:
        """Advance it."""
        self._bar.update(run.images_seen - self._bar.n)

    def on_epoch_end(self, run: "Run") -> None:
        """Show the validation accuracy."""
        if run.history.val_accuracy:
            self._bar.set_postfix_str(f"validation accuracy {run.history.val_accuracy[-1]:.1%}")

    def on_fit_end(self, run: "Run") -> None:
        """Remove the bar."""
        self._bar.close()

    def on_exception(self, run: "Run", error: BaseException) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


class EpochLines(Callback):
    """One line per epoch on standard error, for logs that cannot show a progress bar.

    Examples
    --------
    >>> import contextlib, sys
    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> train, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> options = {"callbacks": [EpochLines()], "device": "cpu", "progress": False}
    >>> with contextlib.redirect_stderr(sys.stdout):
    ...     _ = fit(net, train, test, epochs=2, **options)
    epoch 1: training loss ..., validation accuracy ...%, ... s
    epoch 2: training loss ..., validation accuracy ...%, ... s
    """

    def on_epoch_end(self, run: "Run") -> None:
        """Print the line."""
        if not processes.is_main_process():
            return
        history = run.history
        parts = [f"training loss {history.train_loss[-1]:.4f}"]
        if history.val_accuracy:
            parts.append(f"validation accuracy {history.val_accuracy[-1]:.2%}")
        parts.append(f"{history.seconds[-1]:.1f} s")
        say(f"epoch {run.epoch}: {', '.join(parts)}")


class TensorBoard(Callback):
    """Log of losses, accuracies and learning rate for TensorBoard.

    It is written at the end of each epoch: the loss of every step as ``loss/step``, and
    ``loss/training``, ``loss/validation``, ``accuracy/training``, ``accuracy/validation`` and
    ``learning_rate``, all against the step number.

    Parameters
    ----------
    folder
        Where to write it, one folder for each run. A resumed run continues in the same one.

    Raises
    ------
    ModuleNotFoundError
        If the package ``tensorboard`` is not installed.

    Examples
    --------
    >>> import tempfile
    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> train, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = TensorBoard(folder)
    ...     _ = fit(net, train, test, epochs=1, callbacks=[log], device="cpu", progress=False)
    ...     [file.name.partition(".")[0] for file in Path(folder).iterdir()]
    ['events']
    """

    def __init__(self, folder: str | Path):
        try:
            # Not imported at the top: it takes a second, and the package may be missing.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError(
                f"TensorBoard's log needs its package ({error}): pip install tensorboard"
            ) from None
        self.folder = expanded(folder)
        self._create = SummaryWriter
        self._writer: Any = None
        self._logged = 0

    def on_fit_begin(self, run: "Run") -> None:
        """Open the log."""
        if processes.is_main_process():
            self._writer = self._create(str(self.folder))
        # Nothing has been written for the epoch in which a run was interrupted.
        epochs = run.step // run.steps_per_epoch - run.awaits_validation
        self._logged = epochs * run.steps_per_epoch

    def on_epoch_end(self, run: "Run") -> None:
        """Write the epoch."""
        if self._writer is None:
            return
        history = run.history
        for number in range(self._logged, len(history.step_loss)):
            self._writer.add_scalar("loss/step", history.step_loss[number], number + 1)
        self._logged = len(history.step_loss)
        values = {"loss/training": history.train_loss, "accuracy/training": history.train_accuracy}
        if run.val is not None:
            values |= {"loss/validation": history.val_loss}
            values |= {"accuracy/validation": history.val_accuracy}
        for name, series in values.items():
            self._writer.add_scalar(name, series[-1], run.step)
        rate = run.optimizer.param_groups[0].get("lr")  # not every optimizer has one
        if rate is not None:
            # The default's is a tensor on a GPU.
            self._writer.add_scalar("learning_rate", float(rate), run.step)
        self._writer.flush()

    def on_fit_end(self, run: "Run") -> None:
        """Close the log."""
        if self._writer is not None:
            self._writer.close()

    def on_exception(self, run: "Run", error: BaseException) -> None:
        """Close the log."""
        self.on_fit_end(run)


class EMA(Callback):
    """Exponential moving average of weights and running statistics.

    The averaged weights are validated, saved in the checkpoint, and left in the model at the end.
    ``fit(ema_decay=…)`` adds one.

    Parameters
    ----------
    decay
        Weight of the old average in each step, 0 to 1, for example 0.999. Early in training, the
        smaller (1 + t)/(10 + t) is used after t steps.

    Attributes
    ----------
    average : torch.nn.Module
        The network with the averaged weights, once training has begun.

    Raises
    ------
    ValueError
        If `decay` is not a fraction.

    Examples
    --------
    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> train, _ = data.load("digits")
    >>> net, ema = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), EMA(0.99)
    >>> _ = fit(net, train, epochs=1, callbacks=[ema], device="cpu", progress=False)
    >>> torch.equal(net[1].weight, ema.average[1].weight)
    True
    """

    def __init__(self, decay: float):
        check_fraction("decay", decay)
        self.decay = decay
        self._resumed: Mapping[str, Any] | None = None

    def on_fit_begin(self, run: "Run") -> None:
        """Start with the network's weights, or continue with those of the checkpoint."""
        self.average = copied(run.model).requires_grad_(False)
        if input_type(self.average) in (torch.float16, torch.bfloat16):
            self.average.float()  # small changes would be rounded away
        self._prepare(run.model)
        if self._resumed is not None:
            set_state(self.average, self._resumed)
            self._resumed = None
        run.evaluated = self.average

    @torch.no_grad()
    def on_step(self, run: "Run") -> None:
        """Update the average."""
        # torch's AveragedModel does the same but reads its step counter off the device each time.
        decay = min(self.decay, (1 + run.step) / (10 + run.step))
        made = False
        for buffers, own, key in self._unmade:  # in the first forward pass
            value = own[key]
            if value is not None:
                buffers[key], made = value.detach().clone(), True
        if made:
            self._prepare(run.model)
        if self._averaged:
            kept = [tensor for tensor, _, _ in self._averaged]
            new = [owner[key].to(old.dtype) for old, owner, key in self._averaged]
            torch._foreach_lerp_(kept, new, 1 - decay)
        if self._copied:
            kept = [tensor for tensor, _, _ in self._copied]
            torch._foreach_copy_(kept, [owner[key] for _, owner, key in self._copied])

    def _prepare(self, model: torch.nn.Module) -> None:
        """Find out what is averaged, what is copied, and which buffers do not exist yet."""
        self._averaged, self._copied = self._sources(model)
        self._unmade = [
            (kept._buffers, layer._buffers, key)
            for kept, layer in zip(self.average.modules(), model.modules(), strict=True)
            for key, buffer in kept._buffers.items()
            if buffer is None
        ]

    def _sources(self, model: torch.nn.Module) -> tuple["_Sources", "_Sources"]:
        """Return what is averaged and what is copied: each tensor, and where its new value is."""
        owners = {
            f"{path}." * bool(path) + key: (tensors, key)
            for path, layer in model.named_modules(remove_duplicate=False)
            for tensors in (layer._parameters, layer._buffers)
            for key in tensors
        }
        averaged: _Sources = []
        others: _Sources = []
        iterations, seen = _power_iterations(self.average), set()
        for name, kept in state_of(self.average).items():
            if name.endswith("_extra_state"):
                continue  # made anew by the layer
            if kept.data_ptr() not in seen:  # a tensor with two names is averaged once
                seen.add(kept.data_ptr())
                number = kept.is_floating_point() or kept.is_complex()
                # A mean with infinity, as in the mask of attention, would be no number.
                mean = number and name not in iterations and bool(kept.isfinite().all())
                (averaged if mean else others).append((kept, *owners[name]))
        return averaged, others

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights."""
        return state_of(self.average)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with these weights when training begins."""
        self._resumed = state


def _power_iterations(model: torch.nn.Module) -> set[str]:
    """Return the names of spectral normalization's vectors, whose mean would not have length 1."""
    names = set()
    for path, module in model.named_modules():
        start = f"{path}." if path else ""
        if type(module).__name__ == "_SpectralNorm":  # of torch.nn.utils.parametrizations
            names |= {f"{start}_u", f"{start}_v"}
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):  # of torch.nn.utils.spectral_norm
                names |= {f"{start}{hook.name}_u", f"{start}{hook.name}_v"}
    return names


class TargetAccuracy(Callback):
    """Stop after the first epoch that reaches an accuracy on the validation images.

    ``fit(target_accuracy=…)`` adds one.

    Parameters
    ----------
    accuracy
        The accuracy, 0 to 1.

    Raises
    ------
    ValueError
        If `accuracy` is not a fraction, or there are no validation images.

    Examples
    --------
    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> train, test = data.load("digits")
    >>> net, options = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), {"device": "cpu"}
    >>> enough = TargetAccuracy(0.8)
    >>> fit(net, train, test, epochs=9, callbacks=[enough], progress=False, **options).stopped
    'validation accuracy ...% reached in epoch ...'
    """

    def __init__(self, accuracy: float):
        check_fraction("accuracy", accuracy)
        self.accuracy = accuracy

    def on_fit_begin(self, run: "Run") -> None:
        """Stop at once if the resumed run had already reached it."""
        if run.val is None:
            raise ValueError("TargetAccuracy needs validation images: pass val= to fit()")
        self.on_epoch_end(run)

    def on_epoch_end(self, run: "Run") -> None:
        """Stop if it has been reached."""
        reached = run.history.val_accuracy[-1:]
        if reached and reached[0] >= self.accuracy:
            epoch = len(run.history.val_accuracy)
            run.stop(f"validation accuracy {reached[0]:.2%} reached in epoch {epoch}")


class EarlyStopping(Callback):
    """Stop when a loss or an accuracy has not improved for several epochs.

    At the end of training, stopped or not, the model gets the weights of the best epoch back; with
    :class:`EMA`, the averaged ones of that epoch. A checkpoint has them as its weights, and also
    holds the last ones, from which training continues. The default one-cycle schedule is planned
    for all epochs: a run that stops early has not reached its small learning rates.

    Parameters
    ----------
    monitor
        ``"val_loss"``, ``"val_accuracy"``, ``"train_loss"`` or ``"train_accuracy"``.
    patience
        Epochs to wait for an improvement.
    min_delta
        An improvement is a loss lower, or an accuracy higher, than the best by more than this.
    restore_best
        Whether to put the weights of the best epoch back; otherwise, those of the last epoch stay.

    Raises
    ------
    ValueError
        If an option is unknown or out of range, or there are no validation images to monitor.

    Examples
    --------
    An accuracy cannot rise by 100 points twice:

    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> train, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> stopping = EarlyStopping("val_accuracy", patience=2, min_delta=1)
    >>> options = {"callbacks": [stopping], "device": "cpu", "progress": False}
    >>> fit(net, train, test, epochs=9, **options).stopped
    'val_accuracy has not improved for 2 epochs'
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ):
        if monitor not in _MONITORED:
            raise unknown("metric to monitor", monitor, _MONITORED)
        check_count("patience", patience)
        if min_delta < 0:
            raise ValueError(f"min_delta is how much better, 0 or more; got min_delta={min_delta}")
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.restore_best = restore_best
        self._best: Mapping[str, torch.Tensor] | None = None
        self._resumed = False

    def on_fit_begin(self, run: "Run") -> None:
        """Stop at once if the resumed run had already waited long enough."""
        if self.monitor.startswith("val_") and run.val is None:
            raise ValueError(
                f"there are no validation images for {self.monitor}: pass val= to fit()"
            )
        if not self._resumed:
            self._best = None  # of another run
        self._resumed = False
        self._stop_if_waited(run)

    def on_epoch_end(self, run: "Run") -> None:
        """Stop if there has been no improvement for too long."""
        if self.restore_best and self._waited(run) == 0:
            self._best = {
                name: value.detach().clone() for name, value in state_of(run.evaluated).items()
            }
        self._stop_if_waited(run)

    def on_fit_end(self, run: "Run") -> None:
        """Put the weights of the best epoch back."""
        # After it, training may have gone on without an improvement, or through part of an epoch.
        if self._best is not None:
            best = copied(run.evaluated).requires_grad_(False)
            set_state(best, self._best)
            run.evaluated = best

    def _stop_if_waited(self, run: "Run") -> None:
        waited = self._waited(run)
        if waited is not None and waited >= self.patience:
            epochs = f"{waited} epoch{'s' * (waited > 1)}"
            run.stop(f"{self.monitor} has not improved for {epochs}")

    def _waited(self, run: "Run") -> int | None:
        """Return for how many epochs there has been no improvement; None before the first."""
        # Recounted from the history, so that a resumed run stops where an uninterrupted one would
        # have.
        sign = -1 if self.monitor.endswith("loss") else 1
        best, waited = -math.inf, None
        for value in getattr(run.history, self.monitor):
            better = sign * value > best + self.min_delta
            best, waited = (sign * value, 0) if better else (best, (waited or 0) + 1)
        return waited

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the best epoch so far."""
        return {"best": self._best}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue with these."""
        self._best, self._resumed = state["best"], True


class PlateauSchedule(Callback):
    """Steps torch's ``ReduceLROnPlateau``: ``fit(scheduler=…)`` makes one.

    Parameters
    ----------
    scheduler
        The scheduler. In the mode ``"min"``, it is given the validation loss; in the mode
        ``"max"``, the validation accuracy.
    val
        The validation images.

    Raises
    ------
    ValueError
        If there are none.
    """

    def __init__(self, scheduler: torch.optim.lr_scheduler.ReduceLROnPlateau, val: object):
        if val is None:
            raise ValueError(
                "ReduceLROnPlateau looks at validation images after every epoch: pass val= too"
            )
        self.scheduler = scheduler

    def on_epoch_end(self, run: "Run") -> None:
        """Step the scheduler."""
        values = run.history.val_accuracy if self.scheduler.mode == "max" else run.history.val_loss
        self.scheduler.step(values[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return the scheduler's state."""
        return self.scheduler.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Set the scheduler's state."""
        self.scheduler.load_state_dict(dict(state))


class TimeLimit(Callback):
    """Stop after a given training time, even in the middle of an epoch.

    Parameters
    ----------
    seconds
        Training time, measured as in ``history.seconds``: evaluations and the time between an
        interruption and its resumption do not count; training before the interruption does.

    Raises
    ------
    ValueError
        If `seconds` is not positive and finite.

    Examples
    --------
    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit
    >>> train, _ = data.load("digits")
    >>> net, options = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), {"device": "cpu"}
    >>> limit = TimeLimit(0.01)
    >>> fit(net, train, epochs=99_999, callbacks=[limit], progress=False, **options).stopped
    'time limit of 0.01 s reached at step ... of 1599984'
    """

    def __init__(self, seconds: float):
        check_positive("seconds", seconds)
        self.seconds = seconds

    def on_fit_begin(self, run: "Run") -> None:
        """Stop at once if the resumed run has no time left."""
        if run.step < run.total_steps:
            self.on_step(run)

    def on_step(self, run: "Run") -> None:
        """Stop if time is up."""
        if run.seconds >= self.seconds:
            where = f"step {run.step} of {run.total_steps}"
            run.stop(f"time limit of {self.seconds:g} s reached at {where}")


def _which_file(path: Path) -> tuple[int, ...]:
    """Return what tells a file from one that replaces it; nothing if there is none."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns


class Checkpoint(Callback):
    """Write the run to a file that :func:`fit` can resume from and :func:`load_weights` can read.

    ``fit(checkpoint=…)`` adds one and resumes from the file; a `Checkpoint` in the list of
    callbacks only writes. It is called after all others, so that their saved state is that of the
    same step.

    Parameters
    ----------
    path
        File to write, in the safetensors format whatever its suffix. An existing file is replaced
        only when the new one is complete.
    every
        Steps between saves; by default, the run is saved after every epoch. The end is always
        saved, and so is an epoch whose validation fails: a resumed run begins with that validation.
    info
        Anything to store with the run, in plain Python values.

    Raises
    ------
    ValueError
        If `every` is not positive, or `info` is that of :func:`model_info` for another network.
    CheckpointError
        If the file cannot be written, or another run is writing it.
    TypeError
        If `info`, or the state of another callback, holds something that a checkpoint cannot hold.

    Examples
    --------
    >>> import tempfile
    >>> from torch import nn
    >>> from cnnbook import data
    >>> from cnnbook.training import fit, load_checkpoint
    >>> train, _ = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     keep = Checkpoint(Path(folder, "net.safetensors"), every=5, info={"by": "me"})
    ...     _ = fit(net, train, epochs=1, callbacks=[keep], device="cpu", progress=False)
    ...     weights, state = load_checkpoint(keep.path)
    >>> state["step"], state["info"]
    (16, {'by': 'me'})
    """

    def __init__(self, path: str | Path, every: int | None = None, info: Any = None):
        if every is not None:
            check_count("every", every)
        self.path, self.every, self.info = as_path(path), every, info
        self._saved: tuple[int, Any] = 0, None
        self._checked = False
        self._claim: Claim | None = None
        self._found: tuple[int, ...] | None = None

    def note_file(self) -> None:
        """Remember which file is there before it is read, to notice that another run wrote it."""
        self._found = _which_file(self.path)

    def on_fit_begin(self, run: "Run") -> None:
        """Check that the file can be written, and keep other runs from writing it."""
        self._saved, self._checked = (-1 if run.awaits_validation else run.step, None), False
        if run.step < run.total_steps or run.awaits_validation:
            check_writable(self.path)
            self._claim = claim(self.path)
            found, self._found = self._found, None
            if found is not None and found != _which_file(self.path):
                self._release()
                raise CheckpointError(
                    f"another run wrote {self.path} after this one had read it: do the same again "
                    "to continue from there"
                )
            check_state(run, self.info, begun=False)
            check_described(run.model, self.info, run.output)

    def on_step(self, run: "Run") -> None:
        """Save if due, unless the epoch is over: then `on_epoch_end` saves."""
        if not self._checked:
            check_state(run, self.info)  # other callbacks may have no state before a step
            self._checked = True
        if self.every and run.step % self.every == 0 and not run.epoch_done:
            self._save(run)

    def on_epoch_end(self, run: "Run") -> None:
        """Save if a save is due after this epoch or its last step."""
        if not self.every or run.step % self.every == 0:
            self._save(run)

    def on_fit_end(self, run: "Run") -> None:
        """Save what has not been saved."""
        step, evaluated = self._saved
        if run.step != step or evaluated not in (None, run.evaluated):
            self._save(run)
        elif evaluated is None and self.path.exists() and not holds_result(run, self.path):
            # The run was killed between its last step and the last save.
            self._claim = claim(self.path)
            self._save(run)
        self._release()

    def on_exception(self, run: "Run", error: BaseException) -> None:
        """Save an epoch that could not be validated, and let other runs write the file."""
        if run.awaits_validation and self._claim is not None:
            # The error that ends the training is the one to tell of.
            with contextlib.suppress(CheckpointError, FloatingPointError):
                self._save(run)
        self._release()

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()
            self._claim = None

    def _save(self, run: "Run") -> None:
        save_run(run, self.path, self.info)
        # Another callback may put other weights back at the end.
        self._saved = run.step, run.evaluated
