"""Ours beside the paper's, in the paper's own shape: settings down, tasks across."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from reports.cells import (
    NOT_APPLICABLE,
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Table,
    Text,
    label,
    one_line,
    quality_style,
)
from reports.comparison import Compared, Comparison, Treatment
from reports.notes import selection_notes
from reports.observed_cells import ARROWS, SETTING_NAMES, compression_cell, number_cell
from reports.published import (
    PublishedNumber,
    is_published_data,
    is_published_model,
    place,
    published_numbers,
)
from reports.record import SETTINGS
from reports.statistics import estimate

METRICS = ("acc", "exact_match", "perplexity", "top1")
"""What the published tables score."""
STAND_IN_NOTE = "Published numbers exist for these rows; not shown: stand-in models or other data."
NOTES = (
    "Difference: ours minus the paper's. ±: of ours only; the paper has one run and no interval.",
    "The paper's checkpoint is the one with the best emulator, for PIQA, HellaSwag, WikiText and "
    "all vision tasks chosen on the split that is reported.",
)


class Row(NamedTuple):
    """A setting of one emulator, or of the whole model."""

    setting: str
    treatment: Treatment


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One row on one task: where ours is, and the paper's number."""

    comparison: Comparison
    row: Row
    theirs: PublishedNumber


def published_tables(found: Compared) -> tuple[Table, ...]:
    """Ours beside the paper's for every model and task that are the paper's and have rows of it."""
    by_model: dict[str, list[Comparison]] = {}
    for comparison in found.tasks:
        if is_the_papers(comparison) and any(_pairs(comparison)):
            by_model.setdefault(comparison.model, []).append(comparison)
    return tuple(_published_table(tasks) for tasks in by_model.values())


def stand_in_notes(comparison: Comparison) -> tuple[str, ...]:
    """What to say where a model or a task only bears the name of a published one."""
    is_stand_in = not is_the_papers(comparison) and any(_pairs(comparison))
    return (STAND_IN_NOTE,) if is_stand_in else ()


def is_the_papers(comparison: Comparison) -> bool:
    """Whether all that was loaded under the two names is the published model and its data."""
    model, task = comparison.model, comparison.task
    scored, tuned_on = comparison.data("evaluate"), comparison.data("tune", "finetune")
    return (
        bool(comparison.sources and (scored or tuned_on))
        and all(is_published_model(model, source) for source in comparison.sources)
        and all(is_published_data(task, identity) for identity in scored)
        and all(is_published_data(task, identity, scored=False) for identity in tuned_on)
    )


def _pairs(comparison: Comparison) -> Iterator[Pair]:
    """Every published number that stands where one of ours does or should."""
    for role, treatment in comparison.entries:
        for metric in METRICS:
            where = place(
                model=comparison.model,
                **treatment._asdict(),
                setting=role,
                task=comparison.task,
                metric=metric,
            )
            if where in published_numbers():
                theirs = published_numbers()[where]
                yield Pair(comparison=comparison, row=Row(role, treatment), theirs=theirs)


def _published_table(tasks: Sequence[Comparison]) -> Table:
    model = tasks[0].model
    pairs = [{pair.row: pair for pair in _pairs(comparison)} for comparison in tasks]
    rows = sorted(
        dict.fromkeys(row for found in pairs for row in found),
        key=lambda row: (SETTINGS.index(row.setting), bool(row.treatment.layout)),
    )
    footnotes = Footnotes()
    labels = _labels(tasks[0], rows, footnotes)
    numbers = [_task_column(found, rows, footnotes) for found in pairs]
    tables = sorted({pair.theirs.table for found in pairs for pair in found.values()})
    return Table(
        name=f"{model}-published",
        title=f"Ours beside the paper's Table {' and '.join(tables)}: {one_line(model)}",
        columns=(*labels, *numbers),
        notes=(*NOTES, *_selection_notes(tasks), *_sources(pairs)),
        footnotes=footnotes.lettered(),
    )


def _labels(comparison: Comparison, rows: Sequence[Row], footnotes: Footnotes) -> Iterator[Column]:
    """Three lines a row: ours, the paper's, the difference."""
    names = [
        (
            Text(text=SETTING_NAMES[row.setting]),
            label(row.treatment.layout),
            compression_cell(comparison, row.treatment, footnotes),
        )
        for row in rows
    ]
    for header, cells in zip(
        ("setting", "layout", "compression"), zip(*names, strict=True), strict=True
    ):
        tripled = tuple(cell for cell in cells for _ in range(3))
        yield Column(header=header, cells=tripled, kind="label")
    whose = tuple(Text(text=text) for text in ("ours", "paper", "difference")) * len(rows)
    yield Column(header="whose", cells=whose, kind="label")


def _task_column(pairs: Mapping[Row, Pair], rows: Sequence[Row], footnotes: Footnotes) -> Column:
    comparison, metric = next((p.comparison, p.theirs.place.metric) for p in pairs.values())
    unit = f"{metric}, %" if quality_style(metric) is PERCENT else metric
    cells: list[Cell] = []
    for row in rows:
        cells += _three_cells(pairs[row], footnotes) if row in pairs else [NOT_APPLICABLE] * 3
    return Column(
        header=one_line(comparison.task),
        detail=f"{unit} {ARROWS[comparison.better(metric)]}",
        cells=tuple(cells),
    )


def _three_cells(pair: Pair, footnotes: Footnotes) -> tuple[Cell, Cell, Cell]:
    theirs = pair.theirs
    metric = theirs.place.metric
    # The paper prints vision with two decimals.
    style = replace(quality_style(metric), decimals=theirs.decimals)
    observed = pair.comparison.setting(pair.row.setting, pair.row.treatment, metric)
    ours = number_cell(observed, style, footnotes)
    note = footnotes.mark(f"Table {theirs.table}: {theirs.note}") if theirs.note else ""
    paper = Number(estimate=estimate([theirs.value]), style=style, mark=note)
    if not isinstance(ours, Number):
        return ours, paper, Absent(word="not known")
    if observed.examples is not None:
        part = footnotes.mark(f"ours is scored on {observed.examples:,} examples of the split")
        ours = replace(ours, mark=part)
    gap = replace(ours.estimate, mean=ours.estimate.mean - theirs.value)
    return ours, paper, Number(estimate=gap, style=replace(style, signed=True), mark=ours.mark)


def _selection_notes(tasks: Sequence[Comparison]) -> Iterator[str]:
    """What our checkpoints were chosen on, tasks alike together."""
    by_note: dict[str, list[str]] = defaultdict(list)
    for comparison in tasks:
        for note in selection_notes(comparison):
            by_note[note].append(one_line(comparison.task))
    for note, names in by_note.items():
        yield f"Ours on {', '.join(names)}: {note}"


def _sources(pairs: Sequence[Mapping[Row, Pair]]) -> Iterator[str]:
    read = sorted({pair.theirs.source for found in pairs for pair in found.values()})
    yield f"The paper's numbers were read from {' and '.join(read)}."
