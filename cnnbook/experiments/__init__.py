"""Experiments that are run once and recorded: too long for a page, or made for a large GPU.

One experiment, one file. Its function ``run`` yields the measurements; the first line of the
docstring is the recorded run's title. They are parts of ``python -m cnnbook bench``.
"""

from collections.abc import Callable, Iterator

from cnnbook.experiments import configurations, fashion
from cnnbook.results import Row

__all__ = ["EXPERIMENTS"]

EXPERIMENTS: dict[str, Callable[..., Iterator[Row]]] = {
    "fashion": fashion.run,
    "configurations": configurations.run,
}
