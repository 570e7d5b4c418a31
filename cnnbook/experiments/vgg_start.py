"""From which weights VGG starts to learn, by depth (Simonyan & Zisserman 2015, Section 3.1).

The paper drew the weights of its configuration A from a normal distribution "with the zero mean
and 10⁻² variance", and trained it first: deeper ones started from A's layers, since "bad
initialisation can stall learning due to the instability of gradient in deep nets". He et al. (2015)
explained it: a layer multiplies the size of its signal by σ·√(fan-in / 2), and the factors of all
layers multiply, so that from one σ for all layers a deep network starts in a narrow window only.

Here every configuration is trained from several σ, each with its own learning rate. σ is that at
the paper's width: a network of a fraction of it has weights larger by one over the root of the
fraction, which keeps the factor of every layer. Controls are He's rule, which gives every layer
its own σ, and batch normalization, which makes σ matter little.

With the paper's own σ = 0.1 (or σ = 0.01, as which He et al. read it) not even A starts within the
few hundred steps here. The authors took 370,000 steps, and their pixels, gray levels from 0 to 255
minus a mean, were some 60 times larger than normalized ones. What can be compared is the order: how
wide the windows are.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.patches import Rectangle
from torch import nn

from cnnbook import models
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure
from cnnbook.plots.style import COLORS, new_figure


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return each network from each σ, and each configuration from He's weights."""
    rates = tuple(settings["rates"])
    found = []
    for configuration, batch_norm in settings["networks"]:
        for sigma in (*settings["sigmas"], None):
            if batch_norm and sigma is None:
                continue
            options = {"configuration": configuration, "sigma": sigma, "batch_norm": batch_norm}
            found.append(Arm(_name(configuration, batch_norm, sigma), options, rates))
    return found


def _name(configuration: str, batch_norm: bool, sigma: float | None) -> str:
    norm = ", batch norm" if batch_norm else ""
    return f"{configuration}{norm}, {'He' if sigma is None else f'σ = {sigma:g}'}"


