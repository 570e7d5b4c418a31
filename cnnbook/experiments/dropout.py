"""AlexNet with and without dropout, where it overfits (Krizhevsky et al. 2012, Section 4.2).

The fully connected layers hold most of AlexNet's parameters. Without dropout, the paper's network
"exhibits substantial overfitting"; with it, training needs roughly twice as many iterations to
converge. So both arms are trained for several lengths, each with a learning rate of its own and a
schedule that ends at nearly zero, and each is then judged at the length that is best for it on
validation images. One length for both would decide the outcome: a short one is against dropout, and
a long one is against the network that overfits.

The network is :class:`cnnbook.models.AlexNet` for small images, in one column and narrower, without
local response normalization, which costs most of the time on a CPU and has no part in the question.
Small images leave fewer feature maps to fc6, so fc6 and fc7 are made wide enough to hold nine
tenths of the parameters or more, as the paper's hold 96 %: that is where dropout acts. Few images
make it overfit: without dropout it knows every training image by heart.

How much dropout helps depends on the width, as half of the units must do. With fc6 and fc7 of 256
or 512 units, one seed and a single learning rate, pilots showed no gain: without and with dropout,
19.4 and 21.0 % test error on 1,000 upright garments, 67.3 and 69.3 % on 2,000 cluttered ones (with
dropout after two and three times the steps). The paper has 4,096 units, and gives no number for
the network without dropout.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import nn

from cnnbook import models
from cnnbook.experiments import figures
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference
from cnnbook.experiments.learning import he_start, learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure
from cnnbook.plots.style import WIDTH, line_style, new_figure

KINDS = {"without dropout": 0.0, "with dropout": 0.5}  # the probability is the paper's


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return both networks, trained for each length."""
    rates = tuple(settings["rates"])
    return [
        Arm(f"{kind}, {length}×", {"dropout": p, "length": length}, rates)
        for kind, p in KINDS.items()
        for length in settings["lengths"]
    ]


@torch.no_grad()
def build(
    options: Mapping[str, Any], classes: int, channels: int, size: int, width: float, fc: int
) -> models.AlexNet:
    """Return an arm's network, with new weights (He et al. 2015)."""
    net = models.AlexNet(
        classes,
        channels,
        towers=1,
        width=width,
        stem="small",
        input_size=size,
        lrn=False,
        dropout=options["dropout"],
    )
    first = net.fc6[0]
    assert isinstance(first, nn.Linear)
    net.fc6[0] = nn.Linear(first.in_features, fc)
    net.fc7[0] = nn.Linear(fc, fc)
    net.fc8 = nn.Linear(fc, classes)
    he_start(net)
    return net


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network."""
    parts = load_parts(settings)
    channels, size, _ = parts[0].images.shape[1:]
    widths = settings["width"], settings["fc"]
    net = build(options, len(parts[0].classes), channels, size, *widths)
    return learn(
        net,
        *parts,
        lr=lr,
        epochs=settings["epochs"] * options["length"],
        images_per_epoch=settings["images_per_epoch"],
        batch_size=64,
        seed=seed,
    )


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the number of images that are trained on."""
    return float(settings["images_per_epoch"] * settings["epochs"] * options["length"])


def verdict(result: Result) -> str:
    """Compare both networks, each at its best length."""
    best = {kind: _say_best(result, kind) for kind in KINDS}
    values = {kind: arm.values("test_error") for kind, arm in best.items()}
    change = of_difference(values["with dropout"], values["without dropout"])
    lengths = {kind: f"{arm.options['length']}×" for kind, arm in best.items()}
    longest = f"{max(result.settings['lengths'])}×"
    tried = {kind: ", the longest tried" * (lengths[kind] == longest) for kind in KINDS}
    seen = {kind: _say_mean(arm, "train_error") for kind, arm in best.items()}
    shortest = min(result.settings["lengths"])
    early = of_difference(
        *(
            result[f"{kind}, {shortest}×"].values("test_error")
            for kind in ("with dropout", "without dropout")
        )
    )
    return (
        "When each is trained for the length that suits it best on validation images "
        f"({lengths['without dropout']} without dropout{tried['without dropout']}; "
        f"{lengths['with dropout']} with it{tried['with dropout']}), "
        f"AlexNet's test error is {_say_mean(best['without dropout'], 'test_error')} % without "
        f"dropout and {_say_mean(best['with dropout'], 'test_error')} % with it, "
        f"{change.in_words()}; the training errors are {seen['without dropout']} and "
        f"{seen['with dropout']} %. After the shortest training, the test error with dropout is "
        f"{early.in_words()} (95 % intervals)."
    )


