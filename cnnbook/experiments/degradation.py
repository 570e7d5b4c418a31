"""Plain and residual networks of growing depth (He et al. 2016, Section 4.2 and Figure 6).

A plain network and a residual one with shortcuts of option A have the same layers, parameters and
MACs; only the additions differ. What is compared is the *training* error: a deep plain network
that ends with a higher one does not overfit, it is harder to train. Whether it is only slower, an
arm with more steps tells.

On CIFAR-10 and after 64,000 steps, the paper's plain networks have 20, 32, 44 and 56 layers, each
worse than the one before, and its residual ones test errors of 8.75, 7.51, 7.17 and 6.97 % (Table
6). Its plain network for ImageNet has a validation error of 27.94 % with 18 layers and 28.54 % with
34; the residual one 27.88 % and 25.03 % (Table 2).

And what becomes of a trained network when one of its blocks is taken away (Veit et al. 2016,
arXiv:1605.06431, Figure 3).
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from cnnbook import data, models, training
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import DOTS_AND_BARS, said_counts, said_images
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import Result
from cnnbook.plots import Figure
from cnnbook.plots.style import line_style, new_figure


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return a plain and a residual network of each depth, and what is compared with them.

    That is the deep plain network with more steps, which tells whether it is only slow, and other
    shortcuts at one depth. Networks deeper than those that are compared are trained once.
    """
    rates = tuple(settings["rates"])
    _, deep = settings["compared"]
    found = []
    for depth in settings["depths"]:
        for kind in ("plain", "residual"):
            options = {"depth": depth, "plain": kind == "plain"}
            found.append(Arm(f"{kind}-{depth}", options, rates, 1 if depth > deep else None))
    if settings["times"] > 1:
        options = {"depth": deep, "plain": True, "times": settings["times"]}
        found.append(Arm(_longer(settings), options, rates))
    for option in settings["options"]:  # option A is in the list already
        depth = settings["options_at"]
        name = f"residual-{depth}, option {option}"
        found.append(Arm(name, {"depth": depth, "shortcut": option}, rates))
    return found


def _longer(settings: Mapping[str, Any]) -> str:
    return f"plain-{settings['compared'][1]}, {settings['times']} times the steps"


def build(
    options: Mapping[str, Any], settings: Mapping[str, Any], classes: int, channels: int
) -> models.ResNet:
    """Return an arm's network, with new weights."""
    return models.ResNet(
        options["depth"],
        classes,
        channels,
        plain=options.get("plain", False),
        shortcut=options.get("shortcut"),
        width=settings["width"],
    )


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network, then remove its blocks one at a time."""
    parts = load_parts(settings)
    net = build(options, settings, len(parts[0].classes), parts[0].images.shape[1])
    epochs = settings["epochs"] * options.get("times", 1)
    found = learn(net, *parts, lr=lr, epochs=epochs, seed=seed, weight_decay=settings["decay"])
    if settings["remove"] and options["depth"] >= settings["compared"][1]:
        found["removed"] = errors_without_blocks(net, parts[2][: settings["remove"]])
    return found


class Passed(nn.Module):
    """What is left of a block without F: its shortcut, or nothing; the input is not negative."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the input."""
        return x


