"""Global average pooling against fully connected layers (Szegedy et al. 2015, Section 5).

The same five 3×3 layers with batch normalization, and on top either

- *global average pooling*: the mean of every feature map, then one linear layer;
- *fully connected*: all values of the feature maps, a layer of 1,024 units, and the linear layer;
- *fully connected, dropout*: the same with half of the inputs of both layers dropped in training,
  as was usual when such layers were.

Few training images, in two forms: upright clothes in the center, and the same clothes turned,
scaled and placed at random among fragments of others, both of 32×32 pixels. Fully connected layers
have a weight for each position, so they have to learn every position by itself. Where everything
has its place, as with upright clothes, that is an advantage.

The paper: "a move from fully connected layers to average pooling improved the top-1 accuracy by
about 0.6 %", and dropout "remained essential".
"""

from collections.abc import Mapping
from typing import Any

from torch import nn

from cnnbook import data
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import ALMOST_NONE, said_images
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_pairs
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import Result
from cnnbook.plots import Figure
from cnnbook.plots.style import CHART, line_style, new_figure

HEADS = ("global average pooling", "fully connected", "fully connected, dropout")
COMPARED = ("fully connected layers", "the same layers with dropout")  # with HEADS[0], in words
FORMS = ("upright", "cluttered")
SIDE = 32
WIDTHS = (16, 32, 64, 64, 128)
DRAWN = {"train_error": ("training images", 1, "s"), "test_error": ("test images", 0, "o")}


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return each head on each form of the images."""
    return [
        Arm(f"{form}: {head}", {"form": form, "head": head}, tuple(settings["rates"]))
        for form in FORMS
        for head in settings["heads"]
    ]


def network(head: str, settings: Mapping[str, Any], classes: int = 10) -> nn.Sequential:
    """Return the five layers with one of the heads, and new weights of He et al. 2015."""
    layers: list[nn.Module] = []
    channels = 1
    for i, n in enumerate(max(1, round(width * settings["width"])) for width in WIDTHS):
        layers += [nn.Conv2d(channels, n, 3, padding=1, bias=False), nn.BatchNorm2d(n), nn.ReLU()]
        if i < 2:
            layers.append(nn.MaxPool2d(2))
        channels = n
    below = _drawn(layers)  # before the head: one seed gives all heads the same layers below
    if head == HEADS[0]:
        above = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    else:
        units = settings["units"]
        drop = 0.5 if head == HEADS[2] else 0.0
        flat = channels * (SIDE // 4) ** 2
        above = [nn.Flatten(), nn.Dropout(drop), nn.Linear(flat, units), nn.ReLU()]
        above += [nn.Dropout(drop), nn.Linear(units, classes)]
    return nn.Sequential(*below, *_drawn(above))


def _drawn(layers: list[nn.Module]) -> list[nn.Module]:
    """Return layers after drawing new weights."""
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return layers


def images(
    form: str, settings: Mapping[str, Any]
) -> tuple[data.Dataset, data.Dataset, data.Dataset]:
    """Return training, validation and test images of one form, 32×32 pixels."""
    settings = {**settings, "data": settings[form]}
    if form == "cluttered":
        return load_parts({**settings, "shrink": 2})
    train, val, test = (part.padded(SIDE) for part in load_parts(settings))
    return train, val, test


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network on one form."""
    parts = images(options["form"], settings)
    net = network(options["head"], settings, len(parts[0].classes))
    return learn(
        net,
        *parts,
        lr=lr,
        epochs=settings["epochs"],
        images_per_epoch=settings["images_per_epoch"],
        seed=seed,
    )


def verdict(result: Result) -> str:
    """Say on which images pooling is better than the fully connected heads.

    In pairs, as a seed gives all heads the same layers below and the same order of the images.
    """
    said = []
    for form in FORMS:
        found = []
        for head, words in zip(result.settings["heads"][1:], COMPARED, strict=False):
            arms = [result[f"{form}: {name}"] for name in (head, HEADS[0])]
            gain = of_pairs(*(arm.values("test_error") for arm in arms))
            text = f"{gain.in_words()} compared with {words}"
            left = arms[0].interval("train_error").mean
            if left >= ALMOST_NONE:
                text += f", whose training error is {100 * left:.0f} % after equally many steps"
            found.append(text)
        said.append(f"on {form} clothes, {', and '.join(found)}")
    return (
        f"With {result.settings['images']:,} training images, the test accuracy with global "
        f"average pooling is, {'; '.join(said)} (95 % intervals)."
    )


def notes(result: Result) -> str:
    """Say how many parameters there are with either head."""
    pooled, full = (result[f"{FORMS[0]}: {head}"].runs[0]["parameters"] / 1e6 for head in HEADS[:2])
    return (
        f"Parameters: {pooled:.2g} million with pooling, {full:.2g} million with fully connected "
        "layers."
    )


def plot(result: Result) -> Figure:
    """Draw training and test accuracy of every head, on both forms of the images."""
    heads, listed = result.settings["heads"], []
    with new_figure(CHART, 1.8 + 0.6 * len(heads)) as figure:
        both = figure.subplots(2, 1, sharex=True)
        for axes, form in zip(both, FORMS, strict=True):
            for row, head in enumerate(heads):
                arm, means = result[f"{form}: {head}"], []
                for key, (label, number, marker) in DRAWN.items():
                    color, named = line_style(number)["color"], label if row == 0 else None
                    means.append(figures.draw_row(axes, row, arm, key, True, color, marker, named))
                listed.append(f"{form}, {head}: training {means[0]:.1f}, test {means[1]:.1f} %")
            axes.set_yticks(range(len(heads)), heads)
            axes.invert_yaxis()
            axes.margins(y=0.2)
            axes.set_title(f"{form} clothes", loc="left")
            axes.grid(alpha=0.25, linewidth=0.6, axis="x")
        both[1].set_xlabel("accuracy (%)")
        handles, labels = both[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return Figure(figure, f"Accuracy. {'; '.join(listed)}.")


_SAME = {"rates": (0.01, 0.03, 0.1), "units": 1024, "width": 1, "heads": HEADS}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **{"upright": "fashion-mini", "cluttered": "cluttered-fashion", "rates": (0.05,)},
            **{"images": 500, "val_images": 300, "images_per_epoch": 2_000, "epochs": 3},
            **{"units": 256, "width": 0.5, "heads": HEADS[:2]},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"upright": "fashion-mnist", "cluttered": "cluttered-fashion-mnist"},
            **{"images": 2_000, "val_images": 1_000, "images_per_epoch": 6_000, "epochs": 8},
        },
        seeds=3,
        tuning={"epochs": 4},
    ),
    "full": Size(
        {
            **_SAME,
            **{"upright": "fashion-mnist", "cluttered": "cluttered-fashion-mnist"},
            **{"images": 2_000, "val_images": 2_000, "images_per_epoch": 10_000, "epochs": 12},
        },
        seeds=5,
        tuning={"epochs": 6},
    ),
}

EXPERIMENT = Experiment(
    "pooling",
    "Global average pooling against fully connected layers, on upright and cluttered clothes",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    images=lambda settings: said_images(
        {**settings, "sets": {form: settings[form] for form in FORMS}, "shrink": 2}
    ),
    notes=notes,
    marks=(
        "Circle or square: mean; bar: its 95 % interval over the seeds, for one fixed test set; "
        "small dot: one seed. Differences are taken between runs with the same seed."
    ),
)
