"""One layer or six, with equally many parameters, on few and on many training images.

The claim is that depth divides a task into simple steps, so that fewer images are enough. Here it
meets two tasks: garments turned, scaled and placed at random among fragments of others, and the
same garments upright and centered. The shallow network has a single convolution of large kernels,
the strongest activation in each of 4×4 regions, and a fully connected layer; the deep one six 3×3
convolutions and global average pooling. Both have batch normalization and ReLU.

They differ in their multiply–adds: equal parameters leave the deep network three times as many.
More of them do not help one layer: with a stride of 2 instead of 4, which takes four times as many,
it did no better in a pilot. And they differ in their heads, in what follows the layers. So a
control exchanges the heads: each network gets exactly what the other has, and so many feature maps
that its parameters remain equal. Then there are two networks with either head. (The maximum over
all positions, which is nearer to one layer's own head, did no better than the average in a pilot.)
A second control gives both networks twice the steps, should one have lacked time.
"""

from bisect import bisect_left
from collections.abc import Mapping
from statistics import fmean
from typing import Any

import torch
from torch import nn

from cnnbook import data
from cnnbook.experiments import figures
from cnnbook.experiments.conditions import ALMOST_NONE
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import Interval, of_difference, of_pairs
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import ArmResult, Result
from cnnbook.plots import Figure

