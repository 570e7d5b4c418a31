"""What changes from layer to layer."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from cnnbook._errors import check_kind
from cnnbook.analysis import GradientRecorder
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import CHART, COLORS, WIDTH, line_style, new_figure
from cnnbook.tables import Table

_GRADIENT = "gradient (root mean square)"


def _check(table: Table, *columns: str) -> None:
    check_kind("table", table, Table, "a table that a function of cnnbook.analysis made")
    missing = [column for column in columns if column not in table.columns]
    if missing or not len(table):
        raise ValueError(
            f"the table needs rows with the columns {', '.join(columns)}; it has {len(table)} rows "
            f"with {', '.join(table.columns) or 'none'}"
        )


def _layers_on_x(axes, names: list[str]) -> None:
    """Name the layers along x; if there are many, only some."""
    some = range(0, len(names), -(-len(names) // 24))
    axes.set_xticks(some, [names[i] for i in some], rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.5, len(names) - 0.5)


def gradient_flow(table: Table, *, align: bool = False, alt: str | None = None) -> Figure:
    """Draw the gradient at each layer, one line per network or per training step.

    Parameters
    ----------
    table
        From :func:`cnnbook.analysis.gradient_flow`, or the table of a
        :class:`cnnbook.analysis.GradientRecorder`, with few steps. The first column distinguishes
        the lines.
    align
        Whether to align layers of the same name, in the order of the network that has the most: for
        networks that differ in a few layers, such as auxiliary classifiers. Otherwise each
        network's layers are counted on their own.
    alt
        Text alternative; gives each line's first and last value if not given.

    Returns
    -------
    Figure
        The vertical axis is logarithmic. A gradient of zero cannot be shown on it and leaves a
        gap.

    Raises
    ------
    ValueError
        If the table is of a different kind, or the layers cannot be aligned.

    Examples
    --------
    >>> import torch
    >>> from cnnbook import analysis, models
    >>> residual, plain = models.create("resnet20"), models.create("resnet20", plain=True)
    >>> nets = {"ResNet-20": residual, "plain": plain}
    >>> x, y = torch.zeros(4, 3, 32, 32), torch.arange(4)
    >>> gradient_flow(analysis.gradient_flow(nets, x, y)).alt.split(".")[0]
    'Gradient by layer'
    """
    _check(table, "layer", "number", "gradient")
    what = table.columns[0]
    lines: dict[object, list[tuple[int, float]]] = {}
    networks: dict[object, list[str]] = {}
    for row in table.rows:
        networks.setdefault(row[what], []).append(row["layer"])
    longest = max(networks.values(), key=len)
    for row in table.rows:
        if align and row["layer"] not in longest:
            raise ValueError(
                f"layers cannot be aligned: {row['layer']} of {row[what]!r} is not among those of "
                "the network that has the most; leave out align=True"
            )
        number = 1 + longest.index(row["layer"]) if align else row["number"]
        lines.setdefault(row[what], []).append((number, row["gradient"] or np.nan))
    ends = []
    with new_figure(CHART, 3.4) as figure:
        axes = figure.add_subplot()
        for i, (label, points) in enumerate(lines.items()):
            label = label if what == "network" else f"{what} {label}"
            numbers, values = zip(*points, strict=True)
            marker = {"marker": "o", "markersize": 3} if len(points) <= 30 else {}
            axes.plot(numbers, values, label=label, **line_style(i), **marker)
            ends.append(f"{label}: {values[0]:.1e} at the first, {values[-1]:.1e} at the last")
        axes.set(yscale="log", ylabel=_GRADIENT)
        axes.set_xlabel("layer with weights, counted from the input")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
    return Figure(figure, alt or f"Gradient by layer. {'; '.join(ends)}.")


def gradient_history(
    tables: Mapping[str, GradientRecorder | Table] | GradientRecorder | Table,
    *,
    alt: str | None = None,
) -> Figure:
    """Draw the gradient at each layer over the course of training, as color.

    Parameters
    ----------
    tables
        A :class:`cnnbook.analysis.GradientRecorder`, or its table; or several of either by the
        name of the network, up to four.
    alt
        Text alternative.

    Returns
    -------
    Figure
        One panel per network, side by side: steps to the right (evenly spaced as recorded),
        layers from the input at the bottom to the output at the top. All panels share one
        logarithmic color scale; a gradient of zero is left blank.

    Raises
    ------
    ValueError
        If a table is of a different kind, or there are none or more than four.

    Examples
    --------
    >>> from cnnbook import analysis, data, models, training
    >>> train, _ = data.load("fashion-mini", size=32)
    >>> x, y = next(data.Batches(train, 32, device="cpu").epoch(0))
    >>> recorder = analysis.GradientRecorder(x, y, every=2)
    >>> options = {"epochs": 1, "callbacks": [recorder], "device": "cpu", "progress": False}
    >>> _ = training.fit(models.lenet5(), train[:320], **options)
    >>> gradient_history({"LeNet-5": recorder}).alt.split(".")[0]
    'Gradient by layer and step'
    """
    several = tables if isinstance(tables, Mapping) else {"": tables}
    if not 1 <= len(several) <= 4:
        raise ValueError(f"give one to four tables, got {len(several)}")
    grids = {}
    for name, given in several.items():
        table = given.table() if isinstance(given, GradientRecorder) else given
        _check(table, "step", "layer", "number", "gradient")
        steps = list(dict.fromkeys(row["step"] for row in table.rows))
        values = np.full((max(row["number"] for row in table.rows), len(steps)), np.nan)
        for row in table.rows:
            values[row["number"] - 1, steps.index(row["step"])] = row["gradient"] or np.nan
        grids[name] = steps, values
    low = min(np.nanmin(values) for _, values in grids.values())
    high = max(np.nanmax(values) for _, values in grids.values())
    facts = []
    with new_figure(WIDTH if len(grids) > 1 else CHART, 3.4) as figure:
        panels = figure.subplots(1, len(grids), squeeze=False)[0]
        for axes, (name, (steps, values)) in zip(panels, grids.items(), strict=True):
            shown = axes.imshow(
                values,
                cmap="viridis",
                norm=LogNorm(low, high),
                aspect="auto",
                origin="lower",
                extent=(0, len(steps), 0.5, len(values) + 0.5),
            )
            some = range(0, len(steps), -(-len(steps) // 5))
            axes.set_xticks([i + 0.5 for i in some], [steps[i] for i in some])
            axes.set(title=name, xlabel="step")
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
            first = f"{name}, first layer" if name else "First layer"
            facts.append(
                f"{first}: {values[0, 0]:.1e} at step {steps[0]}, "
                f"{values[0, -1]:.1e} at step {steps[-1]}"
            )
        panels[0].set_ylabel("layer, counted from the input")
        bar = figure.colorbar(shown, ax=panels, aspect=30)
        bar.set_label(_GRADIENT)
        bar.outline.set_linewidth(0.4)
    return Figure(figure, alt or f"Gradient by layer and step. {'; '.join(facts)}.")


def activation_statistics(table: Table, *, alt: str | None = None) -> Figure:
    """Draw mean and standard deviation, zeros, and dead units by layer.

    Parameters
    ----------
    table
        From :func:`cnnbook.analysis.activation_statistics`.
    alt
        Text alternative; lists the zeros if not given.

    Returns
    -------
    Figure
        Two panels. Above, the mean, with bars of ± one standard deviation. Below, the percentages
        of values that are zero and of units that are dead; where "dead" has no meaning, there is no
        marker.

    Raises
    ------
    ValueError
        If the table is of a different kind.

    Examples
    --------
    >>> import torch
    >>> from cnnbook import analysis, models
    >>> net = models.lenet5(activation="relu")
    >>> table = analysis.activation_statistics(net, torch.randn(8, 1, 32, 32), ["c1", "c3"])
    >>> activation_statistics(table).alt.split(":")[0]
    'Activations by layer'
    """
    _check(table, "layer", "mean", "standard_deviation", "zeros", "units", "dead")
    names = [row["layer"] for row in table.rows]
    x = range(len(names))
    zeros = [100 * row["zeros"] for row in table.rows]
    dead = [np.nan if r["dead"] is None else 100 * r["dead"] / r["units"] for r in table.rows]
    with new_figure(CHART, 4.6) as figure:
        top, bottom = figure.subplots(2, sharex=True)
        top.errorbar(
            x,
            [row["mean"] for row in table.rows],
            [row["standard_deviation"] for row in table.rows],
            fmt="o",
            color=COLORS[0],
            capsize=3,
            linewidth=1.2,
        )
        top.set_ylabel("mean ± standard\ndeviation")
        bottom.plot(x, zeros, label="values that are zero", marker="o", **line_style(0))
        bottom.plot(x, dead, label="dead units", marker="s", **line_style(1))
        bottom.set(ylabel="share (%)", ylim=(-4, 104), xlabel="layer")
        bottom.legend()
        for axes in (top, bottom):
            axes.grid(alpha=0.25, linewidth=0.6)
        _layers_on_x(bottom, names)
    if alt is None:
        listed = ", ".join(f"{name} {zero:.0f}%" for name, zero in zip(names, zeros, strict=True))
        alt = f"Activations by layer: mean, standard deviation, dead units, and zeros: {listed}."
    return Figure(figure, alt)


def linear_probes(tables: Mapping[str, Table] | Table, *, alt: str | None = None) -> Figure:
    """Draw the accuracy of linear probes by layer.

    Parameters
    ----------
    tables
        From :func:`cnnbook.analysis.linear_probes`; or several by name, for the same layers; then
        only test accuracies are drawn.
    alt
        Text alternative; lists the test accuracies if not given.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a table is of a different kind, tables have different layers, or there are none.

    Examples
    --------
    >>> table = Table(
    ...     [
    ...         {"layer": "input", "train_accuracy": 0.86, "test_accuracy": 0.80},
    ...         {"layer": "c1", "train_accuracy": 0.90, "test_accuracy": 0.82},
    ...     ]
    ... )
    >>> linear_probes(table)
    <Figure: Test accuracy of linear probes by layer. input 80%, c1 82%.>
    """
    several = tables if isinstance(tables, Mapping) else {"": tables}
    if not several:
        raise ValueError("no tables to draw")
    for table in several.values():
        _check(table, "layer", "train_accuracy", "test_accuracy")
    names = [row["layer"] for row in next(iter(several.values())).rows]
    facts = []
    with new_figure(CHART, 3.6) as figure:
        axes = figure.add_subplot()
        for i, (name, table) in enumerate(several.items()):
            layers = [row["layer"] for row in table.rows]
            if layers != names:
                raise ValueError(f"the tables have different layers: {names} and {layers}")
            train, test = (
                [100 * row[f"{part}_accuracy"] for row in table.rows] for part in ("train", "test")
            )
            axes.plot(test, label=name or "test images", marker="o", **line_style(i))
            if len(several) == 1:
                axes.plot(train, label="training images", marker="s", **line_style(1))
            listed = ", ".join(f"{n} {v:.0f}%" for n, v in zip(names, test, strict=True))
            facts.append(f"{name + ': ' if name else ''}{listed}")
        axes.set(xlabel="layer", ylabel="accuracy of a linear probe (%)")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
        _layers_on_x(axes, names)
    return Figure(figure, alt or f"Test accuracy of linear probes by layer. {'; '.join(facts)}.")
