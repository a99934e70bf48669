"""Baseline and current, line by line: worse, better, the same, or not to be told.

A line regressed if its loss is beyond the margin for sure, with Holm's correction over all lines.
It passes if a loss as large as its limit would have been seen, and is ruled out. Everything else
is inconclusive and says what would decide it.

Where the GPU's clock is known, a speed is judged in time and in cycles. Slower in time alone is
inconclusive, for the gate judges the code; so is slower in cycles alone, unless the runs show that
this line's speed follows the clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from reports.gate.baseline import Baseline
from reports.gate.cycles import DOUBT
from reports.gate.evidence import (
    FEWEST_RUNS,
    Evidence,
    Found,
    Verdict,
    evidence_of,
    unforeseen,
    unknown,
)
from reports.gate.noise import Noise
from reports.gate.rules import FALSE_ALARMS, FALSE_PASSES, Rule
from reports.gate.samples import detectable, would_decide
from reports.statistics.certainty import exceeds, is_known
from reports.statistics.intervals import Spread, reach
from reports.statistics.ties import holm


def judge(baseline: Baseline, current: Baseline, noise: Noise | None = None) -> list[Verdict]:
    """One verdict for every line of the baseline, then those that only the current one has.

    Args:
        baseline: what was.
        current: what is now.
        noise: how far this machine drifts between two sessions, if that was measured.
    """
    return [*decide(evidence_of(baseline, current, noise)), *unforeseen(baseline, current)]


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


def _worse(evidence: Evidence) -> float:
    if evidence.exact is None:
        return _beyond(evidence, 1)
    # The exact test is against no loss at all, and a loss within the margin is none.
    return evidence.exact.probability() if evidence.spread.mean > evidence.margin else 1.0


def _better(evidence: Evidence) -> float:
    if evidence.exact is None:
        return _beyond(evidence, -1)
    return evidence.exact.probability(-1) if -evidence.spread.mean > evidence.margin else 1.0


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
        return unknown(evidence.line, "one pair says nothing of the spread", more=FEWEST_RUNS - 1)
    if evidence.exact is None and not is_known(evidence.spread.parts):
        said = f"all {evidence.unit} are alike to the last digit, on one side or as a ratio"
        return unknown(evidence.line, f"{said}: that was not measured")
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
    decides, more, anew = would_decide(evidence, level)
    return replace(verdict, sentence=f"{said}; {decides}", more_runs=more, anew=anew)


def _proof(evidence: Evidence, worse: float) -> str:
    """What convicted a line, in words: the bound beyond its margin, or the answers."""
    answers = evidence.exact
    if answers is not None:
        count = answers.items * answers.seeds
        return f": {answers.lost:,} of {count:,} answers lost, {answers.won:,} won"
    # So often its own bound may err, as there are other lines.
    bound = evidence.bound(FALSE_ALARMS * _worse(evidence) / worse, -1)
    return f", by {evidence.rule.text(bound)} at least"


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
