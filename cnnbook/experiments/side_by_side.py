"""Eight networks of five papers with equally many multiply–adds, under one protocol.

Each is as wide as about as many multiply–adds per image allow (within 15 % of each other) for
images of 32×32 pixels. All have the same images in the same order, equally many steps, and each its
own learning rate. Upright clothes have a margin of two pixels; cluttered ones have half their
resolution. What was changed to make this possible: beginnings with stride 1 and without early
pooling; no dropout, response normalization or auxiliary classifiers; batch normalization in VGG and
GoogLeNet, where it is younger than they are; He's initial weights in LeNet-5 and AlexNet, which
have none; ReLU and maximum pooling in LeNet-5. So this compares designs, not the papers' recipes.

Seconds are those of training one image: forward, backward, and its share of the update. They depend
on the machine, on the batch size, and on what else runs; multiply–adds do not.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from cnnbook import data, models, training
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import of_difference, of_mean
from cnnbook.experiments.learning import he_start, learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure
from cnnbook.plots.style import WIDTH, line_style, new_figure

SIDE = 32
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "LeNet-5": ("lenet5", {}),
    "AlexNet": ("alexnet", {"stem": "small", "input_size": SIDE, "lrn": False, "dropout": 0}),
    "VGG-11": ("vgg11_bn", {"input_size": SIDE, "dropout": 0}),
    "VGG-16": ("vgg16_bn", {"input_size": SIDE, "dropout": 0}),
    "GoogLeNet": (
        "googlenet_bn",
        {"stem": "small", "input_size": SIDE, "auxiliary": False, "dropout": 0},
    ),
    "ResNet-18": ("resnet18", {"stem": "small"}),
    "ResNet-34": ("resnet34", {"stem": "small"}),
    "ResNet-50": ("resnet50", {"stem": "small"}),
}
CHANGES = ("noise", "blur", "shift")


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return every network for every set."""
    return [
        Arm(f"{name}, {task}", {"network": name, "set": task}, tuple(settings["rates"][name]))
        for task in settings["sets"]
        for name in settings["widths"]
    ]


def build(name: str, width: float, classes: int = 10, channels: int = 1) -> nn.Module:
    """Return a new network for images of 32×32 pixels.

    Parameters
    ----------
    name
        One of ``NETWORKS``.
    width
        Multiplies the widths of all layers; 1 gives the paper's.
    classes, channels
        Of the task.

    Examples
    --------
    >>> sum(p.numel() for p in build("LeNet-5", 1).parameters())
    61706
    """
    known, options = NETWORKS[name]
    if known == "lenet5":
        net: nn.Module = wide_lenet(width, classes, channels)
    else:
        net = models.create(known, classes, channels, width=width, **options)
    if known in ("lenet5", "alexnet"):  # VGG and ResNet do so themselves
        he_start(net)
    return net


