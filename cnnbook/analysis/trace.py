"""One look at everything a network computes, and at what depends on what."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from cnnbook.analysis._hooks import device_of, evaluation
from cnnbook.analysis._reach import (
    FACTORIES,
    Reach,
    Untraceable,
    image,
    name_of,
    propagate,
    tensors_in,
)

#: Stands for the network's input among the inputs of operations and blocks.
IMAGE = -1


@dataclass(frozen=True)
class Operation:
    """One operation of torch on something that depends on the image.

    Attributes
    ----------
    name
        torch's name, for example ``"convolution"`` or ``"add"``.
    inputs
        Numbers of the operations whose results it reads;
        :data:`~cnnbook.analysis.trace.IMAGE` is the network's input.
    calls
        Numbers of the layers' calls in which it runs, outermost first.
    shape
        Shape of its result, with N.
    """

    name: str
    inputs: tuple[int, ...]
    calls: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass
class Call:
    """One run of a layer.

    Attributes
    ----------
    name
        Name of the layer as in ``model.named_modules()``; ``""`` is the network itself.
    module
        The layer.
    calls
        Numbers of the calls around it, outermost first, and its own.
    shape
        Shape of its output without N; of the first tensor if it returns several.
    reach
        What each element of its output depends on; None if it does not depend on the image; an
        exception that says why if that could not be followed.
    macs
        Half of the operations that torch's counter finds in it: convolutions and matrix products.
    memory
        Bytes of all floating-point tensors made in it. Views and work in place take none.
    """

    name: str
    module: nn.Module = field(repr=False)
    calls: tuple[int, ...]
    shape: tuple[int, ...] = ()
    reach: Reach | Untraceable | None = field(default=None, repr=False)
    macs: int = 0
    memory: int = 0

    @property
    def channels_last(self) -> bool:
        """Whether the output is ``(N, H, W, C)``: its first dimension moves over the image."""
        return (
            isinstance(self.reach, Reach)
            and len(self.reach.dims) == 4
            and any(part.axis is not None for part in self.reach.dims[1])
        )


@dataclass(frozen=True)
class Block:
    """A node of the network's graph: a layer, or a function that joins several paths.

    Attributes
    ----------
    name
        Name of the layer; ``""`` for a function.
    kind
        Class of the layer, or torch's name of the function, for example ``"add"`` or ``"cat"``.
    shape
        Shape of the output without N.
    inputs
        Numbers of the blocks it reads; :data:`~cnnbook.analysis.trace.IMAGE` is the
        network's input.
    call
        The layer's call, None for a function.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    inputs: tuple[int, ...]
    call: Call | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Trace:
    """What one run of a network computed.

    Attributes
    ----------
    input_shape
        Shape of the image, ``(C, H, W)``.
    calls
        All runs of layers in the order in which they began; the first is the network's own.
    operations
        All operations that depend on the image, in the order in which they ran.

    Examples
    --------
    A block of a residual network reads two others, the last convolution and the shortcut:

    >>> from cnnbook.models import create
    >>> found = trace(create("resnet20"), (3, 32, 32))
    >>> block = next(b for b in found.blocks(depth=3) if b.kind == "add")
    >>> len(block.inputs), block.shape
    (2, (16, 32, 32))
    """

    input_shape: tuple[int, ...]
    calls: tuple[Call, ...] = field(repr=False)
    operations: tuple[Operation, ...] = field(repr=False)

    def layers(self, depth: int) -> list[int]:
        """Return the numbers of the calls `depth` levels below the network.

        Layers that call no others are taken at the level where they are. A container that is
        never called itself, like ``nn.ModuleList``, is no level.

        Raises
        ------
        ValueError
            If `depth` is not positive.
        """
        if depth < 1:
            raise ValueError(f"depth must be at least 1, got {depth}")
        inner = {call.calls[-2] for call in self.calls if len(call.calls) > 1}
        return [
            number
            for number, call in enumerate(self.calls)
            if len(call.calls) - 1 == depth or (len(call.calls) - 1 < depth and number not in inner)
        ]

    def blocks(self, depth: int = 1) -> list[Block]:
        """Return the network's graph, with the layers at a depth as its nodes.

        Functions between the layers are nodes where they join several paths, like the addition
        of a shortcut; others, like a ReLU or ``flatten``, are passed over, and so are layers
        that compute nothing, like ``nn.Identity``.

        Parameters
        ----------
        depth
            As for :func:`summary`.

        Returns
        -------
        list of Block
            In the order in which they run.

        Raises
        ------
        ValueError
            If `depth` is not positive.
        """
        chosen = set(self.layers(depth))
        nodes: list[tuple[int | None, Operation]] = []
        reads: list[list[int]] = []
        node_of_call: dict[int, int] = {}
        node_of = {IMAGE: IMAGE}  # by the number of the operation
        for number, operation in enumerate(self.operations):
            owner = next((call for call in operation.calls if call in chosen), None)
            sources = list(dict.fromkeys(node_of[i] for i in operation.inputs))
            if owner in node_of_call:
                node = node_of_call[owner]
            elif owner is None and len(sources) == 1:
                node_of[number] = sources[0]
                continue
            else:
                node = len(nodes)
                nodes.append((owner, operation))
                reads.append([])
                if owner is not None:
                    node_of_call[owner] = node
            node_of[number] = node
            reads[node] += [s for s in sources if s != node and s not in reads[node]]

        blocks = []
        for (owner, operation), read in zip(nodes, reads, strict=True):
            if owner is None:
                block = Block("", operation.name, operation.shape[1:], tuple(read))
            else:
                call = self.calls[owner]
                block = Block(call.name, type(call.module).__name__, call.shape, tuple(read), call)
            blocks.append(block)
        return blocks


