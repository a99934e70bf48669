"""Compressions beside each other: what each takes, what it protects and what it gives away."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from reports.comparison import Compared, Comparison, Observed, Treatment
from reports.tables.cells import PERCENT, Cell, Column, Footnotes, Table, one_line
from reports.tables.columns import quality_columns
from reports.tables.notes import (
    LEAK_NOTES,
    SIZE_NOTES,
    TIES_NOTE,
    budget_notes,
    interval_notes,
    selection_notes,
)
from reports.tables.observed_cells import (
    corrected_leak_cell,
    emulator_labels,
    mebibytes,
    metric_text,
    number_cell,
)

ON_BUDGET = 0.10
"""How far from the common budget an emulator may be and still count as on it."""
FEWEST = 3
"""Compressions that make a comparison."""
UNCOMPRESSED = "identity"
SETTINGS = ("emulator_zero_shot", "plug_in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Rows of one model and task that differ in nothing but the compression."""

    adapter_blocks: str
    tuning: str
    rows: tuple[Treatment, ...]
    """The best plug-in first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The bytes that most of the emulators take."""

    size: float
    outside: frozenset[Treatment]
    """The emulators that take more or less."""


def compression_tables(found: Compared) -> tuple[Table, ...]:
    """One table wherever enough compressions were disclosed on one model, task and tuning."""
    return tuple(
        _compression_table(comparison, group)
        for comparison in found.tasks
        if comparison.metrics and comparison.emulators
        for group in alike(comparison)
        if len({row.compression for row in group.rows}) >= FEWEST
    )


def adapter_blocks(layout: str) -> str:
    """The adapter blocks of a layout, as a suite gives them.

    >>> adapter_blocks("2-8-2"), adapter_blocks("0,5,18,23-8")
    ('2+2', '0,5,18,23')
    """
    before, _, last = layout.rpartition("-")
    return before if "," in before else f"{layout.partition('-')[0]}+{last}"


def common_budget(sizes: Mapping[Treatment, float]) -> Budget | None:
    """The median size; None unless enough emulators are within ON_BUDGET of it."""
    size = median(sizes.values()) if sizes else 0.0
    outside = {row for row, own in sizes.items() if abs(own - size) > ON_BUDGET * size}
    if len(sizes) - len(outside) < FEWEST:
        return None
    return Budget(size=size, outside=frozenset(outside))


def alike(comparison: Comparison) -> Iterator[Alike]:
    """The rows of every choice of adapter blocks and tuning."""
    groups: dict[tuple[str, str], list[Treatment]] = {}
    for row in comparison.sandwiches:
        groups.setdefault((adapter_blocks(row.layout), row.tuning), []).append(row)
    for (blocks, tuning), rows in groups.items():
        ordered = tuple(_best_first(comparison, rows))
        yield Alike(adapter_blocks=blocks, tuning=tuning, rows=ordered)


def _best_first(comparison: Comparison, rows: Sequence[Treatment]) -> list[Treatment]:
    """By plug-in; rows without one come last, in plan order."""
    metric = comparison.metrics[0]
    sign = -1 if comparison.better(metric) == "higher" else 1
    plug_in = {row: comparison.setting("plug_in", row, metric) for row in rows}
    return sorted(
        rows, key=lambda row: (0, sign * plug_in[row].mean) if plug_in[row].values else (1, 0.0)
    )


