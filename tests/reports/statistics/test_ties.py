"""Which means can be told apart: against cases worked out by hand, and among simulated equals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ttest_rel

from reports.statistics.intervals import Scores, difference
from reports.statistics.ties import holm, probability, ranks
from tests.reports.statistics.simulated import answers, scores


def shares_of_tables(tables: int, seed_sd: float) -> tuple[float, float]:
    """Of tables of 20 equal models, those with a sole winner and those with any two told apart."""
    draw = np.random.default_rng(3)
    sole = told_apart = 0
    for _ in range(tables):
        ease = draw.normal(0, 1, 500)
        rows = [
            scores(answers(draw, seeds=3, items=500, seed_sd=seed_sd, ease=ease)) for _ in range(20)
        ]
        best = sum(rank.is_best for rank in ranks(rows, "higher"))
        sole, told_apart = sole + (best == 1), told_apart + (best < 20)
    return sole / tables, told_apart / tables


def test_equals_have_no_sole_winner():
    """Of 60 tables of 20 equal models at most 5 % have a sole winner, or any two told apart."""
    sole, told_apart = shares_of_tables(60, 0.01)
    assert sole <= 0.05
    assert told_apart <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("seed_sd", [0.0, 0.005, 0.01, 0.02])
def test_equals_have_no_sole_winner_however_much_seeds_differ(seed_sd: float):
    """The same of 400 tables, from seeds that are alike to seeds that are two points apart."""
    sole, told_apart = shares_of_tables(400, seed_sd)
    assert sole <= 0.05
    assert told_apart <= 0.05


def test_a_better_model_wins_alone():
    """Ten points on 1,000 questions are seen, whichever way the metric points."""
    draw = np.random.default_rng(4)
    ease = draw.normal(0, 1, 1000)
    rows = [
        scores(answers(draw, seeds=5, items=1000, seed_sd=0.002, ease=ease + more))
        for more in (0.0, 0.0, 0.4)
    ]
    assert [rank.letters for rank in ranks(rows, "higher")] == ["B", "B", "A"]
    assert [rank.is_best for rank in ranks(rows, "higher")] == [False, False, True]
    assert [rank.letters for rank in ranks(rows, "lower")] == ["A", "A", "B"]


def test_the_middle_ties_with_both_ends():
    """What cannot be told from the best nor from the worst has the letters of both."""
    noise = [0.0, 0.011, -0.009, 0.004, -0.006]

    def row(middle: float, turn: int) -> Scores:
        return Scores(values={s: middle + noise[(s + turn) % 5] for s in range(5)})

    found = ranks([row(1.0, 0), row(1.014, 1), row(1.028, 2)], "higher")
    assert [rank.letters for rank in found] == ["B", "AB", "A"]
    assert [rank.is_best for rank in found] == [False, True, True]


def test_rows_without_a_value_have_no_letter():
    """A failed row is no competitor."""
    found = ranks([Scores(values={}), Scores(values={0: 1.0}), Scores(values={0: 2.0})], "higher")
    assert [rank.letters for rank in found] == ["", "A", "A"]


def test_one_seed_without_items_ties_with_all():
    """A number of which no spread is known is told from no other, however far it is."""
    found = ranks([Scores(values={0: 1.0}), Scores(values={0: 99.0})], "higher")
    assert all(rank.is_best for rank in found)


def test_one_training_a_side_ties_with_all_however_many_items():
    """A thousand items tell the two models apart, but not what other seeds would have made."""
    draw = np.random.default_rng(6)
    ease = draw.normal(0, 1, 1000)
    one, other = (
        scores(answers(draw, seeds=1, items=1000, seed_sd=0.0, ease=ease + more))
        for more in (0.0, 0.5)
    )
    assert all(rank.is_best for rank in ranks([one, other], "higher"))
    evaluated_once = [
        Scores(values={None: s.values[0]}, by_item={None: s.by_item[0]}, documents="questions")
        for s in (one, other)
    ]
    assert [rank.is_best for rank in ranks(evaluated_once, "higher")] == [False, True]


def test_probability_is_that_of_the_paired_t_test():
    """With seeds alone it is the two-sided probability of scipy's paired test."""
    one, other = [0.71, 0.74, 0.69, 0.75], [0.66, 0.70, 0.68, 0.67]
    found = difference(Scores(values=dict(enumerate(one))), Scores(values=dict(enumerate(other))))
    assert found is not None
    assert probability(found) == pytest.approx(ttest_rel(one, other).pvalue, rel=1e-3)


def test_interval_and_probability_agree():
    """A difference is below 5 % exactly where its 95 % interval does not hold 0."""
    draw = np.random.default_rng(5)
    checked = set()
    for _ in range(300):
        ease = draw.normal(0, 1, 100)
        one, other = (
            scores(answers(draw, seeds=3, items=100, seed_sd=0.01, ease=ease + more, own=0.2))
            for more in (0.0, 0.1)
        )
        found = difference(one, other)
        assert found is not None
        half = found.estimate.half_width
        if half is None:
            continue
        apart = abs(found.mean) > half
        checked.add(apart)
        if abs(abs(found.mean) / half - 1) > 0.01:
            assert (probability(found) < 0.05) is apart
    assert checked == {True, False}


def test_holm():
    """The example of the R function p.adjust: 0.01, 0.02, 0.03, 0.04, 0.05 become 5 to 5 %."""
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([]) == []
