"""Losses of speed, size and accuracy: against numbers worked out by hand, and simulated."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from reports.items import pack_items, scores_by_item
from reports.statistics.certainty import exceeds
from reports.statistics.intervals import Scores
from reports.statistics.losses import (
    answer_alike,
    is_identical,
    logarithms,
    loss_of,
    of_pairs,
    of_runs,
    of_trainings,
    trimmed,
)
from tests.reports.statistics.simulated import answers, scores


def test_slower_is_a_loss_whichever_way_the_metric_points():
    """Half the tokens a second and twice the seconds are the same loss, log 2."""
    assert of_pairs([(100.0, 50.0)] * 3, "higher").mean == pytest.approx(math.log(2))
    assert of_pairs([(1.0, 2.0)] * 3, "lower").mean == pytest.approx(math.log(2))


def test_what_a_pair_suffered_together_is_not_in_the_loss():
    """A machine that slows down threefold meanwhile leaves ratios as they are."""
    pairs = [(base, 1.05 * base) for base in (1.0, 1.7, 3.0)]
    found = of_pairs(pairs, "lower")
    assert found.mean == pytest.approx(math.log(1.05))
    assert found.parts[0].variance == pytest.approx(0.0, abs=1e-30)


def test_one_wild_run_moves_little():
    """One of ten runs that took half as long again is cut off."""
    runs = [math.log(1 + 0.001 * i) for i in range(9)] + [math.log(1.5)]
    found = trimmed(runs)
    assert found.mean == pytest.approx(sum(sorted(runs)[2:8]) / 6)
    assert found.mean < 0.006


def test_trimmed_mean_has_the_error_of_yuens_test():
    """Two such samples differ by as many standard errors as scipy's trimmed test says."""
    draw = np.random.default_rng(0)
    one, other = draw.normal(0, 1, 10), draw.normal(1, 1, 10)
    sides = trimmed(list(one)), trimmed(list(other))
    error = math.sqrt(sum(side.parts[0].variance for side in sides))
    expected = ttest_ind(one, other, equal_var=False, trim=0.2).statistic
    assert (sides[0].mean - sides[1].mean) / error == pytest.approx(expected)


@pytest.mark.parametrize("runs", [10, 20, 60])
def test_a_trimmed_spread_is_known_as_well_as_it_says(runs: int):
    """A variance with f degrees of freedom varies by 2 / f of its square."""
    found = [trimmed(each).parts[0] for each in np.random.default_rng(0).normal(size=(6000, runs))]
    variances = np.array([part.variance for part in found])
    worth = 2 * variances.mean() ** 2 / variances.var()
    assert worth == pytest.approx(found[0].freedom, rel=0.08)


def test_few_runs_are_not_trimmed():
    """Of four runs each counts, as in the plain t test."""
    values = [1.0, 1.1, 0.9, 1.2]
    found = trimmed(values)
    statistic = found.mean / math.sqrt(found.parts[0].variance)
    assert statistic == pytest.approx(ttest_1samp(values, 0.0).statistic)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_what_has_no_logarithm_is_refused(value: float):
    """A speed of 0 is a failed measurement, no loss of all speed."""
    with pytest.raises(ValueError, match="no ratio"):
        of_runs([1.0, 1.0], [1.0, value], "lower")


def test_trainings_with_other_draws_are_compared_as_samples():
    """With seeds unlike each other, false alarms at 1 % come in at most 1 of 100 comparisons."""
    draw = np.random.default_rng(1)
    alarms = 0
    for _ in range(1000):
        ease = draw.normal(0, 1, 300)
        before, after = (
            scores(answers(draw, seeds=n, items=300, seed_sd=0.01, ease=ease)) for n in (8, 3)
        )
        found = of_trainings(before, after, "higher")
        assert found is not None
        assert found.items == 300
        alarms += exceeds(found, 0.0) < 0.01
    assert alarms <= 15


