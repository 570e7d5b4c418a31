"""Running an experiment: learning rates first, then every arm with every seed."""

import contextlib
import hashlib
import json
import multiprocessing
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from cnnbook import data, settings
from cnnbook._errors import unknown
from cnnbook._progress import progress_bar
from cnnbook._stderr import say
from cnnbook.experiments.experiment import Arm, Experiment, Size
from cnnbook.experiments.registry import get
from cnnbook.experiments.result import ArmResult, Result, rounded
from cnnbook.results import describe_machine

TUNING_SEED = 1000  # and those after it; none of them is reported
FAILED = 2.0  # validation error of a learning rate with which training failed: none is larger
_FURTHER = 4  # how many rates are tried at most beyond each end of a grid


@dataclass(frozen=True)
class _Trial:
    """One training: an arm with a learning rate and a seed, to choose the rate or to report."""

    arm: Arm
    settings: dict[str, Any]
    lr: float
    seed: int

    @property
    def key(self) -> str:
        plain = [self.arm.name, dict(self.arm.options), self.settings, self.lr, self.seed]
        return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:24]

    @property
    def is_reported(self) -> bool:
        """Whether the result shows this training; if not, it helps to choose the rate."""
        return self.seed < TUNING_SEED


def run(
    name: str,
    size: str = "live",
    *,
    arms: Sequence[str] | None = None,
    seeds: int | None = None,
    jobs: int | None = None,
    data_set: str | None = None,
    resume: bool = True,
    progress: bool = True,
) -> Result:
    """Run an experiment.

    Parameters
    ----------
    name
        One of :func:`list_experiments`.
    size
        ``"live"``, ``"desk"`` or ``"full"``.
    arms
        Names of arms, if not all.
    seeds
        How many runs of each arm, if not as many as the size has.
    jobs
        Trainings at the same time, each in a process of its own with one thread. One, in this
        process with all its threads, for the size ``"live"``; as many as there are cores, or 8 on a
        GPU, for the others.
    data_set
        Train on this data set (:func:`cnnbook.data.list_datasets`), if the experiment does not
        depend on its own.
    resume
        Whether trainings that an interrupted run of the same code had finished are taken from the
        cache. The live size always starts anew.
    progress
        Whether to show what is left to do.

    Returns
    -------
    Result

    Raises
    ------
    ValueError
        For an unknown experiment, size or arm, or a number that is not positive.
    KeyboardInterrupt
        If interrupted; what was finished is kept for the next time.
    """
    spec = get(name)
    if size not in spec.sizes:
        raise unknown("size", size, spec.sizes)
    for what, value in {"seeds": seeds, "jobs": jobs}.items():
        if value is not None and not 1 <= value <= 1000:
            raise ValueError(f"{what} is a whole number from 1 to 1,000, got {what}={value}")
    chosen = spec.sizes[size]
    if seeds is not None:
        chosen = replace(chosen, seeds=seeds)
    if data_set is not None:
        if "data" not in chosen.settings:
            raise ValueError(f"{name} depends on its own data set; leave out {data_set!r}")
        chosen = replace(chosen, settings={**chosen.settings, "data": data_set})
    all_arms = spec.arms(chosen.settings)
    if arms is not None:
        by_name = {arm.name: arm for arm in all_arms}
        for one in arms:
            if one not in by_name:
                raise unknown("arm", one, by_name)
        all_arms = [by_name[one] for one in arms]
    if jobs is None:
        on_gpu = settings.device().type == "cuda"
        jobs = 1 if size == "live" else 8 if on_gpu else _cores()

    kept = None if size == "live" else _kept_in(spec, chosen)
    with _Workers(spec, jobs, kept if resume else None, progress) as workers:
        tried = _tune(workers, all_arms, chosen)
        rates = {name: _best(errors) for name, errors in tried.items()}
        trials = [
            _Trial(arm, dict(chosen.settings), rates[arm.name], seed)
            for seed in range(chosen.seeds)
            for arm in all_arms
            if arm.seeds is None or seed < arm.seeds
        ]
        found = workers.run(trials, "training")
    outcomes = []
    for arm in all_arms:
        runs = [found[trial.key] for trial in trials if trial.arm.name == arm.name]
        errors = {f"{lr:g}": error for lr, error in sorted(tried[arm.name].items())}
        if len(errors) == 1:
            errors = {}
        outcomes.append(ArmResult(arm.name, dict(arm.options), rates[arm.name], errors, runs))
    return Result(
        experiment=name,
        size=size,
        title=spec.title,
        command=_command(name, size, arms, seeds, data_set),
        machine=describe_machine(),
        minutes=workers.minutes(),
        fingerprint=spec.fingerprint(chosen),
        settings=dict(chosen.settings),
        tuning=dict(chosen.tuning),
        arms=outcomes,
    )


