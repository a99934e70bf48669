"""Time and cycles: a slow GPU is no slow code, and a fast GPU hides none."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from reports.gate.baseline import Measured
from reports.gate.cycles import DOUBT, of_clocked_pairs, of_clocked_runs, shares
from reports.gate.evidence import Verdict
from reports.gate.judge import judge
from reports.gate.noise import Noise, Session, Values
from reports.gate.staged import Pair, evidence, pairs_to_make, verdicts
from tests.benchmarks.gate import Gpu, in_turn_at_clocks, in_two_sessions
from tests.reports.gate.measured import HOW, MEMORY, SPEED, baseline, timed

SPREAD = (0.0, 0.002, -0.002, 0.001, -0.001, 0.0015, -0.0015, 0.0005)
"""Of the runs of a side at equal clocks."""
WIDE = (-0.09, 0.06, -0.03, 0.09, 0.0, -0.06, 0.03, 0.02)
"""Of a clock that is at another place in every run."""


def side(
    cost: float = 0.0,
    clock: float = 1980.0,
    *,
    follows: float = 1.0,
    moves: Sequence[float] = (0.0,) * 8,
) -> Measured:
    """Runs of code that costs so much more, on a GPU about that clock; 1980 MHz make 100 a second.

    Args:
        cost: as a share.
        clock: MHz.
        follows: share of a change of the clock that the speed makes too.
        moves: of the clock, run by run, as logarithms.
    """
    clocks = [clock * math.exp(move) for move in moves]
    values = [
        100 * (mhz / 1980) ** follows * math.exp(own) / (1 + cost)
        for mhz, own in zip(clocks, SPREAD, strict=True)
    ]
    return timed(values, clocks=clocks)


def steady() -> Noise:
    """A machine that was the same on eight days."""
    draw = np.random.default_rng(0)
    sessions = tuple(
        Session(
            started=str(day),
            commit="c",
            lines=(Values(line=SPEED, setup=HOW, values=tuple(draw.normal(100, 0.2, 8).tolist())),),
        )
        for day in range(8)
    )
    return Noise(machine="here", sessions=sessions)


def verdict(was: Measured, is_now: Measured) -> Verdict:
    """The only one, on a machine that is steady but for its clock."""
    (found,) = judge(baseline(was), baseline(is_now), steady())
    return found


def test_half_the_clock_is_no_loss_in_cycles():
    """Known answer: 10 % less of both is nothing in cycles, whichever way the metric points."""
    speeds = ([100.0, 101.0], [90.0, 90.9])
    seconds = ([1 / 100, 1 / 101], [1 / 90, 1 / 90.9])
    clocks = ([2000.0, 2000.0], [1800.0, 1800.0])
    for values, better in ((speeds, "higher"), (seconds, "lower")):
        found = of_clocked_runs(values, clocks, better)
        assert found.cycles.mean == pytest.approx(0.0, abs=1e-12)
        assert [each.mean for each in found.bounds] == pytest.approx([math.log(1 / 0.9), 0.0])
        assert (found.base, found.now) == (2000.0, 1800.0)
        pairs = list(zip(*values, strict=True))
        turns = of_clocked_pairs(pairs, list(zip(*clocks, strict=True)), better)
        assert turns.cycles.mean == pytest.approx(0.0, abs=1e-12)
        assert turns.bounds[0].mean == pytest.approx(math.log(1 / 0.9))


def test_runs_at_several_clocks_narrow_the_share_down():
    """A thousand runs whose speed follows the clock by three tenths, in either of two groups."""
    draw = np.random.default_rng(0)
    groups = []
    for middle in (0.0, 5.0):
        clock = draw.normal(middle, 0.03, 500)
        groups.append((clock, 0.3 * (clock - middle) + draw.normal(0, 0.01, 500)))
    low, high = shares(groups)
    assert 0.2 < low < 0.3 < high < 0.4


def test_a_share_that_no_clock_can_have_says_nothing():
    """One run in twenty is slow for reasons of its own; a step of the clock meanwhile is chance."""
    clock = np.log([1980.0] * 7 + [1965.0])
    speed = np.asarray([*SPREAD[:7], -0.2])
    assert shares([(clock, speed)]) == (0.0, 1.0)


def test_two_runs_of_a_side_say_nothing_of_the_share():
    """A line through two points fits anything."""
    assert shares([(np.log([1900.0, 1980.0]), np.log([1.0, 1.02]))]) == (0.0, 1.0)


def test_a_clock_that_varies_needs_more_runs():
    """Four runs whose clock goes up and down by 2 %: time is clear, cycles are not yet."""
    moves = (-0.02, 0.02, 0.02, -0.02)
    sides = [
        timed(
            [100 * math.exp(own) for own in SPREAD[:4]],
            clocks=[1980 * math.exp(move) for move in each],
        )
        for each in (moves, moves[::-1])
    ]
    found = verdict(*sides)
    assert found.word == "INCONCLUSIVE"
    assert found.more_runs is not None
    assert found.more_runs > 1
    assert found.detectable is not None
    assert found.detectable > math.log(1.05)
    (timed_only,) = judge(
        *(baseline(timed([run.value for run in each.runs])) for each in sides), steady()
    )
    assert timed_only.word == "PASS"


def test_a_slower_clock_is_not_blamed_on_the_code():
    """14 % slower with a clock that is 12 % lower: the sentence says which it was."""
    found = verdict(side(), side(0.003, 1740.0))
    assert found.word == "INCONCLUSIVE"
    assert found.sentence.startswith("worse by 14.1 %, between ")
    assert found.sentence.endswith(
        "; in cycles worse by 0.3 %: the GPU ran at 1,740 instead of 1,980 MHz, "
        "so it is the machine and not the code if this line follows the clock"
    )


def test_a_slower_clock_acquits_no_code_that_may_be_slower_too():
    """1.2 % more cycles are too few to convict and too many to say that it is the machine."""
    found = verdict(side(), side(0.012, 1740.0))
    assert found.word == "INCONCLUSIVE"
    assert "could go unseen" in found.sentence
    assert found.sentence.endswith(", as the GPU ran at 1,740 instead of 1,980 MHz")
    assert found.more_runs is None


def test_slow_code_is_slow_in_cycles_too():
    """At one clock, and where the clock fell as well."""
    for clock in (1980.0, 1940.0):
        found = verdict(side(), side(0.06, clock))
        assert found.word == "REGRESSED"
        assert "; in cycles too, by 6.0 %: the code" in found.sentence
        assert found.probability is not None
        # However small, it holds what the bounds may be wrong by.
        assert found.probability >= DOUBT


def test_days_that_differ_are_no_evidence_in_cycles_either():
    """Equal clocks on a machine that is 8 % another every day for other reasons."""
    sessions = tuple(
        Session(
            started=str(day),
            commit="c",
            lines=(
                Values(line=SPEED, setup=HOW, values=tuple(mean * math.exp(own) for own in SPREAD)),
            ),
        )
        for day, mean in enumerate((100.0, 108.0, 93.0))
    )
    noise = Noise(machine="here", sessions=sessions)
    (found,) = judge(baseline(side()), baseline(side(0.06)), noise)
    assert found.word == "INCONCLUSIVE"


def test_a_higher_clock_hides_no_loss_of_a_line_that_follows_it():
    """Every run at another clock shows that it does: 10 % slower code is as fast at 2,178 MHz."""
    found = verdict(side(moves=WIDE), side(0.1, 2178.0, moves=WIDE[::-1]))
    assert found.word == "REGRESSED"
    assert found.sentence.startswith("in cycles worse by 10.0 %, by 8.0 % at least")
    assert found.sentence.endswith("2,187 instead of 1,988 MHz, which hid it in time")
    assert found.loss == pytest.approx(math.log(1.1), abs=0.001)


def test_a_loss_that_a_higher_clock_may_hide_never_passes():
    """Each side at its one clock: the speed may follow it or not, and the same numbers are both."""
    found = verdict(side(), side(0.1, 2178.0))
    assert found.word == "INCONCLUSIVE"
    assert "hides a loss if this line follows the clock" in found.sentence
    assert found.more_runs is None


def test_a_line_that_waits_for_the_processor_is_no_alarm():
    """Equally fast whatever the clock: lost in cycles, but not lost."""
    assert verdict(side(follows=0.0), side(clock=2178.0, follows=0.0)).word == "INCONCLUSIVE"
    several = [side(clock=mhz, follows=0.0, moves=WIDE) for mhz in (1980.0, 2178.0)]
    assert verdict(*several).word == "PASS"


def test_a_loss_of_a_line_that_waits_for_the_processor_is_seen_whatever_the_clock_does():
    """A clock 5 % lower does not excuse what does not follow it."""
    found = verdict(
        side(follows=0.0, moves=WIDE), side(0.06, 1881.0, follows=0.0, moves=WIDE[::-1])
    )
    assert found.word == "REGRESSED"
    assert found.sentence.endswith("its speed does not follow the GPU's clock: the code")


def test_a_gain_of_the_clock_is_no_gain():
    """10 % faster at a clock 10 % higher is no reason for a new baseline; better code is."""
    assert verdict(side(), side(clock=2178.0)).word == "PASS"
    assert verdict(side(0.1), side()).word == "IMPROVED"


def test_one_run_without_a_clock_and_time_decides():
    """Half of a comparison in cycles would be none."""
    was, now = side(), side(clock=1740.0)
    runs = (now.runs[0].model_copy(update={"clock": None}), *now.runs[1:])
    found = verdict(was, now.model_copy(update={"runs": runs}))
    assert found.word == "REGRESSED"
    assert "cycles" not in found.sentence


def test_memory_has_no_cycles():
    """More memory is more at any clock."""
    mib = [1000.0, 1002.0, 999.0, 1001.0, 1000.5]
    was = timed(mib, MEMORY, clocks=[1980.0] * 5)
    (found,) = judge(
        baseline(was), baseline(timed([1.1 * v for v in mib], MEMORY, clocks=[2178.0] * 5))
    )
    assert found.word == "REGRESSED"
    assert "cycles" not in found.sentence


CANARY = [0.02 * math.exp(own) for own in SPREAD]


def canaried(by: float, cost: float = 0.0, clocks: Sequence[float] = ()) -> Measured:
    """Runs of a machine whose canary takes so much longer."""
    values = [100 * math.exp(own) / (1 + cost) for own in SPREAD]
    return timed(values, clocks=clocks, canaries=[(1 + by) * each for each in CANARY])


def test_a_canary_that_slowed_down_too_is_mentioned_and_changes_no_verdict():
    """It may be the machine: one more look is advised."""
    found = verdict(canaried(0.0), canaried(0.07, 0.06))
    assert found.word == "REGRESSED"
    assert found.sentence.endswith("; the canary was 7.0 % slower too: measure again or use `ab`")


@pytest.mark.parametrize(
    ("was", "now"),
    [
        (canaried(0.0), canaried(0.0, 0.06)),
        (canaried(0.0), canaried(0.005, 0.06)),
        (canaried(0.07), canaried(0.0, 0.06)),
        (canaried(0.0), timed([100 * math.exp(own) / 1.06 for own in SPREAD])),
        (canaried(0.0, clocks=[1980.0] * 8), canaried(0.07, 0.06, clocks=[1980.0] * 8)),
    ],
    ids=["as fast", "within the margin", "faster", "unknown", "clocks are known"],
)
def test_a_canary_that_explains_nothing_is_not_mentioned(was: Measured, now: Measured):
    """As fast as ever, unknown, or where the GPU's clock says more."""
    found = verdict(was, now)
    assert found.word == "REGRESSED"
    assert "canary" not in found.sentence


