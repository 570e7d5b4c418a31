"""GoogLeNet with and without its auxiliary classifiers (Szegedy et al. 2015, Section 5).

The paper's CVPR version says that they were meant to combat vanishing gradients, and to regularize.
So there are two starts: He et al.'s of 2015, with which every layer keeps the size of its signal,
and a *weak* one, of which every weight is a fraction, and so is what a layer passes on. The
fraction is one at which starting is hard but possible; in pilots with one seed and one learning
rate, 312 steps from 0.8 taught the network nothing without auxiliary classifiers and little with
them.

All arms train the same network without batch normalization, as in the paper, from the same weights
for the same seed; only the loss has two further terms of weight 0.3 or not. At test time the
auxiliary classifiers are not used: parameters and MACs of what is tested are equal.

The first layer's gradient before any step is recorded too: a sum of three losses with fewer layers
between two of them and the input has a larger one, the more so the weaker the start.

Two years later Szegedy et al. (2016, arXiv:1512.00567, Section 4) found that the classifiers do not
speed up the beginning, and took them for regularizers; their networks had batch normalization.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import data, models
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import BANDS, said_rate
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_pairs
from cnnbook.experiments.learning import he_start, learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure

STARTS = ("weak", "He")
# From the weak start, short runs without auxiliary classifiers hardly tell one rate from another.
# So they are also trained at the rate that suits those with them.
CONTROL_RATE = 0.03
CONTROL = f"weak start, without, rate {CONTROL_RATE:g}"


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return both starts, without and with auxiliary classifiers, and the control."""
    found = [
        Arm(
            f"{start} start, {'with' if auxiliary else 'without'}",
            {"start": start, "auxiliary": auxiliary},
            tuple(settings["rates"]),
        )
        for start in settings["starts"]
        for auxiliary in (False, True)
    ]
    if "He" in settings["starts"]:
        found.append(Arm(CONTROL, {"start": "weak", "auxiliary": False}, (CONTROL_RATE,)))
    return found


def network(
    start: str, settings: Mapping[str, Any], side: int, classes: int = 10, channels: int = 1
) -> models.GoogLeNet:
    """Return a GoogLeNet with auxiliary classifiers, and new weights of one kind of start."""
    net = models.GoogLeNet(
        classes, channels, width=settings["width"], stem="small", input_size=side, auxiliary=True
    )
    he_start(net)
    if start == "weak":
        with torch.no_grad():
            for layer in net.modules():
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.mul_(settings["weak"])
    return net


def main_loss(output: models.GoogLeNetOutput | Tensor, target: Tensor) -> Tensor:
    """Return the loss of the main classifier alone."""
    return F.cross_entropy(output if isinstance(output, Tensor) else output.scores, target)


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network with one of the losses."""
    side = settings["side"]
    train, val, test = (part.padded(side) for part in load_parts(settings))
    shape = len(train.classes), train.images.shape[1]
    net = network(options["start"], settings, side, *shape)
    loss = models.googlenet_loss if options["auxiliary"] else main_loss
    gradient = first_gradient(net, train, loss)
    found = learn(net, train, val, test, lr=lr, epochs=settings["epochs"], seed=seed, loss=loss)
    return {**found, "first_gradient": gradient}


def first_gradient(
    net: nn.Module, train: data.Dataset, loss: Callable[[Any, Tensor], Tensor]
) -> float:
    """Return the norm of the loss's gradient at the first layer's weights, before any step."""
    images = torch.stack([train[i][0] for i in range(64)])
    weight = net.get_submodule("conv1.0").get_parameter("weight")
    value = loss(net.train()(images), train.labels[:64].to(images.device))
    (gradient,) = torch.autograd.grad(value, weight)
    return float(gradient.norm())


def verdict(result: Result) -> str:
    """Say what the auxiliary classifiers change, with a weak start and with He's.

    In pairs, as a seed gives both networks the same weights and the same order of the images. Of
    two learning rates without auxiliary classifiers, the one with the smaller validation error.
    """
    said = []
    for start in result.settings["starts"]:
        without, with_ = best_without(result, start), result[f"{start} start, with"]
        gain = of_pairs(without.values("test_error"), with_.values("test_error"))
        counts = [len(arm.learned.runs) for arm in (without, with_)]
        text = (
            f"From {'a weak' if start == 'weak' else 'He’s'} start, auxiliary classifiers make the "
            f"first layer’s gradient {_say_times(without, with_)} as large before the first step; "
        )
        over = ""
        if min(counts) < len(without.runs):
            text += (
                f"{counts[0]} of {len(without.runs)} runs learn without them"
                f"{_say_rates(result, without)}, and {counts[1]} with them; "
            )
            over = "over all runs, "
        text += f"{over}the final test accuracy with them is {gain.in_words()}"
        if all(_still_falls(arm) for arm in (without, with_)):
            text += ", while validation errors still fall"
        said.append(text)
    return f"{'. '.join(said)} (95 % intervals)."


def best_without(result: Result, start: str) -> ArmResult:
    """Return the arm without auxiliary classifiers at the better of its learning rates."""
    names = [f"{start} start, without"] + [CONTROL] * (start == "weak")
    arms = [arm for arm in result if arm.name in names]
    return min(arms, key=lambda arm: statistics.fmean(arm.values("val_error")))


def _say_rates(result: Result, without: ArmResult) -> str:
    """Name the learning rate if it is the control's, and what the one that was chosen taught."""
    if without.name != CONTROL:
        return ""
    chosen = result["weak start, without"]
    learned = len(chosen.learned.runs)
    by = ", which short runs chose" if chosen.tried else ""
    return (
        f" (at a learning rate of {said_rate(without.lr)}; {learned or 'none'} at "
        f"{said_rate(chosen.lr)}{by})"
    )