def notes(result: Result) -> str:
    """Say how many steps the shortest training takes."""
    shortest = min(result.settings["lengths"])
    runs = [run for arm in result if arm.options["length"] == shortest for run in arm.runs]
    steps = max((run.get("steps", 0) for run in runs), default=0)
    return f"A length of {shortest}× is {steps:,} steps." if steps else ""


def plot(result: Result) -> Figure:
    """Draw test errors against the length, and all errors during the longest training."""
    said = []
    with new_figure(WIDTH - 0.4, 4.4) as figure:  # room for the gap between two pictures
        left, right = figure.subplots(1, 2)
        for i, kind in enumerate(KINDS):
            style = line_style(i)
            found = _say_lengths(result, kind)
            beside = [(0.98 + 0.04 * i) * arm.options["length"] for arm in found]
            dots = {"markersize": 4}  # opaque
            figures.draw_line(left, beside, found, "test_error", False, kind, style, dots)
            _draw_curves(right, found[-1], kind, style)
            test = f"{_say_mean(found[0], 'test_error')} to {_say_mean(found[-1], 'test_error')}"
            said.append(f"from {test} % {kind}")
        lengths = list(result.settings["lengths"])
        left.set_xscale("log", base=2)
        left.set_xticks(lengths, [f"{length}×" for length in lengths])
        left.minorticks_off()
        left.set(xlabel="length of the training", ylabel="test error (%)", title="after training")
        title = f"during the longest, {lengths[-1]}×"
        right.set(xlabel="epoch", ylabel="error (%)", title=title)
        right.xaxis.set_major_locator(MaxNLocator(integer=True))
        highest = max(max(found) for arm in result for found in arm.curves("val_error"))
        right.set_ylim(0, min(100, 100 * min(highest, 2.5 * _say_highest(result))))
        for axes in (left, right):
            axes.grid(alpha=0.25, linewidth=0.6)
            # Below the axes: curves from high to low errors leave no corner free.
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2))
    return Figure(
        figure,
        "Errors of AlexNet with and without dropout, against the length of training and by epoch. "
        f"From the shortest to the longest training, the test error goes {' and '.join(said)}.",
        stacks=True,
    )


def _draw_curves(axes: Any, arm: ArmResult, kind: str, style: dict[str, Any]) -> None:
    for key, label, width in (
        ("val_error", "validation", 1.8),
        ("train_error", "training", 1.6),
    ):
        shortest = min(len(curve) for curve in arm.curves(key))
        values = 100 * np.array([curve[:shortest] for curve in arm.curves(key)])
        line = style if key == "val_error" else style | {"linestyle": (0, (1, 1.2))}
        epochs = np.arange(1, 1 + shortest)
        named = f"{label}, {kind}"
        if key == "train_error" and arm.options["dropout"]:
            named = "training, while units are dropped"
        axes.plot(epochs, values.mean(0), label=named, **line, linewidth=width)
        if key == "val_error":
            band = {"color": style["color"], "alpha": 0.2, "linewidth": 0}
            axes.fill_between(epochs, values.min(0), values.max(0), **band)


def _say_lengths(result: Result, kind: str) -> list[ArmResult]:
    return [result[f"{kind}, {length}×"] for length in result.settings["lengths"]]


def _say_best(result: Result, kind: str) -> ArmResult:
    """Return the arm of the length with the smallest mean validation error."""
    return min(_say_lengths(result, kind), key=lambda arm: sum(arm.values("val_error")))


def _say_mean(arm: ArmResult, key: str) -> str:
    return f"{100 * sum(arm.values(key)) / len(arm.runs):.1f}"


def _say_highest(result: Result) -> float:
    return max(max(arm.values("test_error")) for arm in result)


_SAME = {"lengths": (1, 2, 4), "rates": (0.003, 0.01, 0.03)}
SIZES = {
    "live": Size(
        {
            **{
                "data": "fashion-mini",
                "images": 500,
                "val_images": 500,
                "width": 1 / 16,
                "fc": 512,
            },
            **{"images_per_epoch": 2_000, "epochs": 3, "lengths": (1, 3), "rates": (0.01,)},
        },
        seeds=2,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "images": 1_000, "val_images": 3_000},
            **{"width": 1 / 8, "fc": 1_024, "images_per_epoch": 6_000, "epochs": 4},
        },
        seeds=3,
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "images": 4_000, "val_images": 5_000},
            **{"width": 1 / 4, "fc": 4_096, "images_per_epoch": 12_000, "epochs": 6},
        },
        seeds=3,
        tuning_seeds=2,
    ),
}

EXPERIMENT = Experiment(
    "dropout",
    "AlexNet with and without dropout on few images, trained for several lengths",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    notes=notes,
    marks=(
        "After training: line, mean test error; bar, its 95 % interval over the seeds, for one "
        "fixed test set; dot, one seed. During the longest training: lines, mean errors over the "
        "seeds, training errors dotted; band, lowest to highest validation error."
    ),
)