def test_a_canary_within_its_own_noise_is_not_mentioned():
    """Two of a side that differ by more than the sides."""
    noisy = timed([100 * math.exp(own) / 1.06 for own in SPREAD], canaries=[0.018, 0.026] * 4)
    assert "canary" not in verdict(canaried(0.0), noisy).sentence


def pairs(cost: float, clocks: Pair, count: int, follows: float = 1.0) -> tuple[list[Pair], ...]:
    """Base and candidate in turn, each at its clock, and those clocks."""
    draw = np.random.default_rng(count)
    mhz = np.asarray(clocks) * np.exp(draw.normal(0, 0.0005, (count, 2)))
    speeds = 100 * (mhz / 1980) ** follows * np.exp(draw.normal(0, 0.003, (count, 2)))
    speeds[:, 1] /= 1 + cost
    return [(float(a), float(b)) for a, b in speeds], [(float(a), float(b)) for a, b in mhz]


def in_turn(cost: float, clocks: Pair, follows: float = 1.0) -> Verdict:
    """The verdict of two rounds."""
    rounds = []
    for count in (6, 30):
        values, mhz = pairs(cost, clocks, count, follows)
        rounds.append({SPEED: evidence(SPEED, values, "higher", clocks=mhz)})
    fresh = rounds[1] if pairs_to_make(rounds[0], len(rounds[0])) else {}
    (found,) = verdicts(rounds[0], fresh)
    return found


