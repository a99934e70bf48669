"""Pairs in two rounds: the first clears, only fresh ones convict."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from reports.gate.evidence import Verdict
from reports.gate.lines import Line
from reports.gate.rules import MOST_PAIRS
from reports.gate.staged import (
    FEWEST_PAIRS,
    FIRST_PAIRS,
    Pair,
    evidence,
    pairs_to_add,
    pairs_to_make,
    verdicts,
)
from tests.reports.gate.measured import MEMORY, PERPLEXITY, PLUG_IN, SPEED


def pairs(count: int, *, loss: float, spread: float, seed: int = 0) -> list[Pair]:
    """Speeds of base and candidate."""
    draw = np.random.default_rng(seed)
    logs = draw.normal(0, spread, (count, 2)) - [0, math.log1p(loss)]
    return [(float(base), float(candidate)) for base, candidate in np.exp(logs)]


def first(loss: float, spread: float, seed: int = 0, line: Line = SPEED):
    """The first round of one line."""
    given = pairs(FIRST_PAIRS, loss=loss, spread=spread, seed=seed)
    return {line: evidence(line, given, "higher")}


def test_a_steady_line_passes_at_once():
    """Eight pairs that agree rule out 5 %."""
    given = first(0.0, 0.002)
    assert pairs_to_make(given, len(given)) == {}
    assert [each.word for each in verdicts(given, {})] == ["PASS"]


def test_a_slow_line_is_looked_at_again_and_convicted_by_fresh_pairs():
    """5 % slower: never said on the first pairs alone."""
    given = first(0.05, 0.005)
    assert FEWEST_PAIRS <= pairs_to_make(given, len(given))[SPEED] <= MOST_PAIRS
    fresh = {SPEED: evidence(SPEED, pairs(20, loss=0.05, spread=0.005, seed=1), "higher")}
    assert [each.word for each in verdicts(given, fresh)] == ["REGRESSED"]


def test_fresh_pairs_acquit():
    """A line that only looked bad passes on the fresh ones."""
    given = first(0.05, 0.005)
    fresh = {SPEED: evidence(SPEED, pairs(20, loss=0.0, spread=0.005, seed=1), "higher")}
    assert [each.word for each in verdicts(given, fresh)] == ["PASS"]


def test_a_noisy_line_needs_more_pairs():
    """The more noise, the more pairs, up to what anybody would wait for."""
    few, many = (pairs_to_make(first(0.0, spread), 1)[SPEED] for spread in (0.02, 0.2))
    assert FEWEST_PAIRS <= few <= many
    assert many == MOST_PAIRS


def test_a_gross_loss_needs_few_pairs_on_a_noisy_machine():
    """Twice as slow is seen with the fewest, where 5 % would take the most."""
    asked = [pairs_to_make(first(loss, 0.1), 1)[SPEED] for loss in (1.0, 0.05)]
    assert asked == [FEWEST_PAIRS, MOST_PAIRS]


def test_what_the_machine_shows_between_equals_is_no_loss():
    """An offset of 6 % measured on equal code is taken off before anything is said."""
    given = pairs(20, loss=0.05, spread=0.005)
    blamed = evidence(SPEED, given, "higher")
    excused = evidence(SPEED, given, "higher", offset=math.log(1.06))
    words = [verdicts({SPEED: each}, {SPEED: each})[0].word for each in (blamed, excused)]
    assert words == ["REGRESSED", "INCONCLUSIVE"]


def test_what_the_machine_may_hide_is_no_pass():
    """5 % slower where the candidate's place is 6, or 3 % faster by itself."""
    for offset in (0.06, 0.03):
        loss = math.exp(math.log1p(0.05) - math.log1p(offset)) - 1
        given = pairs(FIRST_PAIRS, loss=loss, spread=0.0005)
        found = {SPEED: evidence(SPEED, given, "higher", offset=math.log1p(offset))}
        assert pairs_to_make(found, 1)
        given = pairs(MOST_PAIRS, loss=loss, spread=0.0005, seed=1)
        fresh = {SPEED: evidence(SPEED, given, "higher", offset=math.log1p(offset))}
        assert [each.word for each in verdicts(found, fresh)] == ["INCONCLUSIVE"], offset


