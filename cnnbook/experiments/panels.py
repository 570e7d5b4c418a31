"""Learning curves of several groups of networks, in panels side by side."""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import MaxNLocator

from cnnbook.experiments.figures import _as_array as as_array
from cnnbook.experiments.result import ArmResult
from cnnbook.plots import Figure
from cnnbook.plots.style import CHART, line_style, new_figure


def side_by_side(
    groups: Mapping[str, Mapping[str, ArmResult]],
    key: str = "val_error",
    *,
    second: str | None = "train_error",
    ylabel: str,
    height: float = 3.4,
    alt: str | None = None,
) -> Figure:
    """Draw learning curves of several groups of arms, one panel beside the other, on equal axes.

    Parameters
    ----------
    groups
        Title of a panel to its arms, by their labels.
    key
        Which of the runs' curves is drawn bold, in fractions; bands reach from the lowest to the
        highest seed.
    second
        Another curve, drawn thin and dashed.
    ylabel
        What the curves show.
    height
        Height in inches.
    alt
        Text alternative; lists the final values if not given.
    """
    said = []
    with new_figure(CHART, height) as figure:
        row = figure.subplots(1, len(groups), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (title, arms) in zip(row, groups.items(), strict=True):
            finals = []
            for i, (label, arm) in enumerate(arms.items()):
                color, ends = line_style(i)["color"], []
                for which, bold in ((key, True), (second, False)):
                    if which is None:
                        continue
                    values = 100 * as_array(arm.curves(which))
                    epochs = np.arange(1, 1 + values.shape[1])
                    if not values.size:
                        continue
                    mean = np.nanmean(values, 0)
                    ends.append(f"{mean[-1]:.1f} %")
                    look = {"linewidth": 2.2} if bold else {"linewidth": 1.0, "linestyle": "--"}
                    axes.plot(epochs, mean, color=color, label=label if bold else None, **look)
                    if bold:
                        low, high = np.nanmin(values, 0), np.nanmax(values, 0)
                        axes.fill_between(epochs, low, high, color=color, alpha=0.2, linewidth=0)
                finals.append(f"{label.replace(chr(10), ' ')} {' and '.join(ends)}")
            said.append(f"{title}: {', '.join(finals)}")
            axes.set(title=title, xlabel="epoch")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25, linewidth=0.6)
            axes.legend()
        row[0].set_ylabel(ylabel)
        row[0].set_ylim(bottom=0)
    what = f"{ylabel[:1].upper()}{ylabel[1:]} by epoch, at the end"
    return Figure(figure, alt or f"{what}: {'; '.join(said)}.")
