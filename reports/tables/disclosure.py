"""The tables of what the owner gave away with each emulator, and of the capability that leaked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from reports.comparison import Compared, Comparison
from reports.statistics.intervals import estimate
from reports.tables.cells import (
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Style,
    Table,
    label,
    one_line,
    quality_style,
)
from reports.tables.notes import DISCLOSURE_NOTES, LEAK_NOTES, RECOVERY_NOTE
from reports.tables.observed_cells import (
    ARROWS,
    corrected_leak_cell,
    emulator_labels,
    mebibytes,
    metric_text,
    number_cell,
    raw_leak_cell,
    setting_cell,
)

SIMILARITY = Style(decimals=3)
RECOVERY = "recovery"
"""Begins the metrics of a disclosure that tell what an attack got back of the foundation model."""
LEAK_COLUMNS = ("full zero-shot", "emulator zero-shot", "chance", "raw leak", "corrected leak")


def disclosure_tables(found: Compared) -> tuple[Table, ...]:
    """What the owner gave away, model by model: parameters, bytes, likeness, capability."""
    tasks = _scored(found)
    return tuple(
        _disclosure_table(owner, [task for task in tasks if task.model == owner.model])
        for owner in found.models
        if owner.emulators
    )


def leak_tables(found: Compared) -> tuple[Table, ...]:
    """Capability leak and the scores it is made of, model by model."""
    tasks = _scored(found)
    names = dict.fromkeys(task.model for task in tasks)
    return tuple(_leak_table([task for task in tasks if task.model == name]) for name in names)


def _scored(found: Compared) -> list[Comparison]:
    """The tasks on which a leak was asked for and something was scored."""
    return [
        comparison
        for comparison in found.tasks
        if comparison.metrics
        and comparison.has("full_zero_shot")
        and comparison.has("emulator_zero_shot")
    ]


def _disclosure_table(owner: Comparison, tasks: Sequence[Comparison]) -> Table:
    footnotes = Footnotes()
    columns = (
        *emulator_labels(owner, owner.emulators, footnotes),
        _given(
            "parameters sent", "% of the model's ↓", "disclosed_fraction", owner, footnotes, PERCENT
        ),
        _given(
            "parameters verbatim",
            "% of the model's ↓",
            "verbatim_fraction",
            owner,
            footnotes,
            PERCENT,
        ),
        _given("bytes sent", "MiB ↓", "sent_bytes", owner, footnotes),
        _given("emulator, stored", "MiB ↓", "stored_bytes", owner, footnotes),
        _given("emulator, effective", "MiB ↓", "effective_bytes", owner, footnotes),
        _given("block similarity", "cosine ↓", "block_similarity", owner, footnotes, SIMILARITY),
        *_recovery_columns(owner, footnotes),
        *(column for task in tasks for column in _leak_columns(owner, task, footnotes)),
    )
    return Table(
        name=f"{owner.model}-disclosure",
        title=f"What the owner gave away: {one_line(owner.model)}",
        model=owner.model,
        columns=columns,
        notes=(
            *DISCLOSURE_NOTES,
            *(RECOVERY_NOTE,) * any(_recoveries(owner)),
            *LEAK_NOTES * bool(tasks),
        ),
        footnotes=footnotes.lettered(),
    )


def _given(
    header: str,
    detail: str,
    metric: str,
    owner: Comparison,
    footnotes: Footnotes,
    style: Style | None = None,
) -> Column:
    """One number of the disclosure stage for every emulator; sizes where no style is given."""
    observed = [owner.disclosed(metric, emulator) for emulator in owner.emulators]
    style = style or mebibytes(observed)
    cells = tuple(number_cell(found, style, footnotes) for found in observed)
    return Column(header=header, detail=detail, cells=cells, kind="cost")


def _recovery_columns(owner: Comparison, footnotes: Footnotes) -> Iterator[Column]:
    """What an attack got back, where any record tells."""
    for metric in _recoveries(owner):
        name = one_line(metric.replace("_", " "))
        yield _given(name, f"% {ARROWS[owner.better(metric)]}", metric, owner, footnotes, PERCENT)


def _recoveries(owner: Comparison) -> list[str]:
    found = (
        entry.metric
        for (role, _), entries in owner.entries.items()
        if role == "disclose"
        for entry in entries
        if entry.metric.startswith(RECOVERY)
    )
    return list(dict.fromkeys(found))


def _leak_columns(owner: Comparison, task: Comparison, footnotes: Footnotes) -> Iterator[Column]:
    name = one_line(task.task)
    for header, leak_cell in (
        (f"raw leak, {name}", raw_leak_cell),
        (f"corrected leak, {name}", corrected_leak_cell),
    ):
        cells = tuple(leak_cell(task, emulator, footnotes) for emulator in owner.emulators)
        yield Column(header=header, detail="% ↓", cells=cells, kind="cost")


def _leak_table(tasks: Sequence[Comparison]) -> Table:
    footnotes = Footnotes()
    model = tasks[0].model
    lines = [line for task in tasks for line in _leak_lines(task, footnotes)]
    labels, numbers = zip(*lines, strict=True)
    headers = ("task", "layout", "compression", "metric")
    return Table(
        name=f"{model}-leak",
        title=f"Capability leak: {one_line(model)}",
        model=model,
        columns=(
            *(
                Column(header=header, cells=cells, kind="label")
                for header, cells in zip(headers, zip(*labels, strict=True), strict=True)
            ),
            *(
                Column(header=header, detail="% ↓" * header.endswith("leak"), cells=cells)
                for header, cells in zip(LEAK_COLUMNS, zip(*numbers, strict=True), strict=True)
            ),
        ),
        notes=LEAK_NOTES,
        footnotes=footnotes.lettered(),
    )


def _leak_lines(
    comparison: Comparison, footnotes: Footnotes
) -> Iterator[tuple[tuple[Cell, ...], tuple[Cell, ...]]]:
    """The labels and the numbers of every emulator that was scored on one task."""
    metric = comparison.metrics[0]
    emulators = [row for role, row in comparison.entries if role == "emulator_zero_shot"]
    for emulator in emulators:
        names = emulator_labels(comparison, [emulator], footnotes)
        labels = (
            label(comparison.task),
            *(column.cells[0] for column in names),
            label(metric_text(comparison, metric)),
        )
        yield (
            labels,
            (
                setting_cell(comparison, "full_zero_shot", emulator, metric, footnotes),
                setting_cell(comparison, "emulator_zero_shot", emulator, metric, footnotes),
                _chance_cell(comparison, metric),
                raw_leak_cell(comparison, emulator, footnotes),
                corrected_leak_cell(comparison, emulator, footnotes),
            ),
        )


def _chance_cell(comparison: Comparison, metric: str) -> Cell:
    chance = comparison.chance(metric)
    if chance is None:
        return Absent(word="not known")
    return Number(estimate=estimate([chance]), style=quality_style(metric))