def network(
    options: Mapping[str, Any], settings: Mapping[str, Any], classes: int = 10, channels: int = 1
) -> models.VGG:
    """Return one column of Table 1 with weights of one σ, or of He et al. 2015."""
    net = models.VGG(
        options["configuration"],
        classes,
        channels,
        batch_norm=options["batch_norm"],
        width=settings["width"],
        input_size=settings["side"],
    )
    if options["sigma"] is not None:
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=options["sigma"] / settings["width"] ** 0.5)
    return net


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network from one kind of weights."""
    train, val, test = (part.padded(settings["side"]) for part in load_parts(settings))
    net = network(options, settings, len(train.classes), train.images.shape[1])
    return learn(net, train, val, test, lr=lr, epochs=settings["epochs"], seed=seed)


def verdict(result: Result) -> str:
    """Say from which weights all runs learn, and which overflow.

    Not which others work: a learning rate is chosen in few trials, and some failures are its own.
    """
    groups: dict[float | None, list[ArmResult]] = {}
    normed: list[ArmResult] = []
    for configuration, batch_norm in result.settings["networks"]:
        for sigma in (*result.settings["sigmas"], *([] if batch_norm else [None])):
            arm = result[_name(configuration, batch_norm, sigma)]
            (normed if batch_norm else groups.setdefault(sigma, [])).append(arm)
    sure = [start for start, arms in groups.items() if _learned(arms) == _runs(arms)]
    said = [f"{_start(start)} ({_runs(groups[start])} runs)" for start in sure]
    first, last = said[:-1], said[-1:]
    listed = f"{', '.join(first)} and {last[0]}" if first else "".join(last)
    counts = [run["steps"] for arm in result for run in arm.runs if "steps" in run]
    within = f"Within {max(counts):,} steps and without" if counts else "Without"
    text = f"{within} batch norm, there is no start from which all runs learn"
    if sure:
        text = f"{within} batch norm, all runs learn from {listed}"
    overflown: dict[float | None, list[str]] = {}
    for start, arms in groups.items():
        for arm in arms:
            if all(run.get("diverged", False) for run in arm.runs):
                overflown.setdefault(start, []).append(arm.options["configuration"])
    for start, names in overflown.items():
        text += f"; from {_start(start)}, the loss becomes infinite in {' and '.join(names)}"
    if normed:
        text += f"; with batch norm, {_learned(normed)} of {_runs(normed)} runs learn, over all σ"
    left = [
        arm
        for start, arms in groups.items()
        if start not in sure
        for arm in arms
        if arm.options["configuration"] not in overflown.get(start, [])
    ]
    if left:
        text += (
            f". Of the {_runs(left)} other runs without batch norm, {_learned(left)} learn; their "
            "success also depends on the learning rate, and few rates were tried"
        )
    return f"{text}."


def _learned(arms: list[ArmResult]) -> int:
    return sum(len(arm.learned.runs) for arm in arms)


def _runs(arms: list[ArmResult]) -> int:
    return sum(len(arm.runs) for arm in arms)


def plot(result: Result) -> Figure:
    """Draw a table of test accuracies: a row for each σ and for He's weights, and the networks.

    The mean of the runs that learned, and how many did; gray where none did.
    """
    networks = result.settings["networks"]
    starts = [*result.settings["sigmas"], None]
    listed = []
    with new_figure(4.4, 0.9 + 0.28 * len(starts)) as figure:  # hardly shrinks on a phone
        axes = figure.add_subplot()
        for x, (configuration, batch_norm) in enumerate(networks):
            said = []
            for y, sigma in enumerate(starts):
                if batch_norm and sigma is None:
                    continue
                arm = result[_name(configuration, batch_norm, sigma)]
                started, count = len(arm.learned.runs), len(arm.runs)
                told = f"{started} of {count}"
                color, strength = "#777777", 0.18
                if started:
                    accuracy = 1 - float(np.mean(arm.learned.values("test_error")))
                    told = f"{100 * accuracy:.0f} %, {told}"
                    color, strength = COLORS[0], 0.06 + 0.55 * max(0.0, accuracy - 0.1)
                elif all(run.get("diverged", False) for run in arm.runs):
                    told = "overflow"
                axes.add_patch(Rectangle((x, y), 0.96, 0.9, color=color, lw=0, alpha=strength))
                axes.text(x + 0.48, y + 0.45, told, ha="center", va="center", fontsize=9)
                said.append(f"{_start(sigma)} {told}")
            listed.append(f"{_title(configuration, batch_norm)}: {', '.join(said)}")
        titles = [_title(*n).replace(" (", "\n").replace(", ", ",\n").rstrip(")") for n in networks]
        axes.set_xticks([x + 0.48 for x in range(len(networks))], titles)
        axes.set_yticks([y + 0.45 for y in range(len(starts))], map(_start, starts))
        axes.set(xlim=(0, len(networks)), ylim=(len(starts), 0))
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return Figure(
        figure,
        "Mean test accuracy of the runs that learned, and their number, by the start. "
        f"{'; '.join(listed)}.",
    )


def _start(sigma: float | None) -> str:
    return "He’s weights" if sigma is None else f"σ = {sigma:g}"


def _title(configuration: str, batch_norm: bool) -> str:
    return f"{configuration} ({_layers(configuration)} layers{', batch norm' * batch_norm})"


def _layers(configuration: str) -> int:
    return 3 + models.vgg.CONFIGURATIONS[configuration].count("conv")


def notes(result: Result) -> str:
    """Say how much larger the weights are than σ, and which rate was taken if none was better."""
    width = result.settings["width"]
    text = (
        f"Values of σ are for the paper’s width; these networks are 1/{1 / width:g} as wide, and "
        f"their weights √{1 / width:g} = {width**-0.5:.1f} times as large."
    )
    if any(arm.chosen_at_chance for arm in result):
        text += " Where no learning rate led beyond guessing, one of those tried was used."
    return text


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training."""
    norm = 1.5 if options["batch_norm"] else 1.0
    return float(_layers(options["configuration"]) * norm * settings["epochs"])


_SAME = {"rates": (0.003, 0.01, 0.03), "data": "fashion-mnist"}
_SIGMAS = (0.01, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.1)
# 14×14 pixels in a frame of three: with 16×16, the last block would work on single pixels, where
# eight of nine weights of a kernel meet padding, and even He's weights would let the signal fade.
_SMALL = {"shrink": 2, "side": 20, "width": 0.125}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **_SMALL,
            **{"data": "fashion-mini", "images": 2_560, "val_images": 300, "epochs": 5},
            **{"networks": (("A", False), ("E", False)), "sigmas": (0.025, 0.035)},
            **{"rates": (0.02,)},
        },
        seeds=1,
    ),
    "desk": Size(
        {
            **_SAME,
            **_SMALL,
            **{"images": 10_000, "val_images": 1_000, "epochs": 3, "sigmas": _SIGMAS},
            **{"networks": (("A", False), ("D", False), ("E", False), ("E", True))},
        },
        seeds=3,
        tuning={"epochs": 2},
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **_SAME,
            **{"shrink": 1, "side": 32, "width": 0.5, "sigmas": _SIGMAS},
            **{"images": 10_000, "val_images": 1_000, "epochs": 3},
            **{"networks": (("A", False), ("E", False), ("E", True))},
        },
        seeds=3,
        tuning={"epochs": 2},
        tuning_seeds=2,
    ),
}

EXPERIMENT = Experiment(
    "vgg_start",
    "From which weights VGG starts to learn, by depth",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    notes=notes,
    marks=(
        "Each box: mean test accuracy of the runs that learned (above 20 %; guessing gives 10 %), "
        "and how many did. Gray: none did; overflow: none, because the loss became infinite."
    ),
)