@pytest.mark.parametrize("count", [FIRST_PAIRS, MOST_PAIRS])
@pytest.mark.parametrize("values", [(100.0, 96.0), (100.0, 90.0), (100.0, 100.0)])
def test_speeds_that_are_all_the_same_were_not_measured(values: Pair, count: int):
    """Neither a pass nor a regression, however many there are."""
    given = {SPEED: evidence(SPEED, [values] * FIRST_PAIRS, "higher")}
    assert pairs_to_make(given, 1)
    fresh = {SPEED: evidence(SPEED, [values] * count, "higher")}
    (found,) = verdicts(given, fresh)
    assert found.word == "INCONCLUSIVE"
    assert "not measured" in found.sentence


def test_a_plain_gain_is_pointed_out():
    """30 % faster takes fresh pairs to say so; 1 % is not worth them."""
    given = first(-0.3, 0.005)
    assert pairs_to_make(given, 1)
    fresh = {SPEED: evidence(SPEED, pairs(20, loss=-0.3, spread=0.005, seed=1), "higher")}
    assert [each.word for each in verdicts(given, fresh)] == ["IMPROVED"]
    assert pairs_to_make(first(-0.01, 0.002), 1) == {}


def test_a_drift_across_the_session_is_no_regression():
    """A machine that gets 3 % slower meanwhile does so to both of every pair."""
    drift = np.exp(np.linspace(0, math.log(1.03), 20))
    given = [
        (base / d, candidate / d)
        for (base, candidate), d in zip(pairs(20, loss=0.0, spread=0.005), drift, strict=True)
    ]
    found = evidence(SPEED, given, "higher")
    assert verdicts({SPEED: found}, {SPEED: found})[0].word == "PASS"


def test_lines_keep_their_own_rounds():
    """One line decided at once, the other again."""
    given = {**first(0.0, 0.002), **first(0.1, 0.005, seed=2, line=MEMORY)}
    asked = pairs_to_make(given, len(given))
    assert list(asked) == [MEMORY]


def test_pairs_that_are_farther_apart_than_the_first_ones_were_are_added_to():
    """However good or bad they look: only how far apart they are counts."""
    given = first(0.05, 0.004)
    added = [
        pairs_to_add(
            given, {SPEED: evidence(SPEED, pairs(20, loss=loss, spread=0.06), "higher")}, 1
        )
        for loss in (0.0, 0.05, 0.2)
    ]
    assert added[0][SPEED] > 0
    assert added == [added[0]] * 3
    alike = evidence(SPEED, pairs(20, loss=0.05, spread=0.002), "higher")
    assert pairs_to_add(given, {SPEED: alike}, 1) == {}


def test_a_suspicious_line_without_fresh_pairs_does_not_pass():
    """None of its runs went through."""
    given = first(0.1, 0.005)
    assert pairs_to_make(given, len(given))
    assert verdicts(given, {})[0].word == "MISSING"


def test_one_pair_left_is_no_pass():
    """Whatever it says: nothing is known of the spread."""
    given = first(0.1, 0.005)
    (found,) = verdicts(given, {SPEED: evidence(SPEED, [(100.0, 97.5)], "higher")})
    assert found.word == "INCONCLUSIVE"
    assert "one pair says nothing" in found.sentence


def test_a_memory_that_is_the_same_in_every_run_is_convicted():
    """An allocator counts exactly: equal pairs are no lack of a measurement."""
    more = [(100.0, 110.0)] * 6
    given = {MEMORY: evidence(MEMORY, more, "lower")}
    assert [each.word for each in verdicts(given, given)] == ["REGRESSED"]
    same = {MEMORY: evidence(MEMORY, [(100.0, 100.0)] * 6, "lower")}
    assert [each.word for each in verdicts(same, {})] == ["PASS"]


def test_all_lines_are_one_suite():
    """Those that are not run in turn count in the correction, and have their verdicts last."""
    given = first(0.02, 0.005)
    fresh = {SPEED: evidence(SPEED, pairs(20, loss=0.02, spread=0.005), "higher")}
    (alone,) = verdicts(given, fresh)
    other = replace(fresh[SPEED], line=PLUG_IN)
    missing = Verdict(line=PERPLEXITY, word="MISSING", sentence="s")
    timed, *others = verdicts(given, fresh, [other, missing])
    assert [each.line for each in others] == [PLUG_IN, PERPLEXITY]
    assert alone.probability is not None
    assert timed.probability == pytest.approx(2 * alone.probability)
