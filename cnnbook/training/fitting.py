"""``fit``: training in one call."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from cnnbook import settings
from cnnbook._checks import check_count, check_fraction, check_positive, check_whole
from cnnbook._networks import Selector, input_type, is_lazy_network, scores_of, unwrapped
from cnnbook.data import Augment, BatchSource, DataLike
from cnnbook.training import processes
from cnnbook.training._checks import (
    check_gradient,
    check_gradients_on,
    check_labels,
    check_loss,
    check_loss_value,
    check_network,
    check_no_other_scores,
    check_not_empty,
    check_one_scale,
    check_trainable,
)
from cnnbook.training.callbacks import (
    EMA,
    Callback,
    Checkpoint,
    PlateauSchedule,
    Progress,
    TargetAccuracy,
    check_callbacks,
)
from cnnbook.training.checkpoint import refuse_folder, set_state, state_of
from cnnbook.training.device import choose_precision, keep_freed_memory, suits_channels_last
from cnnbook.training.evaluation import as_batches, takes_scores, widened
from cnnbook.training.first_batch import (
    Peeked,
    check_smallest_batch,
    check_validation,
    leaves_unused,
    materialize,
    typed,
)
from cnnbook.training.graphs import RECORDERS, reason_against
from cnnbook.training.history import History
from cnnbook.training.ignored import ignored_by
from cnnbook.training.interrupts import Interrupts
from cnnbook.training.loop import train as take_steps
from cnnbook.training.made_of import description
from cnnbook.training.resume import resume_run
from cnnbook.training.run import Run, kept_random_state


def fit(
    model: nn.Module,
    train: DataLike,
    val: DataLike | None = None,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | ReduceLROnPlateau | None = None,
    loss: Callable[[Any, Tensor], Tensor] | None = None,
    output: Selector = None,
    label_smoothing: float = 0.0,
    augment: Augment | None = None,
    ema_decay: float | None = None,
    target_accuracy: float | None = None,
    precision: str = "auto",
    channels_last: bool | None = None,
    compile: bool = False,
    cuda_graph: bool | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    checkpoint_info: dict[str, Any] | None = None,
    resume: bool = True,
    callbacks: Sequence[object] = (),
    device: torch.device | str | None = None,
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train a classifier.

    The steps are those of ``train`` in ``training/loop.py``, which fits on one screen.

    Without `optimizer`, stochastic gradient descent with Nesterov momentum 0.9 runs under torch's
    one-cycle schedule: the learning rate climbs to `lr` and then falls to nearly zero.

    Under ``torchrun`` (see :func:`join_processes`) each batch is divided among the processes.

    Ctrl-C, or a cluster's termination signal, stops training after the current step: the
    checkpoint, if there is one, is written, and the history so far is returned. If the signal also
    ends the processes that load the images, training stops before the step that lacks them.

    Parameters
    ----------
    model
        Network, moved to `device` and trained in place. Maps ``(N, C, H, W)`` to scores. Images are
        converted to the type of its parameters. Layers that are in evaluation mode stay in it, such
        as batch norm layers whose running statistics are not to change; but a network that is in
        evaluation mode as a whole, as after loading, is put into training mode.
    train
        Training images, in any form that :func:`cnnbook.data.make_batches` takes.
    val
        Validation images, to evaluate on after each epoch; in any of these forms. What watches the
        training, such as `target_accuracy` or :class:`EarlyStopping`, looks at them, so that they
        should not be the test images. Tensors and data sets of this package are tried before the
        first step. If the validation fails later, the epoch is saved to the checkpoint before the
        error is raised, and a resumed run begins with its validation.
    epochs
        Passes over `train`; 10 if not given.
    batch_size
        Images per step, over all processes; 64 if not given. A source of batches has its own.
    steps_per_epoch
        Batches in an epoch of `train`, if it is an iterable whose length is not known.
    lr
        Largest learning rate of the default optimizer; 0.05 if not given.
    weight_decay
        Weight decay of the default optimizer; 0 if not given.
    optimizer
        Any torch optimizer of the model's parameters, instead of the default one, its schedule,
        `lr` and `weight_decay`.
    scheduler
        Any torch scheduler of `optimizer`; stepped after every batch, so its ``step_size`` counts
        batches: ``StepLR(optimizer, 10 * len(batches))`` for every ten epochs. Only
        ``ReduceLROnPlateau`` is stepped after every epoch, with the validation loss, or with the
        validation accuracy if its mode is ``"max"``.
    loss
        Called as ``loss(output, labels)`` with what the model returned; torch's own losses are
        called with the scores in it. Returns the mean over the batch. Cross-entropy if not given.
        With several processes, the means of their parts of a batch are weighted by the images; for
        cross-entropy, also torch's ``NLLLoss``, by the weights of the labels that are not ignored,
        so that the gradient is that of the whole batch. A function of your own that weights classes
        is not seen through: pass ``nn.CrossEntropyLoss(weight=…)``.
        The validation loss is that over all images at once, see :func:`evaluate`.
    output
        Which part of what the model returns are its class scores: a key of a dict, an index of a
        tuple, or a function. By default, the first tensor of a tuple, or the entry ``"logits"``,
        ``"out"``, ``"scores"`` or ``"output"`` of a dict.
    label_smoothing
        Fraction of the target that is spread over all classes in training, 0 to 1 (Szegedy et al.
        2016, Section 7). Only for cross-entropy.
    augment
        Random transforms of the training images, applied on the device. A source of batches applies
        its own.
    ema_decay
        Decay of an exponential moving average of weights and running statistics, for example 0.999;
        see :class:`EMA`. The averaged weights are validated, and left in the model at the end.
    target_accuracy
        Stop after the first epoch with this validation accuracy, 0 to 1.
    precision
        ``"float32"``, ``"bfloat16"``, ``"float16"`` (with loss scaling) or ``"auto"``: bfloat16 or
        float16 on a CUDA GPU, whichever it supports, and float32 elsewhere. A network whose
        parameters are not float32 computes in their type.
    channels_last
        Whether to keep images and kernels with channels innermost in memory. By default yes on CUDA
        and on the CPU, where it is faster; but not on the CPU for a network with 1×1 convolutions
        of stride 2 or more whose input channels are not a multiple of 8, because their gradients
        would be wrong.
    compile
        Whether to run the network through ``torch.compile``. That takes a minute or so at the
        start, and pays off in long runs on a GPU.
    cuda_graph
        Whether to record a step as a CUDA graph after a few, and to replay it from then on: the
        steps of small networks are then launched as fast as a GPU takes them, and give the same
        result. By default where that is safe: on a CUDA GPU with memory to spare, one process,
        without `compile` or hooks, and with layers, loss and callbacks of torch, torchvision, timm
        or this package. A recording repeats what Python did in one step: with True, you say that
        your own code does the same in every step (no counters, no random numbers of Python's). What
        is found to differ is refused. The step after a recording is also taken without it, and a
        recording that gives another result is not used. Batches of other shapes are trained on as
        usual. An optimizer of your own is recorded, too, if it is ``capturable`` (of SGD:
        ``fused``) with a learning rate that is a tensor on the GPU.
    checkpoint
        File to save the run to, in the safetensors format whatever its suffix; see
        :class:`Checkpoint`. If it exists, training continues where it ended; a finished run returns
        its history at once. What a loss learns is part of it: all parameters that are in the
        optimizer, and, of a module, its method or a ``functools.partial`` of them, the buffers.
        Everything that shapes the run must be as before: the network and its type, which of its
        parameters are frozen and which layers in evaluation mode, the number of images, whether
        there is `val`, `batch_size`, `seed`, `augment`, `label_smoothing`, `output`, the classes
        and options of loss, optimizer and scheduler, the callbacks with a state, and for the
        default optimizer `epochs`, `lr` and `weight_decay`. What differs is refused; but what a
        function or a layer of your own computes is not looked into. What callbacks have since
        frozen or thawed, put into evaluation mode (``run.in_evaluation``) or added to the
        optimizer's groups is restored, as far as it is the network's or the loss's; what else they
        change belongs into their own ``state_dict()``. To train a finished network longer, load its
        weights (:func:`load_weights`) and fit again, to another file.
    checkpoint_every
        Steps between saves; by default, the run is saved after every epoch.
    checkpoint_info
        Anything to store in the checkpoint with the run, in plain Python values; with what
        :func:`model_info` returns, :func:`cnnbook.training.load` can reopen the network.
    resume
        Set to False to start over and replace an existing checkpoint.
    callbacks
        Objects whose hooks are called during training; see :class:`Callback`.
    device
        Where to train; the machine's fastest device if not given.
    seed
        Seeds the order of the images, their augmentation, and random layers such as dropout: what
        is drawn in a step from the global generators of torch, Python or NumPy. A generator that a
        layer keeps for itself is not seeded. The caller's random state is left unchanged.
    progress
        Whether to show a progress bar.

    Returns
    -------
    History
        Losses, accuracies and times.

    Raises
    ------
    ValueError
        If an option is outside its range, options contradict each other, nothing can be trained,
        the data have more classes than the network has outputs, `train` and `val` are normalized
        differently, images or labels are not of the type or shape needed, a batch would have a
        single image, on which the network cannot be trained, `checkpoint_info` is that of another
        network, or ``cuda_graph=True`` is not possible.
    TypeError
        If something is not of the type it should be: a class instead of an object, for example, or
        a value in `checkpoint_info` that a checkpoint cannot hold.
    FloatingPointError
        If the loss becomes infinite or not a number. The message names the step. The checkpoint
        keeps the last good state.
    MemoryError
        If a batch does not fit into the device's memory. The message says what size would.
    CheckpointError
        If the checkpoint is damaged, of another run, being written by one, or cannot be written.
    ConnectionError, TimeoutError
        If one of several processes has ended, or does not answer.

    Examples
    --------
    A linear classifier of 8×8-pixel handwritten digits:

    >>> from cnnbook import data
    >>> train, test = data.load("digits")
    >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    >>> history = fit(net, train, test, epochs=3, device="cpu", progress=False)
    >>> len(history.step_loss)  # 16 batches of 64 images, the last one smaller
    48
    >>> history.val_accuracy[-1] > 0.8
    True
    """
    check_network(model, "fit(model, train, ...)")
    check_gradients_on()
    check_trainable(model)
    device = settings.device(device)
    epochs = 10 if epochs is None else epochs
    check_count("epochs", epochs)
    if batch_size is not None:
        check_count("batch_size", batch_size)
    check_whole("seed", seed)
    if not (cuda_graph is None or isinstance(cuda_graph, bool)):
        raise TypeError(f"cuda_graph is True, False or None, got {cuda_graph!r}")
    if cuda_graph and compile:
        raise ValueError("cuda_graph=True cannot record a compiled network: leave out compile=")
    if augment is not None and not isinstance(augment, Augment):
        raise TypeError(
            f"augment is a data.Augment, for example data.Augment(flip=0.5), got {augment!r}"
        )
    number_format = _number_format(precision, device, model)
    loss_fn = _training_loss(loss, output, label_smoothing, len(getattr(train, "classes", ())))
    _check_optimizer(model, optimizer, scheduler, lr, weight_decay)
    own = _own_callbacks(callbacks, val, ema_decay, target_accuracy, progress)
    if isinstance(scheduler, ReduceLROnPlateau):
        own, scheduler = [PlateauSchedule(scheduler, val), *own], None
    saving = _checkpoint(callbacks, checkpoint, checkpoint_every, checkpoint_info)

    # Numbers may be NumPy's, which a checkpoint cannot hold.
    epochs, seed = int(epochs), int(seed)
    part: dict[str, Any] = {
        "device": device,
        "rank": processes.rank(),
        "world_size": processes.world_size(),
    }
    batches: BatchSource = as_batches(
        train, batch_size, 64, steps_per_epoch=steps_per_epoch, augment=augment, seed=seed, **part
    )
    check_not_empty(batches, "train")
    val_batches = None
    if val is not None:
        val_batches = as_batches(val, None, max(batch_size or 64, 1000), shuffle=False, **part)
        check_not_empty(val_batches, "val")
        check_one_scale(train, val)

    keep_freed_memory(device)
    wrapped, model = model, unwrapped(model)  # torch.compile and DataParallel change names
    model.to(device)
    with kept_random_state(device):
        if is_lazy_network(model):
            batches = Peeked(batches)
            materialize(model, typed(batches.first()[0], model))
    if channels_last is None:
        channels_last = suits_channels_last(model, device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    # torch's annotations lack memory_format here.
    model.to(device, memory_format=layout)  # type: ignore[call-overload]

    same: dict[str, Any] = {
        "seed": seed,
        "batch size": batches.batch_size,
        "images": batches.images_per_epoch,
        "augment": augment and repr(augment),
        "label smoothing": float(label_smoothing),
    }
    if optimizer is None:
        lr, weight_decay = float(0.05 if lr is None else lr), float(weight_decay or 0)
        optimizer, scheduler = _one_cycle(model, lr, weight_decay, epochs * len(batches), device)
        same |= {"epochs": epochs, "lr": lr, "weight decay": weight_decay}

    interrupts = Interrupts()
    run = Run(
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        batches=batches,
        val=val_batches,
        epochs=epochs,
        loss_fn=loss_fn,
        val_loss_fn=loss or F.cross_entropy,
        output=output,
        precision=number_format,
        layout=layout,
        seed=seed,
        same=same,
        cuda_graph=cuda_graph,
        interrupts=interrupts,
        # A checkpoint holds the state of all the others after the same step.
        callbacks=sorted(
            [interrupts, *own, *callbacks, *saving], key=lambda each: isinstance(each, Checkpoint)
        ),
    )
    run.begun = description(run)
    if resume and saving:
        refuse_folder(saving[0].path)
        saving[0].note_file()
    if resume and saving and saving[0].path.exists():
        resume_run(run, saving[0].path)
    network = wrapped
    with kept_random_state(device), processes.losses_explained():
        if run.step < run.total_steps:
            check_smallest_batch(run)
            check_validation(run)
            if processes.world_size() > 1:
                network = processes.wrap_ddp(wrapped, find_unused=leaves_unused(run))
    run.network = network
    if cuda_graph and run.step < run.total_steps and (reason := reason_against(run)):
        raise ValueError(f"cuda_graph=True, but {reason}; leave out cuda_graph=")
    if compile:
        run.network = cast(nn.Module, torch.compile(network))
    with kept_random_state(device), interrupts, processes.losses_explained():
        try:
            take_steps(run)
        except BaseException as error:
            run.call("on_exception", error)
            raise
    if run.evaluated is not model:
        set_state(model, state_of(run.evaluated))
    return run.history


def _number_format(precision: str, device: torch.device, model: nn.Module) -> torch.dtype:
    chosen, own = choose_precision(precision, device), input_type(model)
    if own == torch.float32 or chosen == torch.float32:
        return chosen
    if precision != "auto":
        raise ValueError(
            f"precision={precision!r} is for a network in float32, and {type(model).__name__} is "
            f"in {own}: leave out precision=, or pass model.float()"
        )
    return torch.float32


def _training_loss(
    loss: Callable[[Any, Tensor], Tensor] | None,
    selector: Selector,
    label_smoothing: float,
    classes: int,
) -> Callable[[Any, Tensor], Tensor]:
    check_fraction("label_smoothing", label_smoothing)
    if loss is None:
        return _cross_entropy(selector, classes, label_smoothing)
    check_loss(loss)
    if label_smoothing:
        raise ValueError(
            f"label_smoothing={label_smoothing} is an option of cross-entropy: leave out loss="
        )
    of_scores = takes_scores(loss)

    def checked(output: Any, labels: Tensor) -> Tensor:
        given = widened(scores_of(output, selector)) if of_scores else output
        try:
            value = loss(given, labels)
        except IndexError:
            if isinstance(given, Tensor):
                check_labels(given, labels, classes, ignored_by(loss))
            raise
        check_loss_value(value)
        return check_gradient(value)

    return checked


def _cross_entropy(
    selector: Selector, classes: int, label_smoothing: float
) -> Callable[[Any, Tensor], Tensor]:
    checked = False

    def loss(output: Any, labels: Tensor) -> Tensor:
        nonlocal checked
        scores = output
        if not isinstance(output, Tensor) or selector is not None:
            scores = scores_of(output, selector)
        scores = widened(scores)
        if not checked:  # once: on a GPU, looking at the labels means waiting for them
            if selector is None:
                check_no_other_scores(output, scores)
            check_labels(scores, labels, classes)
            checked = True
        try:
            return check_gradient(F.cross_entropy(scores, labels, label_smoothing=label_smoothing))
        except IndexError:  # of a later batch
            check_labels(scores, labels, classes)
            raise

    return loss


def _one_cycle(
    model: nn.Module, lr: float, weight_decay: float, steps: int, device: torch.device
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler | None]:
    parameters = list(model.parameters())
    # All weights at once, with a learning rate in the GPU's memory, where a recording finds it.
    fused = device.type in RECORDERS and all(_suits_fused(p) for p in parameters)
    sgd = torch.optim.SGD(
        parameters,
        lr=torch.tensor(lr, device=device) if fused else lr,
        momentum=0.9,
        nesterov=True,
        weight_decay=weight_decay,
        fused=fused or None,
    )
    if fused:  # or it would stay undefined where float16 overflows in the first step
        for parameter in parameters:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    if steps == 1:  # OneCycleLR makes the last step, with lr / 250,000
        return sgd, None
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        sgd, max_lr=lr, total_steps=steps, cycle_momentum=False
    )
    return sgd, schedule


