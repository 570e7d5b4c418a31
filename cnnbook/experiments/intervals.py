"""How sure a few repeated measurements make us: intervals for means and for differences."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# Student's t: 97.5 % of its distribution lie below, for 1, 2, 3, … degrees of freedom.
T_975 = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
)


@dataclass(frozen=True)
class Interval:
    """An estimate, and the 95 % confidence interval around it.

    Parameters
    ----------
    mean
        The estimate.
    low, high
        The ends of the interval.
    n
        How many measurements it is based on; of a difference, the smaller of the two numbers.

    Examples
    --------
    >>> Interval(0.031, 0.012, 0.05, n=3).excludes_zero
    True
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether zero lies outside, so that a difference is called shown."""
        return self.low > 0 or self.high < 0

    def in_words(self, more: str = "higher", less: str = "lower") -> str:
        """Return a difference in percentage points, and whether it is shown.

        Parameters
        ----------
        more, less
            What the first is, compared with the second, if the difference is above or below zero.

        Examples
        --------
        >>> Interval(0.031, 0.012, 0.05, n=3).in_words()
        '3.1 points higher (1.2 to 5.0)'
        >>> Interval(-0.031, -0.05, -0.012, n=3).in_words()
        '3.1 points lower (1.2 to 5.0)'
        >>> Interval(0.01, -0.012, 0.032, n=3).in_words()
        'not shown to differ (1.0 points, −1.2 to 3.2)'
        """
        if not self.excludes_zero:
            ends = f"{percent(self.low)} to {percent(self.high)}"
            return f"not shown to differ ({percent(self.mean)} points, {ends})"
        near, far = sorted((abs(self.low), abs(self.high)))
        word = more if self.low > 0 else less
        return f"{percent(abs(self.mean))} points {word} ({percent(near)} to {percent(far)})"

    def __str__(self) -> str:
        """Return the estimate and the interval, as percentages."""
        return f"{percent(self.mean)} ({percent(self.low)} to {percent(self.high)})"


def percent(value: float) -> str:
    """Return a fraction as a percentage with one decimal, and a true minus sign.

    Examples
    --------
    >>> percent(0.1234), percent(-0.02)
    ('12.3', '−2.0')
    """
    return f"{100 * value:.1f}".replace("-0.0", "0.0").replace("-", "−")


def of_mean(values: Sequence[float]) -> Interval:
    """Return the mean of measurements with its interval, by Student's t.

    Raises
    ------
    ValueError
        If there are fewer than two: nothing is known about their spread.

    Examples
    --------
    >>> print(of_mean([0.80, 0.82, 0.84]))
    82.0 (77.0 to 87.0)
    """
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 measurements, got {len(values)}")
    half = _t(len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return Interval(mean, mean - half, mean + half, len(values))


def of_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the mean of the first measurements minus that of the second, with its interval.

    By Welch's test, which does not assume that both vary alike. Its degrees of freedom are rounded
    down.

    Raises
    ------
    ValueError
        If one of them has fewer than two measurements.

    Examples
    --------
    >>> print(of_difference([0.80, 0.82, 0.84], [0.70, 0.71, 0.72]))
    11.0 (5.4 to 16.6)
    """
    for values in (first, second):
        if len(values) < 2:
            raise ValueError(f"an interval needs at least 2 measurements, got {len(values)}")
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    variance = sum(parts)
    freedom = min(len(first), len(second)) - 1  # what Welch's formula gives at least
    if variance:
        sizes = (len(first), len(second))
        freedom = int(
            variance**2 / sum(p**2 / (n - 1) for p, n in zip(parts, sizes, strict=True)) + 1e-9
        )
    mean = statistics.fmean(first) - statistics.fmean(second)
    half = _t(freedom) * math.sqrt(variance)
    return Interval(mean, mean - half, mean + half, min(len(first), len(second)))


def of_pairs(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the mean of first minus second, pair by pair, with the interval of these differences.

    For measurements that share something, as two networks trained on the same random images do:
    what a hard set of images adds to both errors does not widen the interval. Where nothing is
    shared, :func:`of_difference` is right.

    Raises
    ------
    ValueError
        If there are fewer than two pairs, or unequally many of both.

    Examples
    --------
    >>> print(of_pairs([0.80, 0.90, 0.70], [0.70, 0.81, 0.59]))
    10.0 (7.5 to 12.5)
    """
    if len(first) != len(second):
        raise ValueError(f"pairs need equally many of both, got {len(first)} and {len(second)}")
    return of_mean([a - b for a, b in zip(first, second, strict=True)])


def of_ratio(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return how many times as large the first measurements are, with its interval.

    That of the difference between the mean logarithms, see :func:`of_difference`: the estimate is
    the ratio of the geometric means. A ratio is shown to differ from 1 if that lies outside.

    Raises
    ------
    ValueError
        If one of them has fewer than two measurements, or any is not positive.

    Examples
    --------
    >>> ratio = of_ratio([8.0, 8.5, 9.0], [2.0, 2.1, 2.2])
    >>> f"{ratio.mean:.1f} ({ratio.low:.1f} to {ratio.high:.1f})"
    '4.0 (3.5 to 4.7)'
    """
    if any(value <= 0 for value in (*first, *second)):
        raise ValueError("a ratio needs measurements above zero")
    change = of_difference(*([math.log(value) for value in each] for each in (first, second)))
    mean, low, high = (math.exp(value) for value in (change.mean, change.low, change.high))
    return Interval(mean, low, high, change.n)


def _t(freedom: int) -> float:
    return T_975[min(freedom, len(T_975)) - 1]  # beyond the table, the last value is cautious
