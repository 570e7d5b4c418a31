"""Intervals against SciPy's."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnnbook.experiments import intervals, of_difference, of_mean, of_pairs

numbers = st.lists(st.floats(0, 1).map(lambda x: round(x, 4)), min_size=2, max_size=12)


def test_quantiles_are_those_of_students_distribution():
    expected = [stats.t.ppf(0.975, freedom) for freedom in range(1, 21)]
    assert list(intervals.T_975) == pytest.approx(expected, abs=6e-4)


@given(numbers)
def test_interval_of_a_mean_is_that_of_scipy(values):
    found = of_mean(values)
    assert found.low <= found.mean <= found.high
    if np.std(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx(tuple(expected), abs=1e-3)


@given(numbers, numbers)
def test_interval_of_a_difference_is_welchs_with_freedom_rounded_down(first, second):
    found = of_difference(first, second)
    assert found.mean == pytest.approx(np.mean(first) - np.mean(second))
    if np.std(first) > 1e-6 and np.std(second) > 1e-6:  # SciPy warns of equal values
        test = stats.ttest_ind(first, second, equal_var=False)
        error = (np.var(first, ddof=1) / len(first) + np.var(second, ddof=1) / len(second)) ** 0.5
        half = stats.t.ppf(0.975, min(20, int(test.df + 1e-9))) * error
        assert found.high - found.mean == pytest.approx(half, rel=1e-3, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=12))
def test_interval_of_pairs_is_that_of_their_differences(pairs):
    first, second = ([pair[i] for pair in pairs] for i in range(2))
    found = of_pairs(first, second)
    gained = np.array(first) - np.array(second)
    mean = gained.sum() / len(pairs)
    variance = ((gained - mean) ** 2).sum() / (len(pairs) - 1)
    half = stats.t.ppf(0.975, len(pairs) - 1) * (variance / len(pairs)) ** 0.5
    expected = (mean - half, mean, mean + half)
    assert (found.low, found.mean, found.high) == pytest.approx(expected, abs=1e-3)
    assert found.n == len(pairs)


def test_what_pairs_share_does_not_widen_their_interval():
    second = np.array([0.1, 0.5, 0.9])  # mostly what each seed's images add to both errors
    first = second + np.array([0.05, 0.06, 0.04])
    assert of_pairs(first, second).excludes_zero
    assert not of_difference(first, second).excludes_zero
    with pytest.raises(ValueError, match="equally many of both, got 3 and 2"):
        of_pairs(first, second[:2])


def test_three_clearly_separated_runs_exclude_zero():
    assert of_difference([0.27, 0.28, 0.29], [0.07, 0.08, 0.07]).excludes_zero
    assert not of_difference([0.27, 0.08, 0.29], [0.17, 0.18, 0.20]).excludes_zero


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_measurement_says_nothing_about_spread(values):
    with pytest.raises(ValueError, match=f"at least 2 measurements, got {len(values)}"):
        of_mean(values)
    with pytest.raises(ValueError, match=f"at least 2 measurements, got {len(values)}"):
        of_difference([0.1, 0.2], values)


def test_ratio_is_that_of_geometric_means_and_zero_is_refused():
    found = intervals.of_ratio([4.0, 16.0], [1.0, 4.0])
    assert found.mean == pytest.approx(4)
    assert found.low * found.high == pytest.approx(16)  # even on a logarithmic scale
    with pytest.raises(ValueError, match="above zero"):
        intervals.of_ratio([0.0, 1.0], [1.0, 2.0])
