"""All rows of a task in one order, wherever they are from: plug-in, and what it took.

Rows that cannot be told apart share their ranks: a rank is the span of places a row may have.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from reports.budget import Budget
from reports.compare.changes import Shown
from reports.comparison import MEMORIES, QUALITY, Comparison, Observed, Treatment
from reports.statistics.intervals import Better
from reports.statistics.ties import Rank, ranks
from reports.tables.cells import (
    DASH,
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Style,
    Table,
    Text,
    label,
    one_line,
    quality_style,
    three_digits,
)
from reports.tables.changes import ONE_SEED_NOTE
from reports.tables.notes import LEAK_NOTES, TIES_NOTE, row_name, unequal_budgets
from reports.tables.observed_cells import (
    ARROWS,
    OTHER_ITEMS,
    corrected_leak_cell,
    gap_cell,
    mebibytes,
    number_cell,
    raw_leak_cell,
    setting_cell,
)

RANK_NOTE = (
    "Rank: the places a row may have; rows that cannot be told apart share them. Best mean first."
)
NO_LETTERS_NOTE = (
    "Every pair is tested over seeds and items in common, 5 % a table after Holm's correction; "
    "there are too many ties for letters. Bold: not told from the best."
)
MACHINES_NOTE = (
    "Rows were run on several machines: throughput and memory do not compare across them."
)


class Entrant(NamedTuple):
    """One row of a leaderboard."""

    sides: tuple[str, ...]
    """The letter of its side; several where they share the very result."""
    comparison: Comparison
    treatment: Treatment


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaderboard:
    """The rows of one task that have a plug-in, the best first."""

    task: str
    metric: str
    better: Better
    entrants: tuple[Entrant, ...]
    ranks: tuple[Rank | None, ...]
    """None for a row that was scored on other items than most."""


def leaderboards(sides: Sequence[Shown]) -> list[Leaderboard]:
    """One for every task on which several rows were plugged in."""
    tasks = dict.fromkeys(task for side in sides for _, task in side.tasks)
    found = [_leaderboard(task, sides) for task in tasks]
    return [board for board in found if len(board.entrants) > 1]


def leaderboard_table(board: Leaderboard) -> Table:
    """Rank, row, plug-in, and what stands beside it."""
    footnotes, style = Footnotes(), quality_style(board.metric)
    unit = f"{board.metric}, %" if style is PERCENT else board.metric
    detail = f"{unit} {ARROWS[board.better]}"
    gaps = [gap_cell(e.comparison, e.treatment, board.metric, footnotes) for e in board.entrants]
    columns = (
        Column(
            header="rank",
            cells=tuple(_rank_cell(r, footnotes) for r in board.ranks),
            kind="verdict",
        ),
        *_label_columns(board.entrants),
        Column(header="plug-in", detail=detail, cells=tuple(_plug_ins(board, footnotes))),
        Column(
            header="emulator fine-tuned",
            detail=detail,
            cells=_settings(board, "emulator_finetuned", footnotes),
        ),
        Column(
            header="plug-in gap",
            detail="points" if style is PERCENT else unit,
            cells=tuple(gaps),
        ),
        *_cost_columns(board, footnotes),
        _leak_column("raw leak", board, raw_leak_cell, footnotes),
        _leak_column("corrected leak", board, corrected_leak_cell, footnotes),
    )
    return Table(
        name=f"leaderboard-{board.task}",
        title=one_line(f"Leaderboard of {board.task}: {board.metric} ({board.better} is better)"),
        columns=columns,
        notes=tuple(_notes(board)),
        footnotes=footnotes.lettered(),
        task=board.task,
    )


def _leaderboard(task: str, sides: Sequence[Shown]) -> Leaderboard:
    rows = [
        Entrant((side.letter,), comparison, treatment)
        for side in sides
        for (_, of), comparison in side.tasks.items()
        if of == task
        for treatment in comparison.sandwiches
    ]
    metric = _metric(rows)
    plugged = _distinct([row for row in rows if _plug_in(row, metric).values], metric)
    better = plugged[0].comparison.better(metric) if plugged else "higher"
    sign = -1.0 if better == "higher" else 1.0
    ordered = sorted(plugged, key=lambda row: sign * _plug_in(row, metric).mean)
    return Leaderboard(
        task=task,
        metric=metric,
        better=better,
        entrants=tuple(ordered),
        ranks=_ranks(ordered, metric, better),
    )


def _distinct(rows: Sequence[Entrant], metric: str) -> list[Entrant]:
    """One entrant for sides that hold one and the same result."""
    found: dict[tuple[object, ...], Entrant] = {}
    for row in rows:
        plug_in = _plug_in(row, metric)
        costs = (row.comparison.throughput, row.comparison.memory)
        measured = [row.comparison.training(cost, row.treatment).runs for cost in costs]
        # Of equal scores the speeds may differ: that is what two machines are compared for.
        spent = tuple(tuple(each.items()) for each in measured)
        key = (row.comparison.model, row.treatment, plug_in.stages, *plug_in.numbers, spent)
        shared = found.get(key)
        found[key] = shared._replace(sides=shared.sides + row.sides) if shared else row
    return list(found.values())


def _plug_in(row: Entrant, metric: str) -> Observed:
    return row.comparison.setting("plug_in", row.treatment, metric)


def _metric(rows: Sequence[Entrant]) -> str:
    """The first in which most rows can be compared.

    A perplexity per token is not: each vocabulary has tokens of its own.
    """
    scored = {metric for row in rows for metric in row.comparison.metrics}
    known = [metric for metric in QUALITY if metric in scored]
    compared = {metric: _alike(rows, metric) for metric in known}
    return max(known, key=lambda metric: sum(compared[metric]), default="")


def _alike(rows: Sequence[Entrant], metric: str) -> list[bool]:
    """Which of them were scored on the items that most were scored on: as many, of equal data."""
    plug_ins = [_plug_in(row, metric) for row in rows]
    items = [
        (found.scored, row.comparison.data("evaluate")) if found.values else None
        for row, found in zip(rows, plug_ins, strict=True)
    ]
    counts = Counter(filter(None, items))
    usual = max(counts, key=lambda scored: counts[scored], default=None)
    return [each is not None and each == usual for each in items]


def _ranks(rows: Sequence[Entrant], metric: str, better: Better) -> tuple[Rank | None, ...]:
    is_alike = _alike(rows, metric)
    alike = [
        _plug_in(row, metric).scores for row, is_one in zip(rows, is_alike, strict=True) if is_one
    ]
    found = iter(ranks(alike, better))
    return tuple(next(found) if is_one else None for is_one in is_alike)


def _rank_cell(rank: Rank | None, footnotes: Footnotes) -> Cell:
    if rank is None:
        return Absent(word="not ranked", mark=footnotes.mark(OTHER_ITEMS))
    same = rank.first == rank.last
    return Text(text=str(rank.first) if same else f"{rank.first}{DASH}{rank.last}")


def _label_columns(entrants: Sequence[Entrant]) -> Iterator[Column]:
    for header, texts in {
        "side": [", ".join(each.sides) for each in entrants],
        "model": [each.comparison.model for each in entrants],
        "layout": [each.treatment.layout for each in entrants],
        "compression": [each.treatment.compression for each in entrants],
        "tuning": [each.treatment.tuning for each in entrants],
    }.items():
        yield Column(header=header, cells=tuple(map(label, texts)), kind="label")


def _settings(board: Leaderboard, setting: str, footnotes: Footnotes) -> tuple[Cell, ...]:
    return tuple(
        setting_cell(each.comparison, setting, each.treatment, board.metric, footnotes)
        for each in board.entrants
    )


def _plug_ins(board: Leaderboard, footnotes: Footnotes) -> Iterator[Cell]:
    """With the letters of their ties."""
    cells = _settings(board, "plug_in", footnotes)
    for cell, rank in zip(cells, board.ranks, strict=True):
        if rank and isinstance(cell, Number):
            yield replace(cell, group=rank.letters, is_best=rank.is_best)
        else:
            yield cell


def _cost_columns(board: Leaderboard, footnotes: Footnotes) -> Iterator[Column]:
    """Speed and memory, each where the rows agree on what to show."""
    comparisons = [each.comparison for each in board.entrants]
    for header, metrics in (
        ("throughput", [each.throughput for each in comparisons]),
        ("peak memory", [each.memory for each in comparisons]),
    ):
        for metric in dict.fromkeys(metrics):
            observed = [each.comparison.training(metric, each.treatment) for each in board.entrants]
            style, unit = _style(metric, observed)
            cells = tuple(number_cell(found, style, footnotes) for found in observed)
            yield Column(header=header, detail=unit, cells=cells, kind="cost")


def _style(metric: str, observed: Sequence[Observed]) -> tuple[Style, str]:
    if metric in MEMORIES:
        where = "process" if metric == "peak_memory_process" else "GPU"
        return mebibytes(observed), f"{where}, MiB ↓"
    unit = "samples/s" if metric == "throughput_samples" else "tokens/s"
    return three_digits([n for found in observed for n in found.numbers]), f"{unit} ↑"


def _leak_column(
    header: str,
    board: Leaderboard,
    leak_cell: Callable[[Comparison, Treatment, Footnotes], Cell],
    footnotes: Footnotes,
) -> Column:
    cells = tuple(leak_cell(e.comparison, e.treatment, footnotes) for e in board.entrants)
    return Column(header=header, detail="% ↓", cells=cells, kind="cost")


def _notes(board: Leaderboard) -> Iterator[str]:
    yield RANK_NOTE
    has_letters = any(rank and rank.letters for rank in board.ranks)
    yield TIES_NOTE if has_letters else NO_LETTERS_NOTE
    if any(_plug_in(each, board.metric).is_one_seed for each in board.entrants):
        yield ONE_SEED_NOTE
    machines = {
        machine
        for each in board.entrants
        for machine in each.comparison.training(each.comparison.throughput, each.treatment).machines
    }
    if len(machines) > 1:
        yield MACHINES_NOTE
    yield from unequal_budgets(_budgets(board))
    yield from LEAK_NOTES


def _budgets(board: Leaderboard) -> Mapping[Budget, Sequence[str]]:
    """The rows by what their trainings were given."""
    found: dict[Budget, list[str]] = defaultdict(list)
    for sides, comparison, treatment in board.entrants:
        name = one_line(f"{'/'.join(sides)} {comparison.model} {row_name(treatment)}")
        for budget in comparison.budgets([treatment]):
            found[budget].append(name)
    return found
