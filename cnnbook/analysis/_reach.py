"""What every operation of a network does to receptive fields.

A :class:`Reach` says, for each element of a tensor, which box of the input image it depends on.
Each dimension of the tensor is made of parts; a part either moves the box, by `step` pixels along
one axis of the image, or leaves it where it is. This bookkeeping survives views, permutations and
channels-last layers, because reshaping a tensor only regroups the parts of its dimensions.

What cannot be expressed this way raises :class:`Untraceable`: there is never a wrong number.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Untraceable(Exception):
    """The receptive field cannot be followed; the message says why."""


class Part(NamedTuple):
    """A factor of a dimension: the next index moves the box `step` pixels along `axis`."""

    length: int
    axis: int | None = None  # None: all indices share one box
    step: int = 0


class Span(NamedTuple):
    """First and last pixel along one axis, of the element whose indices are all zero."""

    first: int
    last: int


Dim = tuple[Part, ...]


class Reach(NamedTuple):
    """Boxes of the input on which the elements of a tensor depend.

    Channels are not told apart: every element has the box of all channels at its place.
    """

    spans: tuple[Span, ...]  # one per axis of the image
    dims: tuple[Dim, ...]  # one per dimension of the tensor

    def moves(self, axis: int) -> bool:
        """Return whether elements differ in their extent along an axis."""
        return any(p.axis == axis and p.length > 1 for dim in self.dims for p in dim)

    def whole(self, axis: int) -> Span:
        """Return the extent of all elements together."""
        parts = [p for dim in self.dims for p in dim if p.axis == axis]
        first, last = self.spans[axis]
        return Span(first, last + sum((p.length - 1) * p.step for p in parts))

    def place(self, axis: int) -> tuple[int, int]:
        """Return how many places there are along an axis, and the step between them.

        Raises
        ------
        Untraceable
            If several dimensions move along the axis, as after cutting an image into windows.
        """
        parts = [p for dim in self.dims for p in dim if p.axis == axis]
        if len(parts) > 1:
            raise Untraceable("its positions are cut into windows")
        return (parts[0].length, parts[0].step) if parts else (1, 0)


def image(shape: Sequence[int]) -> Reach:
    """Return the reach of the network's input ``(N, C, *spatial)``: one pixel each."""
    spatial = tuple((Part(size, axis, 1),) for axis, size in enumerate(shape[2:]))
    return Reach((Span(0, 0),) * len(spatial), (*map(flat, shape[:2]), *spatial))


def flat(length: int) -> Dim:
    """Return a dimension along which nothing moves."""
    return (Part(length),) if length != 1 else ()


def length_of(dim: Dim) -> int:
    """Return the number of indices of a dimension."""
    return prod(p.length for p in dim)


