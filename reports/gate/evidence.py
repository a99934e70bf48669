"""What is known of a line before all lines are judged together: how much was lost, how surely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from reports.flat import flat
from reports.gate.baseline import BENCHMARK, Baseline, Measured, Missing
from reports.gate.cycles import Clocked, of_clocked_runs
from reports.gate.lines import Line
from reports.gate.noise import Noise
from reports.gate.rules import SPEED, Rule, rule_of
from reports.statistics.answers import Answers
from reports.statistics.certainty import exceeds
from reports.statistics.intervals import Part, Scores, Spread, reach
from reports.statistics.losses import (
    answer_alike,
    is_identical,
    logarithms,
    loss_of,
    of_runs,
    of_trainings,
)

Word = Literal["PASS", "REGRESSED", "IMPROVED", "INCONCLUSIVE", "MISSING"]
FEWEST_RUNS = 5
COINCIDENCE = 0.01
"""So seldom is a canary called slower that is not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be said of one line."""

    line: Line
    word: Word
    sentence: str
    loss: float | None = None
    """Positive is worse: of a rate in fractions, else the logarithm of a ratio."""
    detectable: float | None = None
    """The smallest loss that would have been called a regression nearly always."""
    probability: float | None = None
    """Corrected: of such a loss where there is none beyond the margin."""
    more_runs: int | None = None
    """So many more would decide."""
    anew: bool = False
    """Of the baseline too, which has to be saved again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of one line before all lines are looked at together."""

    line: Line
    rule: Rule
    spread: Spread
    margin: float
    """The rule's, and what the machine drifts."""
    unit: Literal["runs", "seeds"]
    fixed: int = 0
    """So many parts of the variance, the last ones, stay as they are however many are added."""
    bank: int = 0
    """Runs or seeds of the baseline, which stays as it is; 0 where both sides are run in turn."""
    is_paired: bool = False
    """Whether the seeds are those of the baseline. Else the second part is the baseline's own."""
    shift: float = 0.0
    """The machine may hide so much of a loss, however often one runs."""
    exact: Answers | None = None
    """Of the same weights: an exact test of their answers takes the place of the mean's."""
    clocked: Clocked | None = None
    """Of a speed on a GPU whose clock is known in all runs."""
    note: str = ""
    """Follows the sentence of a line that regressed where no clock explains it."""

    @property
    def spreads(self) -> tuple[Spread, ...]:
        """Between which the code's loss lies: one where nothing is known of a clock."""
        return (self.spread,) if self.clocked is None else self.clocked.bounds

    def bound(self, probability: float, sign: int = 1) -> float:
        """The loss is above it (below with sign -1) with this probability."""
        if self.exact is not None:
            return self.exact.bound(probability, sign)
        ends = (sign * each.mean + reach(each.parts, probability) for each in self.spreads)
        return sign * max(ends)


Found = Evidence | Verdict


def evidence_of(baseline: Baseline, current: Baseline, noise: Noise | None = None) -> list[Found]:
    """What is known of every line of the baseline, before all are looked at together."""
    now = current.by_line()
    return [
        _evidence(was, now.get(was.line), baseline, current, noise) for was in baseline.measured
    ]


def _evidence(
    was: Measured,
    is_now: Measured | None,
    baseline: Baseline,
    current: Baseline,
    noise: Noise | None,
) -> Found:
    line, rule = was.line, rule_of(was.line.metric)
    lost = [each for each in current.missing if each.place == line.place]
    if lost:
        return _lost(line, lost)
    if is_now is None:
        return Verdict(line=line, word="MISSING", sentence="in the baseline, and not measured now")
    changed = changes(setup_of(was), setup_of(is_now))
    if changed:
        return unknown(line, f"measured otherwise: {changed}; save a new baseline")
    if rule.is_machine_bound:
        if baseline.machine != current.machine:
            use = "" if line.stage == BENCHMARK else "use `ab`, or "
            return unknown(line, f"the baseline is of another machine; {use}save one here")
        return _of_runs(was, is_now, rule, noise.drift(line, was.measured_how) if noise else None)
    return _of_scores(was, is_now, rule)


def _of_runs(was: Measured, is_now: Measured, rule: Rule, drift: Part | None) -> Found:
    line = was.line
    values = [[run.value for run in each.runs] for each in (was, is_now)]
    fewest = min(map(len, values))
    if fewest < 2:
        return unknown(line, "one run says nothing of the spread", more=FEWEST_RUNS - 1)
    if min(values[0] + values[1]) <= 0:
        return unknown(line, "a value is not above 0")
    if any(len(set(side)) == 1 for side in values) and not rule.grain:
        return unknown(line, "all runs of a side have the same value: that was not measured")
    spread = of_runs(values[0], values[1], was.better)
    shift = rule.drift_loss if drift is None else 0.0
    # What stays however many runs are made: how finely one is counted, and what days differ by.
    fixed = [*grain(rule), *([] if drift is None else [drift])]
    clocked = _clocked(was, is_now, rule)
    return Evidence(
        line=line,
        rule=rule,
        spread=replace(spread, parts=(*spread.parts, *fixed)),
        margin=rule.margin_loss + shift,
        unit="runs",
        fixed=len(fixed),
        bank=len(values[0]),
        shift=shift,
        clocked=clocked and clocked.with_parts(fixed),
        note=_canary(was, is_now, rule),
    )


