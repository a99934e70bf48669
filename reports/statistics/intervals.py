"""Means and what they are worth: intervals over seeds and over scored items at once.

A seed is one whole training run; an item is one scored question, image or block of text. Both are
a sample of many there could have been, and every seed answers the same items: the model is that of
two crossed random effects. Steps of one run are never counted as replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations
from statistics import fmean
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit  # scipy.stats has it too, and takes long to import

CONFIDENCE = 0.95
ROUNDING = 1e-12

Better = Literal["higher", "lower"]
Seed = int | None
"""None where no seed enters."""
Run = tuple[Seed, int | None]
"""Seed and repeat of one training."""
Items = npt.NDArray[np.float64]
"""One number an item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean and the half-width of its 95 % interval."""

    mean: float
    half_width: float | None
    """None for a single value, and for items all alike: they say nothing of their own spread."""
    n: int
    """Seeds, or runs."""
    items: int | None = None
    """Scored items the interval covers too; None where it covers the seeds alone."""


class Part(NamedTuple):
    """A part of the variance of a mean, and how well it is known."""

    variance: float
    freedom: float
    """Degrees of freedom."""
    least: float = 0.0
    """What it cannot be less than, which is known: the part never counts for less."""

    def squared(self, square: float, normal: float) -> float:
        """What it adds to a squared bound, by the squared quantiles of its t and the normal."""
        return max(square * self.variance, normal * self.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A mean, and the independent parts of its variance."""

    mean: float
    parts: tuple[Part, ...]
    """Empty where nothing is known of its spread."""
    n: int
    items: int | None = None

    @property
    def estimate(self) -> Estimate:
        """The mean with its 95 % interval.

        Each part counts with the t quantile of its own degrees of freedom: the half-width is the
        root of the sum of t^2 variance. This never covers less than it says, and is the t interval
        where there is one part (Banerjee, Sankhya 22, 1960). Satterthwaite's approximation covered
        0.93 where three seeds differed much, this 0.95 to 0.98.
        """
        half = reach(self.parts, (1 - CONFIDENCE) / 2)
        # Items that all score alike, up to rounding, have no variance, and are no certainty.
        is_known = self.parts and (self.items is None or half > ROUNDING)
        return Estimate(
            mean=self.mean, half_width=half if is_known else None, n=self.n, items=self.items
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One metric by seed and, where all seeds scored the same items, by item."""

    values: Mapping[Seed, float]
    by_item: Mapping[Seed, Items] = field(default_factory=dict)
    """What each item adds: their mean is the seed's value. Empty, or every seed of `values`."""
    documents: str = ""
    """Which items those are, and in which order."""

    @property
    def spread(self) -> Spread:
        """Over seeds and items, or over seeds alone where items are not known."""
        if self.by_item:
            return crossed(np.stack([self.by_item[seed] for seed in self.values]))
        return independent(list(self.values.values()))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t interval of independent values, one per seed.

    >>> estimate([1.0, 2.0, 3.0]).mean
    2.0
    """
    return independent(values).estimate


def independent(values: Sequence[float]) -> Spread:
    """Of values that have nothing in common."""
    if not values:
        raise ValueError("no values to average")
    n = len(values)
    if n == 1:
        return Spread(mean=values[0], parts=(), n=1)
    mean = fmean(values)
    # statistics.variance does it in fractions, which takes thirty times as long.
    squares = math.fsum((value - mean) ** 2 for value in values)
    return Spread(mean=mean, parts=(Part(squares / (n - 1) / n, n - 1),), n=n)


class MeanSquares(NamedTuple):
    """Of a two-way layout of seeds and items without replication, with their degrees of freedom."""

    seeds: float
    items: float
    rest: float
    seeds_freedom: int
    items_freedom: int
    rest_freedom: int


def mean_squares(scores: Items) -> MeanSquares:
    """Of scores of shape (seeds, items), at least two of each."""
    seeds, items = scores.shape
    of_seeds, of_items, rest = (
        float(found[0]) for found in _mean_squares((scores - scores.mean())[None])
    )
    return MeanSquares(
        seeds=of_seeds,
        items=of_items,
        rest=rest,
        seeds_freedom=seeds - 1,
        items_freedom=items - 1,
        rest_freedom=(seeds - 1) * (items - 1),
    )


def crossed(scores: Items) -> Spread:
    """Of scores in rows of seeds and columns of items, both drawn at random.

    The mean squares give the variance of the grand mean, (MS_seeds + MS_items - MS_rest) /
    (seeds x items) (Searle, Casella, McCulloch, Variance Components, 1992, 4.5). The part of the
    seeds is MS_seeds whole, with their few degrees of freedom, and counts for no less than
    MS_rest, as seeds that score alike by chance are no certainty; that of the items what MS_items
    has beyond the rest, as far as it has. With one seed it is the variance over items, and says
    nothing of other seeds.

    Args:
        scores: shape (seeds, items).
    """
    return _crossed(scores[None])[0]


def _crossed(layouts: Items) -> list[Spread]:
    """Of several layouts at once, as a column of a table has hundreds of pairs."""
    _, seeds, items = layouts.shape
    if items < 2:
        return [independent(scores[:, 0].tolist()) for scores in layouts]
    means = _means(layouts)
    if seeds == 1:
        variances = layouts[:, 0].var(axis=1, ddof=1) / items
        alone = [(Part(variance, items - 1),) for variance in variances.tolist()]
        parts: Sequence[tuple[Part, ...]] = alone
    else:
        of_seeds, of_items, rest = _mean_squares(layouts - means[:, None, None])
        of_items = np.maximum(of_items - rest, 0.0)
        shares = (np.stack([of_seeds, rest, of_items]) / (seeds * items)).T.tolist()
        parts = [
            (Part(by_seed, seeds - 1, by_answer), Part(by_item, items - 1))
            for by_seed, by_answer, by_item in shares
        ]
    return [
        Spread(mean=mean, parts=own, n=seeds, items=items)
        for mean, own in zip(means.tolist(), parts, strict=True)
    ]


def _means(layouts: Items) -> Items:
    """One number a layout."""
    _, seeds, items = layouts.shape
    found: Items = layouts.sum((1, 2)) / (seeds * items)
    return found


def _mean_squares(centred: Items) -> tuple[Items, Items, Items]:
    """Of the seeds, the items and the rest, one number a layout, its mean taken off already."""
    _, seeds, items = centred.shape
    of_seeds, of_items = centred.sum(2), centred.sum(1)
    by_seed = np.einsum("ij,ij->i", of_seeds, of_seeds) / items
    by_item = np.einsum("ij,ij->i", of_items, of_items) / seeds
    rest = np.einsum("ijk,ijk->i", centred, centred) - by_seed - by_item
    return (
        by_seed / (seeds - 1),
        by_item / (items - 1),
        np.maximum(rest, 0.0) / ((seeds - 1) * (items - 1)),
    )


def difference(one: Scores, other: Scores) -> Spread | None:
    """`one` minus `other`, seed by seed and item by item as far as both have them; None without.

    What both have in common, an easy question or a lucky seed, is not in it. A side without seeds
    stands beside every seed of the other.
    """
    seeds = [seed for seed in one.values if seed in other.values]
    pairs = [(seed, seed) for seed in seeds]
    if not seeds and None in other.values:
        pairs = [(seed, None) for seed in one.values]
    elif not seeds and None in one.values:
        pairs = [(None, seed) for seed in other.values]
    if not pairs:
        return None
    if one.by_item and other.by_item and one.documents == other.documents:
        return crossed(np.stack([one.by_item[a] - other.by_item[b] for a, b in pairs]))
    return independent([one.values[a] - other.values[b] for a, b in pairs])


def differences(rows: Sequence[Scores]) -> list[Spread | None]:
    """`difference` of every pair of rows, each with those after it."""
    seeds = {tuple(row.values) for row in rows}
    items = {row.documents for row in rows if row.by_item}
    if len(seeds) != 1 or len(items) != 1 or not all(row.by_item for row in rows):
        return [difference(one, other) for one, other in combinations(rows, 2)]
    scores = np.stack([list(map(row.by_item.__getitem__, row.values)) for row in rows])
    found: list[Spread | None] = []
    for row in range(len(rows) - 1):
        found += _crossed(scores[row] - scores[row + 1 :])
    return found


def gain(candidate: Scores, reference: Scores, better: Better) -> Estimate | None:
    """By how much `candidate` is better; None where the two have no seed in common.

    Positive means `candidate` is better, whichever way the metric points.
    """
    first, second = (candidate, reference) if better == "higher" else (reference, candidate)
    found = difference(first, second)
    return found.estimate if found else None


def reach(parts: Sequence[Part], probability: float) -> float:
    """How far from the mean the one-sided bound lies that is passed with this probability."""
    normal = _square(math.inf, probability)
    squares = (part.squared(_square(part.freedom, probability), normal) for part in parts)
    return math.sqrt(sum(squares))


@lru_cache(maxsize=4096)
def _square(freedom: float, probability: float) -> float:
    """Of the quantile."""
    return float(stdtrit(freedom, probability)) ** 2
