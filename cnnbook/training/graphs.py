"""Steps recorded as a CUDA graph, which a GPU replays without Python in between.

A small network's step is hundreds of short computations. Launched one by one, each takes Python and
the driver longer than it takes the GPU, which waits. A recording launches all of them at once.
"""

import contextlib
import functools
import inspect
import math
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

from cnnbook._stderr import say
from cnnbook.training import processes
from cnnbook.training.callbacks import Callback
from cnnbook.training.device import explain_errors, seed_generators
from cnnbook.training.run import Run

# Steps taken one by one before recording: libraries choose algorithms, optimizers make their state.
WARM_UP = 3
# Recording takes as long as many steps.
WORTHWHILE = 40
# How far a replayed step may be from the same step taken one by one: some computations add up in
# any order, and rounding to 16 bits makes more of it.
TOLERANCES = {torch.float32: 0.02, torch.float64: 0.02, torch.bfloat16: 0.1, torch.float16: 0.1}
#: Whose layers, losses and functions do the same in every step.
KNOWN = ("torch.", "torchvision.", "timm.", "cnnbook.")
# Results of a step that have no name in the network.
LOSS, RIGHT, COUNTED, GRADIENT = "the loss", "labels right", "labels counted", "gradient of "
WITHOUT_CLASSES = "batches without classes"

Work = Callable[[], Any]
_SAID: set[str] = set()  # reasons that have been printed: once is enough


class Recorder(Protocol):
    """Records work on a device once, and replays it. Tests have one for the CPU."""

    def aside(self, work: Work) -> Any:
        """Do the work now, as before a recording, and return its result."""
        ...

    def watch(self, work: Work, more: int = 0) -> tuple[Any, str]:
        """Do the same; return also why it cannot be recorded, or nothing.

        `more` bytes will be in use beside the recording.
        """
        ...

    def record(self, work: Work) -> Any:
        """Record the work without doing it, and return its result, which replaying fills."""
        ...

    def replay(self) -> None:
        """Do the recorded work, on the same memory."""
        ...


class CudaGraph:
    """A CUDA graph on a device.

    Parameters
    ----------
    device
        The GPU.
    """

    def __init__(self, device: torch.device):
        self.device = device
        with torch.cuda.device(device):
            self._stream = torch.cuda.Stream()
        self._graph: torch.cuda.CUDAGraph | None = None

    def aside(self, work: Work) -> Any:
        """Do the work on the stream on which it will be recorded."""
        # On another, the engine of gradients would connect the recording with work outside it.
        current = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(current)
        with torch.cuda.device(self.device), torch.cuda.stream(self._stream):
            result = work()
        current.wait_stream(self._stream)
        return result

    def watch(self, work: Work, more: int = 0) -> tuple[Any, str]:
        """Do the work, and find out whether it makes Python wait for the GPU."""
        before, mode = torch.cuda.memory_allocated(self.device), torch.cuda.get_sync_debug_mode()
        torch.cuda.reset_peak_memory_stats(self.device)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                result = self.aside(work)
            finally:
                torch.cuda.set_sync_debug_mode(mode)
        needed = torch.cuda.max_memory_allocated(self.device) - before
        reason = self._too_large(needed, more)
        for each in caught:
            if "called a synchronizing" in str(each.message):
                reason = f"Python waits for the GPU in {each.filename}:{each.lineno}"
            elif "prototype feature" not in str(each.message):  # a warning of watching itself
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
        return result, reason

    def _too_large(self, needed: int, more: int) -> str:
        # A recording keeps the memory of its step, and steps outside it need as much again.
        free, _ = torch.cuda.mem_get_info(self.device)
        cached = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        if 2.5 * needed + more > free + cached:
            wanted = (needed + more) / 1e9
            return f"a recording would take up {wanted:.1f} GB more of the GPU's memory"
        return ""

    def record(self, work: Work) -> Any:
        """Record the work."""
        current = torch.cuda.current_stream(self.device)
        self._graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.device(self.device), self._recording(self._graph):
                return work()
        except BaseException:
            # torch leaves its stream in place, and its generator believes that it is still being
            # recorded, until a recording succeeds.
            torch.cuda.set_stream(current)
            with (
                contextlib.suppress(RuntimeError),
                torch.cuda.device(self.device),
                self._recording(torch.cuda.CUDAGraph()),
            ):
                torch.zeros(1, device=self.device)
            torch.cuda.set_stream(current)
            raise

    def _recording(self, graph: torch.cuda.CUDAGraph) -> torch.cuda.graph:
        # A loader's thread may allocate memory at the same time.
        return torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")

    def replay(self) -> None:
        """Launch the graph."""
        assert self._graph is not None
        self._graph.replay()


