"""What random changes of training images are worth: on digits, upright and cluttered clothes.

Accuracy against the number of images, with and without; single changes at one number of images;
and changes that break the label. All arms of a set take equally many steps, and a control without
augmentation twice as many. Whether a change breaks the label is asked of the classes it concerns: a
6 turned by 180° is a 9, a 4 remains one of a kind. So errors on 6 and 9 are kept apart from
those on other digits.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import nn

from cnnbook import data, training
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import ALMOST_NONE, said_counts
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import Interval, of_pairs
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure
from cnnbook.plots.style import WIDTH, line_style, new_figure

NOTHING, LONGER = "no change", "no change, twice the steps"
TOGETHER = "turned, shifted, scaled"
CHANGES: dict[str, dict[str, Any]] = {
    NOTHING: {},
    LONGER: {},
    TOGETHER: {"rotate": 15, "translate": 0.1, "scale": (0.9, 1.1)},
    "turned by up to 15°": {"rotate": 15},
    "turned by up to 90°": {"rotate": 90},
    "turned by up to 180°": {"rotate": 180},
    "shifted by up to 10 %": {"translate": 0.1},
    "scaled by 0.9 to 1.1": {"scale": (0.9, 1.1)},
    "mirrored": {"flip": 0.5},
    "brighter or darker": {"brightness": 0.4},
    "a part erased": {"erase": 0.5},
}
HALF_TURN = "turned by up to 180°"
PAIR = ("6", "9")  # digits that half a turn makes of each other


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return every change of every set, first those for each number of images."""
    found = []
    for task, plan in settings["sets"].items():
        along = [NOTHING, TOGETHER, *([LONGER] if settings["control"] else [])]
        pairs = [(n, change) for n in plan["counts"] for change in along]
        pairs += [(plan["at"], change) for change in plan["changes"]]
        for images, change in pairs:
            options = {"set": task, "images": images, "change": change}
            options["steps"] = 2 if change == LONGER else 1
            found.append(Arm(_name(task, images, change), options, tuple(settings["rates"])))
    return found


def _name(task: str, images: int, change: str) -> str:
    return f"{task}, {images}: {change}"


def build(classes: int, channels: int, side: int, width: int) -> nn.Sequential:
    """Return a new network: three 3×3 layers, two of which halve the maps, and a linear one."""
    layers: list[nn.Module] = []
    for n_in, n_out, stride in ((channels, width, 1), (width, 2 * width, 2), (0, 4 * width, 2)):
        conv = nn.Conv2d(n_in or 2 * width, n_out, 3, stride, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(n_out), nn.ReLU()]
    inputs = 4 * width * math.ceil(math.ceil(side / 2) / 2) ** 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs, classes))


@lru_cache(maxsize=4)
def _parts(source: str, val_images: int, shrink: int) -> tuple[data.Dataset, ...]:
    parts = load_parts({"data": source, "val_images": val_images, "shrink": shrink})
    if source == "digits":  # 8×8 pixels: enlarge them, with a margin to be shifted into
        return tuple(_enlarged(part).padded(20) for part in parts)
    return tuple(part.padded(32) if part.images.shape[-1] == 28 else part for part in parts)


def _enlarged(dataset: data.Dataset) -> data.Dataset:
    images = F.interpolate(dataset.images.float(), size=16, mode="bilinear").round()
    return replace(dataset, images=images.to(torch.uint8))


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network on one number of images, changed in one way."""
    plan = settings["sets"][options["set"]]
    every, val, test = _parts(plan["data"], plan["val_images"], plan["shrink"])
    _, train = every.split(options["images"] / len(every), seed=seed)
    test = test[: settings["test_images"]]
    changes = CHANGES[options["change"]]
    channels, side = train.images.shape[1:3]
    net = build(len(train.classes), channels, side, settings["width"])
    found = learn(
        net,
        train,
        val,
        test,
        lr=lr,
        epochs=settings["epochs"] * options["steps"],
        seed=seed,
        images_per_epoch=settings["images_per_epoch"],
        batch_size=settings["batch_size"],
        augment=data.Augment(**changes) if changes else None,
    )
    if plan["data"] == "digits":
        wanted = torch.tensor([train.classes.index(name) for name in PAIR])
        concerned = torch.isin(test.labels.cpu(), wanted)
        for key, chosen in (("pair_error", concerned), ("others_error", ~concerned)):
            part = test[chosen.nonzero()[:, 0]]
            found[key] = 1.0 if found["diverged"] else 1 - training.evaluate(net, part).accuracy
    return found


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training: steps times pixels."""
    pixels = 20**2 if settings["sets"][options["set"]]["data"] == "digits" else 32**2
    return float(options["steps"] * settings["epochs"] * settings["images_per_epoch"] * pixels)