def merged(parts: Sequence[Part]) -> list[Part]:
    """Join neighboring parts that together are one, so that equal dimensions look equal."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if last and last.axis == part.axis and last.step == part.length * part.step:
            out[-1] = Part(last.length * part.length, part.axis, part.step)
        else:
            out.append(part)
    return out


def reshape(reach: Reach, shape: Sequence[int]) -> Reach:
    """Regroup the parts of all dimensions to a new shape."""
    if tuple(map(length_of, reach.dims)) == tuple(shape):
        return reach
    left = merged([p for dim in reach.dims for p in dim if p.length != 1])[::-1]
    dims = []
    for size in shape:
        dim = []
        while size != 1:
            part = left.pop() if left else Part(0)
            if part.length and size % part.length == 0:
                dim.append(part)
                size //= part.length
            elif size and part.length % size == 0 and part.length:
                inner = part.length // size
                dim.append(Part(size, part.axis, part.step * inner))
                left.append(Part(inner, part.axis, part.step))
                size = 1
            else:
                raise Untraceable("a reshape mixes positions and channels")
        dims.append(tuple(merged(dim)))
    return Reach(reach.spans, tuple(dims))


def collapse(reach: Reach, over: Sequence[int]) -> Reach:
    """Let every element depend on all indices of some dimensions, as a sum over them does."""
    over = {d % len(reach.dims) for d in over}
    taken = Reach(reach.spans, tuple(reach.dims[d] for d in sorted(over)))
    spans = tuple(taken.whole(axis) for axis in range(len(reach.spans)))
    dims = tuple(flat(length_of(dim)) if d in over else dim for d, dim in enumerate(reach.dims))
    return Reach(spans, dims)


def window(
    reach: Reach, dim: int, kernel: int, stride: int, padding: int, dilation: int, length: int
) -> Reach:
    """Slide a window along a dimension, to `length` places."""
    parts = reach.dims[dim]
    moving = [p for p in parts if p.axis is not None]
    if not moving:
        return replace(reach, dim, flat(length))
    part = moving[0]
    along = [p for d in reach.dims for p in d if p.axis == part.axis]
    if len(parts) > 1 or len(along) > 1:
        raise Untraceable("a window slides over positions that a reshape has cut up")
    first, last = reach.spans[part.axis]
    first -= padding * part.step
    last += (dilation * (kernel - 1) - padding) * part.step
    spans = tuple(Span(first, last) if a == part.axis else s for a, s in enumerate(reach.spans))
    return replace(Reach(spans, reach.dims), dim, (Part(length, part.axis, part.step * stride),))


def replace(reach: Reach, dim: int, parts: Dim) -> Reach:
    """Return a reach with another dimension `dim`."""
    dims = list(reach.dims)
    dims[dim] = parts
    return Reach(reach.spans, tuple(dims))


def cut(reach: Reach, dim: int, first: int, step: int, length: int) -> Reach:
    """Keep every `step`-th index of a dimension from `first` on."""
    parts = reach.dims[dim]
    if (first, step, length) == (0, 1, length_of(parts)):
        return reach
    if all(p.axis is None for p in parts):
        return replace(reach, dim, flat(length))
    # A window of one pixel, moved by a negative padding.
    return window(reach, dim, 1, step, -first, 1, length)


def broadcast(reach: Reach, shape: Sequence[int]) -> Reach:
    """Repeat along new dimensions and those of length 1."""
    dims = ((),) * (len(shape) - len(reach.dims)) + reach.dims
    return Reach(
        reach.spans,
        tuple(
            flat(size) if length_of(dim) == 1 and size != 1 else dim
            for dim, size in zip(dims, shape, strict=True)
        ),
    )


def join(reaches: Sequence[Reach], shape: Sequence[int]) -> Reach:
    """Return the smallest boxes that hold those of all operands, element by element.

    Where one operand has the same box everywhere, as the gate of squeeze-and-excitation does, it
    must cover the others: otherwise the union does not move evenly.
    """
    reaches = [broadcast(reach, shape) for reach in reaches]
    spans, fixed = [], set()
    for axis in range(len(reaches[0].spans)):
        moving = [r for r in reaches if r.moves(axis)]
        still = [r for r in reaches if not r.moves(axis)]
        chosen = still or moving
        span = Span(
            min(r.spans[axis].first for r in chosen), max(r.spans[axis].last for r in chosen)
        )
        if moving and still:
            fixed.add(axis)
            for reach in moving:
                first, last = reach.whole(axis)
                if first < span.first or last > span.last:
                    raise Untraceable("paths with and without positions meet")
        spans.append(span)

    dims = []
    for versions, size in zip(zip(*(r.dims for r in reaches), strict=True), shape, strict=True):
        found = {
            tuple(merged([Part(p.length) if p.axis in fixed else p for p in dim]))
            for dim in versions
        }
        placed = {dim for dim in found if any(p.axis is not None for p in dim)}
        if len(placed) > 1 and size != 1:
            raise Untraceable("paths with different steps between positions meet")
        alike = len(found) == 1 or (len(placed) == 1 and size != 1)
        dims.append((placed or found).pop() if alike else flat(size))
    return Reach(tuple(spans), tuple(dims))


def product(a: Reach | None, b: Reach | None, shape: Sequence[int]) -> Reach:
    """Multiply matrices ``(…, n, k)`` and ``(…, k, m)``; None is a matrix of weights."""
    operands = []
    for reach, contracted in ((a, -1), (b, -2)):
        if reach is not None:
            summed = collapse(reach, [contracted])
            operands.append(replace(summed, contracted, ()))
    return join(operands, shape)


# ------------------------------------------------------------ torch's operations, by their names

# Elementwise operations carry a tag; these behave like them without one.
UNTAGGED = {"clone", "detach", "alias", "lift_fresh", "_to_copy", "expand", "native_dropout"}
UNTAGGED |= {"hardswish", "_prelu_kernel", "log_sigmoid_forward"}
# They take the shape of a tensor, not its values.
FACTORIES = {"empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like"}
FACTORIES |= {"new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided"}
VIEWS = {"view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze"}
PERMUTATIONS = {"permute", "transpose", "t"}
REDUCTIONS = {"mean", "sum", "amax", "amin", "prod", "var", "std", "max", "min", "logsumexp"}
REDUCTIONS |= {"var_mean", "std_mean", "linalg_vector_norm"}
SOFTMAXES = {"_softmax", "_log_softmax"}
BATCH_NORMS = {"native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm"}
BATCH_NORMS |= {"_native_batch_norm_legit", "_native_batch_norm_legit_no_training"}
# With the number of dimensions along which they work.
POOLS = {"avg_pool1d": 1, "avg_pool2d": 2, "avg_pool3d": 3}
POOLS |= {"max_pool2d_with_indices": 2, "max_pool3d_with_indices": 3}
ADAPTIVE_POOLS = {"_adaptive_avg_pool2d": 2, "_adaptive_avg_pool3d": 3}
ADAPTIVE_POOLS |= {"adaptive_max_pool2d": 2, "adaptive_max_pool3d": 3}
SLICES = {"slice", "select", "split", "split_with_sizes", "unbind"}
PRODUCTS = {"mm": ("self", "mat2"), "addmm": ("mat1", "mat2")}
PRODUCTS |= {"bmm": ("self", "mat2"), "baddbmm": ("batch1", "batch2")}


def propagate(
    operation: torch._ops.OpOverload,
    arguments: Mapping[str, Any],
    find: Callable[[Tensor], Reach | None],
    shapes: Sequence[tuple[int, ...]],
) -> list[Reach]:
    """Return the reach of every tensor that an operation returns.

    Parameters
    ----------
    operation
        The operation, as ``__torch_dispatch__`` receives it.
    arguments
        Its arguments by the names in its schema, with defaults.
    find
        Gives the reach of a tensor, None if it does not depend on the image; raises Untraceable.
    shapes
        Shapes of the tensors it returns.

    Returns
    -------
    list of Reach
        May be shorter than `shapes`: statistics that a normalization returns besides are left out.

    Raises
    ------
    Untraceable
        If the operation is unknown here, or moves boxes unevenly.
    """
    reaches = _propagate(operation, arguments, find, shapes)
    for reach, shape in zip(reaches, shapes, strict=False):
        if tuple(map(length_of, reach.dims)) != tuple(shape):
            raise Untraceable(
                f"torch's operation {name_of(operation)!r} returned an unexpected shape"
            )
    return reaches


def _propagate(operation, arguments, find, shapes) -> list[Reach]:
    name = name_of(operation)
    inputs = [r for r in map(find, tensors_in(arguments.values())) if r is not None]
    main = next(iter(arguments.values()))
    x = find(main) if isinstance(main, Tensor) else None

    if name == "copy":  # into a tensor, whose old values are gone
        source = find(arguments["src"])
        if source is None:
            raise Untraceable("a tensor was overwritten with constants")
        return [broadcast(source, shapes[0])]
    if torch.Tag.pointwise in operation.tags or name in UNTAGGED:
        return [join(inputs, shapes[0])]
    if name in PRODUCTS:
        a, b = (find(arguments[operand]) for operand in PRODUCTS[name])
        bias = [r for r in inputs if r not in (a, b)]
        return [join([product(a, b, shapes[0]), *bias], shapes[0])]
    if name in ("cat", "stack"):
        return [_concatenation(inputs, arguments["dim"], shapes[0], new=name == "stack")]
    if x is not None and len(inputs) == 1:
        if name in VIEWS:
            return [reshape(x, shapes[0])]
        if name in PERMUTATIONS:
            return [_permutation(x, name, arguments)]
        if name in SLICES:
            return _slices(x, name, arguments, shapes)
        if name == "convolution":
            return [_convolution(x, arguments, shapes[0])]
        if name in POOLS:
            return [_pool(x, POOLS[name], arguments, shapes[0])] * len(shapes)
        if name in ADAPTIVE_POOLS:
            return [_adaptive_pool(x, ADAPTIVE_POOLS[name], shapes[0])] * len(shapes)
        if name in REDUCTIONS:
            return [_reduction(x, arguments)] * len(shapes)
        if name in SOFTMAXES:
            return [collapse(x, [arguments["dim"]])]
        if name in BATCH_NORMS:
            over = [0, *range(2, len(x.dims))] if arguments.get("training", False) else []
            return [collapse(x, over)]
        if name == "native_layer_norm":
            over = range(-len(arguments["normalized_shape"]), 0)
            return [collapse(x, over)]
        if name == "native_group_norm":
            return [collapse(x, range(1, len(x.dims)))]
        if name == "constant_pad_nd":
            return [_padding(x, arguments["pad"], shapes[0])]
    return [_without_positions(name, inputs, shape) for shape in shapes]


def name_of(operation: torch._ops.OpOverload) -> str:
    """Return the name of an operation without its overload and the mark of working in place."""
    return operation.name().split("::")[1].split(".")[0].removesuffix("_")


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments, and in lists of tensors."""
    found = []
    for value in values:
        items = value if isinstance(value, list | tuple) else [value]
        found += [item for item in items if isinstance(item, Tensor)]
    return found


