"""The state of a training run: what a step changes, and what a checkpoint keeps of it."""

import copy
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook.data import BatchSource
from cnnbook.training import processes
from cnnbook.training.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from cnnbook.training.history import History

# Reading a loss off a GPU waits for it, so losses are read this many steps at a time.
_READ_EVERY = 100


def kept_random_state(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context that leaves the caller's random numbers as they were."""
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


class Run:
    """Books of a training run.

    Parameters
    ----------
    model, optimizer, scheduler
        What is trained, and how.
    batches
        What it is trained on.
    ema_decay
        Decay of the moving average of the weights, if there is to be one.
    precision
        Number format of the activations; float16 needs its losses scaled.
    seed
        Seed of the run.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler | None,
        batches: BatchSource,
        ema_decay: float | None,
        precision: torch.dtype,
        seed: int,
    ):
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
        self.batches, self.decay, self.seed = batches, ema_decay, seed
        self.device = next(model.parameters()).device
        on_cuda = "cuda" if self.device.type == "cuda" else "cpu"
        self.scaler = torch.amp.GradScaler(on_cuda, enabled=precision == torch.float16)
        self.averaged = None if ema_decay is None else copy.deepcopy(model).requires_grad_(False)
        self.history = History()
        self.step = 0
        self.correct = torch.zeros((), dtype=torch.int64, device=self.device)
        self.seconds = 0.0
        self._unread: list[Tensor] = []
        self._started = 0.0

    def seed_of_step(self) -> int:
        """Return the seed of the coming step's random layers, another one in each process."""
        step = self.seed * 1_000_003 + self.step
        return step * processes.world_size() + processes.rank()

    def size_of_step(self, step: int) -> int:
        """Return the images of a step, over all processes."""
        before = step % len(self.batches) * self.batches.batch_size
        return min(self.batches.batch_size, self.batches.images_per_epoch - before)

    def images_seen(self) -> int:
        """Return the images of all steps so far, over all processes."""
        epochs, steps = divmod(self.step, len(self.batches))
        return epochs * self.batches.images_per_epoch + steps * self.batches.batch_size

    def own_part(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return this process's part of a batch and the factor that weights its mean loss.

        Gradients are averaged over the processes, so parts of unequal size need weights. A
        process without images computes on blank ones, with weight 0, as the others wait for it.
        """
        if processes.world_size() == 1:
            return x, y, 1.0
        weight = len(y) * processes.world_size() / self.size_of_step(self.step)
        if len(y) == 0:
            x, y = x.new_zeros(2, *x.shape[1:]), y.new_zeros(2)
        return x, y, weight

    def note_step(self, output: Any, y: Tensor, loss: Tensor, weight: float) -> None:
        """Count a step that has been taken."""
        # A network with auxiliary classifiers returns their scores after its own.
        scores = output if isinstance(output, Tensor) else output[0]
        if weight:
            self.correct += (scores.argmax(1) == y).sum()
        self._unread.append(loss.detach().float() * (weight / processes.world_size()))
        self.step += 1
        if self.averaged is not None:
            self._update_average()
        if len(self._unread) >= _READ_EVERY:
            self.read_losses()

    @torch.no_grad()
    def _update_average(self) -> None:
        # torch's AveragedModel does the same but reads its step counter off the device each time.
        decay = min(self.decay, (1 + self.step) / (10 + self.step))
        new, seen = self.model.state_dict(), set()
        for name, kept in self.averaged.state_dict().items():
            if kept.data_ptr() in seen:
                continue  # a tensor that has two names moves once
            seen.add(kept.data_ptr())
            if kept.is_floating_point():
                kept.lerp_(new[name], 1 - decay)
            else:
                kept.copy_(new[name])

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
                    f"{(step - 1) // len(self.batches) + 1}): lower the learning rate or check "
                    "the inputs. A checkpoint, if there is one, is from before that step"
                )

    def start_clock(self) -> None:
        """Begin to count the time of an epoch."""
        self._started = time.perf_counter()

    def stop_clock(self) -> None:
        """Stop counting, as long as something else is done."""
        if self._started:
            self.seconds += time.perf_counter() - self._started
            self._started = 0.0

    def end_epoch(self) -> None:
        """Write the epoch's line of the history."""
        self.read_losses()
        self.stop_clock()
        steps, images = len(self.batches), self.batches.images_per_epoch
        sizes = map(self.size_of_step, range(steps))
        losses = self.history.step_loss[-steps:]
        self.history.train_loss.append(
            sum(v * n for v, n in zip(losses, sizes, strict=True)) / images
        )
        self.history.train_accuracy.append(
            processes.all_reduce(self.correct.clone()).item() / images
        )
        self.history.seconds.append(self.seconds)
        self.correct.zero_()

    def note_test(self, loss: float, accuracy: float) -> None:
        """Add an evaluation to the history."""
        self.history.test_loss.append(loss)
        self.history.test_accuracy.append(accuracy)

    def reached(self, target: float | None) -> str:
        """Return why training may stop, if the last test accuracy is at least `target`."""
        last = self.history.test_accuracy[-1:]
        if target is None or not last or last[0] < target:
            return ""
        return f"test accuracy {last[0]:.2%} reached in epoch {len(self.history.test_accuracy)}"

    def agree_to_stop(self, stop: bool) -> bool:
        """Return whether any process wants to stop; they must all do it after the same step."""
        if processes.world_size() == 1:
            return stop
        if self.step % 10 and self.step % len(self.batches):
            return False  # asking each time would cost more than ten steps' delay
        return bool(processes.all_reduce(torch.tensor(float(stop), device=self.device)))

    def finish(self) -> None:
        """Read what is unread, and leave the averaged weights in the model."""
        self.read_losses()
        if self.averaged is not None:
            self.model.load_state_dict(self.averaged.state_dict())


class SavedRun:
    """A run's checkpoint file.

    Parameters
    ----------
    run
        The run.
    path
        The file.
    same
        What must not change between an interruption and its resumption.
    info
        Anything of the caller's to keep in the file.
    """

    def __init__(self, run: Run, path: str | Path, same: dict[str, Any], info: Any):
        self.run, self.path, self.same, self.info = run, Path(path).expanduser(), same, info

    def check_place(self) -> None:
        """Find out before hours of training whether the file can be written.

        Raises
        ------
        CheckpointError
            If it cannot.
        """
        if not processes.is_main_process():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self.path.parent).close()
        except OSError as error:
            raise CheckpointError(
                f"cannot write into {self.path.parent} ({error.strerror}); choose another place "
                "for the checkpoint"
            ) from None

    def save(self) -> None:
        """Write the file.

        Raises
        ------
        FloatingPointError
            If a loss or a weight is infinite or not a number; the file stays the last good one.
        CheckpointError
            If the file cannot be written.
        """
        run = self.run
        run.read_losses()
        # Only one process writes, and the others need not wait for it.
        if not processes.is_main_process():
            return
        weights = run.model.state_dict()
        for name, value in weights.items():
            if value.is_floating_point() and not value.isfinite().all():
                kept = f"; {self.path} keeps the last good state" if self.path.exists() else ""
                raise FloatingPointError(
                    f"{name} has values that are not finite after step {run.step}: lower the "
                    f"learning rate or check the inputs{kept}"
                )
        state = {
            "same": self.same,
            "info": self.info,
            "torch": torch.__version__,
            "step": run.step,
            "correct": run.correct,
            "seconds": run.seconds + (time.perf_counter() - run._started) * bool(run._started),
            "history": run.history.to_dict(),
            "optimizer": run.optimizer.state_dict(),
            "scheduler": run.scheduler and run.scheduler.state_dict(),
            "scaler": run.scaler.state_dict(),
        }
        if run.averaged is not None:
            state["unaveraged"] = weights
            weights = run.averaged.state_dict()
        save_checkpoint(self.path, weights, state)

    def restore(self, *, tested: bool, steps: int) -> None:
        """Continue from the file, if there is one.

        Parameters
        ----------
        tested
            Whether the network is tested after each epoch.
        steps
            Number of steps of the whole run.

        Raises
        ------
        CheckpointError
            If the file is damaged or of another run; the network is left as it was.
        """
        if not self.path.exists():
            return
        run = self.run
        weights, state = load_checkpoint(self.path)
        before, history = state.get("same", {}), state["history"]
        unknown_then = {"augment", "label smoothing"} - before.keys()  # older files lack them
        other = [
            f"{key} was {before.get(key)}, is {self.same.get(key)}"
            for key in sorted((before.keys() | self.same.keys()) - unknown_then)
            if before.get(key) != self.same.get(key)
        ]
        if ("unaveraged" in state) != (run.averaged is not None):
            other.append("ema_decay= was given to only one of the two")
        begun = len(history["train_loss"]) > 0 and state["step"] < steps
        if begun and bool(history["test_accuracy"]) != tested:
            other.append("test images were given to only one of the two")
        if other:
            raise CheckpointError(
                f"{self.path} is of another run: {'; '.join(other)}. Give the same options, "
                "another file, or resume=False to begin anew"
            )
        now = run.optimizer.state_dict()["param_groups"]
        kept = state["optimizer"]["param_groups"]
        # A newer torch may have options that the file does not know.
        if len(kept) != len(now) or any(
            a.keys() - b.keys() for a, b in zip(kept, now, strict=True)
        ):
            raise CheckpointError(
                f"{self.path} is of a run with another optimizer; give the same one, another "
                "file, or resume=False to begin anew"
            )
        before_load = copy.deepcopy(run.model.state_dict())
        try:
            run.model.load_state_dict(state.get("unaveraged", weights))
            if run.averaged is not None:
                run.averaged.load_state_dict(weights)
            run.optimizer.load_state_dict(state["optimizer"])
            # The same layout in memory, or sums would be rounded otherwise than before.
            for parameter, values in run.optimizer.state.items():
                for name, value in values.items():
                    if isinstance(value, Tensor) and value.shape == parameter.shape:
                        values[name] = torch.empty_like(parameter).copy_(value)
            if run.scheduler is not None:
                run.scheduler.load_state_dict(state["scheduler"])
            run.scaler.load_state_dict(state["scaler"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            run.model.load_state_dict(before_load)  # what fitted had been copied already
            raise CheckpointError(
                f"{self.path} does not fit this network and optimizer: {error}. Choose another "
                "file, or resume=False to begin anew"
            ) from error
        run.step = state["step"]
        run.seconds = state["seconds"]
        run.correct.copy_(state["correct"])
        for field in fields(History):
            setattr(run.history, field.name, history[field.name])
        run.history.stopped = ""
