"""Several sides beside each other, as a report and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports.compare.changes import (
    CostRatio,
    Difference,
    OnlyOn,
    Row,
    Shown,
    cost_ratios,
    only_on,
    quality_differences,
    shown,
)
from reports.compare.differing import Differing, differing
from reports.compare.sides import Side
from reports.comparison import Observed
from reports.crossed import crossed_scores
from reports.report import Counts, Report, counted
from reports.tables.cells import one_line
from reports.tables.changes import (
    cost_table,
    difference_table,
    differing_table,
    only_on_table,
    sides_table,
)
from reports.tables.leaderboard import Leaderboard, leaderboard_table, leaderboards


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparing:
    """All that was found between sides, the first of which is the reference."""

    sides: tuple[Shown, ...]
    differences: tuple[tuple[Difference, ...], ...]
    """By model, task and metric."""
    ratios: tuple[tuple[CostRatio, ...], ...]
    """By model and task."""
    only: tuple[OnlyOn, ...]
    differing: tuple[Differing, ...]
    boards: tuple[Leaderboard, ...]

    @property
    def letters(self) -> list[str]:
        """Of all sides."""
        return [each.letter for each in self.sides]


def compare(sides: Sequence[Side]) -> Comparing:
    """Match the rows of the sides and measure how far they are apart."""
    ready = shown(sides)
    return Comparing(
        sides=tuple(ready),
        differences=tuple(map(tuple, quality_differences(ready))),
        ratios=tuple(map(tuple, cost_ratios(ready))),
        only=tuple(only_on(ready)),
        differing=tuple(differing(sides)),
        boards=tuple(leaderboards(ready)),
    )


def comparison_report(found: Comparing) -> Report:
    """One page of it."""
    names = [f"{each.letter}: {each.side.name}" for each in found.sides]
    main, further = _by_metric(found.differences)
    return Report(
        suite=one_line(", ".join(names)),
        profile="",
        counts=_counts(found.sides),
        warnings=tuple(_warnings(found)),
        facts=tuple(fact for each in found.sides for fact in _facts(each)),
        tables=(
            sides_table(found.sides),
            *map(difference_table, main),
            *map(cost_table, found.ratios),
            *([only_on_table(found.only, found.sides)] if found.only else ()),
            *([differing_table(found.differing, found.letters)] if found.differing else ()),
            *map(leaderboard_table, found.boards),
        ),
        pictures=(),
        further=tuple(map(difference_table, further)),
    )


def as_values(found: Comparing) -> dict[str, Any]:
    """All of it as plain values, for machines: nothing is rounded."""
    return {
        "sides": [_side_values(each) for each in found.sides],
        "differences": [_difference_values(e) for each in found.differences for e in each],
        "ratios": [_ratio_values(e) for each in found.ratios for e in each],
        "only": [
            {**_row_values(each.row), "seeds": [*each.seeds], "sides": [*each.letters]}
            for each in found.only
        ],
        "differing": [
            {
                "what": each.what,
                "values": dict(each.values),
                "stages": [stage.digest for stage in each.stages],
            }
            for each in found.differing
        ],
        "leaderboards": [_board_values(board) for board in found.boards],
        "warnings": list(_warnings(found)),
    }


Tables = tuple[Difference, ...]


def _by_metric(found: Sequence[Tables]) -> tuple[list[Tables], list[Tables]]:
    """The first metric of every model and task, then the others."""
    main: dict[tuple[str, str], Tables] = {}
    further = []
    for differences in found:
        pair = differences[0].row[:2]
        if main.setdefault(pair, differences) is not differences:
            further.append(differences)
    return list(main.values()), further


def _counts(sides: Sequence[Shown]) -> Counts:
    """Of all sides together."""
    return counted([run for each in sides for run in each.side.runs])


def _warnings(found: Comparing) -> Iterator[str]:
    for each in found.sides:
        side = each.side
        if side.older:
            yield (
                f"{side.letter}: {side.older} older results bear the labels of newer ones and are "
                "left out; choose a suite, a profile or a commit to compare them."
            )
        if side.unnamed:
            yield f"{side.letter}: no plan says what {side.unnamed} results are of; left out."
        for warning in crossed_scores(side.runs):
            yield f"{side.letter}: {warning}"
    if not found.differences and not found.ratios:
        yield "The sides have no row in common: nothing was subtracted."
    if found.differing:
        names = ", ".join(dict.fromkeys(each.what for each in found.differing))
        yield one_line(f"The sides differ in more than their commit: {names}.")
    if found.only:
        yield f"{len(found.only)} rows or seeds are not on all sides."


def _facts(each: Shown) -> Iterator[tuple[str, str]]:
    """Where a side was run: what all its records say, several values where they do not agree."""
    environments = [record.environment for record in each.side.records]
    yield f"{each.letter}: machine", _distinct(map(_machine, environments))
    yield f"{each.letter}: packages", _distinct(map(_packages, environments))


def _machine(environment: Mapping[str, Any]) -> str:
    machine = environment.get("machine")
    if not isinstance(machine, Mapping):
        return "not known"
    gpus = [str(gpu.get("name")) for gpu in machine.get("gpus", ()) if isinstance(gpu, Mapping)]
    cores = f"{machine.get('processor')}, {machine.get('cores')} cores"
    return ", ".join((cores, *gpus))


def _packages(environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages")
    named = packages.items() if isinstance(packages, Mapping) else ()
    return ", ".join(f"{name} {version}" for name, version in named) or "not known"


def _distinct(texts: Iterator[str]) -> str:
    return one_line(" | ".join(dict.fromkeys(texts)))


def _side_values(each: Shown) -> dict[str, Any]:
    counts = _counts([each])
    return {
        "side": each.letter,
        "given": each.side.name,
        "machine": each.machine,
        "commits": sorted({str(r.environment.get("commit") or "") for r in each.side.records}),
        "stages": {
            "planned": counts.planned,
            "ok": counts.ok,
            "failed": counts.failed,
            "not run": counts.missing,
        },
    }


def _row_values(row: Row) -> dict[str, Any]:
    return {
        "model": row.model,
        "task": row.task,
        "setting": row.role,
        "layout": row.treatment.layout,
        "compression": row.treatment.compression,
        "tuning": row.treatment.tuning,
    }


def _compared_values(each: Difference | CostRatio) -> dict[str, Any]:
    return {
        **_row_values(each.row),
        "metric": each.metric,
        "better": each.better,
        "unit": each.reference.unit or (each.other.unit if each.other else ""),
        "side": each.letter,
        "reference": _mean(each.reference),
        "value": _mean(each.other) if each.other else None,
        "reason": each.reason,
    }


def _mean(observed: Observed) -> float | None:
    return observed.mean if observed.values else None


def _difference_values(each: Difference) -> dict[str, Any]:
    estimate = each.estimate
    half = estimate.half_width if estimate else None
    return {
        **_compared_values(each),
        "difference": estimate.mean if estimate else None,
        "low": estimate.mean - half if estimate and half is not None else None,
        "high": estimate.mean + half if estimate and half is not None else None,
        "p": each.probability,
        "p_corrected": each.corrected,
        "pairs": estimate.n if estimate else 0,
        "items": estimate.items if estimate else None,
        "caveats": [*each.caveats],
    }


def _ratio_values(each: CostRatio) -> dict[str, Any]:
    found = each.ratio
    return {
        **_compared_values(each),
        "ratio": found.ratio if found else None,
        "low": found.low if found else None,
        "high": found.high if found else None,
        "pairs": found.n if found else 0,
    }


def _board_values(board: Leaderboard) -> dict[str, Any]:
    rows = []
    for entrant, rank in zip(board.entrants, board.ranks, strict=True):
        treatment = entrant.treatment
        plug_in = entrant.comparison.setting("plug_in", treatment, board.metric)
        rows.append(
            {
                "rank": [rank.first, rank.last] if rank else None,
                "letters": rank.letters if rank else "",
                "sides": [*entrant.sides],
                "model": entrant.comparison.model,
                **treatment._asdict(),
                "plug_in": plug_in.mean,
            }
        )
    return {"task": board.task, "metric": board.metric, "better": board.better, "rows": rows}
