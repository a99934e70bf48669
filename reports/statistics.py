"""Means over seeds and what they are worth.

A seed is one whole training run. Steps of one run and items of one evaluation are never counted
as replicates here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from scipy.stats import t as student_t

CONFIDENCE = 0.95

Better = Literal["higher", "lower"]
Run = tuple[int | None, int | None]
"""Seed and repeat of one training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean and the half-width of its 95 % t interval."""

    mean: float
    half_width: float | None
    """None for a single value: one run says nothing about its own spread."""
    n: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t interval of independent values, one per seed.

    >>> estimate([1.0, 2.0, 3.0]).mean
    2.0
    """
    if not values:
        raise ValueError("no values to average")
    n = len(values)
    if n == 1:
        return Estimate(mean=values[0], half_width=None, n=1)
    quantile = float(student_t.ppf((1 + CONFIDENCE) / 2, n - 1))
    return Estimate(mean=fmean(values), half_width=quantile * stdev(values) / math.sqrt(n), n=n)


def paired_gain(
    candidate: Mapping[int | None, float],
    reference: Mapping[int | None, float],
    better: Better,
) -> Estimate | None:
    """By how much `candidate` is better, averaged over the seeds both have; None without any.

    The difference is taken within each seed first: a seed that is lucky for both sides does not
    widen the interval. Positive means `candidate` is better, whichever way the metric points.
    """
    sign = 1.0 if better == "higher" else -1.0
    gains = [sign * (candidate[seed] - reference[seed]) for seed in candidate if seed in reference]
    return estimate(gains) if gains else None


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
