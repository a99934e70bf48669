"""Sides beside each other, row by row: differences of quality, ratios of cost, rows without peer.

Rows are matched by their labels, since another revision has other digests. The first side is the
reference of all others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from reports.compare.sides import Side, shown_machines
from reports.comparison import (
    QUALITY,
    Comparison,
    Observed,
    Treatment,
    compared,
)
from reports.record import SETTINGS, TRAININGS
from reports.results import rows
from reports.statistics.intervals import Better, Estimate, Spread, difference
from reports.statistics.ratios import RatioEstimate, paired_ratio
from reports.statistics.ties import holm, probability
from reports.tables.observed_cells import OTHER_ITEMS

BY_SEED = "paired by seed alone: the items are others, or in another order"

Pair = tuple[str, str]
"""Model and task."""


class Row(NamedTuple):
    """What the sides are compared in."""

    model: str
    task: str
    role: str
    """A setting, or the kind of a training, `@` and the loop that ran it if it is not ours."""
    treatment: Treatment


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One side with its rows put together."""

    side: Side
    machine: str | None
    """Whose speed and memory are shown."""
    tasks: Mapping[Pair, Comparison]

    @property
    def letter(self) -> str:
        """Which side it is."""
        return self.side.letter


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By how much a quality metric of one side is above the reference's, in one row."""

    row: Row
    metric: str
    better: Better
    letter: str
    reference: Observed
    other: Observed | None
    """None where the side has no such row."""
    spread: Spread | None = None
    """None where there is no difference to speak of."""
    reason: str = ""
    """Why there is none, if both have values."""
    caveats: tuple[str, ...] = ()
    probability: float | None = None
    """Of a difference at least so large between equals; None where its spread is not known."""
    corrected: float | None = None
    """The same after Holm's correction for all differences of the table."""

    @property
    def estimate(self) -> Estimate | None:
        """The difference with its interval."""
        return self.spread.estimate if self.spread else None

    @property
    def is_for_better(self) -> bool:
        """Whether it points the way the metric does."""
        return self.spread is not None and (self.spread.mean > 0) == (self.better == "higher")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRatio:
    """A cost of one side over the reference's, in one row."""

    row: Row
    metric: str
    better: Better
    letter: str
    reference: Observed
    other: Observed | None
    ratio: RatioEstimate | None = None
    reason: str = ""
    """Why there is no ratio, if both have values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnlyOn:
    """Seeds of a row that some sides have and others do not."""

    row: Row
    seeds: tuple[int | None, ...]
    letters: tuple[str, ...]
    """Of the sides that have them."""


def shown(sides: Sequence[Side]) -> list[Shown]:
    """The sides, ready to be compared; speed and memory of one machine if all have one."""
    machines = shown_machines(sides)
    return [_shown(side, machine) for side, machine in zip(sides, machines, strict=True)]


def quality_differences(sides: Sequence[Shown]) -> list[list[Difference]]:
    """For every model, task and metric that the reference shares with a side, all differences."""
    found = []
    for pair in sides[0].tasks:
        for metric in _metrics([side.tasks[pair] for side in sides if pair in side.tasks]):
            raw = list(_raw_differences(sides, pair, metric))
            if raw:
                found.append(_corrected(raw))
    return found


def cost_ratios(sides: Sequence[Shown]) -> list[list[CostRatio]]:
    """For every model and task whose trainings the reference shares with a side, all ratios."""
    found = [list(_cost_ratios(sides, pair)) for pair in sides[0].tasks]
    return [ratios for ratios in found if ratios]


def only_on(sides: Sequence[Shown]) -> list[OnlyOn]:
    """Every row, or some seeds of it, that is not on all sides."""
    letters: dict[Row, dict[int | None, tuple[str, ...]]] = defaultdict(dict)
    for each in sides:
        for row, seeds in _rows(each):
            for seed in seeds:
                letters[row][seed] = (*letters[row].get(seed, ()), each.letter)
    return [
        OnlyOn(row=row, seeds=tuple(s for s in by_seed if by_seed[s] == have), letters=have)
        for row, by_seed in letters.items()
        for have in dict.fromkeys(by_seed.values())
        if len(have) < len(sides)
    ]


def _shown(side: Side, machine: str | None) -> Shown:
    found = compared(rows(side.runs, machine=machine, with_not_run=True))
    tasks = {(each.model, each.task): each for each in found.tasks}
    return Shown(side=side, machine=machine, tasks=tasks)


def _rows(each: Shown) -> Iterator[tuple[Row, list[int | None]]]:
    """The rows of a side with their seeds; trainings only where nothing else stands for them."""
    for (model, task), comparison in each.tasks.items():
        wanted = SETTINGS if comparison.has(*SETTINGS) else TRAININGS
        for (role, treatment), entries in comparison.entries.items():
            if role.partition("@")[0] in wanted:
                seeds = list(dict.fromkeys(entry.seed for entry in entries))
                yield Row(model, task, role, treatment), seeds


def _metrics(comparisons: Iterable[Comparison]) -> list[str]:
    scored = {metric for comparison in comparisons for metric in comparison.metrics}
    return [metric for metric in QUALITY if metric in scored]


def _raw_differences(sides: Sequence[Shown], pair: Pair, metric: str) -> Iterator[Difference]:
    reference, *others = sides
    first = reference.tasks[pair]
    keys = [key for setting in SETTINGS for key in first.entries if key[0] == setting]
    for role, treatment in keys:
        row = Row(*pair, role, treatment)
        if not any(_has(other, row) for other in others):
            continue
        observed = first.setting(role, treatment, metric)
        for other in others:
            theirs = _quality(other, row, metric)
            both = Difference(
                row=row,
                metric=metric,
                better=first.better(metric),
                letter=other.letter,
                reference=observed,
                other=theirs,
            )
            yield _measured(both) if theirs and theirs.values and observed.values else both


def _has(each: Shown, row: Row) -> bool:
    comparison = each.tasks.get((row.model, row.task))
    return comparison is not None and (row.role, row.treatment) in comparison.entries


def _quality(each: Shown, row: Row, metric: str) -> Observed | None:
    if not _has(each, row):
        return None
    return each.tasks[row.model, row.task].setting(row.role, row.treatment, metric)


def _measured(both: Difference) -> Difference:
    """The difference of two values, or why there is none."""
    one, other = both.reference, both.other
    assert other is not None
    if not other.is_comparable(one):
        return replace(both, reason=OTHER_ITEMS)
    spread = difference(other.scores, one.scores)
    if spread is None:
        return replace(both, reason="no seed in common")
    known = probability(spread) if spread.parts else None
    return replace(both, spread=spread, probability=known, caveats=tuple(_caveats(one, other)))


def _caveats(one: Observed, other: Observed) -> Iterator[str]:
    both = len(one.values.keys() & other.values.keys())
    if both < max(len(one.values), len(other.values)):
        yield f"over the {both} seed{'s' * (both != 1)} that both have"
    if one.scores.by_item and other.scores.by_item and _documents(one) != _documents(other):
        yield BY_SEED


def _documents(observed: Observed) -> str:
    return observed.scores.documents


def _corrected(found: Sequence[Difference]) -> list[Difference]:
    """With Holm's correction for all that were tested here."""
    tested = [each.probability for each in found if each.probability is not None]
    corrected = iter(holm(tested))
    return [
        each if each.probability is None else replace(each, corrected=next(corrected))
        for each in found
    ]


