"""Results of training and evaluation."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import PowerNorm
from torch import Tensor

from cnnbook._checks import check_positive, no_tensor
from cnnbook._errors import check_kind, unknown
from cnnbook.analysis import ConfusionMatrix
from cnnbook.plots.figure import Figure
from cnnbook.plots.style import CHART, COLORS, ON_LIGHT, WIDTH, line_style, new_figure

LABELS = {
    "train_loss": "training loss",
    "val_loss": "validation loss",
    "train_accuracy": "training accuracy (%)",
    "val_accuracy": "validation accuracy (%)",
}


def said(value: float) -> str:
    """Format a number for reading aloud: 3 digits, but never 2e+03."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.3g}"


def curves(
    runs: Mapping[str, Sequence[Any]],
    metric: str = "val_accuracy",
    *,
    alt: str | None = None,
) -> Figure:
    """Draw a metric against epochs, one line per kind of run.

    Parameters
    ----------
    runs
        Label to the histories of that kind, one per seed. The line is their mean; with several, a
        band reaches from the lowest to the highest. If some ended early, both cover only those that
        reached the epoch.
    metric
        ``"val_accuracy"``, ``"train_accuracy"``, ``"val_loss"`` or ``"train_loss"``.
    alt
        Text alternative; made from the final values if not given.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If the metric is unknown, a label has no history, or a history lacks the metric.
    TypeError
        If `runs` is not a mapping to lists, but a single history for example.

    Examples
    --------
    >>> from cnnbook.training import History
    >>> runs = {"LeNet-5": [History(val_accuracy=[0.7, 0.8]), History(val_accuracy=[0.72, 0.84])]}
    >>> curves(runs)
    <Figure: Validation accuracy (%) by epoch. LeNet-5 ends at 82.>
    """
    check_kind("metric", metric, str, f"one of {', '.join(LABELS)}")
    if metric not in LABELS:
        raise unknown("metric", metric, LABELS)
    needed = "a mapping from labels to lists of histories, {'my network': [history]}"
    check_kind("runs", runs, Mapping, needed)
    percent = 100 if metric.endswith("accuracy") else 1
    finals = []
    with new_figure(CHART, 3.2) as figure:
        axes = figure.add_subplot()
        for i, (label, histories) in enumerate(runs.items()):
            needed = "a list of histories, one per seed, as fit() returns them: [history]"
            check_kind(f"runs[{label!r}]", histories, Collection, needed)
            if not histories:
                raise ValueError(f"no history for {label!r}")
            if not all(hasattr(history, metric) for history in histories):
                raise TypeError(f"runs[{label!r}] must be {needed}, got others in the list")
            seen = [getattr(history, metric) for history in histories]
            if not all(seen):
                raise ValueError(
                    f"a history of {label!r} has no {metric}; were validation images given to "
                    "fit()?"
                )
            values = np.full((len(seen), max(map(len, seen))), np.nan)
            for row, entries in zip(values, seen, strict=True):
                row[: len(entries)] = entries
            values *= percent
            epochs = range(1, 1 + values.shape[1])
            mean = np.nanmean(values, 0)
            style = line_style(i)
            axes.plot(epochs, mean, label=label, **style)
            if len(values) > 1:
                low, high = np.nanmin(values, 0), np.nanmax(values, 0)
                axes.fill_between(epochs, low, high, color=style["color"], alpha=0.2, linewidth=0)
            finals.append(f"{label} ends at {said(mean[-1])}")
        axes.set(xlabel="epoch", ylabel=LABELS[metric])
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
    alt = alt or f"{LABELS[metric].capitalize()} by epoch. {'; '.join(finals)}."
    return Figure(figure, alt)


def lines(
    x: Tensor,
    ys: Mapping[str, Tensor],
    *,
    xlabel: str,
    ylabel: str,
    alt: str,
    height: float = 3.0,
) -> Figure:
    """Draw functions of one variable.

    Parameters
    ----------
    x
        Abscissa, ``(N,)``.
    ys
        Label to values, ``(N,)``.
    xlabel, ylabel
        What the axes show, with units.
    alt
        Text alternative.
    height
        Height in inches.

    Returns
    -------
    Figure

    Examples
    --------
    >>> import torch
    >>> x = torch.linspace(-3, 3, 50)
    >>> functions = {"ReLU": x.relu(), "tanh": x.tanh()}
    >>> lines(x, functions, xlabel="a", ylabel="f(a)", alt="ReLU and tanh")
    <Figure: ReLU and tanh>
    """
    check_positive("height", height)
    check_kind("ys", ys, Mapping, "a mapping from labels to tensors of values")
    for name, values in {"x": x, **ys}.items():
        if not isinstance(values, Tensor):
            raise no_tensor(name, values)
    with new_figure(CHART, height) as figure:
        axes = figure.add_subplot()
        for i, (label, y) in enumerate(ys.items()):
            axes.plot(x.numpy(), y.numpy(), label=label, **line_style(i))
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
    return Figure(figure, alt)


