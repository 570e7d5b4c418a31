"""Recording a run of a network: every operation, and what its result depends on."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from cnnbook.analysis._hooks import check_model, check_shape, device_of, evaluation
from cnnbook.analysis.graph.operations import (
    OperationCall,
    name_of,
    propagate,
    role_of,
    tensors_in,
)
from cnnbook.analysis.graph.reach import Reach, Untraceable
from cnnbook.analysis.graph.traces import IMAGE, Call, Operation, Trace


def trace(model: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Run a network once and record what depends on what.

    The network runs in evaluation mode, without gradients, on tensors that have shapes but no
    values (torch's "meta" device), so that even the largest networks cost nothing; a network that
    needs values along the way, or creates tensors on a device of its choice, is run on zeros
    instead.

    Parameters
    ----------
    model
        Any network; left unchanged. Its parameters may be on the meta device.
    input_shape
        Shape of one image, ``(C, H, W)``, without the batch dimension; any number of spatial
        dimensions.

    Returns
    -------
    Trace

    Raises
    ------
    ValueError
        If the shape is not made of positive integers, has a batch dimension, or does not begin with
        the channels.
    TypeError
        If `model` is not a network.

    Examples
    --------
    No numbers are computed, so even VGG-16 costs neither time nor memory:

    >>> from cnnbook.models import create
    >>> with torch.device("meta"):  # shapes without values
    ...     net = create("vgg16")
    >>> whole = trace(net, (3, 224, 224)).calls[0]
    >>> f"{whole.macs:,}", whole.shape
    ('15,470,264,320', (1000,))
    """
    check_model(model)
    shape = check_shape("input_shape", input_shape)
    try:
        return _run(model, shape)
    except RuntimeError as error:
        hint = _hint(shape)
        if hint is None:
            raise
        raise ValueError(
            f"the network does not run on an image of shape {shape}; input_shape {hint}"
        ) from error


def _hint(shape: tuple[int, ...]) -> str | None:
    """Return what is probably wrong with a shape on which a network does not run."""
    if len(shape) == 4 and shape[0] == 1:
        return f"has no dimension for the batch: try {shape[1:]}"
    if len(shape) == 2:
        return f"begins with the channels: try {(3, *shape)} or {(1, *shape)}"
    if len(shape) == 3 and shape[2] <= 4 < shape[0]:
        return f"begins with the channels: try {(shape[2], *shape[:2])}"
    return None


def _run(model: nn.Module, shape: tuple[int, ...]) -> Trace:
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(floats, torch.get_default_dtype())
    with evaluation(model), torch.no_grad():
        try:
            with _without_values(model), torch.device("meta"):
                return _record(model, torch.empty(1, *shape, dtype=dtype))
        except Exception:  # whatever a network does with missing values
            device = device_of(model)
            if device.type == "meta":
                raise
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            return _record(model, torch.zeros(1, *shape, dtype=dtype, device=device))


def _record(model: nn.Module, x: Tensor) -> Trace:
    recorder = _Recorder(x)
    with _boundaries(model, recorder), recorder:
        model(x)
    return Trace(tuple(x.shape[1:]), tuple(recorder.calls), tuple(recorder.operations))


@contextlib.contextmanager
def _without_values(model: nn.Module) -> Iterator[None]:
    """Exchange a model's parameters and buffers for meta tensors while the block runs."""
    held: list[tuple[dict[str, Any], str, Tensor]] = [
        (store, name, value)
        for module in model.modules()
        for store in (module._parameters, module._buffers)
        for name, value in store.items()
        if value is not None
    ]
    # Not torch.func.functional_call: it mixes up the weights of a layer that has two names.
    meta = {id(value): torch.empty_like(value, device="meta") for _, _, value in held}
    try:
        for store, name, value in held:
            store[name] = meta[id(value)]
        yield
    finally:
        for store, name, value in held:
            store[name] = value


@contextlib.contextmanager
def _boundaries(model: nn.Module, recorder: "_Recorder") -> Iterator[None]:
    """Tell the recorder when layers begin and end, while the block runs."""
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():

            def begin(module: nn.Module, _inputs: object, name: str = name) -> None:
                recorder.begin(name, module)

            def end(_module: nn.Module, _inputs: object, output: object) -> None:
                recorder.end(output)

            stack.callback(module.register_forward_pre_hook(begin).remove)
            stack.callback(module.register_forward_hook(end).remove)
        yield


class _Known(NamedTuple):
    """A tensor that depends on the image."""

    tensor: Tensor  # kept, so that no other tensor gets its id
    maker: int  # number of the operation
    reach: Reach | Untraceable


