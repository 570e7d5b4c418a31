"""VGG's configurations A to E trained alike (Simonyan & Zisserman 2015, Tables 1 and 3).

All columns of Table 1 at one width and without batch normalization; only the number of convolutions
in each block differs. (C's additional ones have kernels of 1×1.) All convolutions and linear layers
start from He et al.'s weights of 2015, normal with variance 2 / fan-in; :class:`cnnbook.models.VGG`
itself takes the variant that counts a layer's outputs. Each configuration chooses its learning rate
from one grid, in runs as long as those that are reported.

A gain from depth is not to be expected from small gray images of ten kinds of clothes: pilots of
one seed, from that variant, had 88.1 % with A and 88.0 % with D on 12,000 upright ones, and 63.6
and 63.3 % on 20,000 cluttered ones. The paper had 1.3 million photographs of 1,000 classes at
224×224 pixels and 370,000 steps. Its validation errors at one scale (top 1, Table 3, S = Q = 256)
were 29.6 % with A, 28.7 with B, 28.1 with C, 27.0 with D and 27.3 with E.
:mod:`cnnbook.experiments.vgg_start` shows what depth needs before it can gain anything.
"""

import itertools
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from cnnbook import models
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import said_rate, said_unfinished
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference
from cnnbook.experiments.learning import he_start, learn
from cnnbook.experiments.result import Result
from cnnbook.plots import Figure
from cnnbook.plots.style import COLORS, new_figure

MEASURED = {"test_error": "test images", "train_error": "training images"}


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return the configurations."""
    rates = tuple(settings["rates"])
    return [Arm(name, {"configuration": name}, rates) for name in settings["configurations"]]


def network(
    configuration: str, settings: Mapping[str, Any], classes: int = 10, channels: int = 1
) -> models.VGG:
    """Return one column of Table 1, all layers with new weights of He et al. 2015 (fan-in)."""
    net = models.VGG(
        configuration, classes, channels, width=settings["width"], input_size=settings["side"]
    )
    he_start(net)
    return net


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one configuration."""
    train, val, test = (part.padded(settings["side"]) for part in load_parts(settings))
    net = network(options["configuration"], settings, len(train.classes), train.images.shape[1])
    return learn(net, train, val, test, lr=lr, epochs=settings["epochs"], seed=seed)


def verdict(result: Result) -> str:
    """Say what depth changes from the shallowest to the deepest configuration.

    Unless all with one learning rate are better than all with another: then the effect of depth
    cannot be told from that of the rate.
    """
    names = result.settings["configurations"]
    if told := _say_rates(result):
        return told
    first, last = result[names[0]], result[names[-1]]
    test, training = (
        of_difference(last.values(key), first.values(key)) for key in ("test_error", "train_error")
    )
    few, many = (_layers(name) for name in (names[0], names[-1]))
    text = (
        f"With the {many} layers of {names[-1]} instead of the {few} of {names[0]}, the test error "
        f"is {test.in_words()}, and that on training images {training.in_words()} (95 % intervals)."
        f" The learning rate of {names[-1]} is {said_rate(last.lr)}, and that of {names[0]} "
        f"{said_rate(first.lr)}."
    )
    unfinished = said_unfinished({"": [fmean(arm.values("train_error")) for arm in result]})
    return f"{text} {unfinished}".strip()


def _say_rates(result: Result) -> str:
    """Return a verdict if the test errors are ranked by learning rates, and otherwise nothing."""
    groups: dict[float, dict[str, float]] = {}
    for arm in result:
        errors = arm.values("test_error")
        groups.setdefault(arm.lr, {})[arm.name] = sum(errors) / len(errors)
    ranked = sorted(groups.items(), key=lambda group: min(group[1].values()))
    apart = (
        max(better.values()) < min(worse.values())
        for (_, better), (_, worse) in itertools.pairwise(ranked)
    )
    if len(groups) == 1 or len(groups) == len(result.arms) or not all(apart):
        return ""
    said = []
    for lr, means in ranked:
        *first, last = means
        named = f"{', '.join(first)} and {last}" if first else last
        low, high = (f"{100 * mean:.1f}" for mean in (min(means.values()), max(means.values())))
        said.append(f"with {lr:g}, {named} have {f'{low} to {high}' if first else low} %")
    said = [text if " and " in text else text.replace(" have ", " has ") for text in said]
    return (
        "The effect of depth cannot be told from that of the learning rates, which were chosen for "
        f"each network and rank the test errors: {'; '.join(said)}."
    )


def plot(result: Result) -> Figure:
    """Draw the test and the training error of each configuration, with intervals and seeds."""
    listed = []
    with new_figure(4.4, 3.2) as figure:  # hardly shrinks on a phone
        axes = figure.add_subplot()
        for i, (key, label) in enumerate(MEASURED.items()):
            at = [number + 0.24 * i - 0.12 for number in range(len(result.arms))]
            style = {"color": COLORS[i], "linestyle": "none", "marker": "os"[i]}
            dots = {"markersize": 5}  # opaque
            means = figures.draw_line(axes, at, list(result), key, False, label, style, dots)
            named = zip(result, means, strict=True)
            told = [f"{arm.name} ({_layers(arm.name)} layers) {mean:.1f} %" for arm, mean in named]
            listed.append(f"{label} {', '.join(told)}")
        axes.set_xticks(
            range(len(means)), [f"{arm.name}\n{_layers(arm.name)} layers" for arm in result]
        )
        axes.set(ylabel="error (%)", xlim=(-0.5, len(means) - 0.5))
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.25, linewidth=0.6, axis="y")
        figure.legend(loc="outside upper center", ncols=2)
    return Figure(figure, f"Errors: {'; '.join(listed)}.")


def _layers(configuration: str) -> int:
    return 3 + models.vgg.CONFIGURATIONS[configuration].count("conv")


def notes(result: Result) -> str:
    """Say how wide the networks are."""
    return f"The networks have {result.settings['width']:g} times the paper’s width."


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training."""
    images = settings["images"] or 55_000
    return float(_layers(options["configuration"]) * settings["epochs"] * images)


# Factors of two: the errors of neighboring rates are closer than those of the configurations.
_SAME = {"rates": (0.004, 0.008, 0.016, 0.032), "configurations": ("A", "B", "C", "D", "E")}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **{"data": "fashion-mini", "shrink": 2, "side": 20, "images": 2_000},
            **{"val_images": 300, "epochs": 6, "width": 0.125, "rates": (0.015,)},
            **{"configurations": ("A", "E")},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "shrink": 2, "side": 20, "images": 10_000},
            **{"val_images": 2_000, "epochs": 6, "width": 0.25},
        },
        seeds=3,
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "side": 32, "images": None, "val_images": 5_000},
            **{"epochs": 4, "width": 0.5},
        },
        seeds=3,
        tuning_seeds=2,
    ),
}

EXPERIMENT = Experiment(
    "vgg_depth",
    "VGG's configurations A to E, trained alike",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    marks=(
        "Circle or square: mean; bar: its 95 % interval over the seeds, for one fixed test set; "
        "small dot: one seed."
    ),
    notes=notes,
)
