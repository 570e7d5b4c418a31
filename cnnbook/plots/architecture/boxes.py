"""What a flowchart shows of a network: one box for each operation, with its label."""

from dataclasses import dataclass, field
from math import prod

from torch import nn

from cnnbook.analysis import Trace
from cnnbook.analysis.graph import IMAGE, Call, Operation
from cnnbook.plots.style import COLORS, INK

# What boxes show, in the order of the legend. 1×1 convolutions have a color of their own: in an
# Inception module or a bottleneck, they are the idea.
KIND_COLORS = {
    "convolution": COLORS[0],
    "1×1 convolution": COLORS[3],
    "pooling": COLORS[1],
    "fully connected": COLORS[2],
    "other": COLORS[5],
}
JOINS = {"add": "+", "mul": "×", "sub": "−", "div": "÷"}
ACTIVATIONS = {
    **{"relu": "ReLU", "threshold": "ReLU", "sigmoid": "sigmoid", "tanh": "tanh"},
    **{"gelu": "GELU", "silu": "SiLU", "hardswish": "hardswish", "hardtanh": "ReLU6"},
    **{"hardsigmoid": "hardsigmoid", "leaky_relu": "leaky ReLU", "elu": "ELU"},
}
NORMS = (
    (nn.modules.batchnorm._BatchNorm, "batch norm"),
    (nn.GroupNorm, "group norm"),
    (nn.LayerNorm, "layer norm"),
)


@dataclass
class Box:
    """What is drawn for one operation. Inputs are numbers of boxes; box 0 is the input."""

    kind: str  # a key of KIND_COLORS, or "input", "join" or "concat"
    label: str
    shape: tuple[int, ...]
    inputs: list[int]
    group: str = ""  # the layer of the network in which it runs
    parameters: int = 0
    short: str = ""  # the label in a drawing with little room
    notes: list[str] = field(default_factory=list)  # normalization, which is part of the box
    activation: str = ""  # what follows, written beside the arrow
    reshaped: list[int] = field(default_factory=list)  # inputs that change their shape on the way
    shown: bool = False  # whether its shape is written beside the arrow
    # Where it is drawn, from top to bottom, and in which of several parallel paths.
    rank: int = 0
    lane: float = 0.0
    lanes: int = 1
    x: float = 0.0  # center, in inches, like all lengths
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    @property
    def color(self) -> str:
        """Of the box."""
        return KIND_COLORS.get(self.kind, INK)

    @property
    def size(self) -> str:
        """Its result's shape, as text."""
        return "×".join(map(str, self.shape))


def boxes_of(found: Trace) -> list[Box]:
    """Return the boxes of a network, the input first.

    A normalization belongs to the box before, an activation to the arrow behind it; dropout and
    other operations that keep the shape are left out.
    """
    inner = {call.calls[-2] for call in found.calls if len(call.calls) > 1}
    boxes = [Box("input", "input", found.input_shape, [])]
    box_of = {IMAGE: 0}  # by the number of the operation
    box_of_call: dict[int, int] = {}
    drawn: set[int] = set()  # layers that have a box of their own
    readers = _readers(found)
    for number, operation in enumerate(found.operations):
        leaf = next((c for c in operation.calls if c not in inner), None)
        reads = list(dict.fromkeys(box_of[i] for i in operation.inputs))
        if leaf in box_of_call:
            own = box_of[number] = box_of_call[leaf]
            if own in drawn:  # and not part of the box before
                boxes[own].inputs += [i for i in reads if i < own and i not in boxes[own].inputs]
            continue
        only = len(operation.inputs) == 1 and readers[operation.inputs[0]] == 1
        call = None if leaf is None else found.calls[leaf]
        box = _box(found, operation, call, boxes[reads[0]])
        if box is not None and (box.kind in ("activation", "norm")) and reads[0] and only:
            before = boxes[reads[0]]
            if box.kind == "activation" and not before.activation:
                before.activation, box = box.label, None
            elif box.kind == "norm" and not before.activation:
                before.notes.append(box.label)
                box = None
        if box is None:
            box_of[number] = reads[0]
        else:
            if box.kind in ("activation", "norm"):
                box.kind = "other"
            box.inputs, box.group = reads, _group(found, operation)
            if call is not None:
                drawn.add(len(boxes))
                box.parameters = sum(p.numel() for p in call.module.parameters())
            box_of[number] = len(boxes)
            boxes.append(box)
        if leaf is not None:
            box_of_call[leaf] = box_of[number]
    return boxes


