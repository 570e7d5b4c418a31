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
from statistics import fmean, median
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from torch import Tensor, nn

from cnnbook import data, models, training
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import said_counts, said_unfinished
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import Interval, of_mean, of_pairs
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
    parameters = said_counts([round(arm.runs[0]["parameters"], -3) for arm in result])
    said = [
        f"The networks take {min(macs):.1f} to {max(macs):.1f} million multiply–adds per image and "
        f"have {parameters} parameters. Accuracies are in percent and differences in percentage "
        "points, with 95 % intervals; each pair of networks is compared on its own.",
        *(_say_best(result, task) for task in result.settings["sets"]),
    ]
    if result.size != "live":  # two live runs print the same
        taken = {name: milliseconds(result, name) for name in result.settings["widths"]}
        fastest, slowest = (f(taken, key=taken.__getitem__) for f in (min, max))
        times = taken[slowest] / taken[fastest]
        said.append(
            f"Training on an image takes {times:.1f} times as long with {slowest} as with "
            f"{fastest}."
        )
    return " ".join(filter(None, [*said, _say_unfinished(result)]))


def _say_unfinished(result: Result) -> str:
    """Say that no network was trained to its end, where that is so."""
    ends = {
        f"on {task} clothes": [
            fmean(result[f"{n}, {task}"].values("train_error")) for n in result.settings["widths"]
        ]
        for task in result.settings["sets"]
    }
    return said_unfinished(
        ends, "; a network with a low accuracy has less to lose when images change"
    )


def lead(result: Result, task: str, first: str, second: str) -> Interval:
    """Return by how much the test accuracy of one network exceeds that of another.

    In pairs, as a seed shows both the same images in the same order.
    """
    return of_pairs(*(result[f"{name}, {task}"].values("test_error") for name in (second, first)))


def drops(result: Result, task: str, name: str, *changes: str) -> list[float]:
    """Return for each seed by how much test accuracy falls on changed images.

    Parameters
    ----------
    result
        Of this experiment.
    task, name
        A set and a network.
    changes
        Of ``CHANGES``; the mean over these.
    """
    arm = result[f"{name}, {task}"]
    changed = zip(*(arm.values(f"{change}_error") for change in changes), strict=True)
    return [
        sum(errors) / len(errors) - error
        for errors, error in zip(changed, arm.values("test_error"), strict=True)
    ]


def milliseconds(result: Result, name: str) -> float:
    """Return the median time of training on one image, over all runs: some are disturbed."""
    return median(_times(result, name))


def _times(result: Result, name: str) -> list[float]:
    sets = result.settings["sets"]
    return [v for task in sets for v in result[f"{name}, {task}"].values("milliseconds")]


def _say_best(result: Result, task: str) -> str:
    arms = {name: result[f"{name}, {task}"] for name in result.settings["widths"]}
    lost = {name: len(arm.runs) - len(arm.learned.runs) for name, arm in arms.items()}
    learned = [name for name, count in lost.items() if not count] or list(arms)
    # Chosen by test errors, the best would be best by luck as well.
    best = min(learned, key=lambda name: sum(arms[name].values("val_error")))
    leads = {name: lead(result, task, best, name) for name in learned if name != best}
    level = [name for name, change in leads.items() if not change.excludes_zero]
    behind = {name: change for name, change in leads.items() if change.low > 0}
    ahead = {name: lead(result, task, name, best) for name in leads if leads[name].high < 0}
    said = [
        f"On {task} clothes, {best} has the smallest validation error; its test accuracy is "
        f"{of_mean([1 - error for error in arms[best].values('test_error')])}."
    ]
    for which, others in (("lower", ahead), ("higher", behind)):
        if others:
            each = [f"{name}’s by {change}" for name, change in others.items()]
            said.append(f"It is {which} than {_listed(each, 'and')}.")
    if level:
        said.append(f"No difference from {_listed(level, 'or')} is shown.")
    said += [
        f"{count} of {len(arms[name].runs)} runs of {name} learned nothing."
        for name, count in lost.items()
        if count
    ]
    mean = {name: fmean(drops(result, task, name, *CHANGES)) for name in learned}
    least, most = (f(mean, key=mean.__getitem__) for f in (min, max))
    both = [of_mean(drops(result, task, name, *CHANGES)) for name in (least, most)]
    said.append(
        f"On average over noise, blur and shift, {least} loses the fewest points of accuracy, "
        f"{both[0]}, and {most} the most, {both[1]}."
    )
    return " ".join(said)