def _without_positions(name: str, inputs: Sequence[Reach], shape: Sequence[int]) -> Reach:
    """Return the reach after any operation on tensors whose elements all have the same box."""
    if any(r.moves(axis) for r in inputs for axis in range(len(r.spans))):
        raise Untraceable(f"torch's operation {name!r} moves positions in a way not followed")
    return join([Reach(r.spans, tuple(map(flat, shape))) for r in inputs], shape)


def _convolution(x: Reach, arguments: Mapping[str, Any], shape: Sequence[int]) -> Reach:
    if arguments["transposed"]:
        if all(not x.moves(axis) for axis in range(len(x.spans))):
            return _without_positions("convolution", [x], shape)
        raise Untraceable("a transposed convolution gives neighbors fields of different sizes")
    if any(p.axis is not None for p in x.dims[1]):
        if arguments["groups"] != 1:
            raise Untraceable("a grouped convolution sees some of the positions among its channels")
        x = collapse(x, [1])
    x = replace(x, 1, flat(shape[1]))
    return _windows(x, arguments["weight"].shape[2:], arguments, shape)


def _pool(x: Reach, n: int, arguments: Mapping[str, Any], shape: Sequence[int]) -> Reach:
    kernel = arguments["kernel_size"]
    kernel = [_item(kernel, i) for i in range(n)]
    return _windows(x, kernel, {**arguments, "stride": arguments["stride"] or kernel}, shape)


