"""One large kernel against a stack of 3×3 with the same receptive field.

One 7×7 layer against three of 3×3, and one 5×5 against two, as Simonyan & Zisserman 2015 compare
them: Section 2.3 counts the weights, 27·C² against 49·C² for C channels; Section 4.1 reports that
a network with 5×5 layers in place of each pair of 3×3 had a top-1 error 7 % higher than theirs.

All networks are the same but for the layers compared, which map C channels to C::

    3×3, norm, ReLU, pool | compared, norm, ReLU, pool | compared, norm, ReLU | mean | linear

``norm`` is batch normalization, ``mean`` global average pooling. So whatever surrounds the layers
compared has the same shape in all. Within a stack, the first layer maps C to M
channels and the last one M to C:

* ``"ReLU between"``: M is chosen so that the stack has as many weights as the large kernel. As
  all of its layers have the resolution of the large kernel, it then needs as many multiply–adds,
  too: both comparisons are the same one. (They agree within 2 %, as M is a whole number.)
* ``"no ReLU between"``: the same stack without the activation functions inside. It is linear, and
  computes what one large kernel can, but for the borders of the image. It tells whether the stack's
  advantage is the function it computes or the way it is built.
* ``"equal width"``: M = C, with ReLU, as in VGG; the stack has 27/49 or 18/25 of the weights and
  multiply–adds.

Every layer starts from a normal distribution with standard deviation √(2 / n_in) if ReLU follows
(He et al. 2015), and 1 / √n_in if not. VGG has no batch normalization; without it, the deeper of
these networks also take longer to start, which is not the question here.
"""

import itertools
import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import nn

from cnnbook.experiments import figures
from cnnbook.experiments.conditions import said_unfinished
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure

LARGE = {5: "one 5×5", 7: "one 7×7"}
STACK = {5: "two 3×3", 7: "three 3×3"}
LINEAR = "no ReLU between"
EQUAL = "ReLU between"
NARROW = "equal width"


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return every large kernel, and the three stacks that it is compared with."""
    rates = tuple(settings["rates"])
    found = []
    for k in settings["kernels"]:
        found += [
            Arm(LARGE[k], {"kernel": k, "stack": None}, rates),
            *(
                Arm(f"{STACK[k]}, {s}", {"kernel": k, "stack": s}, rates)
                for s in settings["stacks"]
            ),
        ]
    return found


def inner_channels(kernel: int, channels: int) -> int:
    """Return the channels between a stack's layers at which it has the large kernel's weights.

    A stack of two has 2 · 9CM weights, one of three 9(2CM + M²).

    Examples
    --------
    >>> inner_channels(5, 18), 2 * 9 * 18 * 25, 25 * 18 * 18
    (25, 8100, 8100)
    >>> inner_channels(7, 13), 9 * (2 * 13 * 20 + 20 * 20), 49 * 13 * 13
    (20, 8280, 8281)
    """
    if kernel == 5:
        return round(25 * channels / 18)
    return round(channels * (math.sqrt(1 + 49 / 9) - 1))


def layers(options: Mapping[str, Any], channels: int) -> list[nn.Module]:
    """Return what is compared: maps `channels` to as many."""
    kernel, stack = options["kernel"], options["stack"]
    if stack is None:
        return [nn.Conv2d(channels, channels, kernel, padding=kernel // 2)]
    inner = channels if stack == NARROW else inner_channels(kernel, channels)
    widths = [channels, *[inner] * (kernel // 2 - 1), channels]
    found: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        if found and stack != LINEAR:
            found.append(nn.ReLU())
        found.append(nn.Conv2d(n_in, n_out, 3, padding=1))
    return found


@torch.no_grad()
def build(
    options: Mapping[str, Any], classes: int, in_channels: int, channels: int
) -> nn.Sequential:
    """Return an arm's network, with new weights."""
    net = nn.Sequential(
        nn.Conv2d(in_channels, channels, 3, padding=1),
        *(nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)),
        *layers(options, channels),
        *(nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2)),
        *layers(options, channels),
        *(nn.BatchNorm2d(channels), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        nn.Flatten(),
        nn.Linear(channels, classes),
    )
    modules = list(net)
    for layer, after in zip(modules, [*modules[1:], None], strict=True):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            n_in = layer.weight[0].numel()
            gain = 2 if isinstance(after, nn.ReLU) else 1
            nn.init.normal_(layer.weight, std=math.sqrt(gain / n_in))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return net


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network."""
    parts = load_parts(settings)
    shape = parts[0].images.shape
    net = build(options, len(parts[0].classes), shape[1], settings["channels"])
    return learn(net, *parts, lr=lr, epochs=settings["epochs"], seed=seed)


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training; a stack takes longer than its operations say."""
    factor = (options["kernel"] / 7) ** 2 * (1.0 if options["stack"] is None else 1.2)
    return float((settings["images"] or 55_000) * settings["epochs"] * factor)


