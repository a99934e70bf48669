"""Baseline and current, line by line: worse, better, the same, or not to be told.

A line regressed if its loss is beyond the margin for sure, with Holm's correction over all lines.
It passes if a loss as large as its limit would have been seen, and is ruled out. Everything else
is inconclusive and says what would decide it.

Where the GPU's clock is known, a speed is judged in time and in cycles. Slower in time alone is
inconclusive, for the gate judges the code; so is slower in cycles alone, unless the runs show that
this line's speed follows the clock.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from scipy.stats import chi2

from reports.flat import flat
from reports.gate.baseline import BENCHMARK, Baseline, Measured, Missing
from reports.gate.cycles import DOUBT, Clocked, of_clocked_runs
from reports.gate.lines import Line
from reports.gate.noise import Noise
from reports.gate.rules import (
    FALSE_ALARMS,
    FALSE_PASSES,
    POWER,
    SPEED,
    Rule,
    rule_of,
)
from reports.statistics.certainty import exceeds, is_known, reach
from reports.statistics.intervals import Part, Scores, Spread
from reports.statistics.losses import (
    Answers,
    answer_alike,
    is_identical,
    loss_of,
    of_runs,
    of_trainings,
)
from reports.statistics.ties import holm

Word = Literal["PASS", "REGRESSED", "IMPROVED", "INCONCLUSIVE", "MISSING"]

FEWEST_RUNS = 5
MOST_RUNS = 1000
"""More are not asked for."""
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
        ends = (sign * each.mean + reach(each.parts, probability) for each in self.spreads)
        return sign * max(ends)


Found = Evidence | Verdict


def judge(baseline: Baseline, current: Baseline, noise: Noise | None = None) -> list[Verdict]:
    """One verdict for every line of the baseline, then those that only the current one has.

    Args:
        baseline: what was.
        current: what is now.
        noise: how far this machine drifts between two sessions, if that was measured.
    """
    return [*decide(evidence_of(baseline, current, noise)), *unforeseen(baseline, current)]


def evidence_of(baseline: Baseline, current: Baseline, noise: Noise | None = None) -> list[Found]:
    """What is known of every line of the baseline, before all are looked at together."""
    now = current.by_line()
    return [
        _evidence(was, now.get(was.line), baseline, current, noise) for was in baseline.measured
    ]


def decide(found: Sequence[Found]) -> list[Verdict]:
    """The verdicts of all lines together."""
    open_ = [each for each in found if isinstance(each, Evidence)]
    worse = holm([_worse(each) for each in open_])
    better = holm([_better(each) for each in open_])
    level = FALSE_ALARMS / max(len(open_), 1)
    verdicts = iter(
        _verdict(each, p_worse, p_better, level)
        for each, p_worse, p_better in zip(open_, worse, better, strict=True)
    )
    return [next(verdicts) if isinstance(each, Evidence) else each for each in found]


def detectable(evidence: Evidence, level: float) -> float:
    """The smallest loss that would be called a regression in POWER of all cases."""
    if evidence.exact is not None:
        return max(evidence.margin, evidence.exact.smallest(level))
    return evidence.margin + max(_visible(each.parts, level) for each in evidence.spreads)


def runs_needed(
    evidence: Evidence, level: float, loss: float | None = None, *, anew: bool = False
) -> int | None:
    """How many runs or seeds in all would let a loss be seen; None if no number would.

    A spread known from few runs may be larger: it is taken as large as it is in four of five cases.

    Args:
        evidence: what is known of the line.
        level: the probability below which it regressed.
        loss: the rule's limit if not given.
        anew: whether the baseline is saved again with as many; else it stays as it is.
    """
    wanted = evidence.rule.limit_loss if loss is None else loss
    most = MOST_RUNS
    if evidence.is_paired and evidence.bank and not anew:
        # A seed that the baseline does not have says nothing.
        most = evidence.bank + 1

    def sees(n: int) -> bool:
        grown = [_grown(evidence, each.parts, n, anew=anew) for each in evidence.spreads]
        return evidence.margin + max(_visible(parts, level) for parts in grown) <= wanted

    numbers = range(evidence.spread.n + 1, most)
    place = bisect_left(numbers, True, key=sees)
    return numbers[place] if place < len(numbers) else None


def _visible(parts: Sequence[Part], level: float) -> float:
    """How far beyond the margin a loss has to be to be seen in POWER of all cases."""
    return reach(parts, level) + reach(parts, 1 - POWER)


def _grown(evidence: Evidence, parts: Sequence[Part], n: int, *, anew: bool) -> tuple[Part, ...]:
    """The parts of the variance with so many runs; some of them stay."""
    moving = len(parts) - evidence.fixed
    times = [n / evidence.spread.n] * moving
    if evidence.bank and not evidence.is_paired:
        times[1:] = [n / evidence.bank] * anew
    return (*map(_of_more, parts, times), *parts[len(times) :])


def _of_more(part: Part, times: float) -> Part:
    """A part of the variance with so many times the runs."""
    return Part(_at_most(part) / times, (part.freedom + 1) * times - 1, part.least / times)


@lru_cache(maxsize=1024)
def _at_most(part: Part) -> float:
    """What a variance is at most, in four of five cases."""
    return part.variance * part.freedom / float(chi2.ppf(0.2, part.freedom))


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
        return _unknown(line, f"measured otherwise: {changed}; save a new baseline")
    if rule.is_machine_bound:
        if baseline.machine != current.machine:
            use = "" if line.stage == BENCHMARK else "use `ab`, or "
            return _unknown(line, f"the baseline is of another machine; {use}save one here")
        return _of_runs(was, is_now, rule, noise.drift(line, was.measured_how) if noise else None)
    return _of_scores(was, is_now, rule)


def _of_runs(was: Measured, is_now: Measured, rule: Rule, drift: Part | None) -> Found:
    line = was.line
    values = [[run.value for run in each.runs] for each in (was, is_now)]
    fewest = min(map(len, values))
    if fewest < 2:
        return _unknown(line, "one run says nothing of the spread", more=FEWEST_RUNS - 1)
    if min(values[0] + values[1]) <= 0:
        return _unknown(line, "a value is not above 0")
    if any(len(set(side)) == 1 for side in values) and not rule.grain:
        return _unknown(line, "all runs of a side have the same value: that was not measured")
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
        same = f"all {items:,} items of {len(sides[0].values)} evaluations have the same score"
        return Verdict(line=line, word="PASS", sentence=same, loss=0.0, detectable=0.0)
    is_again = _same_weights(was, is_now)
    # Where nothing was trained in between, the items are all that is left to chance. On one machine
    # a training repeats to the last digit; on others the same seed is another draw.
    is_paired = is_again or set(sides[0].values) == {None} or answer_alike(*sides)
    spread = (loss_of if is_paired else of_trainings)(*sides, was.better)
    if spread is None or not spread.parts:
        return _unknown(line, "one training a side says nothing of others; add seeds", more=2)
    if rule.is_ratio:
        spread = _relative(spread, sum(sides[0].values.values()) / len(sides[0].values))
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


def _relative(spread: Spread, scale: float) -> Spread:
    """A difference as the logarithm of a ratio, to first order."""
    square = scale**2
    parts = tuple(
        Part(part.variance / square, part.freedom, part.least / square) for part in spread.parts
    )
    return replace(spread, mean=math.log1p(max(spread.mean / scale, -0.99)), parts=parts)


def _worse(evidence: Evidence) -> float:
    if evidence.exact is None:
        return _beyond(evidence, 1)
    # The exact test is against no loss at all, and a loss within the margin is none.
    return evidence.exact.probability if evidence.spread.mean > evidence.margin else 1.0


def _better(evidence: Evidence) -> float:
    return _beyond(evidence, -1)


def _beyond(evidence: Evidence, sign: int) -> float:
    """Probability of such a loss (a gain with sign -1) were the code's own within the margin."""
    found = max(_exceeds(each, evidence.margin, sign) for each in evidence.spreads)
    # Time and cycles both have to be beyond the margin. The larger of two probabilities needs no
    # correction for there being two: the code's loss lies between, so that one of the two tests is
    # of a true hypothesis, and that one alone errs as seldom as it should (intersection-union,
    # Berger 1982). A share outside its interval is added for (Berger and Boos 1994). Holm's
    # correction over the two would let either convict alone: then a line that waits for the
    # processor, not the GPU, lost 14 % in cycles when the clock rose from 1,740 to 1,980 MHz.
    return found if evidence.clocked is None else found + DOUBT