def _windows(
    x: Reach, kernel: Sequence[int], arguments: Mapping[str, Any], shape: Sequence[int]
) -> Reach:
    """Slide a window along the last dimensions, as many as the kernel has."""
    for i, size in enumerate(kernel):
        dim = len(shape) - len(kernel) + i
        numbers = [_item(arguments.get(k, 1), i) for k in ("stride", "padding", "dilation")]
        x = window(x, dim, size, *numbers, shape[dim])
    return x


def _item(value: int | Sequence[int], i: int) -> int:
    """Return entry `i` of a setting per dimension; a single entry is for all."""
    if isinstance(value, int):
        return value
    return value[i] if len(value) > 1 else value[0]


def _adaptive_pool(x: Reach, n: int, shape: Sequence[int]) -> Reach:
    for dim in range(len(shape) - n, len(shape)):
        length = length_of(x.dims[dim])
        if 1 in (length, shape[dim]):
            x = replace(collapse(x, [dim]), dim, flat(shape[dim]))
        elif length % shape[dim]:
            raise Untraceable(f"adaptive pooling from {length} to {shape[dim]} places is uneven")
        else:
            size = length // shape[dim]
            x = window(x, dim, size, size, 0, 1, shape[dim])
    return x


def _reduction(x: Reach, arguments: Mapping[str, Any]) -> Reach:
    over = arguments.get("dim")
    over = [over] if isinstance(over, int) else (over or range(len(x.dims)))
    x = collapse(x, over)
    over = {d % len(x.dims) for d in over}
    if arguments.get("keepdim", False):
        return Reach(x.spans, tuple(() if d in over else dim for d, dim in enumerate(x.dims)))
    return Reach(x.spans, tuple(dim for d, dim in enumerate(x.dims) if d not in over))


