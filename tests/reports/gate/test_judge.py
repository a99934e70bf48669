"""Verdicts: what regressed is said, what cannot be told is said too, and nothing passes unseen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.gate.baseline import Measured, Missing
from reports.gate.evidence import Verdict
from reports.gate.judge import decide, judge
from reports.gate.noise import Noise, Session, Values
from reports.gate.rules import FALSE_ALARMS, FALSE_PASSES
from reports.gate.staged import evidence
from tests.reports.gate.measured import (
    HOW,
    MEMORY,
    PLUG_IN,
    SETUP,
    SPEED,
    answered,
    baseline,
    read,
    timed,
)
from tests.reports.statistics.simulated import answers

EXACT = [
    (500, 1, "INCONCLUSIVE"),
    (500, 12, "INCONCLUSIVE"),
    (500, 13, "REGRESSED"),
    (2000, 1, "PASS"),
    (2000, 13, "REGRESSED"),
]
"""Items, how many of them are lost, and what is said of it."""
STEADY = [100.0, 101.0, 99.5, 100.5, 99.0, 100.2, 100.8, 99.7]


def verdict(was: Measured, is_now: Measured, noise: Noise | None = None) -> Verdict:
    """The only one."""
    (found,) = judge(baseline(was), baseline(is_now), noise)
    return found


def days(*means: float) -> Noise:
    """A machine that was measured on several days."""
    sessions = tuple(
        Session(
            started=str(day),
            commit="c",
            lines=(Values(line=SPEED, setup=HOW, values=tuple(mean * value for value in STEADY)),),
        )
        for day, mean in enumerate(means)
    )
    return Noise(machine="here", sessions=sessions)


def slower(by: float) -> list[float]:
    """Samples a second of steps that take so much longer."""
    return [value / (1 + by) for value in STEADY[::-1]]


def test_half_as_fast_regressed_on_any_machine():
    """A loss beyond what an unknown machine drifts is one."""
    found = verdict(timed(STEADY), timed(slower(1.0)))
    assert found.word == "REGRESSED"
    assert found.loss == pytest.approx(math.log(2), abs=0.01)
    assert found.sentence.startswith("worse by 100")


def test_uncalibrated_machine_is_no_evidence_of_five_per_cent():
    """Neither a loss nor its absence: two sessions may differ by more."""
    for now in (STEADY, slower(0.05)):
        found = verdict(timed(STEADY), timed(now))
        assert found.word == "INCONCLUSIVE"
        assert "calibrate" in found.sentence


def test_two_jobs_on_shared_machines_are_no_regression():
    """26 % apart, as two were seen whose runs had 0.3 % of spread: nobody measured the drift."""
    found = verdict(timed(STEADY), timed(slower(0.26)))
    assert found.word == "INCONCLUSIVE"
    assert "may drift as much" in found.sentence


def test_calibrated_machine_sees_five_per_cent():
    """Where three days hardly differ, as little as that is seen, and its absence too."""
    steady = days(1.0, 1.001, 0.999, 1.0005)
    assert verdict(timed(STEADY), timed(slower(0.05)), steady).word == "REGRESSED"
    found = verdict(timed(STEADY), timed(STEADY[::-1]), steady)
    assert found.word == "PASS"
    assert found.detectable is not None
    assert found.detectable <= math.log(1.05)


def test_a_machine_that_drifts_says_so_however_many_runs():
    """Three days 8 % apart: no number of runs of one day sees 5 %."""
    found = verdict(timed(STEADY), timed(slower(0.05)), days(1.0, 1.08, 0.93))
    assert found.word == "INCONCLUSIVE"
    assert found.more_runs is None


def test_faster_is_improved():
    """Twice as fast is worth a new baseline."""
    assert verdict(timed(STEADY), timed([2 * v for v in STEADY])).word == "IMPROVED"


def test_more_memory_regressed():
    """Of memory less is better."""
    mib = [1000.0, 1002.0, 999.0, 1001.0, 1000.5]
    found = verdict(timed(mib, MEMORY), timed([1.3 * v for v in mib[::-1]], MEMORY))
    assert found.word == "REGRESSED"


def test_lost_accuracy_regressed_and_kept_accuracy_passes():
    """Ten points lost on 2,000 items are seen; two other draws of equals are not."""
    draw = np.random.default_rng(0)
    ease = draw.normal(0, 1, 4000)

    def trained(seeds: int, less: float) -> Measured:
        return answered(answers(draw, seeds=seeds, items=4000, seed_sd=0.002, ease=ease - less))

    before = trained(8, 0.0)
    assert verdict(before, trained(5, 0.3)).word == "REGRESSED"
    assert verdict(before, trained(5, 0.0)).word == "PASS"


def test_few_items_are_inconclusive_for_any_number_of_seeds():
    """On 60 items two points are one question: nobody can tell."""
    draw = np.random.default_rng(1)
    ease = draw.normal(0, 1, 60)
    sides = [
        answered(answers(draw, seeds=8, items=60, seed_sd=0.0, ease=ease, own=1.5)) for _ in "ab"
    ]
    found = verdict(*sides)
    assert found.word == "INCONCLUSIVE"
    assert found.detectable is not None
    assert found.detectable > 0.02


def test_the_same_answers_pass():
    """What repeats to the last item is the same."""
    given = answers(np.random.default_rng(2), seeds=3, items=40, seed_sd=0.01)
    found = verdict(answered(given), answered(given))
    assert found.word == "PASS"
    assert "40 items" in found.sentence


def test_flipped_answers_of_the_same_weights_are_caught():
    """2 % of right answers turned wrong though the weights are the same: the scoring is broken."""
    given = answers(np.random.default_rng(3), seeds=3, items=1000, seed_sd=0.01)
    flipped = given.copy()
    for seed in range(3):
        flipped[seed, np.flatnonzero(given[seed])[:20]] = 0
    found = verdict(answered(given, weights="w"), answered(flipped, weights="w"))
    assert found.word == "REGRESSED"


def test_seeds_of_the_same_weights_speak_together():
    """Seven answers of each of three seeds are seen, where seven of one are not."""
    before, after = np.ones((3, 360)), np.ones((3, 360))
    for seed in range(3):
        after[seed, 100 * seed : 100 * seed + 7] = 0
    found = verdict(answered(before, weights="w"), answered(after, weights="w"))
    assert found.word == "REGRESSED"
    assert "21 of 1,080 answers lost, 0 won" in found.sentence
    one = verdict(answered(before[:1], weights="w"), answered(after[:1], weights="w"))
    assert one.word == "INCONCLUSIVE"


@pytest.mark.parametrize(("items", "lost", "word"), EXACT)
@pytest.mark.parametrize("seeds", [1, 3])
def test_an_exact_test_says_what_it_can_see(items: int, lost: int, word: str, seeds: int):
    """Of 17 lines 13 items have to be lost, 2.6 points of 500: too few to rule 2 points out.

    Seeds that lose the same items are no further evidence.
    """
    before = np.ones((seeds, items))
    sides: list[list[Measured]] = [[], []]
    for number in range(17):
        after = before.copy()
        after[:, : lost if number == 0 else 1] = 0
        line = PLUG_IN.model_copy(update={"task": str(number)})
        for side, given in zip(sides, (before, after), strict=True):
            side.append(answered(given, line, weights="w"))
    found, *_ = judge(baseline(*sides[0]), baseline(*sides[1]))
    assert found.word == word, found.sentence
    assert found.detectable is not None
    assert (found.detectable > 0.02) == (items == 500)
    if word == "INCONCLUSIVE":
        assert "items would decide, not 500" in found.sentence


def test_better_answers_of_the_same_weights_are_improved():
    """The scoring got better: the same test the other way round."""
    before, after = np.ones((1, 500)), np.ones((1, 500))
    before[0, :30] = 0
    found = verdict(answered(before, weights="w"), answered(after, weights="w"))
    assert found.word == "IMPROVED"


def test_seeds_that_lose_alike_do_not_pass():
    """As many answers of every seed, chance which: no spread between seeds is no certainty."""
    for number in range(30):
        draw = np.random.default_rng(number)
        before = np.ones((3, 360))
        after = before.copy()
        for seed in range(3):
            after[seed, draw.choice(360, 7, replace=False)] = 0
        found = verdict(answered(before), answered(after))
        assert found.word in ("REGRESSED", "INCONCLUSIVE"), found.sentence
        assert found.probability is not None
        assert found.probability > 1e-9


def test_an_untrained_setting_is_judged_by_its_items():
    """Zero-shot has no seed: ten points lost on 6,000 items are a loss, none lost are none."""
    draw = np.random.default_rng(6)
    ease = draw.normal(0, 1, 6000)

    def once(less: float) -> Measured:
        found = answered(answers(draw, seeds=1, items=6000, seed_sd=0.0, ease=ease - less, own=0.1))
        return found.model_copy(update={"runs": (found.runs[0].model_copy(update={"seed": None}),)})

    assert verdict(once(0.0), once(0.3)).word == "REGRESSED"
    assert verdict(once(0.0), once(0.0)).word == "PASS"


@pytest.mark.parametrize("factor", [1.05, 2.0, 20.0, 1000.0])
def test_a_higher_perplexity_regressed(factor: float):
    """Five per cent more or a thousand times as much, paired block by block."""
    draw = np.random.default_rng(4)
    nats = 3 + draw.normal(0, 0.5, 300) + draw.normal(0, 0.01, (3, 300))
    again = nats + draw.normal(0, 0.01, nats.shape)
    worse = again + math.log(factor) * (1 + draw.normal(0, 0.15, nats.shape))
    found = verdict(read(nats), read(worse))
    assert found.word == "REGRESSED"
    assert found.loss == pytest.approx(math.log(factor), rel=0.03)
    assert verdict(read(nats), read(again)).word == "PASS"


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ([100.0], STEADY, "one run"),
        ([100.0] * 8, STEADY, "same value"),
        (STEADY, [100.0] * 8, "same value"),
        ([0.0, *STEADY], STEADY, "not above 0"),
    ],
)
def test_hostile_runs_never_pass(was: list[float], now: list[float], says: str):
    """One run, no variance, a speed of nothing: one line says why nothing is said."""
    found = verdict(timed(was), timed(now), days(1.0, 1.001, 0.999, 1.0005))
    assert found.word == "INCONCLUSIVE"
    assert says in found.sentence
    assert "\n" not in found.sentence


def test_what_a_machine_may_hide_is_no_pass():
    """At most 4.6 % more memory, where the machine may have taken 1 % less today."""
    found = verdict(timed(STEADY, MEMORY), timed([1.0125 * each for each in STEADY], MEMORY))
    assert found.word == "INCONCLUSIVE"
    assert "and 4.6 %, and this machine may hide 1.0 % more" in found.sentence


@pytest.mark.parametrize("runs", [5, 40])
def test_as_many_runs_as_it_asks_for_decide(runs: int):
    """Of the code that is judged or, where the baseline has too few itself, of both sides."""
    draw = np.random.default_rng(runs)
    noise = days(*(1 + 0.0005 * draw.normal(size=40)))
    asked, decided, anew = 0, 0, 0
    for _ in range(60):
        before, now = (list(draw.normal(100, 1.5, count)) for count in (runs, 5))
        found = verdict(timed(before), timed(now), noise)
        if found.more_runs is None:
            continue
        asked, anew = asked + 1, anew + found.anew
        count = 5 + found.more_runs
        before = list(draw.normal(100, 1.5, count)) if found.anew else before
        again = verdict(timed(before), timed(list(draw.normal(100, 1.5, count))), noise)
        decided += again.word == "PASS"
    assert asked > 30
    assert decided > 0.75 * asked
    assert (anew > 0) == (runs == 5)


def test_a_line_at_its_margin_is_convicted_as_seldom_as_promised():
    """4 in 1,000 if it is the only one: the loss is as large as still counts for none."""
    draw = np.random.default_rng(0)
    logs = draw.normal(0, 0.01, (4000, 20, 2)) + np.array([math.log(1.01), 0])
    found = [
        decide([evidence(SPEED, [(a, b) for a, b in pairs.tolist()], "higher")])[0].word
        for pairs in np.exp(logs)
    ]
    assert 1 <= found.count("REGRESSED") <= 30
    assert FALSE_ALARMS <= 0.004
    assert FALSE_PASSES <= 0.0005


def test_another_machine_is_no_comparison():
    """Its accuracy is; its speed is not."""
    (found,) = judge(baseline(timed(STEADY), machine="there"), baseline(timed(slower(9.0))))
    assert found.word == "INCONCLUSIVE"
    assert "another machine" in found.sentence


def test_another_batch_size_is_no_comparison():
    """What was measured otherwise is named."""
    setup = {**SETUP, "train": {"batch_size": 16}}
    found = verdict(timed(STEADY), timed(STEADY, setup=setup))
    assert found.word == "INCONCLUSIVE"
    assert "train.batch_size 8 became 16" in found.sentence


def test_a_missing_line_is_missing():
    """What the baseline has and the suite no longer is no pass."""
    lost = Missing(place=SPEED.place, seed=2, why="oom_host: full")
    (found,) = judge(baseline(timed(STEADY)), baseline(missing=[lost]))
    assert found.word == "MISSING"
    assert found.sentence == "seed 2: oom_host: full"


def test_a_seed_that_failed_is_no_pass():
    """What is left of the line proves nothing of the seed that failed."""
    given = answers(np.random.default_rng(0), seeds=3, items=500, seed_sd=0.01)
    lost = Missing(place=PLUG_IN.place, seed=2, why="crashed: no reason given")
    others = Missing(place=PLUG_IN.place.model_copy(update={"task": "u"}), why="timeout: 3 s")
    found = judge(
        baseline(answered(given), timed(STEADY)),
        baseline(answered(given[:2]), timed(STEADY), missing=[lost, others]),
    )
    assert [each.word for each in found] == ["MISSING", "INCONCLUSIVE", "MISSING"]
    assert found[0].sentence == "seed 2: crashed: no reason given"
    assert found[2].sentence == "timeout: 3 s"


def test_a_reason_is_that_of_the_line_itself():
    """`tune` is in `finetune`, and other models fail for other reasons."""
    elsewhere = Missing(place=SPEED.place.model_copy(update={"model": "n"}), why="oom_host: 40 GB")
    own = Missing(place=SPEED.place, why="crashed: own reason")
    found = judge(baseline(timed(STEADY)), baseline(missing=[elsewhere, own]))
    assert found[0].sentence == "crashed: own reason"


def test_another_direction_is_no_comparison():
    """Else a loss is a gain."""
    for change in ({"better": "lower"}, {"unit": "points"}):
        found = verdict(timed(STEADY).model_copy(update=change), timed(STEADY))
        assert found.word == "INCONCLUSIVE"
        assert "became" in found.sentence


def test_a_loss_of_the_same_weights_within_the_margin_is_none():
    """14 of 20,000 answers are sure, and less than counts."""
    before = np.ones((1, 20_000))
    after = before.copy()
    after[0, :14] = 0
    found = verdict(answered(before, weights="w"), answered(after, weights="w"))
    assert found.word == "PASS"
    after[0, :100] = 0
    assert verdict(answered(before, weights="w"), answered(after, weights="w")).word == "REGRESSED"


def test_rounding_does_not_hide_answers_from_the_exact_test():
    """A value that another program rounded still has its answers."""
    before = answered(np.ones((1, 400)), weights="w")
    after = np.ones((1, 400))
    after[0, :20] = 0
    run = before.runs[0].model_copy(update={"value": 0.999999})
    found = verdict(before.model_copy(update={"runs": (run,)}), answered(after, weights="w"))
    assert found.word == "REGRESSED"


def test_a_new_line_is_not_judged():
    """What the baseline never had cannot pass either."""
    found = judge(baseline(timed(STEADY)), baseline(timed(STEADY), timed(STEADY, MEMORY)))
    assert [each.word for each in found[1:]] == ["INCONCLUSIVE"]


def test_the_same_records_have_the_same_verdict():
    """A hundred times, word for word."""
    draw = np.random.default_rng(5)
    sides = [
        baseline(
            timed(list(draw.normal(100, 2, 9))),
            answered(answers(draw, seeds=3, items=200, seed_sd=0.01)),
        )
        for _ in "ab"
    ]
    first = judge(*sides)
    assert all(judge(*sides) == first for _ in range(100))
