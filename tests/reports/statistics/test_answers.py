"""Answers of the same weights: the exact test, what it sees, and how often a loss passes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import binom, binomtest

from reports.gate.rules import FALSE_ALARMS, FALSE_PASSES, POWER
from reports.statistics.answers import Answers

LEVEL = FALSE_ALARMS / 17
LIMIT = 0.02


def turned(items: int, lost: int, won: int = 0, seeds: int = 1) -> Answers:
    """Items that every seed lost, and won."""
    changes = np.zeros(items, dtype=np.int64)
    changes[:lost] = seeds
    changes[lost : lost + won] = -seeds
    return Answers(changes, seeds)


def test_answers_that_are_right_no_more():
    """20 lost and 4 won of 1,000: McNemar's exact test, one-sided."""
    before, after = np.zeros((1, 1000)), np.zeros((1, 1000))
    before[0, :20], after[0, 20:24] = 1.0, 1.0
    found = Answers.of(before, after)
    assert (found.lost, found.won, found.items) == (20, 4, 1000)
    for each, sign, lost in ((found, 1, 20), (found, -1, 4), (Answers.of(after, before), 1, 4)):
        expected = binomtest(lost, 24, 0.5, alternative="greater").pvalue
        assert each.probability(sign) == pytest.approx(expected)
    assert Answers.of(before, before).probability() == 1.0


def test_answers_of_several_seeds_count_by_item():
    """Every way to draw the signs anew, one by one; three seeds that turn together are one turn."""
    draw = np.random.default_rng(6)
    before, after = draw.integers(0, 2, (2, 3, 8)).astype(float)
    changes = (before - after).sum(0)
    drawn = [float(np.dot(signs, np.abs(changes))) for signs in product((1, -1), repeat=8)]
    expected = np.mean([each >= changes.sum() for each in drawn])
    assert Answers.of(before, after).probability() == pytest.approx(expected)
    assert turned(50, 7, seeds=3).probability() == pytest.approx(2**-7)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("items", [300, 500, 650, 800, 1200, 1838, 10_042])
def test_a_loss_at_the_limit_passes_as_seldom_as_promised(items: int, seeds: int):
    """Every number of items it may hit, with its probability; those that see it convict."""
    passed = 0.0
    for lost in range(min(items, 400)):
        found = turned(items, lost, seeds=seeds)
        smallest = found.smallest(LEVEL, POWER)
        if found.bound(FALSE_PASSES) < LIMIT and smallest <= LIMIT:
            passed += float(binom.pmf(lost, items, LIMIT))
    assert passed <= FALSE_PASSES


@pytest.mark.parametrize("items", [500, 800, 1838])
def test_what_it_says_it_sees_is_seen(items: int):
    """A loss so large convicts in POWER of all cases, and one a third smaller does not."""

    def seen(rate: float) -> float:
        return sum(
            float(binom.pmf(lost, items, rate))
            for lost in range(400)
            if turned(items, lost).probability() < LEVEL
        )

    smallest = turned(items, 0).smallest(LEVEL, POWER)
    assert POWER - 1e-9 <= seen(smallest) < POWER + 0.01
    assert seen(smallest * 2 / 3) < POWER


def test_gains_by_chance_hide_a_loss():
    """With as many won as 1 % of 3,000 what is promised is still seen."""
    draw = np.random.default_rng(0)
    seen = 0
    for _ in range(400):
        won = int(draw.binomial(3000, 0.01))
        smallest = turned(3000, 0, won).smallest(LEVEL, POWER)
        lost, won = (int(draw.binomial(3000, each)) for each in (0.01 + smallest, 0.01))
        seen += turned(3000, lost, won).probability() < LEVEL
    assert seen > POWER * 400 - 12


def test_as_many_items_as_it_asks_for_decide():
    """What is lost and won grows with them."""
    for lost, won in ((0, 0), (1, 0), (3, 3), (20, 20), (12, 0)):
        found = turned(500, lost, won)
        needed = found.items_needed(LEVEL, FALSE_PASSES, POWER, LIMIT)
        assert needed is not None
        # As many of each as there are in whole items.
        needed += needed // 50
        more = turned(needed, round(lost * needed / 500), round(won * needed / 500))
        passes = more.bound(FALSE_PASSES) < LIMIT and more.smallest(LEVEL, POWER) <= LIMIT
        assert passes or more.probability() < LEVEL, (lost, won, needed)


def test_bounds_hold_the_rate():
    """Above and below, of one seed and of three that turn apart."""
    found = turned(1000, 20, 5)
    assert found.bound(0.025, -1) < 0.015 < found.bound(0.025)
    changes = np.zeros(1000, dtype=np.int64)
    changes[:21] = 1
    apart = Answers(changes, 3)
    assert apart.bound(0.025, -1) < 21 / 3000 < apart.bound(0.025)
