"""Timings of this package compared with the usual alternatives, as ratios from a single run.

The contenders of a comparison run in turn, again and again, so that a machine whose speed changes
affects them all alike; a ratio is the median over the rounds. The same command runs the recorded
``cnnbook.experiments``.
"""

from cnnbook.bench.comparisons import matmul_throughput
from cnnbook.bench.race import CNNBOOK, race
from cnnbook.bench.recipe import Mirrored, WhitenedNet, fast_sgd
from cnnbook.bench.run import PARTS, Result, run, title

__all__ = [
    "CNNBOOK",
    "PARTS",
    "Mirrored",
    "Result",
    "WhitenedNet",
    "fast_sgd",
    "matmul_throughput",
    "race",
    "run",
    "title",
]
