"""How good the best checkpoint would have been, beside the one that was chosen. A diagnostic."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reports.comparison import ANY_CHECKPOINT, Compared, Comparison, Treatment
from reports.results import Entry
from reports.statistics.intervals import gain
from reports.tables.cells import (
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Table,
    label,
    one_line,
    quality_style,
)
from reports.tables.notes import interval_notes
from reports.tables.observed_cells import (
    ARROWS,
    SETTING_NAMES,
    emulator_labels,
    number_cell,
    setting_cell,
)

NOTES = (
    "A diagnostic, no result: the oracle plugs in every checkpoint and takes the one that scores "
    "best on the very items that are reported. No party of the exchange can: the data owner has no "
    "original middle, the model owner none of the task's data.",
    "Plug-in: the result, at the step with the lowest loss with the emulator. "
    "Steps: one a seed; of checkpoints that score alike the first.",
)


def oracle_tables(found: Compared) -> tuple[Table, ...]:
    """One table for every model and task of which all checkpoints were plugged in."""
    return tuple(
        _oracle_table(comparison, comparison.metrics[0])
        for comparison in found.tasks
        if comparison.metrics and comparison.has(ANY_CHECKPOINT)
    )


def _oracle_table(comparison: Comparison, metric: str) -> Table:
    rows = [t for t in comparison.sandwiches if (ANY_CHECKPOINT, t) in comparison.entries]
    footnotes, style = Footnotes(), quality_style(metric)
    unit = f"{metric}, %" if style is PERCENT else metric
    detail = f"{unit} {ARROWS[comparison.better(metric)]}"
    columns = (
        *emulator_labels(comparison, rows, footnotes),
        Column(header="tuning", cells=tuple(label(row.tuning) for row in rows), kind="label"),
        Column(
            header=SETTING_NAMES["plug_in"],
            detail=detail,
            cells=tuple(setting_cell(comparison, "plug_in", t, metric, footnotes) for t in rows),
        ),
        _steps("chosen step", [comparison.chosen(row).values() for row in rows]),
        Column(
            header="oracle's plug-in",
            detail=detail,
            cells=tuple(
                number_cell(comparison.oracle(row, metric), style, footnotes) for row in rows
            ),
        ),
        _steps(
            "oracle's step", [comparison.best_checkpoints(row, metric).values() for row in rows]
        ),
        Column(
            header="oracle's lead",
            detail="points" if style is PERCENT else metric,
            cells=tuple(_lead_cell(comparison, t, metric) for t in rows),
        ),
    )
    subject = one_line(f"{comparison.model} on {comparison.task}")
    return Table(
        name=f"{comparison.model}-{comparison.task}-oracle",
        title=f"{subject}: the best checkpoint, which no owner could know ({metric}; a diagnostic)",
        model=comparison.model,
        task=comparison.task,
        columns=columns,
        notes=(*NOTES, *interval_notes(comparison, rows, metric, ("plug_in",))),
        footnotes=footnotes.lettered(),
    )


def _steps(header: str, rows: Sequence[Iterable[Entry]]) -> Column:
    """After which step the weights were taken, of every seed."""
    texts = (", ".join(str(e.step) for e in row if e.step is not None) for row in rows)
    return Column(header=header, cells=tuple(label(text) for text in texts))


def _lead_cell(comparison: Comparison, treatment: Treatment, metric: str) -> Cell:
    """How much of the plug-in's quality the choice by the emulator left on the table."""
    best = comparison.oracle(treatment, metric)
    chosen = comparison.setting("plug_in", treatment, metric)
    found = gain(best.scores, chosen.scores, best.better)
    if found is None:
        # Why stands in the two cells it would be made of.
        return Absent(word="not known")
    return Number(
        estimate=found,
        style=replace(quality_style(metric), signed=True),
        sources=(*best.stages, *chosen.stages),
    )
