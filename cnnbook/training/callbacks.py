"""Callbacks: what happens around the steps of a training."""

import copy
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from cnnbook._errors import unknown
from cnnbook._progress import progress_bar
from cnnbook.training import processes
from cnnbook.training._checks import check_fraction, check_positive
from cnnbook.training.resume import check_writable, save_run

if TYPE_CHECKING:
    from cnnbook.training.run import Run

_MONITORED = ("val_loss", "val_accuracy", "train_loss", "train_accuracy")
HOOKS = ("on_fit_begin", "on_step", "on_epoch_end", "on_fit_end", "on_exception")


class Callback:
    """What :func:`fit` calls on the way. Override the hooks you need.

    Each hook is given the :class:`Run`; its method :meth:`Run.stop` ends the training. Hooks are
    called in this order, those of the callbacks of :func:`fit` in the order of their list:

    ``on_fit_begin``
        once, before the first step, after a checkpoint has been loaded;
    ``on_step``
        after every step of the optimizer;
    ``on_epoch_end``
        after the last step of an epoch, when it has been written into the history and validated;
    ``on_fit_end``
        once, when all steps have been taken or training has been stopped;
    ``on_exception``
        instead of ``on_fit_end``, if an error, of a callback for example, ends the training.

    With several processes, every one of them calls its own callbacks.

    A callback with the methods ``state_dict()`` and ``load_state_dict(state)``, as an optimizer
    has, is part of the checkpoint: the first returns what a resumed run needs, in dicts, lists,
    tensors and plain values; the second gets it back before ``on_fit_begin``.

    Deriving from this class is a convenience: any object that has one of the hooks will do.

    Examples
    --------
    Gradients that grow too long are the usual reason of a training that fails. (They are as the
    optimizer left them: the default one, on a GPU, adds its momentum to them.)

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
    """Refuse what would never be called.

    Raises
    ------
    TypeError
        If `callbacks` is not a list, or something in it is no callback.
    ValueError
        If a :class:`Callback` has a method that is named like a hook but is none.
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
    """A progress bar with the images so far, on a terminal or in a notebook.

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
        self._bar = progress_bar(
            run.epochs * run.batches.images_per_epoch,
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
    """A line for each epoch on the standard error output, for logs in which no bar can move.

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
        print(f"epoch {run.epoch}: {', '.join(parts)}", file=sys.stderr, flush=True)


