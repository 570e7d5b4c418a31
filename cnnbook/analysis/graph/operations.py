"""Rules for torch's operations: one function for each operation, or for each family.

The function says what the result of an operation depends on, given what it reads; its role says how
drawings show it. An operation without a function is followed if torch tags it as elementwise. Any
other is :class:`Untraceable` as soon as it reads positions of the image.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from cnnbook._errors import unknown
from cnnbook.analysis.graph.reach import (
    Bounds,
    Part,
    Reach,
    Table,
    Untraceable,
    Which,
    join,
    per_dimension,
    product,
)

#: What an operation is in a drawing. A "view" computes nothing; a "mean" is pooling if it
#: leaves one position.
Role = Literal["convolution", "fully connected", "pooling", "mean", "view"]


class _OtherTensors(Exception):
    """More tensors depend on the image than an operation's function supports."""


class NeedsValues(Untraceable):
    """An operation that can be followed only in a run with values."""


@dataclass(frozen=True)
class OperationCall:
    """One call of an operation, as seen by the function that follows it.

    Attributes
    ----------
    name
        torch's name, for example ``"convolution"``; with the library's name if it is not torch's
        own, for example ``"mylib::blur"``.
    arguments
        All arguments, by their names in the operation's schema, defaults included. ``call["dim"]``
        is short for ``call.arguments["dim"]``.
    shapes
        Shapes of the tensors that it returns, then of those that it only writes to.
    find
        Returns the reach of a tensor, or None if it does not depend on the image.

    Examples
    --------
    An operation that drops the first columns of an image, called to drop two of eight:

    >>> image = Reach.of_image((1, 3, 8, 8))
    >>> arguments = {"x": torch.empty(1, 3, 8, 8), "count": 2}
    >>> call = OperationCall("mylib::drop", arguments, ((1, 3, 8, 6),), find=lambda _: image)
    >>> call.x.keep(3, first=call["count"], step=1, length=call.shape[3]).box(0, 0, 0, 0)[1]
    Span(first=2, last=2)
    """

    name: str
    arguments: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    find: Callable[[Tensor], Reach | None] = field(repr=False)

    def __getitem__(self, name: str) -> Any:
        """Return an argument by name."""
        if name not in self.arguments:
            raise unknown(f"argument of {self.name}", name, self.arguments)
        return self.arguments[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that it returns; of the first if there are several."""
        return self.shapes[0]

    @property
    def x(self) -> Reach:
        """Reach of the first argument, for operations that read one image.

        If another tensor depends on the image as well, as with weights that a network computes, the
        function ends here, and the result is followed only if no position matters.
        """
        first = next(iter(self.arguments.values()), None)
        reach = self.find(first) if isinstance(first, Tensor) else None
        if reach is None or len(self.inputs) > 1:
            raise _OtherTensors
        return reach

    @property
    def inputs(self) -> list[Reach]:
        """Reaches of all tensors it reads that depend on the image, in their order."""
        found = map(self.find, tensors_in(self.arguments.values()))
        return [reach for reach in found if reach is not None]

    def reach(self, argument: str) -> Reach | None:
        """Return the reach of one argument, or None if it does not depend on the image."""
        return self.find(self[argument])


# What a function returns: the reach of the result, or of each if there are several; None if the
# result does not depend on the image.
Result = Reach | Sequence[Reach] | None
Follow = Callable[[OperationCall], Result]
AnyFollow = TypeVar("AnyFollow", bound=Follow)


class _Known(NamedTuple):
    follow: Follow
    role: Role | None
    macs: Callable[[OperationCall], int] | None = None


_KNOWN: dict[str, _Known] = {}

# No function can follow these: which pixels they read depends on values.
_BY_VALUE = {"grid_sampler_2d", "grid_sampler_3d", "torchvision::deform_conv2d"}


def operation(
    *names: str, role: Role | None = None, macs: Callable[[OperationCall], int] | None = None
) -> Callable[[AnyFollow], AnyFollow]:
    """Decorate a function that teaches an operation to :func:`trace` and all that uses it.

    The function receives an :class:`OperationCall` and returns the :class:`Reach` of the result, or
    a list with one for each tensor if the operation returns several, or writes to some; None if the
    result does not depend on the values of the image. If that cannot be stated exactly, it raises
    :class:`Untraceable` with the reason.

    Parameters
    ----------
    *names
        Names of the operations, as in ``torch.ops``: ``"mylib::blur"``, or ``"cumsum"`` for one of
        torch's own. All overloads, and the in-place variant, share one name. For a name
        that is already known, the new function replaces the old one.
    role
        How drawings show a layer that is made of such an operation: ``"convolution"``, ``"fully
        connected"``, ``"pooling"``, ``"mean"`` (pooling if it leaves one position) or ``"view"``
        (not at all, since it computes nothing).
    macs
        Returns the multiply–adds of a call. Without it, those of another library's operation are
        taken to be none if it reads one tensor, and not known if it reads several.

    Returns
    -------
    Callable
        The decorator; it returns the function unchanged.

    Raises
    ------
    ValueError
        If there is no name, a name has an overload or a dot, or the role is unknown.
    TypeError
        If a name is not a string.

    Examples
    --------
    A blur defined by another library. A network that uses it can be run, but not yet followed:

    >>> import torch
    >>> from cnnbook import analysis
    >>> @torch.library.custom_op("mylib::blur", mutates_args=())
    ... def blur(x: torch.Tensor, size: int) -> torch.Tensor:
    ...     return torch.nn.functional.avg_pool2d(x, size, stride=1)
    >>> class Blur(torch.nn.Module):
    ...     def forward(self, x):
    ...         return torch.ops.mylib.blur(x, 5)
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), Blur())
    >>> analysis.receptive_field(net, (3, 32, 32), "1")  # doctest: +NORMALIZE_WHITESPACE
    Traceback (most recent call last):
        ...
    ValueError: the receptive field of layer '1' cannot be followed: nothing is known about the
    operation 'mylib::blur'; cnnbook.analysis.operation can add it

    One function says that it slides a window over height and width:

    >>> @analysis.operation("mylib::blur", role="pooling")
    ... def follow_blur(call: analysis.OperationCall) -> analysis.Reach:
    ...     return call.x.windows(call.shape, kernel=call["size"])
    >>> print(analysis.receptive_field(net, (3, 32, 32), "1"))
    1: 7×7 pixels, 26×26 units 1×1 pixels apart, the first from (0, 0)
    """
    if not names:
        raise ValueError("name at least one operation, for example operation('mylib::blur')")
    for name in names:
        _check_name(name)
    if role is not None and role not in get_args(Role):
        raise unknown("role", role, get_args(Role))

    def register(follow: AnyFollow) -> AnyFollow:
        _KNOWN.update((_base(name), _Known(follow, role, macs)) for name in names)
        return follow

    return register


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        known = isinstance(name, torch._ops.OpOverload | torch._ops.OpOverloadPacket)
        example = str(name).replace(".", "::", 1).split(".")[0] if known else "mylib::blur"
        raise TypeError(
            f"name operations by strings, as in operation({example!r}), got "
            f"{f'torch.ops.{name}' if known else name}"
        )
    if "." in name:
        library, _, rest = name.removeprefix("torch.ops.").partition(".")
        if "::" in name or hasattr(torch.ops.aten, library):
            raise ValueError(f"name operations without their overload, {name!r} as {_base(name)!r}")
        raise ValueError(
            f"name operations with two colons after the library, {name!r} as "
            f"'{library}::{rest.split('.')[0]}'"
        )


def name_of(operation: torch._ops.OpOverload) -> str:
    """Return the name under which an operation is registered here."""
    return _base(str(operation._schema.name))


def _base(name: str) -> str:
    """Return a name without its overload, its in-place underscore, and torch's own library."""
    return name.split(".")[0].removesuffix("_").removeprefix("aten::")