class _Recorder(TorchDispatchMode):
    """Records every operation of a run."""

    def __init__(self, x: Tensor):
        super().__init__()  # type: ignore[no-untyped-call]  # torch's class has no types
        self.calls: list[Call] = []
        self.operations: list[Operation] = []
        self.stack: list[int] = []
        self.known = {id(x): _Known(x, IMAGE, Reach.of_image(x.shape))}
        # By memory: the last operation that changed in place what its values depend on.
        self.written: dict[int, int] = {}

    def begin(self, name: str, module: nn.Module) -> None:
        """Record that a layer starts to run."""
        self.stack.append(len(self.calls))
        self.calls.append(Call(name, module, tuple(self.stack)))

    def end(self, output: object) -> None:
        """Record what the layer that began last returns."""
        call = self.calls[self.stack.pop()]
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if tensors:
            call.shape = tuple(tensors[0].shape[1:])
            found = self.find(tensors[0])
            if found is not None:
                call.reach = found.reach

    def find(self, tensor: Tensor) -> _Known | None:
        """Return what is known of a tensor, None if it does not depend on the image."""
        known = self.known.get(id(tensor))
        written = self.written.get(_memory(tensor))
        if written is None or (known is not None and known.maker >= written):
            return known
        return _Known(
            tensor, written, Untraceable("a tensor was written to in place through a view")
        )

    def find_reach(self, tensor: Tensor) -> Reach | None:
        """Return the reach of a tensor that depends on the image, or raise Untraceable."""
        known = self.find(tensor)
        if known is None:
            return None
        if isinstance(known.reach, Untraceable):
            raise known.reach
        return known.reach

    def __torch_dispatch__(
        self,
        operation: torch._ops.OpOverload,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and record what it reads and returns."""
        kwargs = kwargs or {}
        arguments = {
            parameter.name: args[i]
            if i < len(args)
            else kwargs.get(parameter.name, parameter.default_value)
            for i, parameter in enumerate(operation._schema.arguments)
        }
        read = tensors_in(arguments.values())
        makers = tuple(dict.fromkeys(k.maker for k in map(self.find, read) if k is not None))
        result = operation(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]

        count = flop_registry.get(operation.overloadpacket)
        if count is not None:
            self.add("macs", count(*args, **kwargs, out_val=result) // 2)
        if makers and outputs:
            reaches = self.follow(operation, arguments, outputs)
            if reaches is not None:
                self.note(name_of(operation), makers, read, outputs, reaches)
        return result

    def add(self, what: str, amount: int) -> None:
        """Add to a number of every layer that is running."""
        for call in self.stack:
            setattr(self.calls[call], what, getattr(self.calls[call], what) + amount)

    def follow(
        self,
        operation: torch._ops.OpOverload,
        arguments: Mapping[str, Any],
        outputs: Sequence[Tensor],
    ) -> Sequence[Reach | Untraceable] | None:
        """Work out what the outputs of an operation depend on; None if not on the image."""
        shapes = tuple(tuple(out.shape) for out in outputs)
        call = OperationCall(name_of(operation), arguments, shapes, self.find_reach)
        try:
            return propagate(call, elementwise=torch.Tag.pointwise in operation.tags)
        except Untraceable as lost:
            return [lost] * len(outputs)
        except Exception as error:  # called in a way that its function does not support
            return [
                Untraceable(f"the operation {call.name!r} is used in an unknown way ({error!r})")
            ] * len(outputs)

    def note(
        self,
        name: str,
        makers: tuple[int, ...],
        read: Sequence[Tensor],
        outputs: Sequence[Tensor],
        reaches: Sequence[Reach | Untraceable],
    ) -> None:
        """Record an operation, and the tensors that it creates or changes."""
        number = len(self.operations)
        shape = tuple(outputs[0].shape)
        self.operations.append(Operation(name, makers, tuple(self.stack), shape, role_of(name)))
        if outputs[0].is_floating_point() and _memory(outputs[0]) not in map(_memory, read):
            self.add("memory", outputs[0].nbytes)
        for i, tensor in enumerate(outputs):
            reach = (
                reaches[i] if i < len(reaches) else Untraceable("a second result of an operation")
            )
            before = self.known.get(id(tensor))
            in_place = any(tensor is other for other in read)
            self.known[id(tensor)] = _Known(tensor, number, reach)
            if in_place and (before is None or before.reach != reach):
                self.written[_memory(tensor)] = number


def _memory(tensor: Tensor) -> int:
    """Return the identity of the memory that a tensor shares with its views."""
    identity: int = tensor.untyped_storage()._cdata
    return identity