def _suits_fused(parameter: nn.Parameter) -> bool:
    layouts = [torch.contiguous_format]
    layouts += [torch.channels_last] if parameter.ndim == 4 else []
    dense = any(parameter.is_contiguous(memory_format=layout) for layout in layouts)
    return parameter.is_floating_point() and dense


def _check_optimizer(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | ReduceLROnPlateau | None,
    lr: float | None,
    weight_decay: float | None,
) -> None:
    if lr is not None:
        check_positive("lr", lr)
        if not lr < 1e30:  # a step would be more than float32 can hold
            raise ValueError(f"lr must be less than 1e30, and is usually less than 10, got lr={lr}")
    if weight_decay is not None:
        check_fraction("weight_decay", weight_decay)
    if optimizer is not None and (
        isinstance(optimizer, type)
        or not isinstance(getattr(optimizer, "param_groups", None), list)
    ):
        given = optimizer.__name__ if isinstance(optimizer, type) else repr(optimizer)
        raise TypeError(
            f"optimizer is a torch optimizer of the model's parameters, got {given}; create one, "
            "for example torch.optim.Adam(model.parameters(), lr=0.001)"
        )
    if scheduler is not None and (isinstance(scheduler, type) or not hasattr(scheduler, "step")):
        given = scheduler.__name__ if isinstance(scheduler, type) else repr(scheduler)
        raise TypeError(
            f"scheduler is a torch scheduler of the optimizer, got {given}; create one, for "
            "example torch.optim.lr_scheduler.StepLR(optimizer, 100)"
        )
    if optimizer is None:
        if scheduler is not None:
            raise ValueError("a scheduler needs the optimizer it was made for: pass optimizer= too")
        return
    for name, value in {"lr": lr, "weight_decay": weight_decay}.items():
        if value is not None:
            raise ValueError(
                f"{name}={value} is for the default optimizer, but you passed your own: set it in "
                f"optimizer=, and leave out {name}="
            )
    own = {id(p) for p in model.parameters()}
    trained = [p for group in optimizer.param_groups for p in group["params"] if id(p) in own]
    if not trained:
        raise ValueError(
            "optimizer= has none of the model's parameters: make it with model.parameters()"
        )
    if not any(p.requires_grad for p in trained):
        raise ValueError(
            "all of the model's parameters in optimizer= are frozen, so that nothing would be "
            "trained: make it with those to be trained"
        )
    name = type(optimizer).__name__
    if _needs_argument(optimizer):
        raise ValueError(
            f"{name} evaluates the loss several times in a step, through a closure, and fit takes "
            "one forward and one backward pass: use another optimizer, such as torch.optim.SGD or "
            "AdamW, or write the loop yourself"
        )
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ValueError("scheduler= was made for a different optimizer than the one in optimizer=")
    plateau = isinstance(scheduler, ReduceLROnPlateau)
    if scheduler is not None and not plateau and _needs_argument(scheduler):
        raise ValueError(
            f"{type(scheduler).__name__} is stepped with a value, which fit gives only to "
            "ReduceLROnPlateau; leave out scheduler=, and call its step in a callback's on_step or "
            "on_epoch_end"
        )


