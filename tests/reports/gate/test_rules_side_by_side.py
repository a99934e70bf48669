"""Everybody's rules over the same data: what all of them must see, and where none may alarm."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import gate_rules
from tests.benchmarks.gate_rules import (
    ACCURACY_RULES,
    LINES,
    RULES,
    Bank,
    Drawn,
    Rule,
    Simulated,
    Tally,
    is_there,
    read_bank,
    score,
    shares,
    tally,
)

SUITES = 3


def named(rule: Rule) -> str:
    """For the test's id."""
    return f"{rule.name} {rule.sample}"


THERE = pytest.mark.parametrize("rule", [rule for rule in RULES if is_there(rule)], ids=named)


def simulated(spread: float = 0.01) -> Simulated:
    """A machine that does not drift."""
    return Simulated(draw=np.random.default_rng(0), spread=spread)


@THERE
def test_all_see_that_a_line_takes_half_as_long_again(rule: Rule, monkeypatch: pytest.MonkeyPatch):
    """A loss of 50 % with 1 % of noise is seen in every suite, and in a real bank as well."""
    monkeypatch.setattr(gate_rules, "LOSS", 0.5)
    draw = np.random.default_rng(0)
    pairs = tuple((float(a), float(b)) for a, b in 1 / simulated().pairs(30, 0.0))
    bank = Bank(stage="s", metric="m", better="higher", machine="here", pairs=pairs)
    for source in (simulated(), Drawn(draw=draw, bank=bank)):
        assert tally(rule, source, SUITES).words == Counter(REGRESSED=SUITES)


@THERE
def test_none_alarms_where_nothing_varies(rule: Rule):
    """Equal values on both sides: no alarm."""
    source = replace(simulated(spread=0.0), within=0.0)
    for _ in range(SUITES):
        assert "REGRESSED" not in list(rule.words(source, 0.0))


def test_two_sessions_share_nothing_and_a_pair_shares_its_moment():
    """A drift of 10 % is between sessions; the difference within a pair has none of it."""
    source = replace(simulated(spread=0.0), within=0.0, drift=0.1)
    differences = [
        float(np.log(now[0, 0, 0] / was[0, 0, 0]))
        for was, now in (source.sides(LINES, 2, 3, 2, 0.0) for _ in range(400))
    ]
    assert np.std(differences) == pytest.approx(0.1, rel=0.15)
    pairs = source.pairs(400, 0.0)
    assert np.std(np.log(pairs[:, 0])) == pytest.approx(0.1, rel=0.15)
    assert pairs[:, 0] == pytest.approx(pairs[:, 1])


def test_only_the_first_line_loses():
    """In seconds, on the current side."""
    source = replace(simulated(spread=0.0), within=0.0)
    was, now = source.sides(LINES, 2, 3, 2, 0.05)
    assert now[0] / was[0] == pytest.approx(1.05)
    assert (now[1:] == was[1:]).all()


def test_a_bank_is_read_in_seconds(tmp_path: Path):
    """Of a throughput the reciprocal; pairs stay pairs, either way round as often."""
    path = tmp_path / "bank.json"
    written = Bank(
        stage="s", metric="m", better="higher", machine="here", pairs=((2.0, 4.0), (5.0, 10.0))
    )
    path.write_text(written.model_dump_json())
    source = Drawn(draw=np.random.default_rng(0), bank=read_bank(path))
    pairs = Counter(map(tuple, source.pairs(400, 0.0).tolist()))
    assert set(pairs) == {(0.5, 0.25), (0.25, 0.5), (0.2, 0.1), (0.1, 0.2)}
    assert min(pairs.values()) > 70


@pytest.mark.parametrize("name", ACCURACY_RULES)
def test_all_see_a_loss_of_thirty_points_and_none_sees_one_where_answers_are_the_same(name: str):
    """Of 500 answers; the same models answer both times where nothing changed."""
    rule = ACCURACY_RULES[name]
    worse = score(np.random.default_rng(0), 0.002, 0.1, 500, 0.30)
    assert rule(worse)[0] == "REGRESSED"
    same = replace(worse, now=worse.was, trained=lambda seeds: worse.was)
    assert "REGRESSED" not in rule(same)


def test_a_loss_of_two_points_is_two_points():
    """Over many items the first task loses 2 points, the others nothing."""
    first, *others = score(np.random.default_rng(0), 0.0, 0.1, 100_000, 0.02).drops()
    assert first == pytest.approx(0.02, abs=0.002)
    assert np.abs(others).max() < 0.002


def test_shares_are_means_with_the_worst_behind_them():
    """The worst is the most alarms, and the fewest that were seen."""
    found = [
        Tally(suites=10, alarms=1, words=Counter(REGRESSED=8, PASS=2)),
        Tally(suites=10, alarms=3, words=Counter(REGRESSED=4, INCONCLUSIVE=6)),
    ]
    assert shares(found) == [
        "20.0 % (30.0 %)",
        "60.0 % (40.0 %)",
        "30.0 % (60.0 %)",
        "10.0 % (20.0 %)",
    ]
    assert shares(found[:1]) == ["10.0 %", "80.0 %", "0.0 %", "20.0 %"]