def is_known(name: str) -> bool:
    """Return whether there is a function for an operation."""
    return name in _KNOWN


def role_of(name: str) -> Role | None:
    """Return the role of an operation in drawings, None if it has none."""
    return _KNOWN[name].role if name in _KNOWN else None


def tensors_in(values: Iterable[Any]) -> list[Tensor]:
    """Return the tensors among arguments, and in lists of tensors."""
    found: list[Tensor] = []
    for value in values:
        items = value if isinstance(value, list | tuple) else [value]
        found += [item for item in items if isinstance(item, Tensor)]
    return found


def propagate(call: OperationCall, *, elementwise: bool) -> list[Reach] | None:
    """Return what the tensors that an operation returns depend on.

    Parameters
    ----------
    call
        The operation, with what it reads.
    elementwise
        Whether torch tags it as elementwise; this decides if it is not registered.

    Returns
    -------
    list of Reach or None
        None if they do not depend on the image. May be shorter than ``call.shapes``: additional
        statistics that a normalization returns are left out.

    Raises
    ------
    Untraceable
        If the operation is unknown here, or shifts boxes unevenly.
    """
    follow: Follow = _same_position if elementwise else _without_positions
    if call.name in _KNOWN:
        follow = _KNOWN[call.name].follow
    given = f"the function given to analysis.operation for {call.name!r}"
    try:
        found = follow(call)
    except _OtherTensors:
        found = _without_positions(call)
    except Untraceable:
        raise
    except Exception as error:
        if getattr(follow, "__module__", None) == __name__:
            raise
        raise Untraceable(f"{given} failed: {type(error).__name__}: {error}") from error
    if found is None:
        return None
    reaches = found if isinstance(found, list | tuple) else [found]
    if not all(isinstance(reach, Reach) for reach in reaches):
        raise Untraceable(f"{given} returned {found!r}; return a Reach, or one for each result")
    for reach, shape in zip(reaches, call.shapes, strict=False):
        if reach.shape != tuple(shape):
            raise Untraceable(
                f"the operation {call.name!r} returns the shape {tuple(shape)}, where "
                f"{reach.shape} was expected"
            )
    return list(reaches)


