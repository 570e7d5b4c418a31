"""What the caption of an experiment's figure says: images, steps, learning rates, seeds, marks."""

import math
from collections.abc import Iterable, Mapping
from decimal import Decimal
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbook.experiments.result import ArmResult, Result

DOTS_AND_BARS = (
    "Large dot: mean; bar: its 95 % interval over the seeds, for one fixed test set; small dot: "
    "one seed."
)
BANDS = "Line: mean over the seeds; band: lowest to highest seed, not a confidence interval."
TITLES = {
    **{"fashion-mini": "fashion-mini", "fashion-mnist": "Fashion-MNIST", "digits": "digits"},
    "cluttered-fashion": "fashion-mini, cluttered",
    "cluttered-fashion-mnist": "Fashion-MNIST, cluttered",
    **{"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"},
}
SIDES = {
    **{"fashion-mini": 28, "fashion-mnist": 28, "digits": 8, "cifar10": 32, "cifar100": 32},
    **{"cluttered-fashion": 64, "cluttered-fashion-mnist": 64},
}
ALMOST_NONE = 0.03  # a training error below it says that training is at its end


def said_set(name: str, shrink: int = 1, frame: int | None = None) -> str:
    """Return the name of a data set and the size of its images.

    Parameters
    ----------
    name
        As :func:`cnnbook.data.load` takes it.
    shrink
        By how much height and width are divided.
    frame
        Side of the black square in which the images are, if there is one.

    Examples
    --------
    >>> said_set("fashion-mnist", 2, frame=20)
    'Fashion-MNIST, 14×14 pixels in a frame of 20×20'
    """
    text = TITLES.get(name, name)
    if name in SIDES:
        side = SIDES[name] // shrink
        text += f", {side}×{side} pixels"
        if frame is not None and frame > side:
            text += f" in a frame of {frame}×{frame}"
    return text


def said_images(settings: Mapping[str, Any]) -> str:
    """Return which images an experiment learns from, by the names of settings that most have.

    Examples
    --------
    >>> said_images({"data": "cluttered-fashion-mnist", "shrink": 2, "images": 12_000})
    'Fashion-MNIST, cluttered, 32×32 pixels; 12,000 training images'
    >>> sets = {"cluttered": "cluttered-fashion", "upright": "fashion-mini"}
    >>> said_images({"sets": sets, "shrink": 2, "counts": (100, 400)}).partition("; ")[0]
    'fashion-mini, cluttered and upright, 32×32 pixels (upright: 28×28 in a frame of 32×32)'
    """
    if "sets" in settings:  # cluttered images have half their resolution, others a frame
        first = TITLES.get(settings["sets"].get("upright", ""), "")
        first = first or TITLES[next(iter(settings["sets"].values()))].partition(",")[0]
        side = 64 if settings.get("shrink") == 1 else 32
        small = SIDES.get(settings["sets"].get("upright", "")) == 28
        if small and len(settings["sets"]) == 1:
            text = f"{first}, upright, 28×28 pixels in a frame of 32×32"
        else:
            text = f"{first}, {' and '.join(settings['sets'])}, {side}×{side} pixels"
            text += " (upright: 28×28 in a frame of 32×32)" if small else ""
    else:
        shrink = settings.get("shrink", 1)
        text = said_set(settings["data"], shrink, settings.get("side"))
    if "labels" in settings:
        counts = (f"{n:,} ({task})" for task, n in settings["labels"].items())
        return f"{text}; {' or '.join(counts)} training images"
    if "counts" in settings:
        return f"{text}; {said_counts(settings['counts'])} training images"
    images = settings.get("images")
    return f"{text}; {'all' if images is None else f'{images:,}'} training images"


