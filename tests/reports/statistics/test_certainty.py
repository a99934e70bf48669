"""One-sided probabilities and bounds of means whose variance has parts."""

from __future__ import annotations

import pytest
from scipy.stats import t as student_t

from reports.statistics.certainty import exceeds
from reports.statistics.intervals import Part, Spread, reach


def spread(mean: float, *parts: Part) -> Spread:
    """A mean of five."""
    return Spread(mean=mean, parts=parts, n=5)


def test_one_part_is_the_t_test():
    """A lead of two standard errors with four degrees of freedom has 5.8 %, one-sided."""
    found = exceeds(spread(3.0, Part(1.0, 4)), 1.0)
    assert found == pytest.approx(student_t.sf(2.0, 4), rel=1e-3)


def test_below_is_the_other_tail():
    """A mean below the value in question is no evidence for being above it."""
    part = Part(1.0, 4)
    assert exceeds(spread(1.0, part), 3.0) == pytest.approx(1 - exceeds(spread(3.0, part), 1.0))
    assert exceeds(spread(1.0, part), 1.0) == pytest.approx(0.5)


def test_bound_and_probability_agree():
    """The bound passed with 1 % lies where the probability is 1 %, with any parts."""
    parts = (Part(0.04, 2), Part(0.09, 400))
    lead = reach(parts, 0.01)
    assert exceeds(spread(lead, *parts), 0.0) == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("parts", [(), (Part(0.0, 3),), (Part(1e-30, 3), Part(0.0, 9))])
def test_no_spread_is_no_evidence(parts: tuple[Part, ...]):
    """A single run, and runs alike to the last digit, prove nothing."""
    assert exceeds(spread(9.0, *parts), 0.0) == 1.0