def wide_lenet(width: float, classes: int, channels: int) -> nn.Sequential:
    """Return LeNet-5 with more feature maps in every layer, ReLU and maximum pooling."""
    c1, c3, c5, f6 = (round(n * width) for n in (6, 16, 120, 84))
    return nn.Sequential(
        *(nn.Conv2d(channels, c1, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(c1, c3, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(c3, c5, 5), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(c5, f6), nn.ReLU(), nn.Linear(f6, classes)),
    )


def images_of(
    task: str, settings: Mapping[str, Any]
) -> tuple[data.Dataset, data.Dataset, data.Dataset]:
    """Return training, validation and test images of 32×32 pixels."""
    shrink = 2 if task == "cluttered" else 1
    chosen = {"data": settings["sets"][task], "shrink": shrink, "images": settings["images"]}
    train, val, test = load_parts({**chosen, "val_images": settings["val_images"]})
    test = test[: settings["test_images"]]
    if shrink == 1:
        return train.padded(SIDE), val.padded(SIDE), test.padded(SIDE)
    return train, val, test


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network on one set, then test it on changed images as well."""
    parts = images_of(options["set"], settings)
    width = settings["widths"][options["network"]]
    net = build(options["network"], width, len(parts[0].classes), parts[0].images.shape[1])
    epochs, batch_size = settings["epochs"], settings["batch_size"]
    found = learn(net, *parts, lr=lr, epochs=epochs, seed=seed, batch_size=batch_size)
    found["milliseconds"] = 1000 * found["seconds"] / (epochs * len(parts[0]))
    for change in CHANGES:
        part = changed(parts[2], change)
        error = 1.0 if found["diverged"] else 1 - training.evaluate(net, part).accuracy
        found[f"{change}_error"] = error
    return found


def changed(dataset: data.Dataset, change: str) -> data.Dataset:
    """Return images as no network has seen them in training.

    Parameters
    ----------
    dataset
        Images.
    change
        ``"noise"``: normal, standard deviation 0.1 of white; ``"blur"``: 5×5 binomial, a standard
        deviation of one pixel; ``"shift"``: three pixels right and down.

    Examples
    --------
    >>> digits, _ = data.load("digits")
    >>> [changed(digits[:9], change).images.shape[2:] for change in CHANGES][0]
    torch.Size([8, 8])
    """
    images = dataset.images.float().cpu()
    if change == "noise":
        generator = torch.Generator().manual_seed(0)
        images = images + 25.5 * torch.randn(images.shape, generator=generator)
    elif change == "blur":
        row = torch.tensor([1.0, 4, 6, 4, 1]) / 16
        images = _convolved(_convolved(images, row[:, None]), row[None])
    else:
        images = F.pad(images, (3, 0, 3, 0))[:, :, :-3, :-3]
    result = images.round().clamp(0, 255).to(torch.uint8)
    return replace(dataset, images=result.to(dataset.images.device))


def _convolved(images: Tensor, kernel: Tensor) -> Tensor:
    n, channels, height, width = images.shape
    flat = images.view(n * channels, 1, height, width)
    return F.conv2d(flat, kernel[None, None], padding="same").view(images.shape)


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training: many small layers take longer."""
    slow = {"GoogLeNet": 3.0, "ResNet-34": 3.0, "ResNet-50": 5.0, "ResNet-18": 2.0, "VGG-16": 1.5}
    return float(slow.get(options["network"], 1.0) * settings["images"] * settings["epochs"])


def verdict(result: Result) -> str:
    """Say which network is most accurate on each set, and which ones cannot be told from it."""
    macs = [arm.runs[0]["macs"] / 1e6 for arm in result]
    said = [_best_of(result, task) for task in result.settings["sets"]]
    milliseconds = {name: _milliseconds(result, name) for name in result.settings["widths"]}
    fastest, slowest = (f(milliseconds, key=milliseconds.__getitem__) for f in (min, max))
    times = milliseconds[slowest] / milliseconds[fastest]
    return (
        f"With {min(macs):.1f} to {max(macs):.1f} million multiply–adds per image, "
        f"{'; '.join(said)}; an image takes {slowest} {times:.1f} times as long in training as "
        f"{fastest} (accuracy in %, differences in percentage points, 95 % intervals)."
    )


def _best_of(result: Result, task: str) -> str:
    errors = {
        name: result[f"{name}, {task}"].values("test_error") for name in result.settings["widths"]
    }
    best = min(errors, key=lambda name: sum(errors[name]))
    leads = {n: of_difference(e, errors[best]) for n, e in errors.items() if n != best}
    level = [name for name, lead in leads.items() if not lead.excludes_zero]
    behind = {name: lead for name, lead in leads.items() if lead.excludes_zero}
    accuracy = 100 * (1 - sum(errors[best]) / len(errors[best]))
    text = f"{best} has the highest accuracy on {task} clothes ({accuracy:.1f})"
    if level:
        text += f", no difference from {_listed(level)} being shown"
    if behind:
        last = max(behind, key=lambda name: behind[name].mean)
        text += f", and {behind[last]} more than the lowest, that of {last}"
    # A network that has not learned has nothing to lose.
    learned = [n for n, e in errors.items() if 100 * (1 - sum(e) / len(e)) > accuracy / 2]
    losses = {name: _losses(result[f"{name}, {task}"]) for name in learned}
    least, most = (f(losses, key=lambda name: sum(losses[name])) for f in (min, max))
    return (
        f"{text}; on changed images (noise, blur, shift) {least} loses least, "
        f"{of_mean(losses[least])} on average, and {most} most, {of_mean(losses[most])}"
    )


def _losses(arm: ArmResult) -> list[float]:
    """Return for each seed by how much accuracy falls, as a mean over the changes."""
    rises = [
        [changed - error for changed, error in zip(*both, strict=True)]
        for both in (
            (arm.values(f"{change}_error"), arm.values("test_error")) for change in CHANGES
        )
    ]
    return [sum(of_seed) / len(CHANGES) for of_seed in zip(*rises, strict=True)]


def _listed(names: list[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def _milliseconds(result: Result, name: str) -> float:
    """Return the median time over all runs; other programs disturb some."""
    values = [v for t in result.settings["sets"] for v in result[f"{name}, {t}"].values(_TIME)]
    return sorted(values)[len(values) // 2]


_TIME = "milliseconds"


def plot(result: Result) -> Figure:
    """Draw accuracy, on images as they are and changed, beside time: a row of axes for each set."""
    sets, names = result.settings["sets"], list(result.settings["widths"])
    told = []
    with new_figure(WIDTH, (0.9 + 0.36 * len(names)) * len(sets)) as figure:
        rows = figure.subplots(len(sets), 2, squeeze=False, sharey=True, width_ratios=(2.4, 1))
        for (left, right), task in zip(rows, sets, strict=True):
            arms = {name: result[f"{name}, {task}"] for name in names}
            told.append(_draw_accuracy(left, arms, task))
            for row, arm in enumerate(arms.values()):
                values = arm.values(_TIME)
                right.plot(values, [row] * len(values), ".", color=line_style(0)["color"])
            right.set(xlabel="training (ms/image)")
            right.set_xlim(left=0)
            right.grid(alpha=0.25, linewidth=0.6, axis="x")
    times = ", ".join(f"{name} {_milliseconds(result, name):.2f}" for name in names)
    return Figure(figure, f"{' '.join(told)} Milliseconds per image in training: {times}.")


def _draw_accuracy(axes: Axes, arms: Mapping[str, ArmResult], task: str) -> str:
    told = []
    for row, (name, arm) in enumerate(arms.items()):
        color = line_style(0)["color"]
        values = [100 * (1 - v) for v in arm.values("test_error")]
        mean = sum(values) / len(values)
        if len(values) > 1:
            interval = arm.interval("test_error")
            half = 100 * (interval.high - interval.mean)
            axes.errorbar(mean, row, xerr=half, fmt="none", color=color, capsize=4)
        label = "unchanged" if row == 0 else None
        axes.plot(mean, row, "o", color=color, markersize=6, label=label)
        means = []
        for i, change in enumerate(CHANGES, 1):
            errors = arm.values(f"{change}_error")
            means.append(100 * (1 - sum(errors) / len(errors)))
            style = {"color": line_style(i)["color"], "markerfacecolor": "none"}
            axes.plot(
                means[-1], row, " s^D"[i], label=change if row == 0 else None, markersize=5, **style
            )
        found = ", ".join(f"{c} {m:.1f}" for c, m in zip(CHANGES, means, strict=True))
        told.append(f"{name} {mean:.1f} % ({found})")
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.set(xlabel=f"test accuracy on {task} clothes (%)")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.legend(ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1))
    return f"Test accuracy on {task} clothes: {'; '.join(told)}."


# Million multiply–adds: 5.2, 5.0, 5.0, 5.0, 4.9, 4.9, 4.6, 4.8.
_NARROW = {
    **{"LeNet-5": 4, "AlexNet": 0.155, "VGG-11": 0.17, "VGG-16": 0.12, "GoogLeNet": 0.1},
    **{"ResNet-18": 6 / 64, "ResNet-34": 4 / 64, "ResNet-50": 4 / 64},
}
# 20.0, 19, 19, 19, 19, 19.5, 18.2, 19.1.
_WIDE = {
    **{"LeNet-5": 8, "AlexNet": 0.305, "VGG-11": 0.332, "VGG-16": 0.24, "GoogLeNet": 0.2},
    **{"ResNet-18": 12 / 64, "ResNet-34": 8 / 64, "ResNet-50": 8 / 64},
}
_BOTH = {"upright": "fashion-mnist", "cluttered": "cluttered-fashion-mnist"}
_RATES = dict.fromkeys(NETWORKS, (0.01, 0.03, 0.1))
# 1.4, 1.4, 1.4, 1.2.
_TINY = {"LeNet-5": 2, "AlexNet": 0.08, "VGG-11": 0.0895, "ResNet-18": 3 / 64}
SIZES = {
    "live": Size(
        {
            **{"sets": {"upright": "fashion-mini"}, "images": 1_000, "val_images": 100},
            **{"test_images": 400, "epochs": 3, "batch_size": 32, "widths": _TINY},
            "rates": {
                "LeNet-5": (0.01,),
                "AlexNet": (0.01,),
                "VGG-11": (0.03,),
                "ResNet-18": (0.03,),
            },
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **{"sets": _BOTH, "images": 7_000, "val_images": 1_000, "test_images": 2_000},
            **{"epochs": 4, "batch_size": 64, "rates": _RATES, "widths": _NARROW},
        },
        seeds=3,
        tuning={"images": 2_000, "epochs": 3, "test_images": 100},
    ),
    "full": Size(
        {
            **{"sets": _BOTH, "images": 55_000, "val_images": 5_000, "test_images": 10_000},
            **{"epochs": 3, "batch_size": 128, "rates": _RATES, "widths": _WIDE},
        },
        seeds=3,
        tuning={"images": 20_000, "epochs": 2, "test_images": 100},
    ),
}

EXPERIMENT = Experiment(
    "side_by_side",
    "Eight networks of equally many multiply–adds, under one protocol",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
)
