"""The columns that several tables share: names of rows, quality, and what tuning cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from reports.comparison import Comparison, Treatment
from reports.record import TRAININGS
from reports.tables.cells import (
    MEBIBYTES,
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Style,
    label,
    quality_style,
    three_digits,
)
from reports.tables.observed_cells import (
    ARROWS,
    SETTING_NAMES,
    WHOLE_MODEL,
    compression_cell,
    exact_cell,
    gap_cell,
    number_cell,
    setting_cells,
    unlike_most,
)


def label_columns(
    comparison: Comparison, rows: Sequence[Treatment], footnotes: Footnotes
) -> tuple[Column, ...]:
    """Layout, compression and tuning of every row."""
    compressions = tuple(
        compression_cell(comparison, row, footnotes)
        if row.compression or not row.tuning
        else WHOLE_MODEL
        for row in rows
    )
    return (
        Column(header="layout", cells=tuple(label(row.layout) for row in rows), kind="label"),
        Column(header="compression", cells=compressions, kind="label"),
        tuning_column(rows),
    )


def tuning_column(rows: Sequence[Treatment]) -> Column:
    """How every row was trained."""
    return Column(header="tuning", cells=tuple(label(row.tuning) for row in rows), kind="label")


def quality_detail(comparison: Comparison, metric: str) -> str:
    """A metric, its unit and its direction, under a column's name."""
    unit = f"{metric}, %" if metric and quality_style(metric) is PERCENT else metric
    arrow = ARROWS[comparison.better(metric)] if metric else ""
    return f"{unit} {arrow}".strip()


def quality_columns(
    comparison: Comparison,
    settings: Iterable[str],
    rows: Sequence[Treatment],
    metric: str,
    footnotes: Footnotes,
    groups: Sequence[Sequence[Treatment]] | None = None,
) -> Iterator[Column]:
    """The settings that were asked for, then the plug-in gap; ranked in groups, if any."""
    for setting in filter(comparison.has, settings):
        yield Column(
            header=SETTING_NAMES[setting],
            detail=quality_detail(comparison, metric),
            cells=setting_cells(comparison, setting, rows, metric, footnotes, groups),
        )
    if comparison.has("plug_in") and comparison.has("emulator_finetuned"):
        unit = "points" if quality_style(metric) is PERCENT else metric
        yield Column(
            header="plug-in gap",
            detail=f"{unit} ↑".strip(),
            cells=tuple(gap_cell(comparison, row, metric, footnotes) for row in rows),
        )


def cost_columns(
    comparison: Comparison, rows: Sequence[Treatment], footnotes: Footnotes
) -> Iterator[Column]:
    """Speed and memory of the tuning, if anything was to be tuned."""
    if not comparison.has(*TRAININGS):
        return
    metric = comparison.throughput
    speeds = [number for row in rows for number in comparison.training(metric, row).numbers]
    yield Column(
        kind="cost",
        header="tuning throughput",
        detail="samples/s ↑" if metric == "throughput_samples" else "tokens/s ↑",
        cells=_training_cells(comparison, rows, metric, three_digits(speeds), footnotes),
    )
    yield Column(
        kind="cost",
        header="peak memory",
        detail="MiB ↓",
        cells=_training_cells(comparison, rows, comparison.memory, MEBIBYTES, footnotes),
    )


def size_column(comparison: Comparison, rows: Sequence[Treatment], footnotes: Footnotes) -> Column:
    """How many parameters every row trains."""
    observed = [comparison.training("trainable_parameters", row) for row in rows]
    return Column(
        kind="cost",
        header="trainable parameters",
        detail="↓",
        cells=tuple(exact_cell(each, footnotes) for each in observed),
    )


def _training_cells(
    comparison: Comparison,
    rows: Sequence[Treatment],
    metric: str,
    style: Style,
    footnotes: Footnotes,
) -> tuple[Cell, ...]:
    """A column of costs, each but the reference's own with its ratio to full fine-tuning."""
    base = comparison.reference
    reference = comparison.training(metric, base) if base else None
    cells: list[Cell] = []
    for row in rows:
        observed = comparison.training(metric, row)
        if len(observed.machines) > 1:
            reason = "unmeasured: several machines measured it; a mean would mix them"
            cells.append(Absent(word="unmeasured", mark=footnotes.mark(reason)))
            continue
        comparable = reference and row != base and reference.machines == observed.machines
        cells.append(
            number_cell(
                observed,
                style,
                footnotes,
                reference if comparable else None,
                unlike_most(comparison, observed),
            )
        )
    return tuple(cells)
