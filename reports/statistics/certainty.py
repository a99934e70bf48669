"""What can be said of a mean whose variance has several parts: one-sided, at any level.

The interval of such a mean is the root of the sum of t^2 variance over its parts; a probability is
the level at which the interval just ends at the value in question.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from reports.statistics.intervals import ROUNDING, Part, Spread

LEVELS: list[float] = np.linspace(math.log(0.5), math.log(1e-12), 600).tolist()
"""Logarithms of the one-sided probabilities between which others are interpolated."""


def first(numbers: range, is_enough: Callable[[int], bool]) -> int | None:
    """The first number that is enough, as all after it are; None if none is."""
    place = bisect_left(numbers, True, key=is_enough)
    return numbers[place] if place < len(numbers) else None


def is_known(parts: Sequence[Part]) -> bool:
    """Whether there is any spread: values that are all alike up to rounding have none."""
    return math.sqrt(sum(max(part.variance, part.least) for part in parts)) > ROUNDING


def exceeds(found: Spread, value: float) -> float:
    """Probability of a mean at least so far above `value`, were the truth no more than that.

    1/2 and more where the mean is not above it; 1 where nothing is known of its spread.
    """
    lead = found.mean - value
    tail = beyond(found.parts, abs(lead))
    return tail if lead > 0 or tail == 1.0 else 1 - tail


def beyond(parts: Sequence[Part], lead: float) -> float:
    """Probability of a mean at least so far on one side of the truth, or 1 without a spread."""
    if not is_known(parts):
        return 1.0
    squares = [(part, _squares(part.freedom)) for part in parts]
    normal = _squares(math.inf)

    def reaches(level: int) -> float:
        return math.sqrt(sum(part.squared(own[level], normal[level]) for part, own in squares))

    above = bisect_left(range(len(LEVELS)), lead, key=reaches)
    if above in (0, len(LEVELS)):
        return math.exp(LEVELS[max(above - 1, 0)])
    low, high = reaches(above - 1), reaches(above)
    share = (lead - low) / (high - low)
    return math.exp(LEVELS[above - 1] + share * (LEVELS[above] - LEVELS[above - 1]))


@lru_cache(maxsize=1024)
def _squares(freedom: float) -> list[float]:
    """Squared quantiles at LEVELS."""
    found: list[float] = (stdtrit(freedom, np.exp(LEVELS)) ** 2).tolist()
    return found