def gain(result: Result, task: str, images: int, change: str, key: str = "test_error") -> Interval:
    """Return by how much a change lowers an error, against the same network without changes.

    Where there is a control with twice the steps, against that: it favors networks without changes.
    In pairs, as a seed draws the same images for all arms.
    """
    without = LONGER if result.settings["control"] else NOTHING
    return _gain(result, task, images, change, without, key)


def _gain(
    result: Result, task: str, images: int, change: str, without: str, key: str = "test_error"
) -> Interval:
    arms = (result[_name(task, images, what)] for what in (without, change))
    return of_pairs(*(arm.values(key) for arm in arms))


def _is_shown(result: Result, task: str, images: int, change: str) -> bool:
    """Return whether a change helps or harms, against the control and after equal steps alike."""
    found = [gain(result, task, images, change), _gain(result, task, images, change, NOTHING)]
    return all(one.low > 0 for one in found) or all(one.high < 0 for one in found)


def verdict(result: Result) -> str:
    """Say what augmentation gains with few and many images, alone and where labels break."""
    said = []
    for task, plan in result.settings["sets"].items():
        few, many = plan["counts"][0], plan["counts"][-1]
        gains = [f"by {_say_gain(result, task, n, TOGETHER)} with {n:,}" for n in (few, many)]
        said.append(f"on {_called(task)} {' and '.join(gains)} images")
    control = " for twice the steps" if result.settings["control"] else ""
    parts = [
        f"Compared with the same network trained on unchanged images{control}, turning, shifting "
        f"and scaling change the accuracy {'; '.join(said)}"
    ]
    parts += [_about_singles(result, task) for task in result.settings["sets"]]
    text = ". ".join(f"{part[:1].upper()}{part[1:]}" for part in filter(None, parts))
    told = ""
    if "training error" in text:
        level = f"{100 * ALMOST_NONE:.0f}"
        told = f"; training errors are given from {level} %, where training was not at its end"
    return f"{text} (percentage points, 95 % intervals{told})."


def _about_singles(result: Result, task: str) -> str:
    """Name the single changes that help and harm most, and what half a turn does to 6 and 9."""
    plan = result.settings["sets"][task]
    at, changes = plan["at"], list(plan["changes"])
    parts, which = [], "single"
    if task == "digits" and HALF_TURN in changes:
        keys = ("pair_error", "others_error")
        pair, others = (_say_gain(result, task, at, HALF_TURN, key) for key in keys)
        parts.append(
            f"turning digits by up to 180°, where a 6 becomes a 9, changes the accuracy on 6 and 9 "
            f"by {pair}, and on the other digits by {others}"
        )
        changes.remove(HALF_TURN)
        which = "the other single"
    if changes:
        gains = {change: gain(result, task, at, change) for change in changes}
        shown = [change for change in changes if _is_shown(result, task, at, change)]
        helps = [change for change in shown if gains[change].mean > 0]
        harms = [change for change in shown if gains[change].mean < 0]
        told = ["none is shown to help"]
        if helps:
            best = max(helps, key=lambda change: gains[change].mean)
            told = [f"“{best}” helps most, by {_say_gain(result, task, at, best)}"]
        if harms:
            worst = min(harms, key=lambda change: gains[change].mean)
            told.append(f"“{worst}” harms most, by {_say_gain(result, task, at, worst)}")
        parts.append(f"of {which} changes to {at:,} {_called(task)}, {', and '.join(told)}")
    return "; ".join(parts)