#: What records on a type of device.
RECORDERS: dict[str, Callable[[torch.device], Recorder]] = {"cuda": CudaGraph}


class Steps:
    """Takes the steps of a run: one by one, and from a recording where that gives the same result.

    What Python computes in a step becomes part of the recording: sizes, branches, numbers. So steps
    are recorded of themselves only if all of their code is known to do the same in every step, see
    :data:`KNOWN`; of other code, `cuda_graph` says it. The first steps are taken one by one, and
    one of them is watched: if Python draws random numbers, counts, or waits for the GPU in it,
    nothing is recorded, as far as that can be seen. What changes between steps (images,
    weights, seed, learning rate) is read from memory at each replay.

    The step after a recording is taken both ways from the same state, and the run goes on from the
    result of the operations taken one by one. If that of the recording is another, in the loss, the
    counts, a gradient, a running statistic, a weight or the optimizer's state, by more than the
    order of additions explains (:data:`TOLERANCES`), the recording is not used.

    Parameters
    ----------
    run
        The run.
    compute_gradients
        Called as ``compute_gradients(run, x, y, weight)``; returns the loss.
    update_weights
        Called as ``update_weights(run)``. It is recorded, too, if the optimizer reads its learning
        rate from the device; otherwise, it is called after each replay.
    """

    def __init__(
        self,
        run: Run,
        compute_gradients: Callable[[Run, Tensor, Tensor, float], Tensor],
        update_weights: Callable[[Run], None],
    ):
        self.run = run
        run.not_recorded = "cuda_graph=False" if run.cuda_graph is False else ""
        self._compute_gradients, self._update_weights = compute_gradients, update_weights
        self._recorder: Recorder | None = None
        self._taken = 0
        self._loss: Tensor | None = None  # of the recorded step
        self._batch: tuple[Tensor, ...] = ()
        self._gradients: list[tuple[nn.Parameter, Tensor | None]] = []
        self._apart = False  # whether a step has been taken on its own since the last replay
        self._checked = False  # whether the recording has been compared with a step on its own
        self._constants: Any = None
        self._with_update = False
        self._hooked = any(_has_own_step(callback) for callback in run.callbacks)
        self._update_varies = False  # whether the optimizer's numbers have changed between steps

    def __call__(self, batch: tuple[Tensor, ...], weight: float) -> Tensor:
        """Take a step, and return its loss, on the device."""
        if self.run.not_recorded:
            return self._take(batch, weight)
        self._taken += 1
        if self._taken == 1:
            self.run.not_recorded = reason_against(self.run)
            if self.run.not_recorded:
                self._explain(loud="of your own" in self.run.not_recorded)
                return self._take(batch, weight)
            self._recorder = RECORDERS[self.run.device.type](self.run.device)
        if self._loss is not None and self._changed():
            self._forget()
            self._taken = WARM_UP  # optimizers make their state of what is new before recording
        if self._loss is not None and _alike(batch, self._batch):
            return self._replay(batch) if self._checked else self._check(batch, weight)
        if self._taken == WARM_UP:
            loss = self._watch(batch, weight)
        else:
            loss = self._take_aside(batch, weight)
        ready = self._taken >= WARM_UP and self._loss is None and not self.run.not_recorded
        if ready and not self._last_of_epoch():
            self._record(batch)
        return loss

    def _take(self, batch: tuple[Tensor, ...], weight: float, update: bool = True) -> Tensor:
        """Take one step, operation by operation."""
        run = self.run
        x, y = run.load(batch)
        with explain_errors(run.network, x, run.output):
            loss = self._compute_gradients(run, x, y, weight)
        if update:
            self._update_weights(run)
        return loss

    def _take_aside(self, batch: tuple[Tensor, ...], weight: float, update: bool = True) -> Tensor:
        assert self._recorder is not None
        self._apart = True
        step = functools.partial(self._take, batch, weight, update=update)
        return self._recorder.aside(step)  # type: ignore[no-any-return]

    def _explain(self, loud: bool = True) -> None:
        """Say why nothing is recorded, if it was asked for or the reason is not plain."""
        if self.run.cuda_graph:
            raise ValueError(f"cuda_graph=True, but {self.run.not_recorded}; leave out cuda_graph=")
        if loud and processes.is_main_process() and self.run.not_recorded not in _SAID:
            _SAID.add(self.run.not_recorded)
            say(f"training without a CUDA graph: {self.run.not_recorded}")

    def _watch(self, batch: tuple[Tensor, ...], weight: float) -> Tensor:
        """Take a step, and find out what Python does in it that a recording would not repeat."""
        assert self._recorder is not None
        self._with_update = self._update_is_constant()
        before = {**_python_state(self.run), **_attributes(self.run)}
        # Of the check: two copies of the state, and one of the gradients.
        state = list(self._memory().values())
        more = 2 * sum(t.nbytes for t in state) + sum(p.nbytes for p in self._parameters())
        loss, self.run.not_recorded = self._recorder.watch(
            functools.partial(self._take, batch, weight, update=self._with_update), more
        )
        after = {**_python_state(self.run), **_attributes(self.run)}
        if not self._with_update:
            self._recorder.aside(functools.partial(self._update_weights, self.run))
        self.run.not_recorded = (
            self.run.not_recorded
            or _difference(before, after)
            or _hook(self.run)
            or _sparse(self.run)
        )
        if self.run.not_recorded:
            self._explain()
        return loss  # type: ignore[no-any-return]

    def _record(self, batch: tuple[Tensor, ...]) -> None:
        """Record a step like the one just taken, without taking it.

        It is recorded with other images, another seed and other learning rates than those of the
        step that checks it, so that a recording that holds on to one of them is found out.
        """
        assert self._recorder is not None
        run = self.run
        self._with_update = self._update_is_constant()
        self._batch = tuple(torch.empty_like(part).copy_(part) for part in batch)

        def step() -> Tensor:
            loss = self._compute_gradients(run, *run.load(self._batch), 1.0)
            if self._with_update:
                self._update_weights(run)
            return loss

        with self._kept_gradients():
            try:
                with _other_rates(run.optimizer if self._with_update else None):
                    self._loss = self._recorder.record(step)
            except Exception as error:
                reason = f"recording failed: {error or type(error).__name__}".splitlines()[0]
                self._give_up(reason)
                return
            self._gradients = [(p, p.grad) for p in self._parameters()]
        self._apart, self._checked = True, False
        self._constants = self._state()

    def _check(self, batch: tuple[Tensor, ...], weight: float) -> Tensor:
        """Take a step both ways, keep the result of its single operations, and compare."""
        assert self._recorder is not None
        run, memory = self.run, self._memory()
        before = {name: tensor.clone() for name, tensor in memory.items()}
        self._launch(batch)
        recorded = self._result(memory, self._loss, self._gradients)
        recorded = {name: tensor.clone() for name, tensor in recorded.items()}
        with torch.no_grad():
            for name, tensor in memory.items():
                tensor.copy_(before[name])
        seed_generators(run.seed_of_step(), run.device)
        loss = self._take_aside(batch, weight, update=self._with_update)
        gradients = [(p, p.grad) for p in self._parameters()]
        result = self._result(memory, loss, gradients)
        found = [each for name, each in result.items() if name == LOSS or name.startswith(GRADIENT)]
        if all(bool(tensor.isfinite().all()) for tensor in found):
            kinds = {run.precision, *(p.dtype for p in self._parameters())}
            tol = max(TOLERANCES.get(kind, 0.0) for kind in kinds)
            what = _disagreement(before, recorded, result, tol)
            self._checked = True
        else:  # as in the first steps in float16: the next one may tell
            what = ""
        if not self._with_update:
            self._recorder.aside(functools.partial(self._update_weights, run))
        if what:
            with self._kept_gradients():
                self._give_up(f"a recorded step gave another result: {what}")
        return loss

    def _result(
        self,
        memory: dict[str, Tensor],
        loss: Tensor | None,
        gradients: list[tuple[nn.Parameter, Tensor | None]],
    ) -> dict[str, Tensor]:
        """Return what a step has computed."""
        assert loss is not None
        names = {parameter: name for name, parameter in self.run.model.named_parameters()}
        result = {LOSS: loss}
        for i, (parameter, gradient) in enumerate(gradients):
            if gradient is not None:
                name = names.get(parameter, f"parameter {i}")
                result[f"{GRADIENT}{name}"] = gradient
        return {**result, **memory}

    def _memory(self) -> dict[str, Tensor]:
        """Return what a recorded step changes, by its name."""
        run = self.run
        memory = {RIGHT: run.correct, COUNTED: run.counted, WITHOUT_CLASSES: run.without_classes}
        tensors = dict(run.model.named_buffers())
        if isinstance(run.val_loss_fn, nn.Module):
            tensors |= {f"loss.{name}": each for name, each in run.val_loss_fn.named_buffers()}
        for start, values in _owners(run).items():
            tensors |= {f"{start}{n}": v for n, v in values.items() if isinstance(v, Tensor)}
        for name, tensor in tensors.items():
            if tensor.numel() == 1 or 0 not in tensor.stride():  # expanded: nothing can write to it
                memory[name] = tensor.detach()
        if self._with_update:
            names = {parameter: name for name, parameter in run.model.named_parameters()}
            for i, parameter in enumerate(self._parameters()):
                name = names.get(parameter, f"parameter {i}")
                memory[name] = parameter.detach()
                for key, value in run.optimizer.state.get(parameter, {}).items():
                    if isinstance(value, Tensor):
                        memory[f"{key} of {name}"] = value
            for key in ("_scale", "_growth_tracker"):
                value = getattr(run.scaler, key, None)
                if isinstance(value, Tensor):
                    memory[f"loss scaling's {key}"] = value
        return memory

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.run.optimizer.param_groups for p in group["params"]]

    @contextlib.contextmanager
    def _kept_gradients(self) -> Iterator[None]:
        """Leave the gradients of the step that was taken, which callbacks may look at."""
        kept = [(p, p.grad) for p in (*self.run.model.parameters(), *self._parameters())]
        try:
            yield
        finally:
            for parameter, gradient in kept:
                parameter.grad = gradient

    def _give_up(self, reason: str) -> None:
        """Record nothing from now on, and say why."""
        self._forget()
        self.run.not_recorded = reason
        self._explain()

    def _launch(self, batch: tuple[Tensor, ...]) -> None:
        assert self._recorder is not None
        for recorded, part in zip(self._batch, batch, strict=True):
            recorded.copy_(part)
        self._recorder.replay()

    def _replay(self, batch: tuple[Tensor, ...]) -> Tensor:
        assert self._loss is not None
        self._launch(batch)
        if self._apart:
            for parameter, gradient in self._gradients:
                parameter.grad = gradient
            self._apart = False
        if not self._with_update:
            self._update_weights(self.run)
        self.run.replayed += 1
        return self._loss.clone()  # the next replay overwrites it

    def _forget(self) -> None:
        """Drop the recording, and what an attempt at one has left behind."""
        self._loss, self._batch, self._gradients = None, (), []
        for parameter in self.run.model.parameters():
            parameter.grad = None
        if self.run.scaler.is_enabled():  # it may be in the middle of a step
            state = self.run.scaler.state_dict()
            self.run.scaler = GradScaler(self.run.device.type)
            self.run.scaler.load_state_dict(state)

    def _last_of_epoch(self) -> bool:
        """Whether the step's batch may be smaller than the others."""
        return (self.run.step + 1) % self.run.steps_per_epoch == 0 and self.run.steps_per_epoch > 1

    def _changed(self) -> bool:
        """Whether something that the recording holds as a constant has been changed since."""
        if self._with_update and self._groups() != self._constants["groups"]:
            self._update_varies = True  # a schedule of momentum, for example
            return True
        if self.run.step % self.run.steps_per_epoch and not self._hooked:
            return False  # within an epoch, only someone's own callback could have
        return bool(_hook(self.run)) or self._constants != self._state()

    def _state(self) -> dict[str, Any]:
        """Return what the recording holds as constants."""
        run = self.run
        state = _attributes(run)
        state["update"] = self._update_is_constant()
        state["run"] = run.loss_fn, id(run.batches), run.precision, run.layout, run.output
        state["images"] = id(getattr(run.batches, "images", None))
        for path, layer in run.model.named_modules():
            state[f"layer {path}"] = id(layer), type(layer), vars(layer).get("forward")
        for name, parameter in run.model.named_parameters():
            state[name] = parameter.data_ptr(), parameter.requires_grad
        state["groups"] = self._groups() if self._with_update else None
        return state

    def _groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's options, which are constants where its step is recorded."""
        groups = self.run.optimizer.param_groups
        return [{name: _identity(value) for name, value in group.items()} for group in groups]

    def _update_is_constant(self) -> bool:
        """Whether the optimizer's step can be recorded, too."""
        return _reads_memory(self.run) and not self._update_varies


