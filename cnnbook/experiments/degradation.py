"""Plain and residual networks of growing depth (He et al. 2016, Section 4.2 and Figure 6).

And what becomes of a trained network when one of its blocks is taken away (Veit et al. 2016).
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cnnbook import data, models, training
from cnnbook.experiments import figures
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import Result
from cnnbook.plots import Figure


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return a plain and a residual network of each depth, and other shortcuts at one depth."""
    rates = tuple(settings["rates"])
    found = [
        Arm(f"{kind}-{depth}", {"depth": depth, "plain": kind == "plain"}, rates)
        for depth in settings["depths"]
        for kind in ("plain", "residual")
    ]
    for option in settings["options"]:  # option A is in the list already
        depth = settings["options_at"]
        found.append(
            Arm(f"residual-{depth}, {option}", {"depth": depth, "shortcut": option}, rates)
        )
    return found


def build(options: Mapping[str, Any], classes: int, channels: int) -> models.ResNet:
    """Return an arm's network, with new weights."""
    return models.ResNet(num_classes=classes, in_channels=channels, **options)


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network, then remove its blocks one at a time."""
    parts = load_parts(settings)
    net = build(options, len(parts[0].classes), parts[0].images.shape[1])
    found = learn(
        net, *parts, lr=lr, epochs=settings["epochs"], seed=seed, weight_decay=settings["decay"]
    )
    if settings["remove"]:
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
    return float(options["depth"] * (settings["images"] or 58_000) * settings["epochs"])


def verdict(result: Result) -> str:
    """Say whether depth raised the training error of plain networks, and of residual ones."""
    depths = result.settings["depths"]
    shallow, deep = depths[0], depths[-1]
    said = []
    for kind in ("plain", "residual"):
        change = of_difference(
            result[f"{kind}-{deep}"].values("train_error"),
            result[f"{kind}-{shallow}"].values("train_error"),
        )
        said.append(f"{change} points in {kind} networks")
    return (
        f"From {shallow} to {deep} layers, the training error changes by {said[0]} and by {said[1]}"
        " (95 % intervals)."
    )


def plot(result: Result) -> Figure:
    """Draw the training error of every network while it learns."""
    depths = result.settings["depths"]
    named = [f"{kind}-{depth}" for kind in ("plain", "residual") for depth in depths]
    return figures.learning_curves({name: result[name] for name in named}, "train_error")


_SAME = {"rates": (0.03, 0.1, 0.3), "decay": 1e-4, "options_at": 20}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **{"data": "fashion-mini", "shrink": 2, "images": 2_000, "val_images": 500},
            **{"epochs": 4, "depths": (8, 32), "options": (), "remove": 0, "rates": (0.1,)},
        },
        seeds=2,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "images": 30_000, "val_images": 5_000, "epochs": 6},
            **{"depths": (20, 56), "options": (), "remove": 1_000},
        },
        seeds=3,
        tuning={"images": 8_000, "epochs": 4, "remove": 0},
    ),
    "full": Size(
        {
            **_SAME,
            **{"data": "fashion-mnist", "images": None, "val_images": 5_000, "epochs": 15},
            **{"depths": (20, 32, 56, 110), "options": ("B", "C"), "remove": 10_000},
        },
        seeds=3,
        tuning={"images": 15_000, "epochs": 6, "remove": 0},
    ),
}

EXPERIMENT = Experiment(
    "degradation",
    "Plain and residual networks of growing depth, at the paper's width",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
)
