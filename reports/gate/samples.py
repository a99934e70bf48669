"""How large a loss could be seen, and how many runs, seeds or items would let a smaller one be."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import lru_cache

from scipy.stats import chi2

from reports.gate.baseline import BENCHMARK
from reports.gate.evidence import Evidence
from reports.gate.lines import Line
from reports.gate.rules import POWER
from reports.statistics.certainty import reach
from reports.statistics.intervals import Part
from reports.statistics.losses import Answers

MOST_RUNS = 1000
"""More are not asked for."""


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


def would_decide(evidence: Evidence, level: float) -> tuple[str, int | None, bool]:
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


def _more_items(evidence: Evidence, answers: Answers, level: float) -> str:
    """How many items would let a loss as large as the limit be seen."""
    items = len(answers.changes)
    needed = math.ceil(items * detectable(evidence, level) / evidence.rule.limit_loss)
    if needed > items:
        return f"{needed:,} items would decide, not {items:,}"
    return "neither more runs nor more seeds decide that; score more items"


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