def test_turns_at_one_clock_are_judged_as_ever():
    """Same code passes, slow code is the code."""
    assert in_turn(0.0, (1980.0, 1980.0)).word == "PASS"
    found = in_turn(0.06, (1980.0, 1980.0))
    assert found.word == "REGRESSED"
    assert "in cycles too" in found.sentence


def test_a_clock_that_varies_takes_no_fresh_pairs():
    """Nothing suspicious in cycles is enough where time has ruled the limit out."""
    values = [(100 * math.exp(own), 100 * math.exp(own / 100)) for own in SPREAD[:6]]
    mhz = [(1980.0 * math.exp(move), 1980.0) for move in (0.03, -0.03, -0.03, 0.03, 0.03, -0.03)]
    first = {SPEED: evidence(SPEED, values, "higher", clocks=mhz)}
    assert pairs_to_make(first, len(first)) == {}
    (found,) = verdicts(first, {})
    assert found.word == "PASS"
    assert found.detectable is not None
    assert found.detectable < math.log(1.05)


def test_a_candidate_at_a_lower_clock_is_not_told_from_a_hungry_one():
    """What a machine does by itself it does to both sides: the sentence does not acquit."""
    found = in_turn(0.0, (1980.0, 1740.0))
    assert found.word == "INCONCLUSIVE"
    assert "1,740 instead of 1,980 MHz" in found.sentence
    assert found.sentence.endswith("the code may have lowered its clock")