def _compression_table(comparison: Comparison, alike: Alike) -> Table:
    footnotes = Footnotes()
    effective = {row: comparison.disclosed("effective_bytes", row) for row in alike.rows}
    known = {row: found.mean for row, found in effective.items() if found.values}
    compressed = {row: size for row, size in known.items() if row.compression != UNCOMPRESSED}
    budget = common_budget(compressed)
    labels = emulator_labels(comparison, alike.rows, footnotes)
    whole = _uncompressed(comparison, alike)
    columns = (
        *reversed(labels),
        _effective_column(effective, whole, budget, footnotes),
        _stored_column(comparison, alike, footnotes),
        *_quality_columns(comparison, alike, footnotes),
    )
    subject = one_line(f"{comparison.model} on {comparison.task}")
    alike_in = f"tuning {alike.tuning}, " if alike.tuning else ""
    alike_in = one_line(f"{alike_in}adapter blocks {alike.adapter_blocks}")
    headline = "Compressions on one budget" if budget else "Compressions compared"
    metric = metric_text(comparison, comparison.metrics[0])
    return Table(
        name=f"{comparison.model}-{comparison.task}-compressions-{alike.tuning}"
        f"-{alike.adapter_blocks}",
        title=f"{headline}: {subject}, {alike_in}: {metric}",
        model=comparison.model,
        task=comparison.task,
        columns=columns,
        notes=tuple(_notes(comparison, alike, budget, whole)),
        footnotes=footnotes.lettered(),
    )


def _uncompressed(comparison: Comparison, alike: Alike) -> float | None:
    """Bytes of the middle as it stands, where a row has it."""
    rows = [row for row in alike.rows if row.compression == UNCOMPRESSED]
    stored = [comparison.disclosed("stored_bytes", row) for row in rows]
    return next((found.mean for found in stored if found.values), None)


def _effective_column(
    effective: Mapping[Treatment, Observed],
    whole: float | None,
    budget: Budget | None,
    footnotes: Footnotes,
) -> Column:
    """Effective bytes, as a share of the uncompressed middle where that is known."""
    style = replace(PERCENT, scale=100 / whole) if whole else mebibytes(list(effective.values()))
    off = f"more than {ON_BUDGET:.0%} off the budget".replace("%", " %")
    cells: list[Cell] = []
    for row, found in effective.items():
        cell = number_cell(found, style, footnotes)
        if budget and row in budget.outside:
            cell = replace(cell, mark=footnotes.mark(off))
        cells.append(cell)
    detail = "% of the middle ↓" if whole else "MiB ↓"
    return Column(header="effective bytes", detail=detail, cells=tuple(cells), kind="cost")


def _stored_column(comparison: Comparison, alike: Alike, footnotes: Footnotes) -> Column:
    stored = [comparison.disclosed("stored_bytes", row) for row in alike.rows]
    style = mebibytes(stored)
    cells = tuple(number_cell(found, style, footnotes) for found in stored)
    return Column(header="stored bytes", detail="MiB ↓", cells=cells, kind="cost")


def _quality_columns(
    comparison: Comparison, alike: Alike, footnotes: Footnotes
) -> Iterator[Column]:
    metric, rows = comparison.metrics[0], alike.rows
    yield from quality_columns(comparison, SETTINGS, rows, metric, footnotes)
    if comparison.has("emulator_zero_shot") and comparison.has("full_zero_shot"):
        cells = (corrected_leak_cell(comparison, row, footnotes) for row in rows)
        yield Column(header="corrected leak", detail="% ↓", cells=tuple(cells), kind="cost")


def _notes(
    comparison: Comparison, alike: Alike, budget: Budget | None, whole: float | None
) -> Iterator[str]:
    if budget and whole:
        yield (
            f"Budget: {PERCENT.mean(budget.size / whole)} % of the uncompressed middle, the "
            f"median; {UNCOMPRESSED} is not counted."
        )
    elif budget:
        size = mebibytes([Observed(values={None: budget.size})])
        yield f"Budget: {size.mean(budget.size)} MiB, the median."
    yield from interval_notes(comparison, alike.rows, comparison.metrics[0], SETTINGS)
    if comparison.has("plug_in"):
        yield "Best plug-in first: an order of means; letters say which cannot be told apart."
        yield TIES_NOTE
        yield from selection_notes(comparison)
        yield from budget_notes(comparison, alike.rows)
    yield from SIZE_NOTES
    if comparison.has("full_zero_shot"):
        yield from LEAK_NOTES
