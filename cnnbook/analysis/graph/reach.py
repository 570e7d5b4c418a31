"""Which part of the image each element of a tensor depends on, and how to compute with it.

A :class:`Reach` says, for each element of a tensor, which box of the input image it depends on.
Each dimension of the tensor is made of parts; along a part, the box either shifts by `step` pixels
along one axis of the image, or stays the same. This bookkeeping survives views, permutations and
channels-last layers, because reshaping a tensor only regroups the parts of its dimensions.

What cannot be expressed this way raises :class:`Untraceable`; a wrong number is never returned.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple


class Untraceable(Exception):
    """The receptive field cannot be followed; the message says why.

    Examples
    --------
    Two images side by side are no longer a grid of pixels:

    >>> image = Reach.of_image((1, 3, 8, 8))
    >>> image.reshape((1, 3, 4, 2, 8)).grid(axis=0)
    Traceback (most recent call last):
        ...
    cnnbook.analysis.graph.reach.Untraceable: its positions are split into windows
    """


class Part(NamedTuple):
    """A factor of a dimension: from one index to the next, the box shifts `step` pixels.

    Attributes
    ----------
    length
        Number of indices.
    axis
        The axis of the image along which the box shifts; None if all indices share one box.
    step
        Pixels from one index to the next.
    """

    length: int
    axis: int | None = None
    step: int = 0


class Span(NamedTuple):
    """Extent of a box along one axis of the image.

    Attributes
    ----------
    first
        First pixel.
    last
        Last pixel.
    """

    first: int
    last: int


#: The parts of a dimension of a tensor, outermost first. A dimension of length 1 may have none.
Dim = tuple[Part, ...]


@dataclass(frozen=True)
class Reach:
    """The boxes of the image on which the elements of a tensor depend.

    Channels are not distinguished: every element has the box of all channels at its position.

    All methods return a new reach and take dimensions as torch does, negative ones included.

    Attributes
    ----------
    spans
        One per axis of the image: the extent of the element whose indices are all zero.
    dims
        One per dimension of the tensor: how the box shifts along it.

    Examples
    --------
    A 3×3 convolution with stride 2 and padding 1 on an image of 8×8 pixels:

    >>> conv = Reach.of_image((1, 3, 8, 8)).windows((1, 16, 4, 4), kernel=3, stride=2, padding=1)
    >>> conv.shape, conv.spans[0], conv.grid(axis=0)
    ((1, 3, 4, 4), Span(first=-1, last=1), (4, 2))

    An average over both dimensions sees everything:

    >>> conv.reduce((2, 3)).spans[0]
    Span(first=-1, last=7)
    """

    spans: tuple[Span, ...]
    dims: tuple[Dim, ...]

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> "Reach":
        """Return the reach of the network's input ``(N, C, *spatial)``: one pixel each."""
        spatial = tuple((Part(size, axis, 1),) for axis, size in enumerate(shape[2:]))
        return cls((Span(0, 0),) * len(spatial), (*map(same, shape[:2]), *spatial))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(map(length_of, self.dims))

    def varies(self, axis: int) -> bool:
        """Return whether elements differ in their extent along an axis of the image."""
        return any(p.axis == axis and p.length > 1 for dim in self.dims for p in dim)

    def whole(self, axis: int) -> Span:
        """Return the extent of all elements together."""
        parts = [p for dim in self.dims for p in dim if p.axis == axis]
        first, last = self.spans[axis]
        return Span(first, last + sum((p.length - 1) * p.step for p in parts))

    def grid(self, axis: int) -> tuple[int, int]:
        """Return how many positions there are along an axis, and the pixels between them.

        Raises
        ------
        Untraceable
            If several dimensions vary along the axis, as after dividing an image into windows,
            or if neighbors of one grid share a box, as after a pixel shuffle.
        """
        parts = [p for dim in self.dims for p in dim if p.axis == axis]
        if len(parts) > 1:
            raise Untraceable("its positions are split into windows")
        # A flattened tensor has positions and channels in one dimension, a grid must not.
        if len(self.dims) == 2 + len(self.spans):
            for dim in self.dims:
                axes = {p.axis for p in dim if p.length > 1}
                if axis in axes and None in axes:
                    raise Untraceable("neighboring units share one field, others do not")
        return (parts[0].length, parts[0].step) if parts else (1, 0)

    def with_dim(self, dim: int, parts: Dim) -> "Reach":
        """Return a reach with other parts in one dimension."""
        dims = list(self.dims)
        dims[dim] = parts
        return Reach(self.spans, tuple(dims))

    def with_length(self, dim: int, length: int) -> "Reach":
        """Return a reach with a dimension of a different length, along which nothing shifts.

        For dimensions of channels, after a convolution for example.
        """
        return self.with_dim(dim, same(length))

    def permute(self, order: Sequence[int]) -> "Reach":
        """Return the dimensions in another order."""
        return Reach(self.spans, tuple(self.dims[d] for d in order))

    def reshape(self, shape: Sequence[int]) -> "Reach":
        """Regroup the elements, in their order, to a new shape.

        Raises
        ------
        Untraceable
            If a dimension of the new shape is not made of whole parts of the old shape.
        """
        if self.shape == tuple(shape):
            return self
        left = merged([p for dim in self.dims for p in dim if p.length != 1])[::-1]
        dims: list[Dim] = []
        for size in shape:
            dim: list[Part] = []
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
        return Reach(self.spans, tuple(dims))

    def mix(self, dims: Iterable[int]) -> "Reach":
        """Let every element depend on all elements along some dimensions, as in normalization."""
        over = {d % len(self.dims) for d in dims}
        taken = Reach(self.spans, tuple(self.dims[d] for d in sorted(over)))
        spans = tuple(taken.whole(axis) for axis in range(len(self.spans)))
        kept = (same(length_of(dim)) if d in over else dim for d, dim in enumerate(self.dims))
        return Reach(spans, tuple(kept))

    def reduce(self, dims: Iterable[int], *, keepdim: bool = False) -> "Reach":
        """Sum, average or take the maximum over some dimensions."""
        over = {d % len(self.dims) for d in dims}
        mixed = self.mix(over)
        if keepdim:
            kept = tuple(() if d in over else dim for d, dim in enumerate(mixed.dims))
        else:
            kept = tuple(dim for d, dim in enumerate(mixed.dims) if d not in over)
        return Reach(mixed.spans, kept)

    def window(
        self,
        dim: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        end_padding: int | None = None,
        dilation: int = 1,
        ceil_mode: bool = False,
        length: int,
    ) -> "Reach":
        """Slide a window along one dimension, to `length` positions.

        `end_padding` is the padding after the last position, if it is not `padding` as well.

        Raises
        ------
        Untraceable
            If the dimension is not a row of positions of the image, or the window does not have
            exactly `length` positions.
        """
        parts = self.dims[dim]
        shifting = [p for p in parts if p.axis is not None]
        if not shifting:
            return self.with_length(dim, length)
        part = shifting[0]
        along = [p for d in self.dims for p in d if p.axis == part.axis]
        if len(parts) > 1 or len(along) > 1:
            raise Untraceable("a window slides over positions that a reshape has split up")
        assert part.axis is not None
        padded = part.length + padding + (padding if end_padding is None else end_padding)
        _check_windows(length, kernel, stride, dilation, padded, ceil_mode=ceil_mode)
        first, last = self.spans[part.axis]
        first -= padding * part.step
        last += (dilation * (kernel - 1) - padding) * part.step
        spans = list(self.spans)
        spans[part.axis] = Span(first, last)
        shifted = Part(length, part.axis, part.step * stride)
        return Reach(tuple(spans), self.dims).with_dim(dim, (shifted,))

    def windows(
        self,
        shape: Sequence[int],
        kernel: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        ceil_mode: bool = False,
    ) -> "Reach":
        """Slide a window over the last dimensions, as convolution and pooling do.

        Parameters
        ----------
        shape
            Shape of the result, of which only the last dimensions are read: they already account
            for padding and rounding. Channels stay unchanged; see `with_length`.
        kernel
            Size of the window: one for each dimension over which it slides, or one for all axes of
            the image.
        stride, padding, dilation
            Likewise; a single entry applies to all dimensions. Padding is the same on both sides;
            `window` takes another for the end.
        ceil_mode
            Whether a last window may reach beyond the padding, as in torch's pooling.

        Raises
        ------
        Untraceable
            If one of the dimensions is not a row of positions of the image, or these settings do
            not give the number of positions in `shape`.
        """
        n = len(self.spans) if isinstance(kernel, int) else len(kernel)
        settings = [per_dimension(s, n) for s in (kernel, stride, padding, dilation)]
        reach = self
        for dim, size, step, pad, dilated in zip(
            range(len(shape) - n, len(shape)), *settings, strict=True
        ):
            reach = reach.window(
                dim,
                size,
                stride=step,
                padding=pad,
                dilation=dilated,
                ceil_mode=ceil_mode,
                length=shape[dim],
            )
        return reach

    def keep(self, dim: int, first: int, step: int, length: int) -> "Reach":
        """Keep `length` indices of a dimension, every `step`-th from `first` on.

        Raises
        ------
        Untraceable
            If only some positions of several axes would be kept, or there are no such indices.
        """
        parts = self.dims[dim]
        if (first, step, length) == (0, 1, length_of(parts)):
            return self
        if all(p.axis is None for p in parts):
            return self.with_length(dim, length)
        left = length_of(parts) - (first + (length - 1) * step + 1)
        if first < 0 or step < 1 or (length and left < 0):
            raise Untraceable(
                f"{length} positions from {first} on, {step} apart, are not all among "
                f"{length_of(parts)}"
            )
        # A window of one pixel; what is cut off at both ends is negative padding.
        return self.window(dim, 1, stride=step, padding=-first, end_padding=-left, length=length)

    def broadcast(self, shape: Sequence[int]) -> "Reach":
        """Repeat along new dimensions and those of length 1."""
        dims = ((),) * (len(shape) - len(self.dims)) + self.dims
        return Reach(
            self.spans,
            tuple(
                same(size) if length_of(dim) == 1 and size != 1 else dim
                for dim, size in zip(dims, shape, strict=True)
            ),
        )