def _exceeds(spread: Spread, margin: float, sign: int = 1) -> float:
    return exceeds(spread if sign > 0 else gained(spread), margin)


def gained(spread: Spread) -> Spread:
    """A loss as a gain."""
    return replace(spread, mean=-spread.mean)


def _verdict(evidence: Evidence, worse: float, better: float, level: float) -> Verdict:
    rule = evidence.rule
    if evidence.spread.n == 1 and not evidence.spread.parts:
        return _unknown(evidence.line, "one pair says nothing of the spread", more=FEWEST_RUNS - 1)
    if evidence.exact is None and not is_known(evidence.spread.parts):
        said = f"all {evidence.unit} show one and the same loss, which is no measurement"
        return _unknown(evidence.line, f"{said} of their spread")
    smallest = detectable(evidence, level)
    highest = evidence.bound(FALSE_PASSES)
    between = f"between {rule.text(evidence.bound(FALSE_PASSES, -1))} and {rule.text(highest)}"
    verdict = Verdict(
        line=evidence.line,
        word="INCONCLUSIVE",
        sentence="",
        loss=evidence.spread.mean,
        # That even the loss of every answer would not be seen is no size of a loss.
        detectable=smallest if rule.is_ratio or smallest <= 1 else None,
        probability=worse,
    )
    if worse < FALSE_ALARMS:
        where, loss = _shown(evidence, 1)
        counts = f"more than {rule.text(evidence.margin)} counts"
        proof = _proof(evidence, worse)
        said = f"{where}worse by {rule.text(loss)}{proof}; {counts}{_why(evidence, where)}"
        return replace(verdict, word="REGRESSED", sentence=said, loss=loss)
    if better < FALSE_ALARMS:
        where, loss = _shown(evidence, -1)
        said = f"{where}better by {rule.text(-loss)}; save a new baseline to keep it"
        return replace(verdict, word="IMPROVED", sentence=said, loss=loss)
    said = _of_the_clock(evidence, level)
    if said:
        return replace(verdict, sentence=said)
    if highest + evidence.shift < rule.limit_loss and smallest <= rule.limit_loss:
        said = f"no loss of {rule.text(rule.limit_loss)}: it is {between}"
        return replace(verdict, word="PASS", sentence=said)
    said = f"a loss of {rule.text(rule.limit_loss)} could go unseen: it is {between}"
    if evidence.shift and highest < rule.limit_loss:
        said = f"{said}, and this machine may hide {rule.text(evidence.shift)} more"
    return _undecided(replace(verdict, sentence=said), evidence, level)


