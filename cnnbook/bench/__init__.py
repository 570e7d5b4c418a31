"""Timings of this package beside what one would do without it, as ratios from one run.

The contenders of a comparison run in turn, again and again, so that a machine whose speed changes
slows them all alike; a ratio is the median over the rounds. The recorded
:mod:`cnnbook.experiments` are parts of the same command.
"""

from cnnbook.bench.comparisons import matmul_throughput
from cnnbook.bench.race import CNNBOOK, race
from cnnbook.bench.run import PARTS, Result, run, title

__all__ = ["CNNBOOK", "PARTS", "Result", "matmul_throughput", "race", "run", "title"]