def _listed(parts: list[str], word: str) -> str:
    *first, last = parts
    return f"{', '.join(first)} {word} {last}" if first else last


def plot(result: Result) -> Figure:
    """Draw accuracy on images as they are and changed, a panel for each set, and time."""
    sets, names = result.settings["sets"], list(result.settings["widths"])
    rows = -(-(len(sets) + 1) // 2)
    told = []
    with new_figure(WIDTH - 0.4, (1.25 + 0.28 * len(names)) * rows) as figure:
        *panels, time = figure.subplots(rows, 2, squeeze=False).flat[: len(sets) + 1]
        for axes in figure.axes[len(sets) + 1 :]:
            axes.remove()
        for axes, task in zip(panels, sets, strict=True):
            arms = {name: result[f"{name}, {task}"] for name in names}
            told.append(_draw_accuracy(axes, arms, task))
        for row, name in enumerate(names):
            values, color = _times(result, name), line_style(0)["color"]
            time.plot(values, [row] * len(values), ".", color=color, markersize=4, alpha=0.6)
            time.plot(milliseconds(result, name), row, "o", color=color)
        time.set(
            xlabel="training (ms per image)", title="time, both sets" if panels[1:] else "time"
        )
        time.set_xlim(left=0)
        time.set_yticks(range(len(names)), names)
        for axes in (*panels, time):
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.grid(alpha=0.25, linewidth=0.6)
    times = ", ".join(f"{name} {milliseconds(result, name):.2f}" for name in names)
    alt = f"{' '.join(told)} Milliseconds per image in training: {times}."
    return Figure(figure, alt, stacks=True)


def _draw_accuracy(axes: Axes, arms: Mapping[str, ArmResult], task: str) -> str:
    told, labels = [], []
    for row, (name, whole) in enumerate(arms.items()):
        arm = whole.compared
        lost = len(whole.runs) - len(arm.runs)
        labels.append(f"{name}\n({lost} of {len(whole.runs)} lost)" if lost else name)
        color, named = line_style(0)["color"], "unchanged" if row == 0 else None
        mean = figures.draw_row(axes, row, arm, "test_error", True, color, label=named)
        found = {"unchanged": mean}
        for i, change in enumerate(CHANGES):
            found[change] = 100 * (1 - fmean(arm.values(f"{change}_error")))
            color, named = line_style(i + 1)["color"], change if row == 0 else None
            hollow = {"color": color, "markerfacecolor": "none", "markersize": 5}
            axes.plot(found[change], row, "s^D"[i], label=named, **hollow)
        values = ", ".join(f"{label} {mean:.1f}" for label, mean in found.items())
        told.append(f"{' '.join(labels[-1].split())} {values}")
    axes.set_yticks(range(len(arms)), labels)
    axes.set(xlabel="test accuracy (%)", title=f"{task} clothes")
    axes.legend(ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.12))
    return f"Test accuracy (%) on {task} clothes: {'; '.join(told)}."


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
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **{"sets": _BOTH, "images": 55_000, "val_images": 5_000, "test_images": 10_000},
            **{"epochs": 3, "batch_size": 128, "rates": _RATES, "widths": _WIDE},
        },
        seeds=3,
        tuning={"images": 20_000, "epochs": 2, "test_images": 100},
        tuning_seeds=2,
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
    marks=(
        "Large circle: mean (of times, the median); bar: its 95 % interval over the seeds, for one "
        "fixed test set; small dot: one run; other marks: means on changed images. "
        "Differences are taken between runs of equal seeds. LeNet-5 and AlexNet have no batch "
        "normalization, the others do."
    ),
)
