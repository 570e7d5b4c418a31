"""Learning curves of several groups of networks, in panels side by side."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from cnnbook.experiments.figures import _as_array as as_array
from cnnbook.experiments.result import ArmResult
from cnnbook.plots import Figure
from cnnbook.plots.style import CHART, line_style, new_figure

NAMES = {"train_error": "training error", "val_error": "validation error"}
THIN: dict[str, Any] = {"linewidth": 1.0, "linestyle": "--"}


def side_by_side(
    groups: Mapping[str, Mapping[str, ArmResult]],
    key: str = "val_error",
    *,
    second: str | None = "train_error",
    ylabel: str = "error (%)",
    height: float = 3.4,
    alt: str | None = None,
) -> Figure:
    """Draw learning curves of several groups of arms, one panel beside the other, on equal axes.

    Parameters
    ----------
    groups
        Title of a panel to its arms, by their labels; if these are alike, one legend is enough.
    key
        Which of the runs' curves is drawn bold, in fractions; bands reach from the lowest to the
        highest seed.
    second
        Another curve, drawn thin and dashed, if any.
    ylabel
        What the axis shows.
    height
        Height in inches.
    alt
        Text alternative; lists the final values if not given.
    """
    said = []
    alike = len({tuple(arms) for arms in groups.values()}) == 1
    with new_figure(CHART, height) as figure:
        row = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, arms) in zip(row, groups.items(), strict=True):
            finals = []
            for i, (label, arm) in enumerate(arms.items()):
                style, ends = line_style(i), []
                if second is not None:
                    style["linestyle"] = "-"
                    ends.append(_draw(axes, arm, second, color=style["color"], **THIN))
                ends.append(_draw(axes, arm, key, label=label, linewidth=2.2, **style))
                if len(arm.curves(key)) > 1:
                    values = 100 * as_array(arm.curves(key))
                    epochs = np.arange(1, 1 + values.shape[1])
                    low, high = np.nanmin(values, 0), np.nanmax(values, 0)
                    axes.fill_between(
                        epochs, low, high, color=style["color"], alpha=0.2, linewidth=0
                    )
                finals.append(f"{label.replace(chr(10), ' ')} {' and '.join(ends)}")
            said.append(f"{title}: {', '.join(finals)}")
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25, linewidth=0.6)
            if not alike:
                axes.legend()
        row[0].set_ylabel(ylabel)
        row[0].set_ylim(bottom=0)
        if alike:
            figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper left", ncols=2)
        what = NAMES[key]
        if second is not None:
            lines = [Line2D([], [], color="gray", **THIN), Line2D([], [], color="gray", lw=2.2)]
            names = [NAMES[second], NAMES[key]]
            figure.legend(lines, names, loc="outside upper right", ncols=2)
            what = " and ".join(names)
    what = f"{what[:1].upper()}{what[1:]} by epoch, at the end"
    return Figure(figure, alt or f"{what}: {'; '.join(said)}.")


def _draw(axes: Axes, arm: ArmResult, key: str, **style: Any) -> str:
    """Draw the mean of an arm's curves, and return how it ends."""
    values = 100 * as_array(arm.curves(key))
    if not values.size:
        axes.plot([], [], **style)
        return "did not train"
    mean = np.nanmean(values, 0)
    axes.plot(np.arange(1, 1 + len(mean)), mean, **style)
    return f"{mean[-1]:.1f} %"
