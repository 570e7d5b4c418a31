"""Drawings of networks, generated from the networks themselves."""

from torch import nn

from cnnbook.analysis import Trace
from cnnbook.analysis.graph import InputLike
from cnnbook.plots.architecture.drawing import draw_arrows, draw_legend, draw_node
from cnnbook.plots.architecture.flowcharts import flowchart, residual_block
from cnnbook.plots.architecture.heads import heads
from cnnbook.plots.architecture.layout import arrange, break_into_rows, measure, position_nodes
from cnnbook.plots.architecture.nodes import (
    ROLE_COLORS,
    describe,
    name_of,
    nodes_of,
    stacked,
    traced,
)
from cnnbook.plots.architecture.towers import towers
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import new_figure

LEGEND = 0.5  # inches below the rows

__all__ = ["architecture", "flowchart", "heads", "residual_block", "towers"]


def architecture(
    model: nn.Module | Trace,
    input_shape: InputLike | None = None,
    *,
    depth: int = 1,
    alt: str | None = None,
) -> Figure:
    """Draw a network, or a part of one, from what it computes.

    Parameters
    ----------
    model
        Any network, or a module of one, for example an Inception module or a residual block;
        left unchanged. Or the result of :func:`cnnbook.analysis.trace`.
    input_shape
        Shape of one input of `model`, ``(C, H, W)``; a trace has its own.
    depth
        How far to expand it: 1 draws the layers that `model` itself calls, 2 those that they call,
        and so on.
    alt
        Text alternative; lists the blocks and what they read if not given.

    Returns
    -------
    Figure
        Every box is the tensor that a layer returns. Its height and its slanted side are the height
        and width of the feature maps, its thickness is the number of channels; all are proportional
        to the square root, so that 224 and 7 pixels fit on one page. Arrows show where tensors go;
        a circle adds (+) or multiplies (×). Long networks continue in the next row. Slices side by
        side are the layers of a plain sequence, or a series of blocks of the same class and shape.

        Below a name are the windows of the layer's convolutions or pooling, with /2 for a stride of
        2. Normalization, activation, dropout and flattening belong to the layer before.

    Raises
    ------
    ValueError
        If `depth` is not positive, `input_shape` is not the shape of an image, or nothing in the
        model depends on its input.
    TypeError
        If a model is given without `input_shape`, or a trace with one.

    Examples
    --------
    >>> from cnnbook.models import lenet5
    >>> architecture(lenet5(), (1, 32, 32))  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Drawing of LeNet5, boxes to scale: input 1×32×32, c1 6×28×28, s2 6×14×14,
    c3 16×10×10, s4 16×5×5, c5 120×1×1, f6 84, output 10.>
    """
    found = traced(model, input_shape)
    name = name_of(found)
    nodes = stacked(nodes_of(found, depth))
    if len(nodes) == 1:
        raise ValueError(f"nothing in {name} depends on its input")
    arrange(nodes)
    measure(nodes)
    rows = break_into_rows(nodes)
    drawn = {part.role for node in nodes[1:] if not node.symbol for part in node.slices}
    legend = [role for role in ROLE_COLORS if role in drawn]
    width, height = position_nodes(nodes, rows, LEGEND)
    with new_figure(width, height) as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(0, height))
        axes.set_axis_off()
        for node in nodes:
            draw_node(axes, node, is_input=node is nodes[0])
        draw_arrows(axes, nodes, width)
        draw_legend(axes, legend)
    return Figure(figure, alt or describe(name, nodes))