def _check_windows(
    length: int, kernel: int, stride: int, dilation: int, padded: int, *, ceil_mode: bool
) -> None:
    """Raise Untraceable unless a window has `length` positions on `padded` pixels."""
    room = padded - ((length - 1) * stride + dilation * (kernel - 1) + 1)
    what = f"{length} positions of a window of {kernel}, {stride} apart,"
    if room < (1 - stride if ceil_mode else 0):
        raise Untraceable(
            f"{what} do not fit into {padded}, padding included; are padding= and ceil_mode= right?"
        )
    if room >= stride:
        raise Untraceable(
            f"{what} leave {room} of {padded} unused, padding included; is stride= missing?"
        )


def per_dimension(setting: int | Sequence[int], n: int) -> list[int]:
    """Return a setting for each of `n` dimensions; a single entry applies to all."""
    entries = [setting] if isinstance(setting, int) else list(setting)
    return entries * n if len(entries) == 1 else entries


def same(length: int) -> Dim:
    """Return a dimension along which nothing shifts: all its indices share one box."""
    return (Part(length),) if length != 1 else ()


def length_of(dim: Dim) -> int:
    """Return the number of indices of a dimension."""
    return prod(p.length for p in dim)


def merged(parts: Sequence[Part]) -> list[Part]:
    """Merge neighboring parts that form one, so that equal dimensions look equal."""
    out: list[Part] = []
    for part in parts:
        last = out[-1] if out else None
        if last and last.axis == part.axis and last.step == part.length * part.step:
            out[-1] = Part(last.length * part.length, part.axis, part.step)
        else:
            out.append(part)
    return out


