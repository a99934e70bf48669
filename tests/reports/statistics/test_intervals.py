"""Means, intervals and gains, against numbers worked out by hand and against simulated truth."""

from __future__ import annotations

import random

import numpy as np
import pytest

from reports.statistics.intervals import Scores, crossed, difference, estimate, gain
from tests.reports.statistics.simulated import answers, scores, true_rate

SEED_SDS = (0.0, 0.005, 0.01, 0.02)
TIMES = 2000


def test_interval_of_three_seeds():
    """Of 1, 2, 3 the standard error is 1/sqrt(3) and t(0.975, 2) is 4.3027: half-width 2.4841."""
    found = estimate([1.0, 2.0, 3.0])
    assert (found.mean, found.n, found.items) == (2.0, 3, None)
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


def test_mean_squares_of_seeds_and_items():
    """Of the rows 0 1, 1 3: MS_seeds 2.25, MS_items 2.25, MS_rest 0.25, each of one freedom."""
    found = crossed(np.array([[0.0, 1.0], [1.0, 3.0]]))
    assert found.mean == 1.25
    assert [part.variance for part in found.parts] == pytest.approx([2.25 / 4, 2.0 / 4])
    assert [part.freedom for part in found.parts] == [1, 1]
    assert (found.n, found.items) == (2, 2)
    # t(0.975, 1) is 12.706.
    assert found.estimate.half_width == pytest.approx(12.7062 * (4.25 / 4) ** 0.5, rel=1e-4)


def test_one_seed_has_the_interval_of_its_items():
    """500 right of 1,000 have a standard error of 1.58 points, and t(0.975, 999) is 1.9623."""
    right = np.zeros((1, 1000))
    right[0, ::2] = 1.0
    found = crossed(right).estimate
    assert (found.mean, found.n, found.items) == (0.5, 1, 1000)
    assert found.half_width == pytest.approx(1.9623 * 0.5 / 999**0.5, rel=1e-4)


def test_seeds_that_answer_alike_add_nothing():
    """Three seeds with the same answers are worth no more than one."""
    one = answers(np.random.default_rng(0), seeds=1, items=200, seed_sd=0.0)
    alone, thrice = crossed(one).estimate, crossed(np.repeat(one, 3, axis=0)).estimate
    assert thrice.half_width == pytest.approx(alone.half_width)


@pytest.mark.parametrize("seed_sd", SEED_SDS)
@pytest.mark.parametrize(("shared", "own"), [(1.0, 0.5), (1.0, 0.2), (0.3, 1.0)])
def test_interval_over_seeds_and_items_covers_the_truth(seed_sd: float, shared: float, own: float):
    """Three seeds of 500 items: at least 93 and at most 99 of 100 intervals hold the true rate."""
    draw = np.random.default_rng(1)
    truth, covered = true_rate(seed_sd, shared=shared, own=own), 0
    for _ in range(TIMES):
        given = answers(draw, seeds=3, items=500, seed_sd=seed_sd, shared=shared, own=own)
        found = crossed(given).estimate
        assert found.half_width is not None
        covered += abs(found.mean - truth) <= found.half_width
    assert 0.93 <= covered / TIMES <= 0.99


def test_interval_over_seeds_alone_is_too_narrow_for_the_truth():
    """What the items leave open is no small thing: without it, half of the intervals miss."""
    draw = np.random.default_rng(1)
    covered = 0
    for _ in range(TIMES):
        found = estimate(answers(draw, seeds=3, items=500, seed_sd=0.0, own=0.2).mean(1).tolist())
        assert found.half_width is not None
        covered += abs(found.mean - true_rate(0.0, own=0.2)) <= found.half_width
    assert covered / TIMES < 0.8


def test_gain_is_positive_when_better_whichever_way_the_metric_points():
    """A lower perplexity and a higher accuracy are both a gain."""
    lower = gain(Scores(values={0: 40.0}), Scores(values={0: 43.0}), "lower")
    higher = gain(Scores(values={0: 0.7}), Scores(values={0: 0.6}), "higher")
    assert lower is not None
    assert higher is not None
    assert lower.mean == 3.0
    assert higher.mean == pytest.approx(0.1)


def test_gain_is_taken_within_each_seed():
    """Seeds that move both sides alike leave a constant gain, with no spread."""
    candidate = Scores(values={0: 10.0, 1: 20.0, 2: 30.0})
    reference = Scores(values={0: 12.0, 1: 22.0, 2: 32.0})
    found = gain(candidate, reference, "lower")
    assert found is not None
    assert (found.mean, found.half_width) == (2.0, 0.0)


def test_gain_uses_only_seeds_that_both_have():
    """A seed that failed on one side takes no part."""
    found = gain(Scores(values={0: 10.0, 1: 99.0}), Scores(values={0: 12.0, 2: 1.0}), "lower")
    assert found is not None
    assert (found.mean, found.n) == (2.0, 1)
    assert gain(Scores(values={0: 1.0}), Scores(values={1: 1.0}), "lower") is None


def test_items_in_common_narrow_a_difference():
    """Two models on the same hard and easy questions differ by far less than each is unsure."""
    draw = np.random.default_rng(2)
    ease = draw.normal(0, 1, 400)
    one, other = (
        scores(answers(draw, seeds=3, items=400, seed_sd=0.0, ease=ease, own=0.1)) for _ in range(2)
    )
    paired, apart = difference(one, other), difference(one, scores(other_items(other)))
    assert paired is not None
    assert apart is not None
    assert paired.items == 400
    assert 2 * half_width(paired) < half_width(one.spread)


def other_items(given: Scores):
    """The same numbers by item."""
    return np.stack(list(given.by_item.values()))


def half_width(spread) -> float:
    """Of its interval."""
    found = spread.estimate.half_width
    assert found is not None
    return found


def test_other_items_are_not_paired():
    """Where two sides scored other documents, only their seeds are compared."""
    given = np.random.default_rng(3).integers(0, 2, (3, 50)).astype(float)
    found = difference(scores(given, "some"), scores(given[:, ::-1], "others"))
    assert found is not None
    assert found.items is None


def test_a_side_without_seeds_stands_beside_every_seed():
    """Zero-shot is evaluated once; a tuned setting is compared with it seed by seed."""
    found = difference(Scores(values={0: 3.0, 1: 5.0}), Scores(values={None: 1.0}))
    assert found is not None
    assert (found.mean, found.n) == (3.0, 2)
    back = difference(Scores(values={None: 1.0}), Scores(values={0: 3.0, 1: 5.0}))
    assert back is not None
    assert back.mean == -3.0
