"""Rules for torch's operations: one function for each operation, or for each family.

The function says what the result of an operation depends on, given what it reads; its role says how
drawings show it. An operation without a function is followed if torch tags it as elementwise. Any
other is :class:`Untraceable` as soon as it reads positions of the image.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar, get_args

import torch
from torch import Tensor

from cnnbook._errors import unknown
from cnnbook.analysis.graph.reach import (
    Reach,
    Untraceable,
    join,
    length_of,
    per_dimension,
    product,
    same,
)

#: What an operation is in a drawing. A "view" computes nothing; a "mean" is pooling if it
#: leaves one position.
Role = Literal["convolution", "fully connected", "pooling", "mean", "view"]


class _OtherTensors(Exception):
    """More tensors depend on the image than an operation's function supports."""


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
        Shapes of the tensors that it returns.
    find
        Returns the reach of a tensor, or None if it does not depend on the image.

    Examples
    --------
    An operation that drops the first columns of an image, called to drop two of eight:

    >>> image = Reach.of_image((1, 3, 8, 8))
    >>> arguments = {"x": torch.empty(1, 3, 8, 8), "count": 2}
    >>> call = OperationCall("mylib::drop", arguments, ((1, 3, 8, 6),), find=lambda _: image)
    >>> call.x.keep(3, first=call["count"], step=1, length=call.shape[3]).spans[1]
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


_KNOWN: dict[str, _Known] = {}

# No function can follow these, nor "upsample_…": neighbors have boxes that shift unevenly.
_UNEVEN = {"pixel_shuffle", "grid_sampler_2d", "grid_sampler_3d"}