def _say_gain(result: Result, task: str, images: int, change: str, key: str = "test_error") -> str:
    """Return what a change gains, and the training error where training was not at its end."""
    found = gain(result, task, images, change, key)
    arm = result[_name(task, images, change)]
    left = sum(arm.values("train_error")) / len(arm.runs)
    if left >= ALMOST_NONE:
        return f"{_told(found)[:-1]}; training error {100 * left:.0f} %)"
    return _told(found)


def _called(task: str) -> str:
    return task if task == "digits" else f"{task} clothes"


def _told(change: Interval) -> str:
    sign = "+" if change.mean > 0 else ""
    return f"{sign}{change}"


def plot(result: Result) -> Figure:
    """Draw accuracy against images for each set, and below what single changes gain."""
    sets = result.settings["sets"]
    groups = [[task for task in sets if task == "digits"], [t for t in sets if t != "digits"]]
    groups = [tasks for tasks in groups if tasks]
    rows = max(len(plan["changes"]) for plan in sets.values())
    heights = [3.1, 1.35 + 0.42 * rows]
    told = []
    with new_figure(WIDTH - 0.4, sum(heights)) as figure:  # room for the gaps between pictures
        # Apart, so that the names of the changes do not narrow the panels above.
        above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
        curves = above.subplots(1, len(sets), squeeze=False)[0]
        for axes, (task, plan) in zip(curves, sets.items(), strict=True):
            told.append(_draw_curves(axes, result, task, plan))
        gains = below.subplots(1, len(groups), squeeze=False)[0]
        for axes, tasks in zip(gains, groups, strict=True):
            told.append(_draw_changes(axes, result, tasks))
    stacks = max(len(sets), len(groups)) > 1  # else it is drawn again for a narrow page
    return Figure(figure, " ".join(told), stacks=stacks)


def _draw_curves(axes: Axes, result: Result, task: str, plan: Mapping[str, Any]) -> str:
    counts = plan["counts"]
    along = [NOTHING, TOGETHER, *([LONGER] if result.settings["control"] else [])]
    told = []
    for i, change in enumerate(along):
        found: list[ArmResult | None] = [result[_name(task, n, change)] for n in counts]
        mean = figures.draw_line(axes, counts, found, "test_error", True, change, line_style(i))
        told.append(f"{change} from {mean[0]:.1f} to {mean[-1]:.1f} %")
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{n:,}" for n in counts])
    axes.minorticks_off()
    axes.set(xlabel="training images", ylabel="test accuracy (%)")
    axes.set_title(_called(task), pad=54)
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 0.98), handlelength=1.6)
    axes.grid(alpha=0.25, linewidth=0.6)
    ends = f"{counts[0]:,} to {counts[-1]:,}"
    return f"Test accuracy on {_called(task)} for {ends} images, changed: {'; '.join(told)}."


