"""Adapter blocks in several places of one model: how many the data owner tunes, and where.

The paper's Figure 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from reports.comparison import Compared, Comparison, Treatment
from reports.tables.cells import Column, Footnotes, Table, label, one_line
from reports.tables.columns import label_columns, quality_columns, size_column
from reports.tables.compressions import adapter_blocks
from reports.tables.notes import (
    budget_notes,
    interval_notes,
    plug_in_notes,
    selection_notes,
)
from reports.tables.observed_cells import metric_text

RANKED = "Of choices of adapter blocks, those with one compression and tuning are ranked."
SETTINGS = ("emulator_finetuned", "plug_in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Rows of one model and task that differ in nothing but their adapter blocks."""

    compression: str
    tuning: str
    rows: tuple[Treatment, ...]
    """In plan order."""


def position_tables(found: Compared) -> tuple[Table, ...]:
    """One table wherever several choices of adapter blocks were tuned alike."""
    return tuple(
        _position_table(comparison, groups)
        for comparison in found.tasks
        if comparison.metrics and (groups := list(position_groups(comparison)))
    )


def position_groups(comparison: Comparison) -> Iterator[Positions]:
    """The compressions and tunings that were tried with more than one choice of adapter blocks."""
    groups: dict[tuple[str, str], list[Treatment]] = {}
    for row in comparison.sandwiches:
        if row.tuning:
            groups.setdefault((row.compression, row.tuning), []).append(row)
    for (compression, tuning), rows in groups.items():
        if len({adapter_blocks(row.layout) for row in rows}) > 1:
            yield Positions(compression=compression, tuning=tuning, rows=tuple(rows))


def _position_table(comparison: Comparison, positions: Sequence[Positions]) -> Table:
    footnotes, metric = Footnotes(), comparison.metrics[0]
    groups = [each.rows for each in positions]
    rows = [row for group in groups for row in group]
    layouts, compressions, tunings = label_columns(comparison, rows, footnotes)
    columns = (
        compressions,
        tunings,
        Column(
            header="adapter blocks",
            cells=tuple(label(adapter_blocks(row.layout)) for row in rows),
            kind="label",
        ),
        layouts,
        size_column(comparison, rows, footnotes),
        *quality_columns(comparison, SETTINGS, rows, metric, footnotes, groups),
    )
    subject = one_line(f"{comparison.model} on {comparison.task}")
    return Table(
        name=f"{comparison.model}-{comparison.task}-positions",
        title=f"Choices of adapter blocks: {subject}: {metric_text(comparison, metric)}",
        columns=columns,
        notes=(
            *interval_notes(comparison, rows, metric, SETTINGS),
            *plug_in_notes(comparison, RANKED),
            *selection_notes(comparison),
            *budget_notes(comparison, rows),
        ),
        footnotes=footnotes.lettered(),
        model=comparison.model,
        task=comparison.task,
    )
