"""Ratios of rates and sizes: on a log scale, where twice and half are equally far from equal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from reports.statistics.intervals import Run, estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioEstimate:
    """A ratio and its 95 % t interval, on a log scale."""

    ratio: float
    low: float | None
    """None for a single pair: one pair says nothing about its own spread."""
    high: float | None
    n: int


def paired_ratio(
    numerator: Mapping[Run, float], denominator: Mapping[Run, float]
) -> RatioEstimate | None:
    """Geometric mean of the ratios of runs that were made together; None without any.

    What both runs of a pair suffered, a machine that was slow for a minute, is not in it.

    >>> paired_ratio({(0, 0): 2.0, (0, 1): 8.0}, {(0, 0): 1.0, (0, 1): 4.0}).ratio
    2.0
    """
    logs = [
        math.log(numerator[run] / denominator[run])
        for run in numerator
        if run in denominator and numerator[run] > 0 and denominator[run] > 0
    ]
    if not logs:
        return None
    found = estimate(logs)
    middle, half = math.exp(found.mean), found.half_width
    if half is None:
        return RatioEstimate(ratio=middle, low=None, high=None, n=1)
    factor = math.exp(half)
    return RatioEstimate(ratio=middle, low=middle / factor, high=middle * factor, n=found.n)


def ratio(numerator: Sequence[float], denominator: Sequence[float]) -> float | None:
    """Ratio of two rates or sizes by their geometric means; None where it has no meaning.

    On a log scale twice as fast and half as fast are equally far from equal, so the ratio of
    A to B is exactly the inverse of that of B to A.

    >>> ratio([2.0, 8.0], [1.0, 4.0])
    2.0
    """
    if not numerator or not denominator or min(*numerator, *denominator) <= 0:
        return None
    log_ratio = fmean(map(math.log2, numerator)) - fmean(map(math.log2, denominator))
    return float(2.0**log_ratio)
