"""Tuning methods beside each other on one emulator: what each trains, and what comes of it.

The paper's Table 5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from reports.comparison import Compared, Comparison, Treatment
from reports.tables.cells import Column, Footnotes, Table, one_line, three_digits
from reports.tables.columns import (
    cost_columns,
    label_columns,
    quality_columns,
    size_column,
)
from reports.tables.notes import (
    budget_notes,
    cost_notes,
    interval_notes,
    plug_in_notes,
    selection_notes,
)
from reports.tables.observed_cells import exact_cell, metric_text

RANKED = "Of tunings beside each other, those of one emulator are ranked."
SETTINGS = ("emulator_finetuned", "plug_in")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunings:
    """Rows of one model and task that differ in nothing but the tuning."""

    layout: str
    compression: str
    rows: tuple[Treatment, ...]
    """In plan order."""


def tuning_tables(found: Compared) -> tuple[Table, ...]:
    """One table wherever several tunings were tried on an emulator."""
    return tuple(
        _tuning_table(comparison, groups)
        for comparison in found.tasks
        if comparison.metrics and (groups := list(tuning_groups(comparison)))
    )


def tuning_groups(comparison: Comparison) -> Iterator[Tunings]:
    """The emulators that were tuned in more than one way."""
    groups: dict[tuple[str, str], list[Treatment]] = {}
    for row in comparison.sandwiches:
        if row.tuning:
            groups.setdefault((row.layout, row.compression), []).append(row)
    for (layout, compression), rows in groups.items():
        if len(rows) > 1:
            yield Tunings(layout=layout, compression=compression, rows=tuple(rows))


def _tuning_table(comparison: Comparison, tunings: Sequence[Tunings]) -> Table:
    footnotes, metric = Footnotes(), comparison.metrics[0]
    groups = [each.rows for each in tunings]
    rows = [row for group in groups for row in group]
    was_measured = any(
        comparison.training(cost, row).values
        for cost in (comparison.throughput, comparison.memory)
        for row in rows
    )
    columns = (
        *label_columns(comparison, rows, footnotes),
        size_column(comparison, rows, footnotes),
        *_share_column(comparison, rows, footnotes),
        *quality_columns(comparison, SETTINGS, rows, metric, footnotes, groups),
        *(cost_columns(comparison, rows, footnotes) if was_measured else ()),
    )
    subject = one_line(f"{comparison.model} on {comparison.task}")
    return Table(
        name=f"{comparison.model}-{comparison.task}-tunings",
        title=f"Tunings of one emulator: {subject}: {metric_text(comparison, metric)}",
        columns=columns,
        notes=(
            *interval_notes(comparison, rows, metric, SETTINGS),
            *plug_in_notes(comparison, RANKED),
            *(cost_notes(comparison) if was_measured else ()),
            *selection_notes(comparison),
            *budget_notes(comparison, rows),
        ),
        footnotes=footnotes.lettered(),
        model=comparison.model,
        task=comparison.task,
    )


def _share_column(
    comparison: Comparison, rows: Sequence[Treatment], footnotes: Footnotes
) -> Iterator[Column]:
    """Of all blocks' parameters, which full fine-tuning trains, where that was run."""
    base = comparison.reference
    if base is None or base.tuning != "full":
        return
    whole = comparison.training("trainable_parameters", base).numbers
    if whole:
        trained = [comparison.training("trainable_parameters", row) for row in rows]
        shares = [100 * number / whole[0] for each in trained for number in each.numbers]
        style = replace(three_digits(shares), scale=100 / whole[0])
        yield Column(
            kind="cost",
            header="trainable share",
            detail="% of all blocks ↓",
            cells=tuple(exact_cell(each, footnotes, style) for each in trained),
        )
