"""The state of a training run: what a step changes, and what callbacks can see."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from cnnbook._networks import Selector, input_type, scores_of
from cnnbook.data import Batches, BatchSource, StreamingBatches, randomness
from cnnbook.training import processes
from cnnbook.training._checks import check_batch
from cnnbook.training.evaluation import (
    accuracy_of,
    as_cross_entropy,
    count,
    loss_and_accuracy,
    weight_in_mean,
)
from cnnbook.training.history import History
from cnnbook.training.ignored import ignored_by
from cnnbook.training.interrupts import Interrupts

# Reading a loss from a GPU means waiting for it, so losses are read this many steps at a time.
_READ_EVERY = 100
# Between a worker's end and the signal that ended it and stops the run, too.
_SIGNAL_TAKES = 0.5  # seconds


@contextmanager
def kept_random_state(device: torch.device) -> Iterator[None]:
    """Leave the caller's random state unchanged: torch's, Python's and NumPy's."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []), randomness.kept():
        yield


@dataclass(eq=False, kw_only=True)
class Run:
    """A training run in progress. :func:`fit` creates it and passes it to every callback's hooks.

    Parameters
    ----------
    model
        The network that is trained.
    optimizer, scheduler
        Its optimizer and the schedule of the learning rate, if there is one.
    batches, val
        Training batches, and validation batches if there are any.
    epochs
        Passes over the training images, of the whole run.
    loss_fn, val_loss_fn
        Called as ``loss_fn(output, labels)``, in training and in validation.
    precision
        Number format of the activations.
    layout
        Memory layout of the images.
    seed
        Seed of the run.
    same
        Settings, by name, that must not change between an interruption and its resumption.
    callbacks
        In the order in which they are called.
    output
        Which part of what the network returns are its scores.
    cuda_graph
        Whether steps are replayed from a CUDA graph; None: where that is safe.
    interrupts
        Knows whether a signal has asked to stop.

    Attributes
    ----------
    step : int
        Steps so far.
    network : torch.nn.Module
        `model` as training calls it: compiled, or wrapped for several processes.
    in_evaluation : set of torch.nn.Module
        Layers that stay in evaluation mode in training: those that were in it when training began,
        unless the whole network was. A callback may add layers, or remove them; a resumed run has
        those of the network that were in it when it was saved.
    begun : dict
        What the run was made of before its first step, for its resumption.
    awaits_validation : bool
        Whether an epoch is over whose validation is not, as in a checkpoint that was written
        because of an error in it.
    images_seen : int
        Images of all steps so far, over all processes.
    evaluated : torch.nn.Module
        What is validated, saved, and left in the model at the end: `model` itself, until a callback
        sets another network of its kind, as :class:`EMA` does.
    loss : torch.Tensor
        Mean loss of the last step's batch, on the device. Reading it makes Python wait for a GPU.
    replayed : int
        Steps so far that were replayed from a CUDA graph.
    not_recorded : str
        Why no step was recorded as a CUDA graph, if that has been decided.
    history : History
        Losses and accuracies so far. Losses of single steps are added several at a time.

    Examples
    --------
    A callback that ends training when the loss of a batch is small:

    >>> from cnnbook import data
    >>> from cnnbook.training import Callback, fit
    >>> class SmallLoss(Callback):
    ...     def on_step(self, run: Run) -> None:
    ...         if run.loss < 0.5:
    ...             run.stop(f"loss {run.loss:.2f} in epoch {run.epoch} of {run.epochs}")
    >>> train, _ = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> options = {"device": "cpu", "progress": False}
    >>> fit(net, train, epochs=9, callbacks=[SmallLoss()], **options).stopped
    'loss 0.4... in epoch ... of 9'
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler | None
    batches: BatchSource
    val: BatchSource | None
    epochs: int
    loss_fn: Callable[[Any, Tensor], Tensor]
    val_loss_fn: Callable[[Any, Tensor], Tensor]
    precision: torch.dtype
    layout: torch.memory_format
    seed: int
    same: dict[str, Any]
    callbacks: Sequence[object] = ()
    output: Selector = None
    cuda_graph: bool | None = False
    interrupts: Interrupts = field(default_factory=Interrupts)
    step: int = field(default=0, init=False)
    history: History = field(default_factory=History, init=False)

    def __post_init__(self) -> None:
        self.network = self.evaluated = self.model
        self.device = next(self.model.parameters()).device
        on = "cuda" if self.device.type == "cuda" else "cpu"
        self.scaler = GradScaler(on, enabled=self.precision == torch.float16)
        self.loss = torch.full((), float("nan"), device=self.device)
        # Of the epoch so far: labels with the largest score, all that count, and batches whose
        # labels are not classes.
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.counted = torch.zeros((), dtype=torch.int64, device=self.device)
        self.without_classes = torch.zeros((), dtype=torch.int64, device=self.device)
        self.sizes: list[int] = []  # images of each step of the epoch, over all processes
        self.images_seen = 0
        self.awaits_validation = False
        self.begun: dict[str, Any] = {}
        self.replayed, self.not_recorded = 0, ""
        layers = set(self.model.modules())
        self.in_evaluation = {layer for layer in layers if not layer.training}
        if self.in_evaluation == layers:  # as after an evaluation, or when loaded from a file
            self.in_evaluation = set()
        self._type = input_type(self.model)
        # Sources of one's own, and loaders, may have batches of other sizes than they say.
        self._exact = isinstance(self.batches, Batches | StreamingBatches)
        self._ignored = ignored_by(self.val_loss_fn)
        self._evenly = _counts_evenly(self.val_loss_fn, self.batches)
        self.steps_per_epoch = len(self.batches)
        self.total_steps = self.epochs * self.steps_per_epoch
        self._unread: list[Tensor] = []
        self._labels: Tensor | None = None  # of the step, if they are not those of the loss
        self._checked = False
        self._seconds = 0.0
        self._started: float | None = None
        self._reason: str | None = None

    @property
    def epoch(self) -> int:
        """The epoch of the last step, from 1; 0 before the first step."""
        return -(-self.step // self.steps_per_epoch)

    @property
    def epoch_done(self) -> bool:
        """Whether the last step was its epoch's last."""
        return self.step > 0 and self.step % self.steps_per_epoch == 0

    @property
    def seconds(self) -> float:
        """Training time so far, excluding evaluations and the time between two runs."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self._seconds + running

    def stop(self, reason: str = "") -> None:
        """End training after this step; a checkpoint is written, and the history is returned.

        Parameters
        ----------
        reason
            What ``history.stopped`` will say; the first reason counts. If not given, it says
            after which step.
        """
        self._reason = self._reason or reason

    def call(self, hook: str, *more: object) -> None:
        """Call a hook of every callback that has it."""
        for callback in self.callbacks:
            method = getattr(callback, hook, None)
            if method is not None:
                method(self, *more)

    def agree_to_stop(self, every: int = 1) -> bool:
        """Return whether to stop, that is, whether any process wants to.

        Parameters
        ----------
        every
            Several processes must stop after the same step, and asking the others takes time, so
            they are asked once every `every` steps, and at the end of an epoch.
        """
        wanted = self._reason is not None
        if processes.world_size() > 1:
            if self.step % every and not self.epoch_done:
                return False
            said = torch.tensor(float(wanted), device=self.device)
            wanted = bool(processes.all_reduce(said))
        if wanted:
            default = f"stopped at step {self.step} of {self.total_steps}"
            self.history.stopped = self._reason or default
        return wanted

    def counters(self) -> dict[str, Any]:
        """Return what :meth:`go_on_from` needs."""
        return {
            "step": self.step,
            "seconds": self.seconds,
            "images_seen": self.images_seen,
            "sizes": self.sizes,
            "correct": self.correct,
            "counted": self.counted,
            "without_classes": self.without_classes,
            "awaits_validation": self.awaits_validation,
        }

    def go_on_from(self, counters: Mapping[str, Any]) -> None:
        """Set the counters to those of the run that is resumed."""
        self.step, self._seconds = counters["step"], counters["seconds"]
        self.images_seen, self.sizes = counters["images_seen"], list(counters["sizes"])
        self.correct.copy_(counters["correct"])
        self.counted.copy_(counters["counted"])
        self.without_classes.copy_(counters["without_classes"])
        self.awaits_validation = self.val is not None and counters["awaits_validation"]

    def training_mode(self) -> None:
        """Put the network into training mode, but for the layers that stay in evaluation mode."""
        self.model.train()
        for layer in self.in_evaluation:
            layer.training = False

    def rest_of_epoch(self) -> Iterator[tuple[tuple[Tensor, ...], float]]:
        """Yield the remaining batches of the epoch, and measure the time until its end.

        Yields
        ------
        batch : tuple of Tensor
            What :meth:`load` makes this process's part of the images and their labels of.
        weight : float
            Weight of the part's mean loss. Gradients are averaged over the processes, so unequal
            parts must be weighted: by their images, or, in cross-entropy, by the weights of their
            labels. With a single process, it is 1.

        Raises
        ------
        TypeError, ValueError
            If the first batch is not a pair of images and labels.
        ValueError
            If there are none, although the source of batches announced some.
        """
        first = self.step
        epoch, start = divmod(first, self.steps_per_epoch)
        self._started = time.perf_counter()
        try:
            if self.gathers:  # as a part of the step, by the images' indices
                for index in self.batches.indices(epoch)[start:]:  # type: ignore[attr-defined]
                    self.sizes.append(len(index))
                    yield (index,), 1.0
                return
            rest = self._until_interrupted(self.batches.epoch(epoch, start=start))
            for batch in itertools.islice(rest, self.steps_per_epoch - start):
                if not self._checked:
                    check_batch(batch, self.layout)
                    self._checked = True
                x, y = self._prepared(*batch)
                self._labels = None
                size, weight = self._size_and_weight(y)
                self.sizes.append(size)
                if not weight:  # the others wait for gradients: send those of anything, times 0
                    self._labels = y
                    if len(y) == 0:
                        x, y = x.new_zeros(2, *x.shape[1:]), y.new_zeros(2, *y.shape[1:])
                    if not y.is_floating_point():
                        y = torch.full_like(y, _class_that_counts(self.val_loss_fn))
                yield (x, y), weight
        finally:
            self.stop_clock()
        if self.step == first and self._reason is None:
            raise ValueError(
                f"the source of batches announces {self.steps_per_epoch} batches in an epoch, but "
                f"yields none from number {start} on"
            )

    def _until_interrupted(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yield batches, until reading one fails because of a signal: that stops the run."""
        try:
            yield from batches
        except Exception:
            if not self._stops_after_error():
                raise

    def _stops_after_error(self) -> bool:
        """Stop the run if what failed to read images did so because of a signal.

        Processes that load images get it, too, and may end before this one knows of it.
        """
        # Other processes would wait for this one's gradients.
        if processes.world_size() > 1 or not self.interrupts.arrive_within(_SIGNAL_TAKES):
            return False
        self.stop()
        return True

    @property
    def gathers(self) -> bool:
        """Whether a step looks up its images itself, rather than being handed them."""
        own = type(self.batches) is Batches and self.batches.augment is None
        return own and processes.world_size() == 1

    def load(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return the images and labels of what :meth:`rest_of_epoch` yields."""
        if len(batch) == 1:
            pair = self.batches.gather(*batch)  # type: ignore[attr-defined]
            if not self._checked:
                check_batch(pair, self.layout)
                self._checked = True
            return self._prepared(*pair)
        x, y = batch
        return x, y

    def _prepared(self, images: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return images in the layout and the type that the network computes in."""
        x = images.contiguous(memory_format=self.layout)
        return (x.to(self._type) if x.dtype != self._type and x.is_floating_point() else x), y

    def seed_of_step(self) -> int:
        """Return the seed of the next step's random layers, a different one in each process."""
        step = self.seed * 1_000_003 + self.step
        seed = step * processes.world_size() + processes.rank()
        # torch's generators take 64 bits.
        return seed if -(2**63) <= seed < 2**64 else seed % 2**64

    def _size_and_weight(self, y: Tensor) -> tuple[int, float]:
        """Return the images of the next step, over all processes, and the weight of `y` in it."""
        world = processes.world_size()
        if world == 1:
            return len(y), 1.0
        if self._exact and self._evenly:  # the other processes need not be asked
            before = self.step % self.steps_per_epoch * self.batches.batch_size
            size = min(self.batches.batch_size, self.batches.images_per_epoch - before)
            return size, len(y) * world / size
        counted = weight_in_mean(self.val_loss_fn, y)
        own = float(len(y) if counted is None else counted)
        images, total = processes.sum_numbers([float(len(y)), own])
        # If no label counts, the mean is not a number, as with a single process.
        return int(images), own * world / total if total else float(len(y) > 0)

    def count_right(self, output: Any, labels: Tensor) -> None:
        """Count the labels that a step got right, on the device."""
        labels = labels if self._labels is None else self._labels
        if len(labels):
            scores = scores_of(output, self.output)
            right, counted, without_classes = count(scores, labels, self._ignored)
            self.correct += right
            self.counted += counted
            self.without_classes += without_classes

    def note_step(self, loss: Tensor, weight: float) -> None:
        """Count a step that has been taken, and keep its loss, on the device."""
        self.images_seen += self.sizes[-1]
        self.loss = loss
        share = weight / processes.world_size()
        self._unread.append(loss.float() if share == 1 else loss.float() * share)
        self.step += 1
        if len(self._unread) >= _READ_EVERY:
            self.read_losses()

    def read_losses(self) -> None:
        """Move the losses of the last steps into the history.

        Raises
        ------
        FloatingPointError
            If one of them is infinite or not a number.
        """
        if not self._unread:
            return
        losses = processes.all_reduce(torch.stack(self._unread)).tolist()
        self._unread.clear()
        for value in losses:
            self.history.step_loss.append(value)
            if not abs(value) < float("inf"):
                step = len(self.history.step_loss)
                raise FloatingPointError(
                    f"the loss became {value} at step {step} (epoch "
                    f"{(step - 1) // self.steps_per_epoch + 1}): lower the learning rate or check "
                    "the inputs. A checkpoint, if there is one, is from before that step"
                )

    def stop_clock(self) -> None:
        """Pause the clock while something else is being done."""
        self._seconds, self._started = self.seconds, None

    def end_epoch(self) -> None:
        """Add the epoch to the history."""
        self.read_losses()
        self.stop_clock()
        losses = self.history.step_loss[-self.steps_per_epoch :]
        total = sum(v * n for v, n in zip(losses, self.sizes, strict=True))
        self.history.train_loss.append(total / sum(self.sizes))
        counts = [self.correct, self.counted, self.without_classes]
        found = processes.all_reduce(torch.stack(counts)).tolist()
        self.history.train_accuracy.append(accuracy_of(*found))
        self.history.seconds.append(self._seconds)
        for each in counts:
            each.zero_()
        self.sizes = []
        self.awaits_validation = self.val is not None

    def validate(self) -> bool:
        """Evaluate the network, if there are validation images, and add it to the history.

        Returns
        -------
        bool
            False if a signal kept the images from being read, and stops the run.
        """
        if self.val is None:
            return True
        try:
            loss, accuracy = loss_and_accuracy(
                self.evaluated,
                self.val,
                self.val_loss_fn,
                self.device,
                self.precision,
                self.output,
            )
        except Exception:
            if self._stops_after_error():
                return False
            raise
        self.history.val_loss.append(loss)
        self.history.val_accuracy.append(accuracy)
        self.awaits_validation = False
        return True


def _counts_evenly(loss: object, batches: BatchSource) -> bool:
    """Return whether every image is known to count the same in the mean of a batch's losses."""
    known = as_cross_entropy(loss)
    if known is None:
        return True  # of a loss of one's own, nothing else can be said
    labels = batches.labels if isinstance(batches, Batches) else None
    ignored = labels is not None and bool((labels == known.ignore_index).any())
    return known.weight is None and not ignored


def _class_that_counts(loss: object) -> int:
    """Return a class whose loss is finite."""
    known = as_cross_entropy(loss)
    if known is None:
        return 0
    weights = [1.0, 1.0] if known.weight is None else known.weight.tolist()
    return next((c for c, w in enumerate(weights) if w and c != known.ignore_index), 0)
