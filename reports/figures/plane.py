"""Rows as marks in a plane of two measures, and the rows that no other row beats in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reports.comparison import Observed
from reports.figures.labels import Point
from reports.figures.rows import Named
from reports.figures.scales import Scale
from reports.statistics.intervals import Better, Estimate

MOST_NUMBERED = 24
"""Of more rows, only those on the front have numbers: the others would cover each other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One row."""

    named: Named
    across: Estimate
    up: Estimate
    seeds: tuple[Point, ...] = ()
    """Of both measures at once; empty for a single run."""
    is_reference: bool = False
    """It stands for comparison, and is on no front."""

    @property
    def place(self) -> Point:
        """Where the mark is."""
        return self.across.mean, self.up.mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """What the two axes measure."""

    across: Scale
    up: Scale
    wanted: tuple[Better, Better]
    """Which way is better, across and up."""

    @property
    def corner(self) -> tuple[bool, bool]:
        """Whether the better corner is right, and whether it is at the top."""
        return self.wanted[0] == "higher", self.wanted[1] == "higher"


def mark(
    plane: Plane, named: Named, across: Observed, up: Observed, *, is_reference: bool = False
) -> Mark:
    """A row's mark, with a point for every seed both measures have."""
    common = [seed for seed in across.values if seed in up.values]
    seeds = tuple(
        (plane.across.factor * across.values[seed], plane.up.factor * up.values[seed])
        for seed in common
    )
    return Mark(
        named=named,
        across=plane.across.scaled(across.scores.spread.estimate),
        up=plane.up.scaled(up.scores.spread.estimate),
        seeds=seeds if len(seeds) > 1 else (),
        is_reference=is_reference,
    )


def front(plane: Plane, marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The rows that no other row beats in both measures, from one end of the front to the other."""
    signs = [1 if way == "higher" else -1 for way in plane.wanted]

    def worth(mark: Mark) -> tuple[float, float]:
        return signs[0] * mark.place[0], signs[1] * mark.place[1]

    def is_beaten(mark: Mark) -> bool:
        own = worth(mark)
        return any(
            other != own and other[0] >= own[0] and other[1] >= own[1] for other in map(worth, rows)
        )

    rows = [mark for mark in marks if not mark.is_reference]
    return tuple(sorted((mark for mark in rows if not is_beaten(mark)), key=worth))


def numbered(plane: Plane, marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """The marks whose number is shown and that the key names."""
    best = front(plane, marks)
    return tuple(
        mark for mark in marks if len(marks) <= MOST_NUMBERED or mark in best or mark.is_reference
    )
