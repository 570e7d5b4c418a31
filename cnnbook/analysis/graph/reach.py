"""Which part of the image each element of a tensor depends on, and how to compute with it.

A :class:`Reach` holds, for each element of a tensor and each axis of the image, the first and the
last pixel on which the element depends. An operation that only moves elements moves these bounds
likewise; one that combines elements takes the smallest box around theirs. Dimensions along which
the bounds do not change are held once, so that the bounds of a feature map are one row of numbers.

What cannot be expressed this way raises :class:`Untraceable`; a wrong number is never returned.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, NamedTuple

import numpy as np

Bounds = np.ndarray[Any, np.dtype[np.int64]]
Which = np.ndarray[Any, np.dtype[np.bool_]]

#: Beyond any image: the first pixel of an empty box, and minus the last.
NOTHING = 1 << 40

_MOST_BOXES = 1 << 25  # of one tensor along one axis: 200 MB for each of the two bounds


class Untraceable(Exception):
    """The receptive field cannot be followed; the message says why.

    Examples
    --------
    A window of three pixels has no eight positions on eight pixels without padding:

    >>> image = Reach.of_image((1, 3, 8, 8))
    >>> image.windows((1, 3, 8, 8), kernel=3)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    cnnbook.analysis.graph.reach.Untraceable: 8 positions of a window of 3, 1 apart, do not fit ...
    """


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


class Part(NamedTuple):
    """A factor of a dimension: it counts positions along an axis of the image, or channels.

    Attributes
    ----------
    length
        Number of indices.
    axis
        The axis of the image; None for channels, images and all else.
    """

    length: int
    axis: int | None = None


class Table(NamedTuple):
    """The bounds of all elements along one axis of the image.

    Attributes
    ----------
    first
        First pixel, one dimension for each of the tensor, of length 1 where nothing
        changes.
    last
        Last pixel, likewise.
    steps
        For dimensions of the tensor of length 1: how far apart in pixels neighbors would be, which
        padding needs; 0 for others.
    """

    first: Bounds
    last: Bounds
    steps: tuple[int, ...]

    def varies(self, dim: int) -> bool:
        """Return whether the bounds change along a dimension."""
        return bool(self.first.shape[dim] > 1)


@dataclass(frozen=True, eq=False)
class Reach:
    """The boxes of the image on which the elements of a tensor depend.

    Tensors that are joined along their channels share one box, the smallest around theirs.

    Beyond the ends of a row of positions, where padding is, boxes go on as they do inside if they
    do so regularly; otherwise there is nothing.

    All methods return a new reach and take dimensions as torch does, negative ones included.

    Attributes
    ----------
    shape
        Shape of the tensor.
    tables
        The bounds, one table for each axis of the image.
    layout
        What the dimensions of the tensor count, as tuples ``(length, axis)``, outermost first;
        None if that is no longer known.

    Examples
    --------
    A 3×3 convolution with stride 2 and padding 1 on an image of 8×8 pixels:

    >>> conv = Reach.of_image((1, 3, 8, 8)).windows((1, 16, 4, 4), kernel=3, stride=2, padding=1)
    >>> conv.shape, conv.box(0, 0, 0, 0)[0], conv.box(0, 0, 1, 0)[0]
    ((1, 3, 4, 4), Span(first=-1, last=1), Span(first=1, last=3))

    An average over both dimensions sees everything:

    >>> conv.reduce((2, 3)).box(0, 0)[0]
    Span(first=-1, last=7)
    """

    shape: tuple[int, ...]
    tables: tuple[Table, ...]
    layout: tuple[tuple[Part, ...], ...] | None

    @classmethod
    def of_image(cls, shape: Sequence[int]) -> "Reach":
        """Return the reach of the network's input ``(N, C, *spatial)``: one pixel each."""
        shape = tuple(shape)
        tables = []
        for dim in range(2, len(shape)):
            pixels = np.arange(shape[dim], dtype=np.int64).reshape(_along(dim, len(shape)))
            steps = tuple(int(d == dim and size == 1) for d, size in enumerate(shape))
            tables.append(Table(pixels, pixels, steps))
        axes = (None, None, *range(len(shape) - 2))
        layout = tuple((Part(size, a),) for size, a in zip(shape, axes, strict=False))
        return cls(shape, tuple(tables), layout)

    @classmethod
    def of_nothing(cls, shape: Sequence[int], axes: int) -> "Reach":
        """Return the reach of a tensor that does not depend on the image, with so many axes."""
        ones, none = (1,) * len(shape), (0,) * len(shape)
        empty = Table(np.full(ones, NOTHING), np.full(ones, -NOTHING), none)
        return cls(tuple(shape), (empty,) * axes, tuple((Part(size),) for size in shape))

    def __eq__(self, other: object) -> bool:
        """Return whether all elements have the same boxes."""
        return (
            isinstance(other, Reach)
            and self.shape == other.shape
            and _essential(self.layout) == _essential(other.layout)
            and all(
                a.steps == b.steps
                and np.array_equal(a.first, b.first)
                and np.array_equal(a.last, b.last)
                for a, b in zip(self.tables, other.tables, strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]  # bounds are arrays

    def __repr__(self) -> str:
        """Return the shape, not the bounds."""
        return f"<Reach of a tensor {self.shape}>"

    def box(self, *index: int) -> tuple[Span, ...]:
        """Return the box of one element, one span per axis; ``first > last`` if it is empty."""
        spans = []
        for table in self.tables:
            at = tuple(min(i, n - 1) for i, n in zip(index, table.first.shape, strict=True))
            spans.append(Span(int(table.first[at]), int(table.last[at])))
        return tuple(spans)

    def varies(self, axis: int) -> bool:
        """Return whether elements differ in their extent along an axis of the image."""
        return self.tables[axis].first.size > 1

    def whole(self, axis: int) -> Span:
        """Return the extent of all elements together."""
        table = self.tables[axis]
        return Span(int(table.first.min()), int(table.last.max()))

    @property
    def sees_nothing(self) -> bool:
        """Whether no element depends on the image, but only on other inputs of the network."""
        return bool(self.tables) and all((t.first > t.last).all() for t in self.tables)

    @property
    def dims(self) -> tuple[tuple[Part, ...], ...]:
        """What the dimensions of the tensor count; nothing where that is not known."""
        return self.layout if self.layout is not None else ((),) * len(self.shape)

    def axes(self, dim: int) -> set[int]:
        """Return the axes of the image whose positions a dimension counts."""
        return {p.axis for p in self.dims[dim] if p.axis is not None}

    @property
    def channels_last(self) -> bool | None:
        """Whether a feature map is ``(N, *spatial, C)``; None if it is none, or cannot be told."""
        n = len(self.tables)
        if n == 0 or len(self.shape) != 2 + n or self.layout is None:
            return None
        labels = [self.axes(dim) for dim in range(2 + n)]
        first, last = ([labels[s + axis] for axis in range(n)] for s in (2, 1))
        if all(len(label) == 1 for label in first) and set().union(*first) == set(range(n)):
            return False
        if all(len(label) == 1 for label in last) and set().union(*last) == set(range(n)):
            return True
        return None

    def with_length(self, dim: int, length: int) -> "Reach":
        """Return a reach with a dimension of a different length, whose elements share one box.

        For dimensions of channels, after a convolution for example. Each of the new elements
        depends on all of the old.
        """
        mixed = self.mix([dim])
        dim %= len(self.shape)
        return _made(
            _replaced(self.shape, dim, length),
            mixed.tables,
            _labeled(self.layout, dim, (Part(length),)),
        )

    def permute(self, order: Sequence[int]) -> "Reach":
        """Return the dimensions in another order."""
        order = [d % len(self.shape) for d in order]
        return Reach(
            tuple(self.shape[d] for d in order),
            tuple(
                Table(
                    t.first.transpose(order),
                    t.last.transpose(order),
                    tuple(t.steps[d] for d in order),
                )
                for t in self.tables
            ),
            None if self.layout is None else tuple(self.layout[d] for d in order),
        )

    def reshape(self, shape: Sequence[int]) -> "Reach":
        """Regroup the elements, in their order, to a new shape."""
        shape = tuple(shape)
        if self.shape == shape:
            return self
        if prod(shape) != prod(self.shape):
            raise Untraceable(f"{self.shape} cannot be reshaped to {shape}")
        groups = _groups(self.shape, shape)
        tables = []
        for table in self.tables:
            full, new = list(table.first.shape), [1] * len(shape)
            steps = [0] * len(shape)
            for old_dims, new_dims in groups:
                if any(table.varies(d) for d in old_dims):
                    for d in old_dims:
                        full[d] = self.shape[d]
                    for d in new_dims:
                        new[d] = shape[d]
                elif len(old_dims) == len(new_dims) == 1:
                    steps[new_dims[0]] = table.steps[old_dims[0]]
            _check_count(full)
            first, last = (
                np.broadcast_to(bound, full).reshape(new) for bound in (table.first, table.last)
            )
            tables.append(Table(first, last, tuple(steps)))
        return _made(shape, tables, _reshaped(self.layout, shape))

    def mix(self, dims: Iterable[int]) -> "Reach":
        """Let every element depend on all elements along some dimensions, as in normalization."""
        over = {d % len(self.shape) for d in dims}
        tables = []
        for table in self.tables:
            axes = tuple(d for d in over if table.varies(d))
            first, last = table.first, table.last
            if axes:
                first = first.min(axis=axes, keepdims=True)
                last = last.max(axis=axes, keepdims=True)
            steps = tuple(0 if d in over else step for d, step in enumerate(table.steps))
            tables.append(Table(first, last, steps))
        return _made(self.shape, tables, self.layout)

    def reduce(self, dims: Iterable[int], *, keepdim: bool = False) -> "Reach":
        """Sum, average or take the maximum over some dimensions."""
        over = {d % len(self.shape) for d in dims}
        mixed = self.mix(over)
        if keepdim:
            shape = tuple(1 if d in over else n for d, n in enumerate(self.shape))
            layout = self.layout
            for d in over:
                layout = _labeled(layout, d, _positions(layout, d, 1))
            return _made(shape, mixed.tables, layout)
        kept = [d for d in range(len(self.shape)) if d not in over]
        return mixed._without(over, kept)

    def _without(self, over: Iterable[int], kept: Sequence[int]) -> "Reach":
        """Drop dimensions along which nothing varies."""
        over = tuple(over)
        return Reach(
            tuple(self.shape[d] for d in kept),
            tuple(
                Table(
                    t.first.squeeze(over),
                    t.last.squeeze(over),
                    tuple(t.steps[d] for d in kept),
                )
                for t in self.tables
            ),
            None if self.layout is None else tuple(self.layout[d] for d in kept),
        )

    def select(self, dim: int, index: int) -> "Reach":
        """Keep one index of a dimension, and drop the dimension."""
        dim %= len(self.shape)
        kept = [d for d in range(len(self.shape)) if d != dim]
        return self.keep(dim, index % self.shape[dim], 1, 1)._without((dim,), kept)

    def gather(
        self, dim: int, index: Bounds, valid: Which | None = None, *, stride: int = 1
    ) -> "Reach":
        """Let each new position along a dimension depend on some old ones.

        Parameters
        ----------
        dim
            The dimension.
        index
            ``(length, taps)``: for each new position, the old ones on which it depends. Those
            before the first and after the last lie in the padding.
        valid
            The same shape: which entries of `index` count; all if not given.
        stride
            How many old positions lie between new ones; only needed where there is one of them.
        """
        dim %= len(self.shape)
        length, old = len(index), self.shape[dim]
        tables = []
        for table in self.tables:
            shifted = _steps(table, dim, old)
            step = shifted * stride if length == 1 and shifted is not None else 0
            steps = _replaced(table.steps, dim, step)
            if not table.varies(dim) and not (old == 1 and table.steps[dim]):
                tables.append(Table(table.first, table.last, _replaced(table.steps, dim, 0)))
                continue
            if length == 0:
                first, last = table.first.min(keepdims=True), table.last.max(keepdims=True)
                tables.append(Table(first, last, (0,) * len(steps)))
                continue
            first, last = _extended(table, dim, index)
            if valid is not None:
                kept = np.expand_dims(valid, tuple(range(2, first.ndim)))
                first, last = np.where(kept, first, NOTHING), np.where(kept, last, -NOTHING)
            bounds = first.min(axis=1), last.max(axis=1)
            first, last = (np.moveaxis(bound, 0, dim) for bound in bounds)
            tables.append(Table(first, last, steps))
        layout = _labeled(self.layout, dim, _positions(self.layout, dim, length))
        return _made(_replaced(self.shape, dim, length), tables, layout)

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
            If the window does not have exactly `length` positions.
        """
        padded = self.shape[dim] + padding + (padding if end_padding is None else end_padding)
        _check_windows(length, kernel, stride, dilation, padded, ceil_mode=ceil_mode)
        starts = np.arange(length, dtype=np.int64) * stride - padding
        taps = np.arange(kernel, dtype=np.int64) * dilation
        return self.gather(dim, starts[:, None] + taps, stride=stride)

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
            If these settings do not give the number of positions in `shape`.
        """
        n = len(self.tables) if isinstance(kernel, int) else len(kernel)
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
            If there are no such indices.
        """
        old = self.shape[dim]
        if (first, step, length) == (0, 1, old):
            return self
        left = old - (first + (length - 1) * step + 1)
        if first < 0 or step < 1 or (length and left < 0):
            raise Untraceable(
                f"{length} positions from {first} on, {step} apart, are not all among {old}"
            )
        kept = first + step * np.arange(length, dtype=np.int64)
        return self.gather(dim, kept[:, None], stride=step)

    def broadcast(self, shape: Sequence[int]) -> "Reach":
        """Repeat along new dimensions and those of length 1."""
        shape = tuple(shape)
        new = len(shape) - len(self.shape)
        old = (1,) * new + self.shape
        if any(a not in (1, b) for a, b in zip(old, shape, strict=True)):
            raise Untraceable(f"{self.shape} cannot be repeated to {shape}")
        tables = []
        for table in self.tables:
            steps = (0,) * new + table.steps
            steps = tuple(s if a == b else 0 for s, a, b in zip(steps, old, shape, strict=True))
            leading = (1,) * new
            tables.append(
                Table(
                    table.first.reshape(leading + table.first.shape),
                    table.last.reshape(leading + table.last.shape),
                    steps,
                )
            )
        layout = None
        if self.layout is not None:
            dims = ((),) * new + self.layout
            layout = tuple(
                dim if a == b else (Part(b),) for dim, a, b in zip(dims, old, shape, strict=True)
            )
        return Reach(shape, tuple(tables), layout)


def _made(
    shape: Sequence[int],
    tables: Iterable[Table],
    layout: tuple[tuple[Part, ...], ...] | None,
) -> Reach:
    """Return a reach that holds only once what does not change along a dimension."""
    kept = []
    for first, last, steps in tables:
        for dim in range(first.ndim):
            if first.shape[dim] > 1:
                head = (slice(None),) * dim + (slice(0, 1),)
                if (first == first[head]).all() and (last == last[head]).all():
                    first, last = first[head], last[head]
        steps = tuple(step if n == 1 else 0 for step, n in zip(steps, shape, strict=True))
        kept.append(Table(first, last, steps))
    return Reach(tuple(shape), tuple(kept), layout)


def _along(dim: int, n: int) -> tuple[int, ...]:
    """Return the shape of a row of numbers along one of `n` dimensions."""
    return tuple(-1 if d == dim else 1 for d in range(n))


def _replaced(entries: Sequence[int], dim: int, entry: int) -> tuple[int, ...]:
    return (*entries[:dim], entry, *entries[dim + 1 :])


def _check_count(shape: Sequence[int]) -> None:
    if prod(shape) > _MOST_BOXES:
        raise Untraceable("too many positions meet too many others")


# ---------------------------------------------------------------- regular rows


def regular(first: Bounds, last: Bounds) -> tuple[int, int] | None:
    """Return after how many positions, and how many pixels further, boxes look the same again.

    `first` and `last` have their positions along the first dimension, at least two. None if that is
    never so.
    """
    n = len(first)
    # What is said to repeat must be seen twice; of two positions, each is a period.
    for period in range(1, min(n // 2, 128) + 1):
        ahead = first[period:] - first[:-period]
        shift = ahead.flat[0]
        if (ahead == shift).all() and (last[period:] - last[:-period] == shift).all():
            return period, int(shift)
    return None


def _rows(table: Table, dim: int) -> tuple[Bounds, Bounds]:
    """Return both bounds with a dimension moved to the front."""
    return np.moveaxis(table.first, dim, 0), np.moveaxis(table.last, dim, 0)


def _steps(table: Table, dim: int, length: int) -> int | None:
    """Return the pixels between neighbors along a dimension, None if that differs."""
    if length == 1:
        return table.steps[dim]
    if not table.varies(dim):
        return 0
    found = regular(*_rows(table, dim))
    return found[1] if found is not None and found[0] == 1 else None


def _extended(table: Table, dim: int, index: Bounds) -> tuple[Bounds, Bounds]:
    """Return the bounds at some positions, ``(*index.shape, *others)``, in the padding as well."""
    first, last = _rows(table, dim)
    n = len(first)
    outside = (index < 0) | (index >= n)
    others = tuple(range(index.ndim, index.ndim + first.ndim - 1))
    if n == 1:
        away = np.expand_dims(index * table.steps[dim], others)
        return first[0] + away, last[0] + away
    if not outside.any():
        return first[index], last[index]
    found = regular(first, last)
    if found is not None and found[1] != 0:
        period, shift = found
        times, rest = np.divmod(index, period)
        ahead = np.expand_dims(times * shift, others)
        return first[rest] + ahead, last[rest] + ahead
    inside = np.clip(index, 0, n - 1)
    beyond = np.expand_dims(outside, others)
    return np.where(beyond, NOTHING, first[inside]), np.where(beyond, -NOTHING, last[inside])


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


# ---------------------------------------------------------------- shapes and layouts


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Split two shapes with the same number of elements into the smallest groups that match."""
    if 0 in old:
        return [(list(range(len(old))), list(range(len(new))))]
    groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        olds, news, a, b = [], [], 1, 1
        if i < len(old):
            olds, a, i = [i], old[i], i + 1
        if j < len(new):
            news, b, j = [j], new[j], j + 1
        while a != b:
            if a < b:
                olds, a, i = [*olds, i], a * old[i], i + 1
            else:
                news, b, j = [*news, j], b * new[j], j + 1
        groups.append((olds, news))
    return groups


def _essential(layout: tuple[tuple[Part, ...], ...] | None) -> object:
    """Return a layout without what has length 1 and is no position."""
    if layout is None:
        return None
    return [[p for p in dim if p.length != 1 or p.axis is not None] for dim in layout]


def _labeled(
    layout: tuple[tuple[Part, ...], ...] | None, dim: int, parts: tuple[Part, ...] | None
) -> tuple[tuple[Part, ...], ...] | None:
    """Return a layout in which one dimension counts something else; None for unknown."""
    if layout is None or parts is None:
        return None
    return (*layout[:dim], parts, *layout[dim + 1 :])


def _positions(
    layout: tuple[tuple[Part, ...], ...] | None, dim: int, length: int
) -> tuple[Part, ...] | None:
    """Return what a dimension counts when its positions have become others."""
    if layout is None:
        return None
    axes = {p.axis for p in layout[dim] if p.axis is not None}
    return (Part(length, *axes),) if len(axes) == 1 else (Part(length),)


def _reshaped(
    layout: tuple[tuple[Part, ...], ...] | None, shape: Sequence[int]
) -> tuple[tuple[Part, ...], ...] | None:
    """Return what the dimensions of a new shape count, None if that cannot be told."""
    if layout is None or 0 in shape:
        return None
    left = [p for dim in layout for p in dim if p.length != 1][::-1]
    dims: list[tuple[Part, ...]] = []
    for number, size in enumerate(shape):
        if size == 1:  # a row of one position stays what it was, if it has the same number
            same = len(shape) == len(layout) and prod(p.length for p in layout[number]) == 1
            dims.append(layout[number] if same else ())
            continue
        dim: list[Part] = []
        while size != 1:
            part = left.pop() if left else Part(0)
            if part.length and size % part.length == 0:
                dim.append(part)
                size //= part.length
            elif part.length and part.length % size == 0:
                dim.append(Part(size, part.axis))
                left.append(Part(part.length // size, part.axis))
                size = 1
            else:
                return None
        dims.append(tuple(_merged(dim)))
    return tuple(dims)


def _merged(parts: Sequence[Part]) -> list[Part]:
    """Merge neighboring parts that count the same."""
    out: list[Part] = []
    for part in parts:
        if out and out[-1].axis == part.axis:
            out[-1] = Part(out[-1].length * part.length, part.axis)
        else:
            out.append(part)
    return out


def join(reaches: Sequence[Reach], shape: Sequence[int]) -> Reach:
    """Return the smallest boxes that hold those of all operands, element by element.

    Parameters
    ----------
    reaches
        What is added, multiplied or compared; at least one. Broadcast as torch does.
    shape
        Shape of the result.

    Raises
    ------
    Untraceable
        If the shapes do not fit together, or there are too many boxes to hold.

    Examples
    --------
    A shortcut around a 3×3 convolution adds nothing to its box:

    >>> image = Reach.of_image((1, 8, 5, 5))
    >>> conv = image.windows(image.shape, kernel=3, padding=1)
    >>> join([image, conv], image.shape).box(0, 0, 2, 2)[0]
    Span(first=1, last=3)
    """
    reaches = [reach.broadcast(shape) for reach in reaches]
    if len(reaches) == 1:
        return reaches[0]
    tables = []
    for versions in zip(*(reach.tables for reach in reaches), strict=True):
        _check_count(np.broadcast_shapes(*(t.first.shape for t in versions)))
        first: Bounds = reduce(np.minimum, [t.first for t in versions])
        last: Bounds = reduce(np.maximum, [t.last for t in versions])
        steps = tuple(s.pop() if len(s) == 1 else 0 for s in map(set, _columns(versions)))
        tables.append(Table(first, last, steps))
    return _made(shape, tables, _common([reach.layout for reach in reaches]))


def _columns(tables: Sequence[Table]) -> list[tuple[int, ...]]:
    return list(zip(*(table.steps for table in tables), strict=True))


def _common(
    layouts: Sequence[tuple[tuple[Part, ...], ...] | None],
) -> tuple[tuple[Part, ...], ...] | None:
    """Return what the dimensions of a joined tensor count: positions, if any operand has them."""
    known = [layout for layout in layouts if layout is not None]
    if len(known) < len(layouts):
        return None
    dims = []
    for versions in zip(*known, strict=True):
        moving = {dim for dim in versions if any(p.axis is not None for p in dim)}
        if len({frozenset(p.axis for p in dim) - {None} for dim in moving}) > 1:
            return None
        dims.append(next((dim for dim in versions if dim in moving), versions[0]))
    return tuple(dims)


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
        If there are too many boxes to hold.

    Examples
    --------
    A fully connected layer on flattened pixels sees them all:

    >>> pixels = Reach.of_image((1, 1, 4, 4)).reshape((1, 16))
    >>> product(pixels, None, (1, 10)).box(0, 0)[0]
    Span(first=0, last=3)
    """
    operands = [
        reach.with_length(contracted, 1)
        for reach, contracted in ((a, -1), (b, -2))
        if reach is not None
    ]
    return join(operands, shape)
