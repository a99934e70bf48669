"""How large a loss could be seen, and how many runs, seeds or items would let a smaller one be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from scipy.stats import chi2

from reports.gate.baseline import BENCHMARK
from reports.gate.evidence import Evidence
from reports.gate.lines import Line
from reports.gate.rules import FALSE_PASSES, POWER
from reports.statistics.answers import MOST_ITEMS, Answers
from reports.statistics.certainty import first
from reports.statistics.intervals import Part, Spread, reach

MOST_RUNS = 1000
"""More are not asked for."""


def detectable(evidence: Evidence, level: float) -> float:
    """The smallest loss that would be called a regression in POWER of all cases."""
    if evidence.exact is not None:
        return max(evidence.margin, evidence.exact.smallest(level, POWER))
    return evidence.margin + max(_visible(each.parts, level) for each in evidence.spreads)


def runs_to_see(evidence: Evidence, level: float, loss: float) -> int | None:
    """How many runs or seeds in all would let a loss be seen; None if no number would.

    A spread known from few runs may be larger: it is taken as large as it is in four of five cases.

    Args:
        evidence: what is known of the line.
        level: the probability below which it regressed.
        loss: how large one.
    """

    def sees(n: int) -> bool:
        grown = (_grown(evidence, each, n, anew=True) for each in evidence.spreads)
        return evidence.margin + max(_visible(each.parts, level) for each in grown) <= loss

    return first(range(evidence.spread.n + 1, MOST_RUNS), sees)


def runs_to_decide(evidence: Evidence, level: float, *, anew: bool) -> int | None:
    """How many runs or seeds in all would decide if the loss is what it seems; None if none would.

    Args:
        evidence: what is known of the line.
        level: the probability below which it regressed.
        anew: whether the baseline is saved again with as many; else it stays as it is.
    """
    limit, most = evidence.rule.limit_loss, MOST_RUNS
    if evidence.is_paired and evidence.bank and not anew:
        # A seed that the baseline does not have says nothing.
        most = evidence.bank + 1

    def decides(n: int) -> bool:
        grown = [_grown(evidence, each, n, anew=anew) for each in evidence.spreads]
        visible = max(_visible(each.parts, level) for each in grown)
        luck = [reach(each.parts, 1 - POWER) for each in grown]
        highest = max(
            each.mean + reach(each.parts, FALSE_PASSES) + more
            for each, more in zip(grown, luck, strict=True)
        )
        lowest = min(each.mean - _visible(each.parts, level) for each in grown)
        passes = evidence.margin + visible <= limit and highest + evidence.shift < limit
        return passes or lowest > evidence.margin

    return first(range(evidence.spread.n + 1, most), decides)


def would_decide(evidence: Evidence, level: float) -> tuple[str, int | None, bool]:
    """What would, in words; how many more runs or seeds that is, and whether of both sides."""
    have, unit = evidence.spread.n, evidence.unit
    if evidence.exact is not None:
        return _more_items(evidence, evidence.exact, level), None, False
    needed = runs_to_decide(evidence, level, anew=not evidence.bank)
    if needed is not None and not evidence.bank:
        return f"{needed} fresh pairs would decide: --pairs {needed}", needed - have, False
    if needed is not None:
        return f"{needed - have} more {unit} would decide", needed - have, False
    needed = runs_to_decide(evidence, level, anew=True) if evidence.bank else None
    if needed is None:
        return _hopeless(evidence), None, False
    said = f"{needed} {unit} on both sides would decide"
    more = f": save the baseline again, with --runs {needed}"
    return (said + more if unit == "runs" else said), needed - have, True


def _visible(parts: Sequence[Part], level: float) -> float:
    """How far beyond the margin a loss has to be to be seen in POWER of all cases."""
    return reach(parts, level) + reach(parts, 1 - POWER)


def _grown(evidence: Evidence, spread: Spread, n: int, *, anew: bool) -> Spread:
    """With so many runs; some parts of the variance stay."""
    moving = len(spread.parts) - evidence.fixed
    times = [n / spread.n] * moving
    if evidence.bank and not evidence.is_paired:
        times[1:] = [n / evidence.bank] * anew
    stay = spread.parts[len(times) :]
    return replace(spread, parts=(*map(_of_more, spread.parts, times), *stay))


def _of_more(part: Part, times: float) -> Part:
    """A part of the variance with so many times the runs."""
    return Part(_at_most(part) / times, (part.freedom + 1) * times - 1, part.least / times)


@lru_cache(maxsize=1024)
def _at_most(part: Part) -> float:
    """What a variance is at most, in four of five cases."""
    return part.variance * part.freedom / float(chi2.ppf(0.2, part.freedom))


def _more_items(evidence: Evidence, answers: Answers, level: float) -> str:
    """How many items would tell."""
    limit = evidence.rule.limit_loss
    needed = answers.items_needed(level, FALSE_PASSES, POWER, limit)
    if needed is None:
        return f"not even {MOST_ITEMS:,} items would decide that"
    return f"{needed:,} items would decide, not {answers.items:,}"


def _hopeless(evidence: Evidence) -> str:
    if evidence.unit == "seeds":
        return "no number of seeds decides that on so few items"
    if evidence.shift and not evidence.bank:
        return f"two runs in turn differ here by up to {evidence.rule.text(evidence.shift)} anyway"
    if evidence.shift:
        return f"this machine may drift as much between two sessions{_instead(evidence.line)}"
    return f"not even {MOST_RUNS} runs decide that on so noisy a machine"


def _instead(line: Line) -> str:
    """What works where the drift is not known; nothing does for files of benchmarks."""
    return "" if line.stage == BENCHMARK else ": `calibrate`, or use `ab`"
