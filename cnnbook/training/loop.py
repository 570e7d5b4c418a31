"""The training loop."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import settings
from cnnbook._progress import progress_bar
from cnnbook.data import Augment, BatchSource, Dataset, ImageFolder, make_batches
from cnnbook.training import processes
from cnnbook.training.device import (
    autocast,
    choose_precision,
    explain_out_of_memory,
    keep_freed_memory,
    seed_generators,
    suits_channels_last,
)
from cnnbook.training.evaluation import loss_and_accuracy
from cnnbook.training.history import History
from cnnbook.training.interrupts import Interrupts
from cnnbook.training.run import Run, SavedRun, kept_random_state


@dataclass(frozen=True)
class Step:
    """What a callback of :func:`fit` is given after each step.

    Parameters
    ----------
    number
        Steps so far.
    epoch
        The epoch under way, from 1.
    epoch_done
        Whether this step was the epoch's last. The history then has the epoch's entries.
    loss
        The batch's mean loss, on the device. Reading it makes a GPU wait.
    model
        The network. Its gradients are as the optimizer left them: the default one, on a GPU, adds
        its momentum to them.
    optimizer
        The optimizer, after its step.
    history
        The history so far.

    Examples
    --------
    A callback that ends training with the first epoch:

    >>> from cnnbook import data
    >>> train, _ = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> def stop(step: Step) -> bool:
    ...     return step.epoch_done
    >>> fit(net, train, epochs=9, callback=stop, device="cpu", progress=False).stopped
    'stopped at step 16 of 144'
    """

    number: int
    epoch: int
    epoch_done: bool
    loss: Tensor
    model: nn.Module
    optimizer: torch.optim.Optimizer
    history: History


def fit(
    model: nn.Module,
    train: Dataset | ImageFolder | BatchSource,
    test: Dataset | ImageFolder | BatchSource | None = None,
    *,
    epochs: int | None = None,
    batch_size: int = 64,
    lr: float = 0.05,
    weight_decay: float = 0.0,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
    ema_decay: float | None = None,
    target_accuracy: float | None = None,
    precision: str = "auto",
    channels_last: bool | None = None,
    compile: bool = False,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    checkpoint_info: dict[str, Any] | None = None,
    resume: bool = True,
    callback: Callable[[Step], bool | None] | None = None,
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train a classifier.

    Without `optimizer`, stochastic gradient descent with Nesterov momentum 0.9 runs under torch's
    one-cycle schedule: the learning rate climbs to `lr` and then falls to nearly zero.

    Under ``torchrun`` (see :func:`join_processes`) each batch is divided among the processes.

    Ctrl-C, or the termination signal of a cluster, stops after the current step: the checkpoint,
    if there is one, is written and the history so far returned.

    Parameters
    ----------
    model
        Network, moved to `device` and trained in place. Maps ``(N, C, H, W)`` to scores.
    train
        Training images.
    test
        Images to evaluate on after each epoch.
    epochs
        Passes over `train`; by the preset (10 under ``cpu``, 30 under ``gpu``) if not given.
    batch_size
        Images per step, over all processes.
    lr
        Largest learning rate of the default optimizer. Ignored if `optimizer` is given.
    weight_decay
        Weight decay of the default optimizer. Ignored if `optimizer` is given.
    optimizer
        Any torch optimizer over the model's parameters.
    scheduler
        Any torch scheduler of `optimizer`; stepped after every batch.
    loss
        Called as ``loss(output, labels)`` with what the model returned, returning the mean over
        the batch. Cross-entropy if not given.
    label_smoothing
        Share of the target that is spread over all classes in training, 0 to 1 (Szegedy et al.
        2016, Section 7). Only for cross-entropy.
    augment
        Random changes of the training images, made on the device.
    ema_decay
        Decay of an exponential moving average of weights and running statistics, for example
        0.999. The average is what is evaluated, and what the model holds in the end. Early on
        the decay is (1 + t)/(10 + t) after t steps, if that is less.
    target_accuracy
        Stop after the first epoch with this test accuracy, 0 to 1.
    precision
        ``"float32"``, ``"bfloat16"``, ``"float16"`` (with loss scaling) or ``"auto"``: what a
        CUDA GPU is fast with, float32 elsewhere.
    channels_last
        Whether to keep images and kernels with channels innermost in memory. If not given, on
        CUDA and on the CPU, where that is faster; but not on the CPU with 1×1 convolutions of
        stride 2 or more on a number of channels that 8 does not divide, whose gradients would be
        wrong there.
    compile
        Whether to run the network through ``torch.compile``. That takes a minute or so at the
        start, and pays in long runs on a GPU.
    checkpoint
        File to save the run to. If it exists, training goes on where it ended; a finished run
        returns its history at once.
    checkpoint_every
        Steps between savings; without it, after every epoch.
    checkpoint_info
        Anything to be kept in the checkpoint beside the run, of plain Python values.
    resume
        Set to False to begin anew and replace an existing checkpoint.
    callback
        Called after each step; training stops when it returns True.
    device
        Where to train; the machine's fastest device if not given.
    seed
        Seeds the order of the images, their changes, and random layers such as dropout. The
        caller's random state is left as it was.
    progress
        Whether to show a progress bar.

    Returns
    -------
    History
        Losses, accuracies and times.

    Raises
    ------
    ValueError
        If an option is outside its range, options contradict each other, or the data have more
        classes than the network has outputs.
    FloatingPointError
        If the loss becomes infinite or not a number. The message names the step. The checkpoint
        stays the last good one.
    MemoryError
        If a batch does not fit into the device. The message says which would.
    CheckpointError
        If the checkpoint is damaged, of another run, or cannot be written.

    Examples
    --------
    A linear classifier of handwritten digits of 8×8 pixels:

    >>> from cnnbook import data
    >>> train, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> history = fit(net, train, test, epochs=3, device="cpu", progress=False)
    >>> len(history.step_loss)  # 16 batches of 64 images, the last one smaller
    48
    >>> history.test_accuracy[-1] > 0.8
    True
    """
    device = settings.device(device)
    epochs = settings.choose(cpu=10, gpu=30) if epochs is None else epochs
    _check_positive(epochs=epochs, lr=lr, checkpoint_every=checkpoint_every)
    _check_fractions(
        label_smoothing=label_smoothing,
        ema_decay=ema_decay,
        target_accuracy=target_accuracy,
        weight_decay=weight_decay,
    )
    if scheduler is not None and optimizer is None:
        raise ValueError("a scheduler needs the optimizer it was made for: pass optimizer= too")
    if label_smoothing and loss is not None:
        raise ValueError("label_smoothing is an option of cross-entropy: leave out loss=")
    if target_accuracy is not None and test is None:
        raise ValueError("target_accuracy is measured on test images: pass test= too")
    precision = choose_precision(precision, device)
    if channels_last is None:
        channels_last = suits_channels_last(model, device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    train_loss = loss or _cross_entropy(len(getattr(train, "classes", ())), label_smoothing)
    test_loss = loss or F.cross_entropy

    keep_freed_memory(device)
    model.to(device, memory_format=layout)
    part = {"device": device, "rank": processes.rank(), "world_size": processes.world_size()}
    batches = make_batches(train, batch_size, augment=augment, seed=seed, **part)
    if test is not None:
        test_batches = make_batches(test, max(batch_size, 1000), shuffle=False, **part)
    steps = len(batches)
    same_run = {"seed": seed, "batch size": batches.batch_size, "images": batches.images_per_epoch}
    same_run |= {"augment": augment and repr(augment), "label smoothing": label_smoothing}
    if optimizer is None:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=weight_decay
        )
        if epochs * steps > 1:  # of one step, OneCycleLR makes the last, lr / 250,000
            scheduler = torch.optim.lr_scheduler.OneCycleLR(
                optimizer, max_lr=lr, total_steps=epochs * steps, cycle_momentum=False
            )
        same_run |= {"epochs": epochs, "lr": lr, "weight decay": weight_decay}

    run = Run(model, optimizer, scheduler, batches, ema_decay, precision, seed)
    saved = None
    if checkpoint is not None:
        saved = SavedRun(run, checkpoint, same_run, checkpoint_info)
    if saved and resume:
        saved.restore(tested=test is not None, steps=epochs * steps)
    if saved and run.step < epochs * steps:
        saved.check_place()
    history = run.history
    history.stopped = run.reached(target_accuracy)
    network = processes.wrap_ddp(model)
    network = torch.compile(network) if compile else network
    bar = progress_bar(
        epochs * batches.images_per_epoch,
        initial=run.images_seen(),
        show=progress and processes.is_main_process(),
        unit="img",
        unit_scale=True,
        leave=False,
    )

    with kept_random_state(device), bar, Interrupts() as interrupts:
        while run.step < epochs * steps and not history.stopped:
            model.train()
            run.start_clock()
            first = run.step
            for x, y in batches.epoch(run.step // steps, start=run.step % steps):
                # A resumed run must draw the same dropout masks as one that never stopped.
                seed_generators(run.seed_of_step(), device)
                x, y, weight = run.own_part(x.contiguous(memory_format=layout), y)
                with explain_out_of_memory(network, x):
                    with autocast(device, precision):
                        output = network(x)
                        step_loss = train_loss(output, y)
                    optimizer.zero_grad()
                    run.scaler.scale(step_loss * weight).backward()
                run.scaler.step(optimizer)
                run.scaler.update()
                if scheduler is not None:
                    scheduler.step()

                run.note_step(output, y, step_loss, weight)
                bar.update(run.images_seen() - bar.n)
                epoch_done = run.step % steps == 0
                if epoch_done:
                    run.end_epoch()
                    if test is not None:
                        result = loss_and_accuracy(
                            run.averaged or model, test_batches, test_loss, device, precision
                        )
                        run.note_test(*result)
                        bar.set_postfix_str(f"test accuracy {result[1]:.1%}")
                    history.stopped = run.reached(target_accuracy)
                stop = interrupts.requested
                if callback is not None:
                    now = Step(
                        run.step, (run.step - 1) // steps + 1, epoch_done,
                        step_loss.detach(), model, optimizer, history,
                    )  # fmt: skip
                    stop = bool(callback(now)) or stop
                if run.agree_to_stop(stop):
                    history.stopped = f"stopped at step {run.step} of {epochs * steps}"
                due = run.step % checkpoint_every == 0 if checkpoint_every else epoch_done
                if saved and (due or history.stopped):
                    saved.save()
                if history.stopped:
                    break
            run.stop_clock()
            if run.step == first:
                raise ValueError(
                    f"the source of batches announces {steps} batches in an epoch, but yields "
                    f"none from number {run.step % steps} on"
                )
    run.finish()
    return history


def _cross_entropy(classes: int, label_smoothing: float) -> Callable[[Any, Tensor], Tensor]:
    def loss(output: Any, labels: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"the network returned {type(output).__name__}, not one tensor of scores; pass "
                "loss= that takes it, for example models.googlenet_loss"
            )
        if output.shape[1] < classes:
            raise ValueError(
                f"the data have {classes} classes, the network has {output.shape[1]} outputs; "
                f"create it with num_classes={classes}"
            )
        return F.cross_entropy(output, labels, label_smoothing=label_smoothing)

    return loss


def _check_positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and value <= 0:
            raise ValueError(f"{name} must be positive, got {name}={value}")


def _check_fractions(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not 0 <= value <= 1:
            raise ValueError(f"{name} is a fraction from 0 to 1, got {name}={value}")
