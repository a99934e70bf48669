"""How much worse a candidate is than a baseline, as a mean and what is known of its spread.

Positive is worse, whichever way the metric points. Speeds and sizes are compared as logarithms of
ratios, one value a run: steps within a run are never counted as replicates. Extreme runs are cut
off, a fifth at either end (Yuen 1974), for one in twenty is slow for reasons of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from reports.statistics.intervals import (
    Better,
    Items,
    Part,
    Scores,
    Spread,
    difference,
    independent,
    mean_squares,
)

TRIMMED = 0.2
"""Share of the runs that is cut off at either end."""
FEWEST_TRIMMED = 8
"""With fewer runs nothing is cut off: too little would be left to know their spread by."""
FREEDOM = 0.79
"""Of normal values the Winsorised variance is as uncertain as one with this share of h - 1 degrees
of freedom (simulated: 0.79 to 0.87 for 8 to 150 values). With h - 1, as is usual, a bound that
holds in 1,999 of 2,000 cases failed 1.4 to 1.6 times as often."""


def of_pairs(pairs: Sequence[tuple[float, float]], better: Better) -> Spread:
    """Of runs made together, (baseline, candidate): what both of a pair suffered is not in it.

    Raises:
        ValueError: no pair, or a value that has no logarithm.
    """
    return trimmed([_log_loss(base, candidate, better) for base, candidate in pairs])


def of_runs(baseline: Sequence[float], candidate: Sequence[float], better: Better) -> Spread:
    """Of runs that have nothing in common but the machine.

    Raises:
        ValueError: a side without runs, or a value that has no logarithm.
    """
    sides = [trimmed([_log(value) for value in values]) for values in (baseline, candidate)]
    change = sides[1].mean - sides[0].mean
    return Spread(
        mean=-change if better == "higher" else change,
        # The candidate's own part first.
        parts=(*sides[1].parts, *sides[0].parts) if all(side.parts for side in sides) else (),
        n=len(candidate),
    )


def trimmed(values: Sequence[float]) -> Spread:
    """The trimmed mean with its Winsorised variance.

    Its variance is s_w^2 / ((1 - 2 g)^2 n) with FREEDOM (h - 1) degrees of freedom, g the share cut
    off at either end and h what is left of n (Tukey and McLaughlin 1963).

    >>> trimmed([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 90.0]).mean
    4.5
    """
    n = len(values)
    if n < FEWEST_TRIMMED:
        return independent(values)
    cut = int(TRIMMED * n)
    runs = np.sort(np.asarray(values, dtype=float))
    kept = runs[cut : n - cut]
    drawn_in = np.clip(runs, kept[0], kept[-1])
    # (n - 1) s_w^2 / (h (h - 1)): the same, exact where the share is no whole number of runs.
    variance = float(drawn_in.var(ddof=1)) * (n - 1) / (len(kept) * (len(kept) - 1))
    part = Part(variance, FREEDOM * (len(kept) - 1))
    return Spread(mean=float(kept.mean()), parts=(part,), n=n)


def loss_of(baseline: Scores, candidate: Scores, better: Better) -> Spread | None:
    """Of the same models scored again, seed by seed and item by item; None without a common one."""
    found = difference(candidate, baseline)
    return None if found is None else _signed(found, -1.0 if better == "higher" else 1.0)


def of_trainings(baseline: Scores, candidate: Scores, better: Better) -> Spread | None:
    """Of models that were trained again; None where nothing can be said of other seeds.

    A seed is a number and no more: both sides are samples of trainings, and all seeds of both say
    how much trainings differ. The items are the same on both sides; without them the seeds alone
    count. The candidate's seeds are the first part of the variance, then come the baseline's.
    """
    sign = -1.0 if better == "higher" else 1.0
    sides = [baseline, candidate]
    seeds = [len(side.values) for side in sides]
    if min(seeds) < 1 or sum(seeds) < 3:
        return None
    change = sign * (_mean(candidate) - _mean(baseline))
    shares = [1 / n for n in reversed(seeds)]
    freedom = sum(seeds) - 2
    between = sum((n - 1) * _variance(side) for n, side in zip(seeds, sides, strict=True)) / freedom
    if not (baseline.by_item and candidate.by_item and baseline.documents == candidate.documents):
        parts = [Part(between * share, freedom) for share in shares]
        return Spread(mean=change, parts=tuple(parts), n=seeds[1])
    tables = [np.stack(list(side.by_item.values())) for side in sides]
    items = tables[0].shape[1]
    by_item = tables[1].mean(0) - tables[0].mean(0)
    squares = [mean_squares(table) for table in tables if len(table) > 1]
    rest = sum(found.rest * found.rest_freedom for found in squares)
    rest /= sum(found.rest_freedom for found in squares)
    # Seeds that score alike by chance vary no less than their answers do.
    parts = [Part(between * share, freedom, rest / items * share) for share in shares]
    own = float(by_item.var(ddof=1)) - rest * sum(shares)
    parts.append(Part(max(own, 0.0) / items, items - 1))
    return Spread(mean=change, parts=tuple(parts), n=seeds[1], items=items)


def logarithms(scores: Scores) -> Scores:
    """Of perplexities: the nats, by seed and by item."""
    by_item = {
        seed: each / scores.values[seed] - 1 + math.log(scores.values[seed])
        for seed, each in scores.by_item.items()
    }
    values = {seed: math.log(value) for seed, value in scores.values.items()}
    return replace(scores, values=values, by_item=by_item)


def answer_alike(baseline: Scores, candidate: Scores) -> bool:
    """Whether equal seeds answer more alike than half as often as others differ.

    On one machine a training repeats to the last digit; on others the same seed is another draw.
    """
    seeds = [seed for seed in baseline.by_item if seed in candidate.by_item]
    if baseline.documents != candidate.documents or len(seeds) < 2:
        return False
    same = [_apart(baseline.by_item[s], candidate.by_item[s]) for s in seeds]
    other = [
        _apart(baseline.by_item[s], candidate.by_item[t]) for s in seeds for t in seeds if s != t
    ]
    return sum(same) / len(same) < sum(other) / len(other) / 2


def is_identical(baseline: Scores, candidate: Scores) -> bool:
    """Whether every item of every seed the two share has the same score on both sides."""
    seeds = baseline.by_item.keys() & candidate.by_item.keys()
    return (
        bool(seeds)
        and baseline.documents == candidate.documents
        and baseline.values.keys() == candidate.values.keys()
        and all(np.array_equal(baseline.by_item[s], candidate.by_item[s]) for s in seeds)
    )


def _apart(one: Items, other: Items) -> float:
    return float(np.abs(one - other).mean())


def _mean(scores: Scores) -> float:
    return float(np.mean(list(scores.values.values())))


def _variance(scores: Scores) -> float:
    values = list(scores.values.values())
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def _signed(found: Spread, sign: float) -> Spread:
    return Spread(mean=sign * found.mean, parts=found.parts, n=found.n, items=found.items)


def _log_loss(base: float, candidate: float, better: Better) -> float:
    change = _log(candidate) - _log(base)
    return -change if better == "higher" else change


def _log(value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{value:g} has no ratio to another")
    return math.log(value)