def trace(model: nn.Module, input_shape: Sequence[int]) -> Trace:
    """Run a network once and record what depends on what.

    The run is in evaluation mode and without gradients. It is made with tensors that have shapes
    but no values (torch's "meta" device), so that the largest networks cost nothing; a network
    that needs values on its way, or makes tensors on a device of its own choice, is run on zeros
    instead.

    Parameters
    ----------
    model
        Any network; left unchanged. Its parameters may be on the meta device.
    input_shape
        Shape of one input, ``(C, H, W)``; any number of spatial dimensions.

    Returns
    -------
    Trace

    Raises
    ------
    ValueError
        If the shape is not made of positive whole numbers.

    Examples
    --------
    Nothing is computed with numbers, so that the size of VGG-16 costs neither time nor memory:

    >>> from cnnbook.models import create
    >>> with torch.device("meta"):  # shapes without values
    ...     net = create("vgg16")
    >>> whole = trace(net, (3, 224, 224)).calls[0]
    >>> f"{whole.macs:,}", whole.shape
    ('15,470,264,320', (1000,))
    """
    shape = tuple(input_shape)
    if not shape or not all(isinstance(size, int) and size > 0 for size in shape):
        raise ValueError(
            f"input_shape must be the shape of one image, (C, H, W), all positive, got {shape}"
        )
    floats = (p.dtype for p in model.parameters() if p.is_floating_point())
    dtype = next(floats, torch.get_default_dtype())
    with evaluation(model), torch.no_grad():
        try:
            with _without_values(model), torch.device("meta"):
                return _record(model, torch.empty(1, *shape, dtype=dtype))
        except Exception:  # whatever a network does with values that are not there
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
    """Put meta tensors in the place of a model's parameters and buffers while the block runs."""
    places = [
        (store, name, value)
        for module in model.modules()
        for store in (module._parameters, module._buffers)
        for name, value in store.items()
        if value is not None
    ]
    # Not torch.func.functional_call: it mixes up the weights of a layer that has two names.
    meta = {id(value): torch.empty_like(value, device="meta") for _, _, value in places}
    try:
        for store, name, value in places:
            store[name] = meta[id(value)]
        yield
    finally:
        for store, name, value in places:
            store[name] = value


@contextlib.contextmanager
def _boundaries(model: nn.Module, recorder: "_Recorder") -> Iterator[None]:
    """Tell the recorder when layers begin and end, as long as the block runs."""
    with contextlib.ExitStack() as stack:
        for name, module in model.named_modules():

            def begin(module, _inputs, name=name):
                recorder.begin(name, module)

            def end(_module, _inputs, output):
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
    """Sees every operation of a run."""

    def __init__(self, x: Tensor):
        super().__init__()
        self.calls: list[Call] = []
        self.operations: list[Operation] = []
        self.stack: list[int] = []
        self.known = {id(x): _Known(x, IMAGE, image(x.shape))}
        # By memory: the last operation that changed, in place, what its values depend on.
        self.written: dict[int, int] = {}

    def begin(self, name: str, module: nn.Module) -> None:
        """Note that a layer starts to run."""
        self.stack.append(len(self.calls))
        self.calls.append(Call(name, module, tuple(self.stack)))

    def end(self, output: object) -> None:
        """Note what the layer that began last returns."""
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
        """Return the reach of a tensor, None if it does not depend on the image, or raise Untraceable."""
        known = self.find(tensor)
        if known is None:
            return None
        if isinstance(known.reach, Untraceable):
            raise known.reach
        return known.reach

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Run an operation, and note what it reads and makes."""
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
        if makers and outputs and name_of(operation) not in FACTORIES:
            number = len(self.operations)
            shape = tuple(outputs[0].shape)
            self.operations.append(Operation(name_of(operation), makers, tuple(self.stack), shape))
            if outputs[0].is_floating_point() and _memory(outputs[0]) not in map(_memory, read):
                self.add("memory", outputs[0].nbytes)
            self.follow(operation, arguments, number, read, outputs)
        return result

    def add(self, what: str, amount: int) -> None:
        """Add to a number of every layer that is running."""
        for call in self.stack:
            setattr(self.calls[call], what, getattr(self.calls[call], what) + amount)

    def follow(self, operation, arguments, number: int, read, outputs) -> None:
        """Work out what the outputs of an operation depend on."""
        shapes = [tuple(out.shape) for out in outputs]
        try:
            reaches = propagate(operation, arguments, self.find_reach, shapes)
        except Untraceable as lost:
            reaches = [lost] * len(outputs)
        except Exception:  # called in a way of which this package does not know
            lost = Untraceable(
                f"torch's operation {name_of(operation)!r} is used in an unknown way"
            )
            reaches = [lost] * len(outputs)
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
    return tensor.untyped_storage()._cdata
