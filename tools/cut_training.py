"""Count what a notebook's training would take, and cut it short: loaded into its kernel.

``tools/gpu_budget.py`` starts kernels that call :func:`install` before the first cell. From then on

- each call of ``training.fit`` takes one step an epoch; its planned steps are recorded instead;
- a network called with many images computes the first few, and their outputs are repeated, so that
  all shapes stay as they are;
- steps of any torch optimizer outside of ``fit`` are counted, and taken;
- ``bench.race`` runs one round, which counts as often as it would have been run;
- ``analysis.linear_probes`` and ``top_patches`` see the first images only;
- ``data.load("fashion-mnist")`` repeats the training images in the package, so that nothing is
  downloaded, and has a tenth of the test images.

One multiply-add is two operations, and a backward pass takes twice those of its forward pass.
"""

import dataclasses
import functools
import json
import os
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import flop_registry

IMAGES_AT_ONCE = 4
LARGE = 100 * 100 * 3  # numbers; of images larger than that, only two are computed
STEPS_IN_FULL = 100  # shorter runs of small networks are not cut: chapters interrupt and resume
MODULES_IN_FULL = 20
MOST_EPOCHS = 20
MOST_ANALYZED = 400  # images, where activations of all are kept


@dataclasses.dataclass
class Cost:
    """What one forward pass of a network takes, per image."""

    operations: float
    kernels: int  # operators called, whatever the number of images
    saved: float  # bytes kept for the backward pass


class Measure(TorchDispatchMode):
    """Count operations and operators of what runs inside, and the bytes kept for its gradient."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.operations = self.kernels = 0
        self.own = {p.untyped_storage().data_ptr() for p in network.parameters()}
        self.saved: dict[int, int] = {}
        self.saving = torch.autograd.graph.saved_tensors_hooks(self.note, lambda kept: kept)

    def note(self, kept: Tensor) -> Tensor:
        """Count what is kept for the backward pass, each piece of memory once."""
        if kept.layout == torch.strided and kept.device.type != "meta":
            memory = kept.untyped_storage()
            if memory.data_ptr() not in self.own:
                self.saved[memory.data_ptr()] = memory.nbytes()
        return kept

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        if not function.is_view:
            self.kernels += 1
        count = flop_registry.get(function._overloadpacket)
        if count is not None:
            self.operations += count(*args, **kwargs, out_val=result)
        return result


class Counter:
    """What has been counted so far in this process."""

    def __init__(self, file: Path, cut: bool):
        self.file, self.cut = file, cut
        self.cell = 0
        self.inside = False  # whether a network is being called
        self.costs: Any = weakref.WeakKeyDictionary()  # of each network, by shape
        self.pending: dict[int, tuple[float, int]] = {}  # forward passes since the last step
        self.run: Any = None  # the call of fit in progress, until its first step
        self.planned: Any = weakref.WeakSet()  # optimizers of calls of fit
        self.networks: Any = weakref.WeakSet()
        self.rounds = 1
        self.activations = 0.0  # bytes, of the last call with a gradient
        self.data = 0  # bytes of images on the device

    def write(self, **counted: Any) -> None:
        """Add a line to the file."""
        line = json.dumps({"cell": self.cell, **counted}) + "\n"
        with self.file.open("a") as file:
            file.write(line)

    def call(self, run: Any, module: nn.Module, args: tuple[Any, ...], more: Any) -> Any:
        """Call a network, not from inside another one: measure it, on the first images only."""
        x = args[0] if args and isinstance(args[0], Tensor) else None
        unknown = x is None or x.ndim < 2 or x.device.type == "meta"
        # What has no parameters, such as mixup, is no network, and may pair images and labels.
        if unknown or next(module.parameters(), None) is None:
            return run(module, *args, **more)
        if torch._C._functorch.maybe_current_level():
            return run(module, *args, **more)
        watched = any(m._forward_hooks for m in module.modules())
        most = 2 if x[:1].numel() > LARGE else IMAGES_AT_ONCE
        size, shape = len(x), x.shape[1:]
        n = min(size, most) if self.cut and not watched else size
        if n < size:  # a copy, as a view would keep the memory of all of them
            args = (x[:n].clone(), *args[1:])
        known = self.costs.setdefault(module, {})
        training = torch.is_grad_enabled() and any(p.requires_grad for p in module.parameters())
        if training and not watched and shape not in known:
            measure = Measure(module)
            with measure.saving, measure:
                output = run(module, *args, **more)
            saved = sum(measure.saved.values()) / n
            known[shape] = Cost(measure.operations / n, measure.kernels, saved)
        else:
            output = run(module, *args, **more)
        if training and shape in known:
            cost = known[shape]
            self.pending[id(module)] = (cost.operations * size, cost.kernels)
            self.activations = cost.saved * size
            self.finish_plan(module, cost)
        if n == size:
            return output
        index = torch.arange(size, device=x.device) % n

        def repeat(part: Any) -> Any:
            return part[index] if isinstance(part, Tensor) and part.ndim else part

        return tree_map(repeat, output)

    def finish_plan(self, module: nn.Module, cost: Cost) -> None:
        """Write what a call of fit was going to do, now that its network's cost is known."""
        run = self.run
        if run is None or module not in (run["run"].network, run["run"].model):
            return
        self.run = None
        self.activations = cost.saved * run["batch_size"]
        self.write(
            steps=run["steps"],
            operations=3 * cost.operations * run["images"],
            kernels=cost.kernels * run["steps"],
            memory=self.memory(run["run"].optimizer),
            what=f"fit {type(module).__name__} {run['steps']} steps of {run['batch_size']}",
        )

    def step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Count a step that any optimizer has taken."""
        pending = list(self.pending.values())
        self.pending.clear()
        if optimizer in self.planned:
            return
        self.write(
            steps=self.rounds,
            operations=3 * self.rounds * sum(operations for operations, _ in pending),
            kernels=self.rounds * sum(kernels for _, kernels in pending),
            memory=self.memory(optimizer),
            what="own loop",
        )

    def memory(self, optimizer: torch.optim.Optimizer) -> int:
        """Estimate the bytes on the device during a step, all networks seen so far included."""
        own = [p for group in optimizer.param_groups for p in group["params"]]
        others = [p for network in list(self.networks) for p in network.parameters()]
        unique = {id(p): p.nbytes for p in [*own, *others]}
        # Each parameter has a gradient, and Adam keeps two numbers more.
        state = 2 if "betas" in optimizer.defaults else 1
        parameters = 2 * sum(unique.values()) + state * sum(p.nbytes for p in own)
        # Gradients of activations are freed as soon as they have been used: a quarter is generous.
        return int(parameters + 1.25 * self.activations + self.data)


class OneBatch:
    """The first batch of each epoch of a source."""

    def __init__(self, source: Any):
        self.source = source
        self.batch_size = self.images_per_epoch = min(source.batch_size, source.images_per_epoch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def __len__(self) -> int:
        return 1

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the first batch of an epoch."""
        for batch in self.source.epoch(number):
            yield batch
            return


