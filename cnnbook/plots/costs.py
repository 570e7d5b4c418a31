"""Where the parameters and the operations of a network are."""

import torch

from cnnbook._errors import check_kind, unknown
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import COLORS, WIDTH, new_figure
from cnnbook.tables import Table

PANELS = {"parameters": COLORS[0], "macs": COLORS[1]}


def layer_costs(table: Table, *, alt: str | None = None) -> Figure:
    """Draw parameters and multiply–adds (MACs) of every layer side by side.

    Parameters
    ----------
    table
        Result of :func:`cnnbook.analysis.summary`, or any table with the columns layer,
        parameters and macs.
    alt
        Text alternative; names the largest if not given.

    Returns
    -------
    Figure
        Bars from left to right, layers from the top, with their numbers and percentages; on a
        phone, MACs stand below parameters. Layers that cost nothing by either count are left out,
        unless none costs anything. MACs that are not known, None, are a question mark, and
        percentages are then of those that are.

    Raises
    ------
    ValueError
        If the table is empty or lacks a column.
    TypeError
        If `table` is not a table.

    Examples
    --------
    Most weights are in one layer, most operations in another:

    >>> from cnnbook import analysis, models
    >>> table = analysis.summary(models.lenet5(), (1, 32, 32))
    >>> layer_costs(table)  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Two bar charts of 5 layers: most parameters are in c5, 78% and most
    MACs are in c3, 58%.>
    """
    check_kind("table", table, Table, "a table of layers, as cnnbook.analysis.summary makes it")
    if not len(table):
        raise ValueError("the table has no layers")
    for column in ("layer", *PANELS):
        if column not in table.columns:
            raise unknown("column", column, table.columns)
    rows = [row for row in table.rows if any(row[column] != 0 for column in PANELS)] or table.rows
    names = [str(row["layer"]) for row in rows]
    largest = []
    with new_figure(WIDTH - 0.4, 0.7 + 0.215 * len(names)) as figure:  # room between two pictures
        panels = figure.subplots(1, 2)
        for axes, (column, color) in zip(panels, PANELS.items(), strict=True):
            known = [row[column] is not None for row in rows]
            values = torch.tensor([row[column] or 0 for row in rows], dtype=torch.float64)
            total = max(values.sum().item(), 1)
            scale, unit = _unit(values.max().item())
            drawn = axes.barh(range(len(names)), (values / scale).numpy(), color=color, height=0.7)
            numbers = [
                _short(value, value / total) if is_known else "?"
                for value, is_known in zip(values.tolist(), known, strict=True)
            ]
            axes.bar_label(drawn, numbers, padding=3, fontsize=9)
            axes.margins(x=0.42)
            what = table.label(column)
            axes.set(xlabel=f"{what}{unit}", ylim=(len(names) - 0.4, -0.6))
            axes.set_yticks(range(len(names)), names)
            axes.tick_params(axis="y", length=0)
            axes.spines["left"].set_linewidth(0.6)
            biggest = int(values.argmax())
            most = f"most {what} are in {names[biggest]}, {values[biggest] / total:.0%}"
            unknown_ones = known.count(False)
            largest.append(most + (f" (unknown of {unknown_ones})" if unknown_ones else ""))
    alt = alt or f"Two bar charts of {len(names)} layers: {' and '.join(largest)}."
    return Figure(figure, alt, stacks=True)


def _unit(largest: float) -> tuple[float, str]:
    for scale, name in ((1e9, "billions"), (1e6, "millions"), (1e3, "thousands")):
        if largest >= scale:
            return scale, f" ({name})"
    return 1, ""


def _short(value: float, share: float) -> str:
    if value == 0:
        return "0"
    percent = f"{share:.0%}" if share >= 0.005 else "<1%"
    for scale, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= scale:
            return f"{value / scale:.3g}{letter}  {percent}"
    return f"{value:.0f}  {percent}"