def operation(*names: str, role: Role | None = None) -> Callable[[AnyFollow], AnyFollow]:
    """Decorate a function that teaches an operation to :func:`trace` and all that uses it.

    The function receives an :class:`OperationCall` and returns the :class:`Reach` of the result, or
    a list with one for each tensor if the operation returns several; None if the result does not
    depend on the values of the image. If that cannot be stated exactly, it raises
    :class:`Untraceable` with the reason.

    Parameters
    ----------
    *names
        Names of the operations, as in ``torch.ops``: ``"mylib::blur"``, or ``"pixel_unshuffle"``
        for one of torch's own. All overloads, and the in-place variant, share one name. For a name
        that is already known, the new function replaces the old one.
    role
        How drawings show a layer that is made of such an operation: ``"convolution"``, ``"fully
        connected"``, ``"pooling"``, ``"mean"`` (pooling if it leaves one position) or ``"view"``
        (not at all, since it computes nothing).

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
        _KNOWN.update((_base(name), _Known(follow, role)) for name in names)
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


def _without_positions(call: OperationCall) -> Result:
    """Follow any operation on tensors whose elements all have the same box."""
    inputs = call.inputs
    if any(r.varies(axis) for r in inputs for axis in range(len(r.spans))):
        if call.name in _KNOWN:
            raise Untraceable(
                f"the operation {call.name!r} reads several tensors that depend on the image"
            )
        if call.name in _UNEVEN or call.name.lstrip("_").startswith("upsample_"):
            raise Untraceable(
                f"the operation {call.name!r} gives neighbors fields that do not shift evenly"
            )
        raise Untraceable(
            f"nothing is known about the operation {call.name!r}; cnnbook.analysis.operation can "
            "add it"
        )
    return [
        join([Reach(r.spans, tuple(map(same, shape))) for r in inputs], shape)
        for shape in call.shapes
    ]


# ---------------------------------------------------------------- torch's own operations


# Most elementwise operations carry a tag; these do not.
@operation("detach", "alias", "lift_fresh", "_to_copy", "expand", "native_dropout")
@operation("hardswish", "_prelu_kernel", "log_sigmoid_forward")
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


@operation("permute", role="view")
def _permute(call: OperationCall) -> Result:
    return call.x.permute(call["dims"])


@operation("transpose", "t", role="view")
def _transpose(call: OperationCall) -> Result:
    x = call.x
    order = list(range(len(x.dims)))
    if len(order) > 1:
        a, b = (0, 1) if call.name == "t" else (call["dim0"], call["dim1"])
        order[a], order[b] = order[b], order[a]
    return x.permute(order)


@operation("slice")
def _slice(call: OperationCall) -> Result:
    x, dim = call.x, call["dim"]
    kept = range(length_of(x.dims[dim]))[slice(call["start"], None)]
    first = kept[0] if kept else kept.stop
    return x.keep(dim, first, call["step"], call.shape[dim])


@operation("select", "unbind")
def _select(call: OperationCall) -> Result:
    x = call.x
    dim = call["dim"] % len(x.dims)
    first = call["index"] % length_of(x.dims[dim]) if call.name == "select" else 0
    kept = [x.keep(dim, first + i, 1, 1) for i in range(len(call.shapes))]
    return [Reach(r.spans, r.dims[:dim] + r.dims[dim + 1 :]) for r in kept]


@operation("split", "split_with_sizes")
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
    aligned = []
    for r in call.inputs:
        dims = (*r.dims[:dim], (), *r.dims[dim:]) if call.name == "stack" else r.dims
        if any(p.axis is not None and p.length > 1 for p in dims[dim]):
            raise Untraceable("tensors are joined along a dimension of positions")
        aligned.append(Reach(r.spans, dims).with_length(dim, call.shape[dim]))
    return join(aligned, call.shape)


@operation("constant_pad_nd")
def _pad(call: OperationCall) -> Result:
    x = call.x
    before, after = call["pad"][::2], call["pad"][1::2]
    for i, (first, last) in enumerate(
        zip(before, after, strict=True)
    ):  # from the last dimension on
        dim = len(call.shape) - 1 - i
        if (first, last) != (0, 0):
            x = x.window(dim, 1, padding=first, end_padding=last, length=call.shape[dim])
    return x


@operation("convolution", role="convolution")
def _convolution(call: OperationCall) -> Result:
    x = call.x
    if call["transposed"]:
        if any(x.varies(axis) for axis in range(len(x.spans))):
            raise Untraceable("a transposed convolution gives neighbors fields of different sizes")
        return _without_positions(call)
    if any(p.axis is not None for p in x.dims[1]):
        if call["groups"] != 1:
            raise Untraceable("a grouped convolution sees some of the positions among its channels")
        x = x.mix([1])
    return x.with_length(1, call.shape[1]).windows(
        call.shape,
        call["weight"].shape[2:],
        stride=call["stride"],
        padding=call["padding"],
        dilation=call["dilation"],
    )


@operation("mm", "bmm", role="fully connected")
def _matrix_product(call: OperationCall) -> Result:
    return _product_and_bias(call, "self", "mat2")


@operation("addmm", role="fully connected")
def _matrix_product_with_bias(call: OperationCall) -> Result:
    return _product_and_bias(call, "mat1", "mat2")


@operation("baddbmm", role="fully connected")
def _matrix_products_with_bias(call: OperationCall) -> Result:
    return _product_and_bias(call, "batch1", "batch2")


def _product_and_bias(call: OperationCall, first: str, second: str) -> Reach:
    a, b = call.reach(first), call.reach(second)
    bias = [r for r in call.inputs if r not in (a, b)]
    return join([product(a, b, call.shape), *bias], call.shape)


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
        length = length_of(x.dims[dim])
        if 1 in (length, shape[dim]):
            x = x.mix([dim]).with_length(dim, shape[dim])
        elif length % shape[dim]:
            raise Untraceable(f"adaptive pooling from {length} to {shape[dim]} positions is uneven")
        else:
            size = length // shape[dim]
            x = x.window(dim, size, stride=size, length=shape[dim])
    return [x] * len(call.shapes)


@operation("sum", "amax", "amin", "prod", "var", "std", "max", "min", "logsumexp")
@operation("var_mean", "std_mean", "linalg_vector_norm")
@operation("mean", role="mean")
def _reduction(call: OperationCall) -> Result:
    if "other" in call.arguments:  # the larger, or smaller, of two tensors
        return _same_position(call)
    x, over = call.x, call.arguments.get("dim")
    dims = [over] if isinstance(over, int) else (over or range(len(x.dims)))
    found = x.reduce(dims, keepdim=call.arguments.get("keepdim", False))
    return [found] * len(call.shapes)


@operation("_softmax", "_log_softmax")
def _softmax(call: OperationCall) -> Result:
    return call.x.mix([call["dim"]])


@operation("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")
@operation("_native_batch_norm_legit", "_native_batch_norm_legit_no_training")
def _batch_norm(call: OperationCall) -> Result:
    x = call.x
    training = call.arguments.get("training", False)
    return x.mix([0, *range(2, len(x.dims))] if training else [])


@operation("native_layer_norm")
def _layer_norm(call: OperationCall) -> Result:
    return call.x.mix(range(-len(call["normalized_shape"]), 0))


@operation("native_group_norm")
def _group_norm(call: OperationCall) -> Result:
    x = call.x
    return x.mix(range(1, len(x.dims)))