def _command(
    name: str, size: str, arms: Sequence[str] | None, seeds: int | None, data_set: str | None
) -> str:
    words = ["python -m cnnbook experiment", name, f"--size {size}"]
    words += [f"--arm '{arm}'" for arm in arms or ()]
    words += [f"--seeds {seeds}"] if seeds is not None else []
    words += [f"--data {data_set}"] if data_set is not None else []
    return " ".join(words)


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _best(errors: dict[float, float]) -> float:
    """Return the rate with the smallest error; of several, the one in their middle.

    Where nothing is learned at any rate, all are equally bad, and none at an end is better.
    """
    least = min(errors.values())
    equal = sorted(lr for lr, error in errors.items() if error == least)
    return equal[len(equal) // 2]


def _tune(workers: "_Workers", arms: Sequence[Arm], size: Size) -> dict[str, dict[float, float]]:
    """Return, for each arm, learning rate to validation error; the best is not at an end."""
    tried: dict[str, dict[float, float]] = {arm.name: {} for arm in arms}
    wanted = {arm.name: list(arm.rates) for arm in arms}
    for arm in arms:
        if len(arm.rates) == 1:
            tried[arm.name][arm.rates[0]] = 0.0  # nothing to choose
            wanted[arm.name] = []
    around = {**size.settings, **size.tuning}
    for _ in range(1 + 2 * _FURTHER):
        seeds = [TUNING_SEED + i for i in range(size.tuning_seeds)]
        trials = [
            _Trial(arm, around, lr, seed)
            for arm in arms
            for lr in wanted[arm.name]
            for seed in seeds
        ]
        if not trials:
            break
        found = workers.run(trials, "choosing learning rates")
        for trial in trials:
            errors, error = tried[trial.arm.name], found[trial.key]["val_error"]
            errors[trial.lr] = max(error, errors.get(trial.lr, error))
        for arm in arms:
            further = _beyond(arm.rates, tried[arm.name]) if len(arm.rates) > 1 else None
            wanted[arm.name] = [] if further is None else [further]
    return tried


def _beyond(grid: Sequence[float], tried: dict[float, float]) -> float | None:
    """Return the rate to try next, if the best one so far is the smallest or the largest."""
    best, known = _best(tried), sorted(tried)
    ratio = (grid[-1] / grid[0]) ** (1 / (len(grid) - 1))
    if best == known[0] and best > grid[0] / ratio ** (_FURTHER - 0.5):
        return float(f"{best / ratio:.3g}")
    if best == known[-1] and best < grid[-1] * ratio ** (_FURTHER - 0.5):
        return float(f"{best * ratio:.3g}")
    return None


def _kept_in(spec: Experiment, size: Size) -> Path:
    """Return the file in which finished trainings of this code are kept."""
    device = settings.device().type
    folder = data.files.cache_folder() / "experiments"
    return folder / f"{spec.name}-{spec.fingerprint(size)}-{device}.jsonl"


def _read_kept(path: Path | None) -> list[dict[str, Any]]:
    """Return what finished trainings found, how long they took, and in which session."""
    if path is None or not path.is_file():
        return []
    kept = []
    for line in path.read_bytes().splitlines():
        # an incomplete last line, or one that the disk damaged
        with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
            entry = json.loads(line)
            times = {name: float(entry[name]) for name in ("seconds", "passed")}
            kept.append({name: entry[name] for name in _KEPT} | times)
    return kept


_KEPT = ("key", "found", "seconds", "session", "passed")


class _Workers:
    """Runs trainings, in other processes or in this one, and keeps what is finished."""

    def __init__(self, spec: Experiment, jobs: int, path: Path | None, progress: bool):
        self.spec, self.jobs, self.path, self.progress = spec, jobs, path, progress
        before = _read_kept(path)
        self.kept = {entry["key"]: entry["found"] for entry in before}
        self.seconds = sum(entry["seconds"] for entry in before)
        ends: dict[str, float] = {}  # of earlier sessions, which may have been killed
        for entry in before:
            ends[entry["session"]] = max(entry["passed"], ends.get(entry["session"], 0.0))
        self.earlier = sum(ends.values())
        self.session, self.began = secrets.token_hex(4), time.monotonic()
        self.pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "_Workers":
        if self.jobs > 1:
            spawn = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.jobs, spawn, initializer=_prepare)
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is not None:
            if error[0] is not None:
                for process in list(self.pool._processes.values()):
                    process.terminate()
            self.pool.shutdown(wait=True, cancel_futures=True)

    def run(self, trials: Sequence[_Trial], what: str) -> dict[str, dict[str, Any]]:
        """Return what was found, by the trials' keys."""
        left = [trial for trial in trials if trial.key not in self.kept]
        cost = {trial.key: self.spec.cost(trial.arm.options, trial.settings) for trial in trials}
        left.sort(key=lambda trial: -cost[trial.key])  # the longest first: none runs alone at last
        total = sum(cost[trial.key] for trial in left) or 1.0
        bar = progress_bar(
            None,
            show=self.progress and bool(left),
            desc=f"{self.spec.name}: {what}",
            bar_format="{desc}{postfix}",
            leave=False,
        )
        began, done = time.monotonic(), 0.0
        bar.set_postfix_str(f"0 of {len(left)}")
        for number, (trial, found, seconds) in enumerate(self._each(left), 1):
            self.seconds += seconds
            self._keep(trial, found, seconds)
            done += cost[trial.key]
            passed = time.monotonic() - began
            left_over = passed * (total - done) / done
            bar.set_postfix_str(f"{number} of {len(left)}, about {_minutes(left_over)} left")
        bar.close()
        return self.kept

    def _each(self, trials: Sequence[_Trial]) -> Iterator[tuple[_Trial, dict[str, Any], float]]:
        if self.pool is None:
            for trial in trials:
                yield (trial, *_train(self.spec.name, trial))
            return
        futures: dict[Future[tuple[dict[str, Any], float]], _Trial] = {
            self.pool.submit(_train, self.spec.name, trial): trial for trial in trials
        }
        try:
            for future in as_completed(futures):
                yield (futures[future], *future.result())
        except BrokenProcessPool:
            raise RuntimeError(
                "a training process was killed, perhaps for lack of memory; what was finished is "
                "kept: run the same command again, with fewer --jobs"
            ) from None

    def minutes(self) -> dict[str, float]:
        """Return how long all sessions have taken so far, and the processes of all of them."""
        minutes = (self.earlier + time.monotonic() - self.began) / 60
        return {"minutes": minutes, "processor_minutes": self.seconds / 60}

    def _keep(self, trial: _Trial, found: dict[str, Any], seconds: float) -> None:
        self.kept[trial.key] = found
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                passed = time.monotonic() - self.began
                values = (trial.key, found, seconds, self.session, passed)
                file.write(json.dumps(dict(zip(_KEPT, values, strict=True))) + "\n")
        except OSError as error:  # the training itself is not lost
            say(f"cnnbook: cannot keep finished trainings: {error}")
            self.path = None


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _prepare() -> None:
    torch.set_num_threads(1)


def _train(name: str, trial: _Trial) -> tuple[dict[str, Any], float]:
    """Return what one training found, and the seconds it took."""
    began = time.monotonic()
    with torch.random.fork_rng():
        torch.manual_seed(trial.seed)
        try:
            found = get(name).train(trial.arm.options, trial.settings, trial.lr, trial.seed)
        except FloatingPointError:
            # Of weights that become infinite in the last step, no loss says so in training. For the
            # choice of a rate it is enough to know; a report would lack all that is measured.
            if trial.is_reported:
                raise
            found = {"val_error": FAILED}
    return rounded(found), time.monotonic() - began  # a result and its file are the same