def _draw_changes(axes: Axes, result: Result, tasks: list[str]) -> str:
    """Draw what single changes gain on one or two sets, on digits for two groups of classes."""
    plans = {task: result.settings["sets"][task] for task in tasks}
    kinds = [(task, "test_error", _called(task)) for task in tasks]
    if tasks == ["digits"]:
        keys = {"pair_error": "6 and 9", "others_error": "other digits"}
        kinds = [("digits", key, label) for key, label in keys.items()]
    changes = list(dict.fromkeys(c for plan in plans.values() for c in plan["changes"]))
    told = []
    for i, (task, key, label) in enumerate(kinds):
        color = line_style(i)["color"]
        for change in plans[task]["changes"]:
            found = gain(result, task, plans[task]["at"], change, key)
            y = changes.index(change) + (i - (len(kinds) - 1) / 2) * 0.3
            half = 100 * (found.high - found.mean)
            axes.errorbar(100 * found.mean, y, xerr=half, fmt="os"[i], color=color, capsize=4)
            told.append(f"{change}, {label}: {_told(found)}")
        axes.plot([], [], "os"[i], color=color, label=label)
    at = " and ".join(dict.fromkeys(f"{plan['at']:,}" for plan in plans.values()))
    what = "digits" if tasks == ["digits"] else "clothes"
    axes.axvline(0, color="#777777", linewidth=0.8)
    axes.set_yticks(range(len(changes)), changes)
    axes.set_ylim(len(changes) - 0.5, -0.5)
    axes.set_title(f"One change, {at} {what}", pad=40)
    axes.set(xlabel="accuracy gained (points)")
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.25, linewidth=0.6, axis="x")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 0.98))
    return f"Accuracy gained with {at} {what}, one change at a time: {'; '.join(told)}."


def _say_images(settings: Mapping[str, Any]) -> str:
    sizes = {
        "digits": (
            "digits, 8×8 pixels enlarged to 16×16 in a frame of 20×20 (of 740 test images, 148 are "
            "6 or 9)"
        ),
        "upright": "Fashion-MNIST, upright, 28×28 pixels in a frame of 32×32",
        "cluttered": "Fashion-MNIST, cluttered, 32×32 pixels",
    }
    counts = [n for plan in settings["sets"].values() for n in plan["counts"]]
    sets = "; ".join(sizes[task] for task in settings["sets"])
    return f"{sets}; {said_counts(counts)} training images"


_SINGLE = ("turned by up to 15°", "shifted by up to 10 %", "scaled by 0.9 to 1.1", "mirrored")
_DIGITS = ("turned by up to 15°", "turned by up to 90°", HALF_TURN, "mirrored")


def _sets(counts: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    return {
        "digits": {
            **{"data": "digits", "shrink": 1, "val_images": 300, "counts": (100, 500)},
            **{"at": 500, "changes": _DIGITS},
        },
        "upright": {
            **{"data": "fashion-mnist", "shrink": 1, "val_images": 2_000, "counts": counts},
            **{"at": 500, "changes": (*_SINGLE, HALF_TURN, "brighter or darker", "a part erased")},
        },
        "cluttered": {
            **{"data": "cluttered-fashion-mnist", "shrink": 2, "val_images": 2_000},
            **{"counts": counts, "at": 500, "changes": _SINGLE},
        },
    }


_RATES = (0.01, 0.03, 0.1)
SIZES = {
    "live": Size(
        {
            "sets": {
                "digits": {
                    **{"data": "digits", "shrink": 1, "val_images": 300, "counts": (50, 500)},
                    **{"at": 500, "changes": (HALF_TURN,)},
                }
            },
            **{"control": False, "rates": (0.05,), "width": 8, "batch_size": 32},
            **{"epochs": 2, "images_per_epoch": 4_000, "test_images": 740},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            "sets": _sets((100, 500, 2_500)),
            **{"control": True, "rates": _RATES, "width": 16, "batch_size": 64},
            **{"epochs": 3, "images_per_epoch": 14_000, "test_images": 5_000},
        },
        seeds=3,
        tuning={"images_per_epoch": 3_200},
    ),
    "full": Size(
        {
            "sets": _sets((100, 500, 2_500, 12_500)),
            **{"control": True, "rates": _RATES, "width": 32, "batch_size": 128},
            **{"epochs": 10, "images_per_epoch": 12_800, "test_images": 10_000},
        },
        seeds=3,
        tuning={"epochs": 3},
    ),
}

EXPERIMENT = Experiment(
    "augmentation",
    "With and without random changes of the training images",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    images=_say_images,
    marks=(
        "Accuracy: line, mean; bar, its 95 % interval over the seeds, for one fixed test set; "
        "dot, one seed. Accuracy gained: mean and 95 % interval of the differences from the "
        "network trained without changes, for twice the steps where that was done."
    ),
    draws_images=True,
)