class TensorBoard(Callback):
    """Log of losses, accuracies and learning rate for TensorBoard.

    It is written at the end of each epoch: the loss of every step as ``loss/step``, and
    ``loss/training``, ``loss/validation``, ``accuracy/training``, ``accuracy/validation`` and
    ``learning_rate``, all over the number of the step.

    Parameters
    ----------
    folder
        Where to write it, one folder for each run. A resumed run goes on in the same one.

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
            # Not at the top: it takes a second, and the package may be missing.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ModuleNotFoundError(
                f"TensorBoard's log needs its package ({error}): pip install tensorboard"
            ) from None
        self.folder = Path(folder).expanduser()
        self._create = SummaryWriter
        self._writer: Any = None
        self._logged = 0

    def on_fit_begin(self, run: "Run") -> None:
        """Open the log."""
        if processes.is_main_process():
            self._writer = self._create(str(self.folder))
        # Of the epoch in which a run was interrupted, nothing has been written.
        self._logged = run.step // run.steps_per_epoch * run.steps_per_epoch

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
        self._writer.add_scalar("learning_rate", run.optimizer.param_groups[0]["lr"], run.step)
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

    The average is what is validated and saved, and what the model holds in the end. It goes into
    the checkpoint. ``fit(ema_decay=…)`` adds one.

    Parameters
    ----------
    decay
        Weight of the old average in each step, 0 to 1, for example 0.999. Early on it is
        (1 + t)/(10 + t) after t steps, if that is less.

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
        """Begin with the network's weights, or go on with those of the checkpoint."""
        self.average = copy.deepcopy(run.model).requires_grad_(False)
        if self._resumed is not None:
            self.average.load_state_dict(self._resumed)
            self._resumed = None
        run.evaluated = self.average

    @torch.no_grad()
    def on_step(self, run: "Run") -> None:
        """Update the average."""
        # torch's AveragedModel does the same but reads its step counter off the device each time.
        decay = min(self.decay, (1 + run.step) / (10 + run.step))
        new, seen = run.model.state_dict(), set()
        for name, kept in self.average.state_dict().items():
            if kept.data_ptr() in seen:
                continue  # a tensor that has two names is averaged once
            seen.add(kept.data_ptr())
            if kept.is_floating_point():
                kept.lerp_(new[name], 1 - decay)
            else:
                kept.copy_(new[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the averaged weights."""
        return self.average.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with these weights when training begins."""
        self._resumed = state


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
    'validation accuracy 8...% reached in epoch ...'
    """

    def __init__(self, accuracy: float):
        check_fraction("accuracy", accuracy)
        self.accuracy = accuracy

    def on_fit_begin(self, run: "Run") -> None:
        """Stop at once if the run that is resumed had reached it."""
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
    """Stop when a loss or an accuracy has not improved for some epochs.

    The model keeps the weights of the last epoch, not those of the best.

    Parameters
    ----------
    monitor
        ``"val_loss"``, ``"val_accuracy"``, ``"train_loss"`` or ``"train_accuracy"``.
    patience
        Epochs to wait for an improvement.
    min_delta
        What counts as one: a loss lower, or an accuracy higher, than the best by more than this.

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

    def __init__(self, monitor: str = "val_loss", patience: int = 5, min_delta: float = 0.0):
        if monitor not in _MONITORED:
            raise unknown("metric to monitor", monitor, _MONITORED)
        check_positive("patience", patience)
        if min_delta < 0:
            raise ValueError(f"min_delta is how much better, 0 or more; got min_delta={min_delta}")
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta

    def on_fit_begin(self, run: "Run") -> None:
        """Stop at once if the run that is resumed had waited long enough."""
        if self.monitor.startswith("val_") and run.val is None:
            raise ValueError(
                f"there are no validation images for {self.monitor}: pass val= to fit()"
            )
        self.on_epoch_end(run)

    def on_epoch_end(self, run: "Run") -> None:
        """Stop if there has been no improvement for too long."""
        # Counted anew from the history, so that a resumed run stops where another would have.
        sign = -1 if self.monitor.endswith("loss") else 1
        best, waited = -math.inf, 0
        for value in getattr(run.history, self.monitor):
            better = sign * value > best + self.min_delta
            best, waited = (sign * value, 0) if better else (best, waited + 1)
        if waited >= self.patience:
            epochs = f"{waited} epoch{'s' * (waited > 1)}"
            run.stop(f"{self.monitor} has not improved for {epochs}")


class TimeLimit(Callback):
    """Stop after some time of training, in the middle of an epoch if need be.

    Parameters
    ----------
    seconds
        Time on the clock of ``history.seconds``: evaluations do not count, nor the time between
        an interruption and its resumption; what a resumed run had trained before does.

    Raises
    ------
    ValueError
        If `seconds` is not positive.

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
        """Stop at once if the run that is resumed has no time left."""
        if run.step < run.total_steps:
            self.on_step(run)

    def on_step(self, run: "Run") -> None:
        """Stop if the time is over."""
        if run.seconds >= self.seconds:
            where = f"step {run.step} of {run.total_steps}"
            run.stop(f"time limit of {self.seconds:g} s reached at {where}")


class Checkpoint(Callback):
    """Write the run into a file, for :func:`fit` to go on from and :func:`load_weights` to read.

    ``fit(checkpoint=…)`` adds one, and resumes from the file; in the list of callbacks it only
    writes. It is called after all others, so that their state is that of the same step.

    Parameters
    ----------
    path
        The file. The one of that name stays as it was until the new one is complete.
    every
        Steps between savings; without it, after every epoch. The end is saved in any case.
    info
        Anything to keep beside the run, of plain Python values.

    Raises
    ------
    ValueError
        If `every` is not positive.
    CheckpointError
        If the file cannot be written.

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
            check_positive("every", every)
        self.path, self.every, self.info = Path(path).expanduser(), every, info
        self._saved = 0

    def on_fit_begin(self, run: "Run") -> None:
        """Find out whether the file can be written."""
        self._saved = run.step
        if run.step < run.total_steps:
            check_writable(self.path)

    def on_step(self, run: "Run") -> None:
        """Save, if the step is due and no epoch has yet to be closed."""
        if self.every and run.step % self.every == 0 and not run.epoch_done:
            self._save(run)

    def on_epoch_end(self, run: "Run") -> None:
        """Save, if the epoch or its last step is due."""
        if not self.every or run.step % self.every == 0:
            self._save(run)

    def on_fit_end(self, run: "Run") -> None:
        """Save what has not been saved."""
        if run.step != self._saved:
            self._save(run)

    def _save(self, run: "Run") -> None:
        save_run(run, self.path, self.info)
        self._saved = run.step