def grain(rule: Rule) -> tuple[Part, ...]:
    """The part of a variance that runs which are all alike still have; none if they may not be."""
    return (Part(rule.grain**2, math.inf),) if rule.grain else ()


def _clocked(was: Measured, is_now: Measured, rule: Rule) -> Clocked | None:
    """Of a speed all of whose runs have a clock."""
    values = [[run.value for run in each.runs] for each in (was, is_now)]
    clocks = [[run.clock for run in each.runs if run.clock] for each in (was, is_now)]
    if rule is not SPEED or [*map(len, clocks)] != [*map(len, values)]:
        return None
    return of_clocked_runs((values[0], values[1]), (clocks[0], clocks[1]), was.better)


def _canary(was: Measured, is_now: Measured, rule: Rule) -> str:
    """That a fixed piece of work was slower too, if it was by more than counts."""
    seconds = [[run.canary for run in each.runs if run.canary] for each in (was, is_now)]
    if rule is not SPEED or min(map(len, seconds)) < 2:
        return ""
    found = of_runs(seconds[0], seconds[1], "lower")
    if exceeds(found, rule.margin_loss) > COINCIDENCE:
        return ""
    return f"; the canary was {rule.text(found.mean)} slower too: measure again or use `ab`"


def _of_scores(was: Measured, is_now: Measured, rule: Rule) -> Found:
    line = was.line
    sides = (was.scores(), is_now.scores())
    if is_identical(*sides):
        items = len(next(iter(sides[0].by_item.values())))
        times = len(sides[0].values)
        which = f"all {items:,} items" + f" of {times} seeds" * (times > 1)
        same = f"{which} have the same score"
        return Verdict(line=line, word="PASS", sentence=same, loss=0.0, detectable=0.0)
    if rule.is_ratio:
        sides = (logarithms(sides[0]), logarithms(sides[1]))
    is_again = _same_weights(was, is_now)
    # Where nothing was trained in between, the items are all that is left to chance. On one machine
    # a training repeats to the last digit; on others the same seed is another draw.
    is_paired = is_again or set(sides[0].values) == {None} or answer_alike(*sides)
    spread = (loss_of if is_paired else of_trainings)(*sides, was.better)
    if spread is None or not spread.parts:
        return unknown(line, "one training a side says nothing of others; add seeds", more=2)
    of_seeds = 0 if None in sides[0].values else 1 if is_paired else 2
    return Evidence(
        line=line,
        rule=rule,
        spread=spread,
        margin=rule.margin_loss,
        unit="seeds",
        fixed=len(spread.parts) - of_seeds,
        bank=len(sides[0].values),
        is_paired=is_paired,
        exact=_exact(was, *sides) if is_again else None,
    )


def _same_weights(was: Measured, is_now: Measured) -> bool:
    """Whether the very weights were scored again that the baseline scored."""
    weights = [{run.seed: run.weights for run in each.runs} for each in (was, is_now)]
    return weights[0] == weights[1] and all(weights[0].values())


def _exact(was: Measured, before: Scores, after: Scores) -> Answers | None:
    """The answers; None if items are not answered right or wrong."""
    binary = all(run.items is not None and run.items.encoding == "bits" for run in was.runs)
    if not binary or not before.by_item or before.documents != after.documents:
        return None
    seeds = list(before.by_item)
    return Answers.of(*(np.stack([side.by_item[s] for s in seeds]) for side in (before, after)))


def unknown(line: Line, sentence: str, *, more: int | None = None) -> Verdict:
    """That a line cannot be judged, and why."""
    return Verdict(line=line, word="INCONCLUSIVE", sentence=sentence, more_runs=more)


def setup_of(measured: Measured) -> dict[str, Any]:
    """How a line was measured, by dotted names."""
    unit = {"unit": measured.unit, "better": measured.better}
    return {**dict(flat(measured.setup)), **unit}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """What of two setups is not the same; empty if all is."""
    names = [
        name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)
    ]
    return ", ".join(f"{name} {before.get(name)} became {after.get(name)}" for name in names[:3])


def unforeseen(baseline: Baseline, current: Baseline) -> list[Verdict]:
    """Of what the baseline does not have: lines that are new, and stages that failed."""
    lines = {each.line for each in baseline.measured}
    places = {line.place for line in lines}
    new = [
        Verdict(line=line, word="INCONCLUSIVE", sentence="not in the baseline; save a new one")
        for line in current.by_line()
        if line not in lines
    ]
    lost: dict[Line, list[Missing]] = {}
    for each in current.missing:
        if each.place not in places:
            lost.setdefault(each.place, []).append(each)
    return [*new, *(_lost(place, found) for place, found in lost.items())]


def _lost(line: Line, missing: Sequence[Missing]) -> Verdict:
    """Of a line some of whose runs, or all, are missing."""
    seeds = [f"seed {each.seed}" for each in missing if each.seed is not None]
    which = f"{', '.join(seeds)}: " if seeds else ""
    reasons = "; ".join(dict.fromkeys(each.why for each in missing))
    return Verdict(line=line, word="MISSING", sentence=f"{which}{reasons}")