def _undecided(verdict: Verdict, evidence: Evidence, level: float) -> Verdict:
    """The verdict with what would decide it."""
    said, clocked = verdict.sentence, evidence.clocked
    if clocked and clocked.apart > evidence.rule.margin_loss:
        return replace(verdict, sentence=f"{said}, as {clocked.clocks}")
    decides, more, anew = _would_decide(evidence, level)
    return replace(verdict, sentence=f"{said}; {decides}", more_runs=more, anew=anew)


def _proof(evidence: Evidence, worse: float) -> str:
    """What convicted a line, in words: the bound beyond its margin, or the answers."""
    answers = evidence.exact
    if answers is not None:
        return f": {answers.lost:,} of {answers.count:,} answers lost, {answers.won:,} won"
    # So often its own bound may err, as there are other lines.
    bound = evidence.bound(FALSE_ALARMS * _worse(evidence) / worse, -1)
    return f", by {evidence.rule.text(bound)} at least"


def _would_decide(evidence: Evidence, level: float) -> tuple[str, int | None, bool]:
    """What would, in words; how many more runs or seeds that is, and whether of both sides."""
    have, unit = evidence.spread.n, evidence.unit
    if evidence.exact is not None:
        return _more_items(evidence, evidence.exact, level), None, False
    needed = runs_needed(evidence, level)
    if needed is not None and not evidence.bank:
        return f"{needed} fresh pairs would decide: --pairs {needed}", needed - have, False
    if needed is not None:
        return f"{needed - have} more {unit} would decide", needed - have, False
    needed = runs_needed(evidence, level, anew=True) if evidence.bank else None
    if needed is None:
        return _hopeless(evidence), None, False
    said = f"{needed} {unit} on both sides would decide"
    more = f": save the baseline again, with --runs {needed}"
    return (said + more if unit == "runs" else said), needed - have, True


