"""LeNet-5 with four activation functions, each with a start and a learning rate of its own.

The logistic sigmoid of textbooks, tanh, the scaled tanh of LeCun et al. 1998 (Appendix A), and ReLU
(Nair & Hinton 2010). Nothing else differs: the network is :class:`cnnbook.models.LeNet5`.

A network learns from the start only if signals pass through its layers neither vanishing nor
saturating, and what does that depends on the activation function. So each has its own start:

* logistic sigmoid: standard deviation 4 √(2 / (n_in + n_out)); its slope at zero is 1/4 (Glorot &
  Bengio 2010);
* tanh: √(2 / (n_in + n_out)) (the same);
* scaled tanh: 1 / √n_in (LeCun et al. 1998, "Efficient BackProp", Section 4.6);
* ReLU: √(2 / n_in) (He et al. 2015).

Biases start at zero. The same four with the start that torch gives every layer, whatever follows
it (uniform within ±1 / √n_in), tell how much of the difference between activation functions is a
difference between starts.
"""

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import nn

from cnnbook import models
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import ALMOST_NONE, BANDS, said_images
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure

# Label of the figure, by the name that LeNet5 takes.
LABELS = {
    "sigmoid": "logistic sigmoid",
    "tanh": "tanh",
    "scaled_tanh": "scaled tanh",
    "relu": "ReLU",
}
STARTS = {"own": "own start", "torch": "torch's start"}


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return each activation function with each start."""
    return [
        Arm(
            f"{LABELS[activation]}, {STARTS[start]}",
            {"activation": activation, "start": start},
            tuple(settings["rates"][activation]),
        )
        for start, activations in settings["starts"].items()
        for activation in activations
    ]


def standard_deviation(activation: str, n_in: int, n_out: int) -> float:
    """Return the standard deviation of the first weights that suits an activation function.

    Examples
    --------
    >>> standard_deviation("relu", 50, 100), standard_deviation("scaled_tanh", 25, 100)
    (0.2, 0.2)
    """
    glorot = math.sqrt(2 / (n_in + n_out))
    return {
        "sigmoid": 4 * glorot,
        "tanh": glorot,
        "scaled_tanh": math.sqrt(1 / n_in),
        "relu": math.sqrt(2 / n_in),
    }[activation]


@torch.no_grad()
def build(options: Mapping[str, Any], classes: int, channels: int) -> models.LeNet5:
    """Return an arm's network, with new weights."""
    net = models.LeNet5(classes, channels, activation=options["activation"])
    if options["start"] == "torch":
        return net
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            n_out, n_in = layer.weight.shape[0], layer.weight[0].numel()
            if isinstance(layer, nn.Conv2d):  # each input reaches that many outputs
                n_out *= layer.weight[0, 0].numel()
            std = standard_deviation(options["activation"], n_in, n_out)
            if layer is net.output:  # no activation function follows
                std = standard_deviation("tanh", n_in, n_out)
            nn.init.normal_(layer.weight, std=std)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return net


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train LeNet-5 once."""
    parts = [part.padded(32) for part in load_parts(settings)]
    net = build(options, len(parts[0].classes), parts[0].images.shape[1])
    return learn(net, *parts, lr=lr, epochs=settings["epochs"], seed=seed)


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the number of images that are trained on."""
    return float((settings["images"] or 55_000) * settings["epochs"])