def _permutation(x: Reach, name: str, arguments: Mapping[str, Any]) -> Reach:
    order = list(range(len(x.dims)))
    if name == "permute":
        order = [order[d] for d in arguments["dims"]]
    elif len(order) > 1:
        a, b = (arguments["dim0"], arguments["dim1"]) if name == "transpose" else (0, 1)
        order[a], order[b] = order[b], order[a]
    return Reach(x.spans, tuple(x.dims[d] for d in order))


def _slices(
    x: Reach, name: str, arguments: Mapping[str, Any], shapes: Sequence[tuple[int, ...]]
) -> list[Reach]:
    dim = arguments["dim"] % len(x.dims)
    length = length_of(x.dims[dim])
    if name in ("select", "unbind"):
        first = arguments["index"] % length if name == "select" else 0
        found = [cut(x, dim, first + i, 1, 1) for i in range(len(shapes))]
        return [Reach(r.spans, r.dims[:dim] + r.dims[dim + 1 :]) for r in found]
    first, step = 0, 1
    if name == "slice":
        first = range(length)[slice(arguments["start"], None)]
        first, step = (first[0] if len(first) else length), arguments["step"]
    found = []
    for shape in shapes:
        found.append(cut(x, dim, first, step, shape[dim]))
        first += shape[dim]
    return found


def _padding(x: Reach, pad: Sequence[int], shape: Sequence[int]) -> Reach:
    for i, before in enumerate(pad[::2]):
        dim = len(shape) - 1 - i
        if (before, pad[2 * i + 1]) != (0, 0):
            x = window(x, dim, 1, 1, before, 1, shape[dim])
    return x


def _concatenation(inputs: Sequence[Reach], dim: int, shape: Sequence[int], *, new: bool) -> Reach:
    dim %= len(shape)
    aligned = []
    for r in inputs:
        dims = (*r.dims[:dim], (), *r.dims[dim:]) if new else r.dims
        if any(p.axis is not None and p.length > 1 for p in dims[dim]):
            raise Untraceable("tensors are joined along a dimension of positions")
        aligned.append(replace(Reach(r.spans, dims), dim, flat(shape[dim])))
    return join(aligned, shape)
