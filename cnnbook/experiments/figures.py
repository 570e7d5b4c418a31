"""Figures that several experiments share: learning curves, and measurements with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.ticker import MaxNLocator

from cnnbook.experiments.result import ArmResult
from cnnbook.plots import Figure
from cnnbook.plots.style import CHART, line_style, new_figure


def learning_curves(
    arms: Mapping[str, ArmResult],
    key: str = "train_error",
    *,
    second: str | None = None,
    ylabel: str | None = None,
    top: float | None = None,
    log: bool = False,
    height: float = 3.4,
    alt: str | None = None,
) -> Figure:
    """Draw a curve of every arm: the mean over the seeds, and a band from lowest to highest.

    Parameters
    ----------
    arms
        Label to arm.
    key
        Which of the runs' curves, in fractions.
    second
        Another curve, drawn in thin dashes, such as the error on validation images.
    ylabel
        What the curve shows; made from `key` if not given.
    top
        Largest percentage that is shown.
    log
        Whether the percentages are drawn on a logarithmic scale.
    height
        Height in inches.
    alt
        Text alternative; lists the final values if not given.
    """
    finals = []
    with new_figure(CHART, height) as figure:
        axes = figure.add_subplot()
        for i, (label, arm) in enumerate(arms.items()):
            style = line_style(i)
            values = 100 * _as_array(arm.curves(key))
            epochs = np.arange(1, 1 + values.shape[1])
            if not values.size:
                axes.plot([], [], label=f"{label} (did not train)", **style)
                finals.append(f"{label} did not train")
                continue
            mean = np.nanmean(values, 0)
            axes.plot(epochs, mean, label=label, **style)
            low, high = np.nanmin(values, 0), np.nanmax(values, 0)
            axes.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
            finals.append(f"{label} ends at {mean[-1]:.1f} %")
            if second is not None:
                other = np.nanmean(100 * _as_array(arm.curves(second)), 0)
                axes.plot(epochs, other, color=style["color"], linewidth=0.9, linestyle=":")
        what = ylabel or f"{key.replace('train', 'training').replace('_', ' ')} (%)"
        axes.set(xlabel="epoch", ylabel=what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if log:
            axes.set_yscale("log")
        elif top is not None:
            axes.set_ylim(0, top)
        else:
            axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
    return Figure(figure, alt or f"{what[:1].upper()}{what[1:]} by epoch. {'; '.join(finals)}.")


def against(
    x: Sequence[float],
    arms: Mapping[str, Sequence[ArmResult]],
    key: str = "test_error",
    *,
    xlabel: str,
    ylabel: str = "test accuracy (%)",
    accuracy: bool = True,
    log: bool = True,
    height: float = 3.4,
    alt: str | None = None,
) -> Figure:
    """Draw a measurement against what was varied: means, 95 % intervals, and every seed as a dot.

    Parameters
    ----------
    x
        What was varied, such as numbers of training images.
    arms
        Label to one arm for each `x`.
    key
        Measurement of the runs, a fraction.
    xlabel, ylabel
        What the axes show.
    accuracy
        Whether to draw one minus the measurement.
    log
        Whether `x` is drawn on a logarithmic scale.
    height
        Height in inches.
    alt
        Text alternative; lists the means at both ends if not given.
    """
    ends = []
    with new_figure(CHART, height) as figure:
        axes = figure.add_subplot()
        for i, (label, results) in enumerate(arms.items()):
            style = line_style(i)
            points = [_percentages(arm.values(key), accuracy) for arm in results]
            mean = [float(np.mean(values)) for values in points]
            axes.plot(x, mean, label=label, **style)
            if all(len(values) > 1 for values in points):
                halves = [100 * (r.interval(key).high - r.interval(key).mean) for r in results]
                bars = {"color": style["color"], "linewidth": 1.1, "capsize": 3}
                axes.errorbar(x, mean, yerr=halves, fmt="none", **bars)
            dots = [(at, v) for at, values in zip(x, points, strict=True) for v in values]
            axes.plot(*zip(*dots, strict=True), ".", color=style["color"], markersize=4, alpha=0.6)
            ends.append(f"{label} from {mean[0]:.1f} to {mean[-1]:.1f} %")
        if log:
            axes.set_xscale("log")
            axes.set_xticks(list(x), [f"{at:,}" for at in x])
            axes.minorticks_off()
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
    between = f"for {xlabel} from {x[0]:,} to {x[-1]:,}"
    return Figure(
        figure, alt or f"{ylabel[:1].upper()}{ylabel[1:]} {between}; means: {'; '.join(ends)}."
    )


def intervals(
    arms: Mapping[str, ArmResult],
    key: str = "test_error",
    *,
    xlabel: str = "test accuracy (%)",
    accuracy: bool = True,
    alt: str | None = None,
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
    alt
        Text alternative; lists the means if not given.
    """
    listed = []
    with new_figure(CHART, 0.9 + 0.34 * len(arms)) as figure:
        axes = figure.add_subplot()
        for row, (label, arm) in enumerate(arms.items()):
            color = line_style(0)["color"]
            values = _percentages(arm.values(key), accuracy)
            mean = float(np.mean(values))
            if len(values) > 1:
                interval = arm.interval(key)
                half = 100 * (interval.high - interval.mean)
                axes.errorbar(mean, row, xerr=half, fmt="none", color=color, capsize=4)
            axes.plot(values, [row] * len(values), ".", color=color, markersize=4, alpha=0.6)
            axes.plot(mean, row, "o", color=color, markersize=6)
            listed.append(f"{label} {mean:.1f} %")
        axes.set_yticks(range(len(arms)), list(arms))
        axes.invert_yaxis()
        axes.margins(y=0.12)
        axes.set(xlabel=xlabel)
        axes.grid(alpha=0.25, linewidth=0.6, axis="x")
    return Figure(figure, alt or f"{xlabel[:1].upper()}{xlabel[1:]}: {'; '.join(listed)}.")


def _as_array(curves: Sequence[Sequence[float]]) -> np.ndarray:
    """Return curves as rows; those that ended early are filled with nothing."""
    values = np.full((len(curves), max(map(len, curves), default=0)), np.nan)
    for row, curve in zip(values, curves, strict=True):
        row[: len(curve)] = curve
    return values


def _percentages(values: Sequence[float], accuracy: bool) -> list[float]:
    return [100 * (1 - value if accuracy else value) for value in values]
