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

from cnnbook.experiments.conditions import DOTS_AND_BARS, said_images

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
    tuning_seeds
        How many times each learning rate is tried; the worst of them counts, so that a rate at
        which a network learns by luck is not chosen.
    """

    settings: Mapping[str, Any]
    seeds: int
    tuning: Mapping[str, Any] = field(default_factory=dict)
    tuning_seeds: int = 1


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
        Called with a :class:`Result`; returns what follows from its intervals, in sentences.
    plot
        Called with a :class:`Result`; returns its figure.
    cost
        Called with an arm's options and the settings; returns how long one training takes compared
        with others, to estimate the remaining time.
    images
        Called with the settings; returns which images it learns from and of which size, for the
        figure's caption.
    marks
        What lines, dots, bars and bands of the figure are.
    notes
        Called with a :class:`Result`; returns what else its figure's caption says that depends on
        the size.
    draws_images
        Whether each seed draws training images of its own, the same for all arms, so that
        differences are taken in pairs. Settings with numbers of images to choose (``"counts"``,
        ``"labels"``) say so themselves.
    """

    name: str
    title: str
    sizes: Mapping[str, Size]
    arms: Callable[[Mapping[str, Any]], list[Arm]]
    train: Callable[[Mapping[str, Any], Mapping[str, Any], float, int], dict[str, Any]]
    verdict: Callable[["Result"], str]
    plot: Callable[["Result"], "Figure"]
    cost: Callable[[Mapping[str, Any], Mapping[str, Any]], float] = lambda _options, _settings: 1.0
    images: Callable[[Mapping[str, Any]], str] = said_images
    marks: str = DOTS_AND_BARS
    notes: Callable[["Result"], str] = lambda _result: ""
    draws_images: bool = False

    def fingerprint(self, size: Size) -> str:
        """Return a hash of what determines the result: the code that trains, and the settings.

        Of this experiment's file, that is what `arms` and `train` use. Comments, docstrings, other
        sizes, the verdict and the figures can change without making a recorded run stale.
        """
        from cnnbook.experiments import learning

        module = sys.modules[self.train.__module__]
        parts = [_code(module, {self.arms.__name__, self.train.__name__}), _code(learning)]
        sizes = [size.settings, size.seeds, size.tuning]
        if size.tuning_seeds > 1:
            sizes.append(size.tuning_seeds)
        parts.append(json.dumps(sizes, sort_keys=True))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _code(module: Any, names: set[str] | None = None) -> str:
    """Return the code of a module, or of what some of its names use, as a canonical text."""
    tree = ast.parse(Path(inspect.getfile(module)).read_text(encoding="utf-8"))
    kept = tree.body
    while names is not None:
        kept = [one for one in tree.body if (defined := _defines(one)) is None or defined & names]
        used = {node.id for one in kept for node in ast.walk(one) if isinstance(node, ast.Name)}
        if used <= names:
            break
        names = names | used
    return json.dumps(_plain(kept))


def _defines(statement: ast.stmt) -> set[str] | None:
    """Return the names that a statement of a module defines, or None if it is there to be run."""
    match statement:
        case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
            return {name}
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            return {(alias.asname or alias.name).split(".")[0] for alias in aliases}
        case ast.Assign(targets=targets):
            targets_of = [node for target in targets for node in ast.walk(target)]
            return {node.id for node in targets_of if isinstance(node, ast.Name)}
        case ast.AnnAssign(target=ast.Name(id=name)):
            return {name}
    return set() if _is_docstring(statement) else None


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