@contextlib.contextmanager
def _other_rates(optimizer: torch.optim.Optimizer | None) -> Iterator[None]:
    """Change learning rates that are tensors for a while."""
    groups = [] if optimizer is None else optimizer.param_groups
    rates = [(group["lr"], group["lr"].clone()) for group in groups]
    try:
        for rate, _ in rates:
            rate.add_(1)
        yield
    finally:
        for rate, before in rates:
            rate.copy_(before)


def _disagreement(
    before: dict[str, Tensor], recorded: dict[str, Tensor], other: dict[str, Tensor], tol: float
) -> str:
    """Say which result of a recorded step is not that of the same step, or nothing.

    Tensors are compared by the norms of their change in the step. A gradient may also be off by
    `tol` of what a gradient of its size typically is in the network: that of a bias before batch
    normalization, for example, is nothing but rounding. What an optimizer makes of such a gradient
    is not compared; it may divide by its size.
    """
    if recorded.keys() != other.keys():
        return f"{', '.join(sorted(recorded.keys() ^ other.keys()))} in one of the two only"
    gradients = [name for name in other if name.startswith(GRADIENT)]
    squares = sum(_norm(other[name]) ** 2 for name in gradients)
    typical = math.sqrt(squares / max(1, sum(other[name].numel() for name in gradients)))
    rounding = set()
    for name, right in other.items():
        given, start = recorded[name], before.get(name)
        change, error = _norm(right, start), _norm(given, right)
        allowed = tol * change
        if name in gradients:
            slack = tol * typical * math.sqrt(right.numel())
            allowed += slack
            if change <= slack:
                rounding.add(name.removeprefix(GRADIENT))
        elif name in rounding or name.partition(" of ")[2] in rounding:
            continue
        elif name == RIGHT:  # an image's two largest scores may be nearly equal
            allowed = 0.02 * _norm(other[COUNTED], before[COUNTED])
        elif right.is_floating_point():
            allowed += 4 * torch.finfo(right.dtype).eps * _norm(right)
        if not error <= allowed:  # nan is not
            if right.numel() == 1:
                return f"{name} {given.item():.5g} instead of {right.item():.5g}"
            return f"{name} is off by {error / max(change, 1e-30):.0%} of its change in the step"
    return ""


