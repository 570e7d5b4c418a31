"""Results of experiments: reading, writing and finding them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnbook._errors import unknown
from cnnbook._files import expanded, write_whole
from cnnbook.experiments.conditions import conditions, said_rate
from cnnbook.experiments.intervals import Interval, of_mean
from cnnbook.experiments.registry import get
from cnnbook.results.machine import where_and_when
from cnnbook.results.schema import check_machine, sealed, unsealed
from cnnbook.tables import Table

if TYPE_CHECKING:
    from cnnbook.experiments.experiment import Experiment
    from cnnbook.plots import Figure

SCHEMA = 1
RECORDED = Path(__file__).parent / "recorded"
_ARM = ("name", "options", "lr", "tried", "runs")
LEARNED = 0.8  # a test error below it has learned something: guessing one of ten has 0.9


@dataclass(frozen=True)
class ArmResult:
    """The result of one arm.

    Parameters
    ----------
    name, options
        As in :class:`Arm`.
    lr
        Learning rate of the runs.
    tried
        Learning rate to validation error, of the runs that chose it; empty if none was chosen.
    runs
        What the experiment's ``train`` returned, one for each seed.
    """

    name: str
    options: dict[str, Any]
    lr: float
    tried: dict[str, float]
    runs: list[dict[str, Any]]

    def values(self, key: str) -> list[float]:
        """Return a measurement of every run, such as ``"test_error"``.

        Raises
        ------
        ValueError
            If there is no such measurement.
        """
        if key not in self.runs[0]:
            raise unknown("measurement", key, sorted(self.runs[0]))
        return [run[key] for run in self.runs]

    @property
    def lr_at_end(self) -> str:
        """``"lowest"`` or ``"highest"`` if that is what the learning rate is of those tried.

        Then a better one may lie beyond.
        """
        tried = [float(lr) for lr in self.tried]
        if len(tried) < 2 or min(tried) < self.lr < max(tried):
            return ""
        return "lowest" if self.lr <= min(tried) else "highest"

    @property
    def chosen_at_chance(self) -> bool:
        """Whether no learning rate that was tried taught it anything, so that none was better."""
        return bool(self.tried) and min(self.tried.values()) >= LEARNED

    @property
    def learned(self) -> "ArmResult":
        """The same arm with those runs alone that end better than by guessing.

        The others have a test error of 80 % or more.
        """
        return replace(self, runs=[r for r in self.runs if r.get("test_error", 0) < LEARNED])

    @property
    def compared(self) -> "ArmResult":
        """The arm without the runs that learned nothing, if at least two others are left.

        A mean over both kinds describes neither, so the number of those left out is said instead.
        They are two kinds if 20 points or more of the test error lie between them.
        """
        learned = self.learned
        lost = [run["test_error"] for run in self.runs if run not in learned.runs]
        if not lost or len(learned.runs) < 2:
            return self
        return learned if min(lost) - max(learned.values("test_error")) >= 0.2 else self

    def interval(self, key: str) -> Interval:
        """Return the mean of a measurement over the runs, with its 95 % interval."""
        return of_mean(self.values(key))

    def curves(self, key: str) -> list[list[float]]:
        """Return a curve of every run: one value per epoch."""
        curves = self.runs[0]["curves"]
        if key not in curves:
            raise unknown("curve", key, sorted(curves))
        return [run["curves"][key] for run in self.runs]


@dataclass(frozen=True, repr=False)
class Result:
    """An experiment that was run.

    Parameters
    ----------
    experiment, size
        Which one, and how large: ``"live"``, ``"desk"`` or ``"full"``.
    title
        What is compared.
    command
        Does it again.
    machine
        Where and when, as :func:`cnnbook.results.describe_machine` returns it.
    minutes
        How long it took, and ``"processor_minutes"`` of all processes together.
    fingerprint
        Of the code and the settings, see :meth:`Experiment.fingerprint`.
    settings, tuning
        As in :class:`Size`.
    arms
        What became of each.

    Examples
    --------
    >>> from cnnbook import experiments
    >>> experiments.list_recorded()[:0]
    []
    """

    experiment: str
    size: str
    title: str
    command: str
    machine: dict[str, Any]
    minutes: dict[str, float]
    fingerprint: str
    settings: dict[str, Any]
    tuning: dict[str, Any]
    arms: list[ArmResult] = field(default_factory=list)

    def __getitem__(self, name: str) -> ArmResult:
        """Return an arm by its name."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise unknown("arm", name, [arm.name for arm in self.arms])

    def __iter__(self) -> Iterator[ArmResult]:
        """Iterate over the arms."""
        return iter(self.arms)

    @property
    def spec(self) -> "Experiment":
        """The experiment as it is today."""
        return get(self.experiment)

    @property
    def is_stale(self) -> bool:
        """Whether today's code or settings are not those that were recorded."""
        size = self.spec.sizes.get(self.size)
        return size is None or self.spec.fingerprint(size) != self.fingerprint

    @property
    def verdict(self) -> str:
        """One sentence that follows from the intervals."""
        return self.spec.verdict(self)

    @property
    def label(self) -> str:
        """Where and when it ran, in one line."""
        where, day, torch = where_and_when(self.machine)
        took = _duration(self.minutes["minutes"])
        how = "run on this page" if self.size == "live" else f"recorded {day}"
        return f"{how}, {self.size} size, {took} on {where}, torch {torch}"

    @property
    def conditions(self) -> str:
        """What its figure was made with, such as images, steps, rates, seeds, and what is drawn."""
        return conditions(self)

    def plot(self) -> "Figure":
        """Draw the experiment's figure, with its conditions as the caption."""
        figure = self.spec.plot(self)
        figure.caption = self.conditions
        return figure

    def table(self, key: str = "test_error", *, rates: bool = False) -> Table:
        """Return one row per arm: learning rate, size, and a measurement with its interval.

        Of an arm of which some runs learned nothing, the others' measurement, and their number.
        Where runs of both kinds are left, no interval describes them, and there is none.

        Parameters
        ----------
        key
            A measurement of the runs, or ``"test_accuracy"``, ``"train_accuracy"``,
            ``"val_accuracy"``.
        rates
            Whether to list the learning rates that were tried.
        """
        rows = []
        accuracy = key.endswith("_accuracy")
        measured = key.replace("_accuracy", "_error")
        several = any(len(arm.runs) > 1 for arm in self.arms)
        for arm in self.arms:
            run, end = arm.runs[0], arm.lr_at_end
            row: dict[str, Any] = {"arm": arm.name}
            row["lr"] = f"{said_rate(arm.lr)}{f' ({end} tried)' if end else ''}"
            if rates and any(arm.tried for arm in self.arms):
                row["tried"] = ", ".join(said_rate(float(lr)) for lr in arm.tried)
            row |= {k: run[k] for k in ("parameters", "macs", "steps") if k in run}
            shown = arm.compared
            values = [1 - v if accuracy else v for v in shown.values(measured)]
            row[key] = 100 * sum(values) / len(values)
            if several:
                ends: tuple[float | None, float | None] = (None, None)
                if len(values) > 1 and len(shown.learned.runs) in (0, len(values)):
                    interval = of_mean(values)
                    ends = 100 * interval.low, 100 * interval.high
                row |= {"low": ends[0], "high": ends[1]}
            few = len(values) < len(arm.runs)
            row["seeds"] = f"{len(values)} of {len(arm.runs)}" if few else len(values)
            rows.append(row)
        labels = {
            "lr": "learning rate",
            "tried": "rates tried",
            key: f"{key.replace('_', ' ')} (%)",
            "low": "95 % from",
            "high": "to",
        }
        formats = {key: ".1f", "low": ".1f", "high": ".1f"}
        return Table(rows, self.title, formats, labels)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        content = {name: getattr(self, name) for name in self.__dataclass_fields__}
        arms = [{name: getattr(arm, name) for name in _ARM} for arm in self.arms]
        return {"schema": SCHEMA, **content, "arms": arms}

    def save(self, folder: str | Path | None = None) -> Path:
        """Write the result to ``NAME-SIZE-DEVICE.json``, replacing an older one once complete.

        Parameters
        ----------
        folder
            Created if missing; that of the package if not given.
        """
        where = RECORDED if folder is None else expanded(folder)
        device = "cpu" if self.machine["device"] == "cpu" else "gpu"
        path = where / f"{self.experiment}-{self.size}-{device}.json"
        write_whole(path, sealed(rounded(self.to_dict())))
        return path

    def __repr__(self) -> str:
        """Return verdict, conditions, label and table as text."""
        texts = self.verdict, self.conditions, self.label, self.command, repr(self.table())
        return "\n".join(texts)