def install(file: Path, cut: bool = True) -> Counter:
    """Begin to count, writing into `file`, and, unless this is a subprocess, to cut."""
    from cnnbook import analysis, bench, data, settings
    from cnnbook.data import sources
    from cnnbook.training.run import Run

    counter = Counter(file, cut)
    settings._takes = lambda *_: None  # start() need not know yet what is being counted
    called = nn.Module.__call__

    # Not global hooks: an analysis that stops a network half-way leaves them unbalanced.
    def call(module: nn.Module, *args: Any, **more: Any) -> Any:
        if counter.inside:
            return called(module, *args, **more)
        counter.inside = True
        try:
            return counter.call(called, module, args, more)
        finally:
            counter.inside = False

    nn.Module.__call__ = call  # type: ignore[method-assign]
    register_optimizer_step_post_hook(counter.step)

    created, resumed = Run.__post_init__, Run.go_on_from

    def create(run: Run) -> None:
        created(run)
        counter.planned.add(run.optimizer)
        counter.networks.add(run.model)
        steps, batches = run.total_steps, run.batches
        counter.data = sum(
            images.nbytes
            for source in (run.batches, run.val)
            if isinstance(images := getattr(source, "images", None), Tensor)
        )
        counter.run = {
            "run": run,
            "steps": steps,
            "images": run.epochs * batches.images_per_epoch,
            "batch_size": batches.batch_size,
        }
        small = len(list(run.model.modules())) <= MODULES_IN_FULL and steps <= STEPS_IN_FULL
        if cut and not small:
            run.batches = OneBatch(run.batches)
            run.val = run.val and OneBatch(run.val)
            run.steps_per_epoch, run.epochs = 1, min(run.epochs, MOST_EPOCHS)
            run.total_steps = run.epochs

    def resume(run: Run, counters: Any) -> None:
        resumed(run, counters)
        if not cut:  # how far a process came before it was killed is different every time
            return
        plan = counter.run
        taken = run.step * plan["steps"] // run.total_steps
        plan["images"] = plan["images"] * (plan["steps"] - taken) // plan["steps"]
        plan["steps"] -= taken

    Run.__post_init__, Run.go_on_from = create, resume
    if not cut:
        return counter

    # Chapters that train for equal time shall do the same in every run: deep networks are slower.
    Run.seconds = property(lambda run: run.step * (1 + len(list(run.model.modules())) / 1000))
    race, load = bench.race, sources.load

    def race_once(contenders: Any, repeats: int, *, warm_up: bool = True) -> Any:
        counter.rounds = repeats + warm_up
        try:
            once = race(contenders, 1, warm_up=False)
        finally:
            counter.rounds = 1
        return {name: seconds * repeats for name, seconds in once.items()}

    def load_stand_in(name: str, *args: Any, **options: Any) -> Any:
        if name != "fashion-mnist":
            return load(name, *args, **options)
        parts = load("fashion-mini", *args, **options)
        return tuple(
            dataclasses.replace(
                part[torch.arange(count) % len(part)], name=part.name.replace("mini", "mnist")
            )
            for part, count in zip(parts, (60_000, 1_000), strict=True)
        )

    def with_few_images(function: Any) -> Any:
        def called(*args: Any, **options: Any) -> Any:
            few = [a[:MOST_ANALYZED] if isinstance(a, data.Dataset) else a for a in args]
            return function(*few, **options)

        return functools.wraps(function)(called)

    bench.race = race_once
    data.load = sources.load = load_stand_in
    for name in ("linear_probes", "top_patches"):  # they keep the activations of all images
        setattr(analysis, name, with_few_images(getattr(analysis, name)))
    return counter


def install_in_kernel() -> None:
    """Begin to count in this kernel; its subprocesses count too, but cut nothing."""
    counter = install(Path(os.environ["COUNTED_IN"]))

    def next_cell(_info: object) -> None:
        counter.cell += 1

    from IPython import get_ipython

    get_ipython().events.register("pre_run_cell", next_cell)
