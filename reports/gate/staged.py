"""Base and candidate in turn: a few pairs for every line, many fresh ones for the suspicious.

Only the fresh pairs decide: those that raised the suspicion were chosen for looking bad. How many
are made follows from how far apart the first ones were and then, as six say little of that, from
how far apart the fresh ones are; whether these look good or bad has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from reports.gate.baseline import Line
from reports.gate.cycles import of_clocked_pairs
from reports.gate.judge import Evidence, Found, Verdict, decide, detectable, grain, runs_needed
from reports.gate.rules import FALSE_ALARMS, FALSE_PASSES, SPEED, rule_of
from reports.statistics.certainty import exceeds, reach
from reports.statistics.intervals import Better
from reports.statistics.losses import of_pairs

FIRST_PAIRS = 6
"""Of every line."""
FEWEST_PAIRS = 20
"""Fresh ones of a suspicious line."""
MOST_PAIRS = 150
SUSPICIOUS = 0.10
"""A line is looked at again if chance alone would do as much so seldom."""

Pair = tuple[float, float]
"""Base and candidate."""
P = TypeVar("P")
"""A pair of runs with whatever is known of them."""


def evidence(
    line: Line,
    pairs: Sequence[Pair],
    better: Better,
    offset: float = 0.0,
    clocks: Sequence[Pair] = (),
) -> Evidence:
    """What pairs say of a line.

    Args:
        line: which.
        pairs: base and candidate.
        better: which way the metric points.
        offset: a loss that this machine shows though nothing differs.
        clocks: the GPU's in MHz, as the pairs; none unless all are known.
    """
    rule = rule_of(line.metric)
    margin = max(rule.margin_loss, offset)
    spread, fixed = of_pairs(pairs, better), grain(rule)
    clocked = of_clocked_pairs(pairs, clocks, better) if clocks and rule is SPEED else None
    return Evidence(
        line=line,
        rule=rule,
        # One pair says nothing, however finely it is counted.
        spread=replace(spread, parts=(*spread.parts, *fixed)) if spread.parts else spread,
        margin=margin,
        unit="runs",
        fixed=len(fixed),
        clocked=clocked,
    )


def in_rounds(
    first: Mapping[Line, Evidence],
    make: Callable[[Mapping[Line, int]], Mapping[Line, Sequence[P]]],
    found: Callable[[Line, Sequence[P]], Evidence],
    others: Sequence[Found] = (),
) -> list[Verdict]:
    """The verdicts, once as many fresh pairs are made as the lines need.

    Args:
        first: what `FIRST_PAIRS` pairs said of each line.
        make: makes so many pairs of each line, or more; also of others, which are left out.
        found: what pairs say of a line.
        others: lines that are not run in turn; their verdicts follow. All lines are one suite.
    """
    lines = len(first) + sum(isinstance(each, Evidence) for each in others)
    asked = pairs_to_make(first, lines)
    pairs: dict[Line, list[P]] = {}

    def fresh(counts: Mapping[Line, int]) -> dict[Line, Evidence]:
        for line, made in make(counts).items():
            if line in asked:
                pairs.setdefault(line, []).extend(made)
        return {line: found(line, made) for line, made in pairs.items()}

    more = pairs_to_add(first, fresh(asked), lines)
    return verdicts(first, fresh(more), others)


def pairs_to_make(first: Mapping[Line, Evidence], lines: int) -> dict[Line, int]:
    """How many fresh pairs each line needs after the first ones; lines that pass need none."""
    asked = {line: _needed(each, each, lines) for line, each in first.items() if not _passes(each)}
    return {line: max(count, FEWEST_PAIRS) for line, count in asked.items()}


def pairs_to_add(
    first: Mapping[Line, Evidence], fresh: Mapping[Line, Evidence], lines: int
) -> dict[Line, int]:
    """How many more each line needs, now that it is known better how far apart its pairs are."""
    missing = {
        line: _needed(each, first[line], lines) - each.spread.n for line, each in fresh.items()
    }
    return {line: count for line, count in missing.items() if count > 0}


def _needed(spread: Evidence, first: Evidence, lines: int) -> int:
    """Pairs in all, of a line that is as noisy as `spread` and lost what its first pairs say.

    `lines` are those of the suite.
    """
    level = FALSE_ALARMS / lines
    # A loss far beyond the limit needs no more pairs than half of it would.
    loss = max(first.rule.limit_loss, first.spread.mean / 2)
    if detectable(spread, level) <= loss:
        return 0
    return min(runs_needed(spread, level, loss) or MOST_PAIRS, MOST_PAIRS)


def verdicts(
    first: Mapping[Line, Evidence], fresh: Mapping[Line, Evidence], others: Sequence[Found] = ()
) -> list[Verdict]:
    """Of all lines: the fresh pairs where there are any, else the first ones; then the others."""
    decided = decide([*fresh.values(), *others])
    of_fresh = {each.line: each for each in decided[: len(fresh)]}
    timed = [of_fresh.get(line) or _without_fresh(each) for line, each in first.items()]
    return [*timed, *decided[len(fresh) :]]


def _passes(first: Evidence) -> bool:
    """Nothing suspicious, and the limit is ruled out already."""
    # Cycles may look bad; that they rule the limit out is too much to ask of a clock that varies.
    if any(exceeds(each, first.margin) < SUSPICIOUS for each in (first.spread, *first.spreads)):
        return False
    highest = first.spread.mean + reach(first.spread.parts, FALSE_PASSES)
    return bool(first.spread.parts) and highest < first.rule.limit_loss


def _without_fresh(first: Evidence) -> Verdict:
    """It passes if it needed none; else the runs that it needed failed."""
    if _passes(first):
        return _passed(first)
    sentence = "it looked worse at first, and none of the runs that would tell went through"
    return Verdict(line=first.line, word="MISSING", sentence=sentence)


def _passed(first: Evidence) -> Verdict:
    rule = first.rule
    highest = first.spread.mean + reach(first.spread.parts, FALSE_PASSES)
    return Verdict(
        line=first.line,
        word="PASS",
        sentence=f"no loss of {rule.text(rule.limit_loss)}: at most {rule.text(highest)}",
        loss=first.spread.mean,
        detectable=detectable(replace(first, clocked=None), FALSE_ALARMS),
    )