def verdict(result: Result) -> str:
    """Compare ReLU with each of the others, with their own starts and with torch's."""
    own, torchs = _say_chosen(result, "own"), _say_chosen(result, "torch")
    found = {label: arm.compared.values("test_error") for label, arm in own.items()}
    relu = found.pop("ReLU")
    said = [
        f"{of_difference(values, relu).in_words()} with the {label}".replace("the tanh", "tanh")
        + _say_less(own[label], own["ReLU"])
        for label, values in found.items()
    ]
    failed = any(
        len(arm.compared.runs) < len(arm.runs) for arm in (*own.values(), *torchs.values())
    )
    text = (
        f"{'Of the runs that learned: with' if failed else 'With'} initial weights and a learning "
        "rate that suit each function, LeNet-5's test error is "
        f"{100 * sum(relu) / len(relu):.1f} % with ReLU and, compared with that, "
        f"{', '.join(said[:-1])} and {said[-1]}"
    )
    if "logistic sigmoid" in torchs:
        change = of_difference(
            torchs["logistic sigmoid"].compared.values("test_error"), found["logistic sigmoid"]
        )
        text += (
            "; with the logistic sigmoid from torch's initial weights, compared with suited ones, "
            f"it is {change.in_words()}"
        )
        if torchs["logistic sigmoid"].chosen_at_chance:
            text += ", at a learning rate that was chosen in runs that had learned nothing yet"
    text += " (95 % intervals)."
    for start, arms in (("suited", own), ("torch's", torchs)):
        for label, arm in arms.items():
            lost = len(arm.runs) - len(arm.compared.runs)
            if lost:
                text += (
                    f" {label[:1].upper()}{label[1:]} with {start} initial weights ends no better "
                    f"than by guessing in {lost} of {len(arm.runs)} seeds; means leave these "
                    "runs out."
                )
    return text


def _say_less(arm: ArmResult, relu: ArmResult) -> str:
    """Say so if the training error is at least twice that with ReLU, and no longer small."""
    ends = [fmean(one.compared.values("train_error")) for one in (arm, relu)]
    if ends[0] < max(ALMOST_NONE, 2 * ends[1]):
        return ""
    errors = f"{100 * ends[0]:.1f} against {100 * ends[1]:.1f} %"
    return f" (which has trained less far: training error {errors})"


def plot(result: Result) -> Figure:
    """Draw the validation error of every activation function, one panel for each start."""
    panels = {
        f"{whose} initial weights": _say_chosen(result, start)
        for start, whose in {"own": "suited", "torch": "torch's"}.items()
        if _say_chosen(result, start)
    }
    return figures.panels_of_curves(
        panels, "val_error", ylabel="validation error (%)", top=100, zoom=True
    )


def _say_chosen(result: Result, start: str) -> dict[str, ArmResult]:
    """Return the arms with that start, by the label of their activation function."""
    return {
        LABELS[arm.options["activation"]]: arm for arm in result if arm.options["start"] == start
    }


_ALL = tuple(LABELS)
_RATES = {
    "sigmoid": (0.1, 0.3, 1.0),
    "tanh": (0.03, 0.1, 0.3),
    "scaled_tanh": (0.01, 0.03, 0.1),
    "relu": (0.03, 0.1, 0.3),
}
SIZES = {
    "live": Size(
        {
            **{"data": "fashion-mini", "images": 2_000, "val_images": 500, "epochs": 6},
            **{"starts": {"own": _ALL, "torch": ("sigmoid",)}},
            "rates": {"sigmoid": (0.3,), "tanh": (0.1,), "scaled_tanh": (0.05,), "relu": (0.1,)},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **{"data": "fashion-mnist", "images": 20_000, "val_images": 5_000, "epochs": 12},
            **{"starts": {"own": _ALL, "torch": _ALL}, "rates": _RATES},
        },
        seeds=5,
        tuning={"images": 8_000, "epochs": 6},
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **{"data": "fashion-mnist", "images": None, "val_images": 5_000, "epochs": 20},
            **{"starts": {"own": _ALL, "torch": _ALL}, "rates": _RATES},
        },
        seeds=5,
        tuning={"images": 20_000, "epochs": 8},
        tuning_seeds=2,
    ),
}

EXPERIMENT = Experiment(
    "activation",
    "LeNet-5 with four activation functions, each with its own start and learning rate",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    images=lambda settings: said_images({**settings, "side": 32}),
    marks=(
        f"{BANDS} Thin dashed line: a run that is left out of the mean because it learned nothing."
    ),
)
