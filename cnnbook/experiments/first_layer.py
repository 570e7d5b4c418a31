"""What a frozen first layer is worth whose filters were learned from one photograph.

The first layer has few and large filters, so that the layers after it cannot make up for what it
loses; they are trained on few labeled images. Its filters come from one photograph of a cat, by
whitening and k-means (a variant of Coates, Ng and Lee 2011, which uses no labels); from an image of
noise, by the same recipe; are random; or random and blurred, which has nothing to do with edges but
lets as little fine noise pass. As references, they are learned with the rest on the same few
labels, or taken from a network trained on many labels of the task.

Cats and clothes have edges in common, so this asks for more than pretty filters. Upright clothes
are a task that random filters serve as well.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cnnbook import data
from cnnbook.experiments import figures
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.images import load_parts
from cnnbook.experiments.intervals import Interval, of_pairs
from cnnbook.experiments.learning import learn
from cnnbook.experiments.result import Result
from cnnbook.plots import Figure
from cnnbook.plots.style import CHART, new_figure

SIDE = 32
PHOTO, NOISE = "one photograph", "an image of noise"
RANDOM, BLURRED = "random numbers", "blurred random numbers"
FEW, MANY = "the same few labels", "many labels"
CALLED = {
    **{RANDOM: "random filters", BLURRED: "blurred random filters", NOISE: "filters from noise"},
    **{
        MANY: "filters learned from many labels",
        FEW: "unfrozen filters learned from the same few labels",
    },
}


def arms(settings: Mapping[str, Any]) -> list[Arm]:
    """Return each source of filters for each set."""
    return [
        Arm(f"{task}: {source}", {"set": task, "source": source}, tuple(settings["rates"]))
        for task in settings["sets"]
        for source in settings["sources"]
    ]


def build(filters: Tensor | None, count: int, side: int, width: int, classes: int) -> nn.Sequential:
    """Return a new network; with filters, its first layer is theirs, and frozen."""
    first = nn.Conv2d(1, count, side, stride=2, padding=side // 2, bias=False)
    if filters is not None:
        with torch.no_grad():
            first.weight.copy_(filters.view_as(first.weight))
        first.weight.requires_grad_(False)
    layers: list[nn.Module] = [first, nn.BatchNorm2d(count), nn.ReLU()]
    for n_in, n_out, stride in ((count, width, 1), (width, 2 * width, 2), (0, 2 * width, 1)):
        conv = nn.Conv2d(n_in or 2 * width, n_out, 3, stride, 1, bias=False)
        layers += [conv, nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, classes)
    )


def patches_of(image: Tensor, count: int, side: int, generator: torch.Generator) -> Tensor:
    """Return patches of an image ``(H, W)``, one per row."""
    height, width = image.shape
    y = torch.randint(height - side + 1, (count, 1, 1), generator=generator)
    x = torch.randint(width - side + 1, (count, 1, 1), generator=generator)
    k = torch.arange(side)
    return image[y + k[:, None], x + k].flatten(1)


def learn_filters(image: Tensor, count: int, side: int, seed: int) -> Tensor:
    """Return filters that suit the patches of an image, each of length 1.

    The patches are whitened, so that broad shades do not drown everything fine; then each goes to
    the filter that matches it best, in either sign, and each filter is pulled towards its patches.

    Parameters
    ----------
    image
        Gray values of 0 to 1, ``(H, W)``.
    count
        How many.
    side
        Their side in pixels.
    seed
        Of patches and of the filters that it begins with.

    Returns
    -------
    Tensor
        ``(count, side²)``.
    """
    generator = torch.Generator().manual_seed(seed)
    p = patches_of(image, 10_000, side, generator)
    p = p[p.std(1) > 0.04]  # even background teaches nothing
    p = (p - p.mean(1, keepdim=True)) / p.std(1, keepdim=True)
    variance, axes = torch.linalg.eigh(torch.cov(p.T))
    whiten = axes @ torch.diag((variance + 0.1).rsqrt()) @ axes.T
    z = (p - p.mean(0)) @ whiten
    filters = F.normalize(torch.randn(count, z.shape[1], generator=generator))
    for _ in range(15):
        match = z @ filters.T
        best = match.abs().argmax(1, keepdim=True)
        filters = filters.index_add(0, best[:, 0], match.gather(1, best) * z)
        filters = F.normalize(filters)
    return F.normalize(filters @ whiten)


def blurred(filters: Tensor, side: int) -> Tensor:
    """Return filters ``(count, side²)`` blurred by a 5×5 binomial, each again of length 1."""
    row = torch.tensor([1.0, 4, 6, 4, 1]) / 16
    maps = F.conv2d(filters.view(-1, 1, side, side), torch.outer(row, row)[None, None], padding=2)
    return F.normalize(maps.flatten(1))


@lru_cache(maxsize=8)
def _image(source: str) -> Tensor:
    photograph = data.photo("cat").float().mean(0) / 255
    if source == PHOTO:
        return photograph
    noise = torch.randn(photograph.shape, generator=torch.Generator().manual_seed(0))
    return noise * photograph.std() + photograph.mean()


def train(
    options: Mapping[str, Any], settings: Mapping[str, Any], lr: float, seed: int
) -> dict[str, Any]:
    """Train the rest of a network behind one kind of first layer."""
    task, source = options["set"], options["source"]
    chosen = {"data": settings["sets"][task], "val_images": settings["val_images"]}
    every, val, test = load_parts({**chosen, "shrink": 2 if task == "cluttered" else 1})
    more, few = every.split(settings["labels"][task] / len(every), seed=seed)
    test = test[: settings["test_images"]]
    if task != "cluttered":
        more, few, val, test = (part.padded(SIDE) for part in (more, few, val, test))
    count, side = settings["filters"], settings["side"]
    shape = count, side, settings["width"], len(every.classes)
    generator = torch.Generator().manual_seed(seed)
    filters = None
    fit: dict[str, Any] = {"lr": lr, "seed": seed, "batch_size": settings["batch_size"]}
    fit |= {"epochs": settings["epochs"], "images_per_epoch": settings["images_per_epoch"]}
    if source in (PHOTO, NOISE):
        filters = learn_filters(_image(source), count, side, seed)
    elif source in (RANDOM, BLURRED):
        filters = F.normalize(torch.randn(count, side**2, generator=generator))
        if source == BLURRED:
            filters = blurred(filters, side)
    elif source == MANY:
        teacher = build(None, *shape)
        _, many = more.split(settings["many"] / len(more), seed=seed)
        learn(teacher, many, val[:100], test[:100], **fit)
        weight = teacher.get_parameter("0.weight").detach().cpu()
        filters = F.normalize(weight.flatten(1))
    return learn(build(filters, *shape), few, val, test, **fit)


def verdict(result: Result) -> str:
    """Say whether filters from one photograph do better than others."""
    said = [_about(result, task) for task in result.settings["sets"]]
    better = any(
        _lead(result, task, other).low > 0
        for task in result.settings["sets"]
        for other in result.settings["sources"]
        if other != PHOTO
    )
    first = "" if better else "Filters from one photograph are not shown to be better than others. "
    return (
        f"{first}With a frozen first layer learned from one photograph, the accuracy is, "
        f"{'; '.join(said)} (percentage points, 95 % intervals)."
    )


def _lead(result: Result, task: str, other: str) -> Interval:
    """Return by how much filters from one photograph exceed others.

    In pairs, as a seed draws the same labeled images for all arms.
    """
    return of_pairs(*(result[f"{task}: {name}"].values("test_error") for name in (other, PHOTO)))


def _about(result: Result, task: str) -> str:
    groups: dict[str, list[str]] = {"higher": [], "lower": [], "open": []}
    for other in result.settings["sources"]:
        if other == PHOTO:
            continue
        change = _lead(result, task, other)
        kind = "open" if not change.excludes_zero else "higher" if change.mean > 0 else "lower"
        groups[kind].append(f"{CALLED[other]} ({'+' if change.mean > 0 else ''}{change})")
    parts = [
        f"{kind} than with {_listed(groups[kind], 'and')}"
        for kind in ("higher", "lower")
        if groups[kind]
    ]
    if groups["open"]:
        parts.append(f"not shown to differ from that with {_listed(groups['open'], 'or')}")
    labels = result.settings["labels"][task]
    return f"on {task} clothes with {labels:,} labels, {', and '.join(parts)}"


def _listed(names: list[str], word: str) -> str:
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def notes(result: Result) -> str:
    """Say how many filters there are, and what those learned from labels are."""
    settings = result.settings
    text = f"{settings['filters']} filters of {settings['side']}×{settings['side']} pixels"
    if MANY in settings["sources"]:
        text += f"; many labels: {settings['many']:,}"
    if FEW in settings["sources"]:
        text += "; from the same few labels: the first layer is trained, not frozen"
    return f"{text}."


def plot(result: Result) -> Figure:
    """Draw the accuracy behind each kind of first layer, a panel for each set."""
    sets, sources = result.settings["sets"], result.settings["sources"]
    told = []
    with new_figure(CHART, (1.1 + 0.34 * len(sources)) * len(sets)) as figure:
        figures.space_out(figure)
        all_axes = figure.subplots(len(sets), squeeze=False)[:, 0]
        for axes, task in zip(all_axes, sets, strict=True):
            labels = result.settings["labels"][task]
            found = {f"from {source}": result[f"{task}: {source}"] for source in sources}
            title = f"{task} clothes, {labels:,} labels"
            means = figures.draw_intervals(axes, found, "test_error", True)
            axes.set(title=title, xlabel="test accuracy (%)")
            listed = (f"{n} {m:.1f} %" for n, m in zip(found, means, strict=True))
            told.append(f"{title}: {', '.join(listed)}.")
    return Figure(figure, f"Test accuracy by origin of the first layer. {' '.join(told)}")


_SAME = {"filters": 4, "side": 9, "width": 16, "many": 10_000, "batch_size": 64}
_ALL = (RANDOM, BLURRED, NOISE, PHOTO, FEW, MANY)
_BOTH = {"cluttered": "cluttered-fashion-mnist", "upright": "fashion-mnist"}
SIZES = {
    "live": Size(
        {
            **_SAME,
            **{"sets": {"cluttered": "cluttered-fashion"}, "labels": {"cluttered": 2_000}},
            **{"sources": (RANDOM, BLURRED, PHOTO), "val_images": 300, "test_images": 1_000},
            **{"rates": (0.1,), "batch_size": 32, "epochs": 1, "images_per_epoch": 8_000},
        },
        seeds=3,
    ),
    "desk": Size(
        {
            **_SAME,
            **{"sets": _BOTH, "labels": {"cluttered": 2_000, "upright": 200}, "sources": _ALL},
            **{"val_images": 2_000, "test_images": 5_000, "rates": (0.1, 0.3, 1.0, 3.0)},
            **{"epochs": 4, "images_per_epoch": 12_800},
        },
        seeds=5,
        tuning_seeds=2,
    ),
    "full": Size(
        {
            **_SAME,
            **{"sets": _BOTH, "labels": {"cluttered": 2_000, "upright": 200}, "sources": _ALL},
            **{"val_images": 2_000, "test_images": 10_000, "rates": (0.1, 0.3, 1.0, 3.0)},
            **{"epochs": 8, "images_per_epoch": 12_800, "many": 40_000},
        },
        seeds=5,
        tuning_seeds=2,
    ),
}

EXPERIMENT = Experiment(
    "first_layer",
    "A frozen first layer from one photograph, from noise, random, or learned",
    SIZES,
    arms,
    train,
    verdict,
    plot,
    notes=notes,
)