@torch.no_grad()
def errors_without_blocks(net: models.ResNet, test: data.Dataset) -> dict[str, Any]:
    """Return the error on `test` without each of the blocks that keep the shape, in order.

    A residual block loses its F, a plain one its two layers. Blocks that halve the feature maps
    stay, as nothing could take their place.
    """
    errors, names = [], []
    for stage_name in net.stages:
        stage = net.get_submodule(stage_name)
        assert isinstance(stage, nn.Sequential)
        for i, block in enumerate(list(stage)):
            first, last = block.get_submodule("conv1.0"), block.get_submodule("conv2.0")
            assert isinstance(first, nn.Conv2d)
            assert isinstance(last, nn.Conv2d)
            if first.stride != (1, 1) or first.in_channels != last.out_channels:
                continue
            stage[i] = Passed()
            errors.append(1 - training.evaluate(net, test).accuracy)
            names.append(f"{stage_name}.{i}")
            stage[i] = block
    return {"blocks": names, "errors": errors, "whole": 1 - training.evaluate(net, test).accuracy}


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training: layers times images."""
    times = settings["epochs"] * options.get("times", 1)
    return float(options["depth"] * (settings["images"] or 55_000) * times)


def verdict(result: Result) -> str:
    """Say how depth changed the training error of plain and of residual networks."""
    shallow, deep = result.settings["compared"]
    errors = {arm.name: arm.values("train_error") for arm in result}
    plain = of_difference(errors[f"plain-{deep}"], errors[f"plain-{shallow}"])
    residual = of_difference(errors[f"residual-{deep}"], errors[f"residual-{shallow}"])
    said = (
        f"With {deep} instead of {shallow} layers, the training error of plain networks is "
        f"{plain.in_words()}; that of residual networks "
        f"is {residual.in_words()}"
    )
    if result.settings["times"] > 1:  # first, as plain-20 had no more time: the cautious number
        longer = errors[_longer(result.settings)]
        left = of_difference(longer, errors[f"plain-{shallow}"])
        times = result.settings["times"]
        more = "twice" if times == 2 else f"{times} times"
        slow = of_difference(longer, errors[f"plain-{deep}"])
        said = (
            f"Compared with plain-{shallow}, the training error of plain-{deep} is "
            f"{left.in_words()} {'even ' if left.low > 0 else ''}after {more} the steps, and "
            f"{plain.in_words()} after equally many. Compared with residual-{shallow}, that of "
            f"residual-{deep} is {residual.in_words()} after equally many. With {more} the steps, "
            f"the training error of plain-{deep} is {slow.in_words()} compared with plain-{deep} "
            "itself after as many as the others"
        )
    return f"{said} (95 % intervals)."


def plot(result: Result) -> Figure:
    """Draw the errors of every network while it learns, as in the paper's Figure 6.

    Training errors are thin and dashed, validation errors bold; plain networks on the left,
    residual ones on the right.
    """
    depths, times = result.settings["depths"], result.settings["times"]
    panels = {
        kind: {f"{depth} layers": f"{kind}-{depth}" for depth in depths}
        for kind in ("plain", "residual")
    }
    if times > 1:
        more = "twice" if times == 2 else f"{times} times"
        panels["plain"][f"{result.settings['compared'][1]} layers,\n{more} the steps"] = _longer(
            result.settings
        )
    return figures.panels_of_curves(
        {
            kind: {label: result[name] for label, name in named.items() if _has(result, name)}
            for kind, named in panels.items()
        },
        "val_error",
        second="train_error",
    )


def plot_removed(result: Result) -> Figure:
    """Draw the test error of deep networks without each of their blocks (Veit et al. 2016)."""
    arms = [arm for arm in result if "removed" in arm.runs[0] and "times" not in arm.options]
    listed = []
    most = max(len(arm.runs[0]["removed"]["errors"]) for arm in arms)
    dots: dict[str, Any] = {"linewidth": 1.8, "linestyle": (0, (1, 1.2))}
    with new_figure(4.4, 3.6) as figure:  # hardly shrinks on a phone
        axes = figure.add_subplot()
        for i, arm in enumerate(arms):
            style, removed = line_style(i), [run["removed"] for run in arm.runs]
            errors = 100 * np.array([run["errors"] for run in removed])
            whole = 100 * float(np.mean([run["whole"] for run in removed]))
            numbers = np.arange(1, 1 + errors.shape[1])
            axes.plot(numbers, errors.mean(0), marker=".", label=arm.name, **style)
            low, high = errors.min(0), errors.max(0)
            axes.fill_between(numbers, low, high, color=style["color"], alpha=0.2, linewidth=0)
            axes.axhline(whole, color=style["color"], **dots)
            stages = [name.partition(".")[0] for name in removed[0]["blocks"]]
            for at, (before, after) in enumerate(itertools.pairwise(stages), 1):
                if before != after and len(stages) == most:
                    axes.axvline(at + 0.5, color="gray", linewidth=1.2)
            median = float(np.median(errors.mean(0)))
            listed.append(f"{arm.name} {whole:.1f} % whole, {median:.1f} % without one (median)")
        axes.plot([], [], color="gray", label="the whole network", **dots)
        axes.axhline(90, color="gray", linestyle=(0, (6, 3)), linewidth=1.2, label="guessing: 90 %")
        axes.set(xlabel="removed block, counted from the input", ylabel="test error (%)")
        axes.set_ylim(0, 100)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.25, linewidth=0.6)
        figure.legend(loc="outside upper center", ncols=2)
    seeds, blocks = len(arms[0].runs), max(arm.options["depth"] - 2 for arm in arms) // 2
    caption = (
        f"{said_images(result.settings)}; networks trained as above, tested on the first "
        f"{result.settings['remove']:,} test images without one of the {most} blocks (of {blocks}) "
        f"that keep the shape of the feature maps. Line: mean over {said_counts([seeds])} "
        f"seed{'s' * (seeds > 1)}; band: lowest to highest seed; gray vertical lines: where a "
        "stage ends."
    )
    alt = f"Test error without one block: {'; '.join(listed)}."
    return Figure(figure, alt, caption=caption)


def plot_shortcuts(result: Result) -> Figure:
    """Draw the test errors with the shortcuts of options A, B and C, where they were trained.

    Raises
    ------
    ValueError
        If the result has only option A.
    """
    depth, options = result.settings["options_at"], result.settings["options"]
    if not options:
        raise ValueError(f"options B and C were not trained in size {result.size!r}, only in full")
    named = {"A: zeros for new channels": f"residual-{depth}"}
    texts = {"B": "B: projection where the shape changes", "C": "C: projections everywhere"}
    named |= {texts[option]: f"residual-{depth}, option {option}" for option in options}
    figure = figures.intervals(
        {label: result[name] for label, name in named.items()},
        xlabel="test error (%)",
        accuracy=False,
    )
    figure.caption = result.conditions.replace(result.spec.marks, DOTS_AND_BARS)
    return figure


def _has(result: Result, name: str) -> bool:
    return any(arm.name == name for arm in result)


_SAME = {"rates": (0.03, 0.1, 0.3), "decay": 1e-4, "options": (), "options_at": 20, "times": 1}
SIZES = {
    # A quarter of the resolution, half of the width, and so few steps that depth slows down more
    # than it would harm in the end.
    "live": Size(
        {
            **_SAME,
            **{"data": "fashion-mini", "shrink": 4, "images": 1_792, "val_images": 300},
            **{"epochs": 4, "depths": (8, 44), "compared": (8, 44), "width": 0.5},
            **{"remove": 200, "rates": (0.1,)},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "shrink": 2, "images": 14_000, "val_images": 3_000},
            **{"epochs": 6, "depths": (20, 56), "compared": (20, 56), "width": 1},
            **{"remove": 500, "times": 2},
        },
        seeds=3,
        tuning={"images": 10_000, "epochs": 2, "remove": 0},
    ),
    "full": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "images": 30_000, "val_images": 5_000},
            **{"epochs": 6, "depths": (20, 56, 110), "compared": (20, 56), "width": 1},
            **{"remove": 2_000, "times": 2, "options": ("B", "C")},
        },
        seeds=3,
        tuning={"images": 10_000, "epochs": 2, "remove": 0},
    ),
}

EXPERIMENT = Experiment(
    "degradation",
    "Plain and residual networks of growing depth",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    marks=(
        "All networks have batch normalization. Bold: validation error; dashed: training error, a "
        "mean over each epoch while the weights change (verdict and table: of the trained "
        "network). Line: mean over the seeds; band: lowest to highest validation error, not a "
        "confidence interval."
    ),
)