def _readers(found: Trace) -> dict[int, int]:
    """Return how many operations read each one's result; what autograd adds does not count."""
    readers = dict.fromkeys(range(IMAGE, len(found.operations)), 0)
    for operation in found.operations:
        if operation.name != "detach":
            for i in operation.inputs:
                readers[i] += 1
    return readers


def _group(found: Trace, operation: Operation) -> str:
    return found.calls[operation.calls[1]].name if len(operation.calls) > 1 else ""


def _box(found: Trace, operation: Operation, call: Call | None, before: Box) -> Box | None:
    """Return the box of a layer or an operation, None if it is not worth one."""
    if call is not None:
        return _box_of_layer(found, operation, call, before)
    shape = operation.shape[1:]
    if len(operation.inputs) > 1:
        if operation.name == "cat":
            return Box("concat", "concat", shape, [])
        return Box("join", JOINS.get(operation.name, operation.name), shape, [])
    if operation.name in ACTIVATIONS:
        return Box("activation", ACTIVATIONS[operation.name], shape, [])
    if operation.role == "mean" and set(shape[1:]) <= {1}:
        return Box("pooling", "global avg pool", shape, [])
    if operation.role == "convolution":
        return Box("convolution", f"conv, {shape[0]}", shape, [])
    if operation.role == "fully connected":
        return Box("fully connected", f"fc, {shape[-1]}", shape, [])
    if operation.role == "pooling":
        label = "avg pool" if "avg" in operation.name else "max pool"
        return Box("pooling", f"global {label}" if set(shape[1:]) == {1} else label, shape, [])
    if operation.role == "view" or shape == before.shape:
        return _flatten(before, shape)
    return Box("other", operation.name, shape, [])


def _flatten(before: Box, shape: tuple[int, ...]) -> Box | None:
    if len(shape) == 1 and prod(before.shape[1:]) > 1:
        return Box("other", "flatten", shape, [])
    return None


def _box_of_layer(found: Trace, operation: Operation, call: Call, before: Box) -> Box | None:
    layer, shape, roles = call.module, call.shape, found.roles(call)
    for kind, name in NORMS:
        if isinstance(layer, kind):
            return Box("norm", name, shape, [])
    if "ResponseNorm" in type(layer).__name__:
        return Box("other", "response norm", shape, [], short="LRN")
    if isinstance(layer, nn.modules.dropout._DropoutNd):
        return None
    kernel = getattr(layer, "kernel_size", None)
    if kernel is not None:
        sides = (kernel,) * (len(shape) - 1) if isinstance(kernel, int) else tuple(kernel)
        window = "×".join(map(str, sides))
        stride = layer.stride if isinstance(layer.stride, int) else max(layer.stride)
        step = f", /{stride}" if stride > 1 else ""
        if "convolution" in roles:
            kind = "1×1 convolution" if set(sides) == {1} else "convolution"
            groups = f", {layer.groups} groups" if layer.groups > 1 else ""
            label = f"{window} conv, {shape[0]}{groups}{step}"
            return Box(kind, label, shape, [], short=f"{window} {shape[0]}")
        what = "avg pool" if "avg" in type(layer).__name__.lower() else "max pool"
        return Box("pooling", f"{window} {what}{step}", shape, [], short=f"{window} pool")
    if "fully connected" in roles:
        return Box("fully connected", f"fc, {shape[-1]}", shape, [])
    if operation.name in ACTIVATIONS and shape == before.shape:
        return Box("activation", ACTIVATIONS[operation.name], shape, [])
    if roles & {"pooling", "mean"} and set(shape[1:]) <= {1}:
        return Box("pooling", "global avg pool", shape, [])
    if shape == before.shape:
        return None
    return _flatten(before, shape) or (
        None if roles <= {"view"} else Box("other", type(layer).__name__, shape, [])
    )
