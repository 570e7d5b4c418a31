"""Experiments that are run once and recorded: too long for a page, or meant for a large GPU.

Each experiment is one file. Its function ``run`` yields the measurements; the first line of the
docstring is the title of the recorded run. ``python -m cnnbook bench`` runs them.
"""

from collections.abc import Callable, Iterator

from cnnbook.experiments import configurations, fashion
from cnnbook.results import Row

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Callable[..., Iterator[Row]]] = {
    "fashion": fashion.run,
    "configurations": configurations.run,
}
