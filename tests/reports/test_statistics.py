"""Means, intervals, paired gains and ratios, against numbers worked out by hand."""

from __future__ import annotations

import random

import pytest

from reports.statistics import estimate, paired_gain, ratio


def test_interval_of_three_seeds():
    """Of 1, 2, 3 the standard error is 1/sqrt(3) and t(0.975, 2) is 4.3027: half-width 2.4841."""
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.n) == (2.0, 3)
    assert found.half_width == pytest.approx(2.4841, abs=1e-4)


def test_one_seed_has_no_interval():
    """A single run says nothing about its spread: no interval, not one of width zero."""
    assert estimate([5.0]).half_width is None


def test_no_values_have_no_mean():
    """The mean of nothing is an error, never 0."""
    with pytest.raises(ValueError, match="no values"):
        estimate([])


def test_intervals_cover_the_truth_95_times_in_100():
    """Over 4,000 samples of three the interval covers the true mean as often as it claims."""
    draw = random.Random(0)
    covered = 0
    for _ in range(4000):
        found = estimate([draw.gauss(7.0, 2.0) for _ in range(3)])
        assert found.half_width is not None
        covered += abs(found.mean - 7.0) <= found.half_width
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)


def test_gain_is_positive_when_better_whichever_way_the_metric_points():
    """A lower perplexity and a higher accuracy are both a gain."""
    lower = paired_gain({0: 40.0}, {0: 43.0}, "lower")
    higher = paired_gain({0: 0.7}, {0: 0.6}, "higher")
    assert lower is not None
    assert higher is not None
    assert lower.mean == 3.0
    assert higher.mean == pytest.approx(0.1)


def test_gain_is_taken_within_each_seed():
    """Seeds that move both sides alike leave a constant gain, with no spread."""
    found = paired_gain({0: 10.0, 1: 20.0, 2: 30.0}, {0: 12.0, 1: 22.0, 2: 32.0}, "lower")
    assert found is not None
    assert (found.mean, found.half_width) == (2.0, 0.0)


def test_gain_uses_only_seeds_that_both_have():
    """A seed that failed on one side takes no part."""
    found = paired_gain({0: 10.0, 1: 99.0}, {0: 12.0, 2: 1.0}, "lower")
    assert found is not None
    assert (found.mean, found.n) == (2.0, 1)
    assert paired_gain({0: 1.0}, {1: 1.0}, "lower") is None


def test_ratio_is_symmetric():
    """A over B is the inverse of B over A, which a ratio of plain means is not."""
    fast, slow = [100.0, 400.0], [50.0, 10.0]
    there, back = ratio(fast, slow), ratio(slow, fast)
    assert there is not None
    assert back is not None
    assert there * back == pytest.approx(1.0)
    assert there == pytest.approx(200.0 / 500.0**0.5)


def test_ratio_without_meaning_is_absent():
    """Nothing and zero have no ratio."""
    assert ratio([], [1.0]) is None
    assert ratio([1.0], [0.0]) is None