def join(reaches: Sequence[Reach], shape: Sequence[int]) -> Reach:
    """Return the smallest boxes that hold those of all operands, element by element.

    If one operand has the same box everywhere, like the gate of squeeze-and-excitation, it must
    cover the others: otherwise the union does not shift evenly.

    Parameters
    ----------
    reaches
        What is added, multiplied or compared; at least one. Broadcast as torch does.
    shape
        Shape of the result.

    Raises
    ------
    Untraceable
        If the boxes of different operands do not shift in the same way.

    Examples
    --------
    A shortcut around a 3×3 convolution adds nothing to its box:

    >>> image = Reach.of_image((1, 8, 5, 5))
    >>> conv = image.windows(image.shape, kernel=3, padding=1)
    >>> join([image, conv], image.shape).spans[0]
    Span(first=-1, last=1)
    """
    reaches = [reach.broadcast(shape) for reach in reaches]
    spans, fixed = [], set()
    for axis in range(len(reaches[0].spans)):
        varying = [r for r in reaches if r.varies(axis)]
        constant = [r for r in reaches if not r.varies(axis)]
        chosen = constant or varying
        span = Span(
            min(r.spans[axis].first for r in chosen), max(r.spans[axis].last for r in chosen)
        )
        if varying and constant:
            fixed.add(axis)
            for reach in varying:
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
        shifting = {dim for dim in found if any(p.axis is not None for p in dim)}
        if len(shifting) > 1 and size != 1:
            raise Untraceable("paths with different steps between positions meet")
        alike = len(found) == 1 or (len(shifting) == 1 and size != 1)
        dims.append((shifting or found).pop() if alike else same(size))
    return Reach(tuple(spans), tuple(dims))


def product(a: Reach | None, b: Reach | None, shape: Sequence[int]) -> Reach:
    """Multiply matrices ``(…, n, k)`` and ``(…, k, m)``; None is a matrix of weights.

    Parameters
    ----------
    a, b
        The operands, of which at least one depends on the image.
    shape
        Shape of the product.

    Raises
    ------
    Untraceable
        If the boxes of the two do not shift in the same way.

    Examples
    --------
    A fully connected layer on flattened pixels sees them all:

    >>> pixels = Reach.of_image((1, 1, 4, 4)).reshape((1, 16))
    >>> product(pixels, None, (1, 10)).spans[0]
    Span(first=0, last=3)
    """
    operands = []
    for reach, contracted in ((a, -1), (b, -2)):
        if reach is not None:
            operands.append(reach.mix([contracted]).with_dim(contracted, ()))
    return join(operands, shape)