# ---------------------------------------------------------------- multiply–adds

# What torch's own counter leaves out.
_COUNTED: dict[str, Callable[[Mapping[str, Any], tuple[int, ...]], int]] = {
    "mv": lambda given, out: given["self"].numel(),
    "addmv": lambda given, out: given["mat"].numel(),
    "dot": lambda given, out: given["self"].numel(),
    "vdot": lambda given, out: given["self"].numel(),
    "addr": lambda given, out: prod(out),
    "addbmm": lambda given, out: given["batch1"].numel() * out[-1],
    "_int_mm": lambda given, out: given["self"].numel() * out[-1],
    "_scaled_dot_product_flash_attention_for_cpu": lambda given, out: _attention_macs(given),
    "_scaled_dot_product_fused_attention_overrideable": lambda given, out: _attention_macs(given),
    # Of nn.Bilinear: the weights with the first input, what that gives with the second.
    "_trilinear": lambda given, out: (
        prod(out[:-1]) * (given["i2"].numel() + given["i2"].numel() // given["i2"].shape[1])
    ),
    # Distances: torch chooses by their number whether to compute them by a product of matrices.
    "_euclidean_dist": lambda given, out: prod(out) * given["x1"].shape[-1],
    "_cdist_forward": lambda given, out: (
        prod(out) * given["x1"].shape[-1] if given["p"] == 2 else 0
    ),
    "torchvision::deform_conv2d": lambda given, out: prod(out) * given["weight"][0].numel(),
}

# A product of complex numbers takes as many real ones: torch runs a complex convolution as three
# real ones, and that is all that is seen of it.
_REAL_PRODUCTS = 3

# Names of operations that multiply matrices.
_PRODUCTS = re.compile(
    r"(^|_)(\w*mm|conv\w*|linear|lstm|gru|rnn\w*|attention|matmul|einsum|bilinear)(_|\d|$)"
)
_NO_PRODUCTS = re.compile(r"upsample|im2col|col2im|conj|thnn_fused|torchvision::(nms|roi_|ps_roi_)")


def count_macs(
    operation: torch._ops.OpOverload,
    arguments: Mapping[str, Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    result: Any,
) -> int | None:
    """Return the multiply–adds of convolutions and matrix products; None if not known.

    These are half the floating-point operations that torch's counter reports, where it knows the
    operation; three times as many for complex numbers.
    """
    name = name_of(operation)
    registered = _KNOWN[name].macs if name in _KNOWN else None
    outputs = tensors_in([result])
    shapes = tuple(tuple(out.shape) for out in outputs)
    if registered is not None:
        return registered(OperationCall(name, arguments, shapes, lambda _: None))
    # It imports triton, which nobody else here needs.
    from torch.utils.flop_counter import flop_registry

    each = _REAL_PRODUCTS if any(out.is_complex() for out in outputs) else 1
    counter = flop_registry.get(operation.overloadpacket)
    if counter is not None:
        return each * int(counter(*args, **kwargs, out_val=result)) // 2
    if name in _COUNTED:
        return each * int(_COUNTED[name](arguments, shapes[0]))
    if _NO_PRODUCTS.search(name):
        return 0
    if "::" in name:
        packed = any(isinstance(value, torch.ScriptObject) for value in arguments.values())
        if packed or len(tensors_in(arguments.values())) > 1:
            return None
    return None if _PRODUCTS.search(name.split("::")[-1]) else 0


def _attention_macs(given: Mapping[str, Any]) -> int:
    query, key, value = given["query"], given["key"], given["value"]
    sides: int = query.shape[-1] + value.shape[-1]
    return int(prod(query.shape[:-1]) * key.shape[-2]) * sides


def _without_positions(call: OperationCall) -> Result:
    """Follow any operation on tensors whose elements all have the same box."""
    inputs = call.inputs
    if any(r.varies(axis) for r in inputs for axis in range(len(r.tables))):
        if call.name in _KNOWN:
            raise Untraceable(
                f"the operation {call.name!r} reads several tensors that depend on the image"
            )
        if call.name in _BY_VALUE:
            raise Untraceable(f"which pixels the operation {call.name!r} reads depends on values")
        raise Untraceable(
            f"nothing is known about the operation {call.name!r}; cnnbook.analysis.operation can "
            "add it"
        )
    if not inputs:
        return None
    return [join([_everywhere(r, shape) for r in inputs], shape) for shape in call.shapes]


def _everywhere(reach: Reach, shape: Sequence[int]) -> Reach:
    """Return the reach of a tensor each of whose elements depends on the whole of another."""
    reach = reach.reduce(range(len(reach.shape)))
    tables = tuple(
        Table(
            t.first.reshape((1,) * len(shape)), t.last.reshape((1,) * len(shape)), (0,) * len(shape)
        )
        for t in reach.tables
    )
    return Reach(tuple(shape), tables, None)


# ---------------------------------------------------------------- torch's own operations


# Most elementwise operations carry a tag; these do not.
@operation("detach", "alias", "lift_fresh", "_to_copy", "expand", "native_dropout")
@operation("hardswish", "_prelu_kernel", "log_sigmoid_forward", "rrelu_with_noise")
@operation("tril", "triu", "_conj", "resolve_conj", "resolve_neg", "real", "imag")
@operation("clone", role="view")
def _same_position(call: OperationCall) -> Result:
    return join(call.inputs, call.shape)


@operation("empty_like", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like")
@operation("new_empty", "new_zeros", "new_ones", "new_full", "new_empty_strided")
def _new_tensor(call: OperationCall) -> Result:
    return None  # it has the shape of another, not its values


@operation("copy")
def _overwrite(call: OperationCall) -> Result:
    source = call.reach("src")
    if source is None:
        raise Untraceable("a tensor was overwritten with constants")
    return source.broadcast(call.shape)


@operation("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", role="view")
def _view(call: OperationCall) -> Result:
    return call.x.reshape(call.shape)


@operation("view_as_real", role="view")
def _view_as_real(call: OperationCall) -> Result:
    x = call.x
    return x.reshape((*x.shape, 1)).broadcast(call.shape)


@operation("view_as_complex", role="view")
def _view_as_complex(call: OperationCall) -> Result:
    return call.x.reduce([-1])


@operation("permute", role="view")
def _permute(call: OperationCall) -> Result:
    return call.x.permute(call["dims"])


@operation("transpose", "t", role="view")
def _transpose(call: OperationCall) -> Result:
    x = call.x
    order = list(range(len(x.shape)))
    if len(order) > 1:
        a, b = (0, 1) if call.name == "t" else (call["dim0"], call["dim1"])
        order[a], order[b] = order[b], order[a]
    return x.permute(order)


@operation("slice")
def _slice(call: OperationCall) -> Result:
    x, dim = call.x, call["dim"]
    kept = range(x.shape[dim])[slice(call["start"], None)]
    first = kept[0] if kept else kept.stop
    return x.keep(dim, first, call["step"], call.shape[dim])


@operation("select", "unbind")
def _select(call: OperationCall) -> Result:
    first = call["index"] if call.name == "select" else 0
    return [call.x.select(call["dim"], first + i) for i in range(len(call.shapes))]


@operation("split", "split_with_sizes", "unsafe_split", "unsafe_split_with_sizes")
def _split(call: OperationCall) -> Result:
    x, dim = call.x, call["dim"]
    found, first = [], 0
    for shape in call.shapes:
        found.append(x.keep(dim, first, 1, shape[dim]))
        first += shape[dim]
    return found


@operation("cat", "stack")
def _join_along_a_dimension(call: OperationCall) -> Result:
    dim = call["dim"] % len(call.shape)
    axes = len(call.inputs[0].tables)
    found = []
    for tensor in call["tensors"]:
        if tensor.shape == (0,):  # torch skips these, whatever the shape of the others
            continue
        reach = call.find(tensor) or Reach.of_nothing(tensor.shape, axes)
        if call.name == "stack":
            reach = reach.reshape((*reach.shape[:dim], 1, *reach.shape[dim:]))
        found.append(reach)
    if any(r.axes(dim) or any(t.varies(dim) for t in r.tables) for r in found):
        return _concatenated(found, dim)
    dependent = [r.with_length(dim, call.shape[dim]) for r in found]
    return join(dependent, call.shape)


def _concatenated(reaches: Sequence[Reach], dim: int) -> Reach:
    """Put positions one after the other along a dimension."""
    lengths = [r.shape[dim] for r in reaches]
    shape = list(reaches[0].shape)
    shape[dim] = sum(lengths)
    tables = []
    for versions in zip(*(r.tables for r in reaches), strict=True):
        others = np.broadcast_shapes(
            *((*t.first.shape[:dim], 1, *t.first.shape[dim + 1 :]) for t in versions)
        )
        firsts, lasts = (
            [
                np.broadcast_to(bounds, (*others[:dim], length, *others[dim + 1 :]))
                for bounds, length in zip(sides, lengths, strict=True)
            ]
            for sides in ([t.first for t in versions], [t.last for t in versions])
        )
        steps = (0,) * len(shape)
        tables.append(Table(np.concatenate(firsts, dim), np.concatenate(lasts, dim), steps))
    axes = set().union(*(r.axes(dim) for r in reaches))
    layout = None
    if all(r.layout is not None for r in reaches):
        moving = next((r for r in reaches if r.axes(dim)), reaches[0])
        assert moving.layout is not None
        part = Part(shape[dim], *axes) if len(axes) == 1 else Part(shape[dim])
        layout = (*moving.layout[:dim], (part,), *moving.layout[dim + 1 :])
    return Reach(tuple(shape), tuple(tables), layout).mix([])


@operation("repeat")
def _repeat(call: OperationCall) -> Result:
    x = call.x
    new = len(call.shape) - len(x.shape)
    x = x.reshape((*(1,) * new, *x.shape))
    for dim, length in enumerate(call.shape):
        if length != x.shape[dim]:
            x = x.gather(dim, (np.arange(length) % max(1, x.shape[dim]))[:, None])
    return x


@operation("roll")
def _roll(call: OperationCall) -> Result:
    x = call.x
    dims, shifts = call["dims"], call["shifts"]
    if not dims:  # of all elements in their order
        x, dims = x.reshape((np.prod(x.shape, dtype=int),)), [0]
    for dim, shift in zip(dims, shifts, strict=True):
        length = x.shape[dim]
        x = x.gather(dim, ((np.arange(length) - shift) % max(1, length))[:, None])
    return x.reshape(call.shape)


@operation("flip")
def _flip(call: OperationCall) -> Result:
    x = call.x
    for dim in call["dims"]:
        x = _reversed(x, dim)
    return x


def _reversed(x: Reach, dim: int) -> Reach:
    return x.gather(dim, np.arange(x.shape[dim])[::-1, None])


@operation("rot90")
def _rot90(call: OperationCall) -> Result:
    x, (a, b) = call.x, call["dims"]
    order = list(range(len(x.shape)))
    order[a], order[b] = order[b], order[a]
    for _ in range(call["k"] % 4):
        x = _reversed(x, b).permute(order)
    return x


@operation("diagonal")
def _diagonal(call: OperationCall) -> Result:
    x, offset = call.x, call["offset"]
    a, b = call["dim1"] % len(x.shape), call["dim2"] % len(x.shape)
    kept = [d for d in range(len(x.shape)) if d not in (a, b)]
    rows, columns = x.shape[a], x.shape[b]
    x = x.permute([*kept, a, b])
    x = x.reshape((*x.shape[:-2], rows * columns))
    i = np.arange(call.shape[-1])
    return x.gather(-1, ((i + max(-offset, 0)) * columns + i + max(offset, 0))[:, None])


@operation("index_select")
def _index_select(call: OperationCall) -> Result:
    return call.x.gather(call["dim"], _values(call["index"])[:, None])


@operation("index")
def _index(call: OperationCall) -> Result:
    x, indices = call.x, call["indices"]
    given = [d for d, index in enumerate(indices) if index is not None]
    if len(given) != 1 or indices[given[0]].dtype == torch.bool:
        raise Untraceable("positions are chosen by several indices, or by a mask")
    dim = given[0]
    index = _values(indices[dim]) % x.shape[dim]
    return x.gather(dim, index.reshape(-1, 1)).reshape(call.shape)


def _values(index: Tensor) -> Bounds:
    if index.is_meta:
        raise NeedsValues("positions are chosen by an index that has no values")
    values: Bounds = index.cpu().numpy().astype(np.int64)
    return values


@operation("constant_pad_nd")
def _pad(call: OperationCall) -> Result:
    x = call.x
    before, after = call["pad"][::2], call["pad"][1::2]
    # From the last dimension on.
    for i, (first, last) in enumerate(zip(before, after, strict=True)):
        dim = len(call.shape) - 1 - i
        if (first, last) != (0, 0):
            x = x.window(dim, 1, padding=first, end_padding=last, length=call.shape[dim])
    return x


@operation("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
@operation("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _pad_with_pixels(call: OperationCall) -> Result:
    x = call.x
    before, after = call["padding"][::2], call["padding"][1::2]
    for i, (first, last) in enumerate(zip(before, after, strict=True)):
        dim = len(call.shape) - 1 - i
        n = x.shape[dim]
        index = np.arange(-first, n + last)
        if call.name.startswith("reflection"):
            index = n - 1 - np.abs(n - 1 - np.abs(index))
        x = x.gather(dim, np.clip(index, 0, n - 1)[:, None])
    return x


@operation("convolution", role="convolution")
def _convolution(call: OperationCall) -> Result:
    kernel, groups = call["weight"].shape[2:], call["groups"]
    x = _mixed_channels(call.x, call.shape[1], groups)
    if not call["transposed"]:
        return x.windows(
            call.shape,
            kernel,
            stride=call["stride"],
            padding=call["padding"],
            dilation=call["dilation"],
        )
    n = len(kernel)
    settings = [per_dimension(call[s], n) for s in ("stride", "padding", "dilation")]
    for i, (size, stride, padding, dilation) in enumerate(zip(kernel, *settings, strict=True)):
        # Input i reaches the outputs i·stride − padding + tap·dilation.
        outputs = np.arange(call.shape[2 + i])[:, None]
        reached, rest = np.divmod(outputs + padding - dilation * np.arange(size), stride)
        x = x.gather(2 + i, reached, valid=rest == 0)
    return x


def _mixed_channels(x: Reach, channels: int, groups: int) -> Reach:
    """Let all new channels depend on all of the old, or on those of their group."""
    if groups == 1 or not any(table.varies(1) for table in x.tables):
        return x.with_length(1, channels)
    n, old, *positions = x.shape
    x = x.reshape((n, groups, old // groups, *positions)).with_length(2, channels // groups)
    return x.reshape((n, channels, *positions))


@operation("mm", "bmm", role="fully connected")
def _matrix_product(call: OperationCall) -> Result:
    return product(call.reach("self"), call.reach("mat2"), call.shape)


@operation("addmm", role="fully connected")
def _matrix_product_with_bias(call: OperationCall) -> Result:
    return _product_and_bias(call, "mat1", "mat2")


@operation("baddbmm", role="fully connected")
def _matrix_products_with_bias(call: OperationCall) -> Result:
    return _product_and_bias(call, "batch1", "batch2")


def _product_and_bias(call: OperationCall, first: str, second: str) -> Reach:
    a, b, bias = call.reach(first), call.reach(second), call.reach("self")
    found = [product(a, b, call.shape)] if a is not None or b is not None else []
    return join([*found, *([bias] if bias is not None else [])], call.shape)


@operation("mv", role="fully connected")
def _matrix_times_vector(call: OperationCall) -> Result:
    vector = call.reach("vec")
    column = None if vector is None else vector.reshape((*vector.shape, 1))
    return product(call.reach("self"), column, (*call.shape, 1)).reshape(call.shape)


@operation("dot", "vdot")
def _dot(call: OperationCall) -> Result:
    return join([r.reduce([0]) for r in call.inputs], ())


@operation("_trilinear", role="fully connected")
def _trilinear(call: OperationCall) -> Result:
    found = []
    full: tuple[int, ...] = ()
    for argument, expand in (("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")):
        shape = list(call[argument].shape)
        for dim in call[expand]:
            shape.insert(dim, 1)
        full = np.broadcast_shapes(full, tuple(shape))
        reach = call.reach(argument)
        if reach is not None:
            found.append(reach.reshape(shape))
    return join(found, full).reduce(call["sumdim"]).reshape(call.shape)


@operation("_scaled_dot_product_flash_attention", "_scaled_dot_product_efficient_attention")
@operation("_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_cudnn_attention")
@operation("_scaled_dot_product_fused_attention_overrideable", role="fully connected")
def _attention(call: OperationCall) -> Result:
    # Every query meets all keys, and takes something of all values.
    found = []
    for argument in ("query", "key", "value"):
        reach = call.reach(argument)
        if reach is None:
            continue
        reach = reach.with_length(-1, call.shape[-1])
        found.append(reach if argument == "query" else reach.with_length(-2, 1))
    return join(found, call.shape)


@operation("avg_pool1d", role="pooling")
def _pool1d(call: OperationCall) -> Result:
    return _pool(call, 1)


@operation("avg_pool2d", "max_pool2d_with_indices", role="pooling")
def _pool2d(call: OperationCall) -> Result:
    return _pool(call, 2)


@operation("avg_pool3d", "max_pool3d_with_indices", role="pooling")
def _pool3d(call: OperationCall) -> Result:
    return _pool(call, 3)


def _pool(call: OperationCall, n: int) -> list[Reach]:
    kernel = per_dimension(call["kernel_size"], n)
    dilation = call.arguments.get("dilation", 1)  # an average has none
    stride, padding = call["stride"] or kernel, call["padding"]
    found = call.x.windows(
        call.shape,
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        ceil_mode=call["ceil_mode"],
    )
    return [found] * len(call.shapes)  # of the largest value, and where it was


@operation("_adaptive_avg_pool2d", "adaptive_max_pool2d", role="pooling")
def _adaptive_pool2d(call: OperationCall) -> Result:
    return _adaptive_pool(call, 2)


@operation("_adaptive_avg_pool3d", "adaptive_max_pool3d", role="pooling")
def _adaptive_pool3d(call: OperationCall) -> Result:
    return _adaptive_pool(call, 3)


def _adaptive_pool(call: OperationCall, n: int) -> list[Reach]:
    x, shape = call.x, call.shape
    for dim in range(len(shape) - n, len(shape)):
        old, new = x.shape[dim], shape[dim]
        if new == 1:
            x = x.reduce([dim], keepdim=True)
        elif old != new:
            starts = np.arange(new) * old // new
            stops = -(-np.arange(1, new + 1) * old // new)
            x = x.gather(dim, *_taps(starts, stops), stride=old // new)
    return [x] * len(call.shapes)


def _taps(starts: Bounds, stops: Bounds) -> tuple[Bounds, Which]:
    """Return the positions of windows of different lengths, and which of them count."""
    taps = starts[:, None] + np.arange((stops - starts).max())
    return taps, taps < stops[:, None]


@operation("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
@operation("_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d")
@operation("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
@operation("upsample_bicubic2d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")
def _resize(call: OperationCall) -> Result:
    x, old, new = call.x, call.x.shape[2:], call.shape[2:]
    function = getattr(torch.ops.aten, call.name)
    settings = dict(call.arguments)
    for i, (length, size) in enumerate(zip(old, new, strict=True)):
        if not any(table.varies(2 + i) for table in x.tables):
            x = x.gather(2 + i, np.zeros((size, 1), dtype=np.int64))
            continue
        # What each old position alone becomes says on which of them a new one depends.
        # (Two columns, since torch's antialiased kernels are wrong for a single one.)
        ones = torch.eye(length, dtype=torch.float64, device="cpu")
        ones = ones.reshape(1, length, *(length if d == i else 1 for d in range(len(old))))
        twice = [length if d == i else 2 for d in range(len(old))]
        settings["self"] = ones.expand(1, length, *twice).contiguous()
        settings["output_size"] = [size if d == i else 2 for d in range(len(old))]
        for d, name in enumerate(_SCALES[len(old)]):
            settings[name] = call.arguments.get(name) if d == i else None
        weights = function(**settings).movedim(2 + i, 2).flatten(3)[0, ..., 0].numpy()
        used = np.abs(weights.T) > 1e-12
        index = np.argsort(~used, axis=1, kind="stable")[:, : used.sum(axis=1).max()]
        x = x.gather(2 + i, index, valid=np.take_along_axis(used, index, axis=1))
    return x


# What torch calls the factors, for each number of dimensions.
_SCALES = {1: ("scales",), 2: ("scales_h", "scales_w"), 3: ("scales_d", "scales_h", "scales_w")}


@operation("pixel_shuffle", role="view")
def _pixel_shuffle(call: OperationCall) -> Result:
    x, factor = call.x, call["upscale_factor"]
    *outer, channels, height, width = x.shape
    x = x.reshape((*outer, channels // factor**2, factor, factor, height, width))
    n = len(outer)
    return x.permute([*range(n + 1), n + 3, n + 1, n + 4, n + 2]).reshape(call.shape)


@operation("pixel_unshuffle", role="view")
def _pixel_unshuffle(call: OperationCall) -> Result:
    x, factor = call.x, call["downscale_factor"]
    *outer, channels, height, width = x.shape
    x = x.reshape((*outer, channels, height // factor, factor, width // factor, factor))
    n = len(outer)
    return x.permute([*range(n + 1), n + 2, n + 4, n + 1, n + 3]).reshape(call.shape)


@operation("channel_shuffle", "native_channel_shuffle", role="view")
def _channel_shuffle(call: OperationCall) -> Result:
    x, groups = call.x, call["groups"]
    n, channels, *positions = x.shape
    x = x.reshape((n, groups, channels // groups, *positions))
    return x.permute([0, 2, 1, *range(3, len(x.shape))]).reshape(call.shape)


@operation("glu")
def _glu(call: OperationCall) -> Result:
    x, dim = call.x, call["dim"]
    half = x.shape[dim] // 2
    return join([x.keep(dim, 0, 1, half), x.keep(dim, half, 1, half)], call.shape)


@operation("unfold")
def _unfold(call: OperationCall) -> Result:
    """Follow ``Tensor.unfold``, which adds a dimension for the positions within a window."""
    x, size = call.x, call["size"]
    dim = call["dimension"] % len(x.shape)
    count = call.shape[dim]
    index = np.arange(count)[:, None] * call["step"] + np.arange(size)
    x = x.gather(dim, index.reshape(-1, 1))
    x = x.reshape((*x.shape[:dim], count, size, *x.shape[dim + 1 :]))
    return x.permute([d for d in range(len(x.shape)) if d != dim + 1] + [dim + 1])


@operation("im2col")
def _im2col(call: OperationCall) -> Result:
    x = call.x
    for i in (0, 1):
        taps, counts = _patch_index(call, i, x.shape[-2 + i])
        x = x.gather(-2 + i, np.add.outer(taps, counts).reshape(-1, 1))
    kernel = call["kernel_size"]
    *outer, rows, columns = x.shape
    x = x.reshape((*outer, kernel[0], rows // kernel[0], kernel[1], columns // kernel[1]))
    n = len(outer)
    return x.permute([*range(n), n, n + 2, n + 1, n + 3]).reshape(call.shape)


@operation("col2im")
def _col2im(call: OperationCall) -> Result:
    x, kernel, sides = call.x, call["kernel_size"], call["output_size"]
    indices = [_patch_index(call, i, sides[i]) for i in (0, 1)]
    rows, columns = (len(counts) for _, counts in indices)
    *outer, _, _ = x.shape
    x = x.reshape((*outer, call.shape[-3], *kernel, rows, columns))
    n = len(outer) + 1
    x = x.permute([*range(n), n, n + 2, n + 1, n + 3])
    x = x.reshape((*outer, call.shape[-3], kernel[0] * rows, kernel[1] * columns))
    for i, (taps, counts) in enumerate(indices):
        # Which of all taps at all counts falls on each position.
        onto = np.add.outer(taps, counts).reshape(-1)
        used = onto[None] == np.arange(sides[i])[:, None]
        index = np.argsort(~used, axis=1, kind="stable")[:, : used.sum(axis=1).max()]
        x = x.gather(-2 + i, index, valid=np.take_along_axis(used, index, axis=1))
    return x.reshape(call.shape)


def _patch_index(call: OperationCall, i: int, length: int) -> tuple[Bounds, Bounds]:
    """Return where the taps of the first patch lie, and how far the others are from it."""
    kernel, stride = call["kernel_size"][i], call["stride"][i]
    padding, dilation = call["padding"][i], call["dilation"][i]
    count = (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    return np.arange(kernel) * dilation - padding, np.arange(count) * stride


@operation("sum", "amax", "amin", "prod", "var", "std", "max", "min", "logsumexp")
@operation("var_mean", "std_mean", "linalg_vector_norm", "argmax", "argmin", "any", "all")
@operation("mean", role="mean")
def _reduction(call: OperationCall) -> Result:
    if "other" in call.arguments:  # the larger, or smaller, of two tensors
        return _same_position(call)
    x, over = call.x, call.arguments.get("dim")
    dims = [over] if isinstance(over, int) else (over or range(len(x.shape)))
    found = x.reduce(dims, keepdim=call.arguments.get("keepdim", False))
    return [found] * len(call.shapes)


@operation("_softmax", "_log_softmax", "_safe_softmax")
def _softmax(call: OperationCall) -> Result:
    return call.x.mix([call["dim"]])


@operation("sort", "topk")
def _ranking(call: OperationCall) -> Result:
    dim = call["dim"]
    mixed = call.x.mix([dim])
    found = mixed if mixed.shape == call.shape else mixed.with_length(dim, call.shape[dim])
    return [found] * len(call.shapes)


@operation("cumsum", "cumprod", "logcumsumexp", "cummax", "cummin")
def _cumulative(call: OperationCall) -> Result:
    x, dim = call.x, call["dim"]
    if not x.shape:
        return [x] * len(call.shapes)
    n = x.shape[dim]
    return [x.gather(dim, *_taps(np.zeros(n, dtype=np.int64), np.arange(1, n + 1)))] * len(
        call.shapes
    )


@operation("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
@operation("_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
def _batch_norm(call: OperationCall) -> Result:
    x = call.x
    training = call.arguments.get("training", False)
    return x.mix([0, *range(2, len(x.shape))] if training else [])


@operation("native_layer_norm")
def _layer_norm(call: OperationCall) -> Result:
    return call.x.mix(range(-len(call["normalized_shape"]), 0))


@operation("native_group_norm")
def _group_norm(call: OperationCall) -> Result:
    x = call.x
    return x.mix(range(1, len(x.shape)))
