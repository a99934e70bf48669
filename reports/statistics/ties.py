"""Which of several means can be told apart, as compact letters.

Every pair is tested, with what both have in common taken out, and Holm's step-down correction keeps
the chance that any two equal ones are told apart in a column at 5 %. So a sole winner, the only one
that has the best's letter, appears among equals in at most one column of twenty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import fmean
from string import ascii_uppercase

import numpy as np
import numpy.typing as npt

from reports.statistics.certainty import beyond
from reports.statistics.intervals import CONFIDENCE, Better, Scores, Spread, differences

LEGIBLE = 52
"""More groups than two alphabets have letters tell a reader nothing, and their number may grow
exponentially with that of the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """Where a row stands among the rows of its column."""

    letters: str
    """Rows that share one cannot be told apart; empty for a row without a value, and for all where
    there would be too many letters."""
    is_best: bool
    """It cannot be told from the best row, or is it."""
    first: int = 0
    """The best place it may have: one more than there are rows told to be better."""
    last: int = 0
    """The worst place it may have; both 0 for a row without a value."""


def ranks(rows: Sequence[Scores], better: Better) -> list[Rank]:
    """Letters for each row, `A` for the best.

    >>> low, high = {0: 0.1, 1: 0.2, 2: 0.3}, {0: 9.1, 1: 9.21, 2: 9.31}
    >>> [rank.letters for rank in ranks([Scores(values=low), Scores(values=high)], "higher")]
    ['B', 'A']
    """
    sign = -1.0 if better == "higher" else 1.0
    known = [i for i, row in enumerate(rows) if row.values]
    order = sorted(known, key=lambda i: sign * fmean(rows[i].values.values()))
    apart = _told_apart([rows[i] for i in order])
    groups = _groups(len(order), apart)
    found = [Rank(letters="", is_best=False)] * len(rows)
    for place, row in enumerate(order):
        of_row = [number for number, group in enumerate(groups) if place in group]
        found[row] = Rank(
            letters=_letters(of_row),
            is_best=not apart[0, place],
            first=1 + int(apart[:place, place].sum()),
            last=len(order) - int(apart[place, place + 1 :].sum()),
        )
    return found


def holm(probabilities: Sequence[float]) -> list[float]:
    """Probabilities corrected for there being several (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(probabilities, dtype=float)
    order = np.argsort(given, kind="stable")
    factors = np.arange(len(given), 0, -1)
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * factors), 1.0)
    return [float(each) for each in corrected]


def probability(found: Spread) -> float:
    """How often a difference at least so large is seen between equals, on either side.

    That is the level at which its interval ends at 0. It is 1 where nothing is known of the
    spread: equal differences throughout are no spread either.
    """
    return min(1.0, 2 * beyond(found.parts, abs(found.mean)))


def _told_apart(rows: Sequence[Scores]) -> npt.NDArray[np.bool_]:
    """Which pairs differ, as a symmetric table."""
    pairs = list(combinations(range(len(rows)), 2))
    found = [
        1.0 if each is None or _is_one_training(each, rows[i]) else probability(each)
        for (i, _), each in zip(pairs, differences(rows), strict=True)
    ]
    apart = np.zeros((len(rows), len(rows)), dtype=bool)
    for (i, j), corrected in zip(pairs, holm(found), strict=True):
        apart[i, j] = apart[j, i] = corrected < 1 - CONFIDENCE
    return apart


def _is_one_training(found: Spread, row: Scores) -> bool:
    """One seed says nothing of others, however many items it answered."""
    return found.n == 1 and None not in row.values


def _groups(count: int, apart: npt.NDArray[np.bool_]) -> list[frozenset[int]]:
    """The largest sets of rows of which no two differ (insert and absorb, Piepho 2004).

    In the order of their best members: rows are given best first. None if they are not LEGIBLE.
    """
    groups = {frozenset(range(count))} if count else set()
    for i, j in combinations(range(count), 2):
        if not apart[i, j]:
            continue
        split = {group for group in groups if i in group and j in group}
        groups -= split
        for piece in [group - {one} for group in split for one in (i, j)]:
            if not any(piece <= group for group in groups):
                groups = {group for group in groups if not group <= piece} | {piece}
        if len(groups) > LEGIBLE:
            return []
    return sorted(groups, key=sorted)


def _letters(numbers: Sequence[int]) -> str:
    """The letters of some groups, more than two in a row drawn together.

    >>> _letters([0]), _letters([1, 2]), _letters([0, 1, 2, 4]), _letters([26])
    ('A', 'BC', 'A-CE', 'A1')
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return "".join(
        f"{_letter(run[0])}-{_letter(run[-1])}" if len(run) > 2 else "".join(map(_letter, run))
        for run in runs
    )


def _letter(index: int) -> str:
    """A to Z, then A1, B1, ..."""
    cycle, place = divmod(index, len(ascii_uppercase))
    return ascii_uppercase[place] + (str(cycle) if cycle else "")
