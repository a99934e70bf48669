"""What can be said of a mean whose variance has several parts: one-sided, at any level.

The interval of such a mean is the root of the sum of t^2 variance over its parts; a probability is
the level at which the interval just ends at the value in question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from reports.statistics.intervals import ROUNDING, Part, Spread

LEVELS = np.linspace(math.log(0.5), math.log(1e-12), 600)
"""Logarithms of the one-sided probabilities between which others are interpolated."""


def reach(parts: Sequence[Part], probability: float) -> float:
    """How far from the mean the one-sided bound lies that is passed with this probability."""
    squares = (_quantile(part.freedom, probability) ** 2 * part.variance for part in parts)
    return math.sqrt(sum(squares))


def exceeds(found: Spread, value: float) -> float:
    """Probability of a mean at least so far above `value`, were the truth no more than that.

    1/2 and more where the mean is not above it; 1 where nothing is known of its spread.
    """
    # Values that are all alike up to rounding are no spread.
    if math.sqrt(sum(part.variance for part in found.parts)) <= ROUNDING:
        return 1.0
    reaches = np.sqrt(sum(part.variance * _squares(part.freedom) for part in found.parts))
    lead = found.mean - value
    tail = math.exp(np.interp(abs(lead), reaches, LEVELS))
    return tail if lead > 0 else 1 - tail


@lru_cache(maxsize=4096)
def _quantile(freedom: float, probability: float) -> float:
    return -float(stdtrit(freedom, probability))


@lru_cache(maxsize=1024)
def _squares(freedom: float) -> npt.NDArray[np.float64]:
    """Squared quantiles at LEVELS."""
    found: npt.NDArray[np.float64] = stdtrit(freedom, np.exp(LEVELS)) ** 2
    return found
