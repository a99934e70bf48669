"""A loss in time and in the GPU's cycles: slow code is told from a slow GPU.

Arithmetic takes twice the time at half the clock. Memory does not, nor does a processor that
starts one kernel after another: how far the speed of a line follows the clock, its share, lies
anywhere between 0 and 1. So the code's own loss lies between the loss in time, where the share is
0, and that in cycles, where it is 1. Runs at several clocks narrow it down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.statistics.intervals import ROUNDING, Better, Items, Part, Spread, reach
from reports.statistics.losses import of_pairs, of_runs

DOUBT = 1e-6
"""How often a share may lie outside what the runs allow: little beside what one line of a suite of
hundreds may err by (`FALSE_ALARMS` over their number)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clocked:
    """What the GPU's clock has to do with a loss."""

    base: float
    """Mean MHz of the baseline's runs."""
    now: float
    cycles: Spread
    """The loss in cycles."""
    bounds: tuple[Spread, Spread]
    """The code's loss if its speed follows the clock as little as the runs allow, and as much."""
    is_in_turn: bool
    """Whether runs were made in turn: what the machine does by itself is then done to both."""

    @property
    def apart(self) -> float:
        """How far the bounds lie apart: what the clock leaves open."""
        return abs(self.bounds[1].mean - self.bounds[0].mean)

    @property
    def clocks(self) -> str:
        """What the GPU did, in words."""
        return f"the GPU ran at {self.now:,.0f} instead of {self.base:,.0f} MHz"

    def with_parts(self, parts: Sequence[Part]) -> Clocked:
        """With more that is not known."""
        least, most = (replace(each, parts=(*each.parts, *parts)) for each in self.bounds)
        cycles = replace(self.cycles, parts=(*self.cycles.parts, *parts))
        return replace(self, cycles=cycles, bounds=(least, most))


def of_clocked_runs(
    sides: tuple[Sequence[float], Sequence[float]],
    clocks: tuple[Sequence[float], Sequence[float]],
    better: Better,
) -> Clocked:
    """Of runs that have nothing in common but the machine: values and MHz of both sides."""
    sign = 1.0 if better == "higher" else -1.0
    groups = [
        (np.log(mhz), sign * np.log(values)) for values, mhz in zip(sides, clocks, strict=True)
    ]

    def at(share: float) -> Spread:
        was, is_now = (np.exp(speed - share * clock) for clock, speed in groups)
        return of_runs(was.tolist(), is_now.tolist(), "higher")

    least, most = shares(groups)
    return Clocked(
        base=float(np.mean(clocks[0])),
        now=float(np.mean(clocks[1])),
        cycles=at(1.0),
        bounds=(at(least), at(most)),
        is_in_turn=False,
    )


def of_clocked_pairs(
    pairs: Sequence[tuple[float, float]], clocks: Sequence[tuple[float, float]], better: Better
) -> Clocked:
    """Of runs made in turn: values and MHz of base and candidate, pair by pair."""
    sign = 1.0 if better == "higher" else -1.0
    speeds, mhz = sign * np.log(pairs), np.log(clocks)

    def at(share: float) -> Spread:
        base, candidate = np.exp(speeds - share * mhz).T
        return of_pairs(list(zip(base.tolist(), candidate.tolist(), strict=True)), "higher")

    # What the machine does to both of a pair, whatever its clock, is not in their difference.
    least, most = shares([(mhz[:, 1] - mhz[:, 0], speeds[:, 1] - speeds[:, 0])])
    base, now = np.mean(clocks, axis=0)
    return Clocked(
        base=float(base),
        now=float(now),
        cycles=at(1.0),
        bounds=(at(least), at(most)),
        is_in_turn=True,
    )


def shares(groups: Sequence[tuple[Items, Items]]) -> tuple[float, float]:
    """Between which shares the speed follows the clock, as far as runs of one side tell.

    The slope of the speed's logarithm over the clock's, within groups, and its t interval.

    >>> clock = np.log([1900.0, 1940.0, 1980.0, 1910.0])
    >>> [round(share, 6) for share in shares([(clock, 0.5 * clock)])]
    [0.5, 0.5]
    >>> shares([(np.log([1980.0] * 3), np.log([1.0, 1.1, 1.2]))])
    (0.0, 1.0)

    Args:
        groups: of every side the logarithms of its clocks and of its speeds.
    """
    clocks, speeds = (
        np.concatenate([group[which] - group[which].mean() for group in groups]) for which in (0, 1)
    )
    freedom = len(clocks) - len(groups) - 1
    squares = float(clocks @ clocks)
    if freedom < 1 or squares <= ROUNDING:
        return 0.0, 1.0
    slope = float(clocks @ speeds) / squares
    rest = speeds - slope * clocks
    doubt = reach([Part(float(rest @ rest) / freedom / squares, freedom)], DOUBT / 2)
    # A slope that no clock can have is the work of something else: it says nothing.
    if slope - doubt > 1 or slope + doubt < 0:
        return 0.0, 1.0
    return max(slope - doubt, 0.0), min(slope + doubt, 1.0)
