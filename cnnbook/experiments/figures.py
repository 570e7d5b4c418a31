"""Figures that several experiments share: learning curves, and measurements with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MatplotlibFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from cnnbook.experiments.result import ArmResult
from cnnbook.plots import Figure
from cnnbook.plots.style import CHART, WIDTH, line_style, new_figure

NAMES = {
    "train_error": "training error",
    "val_error": "validation error",
    "train_loss": "training loss",
}
BOLD = 2.2
THIN: dict[str, Any] = {"linewidth": 1.0, "linestyle": "--"}
FAINT: dict[str, Any] = {"markersize": 4, "alpha": 0.6}


def space_out(figure: MatplotlibFigure) -> None:
    """Leave room between panels that stand below each other, and beside their labels."""
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    # Long labels are wider in an SVG than the layout has measured.
    engine.set(w_pad=0.12, hspace=0.08)


def panels_of_curves(
    panels: Mapping[str, Mapping[str, ArmResult]],
    key: str = "val_error",
    *,
    ylabel: str = "error (%)",
    second: str | None = None,
    top: float | None = None,
    zoom: bool = False,
) -> Figure:
    """Draw a curve of every arm, in panels side by side with equal axes.

    Each is the mean over the seeds, with a band from lowest to highest.

    Parameters
    ----------
    panels
        Title of the panel to label to arm. The first ones of all panels have the same color and
        dashes, and so have the second ones.
    key
        Which of the runs' curves, in fractions.
    ylabel
        What the curves show.
    second
        Another curve, drawn thin and dashed; those of `key` then have no dashes.
    top
        Largest percentage that is shown.
    zoom
        Whether to draw all panels once more below, from the lowest percentage to a little above the
        highest at the end.
    """
    said = []
    rows = 2 if zoom else 1
    with new_figure(WIDTH - 0.4, 3.4 * rows) as figure:  # room for the gap between two pictures
        grid = figure.subplots(rows, len(panels), sharex=True, sharey="row", squeeze=False)
        again = {f"{title}, the low end": arms for title, arms in panels.items()} if zoom else {}
        for axes, (title, arms) in zip(grid.flat, {**panels, **again}.items(), strict=True):
            ends = [
                _curve(axes, number, label, arm, key, second)
                for number, (label, arm) in enumerate(arms.items())
            ]
            if title not in again:
                said.append(f"{title[:1].upper()}{title[1:]}: {'; '.join(ends)}")
            axes.set(xlabel="epoch", ylabel=ylabel, title=title)
            axes.tick_params(labelleft=True, labelbottom=True)  # on a phone, each is on its own
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25, linewidth=0.6)
            if second is not None:
                axes.plot([], [], color="gray", linewidth=BOLD, label=NAMES[key])
                axes.plot([], [], color="gray", label=NAMES[second], **THIN)
            axes.legend()
        grid[0, 0].set_ylim(0, top)
        if zoom:
            grid[1, 0].set_ylim(
                *_low_end([a for arms in panels.values() for a in arms.values()], key)
            )
    what = NAMES[key] if second is None else f"{NAMES[key]} and {NAMES[second]}"
    what = f"{what[:1].upper()}{what[1:]} by epoch"
    return Figure(figure, f"{what}. {'. '.join(said)}.", stacks=True)


def panels(
    x: Sequence[float],
    arms: Mapping[str, Mapping[str, Sequence[ArmResult | None]]],
    key: str = "test_error",
    *,
    xlabel: str,
    ylabel: str = "test accuracy (%)",
    accuracy: bool = True,
    height: float = 2.7,
    last: tuple[str, Mapping[str, Mapping[str, ArmResult]]] | None = None,
) -> Figure:
    """Draw a measurement against what was varied: means, 95 % intervals, and every seed as a dot.

    Tasks are panels one below the other, with the same axes.

    Parameters
    ----------
    x
        What was varied, such as numbers of training images; drawn on a logarithmic scale.
    arms
        Title of a panel to its lines: label to one arm for each `x`, or None where there is none.
        Labels that return have the same style.
    key
        Measurement of the runs, a fraction.
    xlabel, ylabel
        What the axes show.
    accuracy
        Whether to draw one minus the measurement.
    height
        Height of each panel in inches.
    last
        Title of a last panel, and its rows: what was different, and label to arm.
    """
    told = []
    styles: dict[str, dict[str, Any]] = {}
    ratios = [height] * len(arms) + ([0.9 + 0.36 * len(last[1])] if last else [])
    with new_figure(CHART, sum(ratios)) as figure:
        space_out(figure)
        grid = figure.add_gridspec(len(ratios), height_ratios=ratios)
        axes = None
        for i, (title, lines) in enumerate(arms.items()):
            axes = figure.add_subplot(grid[i], sharex=axes, sharey=axes)
            ends = []
            for label, results in lines.items():
                style = styles.setdefault(label, line_style(len(styles)))
                mean = draw_line(axes, x, results, key, accuracy, label, style)
                to = f"from {mean[0]:.1f} to {mean[-1]:.1f} %"
                ends.append(f"{label} {to if len(mean) > 1 else f'{mean[0]:.1f} %'}")
            told.append(f"{title}: {'; '.join(ends)}")
            axes.set_xscale("log")
            axes.set_xticks(list(x), [f"{at:,}" for at in x])
            axes.minorticks_off()
            axes.set(ylabel=ylabel, title=title)
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.legend()
            axes.tick_params(labelbottom=i == len(arms) - 1)
        if axes is not None:
            axes.set(xlabel=xlabel)
        if last is not None:
            title, rows = last
            axes = figure.add_subplot(grid[-1])
            told.append(f"{title}: {'; '.join(_draw_rows(axes, rows, key, accuracy, styles))}")
            axes.set(xlabel=ylabel, title=title)
            axes.legend(loc="upper center")  # the best location would be found by lines alone
    between = f"for {xlabel} from {x[0]:,} to {x[-1]:,}"
    return Figure(figure, f"{ylabel[:1].upper()}{ylabel[1:]} {between}; {'. '.join(told)}.")


def draw_line(
    axes: Axes,
    x: Sequence[float],
    results: Sequence[ArmResult | None],
    key: str,
    accuracy: bool,
    label: str,
    style: Mapping[str, Any],
    dots: Mapping[str, Any] = FAINT,
) -> list[float]:
    """Draw means, intervals and seeds of one line; return the means."""
    found = {at: arm for at, arm in zip(x, results, strict=True) if arm is not None}
    points = [_percentages(arm.values(key), accuracy) for arm in found.values()]
    mean = [float(np.mean(values)) for values in points]
    alone = {"marker": "o", "linestyle": "none"} if len(found) == 1 else {}
    axes.plot(list(found), mean, label=label, **{**style, **alone})
    if all(len(values) > 1 for values in points):
        halves = [100 * (r.interval(key).high - r.interval(key).mean) for r in found.values()]
        bars = {"color": style["color"], "linewidth": 1.1, "capsize": 3}
        axes.errorbar(list(found), mean, yerr=halves, fmt="none", **bars)
    seeds = [(at, v) for at, values in zip(found, points, strict=True) for v in values]
    axes.plot(*zip(*seeds, strict=True), ".", color=style["color"], **dots)
    return mean


def draw_row(
    axes: Axes,
    row: float,
    arm: ArmResult,
    key: str,
    accuracy: bool,
    color: str,
    marker: str = "o",
    label: str | None = None,
) -> float:
    """Draw mean, interval and seeds of one arm beside each other; return the mean."""
    values = _percentages(arm.values(key), accuracy)
    mean = float(np.mean(values))
    if len(values) > 1:
        interval = arm.interval(key)
        half = 100 * (interval.high - interval.mean)
        axes.errorbar(mean, row, xerr=half, fmt="none", color=color, capsize=3)
    axes.plot(values, [row] * len(values), ".", color=color, **FAINT)
    axes.plot(mean, row, marker, color=color, label=label)
    return mean


def _draw_rows(
    axes: Axes,
    rows: Mapping[str, Mapping[str, ArmResult]],
    key: str,
    accuracy: bool,
    styles: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    """Draw a few arms in each row; return the rows in words."""
    said = []
    for y, (name, arms) in enumerate(rows.items()):
        listed = []
        for label, arm in arms.items():
            color, marker = styles[label]["color"], "osD^"[list(styles).index(label)]
            named = label if y == 0 else None
            mean = draw_row(axes, y, arm, key, accuracy, color, marker, named)
            listed.append(f"{label} {mean:.1f} %")
        said.append(f"{name.replace(chr(10), ' ')}: {', '.join(listed)}")
    axes.set_yticks(range(len(rows)), list(rows))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(alpha=0.25, linewidth=0.6, axis="x")
    return said


def intervals(
    arms: Mapping[str, ArmResult],
    key: str = "test_error",
    *,
    xlabel: str = "test accuracy (%)",
    accuracy: bool = True,
) -> Figure:
    """Draw one line per arm: the mean with its 95 % interval, and every seed as a dot.

    Parameters
    ----------
    arms
        Label to arm, from the top.
    key
        Measurement of the runs, a fraction.
    xlabel
        What the axis shows.
    accuracy
        Whether to draw one minus the measurement.
    """
    with new_figure(4.6, 0.9 + 0.34 * len(arms)) as figure:  # hardly shrinks on a phone
        space_out(figure)
        axes = figure.add_subplot()
        means = draw_intervals(axes, arms, key, accuracy)
        axes.set(xlabel=xlabel)
    listed = "; ".join(f"{label} {mean:.1f} %" for label, mean in zip(arms, means, strict=True))
    return Figure(figure, f"{xlabel[:1].upper()}{xlabel[1:]}: {listed}.")


def draw_intervals(
    axes: Axes, arms: Mapping[str, ArmResult], key: str, accuracy: bool
) -> list[float]:
    """Draw what :func:`intervals` does in axes that are there; return the means."""
    color = line_style(0)["color"]
    means = [
        draw_row(axes, row, arm, key, accuracy, color) for row, arm in enumerate(arms.values())
    ]
    axes.set_yticks(range(len(arms)), list(arms))
    axes.invert_yaxis()
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.margins(y=0.12)
    axes.grid(alpha=0.25, linewidth=0.6, axis="x")
    return means


def _curve(
    axes: Axes, number: int, label: str, arm: ArmResult, key: str, second: str | None
) -> str:
    """Draw the mean and the range of an arm's curves, and return how they end."""
    style: dict[str, Any] = {**line_style(number), "linewidth": BOLD}
    lost = [run["curves"][key] for run in arm.runs if run not in arm.compared.runs]
    for curve in lost:
        axes.plot(1 + np.arange(len(curve)), 100 * np.array(curve), color=style["color"], **THIN)
    if lost:
        label = f"{label} ({len(lost)} of {len(arm.runs)} lost)"
        arm = arm.compared
    values = 100 * _as_array(arm.curves(key))
    if not values.size:
        axes.plot([], [], label=f"{label} (did not train)", **style)
        return f"{label.replace(chr(10), ' ')} did not train"
    epochs = np.arange(1, 1 + values.shape[1])
    mean = np.nanmean(values, 0)
    if second is not None:
        style["linestyle"] = "-"
        other = np.nanmean(100 * _as_array(arm.curves(second)), 0)
        axes.plot(epochs, other, color=style["color"], **THIN)
    axes.plot(epochs, mean, label=label, **style)
    low, high = np.nanmin(values, 0), np.nanmax(values, 0)
    axes.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
    ends = f"{mean[-1]:.1f} %"
    if second is not None:
        ends += f" ({NAMES[second]} {other[-1]:.1f} %)"
    return f"{label.replace(chr(10), ' ')} ends at {ends}"


def _low_end(arms: Sequence[ArmResult], key: str) -> tuple[float, float]:
    """Return from where to where the ends of curves lie, of runs that learned, in percent."""
    curves = [curve for arm in arms for curve in arm.compared.curves(key) if curve]
    low = 100 * min(min(curve) for curve in curves)
    high = 100 * max(curve[-1] for curve in curves)
    return low - 0.1 * (high - low), high + 0.3 * (high - low)


def _as_array(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """Return curves as rows; those that ended early are filled with nothing."""
    values = np.full((len(curves), max(map(len, curves), default=0)), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[: len(curve)] = curve
    return values


def _percentages(values: Sequence[float], accuracy: bool) -> list[float]:
    return [100 * (1 - value if accuracy else value) for value in values]
