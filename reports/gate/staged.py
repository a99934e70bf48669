"""Base and candidate in turn: a few pairs for every line, many fresh ones for the suspicious.

Only the fresh pairs decide: those that raised the suspicion were chosen for looking bad. How many
are made follows from how far apart the first ones were and then, as these say little of that, from
how far apart the fresh ones are; whether these look good or bad has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from reports.gate.cycles import of_clocked_pairs
from reports.gate.evidence import Evidence, Found, Verdict, grain
from reports.gate.judge import decide, gained
from reports.gate.lines import Line
from reports.gate.rules import FALSE_ALARMS, FALSE_PASSES, MOST_PAIRS, SPEED, rule_of
from reports.gate.samples import detectable, runs_to_see
from reports.statistics.certainty import exceeds, is_known
from reports.statistics.intervals import Better
from reports.statistics.losses import of_pairs

FIRST_PAIRS = 8
"""Of every line. Six cost 1.2 to 2.2 times as many pairs in all: so few leave more lines open."""
FEWEST_PAIRS = 20
"""Fresh ones of a suspicious line."""
SUSPICIOUS = 0.10
"""A line is looked at again if chance alone would do as much so seldom."""
GAINED = 0.01
"""The same of a gain: it breaks nothing, so that only a plain one is worth the runs."""

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
    spread, fixed = of_pairs(pairs, better), grain(rule)
    if not fixed and any(len(set(side)) == 1 for side in zip(*pairs, strict=True)):
        # What is the same to the last digit again and again was not measured.
        spread = replace(spread, parts=())
    clocked = of_clocked_pairs(pairs, clocks, better) if clocks and rule is SPEED else None
    return Evidence(
        line=line,
        rule=rule,
        # One pair says nothing, however finely it is counted.
        spread=replace(spread, parts=(*spread.parts, *fixed)) if spread.parts else spread,
        margin=max(rule.margin_loss, offset),
        unit="runs",
        fixed=len(fixed),
        shift=offset,
        clocked=clocked,
    )


def in_rounds(
    first: Mapping[Line, Evidence],
    make: Callable[[Mapping[Line, int]], Mapping[Line, Sequence[P]]],
    found: Callable[[Line, Sequence[P]], Evidence],
    others: Sequence[Found] = (),
    *,
    most: int = MOST_PAIRS,
) -> list[Verdict]:
    """The verdicts, once as many fresh pairs are made as the lines need.

    Args:
        first: what `FIRST_PAIRS` pairs said of each line.
        make: makes so many pairs of each line, or more; also of others, which are left out.
        found: what pairs say of a line.
        others: lines that are not run in turn; their verdicts follow. All lines are one suite.
        most: fresh pairs of a line, at least `FEWEST_PAIRS`.
    """
    lines = len(first) + sum(isinstance(each, Evidence) for each in others)
    asked = pairs_to_make(first, lines, most)
    pairs: dict[Line, list[P]] = {}

    def fresh(counts: Mapping[Line, int]) -> dict[Line, Evidence]:
        for line, made in make(counts).items():
            if line in asked:
                pairs.setdefault(line, []).extend(made)
        return {line: found(line, made) for line, made in pairs.items()}

    more = pairs_to_add(first, fresh(asked), lines, most)
    return verdicts(first, fresh(more), others)


def pairs_to_make(
    first: Mapping[Line, Evidence], lines: int, most: int = MOST_PAIRS
) -> dict[Line, int]:
    """How many fresh pairs each line needs after the first ones; lines that pass need none."""
    suspicious = {line: each for line, each in first.items() if not _passes(each)}
    asked = {line: _needed(each, each, lines, most) for line, each in suspicious.items()}
    return {line: max(count, FEWEST_PAIRS) for line, count in asked.items()}


def pairs_to_add(
    first: Mapping[Line, Evidence],
    fresh: Mapping[Line, Evidence],
    lines: int,
    most: int = MOST_PAIRS,
) -> dict[Line, int]:
    """How many more each line needs, now that it is known better how far apart its pairs are."""
    missing = {
        line: _needed(each, first[line], lines, most) - each.spread.n
        for line, each in fresh.items()
    }
    return {line: count for line, count in missing.items() if count > 0}


def _needed(spread: Evidence, first: Evidence, lines: int, most: int) -> int:
    """Pairs in all, of a line that is as noisy as `spread` and lost what its first pairs say.

    `lines` are those of the suite.
    """
    level = FALSE_ALARMS / lines
    # A loss far beyond the limit needs no more pairs than half of it would.
    loss = max(first.rule.limit_loss, first.spread.mean / 2)
    if detectable(spread, level) <= loss:
        return 0
    return min(runs_to_see(spread, level, loss) or most, most)


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
    if not is_known(first.spread.parts):
        return False
    # Cycles may look bad; that they rule the limit out is too much to ask of a clock that varies.
    spreads = (first.spread, *first.spreads)
    if any(exceeds(each, first.margin) < SUSPICIOUS for each in spreads):
        return False
    if all(exceeds(gained(each), first.margin) < GAINED for each in spreads):
        return False
    highest = _in_time(first).bound(FALSE_PASSES)
    return max(first.margin, highest + first.shift) < first.rule.limit_loss


def _without_fresh(first: Evidence) -> Verdict:
    """It passes if it needed none; else the runs that it needed failed."""
    if _passes(first):
        return _passed(first)
    sentence = "it did not pass at first, and none of the runs that would tell went through"
    return Verdict(line=first.line, word="MISSING", sentence=sentence)


def _passed(first: Evidence) -> Verdict:
    rule, in_time = first.rule, _in_time(first)
    highest = in_time.bound(FALSE_PASSES)
    # A loss as large as the limit would not have passed, and fresh pairs would have been made.
    visible = min(detectable(in_time, FALSE_ALARMS), rule.limit_loss)
    return Verdict(
        line=first.line,
        word="PASS",
        sentence=f"no loss of {rule.text(rule.limit_loss)}: at most {rule.text(highest)}",
        loss=first.spread.mean,
        detectable=visible,
    )


def _in_time(first: Evidence) -> Evidence:
    return replace(first, clocked=None)