def sweep(
    x: Sequence[float],
    values: Mapping[str, Sequence[Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    log: bool = False,
    alt: str | None = None,
) -> Figure:
    """Draw repeated measurements against a quantity that was varied.

    Parameters
    ----------
    x
        What was varied, ``(N,)``, for example numbers of training images.
    values
        Label to N sequences of measurements, one sequence for each `x`, one measurement for each
        seed. The line connects the means; every measurement is a dot; a band reaches from the
        lowest to the highest.
    xlabel, ylabel
        What the axes show, with units.
    log
        Whether `x` is drawn on a logarithmic scale.
    alt
        Text alternative; lists the means at both ends if not given.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If a label does not have one non-empty sequence for each `x`, or `log` is set and an `x` is
        not positive.

    Examples
    --------
    >>> measured = {"shallow": [[0.60, 0.62], [0.71, 0.73]], "deep": [[0.55, 0.59], [0.78, 0.80]]}
    >>> figure = sweep([100, 1000], measured, xlabel="training images", ylabel="test accuracy")
    >>> figure  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Test accuracy for training images from 100 to 1,000; means: shallow from
    0.61 to 0.72; deep from 0.57 to 0.79.>
    """
    check_kind("x", x, Collection, "a list of numbers")
    needed = "a mapping from labels to lists of measurements, one list for each x"
    check_kind("values", values, Mapping, needed)
    for label, rows in values.items():
        needed = "a list of lists of measurements, one for each x"
        check_kind(f"values[{label!r}]", rows, Collection, needed)
        for row in rows:
            check_kind(f"an entry of values[{label!r}]", row, Collection, "a list of measurements")
        if len(rows) != len(x) or not all(len(row) for row in rows):
            raise ValueError(
                f"{label!r} needs one sequence of measurements, not empty, for each of the "
                f"{len(x)} values of x; got {len(rows)} of lengths {[len(row) for row in rows]}"
            )
    if log and min(x) <= 0:
        raise ValueError(f"a logarithmic axis needs positive values, got x={list(x)}")
    ends = []
    with new_figure(CHART, 3.2) as figure:
        axes = figure.add_subplot()
        for i, (label, rows) in enumerate(values.items()):
            style = line_style(i)
            mean = [float(np.mean(row)) for row in rows]
            low, high = [min(row) for row in rows], [max(row) for row in rows]
            axes.plot(x, mean, label=label, **style)
            axes.fill_between(x, low, high, color=style["color"], alpha=0.15, linewidth=0)
            dots = [(at, value) for at, row in zip(x, rows, strict=True) for value in row]
            axes.plot(*zip(*dots, strict=True), ".", color=style["color"], markersize=5)
            ends.append(f"{label} from {said(mean[0])} to {said(mean[-1])}")
        if log:
            axes.set_xscale("log")
            axes.set_xticks(list(x), [f"{at:,}" for at in x])
            axes.minorticks_off()
        elif all(isinstance(at, int) for at in x):
            axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.legend()
    between = f"for {xlabel} from {x[0]:,} to {x[-1]:,}"
    return Figure(
        figure, alt or f"{ylabel[:1].upper()}{ylabel[1:]} {between}; means: {'; '.join(ends)}."
    )


def bars(
    labels: Sequence[str],
    values: Tensor,
    *,
    xlabel: str,
    reference: float | None = None,
    alt: str | None = None,
) -> Figure:
    """Draw one horizontal bar per value, its number beside it.

    Parameters
    ----------
    labels
        Names of the bars, from the top.
    values
        Lengths, ``(N,)``, not negative.
    xlabel
        What the lengths show, with units.
    reference
        Where to draw a dashed line, for example 1 among ratios.
    alt
        Text alternative; lists the values if not given.

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there are no bars, or not one value for each label.

    Examples
    --------
    >>> import torch
    >>> bars(["7×7", "3×3 three times"], torch.tensor([49, 27]), xlabel="weights")
    <Figure: Bars, weights: 7×7 49; 3×3 three times 27.>
    """
    if not isinstance(values, Tensor):
        raise no_tensor("values", values)
    check_kind("labels", labels, Collection, "a list of texts, one for each bar")
    if not labels or values.shape != (len(labels),):
        raise ValueError(
            f"bars need one value for each label, got {len(labels)} labels and values of shape "
            f"{tuple(values.shape)}"
        )
    numbers = [said(value) for value in values.tolist()]
    with new_figure(CHART, 0.8 + 0.3 * len(labels)) as figure:
        axes = figure.add_subplot()
        drawn = axes.barh(range(len(labels)), values.numpy(), color=COLORS[0], height=0.7)
        axes.bar_label(drawn, numbers, padding=3)
        axes.set_yticks(range(len(labels)), labels)
        axes.invert_yaxis()
        axes.margins(x=0.12)
        axes.set(xlabel=xlabel)
        if reference is not None:
            axes.axvline(reference, linestyle="--", linewidth=1, color=COLORS[-1])
    listed = "; ".join(f"{label} {number}" for label, number in zip(labels, numbers, strict=True))
    return Figure(figure, alt or f"Bars, {xlabel}: {listed}.")


def confusion_matrix(
    matrix: ConfusionMatrix | Tensor,
    classes: Sequence[str] | None = None,
    *,
    alt: str | None = None,
) -> Figure:
    """Draw a confusion matrix.

    Parameters
    ----------
    matrix
        Result of :func:`cnnbook.analysis.confusion_matrix`, or your own counts, ``(K, K)``: rows
        are true classes, columns predicted ones.
    classes
        Names of the K classes; if not given, those of the result, or numbers.
    alt
        Text alternative; names the most frequent mistake if not given.

    Returns
    -------
    Figure
        Color shows the percentage of the row. With up to 20 classes, cells also show it as a
        number. With more, there is a color bar, which spreads out small percentages; from 30
        classes on, only some are named.

    Raises
    ------
    ValueError
        If the counts are not ``(K, K)``.

    Examples
    --------
    >>> import torch
    >>> counts = torch.tensor([[9, 1], [4, 6]])
    >>> confusion_matrix(counts, ["shirt", "coat"])  # doctest: +NORMALIZE_WHITESPACE
    <Figure: Confusion matrix of 2 classes. 75% lie on the diagonal; the most frequent
    mistake is coat taken for shirt (4 images).>
    """
    if isinstance(matrix, ConfusionMatrix):
        counts, known = matrix.counts, matrix.classes
    else:
        if not isinstance(matrix, Tensor):
            raise no_tensor("matrix", matrix)
        counts, known = matrix, [str(number) for number in range(len(matrix))]
    check_kind("classes", classes, Collection | None, "a list of names, one for each class")
    classes = known if classes is None else classes
    k = len(classes)
    if counts.shape != (k, k):
        raise ValueError(f"matrix must be ({k}, {k}) for {k} classes, got {tuple(counts.shape)}")
    share = 100 * counts.double() / counts.sum(1, keepdim=True).clamp(min=1)
    numbers = k <= 20
    named = range(0, k, -(-k // 30))
    with new_figure(CHART if k <= 10 else WIDTH, 5.4 if k <= 10 else 6.2) as figure:
        axes = figure.add_subplot()
        # One percent of a row, a typical mistake among many classes, must remain visible.
        norm = PowerNorm(1 if numbers else 0.5, 0, 100)
        shown = axes.imshow(share.numpy(), cmap="Blues", norm=norm)
        for row, column in counts.nonzero().tolist() if numbers else ():
            value = share[row, column].item()
            text = f"{value:.0f}" if value >= 1 else "<1"
            color = "white" if value > 50 else ON_LIGHT
            axes.text(column, row, text, ha="center", va="center", color=color, size=9)
        names = [classes[i] for i in named]
        slanted = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(named, names, **(slanted if k <= 12 else {"rotation": 90}))
        axes.set_yticks(named, names)
        axes.tick_params(length=0 if numbers else 2)
        axes.spines[:].set_visible(False)
        unit = "  (numbers: % of the row)" if numbers else ""
        axes.set(xlabel="predicted class", ylabel=f"true class{unit}")
        if not numbers:
            bar = figure.colorbar(shown, ax=axes, shrink=0.7, ticks=(0, 1, 5, 10, 25, 50, 100))
            bar.set_label("% of the row")
            bar.outline.set_linewidth(0.4)
    if alt is None:
        wrong = counts.clone().fill_diagonal_(0)
        row, column = divmod(int(wrong.argmax()), k)
        mistake = (
            f"the most frequent mistake is {classes[row]} taken for {classes[column]} "
            f"({wrong.max()} images)"
        )
        right = 100 * counts.trace() / counts.sum().clamp(min=1)
        alt = (
            f"Confusion matrix of {k} classes. {right:.0f}% lie on the diagonal; "
            f"{mistake if wrong.any() else 'there is no mistake'}."
        )
    return Figure(figure, alt)
