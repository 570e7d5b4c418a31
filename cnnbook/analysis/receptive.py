"""How much of the image a unit sees: in theory, and in effect."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import prod
from numbers import Integral
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from cnnbook._checks import check_finite
from cnnbook._draw import draw
from cnnbook._networks import device_of, evaluating, input_type, unwrapped
from cnnbook.analysis._batches import check_images
from cnnbook.analysis._hooks import (
    Hook,
    check_differentiable,
    check_values,
    find_layer,
    forward_hooks,
    layer_names,
)
from cnnbook.analysis._layout import channels_last_layers
from cnnbook.analysis.graph import InputLike, Reach, Span, Untraceable, trace
from cnnbook.analysis.graph.reach import regular

if TYPE_CHECKING:
    from cnnbook.plots import Figure


@dataclass(frozen=True)
class ReceptiveField:
    """The pixels that the units of a layer can depend on.

    Tuples have one entry per dimension of the image: height and width. Where units are `even`, as
    in most networks, the unit at position i of a dimension sees the pixels ``start + i*jump`` …
    ``start + i*jump + size - 1``. :meth:`box` is right for every unit of any layer. Boxes may reach
    beyond the image, where the network sees padding.

    A box is the smallest around all paths from the image to the unit, in all channels. Inside it
    there may be pixels that no path reaches, between the taps of a dilated kernel for example.

    Attributes
    ----------
    layer
        Name of the layer.
    size
        Height and width of the box, in pixels; where units differ, of the largest in the middle
        half of the layer.
    jump
        Pixels between the boxes of neighboring units; 0 if all units see the same. On average,
        where units share boxes: a fraction after upsampling, such as 1/2. None if units in the
        middle half of the layer are not regular.
    start
        First row and column of the box of unit (0, 0); negative in the padding.
    positions
        How many rows and columns of units there are.
    image
        Height and width of the image.
    shared
        Whether there are several units that all see the same, as after squeeze-and-excitation.
        Of vectors and tokens, and where channels and positions cannot be told apart, `positions`
        then counts one.
    bounds
        First and last pixel of every unit, for each dimension; None if units are `even`.

    Examples
    --------
    A unit in the corner of ResNet-18's last feature maps sees most of the image, and a lot of
    padding:

    >>> from cnnbook.models import create
    >>> field = receptive_field(create("resnet18", width=0.1), (3, 224, 224), "conv5_x")
    >>> print(field)
    conv5_x: 435×435 pixels, 7×7 units 32×32 pixels apart, the first from (-217, -217)
    >>> field.box(0, 0)
    ((-217, 218), (-217, 218))
    >>> field.box(0, 0, clip=True)
    ((0, 218), (0, 218))
    """

    layer: str
    size: tuple[int, ...]
    jump: tuple[int | Fraction | None, ...]
    start: tuple[int, ...]
    positions: tuple[int, ...]
    image: tuple[int, ...]
    shared: bool = field(default=False, repr=False, compare=False)
    bounds: tuple[tuple[Span, ...], ...] | None = field(default=None, repr=False)

    @property
    def even(self) -> bool:
        """Whether all boxes have one size, and neighbors the same distance everywhere."""
        return self.bounds is None

    @property
    def center(self) -> tuple[int, ...]:
        """Position of the unit in the middle."""
        return tuple(count // 2 for count in self.positions)

    def box(self, *position: int, clip: bool = False) -> tuple[tuple[int, int], ...]:
        """Return the pixels that one unit can depend on.

        Parameters
        ----------
        *position
            Row and column of the unit; the one in the middle if not given.
        clip
            Whether to clip the box to the image.

        Returns
        -------
        tuple of (int, int)
            First pixel and the one after the last, for each dimension:
            ``(top, bottom), (left, right) = field.box(3, 3)``.

        Raises
        ------
        ValueError
            If there is no unit at this position.
        """
        position = position or self.center
        if len(position) != len(self.size) or not all(
            isinstance(i, Integral) and 0 <= i < count
            for i, count in zip(position, self.positions, strict=True)
        ):
            raise ValueError(
                f"layer {self.layer!r} has units at {times(self.positions)} positions, none at "
                f"{position}"
            )
        if self.bounds is not None:
            spans = [row[i] for row, i in zip(self.bounds, position, strict=True)]
            bounds = [(span.first, span.last + 1) for span in spans]
        else:
            regular = zip(self.start, position, self.jump, self.size, strict=True)
            bounds = [
                (s + i * int(j or 0), s + i * int(j or 0) + size) for s, i, j, size in regular
            ]
        if clip:
            bounds = [
                (max(a, 0), min(b, side)) for (a, b), side in zip(bounds, self.image, strict=True)
            ]
        return tuple(bounds)

    def plot(
        self, image: Tensor, *, unit: tuple[float, float] = (0.5, 0.5), alt: str | None = None
    ) -> "Figure":
        """Draw the box on an image.

        Parameters
        ----------
        image
            uint8 or float in 0…1, ``(C, H, W)`` with one or three channels, of the size for which
            the field was computed.
        unit
            Which unit: its row and column as fractions of the layer's height and width.
        alt
            Text alternative; gives the size if not given.

        Returns
        -------
        cnnbook.plots.Figure
            See :func:`cnnbook.plots.receptive_fields`, which draws several layers at once.

        Raises
        ------
        ValueError
            If the image has a different size.

        Examples
        --------
        >>> from cnnbook import analysis, data, models
        >>> net = models.create("vgg11", width=0.1)
        >>> field = analysis.receptive_field(net, (3, 224, 224), "block3")
        >>> field.plot(data.photo("cat", size=224)).alt[-15:]
        ': block3 30×30.'
        """
        return draw("receptive_fields", image, [self], unit=unit, alt=alt)

    def __str__(self) -> str:
        """Return a one-line description."""
        if self.shared or (not any(self.jump) and None not in self.jump):
            return f"{self.layer}: all units see the same {times(self.size)} pixels"
        size, units = times(self.size), times(self.positions)
        if None in self.jump:
            return f"{self.layer}: {size} pixels, {units} units at uneven distances"
        return (
            f"{self.layer}: {size} pixels, {units} units {times(self.jump)} pixels apart, "
            f"the first from {self.start}"
        )


def times(numbers: Sequence[object]) -> str:
    """Return numbers as in 16×5×5."""
    return "×".join(map(str, numbers))


def field_of(layer: str, reach: Reach, image: Sequence[int]) -> ReceptiveField:
    """Return the receptive field that a layer's reach describes.

    Raises
    ------
    Untraceable
        If its units do not lie on one grid, or some of them see nothing of the image.
    """
    axes = range(len(image))
    rows = _rows_of_units(reach, len(image))
    grid = [_grid(row) for row in rows]
    for axis in axes:
        if len(rows[axis]) == 1:  # how far neighbors would be, if there were any
            grid[axis] = (grid[axis][0], max(reach.tables[axis].steps, default=0), True)
    first = _first_of_positions(reach)
    units = reach.shape[1:-1] if first is None else reach.shape[first : first + len(image)]
    return ReceptiveField(
        layer,
        size=tuple(size for size, _, _ in grid),
        jump=tuple(jump for _, jump, _ in grid),
        start=tuple(row[0].first for row in rows),
        positions=tuple(len(row) for row in rows),
        image=tuple(image),
        shared=max(units, default=1) > 1 and all(len(set(row)) == 1 for row in rows),
        bounds=None if all(even for _, _, even in grid) else tuple(rows),
    )


def _first_of_positions(reach: Reach) -> int | None:
    """Return the first dimension of positions, 1 or 2; None if the tensor has no such maps."""
    if len(reach.shape) != 2 + len(reach.tables):
        return None
    if reach.channels_last is not None:
        return 1 if reach.channels_last else 2
    over = [any(table.varies(dim) for table in reach.tables) for dim in range(len(reach.shape))]
    if not any(over):
        return None  # all units see the same: how many there are cannot be told
    if over[1] and over[-1]:
        raise Untraceable("which dimension holds the channels cannot be told")
    return 1 if over[1] else 2


def _rows_of_units(reach: Reach, axes: int) -> list[tuple[Span, ...]]:
    """Return the bounds of the units along each axis of the image."""
    if any((table.first > table.last).any() for table in reach.tables):
        raise Untraceable("some of its units see nothing of the image")
    first = _first_of_positions(reach)
    if first is not None:  # feature maps: the box of all channels
        reach = reach.mix([1 if first == 2 else -1])
    moving = [
        {dim for dim in range(len(reach.shape)) if table.varies(dim)} for table in reach.tables
    ]
    if any(len(dims) > 1 for dims in moving):
        raise Untraceable("its positions are split into windows")
    if first is not None and any(dims - {first + axis} for axis, dims in enumerate(moving)):
        raise Untraceable("its rows and columns are not those of the image, as after turning it")
    rows = []
    for axis, table in enumerate(reach.tables):
        pairs = zip(table.first.flat, table.last.flat, strict=True)
        row = tuple(Span(int(first), int(last)) for first, last in pairs)
        if any(moving[axis] & other for a, other in enumerate(moving) if a != axis):
            if len(reach.shape) == 2 and moving[axis] == {1}:  # flattened, channels included
                row = tuple(sorted(set(row)))
            else:  # tokens
                row = _row_of_tokens(reach, moving, axis)
        if first is not None and len(row) == 1:
            row *= reach.shape[first + axis]
        rows.append(row)
    for dim in range(len(reach.shape)):
        shared = [axis for axis, dims in enumerate(moving) if dim in dims]
        if len(shared) > 1 and len(reach.shape) == 2 and dim == 1:
            tables = [reach.tables[axis] for axis in shared]
            flat = (bound.reshape(-1) for t in tables for bound in (t.first, t.last))
            if len(set(zip(*flat, strict=True))) != prod(len(rows[axis]) for axis in shared):
                raise Untraceable("its units do not lie on one grid")
    return rows


def _row_of_tokens(reach: Reach, moving: Sequence[set[int]], axis: int) -> tuple[Span, ...]:
    """Return the bounds of the units along one of two axes that share a dimension of tokens.

    Raises
    ------
    Untraceable
        If the tokens are not the rows of a grid, one after the other.
    """
    (dim,) = moving[axis]
    if len(moving) != 2 or moving[0] != moving[1]:
        raise Untraceable("its units do not lie on one grid")
    if dim == 0 and len(reach.shape) > 2:
        raise Untraceable("its positions are split into windows")
    rows, columns = (
        np.stack([bound.reshape(-1) for bound in (table.first, table.last)])
        for table in reach.tables
    )
    count = rows.shape[1]
    for width in range(1, count + 1):
        if count % width:
            continue
        down, across = (bounds.reshape(2, -1, width) for bounds in (rows, columns))
        if (
            (down == down[:, :, :1]).all()
            and (across == across[:, :1]).all()
            and (np.diff(down[:, :, 0]) >= 0).all()
            and (np.diff(across[:, 0]) >= 0).all()
        ):
            bounds = down[:, :, 0] if axis == 0 else across[:, 0]
            return tuple(Span(int(first), int(last)) for first, last in bounds.T)
    raise Untraceable("its units are not the rows of a grid, one after the other")


def _grid(row: Sequence[Span]) -> tuple[int, int | Fraction | None, bool]:
    """Return the size of the boxes, the pixels between them, and whether all are alike."""
    n = len(row)
    bounds = np.array(row)
    middle = bounds[n // 4 : n - n // 4]
    size = int((middle[:, 1] - middle[:, 0]).max()) + 1
    if n == 1:
        return size, 0, True
    found = regular(bounds[:, 0], bounds[:, 1])
    even = found is not None and found[0] == 1 and len({b - a for a, b in row}) == 1
    if found is None and len(middle) > 1:
        found = regular(middle[:, 0], middle[:, 1])
    if found is None:
        return size, None, False
    period, shift = found
    jump = Fraction(shift, period)
    return size, int(jump) if jump.denominator == 1 else jump, even


def receptive_field(
    model: nn.Module, input_shape: InputLike, layer: str | nn.Module
) -> ReceptiveField:
    """Return what part of the image the units of a layer can depend on.

    It is followed through everything the network does: strides, dilation, pooling, and branches and
    shortcuts, where the smallest box around all paths is taken. Sizes and jumps compose as in
    Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (Distill
    2019, doi:10.23915/distill.00021).

    Parameters
    ----------
    model
        Any network; left unchanged.
    input_shape
        Shape of one input, ``(C, H, W)``, or an example; see :func:`trace`.
    layer
        Name as in ``model.named_modules()``, or the layer itself. If it runs more than once, the
        last run counts.

    Returns
    -------
    ReceptiveField
        Exact for units that see no padding on the way. Where windows reach into padding, at the
        border of the image or of a patch cut out of it, the box clipped to the image is an upper
        bound; and a slice of a layer's channels has the box of all of them. Circular padding wraps
        around: units at one border see the other, and their box is the whole image.

    Raises
    ------
    ValueError
        If there is no such layer, if it does not run in evaluation mode, if its output does not
        depend on the image, or if its field cannot be followed. A wrong number is never returned.
        What cannot be followed: operations that read pixels by value, such as
        ``F.grid_sample``; tensors written to in place, through a view; everything after values of
        the image were read as Python numbers, truth values, arrays or lengths, as by
        ``x.max().item()``, ``if x.sum() > 0``, ``x.numpy()`` or ``len(x[x > 0])``; maps that are
        split into windows or turned by 90° where the layer ends; layers of which some units see
        nothing; and operations that are not yet known, which can be added: :func:`operation`. What
        an operation writes to without declaring it, or other code through an address that it kept,
        is not seen.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> field = receptive_field(lenet5(), (1, 32, 32), "s4")
    >>> print(field)
    s4: 16×16 pixels, 5×5 units 4×4 pixels apart, the first from (0, 0)
    >>> field.box(4, 4)
    ((16, 32), (16, 32))
    """
    (name,) = _one_layer(model, layer)
    found = trace(model, input_shape)
    names = _names(model, name)
    runs = [call for call in found.calls if call.name in names]
    if not runs:
        raise ValueError(
            f"layer {name!r} does not run in evaluation mode; analysis.summary lists those that do"
        )
    reach = runs[-1].reach
    if reach is None:
        raise ValueError(f"the output of layer {name!r} does not depend on the image")
    try:
        if isinstance(reach, Untraceable):
            raise reach
        return field_of(name, reach, found.input_shape[1:])
    except Untraceable as lost:
        raise ValueError(
            f"the receptive field of layer {name!r} cannot be followed: {lost}"
        ) from lost.__cause__  # the error in a function that the user gave to `operation`


def _one_layer(model: nn.Module, layer: str | nn.Module) -> list[str]:
    """Return the name of one layer, in a list."""
    if isinstance(layer, nn.Module):  # of a list of layers, which never runs, not its members
        layer = next((n for n, m in unwrapped(model).named_modules() if m is layer and n), layer)
    find_layer(model, layer)
    names = layer_names(model, layer)
    if len(names) != 1:
        raise ValueError(f"layer must be one layer, got {len(names)}: {', '.join(names[:5])}")
    return names


def _names(model: nn.Module, name: str) -> set[str]:
    """Return all names of the layer that has one of them: a trace uses the first."""
    layers = unwrapped(model).named_modules(remove_duplicate=False)
    module = find_layer(model, name)
    return {other for other, its in layers if its is module}


@dataclass(frozen=True, eq=False)
class EffectiveReceptiveField:
    """How strongly each pixel affects one position of a layer.

    Attributes
    ----------
    layer
        Name of the layer.
    unit
        Row and column of the position in the layer's feature maps.
    effect
        ``(H, W)``, on the CPU, not negative: the mean absolute gradient with respect to each
        pixel.

    Examples
    --------
    A 5×5 convolution with random weights can see 25 pixels, and uses most of them:

    >>> from cnnbook import analysis
    >>> _ = torch.manual_seed(0)
    >>> net = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2))
    >>> found = analysis.effective_receptive_field(net, torch.randn(8, 1, 28, 28), "0")
    >>> found
    EffectiveReceptiveField(layer='0', unit=(14, 14), size=4.5)
    """

    layer: str
    unit: tuple[int, int]
    effect: Tensor

    @property
    def size(self) -> float:
        """Side of a square as large as the area that holds 95.45 % of the effect, in pixels.

        For other fractions, see :func:`effective_size`.
        """
        return effective_size(self.effect)

    def __repr__(self) -> str:
        """Return the size, not the pixels."""
        return (
            f"{type(self).__name__}(layer={self.layer!r}, unit={self.unit}, size={self.size:.1f})"
        )

    def plot(
        self,
        image: Tensor | None = None,
        field: ReceptiveField | None = None,
        *,
        alt: str | None = None,
    ) -> "Figure":
        """Draw the effect of each pixel, over the image if there is one.

        Parameters
        ----------
        image
            uint8 or float in 0…1, ``(C, H, W)`` with one or three channels, drawn in gray.
        field
            Result of :func:`receptive_field` for the same layer, to draw its box.
        alt
            Text alternative; gives both sizes if not given.

        Returns
        -------
        cnnbook.plots.Figure
            See :func:`cnnbook.plots.effective_receptive_field`.

        Raises
        ------
        ValueError
            If the shapes do not fit together, or the effect is zero everywhere.
        """
        return draw("effective_receptive_field", self, image, field, alt=alt)


def effective_receptive_field(
    model: nn.Module,
    x: Tensor,
    layer: str | nn.Module,
    *,
    unit: tuple[int, int] | None = None,
) -> EffectiveReceptiveField:
    """Return how strongly each pixel of the image affects one position of a layer.

    It is the mean, over images and color channels, of the absolute gradient of the sum of all
    channels of the layer at that position with respect to the pixel. Luo, Li, Urtasun and Zemel
    ("Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", NeurIPS
    2016, arXiv:1701.04128) likewise send a gradient of 1 into the center of the layer and average
    over many inputs.

    Parameters
    ----------
    model
        Any network. It runs in evaluation mode; its parameters' gradients are left unchanged.
    x
        Images, ``(N, C, H, W)``: like those the network is meant for, or noise. Moved to the device
        of the model's first parameter.
    layer
        Name as in ``model.named_modules()``, or the layer itself. If it runs more than once, the
        last run counts.
    unit
        Row and column in the layer's feature maps; the middle if not given.

    Returns
    -------
    EffectiveReceptiveField
        Its `effect` is a tensor ``(H, W)``, zero outside the theoretical receptive field.

    Raises
    ------
    ValueError
        If there is no such layer, it does not run, there is no unit at that position, its output
        does not depend on the image, or whether its output is ``(N, C, H, W)`` or ``(N, H, W, C)``
        cannot be told.
    TypeError
        If the layer returns something other than feature maps.

    Examples
    --------
    With averaging, a pixel counts once for each path through it, and more paths lead through the
    middle:

    >>> blur = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(2)])
    >>> for layer in blur:
    ...     _ = nn.init.constant_(layer.weight, 1)
    >>> effective_receptive_field(blur, torch.zeros(1, 1, 5, 5), "1").effect[2]
    tensor([3., 6., 9., 6., 3.])
    """
    sums: list[tuple[tuple[int, int], Tensor]] = []

    def keeper(name: str) -> Hook:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4:
                what = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
                raise TypeError(f"layer {name!r} returns {what}, not feature maps (N, C, H, W)")
            maps = output.movedim(-1, 1) if channels_last else output
            rows, columns = maps.shape[2:]
            row, column = (rows // 2, columns // 2) if unit is None else unit
            if not (0 <= row < rows and 0 <= column < columns):
                raise ValueError(f"layer {name!r} has {rows}×{columns} units, none at {unit}")
            # Summed immediately: the next layer may work in place.
            sums.append(((row, column), maps[:, :, row, column].sum()))

        return hook

    if unit is not None and not (
        isinstance(unit, Sequence) and len(unit) == 2 and all(isinstance(i, Integral) for i in unit)
    ):
        raise ValueError(f"unit must be a row and a column, two integers, got {unit}")
    check_images(x)
    if not x.is_floating_point():
        raise ValueError(f"x must be floats, normalized as in training, got {x.dtype}")
    (name,) = _one_layer(model, layer)
    check_differentiable(model)
    check_values(model)
    channels_last = bool(channels_last_layers(model, tuple(x.shape[1:]), [name]))
    with torch.inference_mode(False), forward_hooks(model, [name], keeper), evaluating(model):
        x = x.detach().to(device_of(model), input_type(model), copy=True).requires_grad_()
        with torch.enable_grad():
            model(x)
            if not sums:
                raise ValueError(f"layer {name!r} does not run in evaluation mode")
            position, total = sums[-1]
            if total.grad_fn is None:
                raise ValueError(f"the output of layer {name!r} does not depend on the image")
            (gradient,) = torch.autograd.grad(total, x)
    effect = gradient.abs().to(torch.promote_types(gradient.abs().dtype, torch.float32))
    return EffectiveReceptiveField(name, position, effect.mean((0, 1)).cpu())


def effective_size(effect: Tensor, *, share: float = 0.9545) -> float:
    """Return the side of a square as large as the area in which most of the effect lies.

    The area is made of the fewest pixels that together hold `share` of the whole effect. A normal
    distribution has 95.45 % within two standard deviations. Luo et al. (2016, Section 3) count the
    pixels above ``1 - 95.45 %`` of the value at the center instead; that depends on one pixel, and
    on the network's noise far from it.

    Parameters
    ----------
    effect
        ``(H, W)``, for example that of an :class:`EffectiveReceptiveField`.
    share
        Fraction of the sum, between 0 and 1.

    Returns
    -------
    float
        In pixels: the square root of the number of pixels. 0 if there is no effect anywhere.

    Raises
    ------
    ValueError
        If `share` is not between 0 and 1, or the effect has negative values.

    Examples
    --------
    Nine equal pixels are a square of 3×3. A Gaussian has 95.45 % of its mass within 2.49 standard
    deviations, a disc as large as a square of 4.4:

    >>> effect = torch.zeros(9, 9)
    >>> effect[3:6, 3:6] = 1
    >>> effective_size(effect, share=1)
    3.0
    >>> x = torch.arange(-50, 51) / 10
    >>> gaussian = torch.exp(-(x[:, None] ** 2 + x**2) / 2)
    >>> round(effective_size(gaussian) / 10, 1)
    4.4
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be more than 0 and at most 1, got {share}")
    check_finite("effect", effect)
    if effect.min() < 0:
        raise ValueError(f"an effective receptive field is not negative, got {effect.min():.3g}")
    total = effect.double().flatten().sort(descending=True).values.cumsum(0)
    if total[-1] == 0:
        return 0.0
    # The first pixel with which the fraction is reached, up to rounding.
    reached = total >= share * total[-1] * (1 - 1e-12)
    side: float = float(1 + reached.int().argmax()) ** 0.5
    return side