def _needs_argument(stepped: object) -> bool:
    """Return whether the method `step` cannot be called without an argument."""
    try:  # of the class: torch replaces the object's
        _, *parameters = inspect.signature(type(stepped).step).parameters.values()  # type: ignore[attr-defined]
    except (AttributeError, TypeError, ValueError):  # not written in Python
        return False
    return any(p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)


def _checkpoint(
    given: Sequence[object], path: str | Path | None, every: int | None, info: Any
) -> list[Checkpoint]:
    if every is not None:
        check_count("checkpoint_every", every)
    if path is not None:
        own = Checkpoint(path, every, info)
        if any(isinstance(each, Checkpoint) and each.path == own.path for each in given):
            raise ValueError(
                f"checkpoint= and a Checkpoint in callbacks= both write {own.path}: leave out one"
            )
        return [own]
    for name, value in {"checkpoint_every": every, "checkpoint_info": info}.items():
        if value is not None:
            raise ValueError(f"{name}={value} only makes sense with a file: pass checkpoint= too")
    return []


def _own_callbacks(
    given: Sequence[object],
    val: object,
    ema_decay: float | None,
    target_accuracy: float | None,
    progress: bool,
) -> list[Callback]:
    """Return the callbacks that the options of :func:`fit` stand for."""
    check_callbacks(given)
    own: list[Callback] = []
    if ema_decay is not None:
        check_fraction("ema_decay", ema_decay)
        own.append(EMA(ema_decay))
    if target_accuracy is not None:
        check_fraction("target_accuracy", target_accuracy)
        if val is None:
            raise ValueError(
                f"target_accuracy={target_accuracy} is measured on validation images: pass val= too"
            )
        own.append(TargetAccuracy(target_accuracy))
    for kind, option in {EMA: "ema_decay", TargetAccuracy: "target_accuracy"}.items():
        count = sum(isinstance(each, kind) for each in [*own, *given])
        if count > 1:
            raise ValueError(
                f"{count} callbacks of the kind {kind.__name__}, but there can be only one; "
                f"{option}= adds one"
            )
    if progress and not any(isinstance(each, Progress) for each in given):
        own.append(Progress())
    return own
