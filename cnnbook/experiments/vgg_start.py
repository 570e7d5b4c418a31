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
from torch import nn

from cnnbook import models
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure
from cnnbook.plots.style import CHART, line_style, new_figure

STARTED = 0.8  # a validation error below it has learnt something: guessing one of ten has 0.9


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


def count_started(arm: ArmResult) -> int:
    """Return in how many runs the network learnt something."""
    return sum(error < STARTED for error in arm.values("val_error"))


def verdict(result: Result) -> str:
    """Say from how many σ each network starts with every seed."""
    sigmas = result.settings["sigmas"]
    said = []
    for configuration, batch_norm in result.settings["networks"]:
        always = []
        for sigma in sigmas:
            arm = result[_name(configuration, batch_norm, sigma)]
            if count_started(arm) == len(arm.runs):
                always.append(f"{sigma:g}")
        which = f" ({', '.join(always)})" if 0 < len(always) < len(sigmas) else ""
        norm = " with batch norm" if batch_norm else ""
        said.append(f"{configuration}{norm} {len(always)}{which}")
    he = [
        (configuration, result[_name(configuration, False, None)])
        for configuration, batch_norm in result.settings["networks"]
        if not batch_norm
    ]
    failed = [name for name, arm in he if count_started(arm) < len(arm.runs)]
    control = f"all but {', '.join(failed)}" if failed else "every one"
    several = len(result.settings["rates"]) > 1
    how = "each with its best learning rate" if several else "at one learning rate"
    return (
        f"Of {len(sigmas)} starting σ, {how}, "
        f"{_say_order(result)}: {'; '.join(said)}; from He’s weights {control} starts "
        f"({_say_seeds(len(he[0][1].runs))} of each)."
    )


def _say_seeds(count: int) -> str:
    return "one seed" if count == 1 else f"{count} seeds"


def _say_order(result: Result) -> str:
    """Compare the shallowest and the deepest network without batch norm, over all runs."""
    plain = [name for name, batch_norm in result.settings["networks"] if not batch_norm]
    started = []
    for configuration in (plain[0], plain[-1]):
        each = [result[_name(configuration, False, s)] for s in result.settings["sigmas"]]
        started.append([count_started(arm) for arm in each])
    shallow, deep = started
    if sum(deep) < sum(shallow):
        return "the deepest network starts from fewer"
    if sum(deep) > sum(shallow):
        return "the deepest network starts from more"
    return "no difference between shallow and deep is shown"


def plot(result: Result) -> Figure:
    """Draw the test accuracy against the σ of the first weights, a line for each network."""
    sigmas = result.settings["sigmas"]
    listed = []
    with new_figure(CHART, 3.6) as figure:
        axes = figure.add_subplot()
        for i, (configuration, batch_norm) in enumerate(result.settings["networks"]):
            style = line_style(i)
            layers = _layers(configuration)
            label = f"{configuration} ({layers} layers{', batch norm' if batch_norm else ''})"
            each = [result[_name(configuration, batch_norm, sigma)] for sigma in sigmas]
            runs = [[100 * (1 - e) for e in arm.values("test_error")] for arm in each]
            axes.plot(sigmas, [np.mean(values) for values in runs], label=label, **style)
            for sigma, values in zip(sigmas, runs, strict=True):
                axes.plot([sigma] * len(values), values, ".", color=style["color"], ms=5, alpha=0.7)
            counts = [f"{count_started(arm)} of {len(arm.runs)}" for arm in each]
            listed.append(f"{label} {', '.join(counts)}")
            if not batch_norm:
                he = result[_name(configuration, False, None)].values("test_error")
                right = sigmas[-1] * (sigmas[-1] / sigmas[0]) ** 0.15
                values = [100 * (1 - e) for e in he]
                axes.plot([right] * len(he), values, "*", color=style["color"], ms=8, alpha=0.7)
                listed[-1] += f", from He’s weights {100 * (1 - float(np.mean(he))):.0f} %"
        axes.axhline(10, color="gray", linewidth=0.9, linestyle=":")
        axes.text(sigmas[0], 3, "guessing", fontsize=9)
        axes.set_xscale("log")
        axes.set_xticks([*sigmas, right], [*(f"{sigma:g}" for sigma in sigmas), "He’s"])
        axes.minorticks_off()
        axes.set(xlabel="σ of the first weights, at the paper’s width", ylabel="test accuracy (%)")
        axes.set_ylim(0, 100)
        axes.grid(alpha=0.25, linewidth=0.6)
        figure.legend(loc="outside upper center", ncols=2)
    between = f"σ from {sigmas[0]:g} to {sigmas[-1]:g}"
    return Figure(figure, f"Runs that start to learn, for {between}: {'; '.join(listed)}.")


def _layers(configuration: str) -> int:
    return 3 + models.vgg.CONFIGURATIONS[configuration].count("conv")


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
)