def test_a_candidate_at_a_higher_clock_never_passes_at_once():
    """Equally fast with 10 % more cycles: looked at again, and never cleared."""
    found = in_turn(0.1, (1980.0, 2178.0))
    assert found.word == "INCONCLUSIVE"
    assert "hides a loss" in found.sentence


def test_memory_in_turn_has_no_cycles():
    """Clocks are of no use to it."""
    values, mhz = pairs(0.0, (1980.0, 1740.0), 6)
    assert evidence(MEMORY, values, "lower", clocks=mhz).clocked is None


@pytest.mark.parametrize("follows", [1.0, 0.5, 0.0])
def test_a_moving_clock_raises_no_alarm(follows: float):
    """50 simulated suites whose clock is 10 % another in every session, and nothing passes."""
    gpu = Gpu(follows=follows, session=0.10, run=0.001)
    found = in_two_sessions(50, gpu, 0.05, 0.05)
    assert found.alarms == 0
    assert found.words["PASS"] == 0


def test_a_moving_clock_raises_no_alarm_in_turns():
    """Nor where sides run in turn, and slow code is seen."""
    found = in_turn_at_clocks(10, Gpu(follows=1.0, session=0.10, run=0.02), 0.05, 0.0)
    assert found.alarms == 0
    assert found.words["REGRESSED"] >= 9