def _cost_ratios(sides: Sequence[Shown], pair: Pair) -> Iterator[CostRatio]:
    reference, *others = sides
    first = reference.tasks[pair]
    for role, treatment in first.entries:
        kind, _, peer = role.partition("@")
        row = Row(*pair, role, treatment)
        if kind not in TRAININGS or not any(_has(other, row) for other in others):
            continue
        for metric in (first.throughput, first.memory, "energy_per_sample"):
            observed = first.training(metric, treatment, peer=peer)
            theirs = [_training(other, row, metric) for other in others]
            if not observed.values and not any(each and each.values for each in theirs):
                continue
            for other, found in zip(others, theirs, strict=True):
                both = CostRatio(
                    row=row,
                    metric=metric,
                    better=first.better(metric),
                    letter=other.letter,
                    reference=observed,
                    other=found,
                )
                yield _divided(both) if found and found.values and observed.values else both


def _training(each: Shown, row: Row, metric: str) -> Observed | None:
    if not _has(each, row):
        return None
    peer = row.role.partition("@")[2]
    return each.tasks[row.model, row.task].training(metric, row.treatment, peer=peer)


def _divided(both: CostRatio) -> CostRatio:
    """The ratio of runs with the same seed and repeat, if one machine made them all."""
    one, other = both.reference, both.other
    assert other is not None
    if len(one.machines | other.machines) > 1:
        names = " and ".join(", ".join(sorted(each.machines)) for each in (one, other))
        return replace(both, reason=f"other machine: made on {names}, and no ratio mixes two")
    ratio = paired_ratio(other.runs, one.runs)
    return replace(both, ratio=ratio, reason="" if ratio else "no run in common")