def _still_falls(arm: ArmResult) -> bool:
    """Return whether the mean validation error fell in the last epoch."""
    ends = [curve[-2:] for curve in arm.curves("val_error")]
    if any(len(end) < 2 for end in ends):  # one diverged
        return False
    before, last = (statistics.fmean(at) for at in zip(*ends, strict=True))
    return last < before


def _say_times(without: ArmResult, with_: ArmResult) -> str:
    """Return how many times the gradient is, as the ratio of geometric means."""
    logs = [
        statistics.fmean(math.log(max(1e-30, g)) for g in arm.values("first_gradient"))
        for arm in (with_, without)
    ]
    ratio = math.exp(logs[0] - logs[1])
    return f"{ratio:,.0f} times" if ratio >= 10 else f"{ratio:.1f} times"


def plot(result: Result) -> Figure:
    """Draw the validation error while the networks learn, from both starts."""
    panels = {}
    for start in result.settings["starts"]:
        panels[f"{'He’s' if start == 'He' else start} start"] = {
            f"{'with' if arm.options['auxiliary'] else 'without'}, rate "
            f"{said_rate(CONTROL_RATE if arm.name == CONTROL else arm.lr)}"
            f"{'' if arm.learned.runs else ', none learned'}": arm
            for arm in result
            if arm.options["start"] == start
        }
    return figures.panels_of_curves(panels, "val_error", ylabel="validation error (%)")


def notes(result: Result) -> str:
    """Say how weak the weak start is, and what the loss is with auxiliary classifiers."""
    return (
        f"Weak start: {result.settings['weak']:g} times He’s weights. With auxiliary classifiers, "
        "the loss is a sum of three losses with weights 1, 0.3 and 0.3, which alone may make its "
        "gradient larger."
    )


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training."""
    return float((1.1 if options["auxiliary"] else 1.0) * settings["epochs"] * settings["images"])


# 14×14 pixels in a frame of three: without it, the last modules would work on single pixels.
_SAME = {"rates": (0.03, 0.1, 0.3), "weak": 0.87, "width": 0.125, "starts": STARTS}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **{"data": "fashion-mini", "shrink": 2, "side": 14, "images": 2_560},
            **{"val_images": 300, "epochs": 4, "rates": (0.05,), "starts": ("weak",)},
        },
        seeds=2,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "shrink": 2, "side": 20, "images": 10_000},
            **{"val_images": 1_000, "epochs": 4},
        },
        seeds=5,
        tuning={"epochs": 2},
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "side": 32, "images": 10_000, "val_images": 1_000},
            **{"epochs": 5, "width": 0.25},
        },
        seeds=3,
        tuning={"epochs": 2},
        tuning_seeds=2,
    ),
}

EXPERIMENT = Experiment(
    "auxiliary",
    "GoogLeNet with and without auxiliary classifiers, from a weak start and from He's",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    notes=notes,
    marks=(
        f"{BANDS} Thin, dashed: a run that is left out of the mean because it learned nothing. "
        "“With” and “without” mean auxiliary classifiers, “rate” the learning rate. Differences "
        "are taken between runs with the same seed."
    ),
)