def _more_items(evidence: Evidence, answers: Answers, level: float) -> str:
    """How many items would let a loss as large as the limit be seen."""
    items = len(answers.changes)
    needed = math.ceil(items * detectable(evidence, level) / evidence.rule.limit_loss)
    if needed > items:
        return f"{needed:,} items would decide, not {items:,}"
    return "neither more runs nor more seeds decide that; score more items"


def _shown(evidence: Evidence, sign: int) -> tuple[str, float]:
    """The loss to name: in time or, if it is seen there alone, in cycles."""
    clocked = evidence.clocked
    if clocked is None or _exceeds(evidence.spread, evidence.margin, sign) < FALSE_ALARMS:
        return "", evidence.spread.mean
    return "in cycles ", clocked.cycles.mean


def _why(evidence: Evidence, where: str) -> str:
    """Of a line that regressed: what the clock or, without one, the canary says to that."""
    clocked = evidence.clocked
    if clocked is None:
        return evidence.note
    if where:
        hidden = ", which hid it in time" if clocked.now > clocked.base else ""
        return f"; {clocked.clocks}{hidden}"
    if _exceeds(clocked.cycles, evidence.margin) < FALSE_ALARMS:
        return f"; in cycles too, by {evidence.rule.text(clocked.cycles.mean)}: the code"
    return "; its speed does not follow the GPU's clock: the code"


def _of_the_clock(evidence: Evidence, level: float) -> str:
    """That time says one thing and cycles another; empty if they do not."""
    clocked, rule = evidence.clocked, evidence.rule
    if clocked is None:
        return ""
    time, cycles, margin = evidence.spread, clocked.cycles, evidence.margin
    if (
        clocked.now < clocked.base
        and cycles.mean <= margin < time.mean
        and exceeds(time, margin) < level
    ):
        doubt = reach(time.parts, FALSE_PASSES)
        between = f"between {rule.text(time.mean - doubt)} and {rule.text(time.mean + doubt)}"
        lost = f"{_moved(rule, time)}, {between}; in cycles {_moved(rule, cycles)}"
        lost = f"{lost}: {clocked.clocks}"
        if clocked.is_in_turn:
            # What the machine does by itself it does to both sides of a turn.
            return f"{lost}, and since they ran in turn the code may have lowered its clock"
        return f"{lost}, so it is the machine and not the code if this line follows the clock"
    if clocked.now > clocked.base and exceeds(clocked.bounds[1], margin) < level:
        lost = f"in cycles {_moved(rule, cycles)}, in time {_moved(rule, time)}: {clocked.clocks}"
        return f"{lost}, which hides a loss if this line follows the clock; compare at one clock"
    return ""


def _moved(rule: Rule, found: Spread) -> str:
    """To which side, and how far."""
    return f"{'worse' if found.mean > 0 else 'better'} by {rule.text(abs(found.mean))}"


def _hopeless(evidence: Evidence) -> str:
    if evidence.unit == "seeds":
        return "no number of seeds decides that on so few items"
    if evidence.margin >= evidence.rule.limit_loss and not evidence.bank:
        return f"two runs in turn differ here by up to {evidence.rule.text(evidence.shift)} anyway"
    if evidence.margin >= evidence.rule.limit_loss:
        return f"this machine may drift as much between two sessions{_instead(evidence.line)}"
    return f"not even {MOST_RUNS} runs decide that on so noisy a machine"


def _instead(line: Line) -> str:
    """What works where the drift is not known; nothing does for files of benchmarks."""
    return "" if line.stage == BENCHMARK else ": `calibrate`, or use `ab`"


def _unknown(line: Line, sentence: str, *, more: int | None = None) -> Verdict:
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
