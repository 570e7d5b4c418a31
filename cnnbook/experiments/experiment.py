"""What an experiment is: what it compares, in which sizes, and how its result is read."""

import ast
import hashlib
import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cnnbook.experiments.result import Result
    from cnnbook.plots import Figure

SIZES = ("live", "desk", "full")


@dataclass(frozen=True)
class Arm:
    """One of the things that an experiment compares.

    Parameters
    ----------
    name
        As figures and tables show it.
    options
        What makes it this arm, for the experiment's function ``train``: plain values.
    rates
        Learning rates to choose from, ascending. The one with the smallest validation error is
        taken; if it is the first or the last, further ones are tried until it is neither. A single
        one is used as it is.
    seeds
        How many times at most it is trained, if not as often as the others.
    """

    name: str
    options: Mapping[str, Any]
    rates: tuple[float, ...]
    seeds: int | None = None


@dataclass(frozen=True)
class Size:
    """How large an experiment is.

    Parameters
    ----------
    settings
        Plain values for the functions ``arms`` and ``train``: images, epochs, width, ….
    seeds
        How many times each arm is trained, with seeds 0, 1, ….
    tuning
        Settings that differ while learning rates are chosen, such as fewer epochs.
    """

    settings: Mapping[str, Any]
    seeds: int
    tuning: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """A question, and the code that answers it in several sizes.

    Parameters
    ----------
    name
        As on the command line.
    title
        What is compared, in one line.
    sizes
        ``"live"`` takes at most a minute on two cores, and chapters run it; ``"desk"`` at most two
        hours on two cores; ``"full"`` a few minutes on a large GPU. The last two are recorded.
    arms
        Called with the settings; returns what is compared.
    train
        Called with an arm's options, the settings, a learning rate and a seed, in any order and in
        several processes; returns plain values with at least ``"val_error"``. Lists in its
        ``"curves"`` have one value per epoch.
    verdict
        Called with a :class:`Result`; returns one sentence that follows from its intervals.
    plot
        Called with a :class:`Result`; returns its figure.
    cost
        Called with an arm's options and the settings; returns how long one training takes compared
        with others, to estimate the remaining time.
    """

    name: str
    title: str
    sizes: Mapping[str, Size]
    arms: Callable[[Mapping[str, Any]], list[Arm]]
    train: Callable[[Mapping[str, Any], Mapping[str, Any], float, int], dict[str, Any]]
    verdict: Callable[["Result"], str]
    plot: Callable[["Result"], "Figure"]
    cost: Callable[[Mapping[str, Any], Mapping[str, Any]], float] = lambda _options, _settings: 1.0

    def fingerprint(self, size: Size) -> str:
        """Return a hash of what determines the result: the code that trains, and the settings.

        Comments, docstrings, other sizes, the verdict and the figures (``plot_…``, ``_draw_…``,
        ``_say_…``) can change without making a recorded run stale.
        """
        from cnnbook.experiments import learning

        reading = {self.verdict.__name__, self.plot.__name__}
        parts = [_code(sys.modules[self.train.__module__], reading), _code(learning, set())]
        parts.append(json.dumps([size.settings, size.seeds, size.tuning], sort_keys=True))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _code(module: Any, left_out: set[str]) -> str:
    """Return a module's code as a canonical text, without what only describes or reads results."""
    tree = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))
    kept: list[ast.stmt] = []
    for statement in tree.body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if isinstance(statement, ast.FunctionDef):
            names.add(statement.name)
        reads = any(name.startswith(("_draw", "_say", "plot")) for name in names)
        if reads or names & (left_out | {"SIZES", "EXPERIMENT"}):
            continue
        kept.append(statement)
    tree.body = kept
    return json.dumps(_plain(tree))


def _plain(node: Any) -> Any:
    """Return a syntax tree as plain values, alike under every version of Python."""
    if isinstance(node, list):
        return [_plain(item) for item in node if not _is_docstring(item)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, getattr(node, name, None)) for name in node._fields)
    given = {name: _plain(value) for name, value in fields if value not in (None, [])}
    return [type(node).__name__, given]


def _is_docstring(node: Any) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