KERNEL, STRIDE, REGIONS = 11, 4, 4  # of the shallow network
HEADS = {"six layers": "average", "one layer": "4×4 regions"}
SIDE = 32  # upright images get a margin of two pixels


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return both networks for each set and number of images, and the controls."""
    rates = settings["rates"]
    found = []
    for task in settings["sets"]:
        for images in settings["counts"]:
            for kind in HEADS:
                options = {"kind": kind, "set": task, "images": images, "steps": 1}
                found.append(Arm(_name(kind, task, images), options, tuple(rates[kind])))
    if settings["control"]:
        task, images = settings["control"]
        for kind in HEADS:
            options = {"kind": kind, "set": task, "images": images, "steps": 2}
            name = f"{_name(kind, task, images)}, twice the steps"
            found.append(Arm(name, options, tuple(rates[kind])))
        for kind, head in zip(HEADS, reversed(HEADS.values()), strict=True):
            options = {"kind": kind, "set": task, "images": images, "steps": 1, "head": head}
            name = f"{_name(kind, task, images)}, {head}"
            found.append(Arm(name, options, tuple(rates[kind])))
    return found


def _name(kind: str, task: str, images: int) -> str:
    return f"{kind}, {task}, {images}"


def build(
    kind: str, width: int, classes: int = 10, channels: int = 1, head: str | None = None
) -> nn.Sequential:
    """Return a new network: six layers, or one; equal parameters whatever the head.

    Parameters
    ----------
    kind
        ``"six layers"`` or ``"one layer"``.
    width
        Feature maps of the first of six layers with their own head. The other networks have as many
        as come closest to its parameters.
    classes, channels
        Of the task.
    head
        ``"average"`` or ``"4×4 regions"``: what precedes the fully connected layer. The network's
        own if not given, see :data:`HEADS`.

    Examples
    --------
    >>> [sum(p.numel() for p in build(k, 16).parameters()) for k in ("six layers", "one layer")]
    [72666, 72741]
    """
    head = head or HEADS[kind]
    if (kind, head) == ("six layers", HEADS["six layers"]):
        return _network(kind, width, classes, channels, head)
    wanted = _parameters(build("six layers", width, classes, channels))

    def excess(count: int) -> int:
        with torch.device("meta"):  # no weights are drawn
            return _parameters(_network(kind, count, classes, channels, head)) - wanted

    above = bisect_left(range(wanted), 0, lo=1, key=excess)
    nearest = min(above, above - 1, key=lambda count: abs(excess(count)))
    return _network(kind, nearest, classes, channels, head)


def _network(kind: str, width: int, classes: int, channels: int, head: str) -> nn.Sequential:
    plan = [(channels, width, KERNEL, STRIDE)]
    if kind == "six layers":
        w = width
        plan = [(channels, w, 3, 1), (w, w, 3, 2), (w, 2 * w, 3, 1), (2 * w, 2 * w, 3, 2)]
        plan += [(2 * w, 4 * w, 3, 1), (4 * w, 4 * w, 3, 1)]
    layers = [module for one in plan for module in _layer(*one)]
    features = plan[-1][1]
    pool: nn.Module = nn.AdaptiveAvgPool2d(1)
    if head == "4×4 regions":
        pool, features = nn.AdaptiveMaxPool2d(REGIONS), features * REGIONS**2
    return nn.Sequential(*layers, pool, nn.Flatten(), nn.Linear(features, classes))


def _layer(n_in: int, n_out: int, kernel: int, stride: int) -> list[nn.Module]:
    conv = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(n_out), nn.ReLU()]


def _parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def images_of(
    task: str, count: int, settings: Mapping[str, Any], seed: int
) -> tuple[data.Dataset, data.Dataset, data.Dataset]:
    """Return training images, drawn anew for each seed, and all seeds' validation and test ones."""
    source = {"data": settings["sets"][task], "val_images": settings["val_images"]}
    shrink = settings["shrink"] if task == "cluttered" else 1
    every, val, test = load_parts({**source, "shrink": shrink})
    _, train = every.split(count / len(every), seed=seed)
    test = test[: settings["test_images"]]
    if task == "cluttered":
        return train, val, test
    return train.padded(SIDE), val.padded(SIDE), test.padded(SIDE)


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train one network on one number of images of one set."""
    parts = images_of(options["set"], options["images"], settings, seed)
    classes = len(parts[0].classes)
    net = build(options["kind"], settings["width"], classes, head=options.get("head"))
    return learn(
        net,
        *parts,
        lr=lr,
        epochs=settings["epochs"] * options["steps"],
        seed=seed,
        images_per_epoch=settings["images_per_epoch"],
        batch_size=settings["batch_size"],
    )


def cost(options: Mapping[str, Any], settings: Mapping[str, Any]) -> float:
    """Return the relative time of one training."""
    return float(options["steps"] * settings["epochs"] * settings["images_per_epoch"])


def lead(result: Result, task: str, images: int, ending: str = "") -> Interval:
    """Return by how much the accuracy of six layers exceeds that of one.

    In pairs, as a seed draws the same images for both.
    """
    name = {kind: f"{_name(kind, task, images)}{ending}" for kind in HEADS}
    return _ahead(result, name["six layers"], name["one layer"])


def lead_with(result: Result, head: str) -> Interval:
    """Return by how much six layers lead, if this head follows both networks: the control."""
    return _ahead(
        result, with_head("six layers", head, result), with_head("one layer", head, result)
    )


def with_head(kind: str, head: str, result: Result) -> str:
    """Return the name of an arm of the control with exchanged heads."""
    name = _name(kind, *result.settings["control"])
    return name if head == HEADS[kind] else f"{name}, {head}"


def _ahead(result: Result, first: str, second: str) -> Interval:
    """Return by how much the accuracy of the first arm exceeds that of the second."""
    errors = [result[name].values("test_error") for name in (second, first)]
    return of_pairs(*errors)


def verdict(result: Result) -> str:
    """Say with how many images of which set depth pays, and what the controls show."""
    settings = result.settings
    said = [_about(result, task) for task in settings["sets"]]
    if settings["control"]:
        task, images = settings["control"]
        longer = lead(result, task, images, ", twice the steps")
        average, regions = (lead_with(result, head) for head in HEADS.values())
        said.append(
            f"with {images:,} {task} images, the difference is {longer} after twice as many steps; "
            f"after as many as before, it is {average} if the average follows both networks"
            f"{_say_unfit(result)}, and {regions} if 4×4 regions follow both"
        )
    text = ". ".join(f"{sentence[:1].upper()}{sentence[1:]}" for sentence in said)
    return f"{text} (percentage points, 95 % intervals)."


def _say_unfit(result: Result) -> str:
    """Say so if one layer, followed by the average, fits its images less than half as well."""
    arms = (
        result[with_head(kind, HEADS["six layers"], result)] for kind in ("one layer", "six layers")
    )
    one, six = (fmean(arm.values("train_error")) for arm in arms)
    if one < max(ALMOST_NONE, 2 * six):
        return ""
    return (
        " (one layer then does not fit its training images: training error "
        f"{100 * one:.0f} against {100 * six:.0f} %)"
    )


def notes(result: Result) -> str:
    """Say how many multiply–adds the networks have, with either head."""
    settings = result.settings
    task = settings["control"][0] if settings["control"] else next(iter(settings["sets"]))
    said = []
    for kind in HEADS:
        found = [a for a in result if (a.options["kind"], a.options["set"]) == (kind, task)]
        # Equal for all numbers of images.
        own = {_millions(arm) for arm in found if not arm.options.get("head")}
        text = f"{kind} {' or '.join(sorted(own))} million"
        for arm in found:
            if head := arm.options.get("head"):
                text += f" ({_millions(arm)} with {'the average' if head == 'average' else head})"
        said += [text] if own else []
    return f"Multiply–adds per image of {task} clothes: {', '.join(said)}."


def _millions(arm: ArmResult) -> str:
    return f"{arm.runs[0]['macs'] / 1e6:.1f}"


def _about(result: Result, task: str) -> str:
    counts = result.settings["counts"]
    leads = {n: lead(result, task, n) for n in counts}
    groups: dict[str, list[int]] = {"ahead": [], "behind": [], "open": []}
    for n, change in leads.items():
        kind = "open" if not change.excludes_zero else "ahead" if change.mean > 0 else "behind"
        groups[kind].append(n)
    words = {
        "ahead": "six layers are more accurate than one with as many parameters when trained on",
        "behind": "one layer is more accurate than six with as many parameters when trained on",
        "open": "no difference is shown when both are trained on",
    }
    parts = []
    for kind, found in groups.items():
        if not found:
            continue
        n = max(found, key=lambda n: abs(leads[n].mean))
        most = leads[n] if kind != "behind" else _reversed(leads[n])
        if len(found) == 1:
            size = f": {most}" if kind == "open" else f", by {most}"
        else:
            size = f": at most {most}" if kind == "open" else f", by up to {most} with {n:,}"
        parts.append(f"{words[kind]} {_listed(found)} images{size}")
    few = [n for n in counts[:-1] if _few_beat_many(result, task, n)]
    if few:
        parts.append(
            f"six layers trained on {few[0]:,} images are more accurate than one on {counts[-1]:,}"
        )
    return f"with {task} clothes, {'; '.join(parts)}"


def _few_beat_many(result: Result, task: str, images: int) -> bool:
    most = result.settings["counts"][-1]
    change = of_difference(
        result[_name("one layer", task, most)].values("test_error"),
        result[_name("six layers", task, images)].values("test_error"),
    )
    return change.low > 0


def _reversed(change: Interval) -> Interval:
    return Interval(-change.mean, -change.high, -change.low, change.n)


def _listed(counts: list[int]) -> str:
    *first, last = (f"{n:,}" for n in counts)
    return f"{', '.join(first)} and {last}" if first else last


def plot(result: Result) -> Figure:
    """Draw test accuracy against the number of images, a panel for each set; then the controls."""
    counts = result.settings["counts"]
    lines: dict[str, dict[str, list[ArmResult | None]]] = {
        f"{task} clothes": {kind: [result[_name(kind, task, n)] for n in counts] for kind in HEADS}
        for task in result.settings["sets"]
    }
    controls = None
    if result.settings["control"]:
        task, images = result.settings["control"]
        own = {kind: _name(kind, task, images) for kind in HEADS}
        controls = (
            f"controls: {task} clothes, {images:,} images",
            {
                "own heads": {kind: result[name] for kind, name in own.items()},
                "own heads,\ntwice the steps": {
                    kind: result[f"{name}, twice the steps"] for kind, name in own.items()
                },
                **{
                    f"{head}\nin both": {k: result[with_head(k, head, result)] for k in HEADS}
                    for head in HEADS.values()
                },
            },
        )
    return figures.panels(counts, lines, xlabel="training images", height=2.4, last=controls)


_RATES = (0.03, 0.1, 0.3)
_SAME = {"rates": {"six layers": _RATES, "one layer": _RATES}, "batch_size": 64}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **{"sets": {"cluttered": "cluttered-fashion"}, "shrink": 2, "width": 8},
            **{"counts": (200, 2_000), "control": None, "val_images": 1_000, "test_images": 1_000},
            **{"epochs": 2, "images_per_epoch": 4_000, "batch_size": 32},
            "rates": {"six layers": (0.1,), "one layer": (0.1,)},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **_SAME,
            "sets": {"cluttered": "cluttered-fashion-mnist", "upright": "fashion-mnist"},
            **{"shrink": 2, "width": 16, "counts": (100, 400, 1_600, 6_400)},
            **{"control": ("cluttered", 6_400), "val_images": 2_000, "test_images": 5_000},
            **{"epochs": 4, "images_per_epoch": 12_800},
        },
        seeds=3,
        tuning={"images_per_epoch": 4_800},
    ),
    "full": Size(
        {
            **_SAME,
            "sets": {"cluttered": "cluttered-fashion-mnist", "upright": "fashion-mnist"},
            **{"shrink": 1, "width": 16, "counts": (100, 400, 1_600, 6_400, 25_600)},
            **{"control": ("cluttered", 25_600), "val_images": 2_000, "test_images": 10_000},
            **{"epochs": 10, "images_per_epoch": 25_600, "batch_size": 256},
        },
        seeds=3,
        tuning={"epochs": 2},
    ),
}

EXPERIMENT = Experiment(
    "depth",
    "One layer and six of equally many parameters, on few and on many images",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    cost,
    notes=notes,
)