def test_a_bank_of_seeds_sees_what_three_pairs_cannot():
    """Five points are seen with eight seeds before and three now; paired by seed hardly ever."""
    draw = np.random.default_rng(2)
    seen = 0
    for _ in range(50):
        ease = draw.normal(0, 1, 1000)
        before = scores(answers(draw, seeds=8, items=1000, seed_sd=0.005, ease=ease))
        after = scores(answers(draw, seeds=3, items=1000, seed_sd=0.005, ease=ease - 0.15))
        found = of_trainings(before, after, "higher")
        assert found is not None
        seen += exceeds(found, 0.0) < 0.001
    assert seen >= 48


def test_trainings_that_repeat_answer_alike():
    """Seed by seed a few flipped answers stay a small loss; other draws of the seeds are unlike."""
    draw = np.random.default_rng(3)
    given = answers(draw, seeds=3, items=500, seed_sd=0.02)
    flipped = given.copy()
    for seed in range(3):
        flipped[seed, np.flatnonzero(given[seed])[:2]] = 0
    assert answer_alike(scores(given), scores(flipped))
    found = loss_of(scores(given), scores(flipped), "higher")
    assert found is not None
    assert found.mean == pytest.approx(2 / 500)
    assert sum(part.variance for part in found.parts) < 0.004**2
    again = answers(np.random.default_rng(4), seeds=3, items=500, seed_sd=0.02)
    assert not answer_alike(scores(given), scores(again))


def test_seeds_that_lose_alike_are_no_certainty():
    """36 answers of each of three seeds, chance which: as uncertain as three answers' lots."""
    draw = np.random.default_rng(5)
    before = np.ones((3, 360))
    after = before.copy()
    for seed in range(3):
        after[seed, draw.choice(360, 36, replace=False)] = 0
    own = 0.1 * 0.9 / (3 * 360)
    for found in (
        loss_of(scores(before), scores(after), "higher"),
        of_trainings(scores(before), scores(after), "higher"),
    ):
        assert found is not None
        assert found.mean == pytest.approx(0.1)
        assert found.estimate.half_width is not None
        assert found.estimate.half_width > 1.9 * math.sqrt(own)
        assert 1e-9 < exceeds(found, 0.07) < 0.01


def test_one_training_a_side_says_nothing_of_others():
    """Without a second seed on either side the spread of trainings is not known."""
    assert of_trainings(Scores(values={0: 0.5}), Scores(values={0: 0.4}), "higher") is None
    found = of_trainings(Scores(values={0: 0.5, 1: 0.51}), Scores(values={0: 0.4}), "higher")
    assert found is not None
    assert found.mean == pytest.approx(0.105)


def test_a_perplexity_that_explodes_is_compared_in_nats():
    """Items and seeds as they are packed: a factor is a difference, however large."""
    draw = np.random.default_rng(7)
    nats = 3 + draw.normal(0, 0.5, (2, 50))
    for factor in (1.1, 20.0, 1e6):
        sides = []
        for each in (nats, nats + math.log(factor)):
            values = {seed: float(np.exp(row.mean())) for seed, row in enumerate(each)}
            items = {
                seed: pack_items([str(n) for n in range(50)], row.tolist())
                for seed, row in enumerate(each)
            }
            sides.append(logarithms(scores_by_item("perplexity", values, items)))
        found = loss_of(sides[0], sides[1], "lower")
        assert found is not None
        assert found.mean == pytest.approx(math.log(factor))
        assert found.estimate.half_width == pytest.approx(0.0, abs=1e-6)


def test_identical_means_every_item_of_every_seed():
    """One item of one seed, or a seed that is missing, is not identical."""
    given = answers(np.random.default_rng(4), seeds=2, items=50, seed_sd=0.0)
    other = given.copy()
    other[1, 7] = 1 - other[1, 7]
    assert is_identical(scores(given), scores(given.copy()))
    assert not is_identical(scores(given), scores(other))
    assert not is_identical(scores(given), scores(given[:1]))
    assert not is_identical(scores(given), scores(given, "other questions"))
    assert not is_identical(Scores(values={0: 1.0}), Scores(values={0: 1.0}))
