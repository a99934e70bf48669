"""Answers of the same weights, scored twice: an exact test of how many are right no more."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from reports.statistics.certainty import first
from reports.statistics.intervals import Items

HALF = 0.5
MANY = 1000
"""Items lost of which, none being won, a few dozen are seen at any level that is asked for."""
MOST_ITEMS = 1_000_000
"""More are not asked for."""
LUCK = 2.0
"""Standard deviations by which chance is allowed to be unkind: once in forty."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Right and wrong answers of some seeds, before and after.

    What breaks an item breaks it for every seed, so that seeds are no further evidence: whatever
    is said of rates is said of items.
    """

    changes: npt.NDArray[np.int64]
    """By item, how many seeds answered it rightly and do no more, less those that do since."""
    seeds: int

    @classmethod
    def of(cls, before: Items, after: Items) -> Answers:
        """Of scores of shape (seeds, items); right is 1 and wrong 0 but for rounding."""
        return cls(((before > HALF).astype(int) - (after > HALF)).sum(0), len(before))

    @property
    def items(self) -> int:
        """How many were scored."""
        return len(self.changes)

    @property
    def lost(self) -> int:
        """Answers that are right no more."""
        return int(self.changes[self.changes > 0].sum())

    @property
    def won(self) -> int:
        """Answers that were not right before."""
        return -int(self.changes[self.changes < 0].sum())

    def probability(self, sign: int = 1) -> float:
        """Of such a loss or a larger one (a gain with sign -1) were losses and gains as likely.

        Of one seed it is McNemar's exact test. Of several an item counts once: what all seeds lost
        of it might as well have been won (sign flips).
        """
        changes = sign * self.changes
        chances = np.ones(1)
        sizes, counts = np.unique(np.abs(changes[changes != 0]), return_counts=True)
        for size, count in zip(sizes, counts, strict=True):
            signs = np.zeros(2 * size * count + 1)
            signs[:: 2 * size] = binom.pmf(np.arange(count + 1), count, 0.5)
            chances = np.convolve(chances, signs)
        least = int(changes.sum() + np.abs(changes).sum())
        return min(1.0, float(chances[least:].sum()))

    def bound(self, probability: float, sign: int = 1, items: int | None = None) -> float:
        """The rate of losses, less that of gains, is above it (below) with this probability.

        Each rate has half of that (Clopper and Pearson 1934). An item counts whole that any seed
        lost, where the bound is above, or that all of them lost. With `items`, of so many of which
        as many shares are lost and won.
        """
        share, n = self._share(items)
        lost = (self.changes > 0).sum() if sign > 0 else (self.changes == self.seeds).sum()
        won = (self.changes == -self.seeds).sum() if sign > 0 else (self.changes < 0).sum()
        level = probability / 2
        if sign > 0:
            return _at_most(lost * share, n, level) - _at_least(won * share, n, level)
        return _at_least(lost * share, n, level) - _at_most(won * share, n, level)

    def smallest(self, level: float, power: float, items: int | None = None) -> float:
        """The smallest rate of losses that has less than this probability in `power` of all cases.

        Above 1 where there are too few items. As many are won as now, or a few more by chance.
        """
        share, n = self._share(items)
        won = (self.changes < 0).sum() * share
        needed = _convicting(math.ceil(won + LUCK * math.sqrt(won)), level)
        if needed > n:
            return needed / n
        return float(beta.ppf(power, needed, n - needed + 1)) - float(won) / n

    def items_needed(self, level: float, passing: float, power: float, limit: float) -> int | None:
        """How many items would tell, as many shares being lost and won; None if no number would.

        Args:
            level: the probability below which it is a loss.
            passing: how often a loss as large as the limit may pass.
            power: how often it has to be seen.
            limit: a rate.
        """
        lost, won = (int((sign * self.changes > 0).sum()) for sign in (1, -1))

        def decides(n: int) -> bool:
            if self.bound(passing, items=n) < limit and self.smallest(level, power, n) <= limit:
                return True
            share = n / self.items
            least = lost * share - LUCK * math.sqrt(lost * share)
            most = won * share + LUCK * math.sqrt(won * share)
            return least >= _convicting(math.ceil(most), level)

        return first(range(self.items + 1, MOST_ITEMS), decides)

    def _share(self, items: int | None) -> tuple[float, int]:
        return (1.0, self.items) if items is None else (items / self.items, items)


def _convicting(won: int, level: float) -> int:
    """How many lost items, so many being won, have less than this probability."""
    numbers = range(won + 1, 2 * won + MANY)
    return numbers[bisect_left(numbers, True, key=lambda lost: _tail(lost, won) < level)]


def _tail(lost: int, won: int) -> float:
    return float(binom.sf(lost - 1, lost + won, 0.5))


def _at_most(count: float, n: int, level: float) -> float:
    return float(beta.ppf(1 - level, count + 1, n - count)) if count < n else 1.0


def _at_least(count: float, n: int, level: float) -> float:
    return float(beta.ppf(level, count, n - count + 1)) if count > 0 else 0.0
