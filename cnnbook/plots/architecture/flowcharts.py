"""Flowcharts of networks and of residual blocks, as their papers draw them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from string import ascii_uppercase

from torch import nn

from cnnbook._checks import check_count
from cnnbook.analysis import Trace
from cnnbook.analysis.graph import InputLike
from cnnbook.plots.architecture.boxes import KIND_COLORS, Box, boxes_of
from cnnbook.plots.architecture.chart import (
    Panel,
    cuts,
    draw,
    draw_legend,
    lay_out,
    legend_size,
    main_path,
    set_ranks,
)
from cnnbook.plots.architecture.nodes import name_of, traced
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import WIDTH, new_figure

GUTTER = 0.14  # between panels
NARROWEST = 3.3  # of a whole figure

Modules = nn.Module | Trace | Mapping[str, nn.Module | Trace]


def flowchart(
    model: Modules,
    input_shape: InputLike | None = None,
    *,
    columns: int = 1,
    training: bool = False,
    alt: str | None = None,
) -> Figure:
    """Draw a network as a flowchart, one box for each operation, from top to bottom.

    Parameters
    ----------
    model
        Any network or a module of one, left unchanged; or several of them by title, drawn side by
        side. Each may also be the result of :func:`cnnbook.analysis.trace`.
    input_shape
        Shape of one input, ``(C, H, W)``, the same for all; a trace has its own.
    columns
        Into how many columns a long network is divided. It continues from a letter in a circle to
        the same letter.
    training
        Whether to draw what runs in training, with GoogLeNet's auxiliary classifiers.
    alt
        Text alternative; lists the operations if not given.

    Returns
    -------
    Figure
        A box shows the window and the number of output channels of a convolution, and the stride as
        /2. Convolutions of 1×1 have a color of their own. A circle adds (+) what comes together. A
        shortcut that changes the shape, by a projection or by zeros, is a dashed arrow if there are
        several. Layers of the network with three or more operations have a gray background, and
        their names. Normalization and activation behind a layer are left out, and so is dropout.

    Raises
    ------
    ValueError
        If `columns` is not positive, there are fewer positions at which a single tensor continues,
        or nothing depends on the input.
    TypeError
        If a model is given without `input_shape`, or a trace with one.

    Examples
    --------
    >>> from cnnbook.models import create
    >>> block = create("resnet34").conv3_x[0]
    >>> flowchart(block, (64, 56, 56))  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Flowchart of BasicBlock: input 64×56×56; 3×3 conv, 128, /2; 3×3 conv, 128;
    1×1 conv, 128, /2 of (input); addition of (3×3 conv, 128) and (1×1 conv, 128, /2): 128×28×28.>
    """
    check_count("columns", columns)
    panels, texts = [], []
    for title, found in _traces(model, input_shape, training).items():
        boxes = boxes_of(found)
        _check(boxes, found)
        for box in boxes:
            box.notes, box.activation = [], ""
        texts.append(_describe(title or name_of(found), boxes))
        if sum(box.kind == "join" for box in boxes) > 1:
            boxes = _without_projections(boxes)
        panels += [Panel(part, title) for part in _divided(boxes, columns)]
    return _figure(panels, alt or "Flowchart of " + " ".join(texts), legend=True)


def residual_block(
    blocks: Modules, input_shape: InputLike | None = None, *, alt: str | None = None
) -> Figure:
    """Draw a residual block as its paper does: F(x) on the left, the shortcut on the right.

    Parameters
    ----------
    blocks
        A residual block: a module that adds its input, or a projection of it, to what its layers
        make of it. Or several of them by title, drawn side by side. Left unchanged.
    input_shape
        Shape of one input, ``(C, H, W)``, the same for all; a trace has its own.
    alt
        Text alternative; lists the operations and their costs if not given.

    Returns
    -------
    Figure
        On the left of each arrow is the shape of the tensor, on the right the activation. Below are
        the block's parameters and its multiply–adds for one image. A single block has the words
        "weight layer" in its boxes, as the paper's Figure 2; in a comparison, they are left out.

    Raises
    ------
    ValueError
        If a module is not a residual block, which is said with what it lacks.
    TypeError
        If a module is given without `input_shape`, or a trace with one.

    Examples
    --------
    >>> from cnnbook.models import create
    >>> stage = create("resnet34").conv3_x
    >>> figure = residual_block(stage[1], (128, 28, 28))
    >>> print(figure.alt)  # doctest: +NORMALIZE_WHITESPACE
    Residual block BasicBlock: input 128×28×28; 3×3 conv, 128, batch norm, ReLU;
    3×3 conv, 128, batch norm; addition of (3×3 conv, 128) and (input): 128×28×28, ReLU.
    295,424 parameters, 231,211,008 multiply–adds.
    """
    panels, texts = [], []
    for title, found in _traces(blocks, input_shape, training=False).items():
        boxes = boxes_of(found)
        _check(boxes, found)
        _check_residual(boxes, name_of(found))
        whole = found.calls[0]
        parameters = sum(p.numel() for p in whole.module.parameters())
        cost = [f"{parameters:,} parameters", f"{whole.macs:,} multiply–adds"]
        texts.append(f"{_describe(title or name_of(found), boxes)} {', '.join(cost)}.")
        for box in boxes:
            if not title and box.kind in ("convolution", "1×1 convolution", "fully connected"):
                box.notes = [", ".join([box.label, *box.notes])]
                box.label = "weight layer"
        panels.append(Panel(boxes, title, cost, detailed=True, block=True))
    return _figure(panels, alt or "Residual block " + " ".join(texts), legend=False)


def _traces(model: Modules, input_shape: InputLike | None, training: bool) -> dict[str, Trace]:
    """Return the traces of modules by title; that of a single one is empty."""
    modules = dict(model) if isinstance(model, Mapping) else {"": model}
    if not modules:
        raise ValueError("no module is given")
    return {
        title: traced(module, input_shape, training=training) for title, module in modules.items()
    }


def _check(boxes: Sequence[Box], found: Trace) -> None:
    if len(boxes) == 1:
        raise ValueError(f"nothing in {name_of(found)} depends on its input")


def _check_residual(boxes: Sequence[Box], name: str) -> None:
    """Raise an error unless boxes are layers, a shortcut around them, and their sum."""
    needs = "a residual block adds its input, or a projection of it, to what its layers make of it"
    joins = [box for box in boxes if box.label == "+"]
    if len(joins) != 1:
        raise ValueError(f"{name} has {len(joins)} additions, not one: {needs}")
    (join,) = joins
    if any(box.kind == "concat" for box in boxes) or len(join.inputs) != 2:
        raise ValueError(f"{name} joins more than two paths: {needs}")
    if not any(boxes[i].kind == "input" or boxes[i].inputs == [0] for i in join.inputs):
        raise ValueError(f"in {name}, neither side of the addition is the input: {needs}")


def _without_projections(boxes: list[Box]) -> list[Box]:
    """Replace single layers on shortcuts by marks on the additions."""
    readers = [i for box in boxes for i in box.inputs]
    gone: dict[int, int] = {}  # a removed box, and what it reads
    for box in boxes:
        if box.kind != "join":
            continue
        for i in box.inputs:
            source = boxes[i].inputs[0] if boxes[i].inputs else 0
            if readers.count(i) == 1 and len(boxes[i].inputs) == 1 and readers.count(source) > 1:
                gone[i] = source
                box.reshaped.append(source)
    kept = [i for i in range(len(boxes)) if i not in gone]
    number = {old: new for new, old in enumerate(kept)}
    for i in kept:
        box = boxes[i]
        box.inputs = [number[gone.get(k, k)] for k in box.inputs]
        box.reshaped = [number[k] for k in box.reshaped]
    return [boxes[i] for i in kept]


def _divided(boxes: list[Box], columns: int) -> list[list[Box]]:
    """Divide a network into columns of about equal height, between its layers if possible."""
    set_ranks(boxes)
    main = main_path(boxes)
    possible = [i for i in cuts(boxes)[1:] if i != main[-1]]
    following = {i: next(k for k in main if k > i) for i in possible}
    between = [i for i in possible if boxes[i].group != boxes[following[i]].group]
    if len(between) >= columns - 1:
        possible = between
    if len(possible) < columns - 1:
        raise ValueError(
            f"a single tensor continues at {len(possible)} positions of this network, "
            f"so it cannot be divided into columns={columns}"
        )
    chosen = _even(sorted(boxes[i].rank for i in possible), boxes[main[-1]].rank, columns)
    parts: list[list[Box]] = [[] for _ in range(columns)]
    column_of: list[int] = []
    number: list[int] = []
    for i, box in enumerate(boxes):
        column = sum(box.rank > rank for rank in chosen)
        if i not in main:
            column = column_of[box.inputs[0]]  # beside where it leaves
        part = parts[column]
        if column > 0 and not part:
            part.append(Box("connector", ascii_uppercase[column - 1], (), []))
        column_of.append(column)
        number.append(len(part))
        inputs = [number[k] if column_of[k] == column else 0 for k in box.inputs]
        reshaped = [number[k] if column_of[k] == column else 0 for k in box.reshaped]
        part.append(replace(box, inputs=inputs, reshaped=reshaped))
    for column, rank in enumerate(chosen):
        (last,) = (i for i in main if boxes[i].rank == rank)
        part = parts[column]
        part.append(Box("connector", ascii_uppercase[column], boxes[last].shape, [number[last]]))
        parts[column + 1][0].shape = boxes[last].shape
    return parts


def _even(possible: Sequence[int], last: int, columns: int) -> list[int]:
    """Choose ranks after which to break, such that the longest column is as short as it can be."""
    for longest in range(1, last + 2):
        chosen, start = [], -1
        while last - start > longest and len(chosen) < columns - 1:
            fitting = [rank for rank in possible if start < rank <= start + longest]
            if not fitting:
                break
            start = fitting[-1]
            chosen.append(start)
        if last - start <= longest:
            break
    rest = [rank for rank in possible if rank not in chosen]
    return sorted([*chosen, *rest[len(rest) - (columns - 1 - len(chosen)) :]])


def _figure(panels: list[Panel], alt: str, *, legend: bool) -> Figure:
    """Draw panels side by side, in further rows if they are too wide, with a legend below."""
    for panel in panels:
        lay_out(panel)
    rows: list[list[Panel]] = [[]]
    for panel in panels:
        used = sum(other.width + GUTTER for other in rows[-1])
        if rows[-1] and used + panel.width > WIDTH:
            rows.append([])
        rows[-1].append(panel)
    used_kinds = {box.kind for panel in panels for box in panel.boxes} - {"other"}
    kinds = [kind for kind in KIND_COLORS if kind in used_kinds]
    dashed = any(box.reshaped for panel in panels for box in panel.boxes)
    size = legend_size(kinds, dashed) if legend else (0.0, 0.0)
    widths = [sum(p.width for p in row) + GUTTER * (len(row) - 1) for row in rows]
    width = max(NARROWEST, size[0], *widths)
    heights = [max(panel.height for panel in row) for row in rows]
    height = sum(heights) + GUTTER * (len(rows) - 1) + size[1]
    with new_figure(width, height) as figure:
        figure.set_layout_engine("none")
        top = height
        for row, wide, tall in zip(rows, widths, heights, strict=True):
            x = (width - wide) / 2
            for panel in row:
                place = (x, top - panel.height, panel.width, panel.height)
                draw(figure.add_axes(_share(place, width, height)), panel)
                x += panel.width + GUTTER
            top -= tall + GUTTER
        if legend:
            place = ((width - size[0]) / 2, 0.0, *size)
            draw_legend(figure.add_axes(_share(place, width, height)), kinds, dashed)
    return Figure(figure, alt, stacks=True)


def _share(
    place: tuple[float, float, float, float], width: float, height: float
) -> tuple[float, float, float, float]:
    x, y, w, h = place
    return x / width, y / height, w / width, h / height


def _describe(name: str, boxes: Sequence[Box]) -> str:
    """Describe a flowchart in words."""

    def label(box: Box) -> str:
        joined = {"+": "addition", "×": "product"}.get(box.label, box.label)
        return box.group if box.kind == "concat" and box.group else f"({joined})"

    parts = [f"input {boxes[0].size}"]
    for number, box in enumerate(boxes[1:], 1):
        text = {"+": "addition", "×": "product"}.get(box.label, box.label)
        if box.inputs != [number - 1]:
            text += f" of {' and '.join(label(boxes[i]) for i in box.inputs)}"
        if box.kind in ("join", "concat"):
            text += f": {box.size}"
        if box.notes:
            text += f", {', '.join(box.notes)}"
        if box.activation:
            text += f", {box.activation}"
        parts.append(text)
    return f"{name}: {'; '.join(parts)}."