def _duration(minutes: float) -> str:
    return f"{60 * minutes:.0f} s" if minutes < 2 else f"{minutes:.0f} min"


def rounded(value: Any) -> Any:
    """Return plain values with floats to six significant digits, which is all that curves need."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item) for item in value]
    return value


def load(name_or_path: str | Path) -> Result:
    """Read a recorded experiment: by its name the largest there is, or from a ``.json`` file.

    Parameters
    ----------
    name_or_path
        Name of an experiment, such as ``"depth"``; of a record, such as ``"depth-desk-cpu"``; or a
        path.

    Raises
    ------
    ValueError
        If there is no such record, or the file does not hold one; the message says what is wrong.
    FileNotFoundError
        If there is no file at the path.
    """
    path = expanded(name_or_path)
    if path.suffix != ".json":
        name = str(name_or_path)
        if name not in list_recorded():
            found = [r for r in list_recorded() if r.rsplit("-", 2)[0] == name]
            if not found:
                raise unknown("recorded experiment", name, list_recorded())
            name = max(found, key=lambda r: (r.endswith("-gpu"), "-full-" in r))
        path = RECORDED / f"{name}.json"
    try:
        return from_dict(unsealed(path.read_bytes()))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def list_recorded() -> list[str]:
    """Return the names of the records in the package, sorted: ``EXPERIMENT-SIZE-DEVICE``."""
    return sorted(path.stem for path in RECORDED.glob("*.json"))


def from_dict(content: Any) -> Result:
    """Return a result from plain values.

    Raises
    ------
    ValueError
        If something is missing or of another kind; the message names it.
    """
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"not a record of an experiment with schema {SCHEMA}")
    kinds = {
        **dict.fromkeys(("experiment", "size", "title", "command", "fingerprint"), str),
        **dict.fromkeys(("machine", "minutes", "settings", "tuning"), dict),
        "arms": list,
    }
    _check("the record", content, kinds | {"schema": int})
    check_machine(content["machine"])
    _check("minutes", content["minutes"], {"minutes": (int, float)}, more=True)
    arms = []
    for number, arm in enumerate(content["arms"]):
        where = f"arm {number}"
        wanted = dict(zip(_ARM, (str, dict, (int, float), dict, list), strict=True))
        _check(where, arm, wanted)
        if not arm["runs"]:
            raise ValueError(f"{where} has no runs")
        for run in arm["runs"]:
            _check(f"a run of {where}", run, {"curves": dict, "val_error": (int, float)}, more=True)
            _check_finite(f"a run of {where}", run)
        arms.append(ArmResult(**arm))
    if not arms:
        raise ValueError("there are no arms")
    fields = {k: v for k, v in content.items() if k not in ("schema", "arms")}
    return Result(**fields, arms=arms)


def _check(where: str, found: Any, kinds: Mapping[str, Any], *, more: bool = False) -> None:
    if not isinstance(found, dict):
        raise ValueError(f"{where} is {type(found).__name__}, not an object")
    for name, kind in kinds.items():
        if not isinstance(found.get(name), kind) or isinstance(found.get(name), bool):
            raise ValueError(f"{where}: {name!r} is missing or not of the right kind")
    extra = found.keys() - kinds.keys()
    if extra and not more:
        raise ValueError(f"{where}: {min(extra)!r} is unknown")


def _check_finite(where: str, value: Any) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _check_finite(f"{where}, {name}", item)
    elif isinstance(value, list):
        for item in value:
            _check_finite(where, item)
    elif isinstance(value, int | float) and not abs(value) < math.inf:
        raise ValueError(f"{where}: {value} is not a finite number")