def _norm(tensor: Tensor, other: Tensor | None = None) -> float:
    """Return the square root of the sum of squares of a tensor, or of a difference."""
    difference = tensor if other is None else _wide(tensor) - _wide(other)
    return float(torch.linalg.vector_norm(_wide(difference), dtype=torch.float64))


def _wide(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def _has_own_step(callback: object) -> bool:
    """Whether someone's own callback may change anything after every step."""
    method = getattr(type(callback), "on_step", None)
    ours = type(callback).__module__.startswith("cnnbook.") or method is Callback.on_step
    ours = ours and "on_step" not in getattr(callback, "__dict__", {})
    return callable(getattr(callback, "on_step", None)) and not ours


def reason_against(run: Run) -> str:
    """Return why a run's steps cannot be recorded, as far as that is known before the first."""
    if run.device.type not in RECORDERS:
        return f"CUDA graphs need a CUDA GPU, and the device is {run.device.type}"
    if processes.world_size() > 1:
        return "several processes share each batch"
    if run.network is not run.model:
        return "the network is compiled, or wrapped for several devices"
    left = run.total_steps - run.step
    if run.cuda_graph is None and left < WORTHWHILE:
        return f"{left} steps are too few"
    return _hook(run) or ("" if run.cuda_graph else _not_known(run))


def _not_known(run: Run) -> str:
    """Say which code of a step may do something else in another step, as nothing can tell."""
    rest = "which may do something else in each step; cuda_graph=True says that it does not"
    for path, layer in run.model.named_modules():
        where = repr(path) if path else "the network"
        if not _is_known(type(layer)):
            return f"{where} is {type(layer).__name__}, a class of your own, {rest}"
        if "forward" in vars(layer):
            return f"{where} has a forward of your own, {rest}"
    for what, given in (("loss", run.val_loss_fn), ("output", run.output)):
        layers = given.modules() if isinstance(given, nn.Module) else ()
        kinds: list[Any] = [type(layer) for layer in layers]
        if not kinds and callable(given):
            kinds = [given]
        if not all(_is_known(kind) for kind in kinds):
            return f"{what}= is code of your own, {rest}"
    for callback in run.callbacks:
        replaced = any(name.startswith("on_") for name in getattr(callback, "__dict__", {}))
        if replaced or not type(callback).__module__.startswith("cnnbook."):
            return f"{type(callback).__name__} is a callback of your own, {rest}"
    return ""


def _is_known(code: Any) -> bool:
    """Whether a class or a function is of a library that is known, and not made of others' code."""
    named = isinstance(code, type) or inspect.isroutine(code)
    if not named or inspect.ismethod(code):  # an object, or what is bound to one
        return False
    module = getattr(code, "__module__", None) or "torch."  # torch's functions in C have none
    return f"{module}.".startswith(KNOWN)


def _hook(run: Run) -> str:
    """Say which hook of a layer or a parameter Python would have to call in each step."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    for path, layer in run.model.named_modules():
        if any(getattr(layer, kind, None) for kind in kinds):
            return f"{path or 'the network'!r} has a hook, which Python would have to call"
    of_tensors = ("_backward_hooks", "_post_accumulate_grad_hooks")
    for path, parameter in run.model.named_parameters():
        if any(getattr(parameter, kind, None) for kind in of_tensors):
            return f"{path!r} has a hook, which Python would have to call"
    if any(value for name, value in vars(nn.modules.module).items() if _is_global_hooks(name)):
        return "there is a hook of all layers, which Python would have to call"
    return ""


def _sparse(run: Run) -> str:
    """Say which gradient of the last step is sparse."""
    for path, parameter in run.model.named_parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            return f"the gradient of {path!r} is sparse"
    return ""


def _is_global_hooks(name: str) -> bool:
    return name.startswith("_global_") and name.endswith("_hooks")


def _reads_memory(run: Run) -> bool:
    """Whether an optimizer's step can be recorded: what changes from step to step is on the device.

    An optimizer whose learning rate is a Python number takes its step after each replay.
    """
    optimizer = run.optimizer
    own = [getattr(optimizer, f"_optimizer_step_{when}_hooks", None) for when in ("pre", "post")]
    every = vars(sys.modules[torch.optim.Optimizer.__module__])
    if any(own) or any(every.get(f"_global_optimizer_{w}_hooks") for w in ("pre", "post")):
        return False
    if run.scaler.is_enabled() and not getattr(optimizer, "_step_supports_amp_scaling", False):
        return False  # it decides in Python whether to skip a step
    if type(optimizer) is torch.optim.SGD:
        safe = all(group["fused"] for group in optimizer.param_groups)
    else:
        known = type(optimizer).__module__.startswith("torch.optim.")
        safe = known and all(group.get("capturable") for group in optimizer.param_groups)
    rates = (group["lr"] for group in optimizer.param_groups)
    return safe and all(
        isinstance(lr, Tensor) and lr.device.type == run.device.type for lr in rates
    )


def _python_state(run: Run) -> dict[str, Any]:
    """Return the state of the generators that Python, not the device, draws from."""
    state: dict[str, Any] = {
        "draws random numbers in Python": random.getstate(),
        "draws random numbers with NumPy": _numpy_state(),
    }
    if run.device.type != "cpu":
        drawn = torch.default_generator.get_state().tolist()
        state["draws random numbers on the CPU"] = drawn
    return state


def _attributes(run: Run) -> dict[str, Any]:
    """Return numbers, texts and tensors that the layers and the loss keep, each by its name."""
    state: dict[str, Any] = {}
    for start, values in _owners(run).items():
        for name, value in values.items():
            if isinstance(value, bool | int | float | str | Tensor):
                state[f"changes {start}{name}"] = _identity(value)
    for name, buffer in run.model.named_buffers():
        state[f"replaces {name}"] = id(buffer), buffer.data_ptr()
    return state


def _owners(run: Run) -> dict[str, dict[str, Any]]:
    """Return the attributes of each layer and of the loss, by the start of their names."""
    owners = {f"{path}." if path else "": vars(layer) for path, layer in run.model.named_modules()}
    loss = run.val_loss_fn  # as it was given to fit
    owners["loss."] = {**getattr(loss, "__dict__", {}), **_outer_variables(loss)}
    return owners


def _outer_variables(function: Any) -> dict[str, Any]:
    """Return the variables outside a function that it uses."""
    if not inspect.isfunction(function):
        return {}
    try:
        found = inspect.getclosurevars(function)
    except ValueError:  # one of them has no value yet
        return {}
    return {**found.globals, **found.nonlocals}


def _numpy_state() -> tuple[Any, ...]:
    _, keys, *rest = np.random.get_state()  # noqa: NPY002 (the generator that others use)
    return (np.asarray(keys).tobytes(), *rest)


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
    for what in {**before, **after}:
        if what not in before or what not in after or before[what] != after[what]:
            return f"each step {what}, which a recording would not repeat"
    return ""


def _identity(value: Any) -> Any:
    """Return what two values have in common if one may stand for the other in a recording."""
    if isinstance(value, list):
        return [_identity(each) for each in value]
    return id(value) if isinstance(value, Tensor) else value


def _alike(batch: tuple[Tensor, ...], other: tuple[Tensor, ...]) -> bool:
    return len(batch) == len(other) and all(
        a.shape == b.shape and a.dtype == b.dtype for a, b in zip(batch, other, strict=True)
    )