def said_counts(counts: Any) -> str:
    """Return the smallest and the largest of several numbers."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def said_errors(errors: Iterable[float]) -> str:
    """Return the smallest and the largest of several errors, in whole percent.

    Examples
    --------
    >>> said_errors([0.27, 0.35, 0.3]), said_errors([0.251, 0.249])
    ('27 to 35', '25')
    """
    found = sorted(errors)
    return " to ".join(dict.fromkeys(f"{100 * error:.0f}" for error in (found[0], found[-1])))


def said_unfinished(errors: Mapping[str, Iterable[float]], more: str = "") -> str:
    """Return the sentence that no network was trained to its end, or nothing if one was.

    Parameters
    ----------
    errors
        The mean training errors of all networks, by the images that they are measured on, such as
        ``"on upright clothes"``; by ``""`` if there is only one kind.
    more
        How the sentence goes on.

    Examples
    --------
    >>> said_unfinished({"": [0.27, 0.35]})
    'No network was trained to its end: training errors are 27 to 35 %.'
    >>> said_unfinished({"on digits": [0.1], "on clothes": [0.3]}, "; wait").partition(": ")[2]
    'training errors are 10 % on digits and 30 % on clothes; wait.'
    >>> said_unfinished({"": [0.02, 0.35]})
    ''
    """
    found = {which: sorted(values) for which, values in errors.items()}
    if min(values[0] for values in found.values()) < ALMOST_NONE:
        return ""
    parts = (f"{said_errors(values)} % {which}".strip() for which, values in found.items())
    return f"No network was trained to its end: training errors are {' and '.join(parts)}{more}."


def said_rate(lr: float) -> str:
    """Return a learning rate as readers see it, to two significant digits.

    Examples
    --------
    >>> said_rate(0.00949), said_rate(0.000999), said_rate(3e-05), said_rate(1)
    ('0.0095', '0.001', '0.00003', '1')
    """
    return format(Decimal(f"{lr:.2g}"), "f")


def conditions(result: "Result") -> str:
    """Return the caption of an experiment's figure, from the record."""
    spec = result.spec
    parts = [f"{spec.images(result.settings)[:1].upper()}{spec.images(result.settings)[1:]}"]
    if "test_images" in result.settings:
        parts[0] += f", {result.settings['test_images']:,} test images"
    parts += [_steps(result), _rates(result), _seeds(result)]
    text = "; ".join(filter(None, parts)) + "."
    draws = spec.draws_images or {"counts", "labels"} & result.settings.keys()
    if any(len(arm.runs) > 1 for arm in result):
        text += (
            " Each seed draws its own training images, the same for everything that is compared; "
            "differences are taken in pairs, so bars may overlap although a difference is shown."
            if draws
            else " All seeds use the same training images."
        )
    return " ".join(filter(None, [text, _training_errors(result), spec.notes(result), spec.marks]))


def _steps(result: "Result") -> str:
    """Return how many steps the runs took, but for those that diverged."""
    runs = [run for arm in result for run in arm.runs if not run.get("diverged", False)]
    counts = sorted({run["steps"] for run in runs if "steps" in run})
    if not counts:
        return ""
    if len(counts) > 3:
        return f"{said_counts(counts)} steps"
    *first, last = (f"{n:,}" for n in counts)
    return f"{', '.join(first)} or {last} steps" if first else f"{last} steps"


def _rates(result: "Result") -> str:
    rates = sorted({arm.lr for arm in result})
    text = " to ".join(dict.fromkeys([said_rate(rates[0]), said_rate(rates[-1])]))
    if not any(arm.tried for arm in result):
        return f"learning rate {text}, not tuned"
    each = f"each with its own learning rate ({text})"
    if "level" in result.settings:  # there, it is the time to an error that chooses
        return (
            f"{each}: of the rates tried, about a factor of three apart, the one with which the "
            "slower of two runs reaches the gray line soonest"
        )
    share = _share_of_tuning(result)
    how = f"in runs with {share:.0%} as many steps" if share < 0.995 else "in runs as long as these"
    return f"{each}, chosen on validation images {how}".replace("%", " %")


def _share_of_tuning(result: "Result") -> float:
    """Return how long the runs that chose learning rates were, compared with the others."""
    share = 1.0
    for name in ("images", "images_per_epoch", "epochs"):
        shorter, whole = result.tuning.get(name), result.settings.get(name)
        if shorter and name == "images" and whole is None:  # all of Fashion-MNIST but these
            whole = 60_000 - result.settings["val_images"]
        share *= shorter / whole if shorter and whole else 1
    return share


def _seeds(result: "Result") -> str:
    counts = [len(arm.runs) for arm in result]
    return "1 seed" if max(counts) == 1 else f"{said_counts(counts)} seeds"


def _training_errors(result: "Result") -> str:
    """Say how far the arms have fit their training images, if not all have done so."""
    if "level" in result.settings:  # there, training ends at an error
        return ""
    ends = [fmean(arm.values("train_error")) for arm in _learned(result)]
    if not ends or max(ends) < ALMOST_NONE:
        return ""
    all_learned = all(len(arm.learned.runs) == len(arm.runs) for arm in result)
    which = "" if all_learned else " of the runs that learned"
    return f"Mean training error at the end{which}: {said_errors(ends)} %."


def _learned(result: "Result") -> list["ArmResult"]:
    found = [arm.learned for arm in result if "train_error" in arm.runs[0]]
    return [arm for arm in found if arm.runs and math.isfinite(arm.runs[0]["train_error"])]