def verdict(result: Result) -> str:
    """Compare each large kernel with the stacks in its place."""
    said = []
    for k in result.settings["kernels"]:
        large = result[LARGE[k]].values("test_error")
        changes = [
            f"{of_difference(result[f'{STACK[k]}, {s}'].values('test_error'), large).in_words()} "
            f"with {_say_stack[s]}"
            for s in result.settings["stacks"]
        ]
        listed = ", ".join(changes[:-1]) + f", and {changes[-1]}"
        said.append(f"with {STACK[k]} layers in place of {LARGE[k]}, the test error is {listed}")
    said.append(f"{_say_relu(result)} (95 % intervals)")
    text = "".join(f"{sentence[:1].upper()}{sentence[1:]}. " for sentence in said)
    return f"{text}{_say_unfinished(result)}".strip()


def _say_relu(result: Result) -> str:
    """Compare the stacks with ReLU between their layers with the same ones without."""
    said = []
    for k in result.settings["kernels"]:
        arms = (result[f"{STACK[k]}, {stack}"] for stack in (EQUAL, LINEAR))
        change = of_difference(*(arm.values("test_error") for arm in arms))
        said.append(f"{change.in_words()} in a stack of {STACK[k].split()[0]}")
    return f"with ReLU in between, compared with no ReLU, the error is {' and '.join(said)}"


def _say_unfinished(result: Result) -> str:
    """Say that no network was trained to its end, where that is so, and how rates were chosen."""
    rates = ""
    if any(arm.tried for arm in result):
        rates = (
            ", and each learning rate was chosen in single, shorter runs, which may explain "
            "differences of one or two points"
        )
    return said_unfinished({"": [fmean(arm.values("train_error")) for arm in result]}, rates)


_say_stack = {
    EQUAL: "equal parameters",
    LINEAR: "equal parameters but no ReLU in between",
    NARROW: "equal width, that is, fewer parameters",
}


def plot(result: Result) -> Figure:
    """Draw the test error of every network with its interval."""
    named: dict[str, ArmResult] = {}
    for arm in result:
        count = f"{arm.runs[0]['parameters']:,}"
        named[f"{arm.name} ({count}{'' if named else ' parameters'})"] = arm
    return figures.intervals(named, xlabel="test error (%)", accuracy=False)


_ALL = (EQUAL, LINEAR, NARROW)
_RATES = (0.03, 0.1, 0.3)
SIZES = {
    "live": Size(
        {
            **{"data": "fashion-mini", "shrink": 2, "images": 2_000, "val_images": 500},
            **{"epochs": 6, "channels": 13, "kernels": (7,), "stacks": (EQUAL, LINEAR)},
            "rates": (0.1,),
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **{"data": "cluttered-fashion-mnist", "shrink": 2, "images": 12_000},
            **{"val_images": 5_000, "epochs": 8, "channels": 18, "kernels": (7, 5)},
            **{"stacks": _ALL, "rates": _RATES},
        },
        seeds=3,
        tuning={"images": 4_000, "epochs": 5},
    ),
    "full": Size(
        {
            **{"data": "cluttered-fashion-mnist", "shrink": 2, "images": None},
            **{"val_images": 5_000, "epochs": 10, "channels": 36, "kernels": (7, 5)},
            **{"stacks": _ALL, "rates": _RATES},
        },
        seeds=3,
        tuning={"images": 20_000, "epochs": 5},
    ),
}

EXPERIMENT = Experiment(
    "stacks",
    "One large kernel against a stack of 3×3, in an otherwise equal network",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
)
