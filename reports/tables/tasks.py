"""A model on all its tasks in the paper's own shape, the published numbers beside ours.

Tables 1, 2 and 3: settings down, tasks across, and the mean of the accuracies.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from reports.comparison import Compared, Comparison
from reports.published import PublishedNumber
from reports.record import SETTINGS
from reports.statistics.intervals import Estimate, estimate
from reports.tables.cells import (
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
from reports.tables.columns import quality_detail, tuning_column
from reports.tables.notes import TIES_NOTE, interval_notes, selection_notes
from reports.tables.observed_cells import (
    SETTING_NAMES,
    compression_cell,
    number_cell,
    tied,
    unlike_most,
)
from reports.tables.published import Row, published_beside

FEWEST = 2
"""Tasks that make a table where nothing was published, and accuracies that make a mean."""
WHOSE = ("ours", "paper", "difference")
PUBLISHED_NOTES = (
    "Difference: ours minus the paper's. ±: of ours only; the paper has one run and no interval.",
    "The paper's checkpoint is the one with the best emulator, for PIQA, HellaSwag, WikiText and "
    "all vision tasks chosen on the split that is reported.",
)
OF_MARKED = "of numbers that have footnotes of their own"
MEAN_NOTE = (
    "Mean: over the tasks scored in %, where all have a value. Its ± takes the tasks' own "
    "intervals as independent; it is not ranked."
)

Line = tuple[Cell, ...]
"""A row's cells in one task: ours and, where there is one, the paper's and the difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One column: a task, what is shown of it, and what was published of it."""

    comparison: Comparison
    metric: str
    """Empty where nothing was scored."""
    published: Mapping[Row, PublishedNumber]

    @property
    def name(self) -> str:
        """Fit to print."""
        return one_line(self.comparison.task)

    @property
    def is_percent(self) -> bool:
        """Whether it counts in the mean."""
        return bool(self.metric) and quality_style(self.metric) is PERCENT


def task_tables(found: Compared) -> tuple[Table, ...]:
    """One table for every model with several scored tasks, or with a published number."""
    by_model: dict[str, list[Task]] = defaultdict(list)
    for comparison in found.tasks:
        if comparison.has(*SETTINGS):
            by_model[comparison.model].append(_task(comparison))
    return tuple(
        _task_table(tasks)
        for tasks in by_model.values()
        if sum(bool(task.comparison.metrics) for task in tasks) >= FEWEST
        or any(task.published for task in tasks)
    )


def mean_of(cells: Sequence[Cell], footnotes: Footnotes) -> Cell:
    """The mean of one line over its tasks; not known unless every one has a number.

    The tasks were trained and scored apart, so the parts of their variances add up.
    """
    numbers = [cell for cell in cells if isinstance(cell, Number)]
    if len(numbers) < len(cells):
        # Why stands in the cells it would be made of.
        return NOT_APPLICABLE if NOT_APPLICABLE in cells else Absent(word="not known")
    estimates = [number.estimate for number in numbers]
    halves = [each.half_width for each in estimates if each.half_width is not None]
    is_known = len(halves) == len(estimates)
    marks = {number.mark for number in numbers}
    return Number(
        estimate=Estimate(
            mean=fmean(each.mean for each in estimates),
            half_width=math.hypot(*halves) / len(halves) if is_known else None,
            n=min(each.n for each in estimates),
        ),
        style=max((number.style for number in numbers), key=lambda style: style.decimals),
        mark=marks.pop() if len(marks) == 1 else footnotes.mark(OF_MARKED),
        sources=tuple(dict.fromkeys(stage for number in numbers for stage in number.sources)),
    )


def _task(comparison: Comparison) -> Task:
    published = published_beside(comparison)
    theirs = (number.place.metric for number in published.values())
    metric = next(theirs, next(iter(comparison.metrics), ""))
    return Task(comparison=comparison, metric=metric, published=published)


def _task_table(tasks: Sequence[Task]) -> Table:
    rows = _rows(tasks)
    footnotes = Footnotes()
    lines = {row: _whose(row, tasks) for row in rows}
    labels = tuple(_labels(tasks[0].comparison, lines, footnotes))
    columns = [_task_column(task, lines, footnotes) for task in tasks]
    model = tasks[0].comparison.model
    return Table(
        name=f"{model}-tasks",
        title=_title(tasks),
        columns=(*labels, *columns, *_mean_column(tasks, columns, footnotes)),
        notes=tuple(_notes(tasks, rows)),
        footnotes=footnotes.lettered(),
        model=model,
    )


def _title(tasks: Sequence[Task]) -> str:
    model = one_line(tasks[0].comparison.model)
    tables = sorted({number.table for task in tasks for number in task.published.values()})
    if not tables:
        return f"All tasks: {model}"
    return f"Ours beside the paper's Table {' and '.join(tables)}: {model}"


def _rows(tasks: Sequence[Task]) -> list[Row]:
    """The whole model, then every emulator: as it is, then tuned and plugged in."""
    asked = dict.fromkeys(
        Row(role, treatment)
        for task in tasks
        for role, treatment in task.comparison.entries
        if role in SETTINGS
    )
    emulators = list(dict.fromkeys(row.treatment[:2] for row in asked if row.treatment.layout))
    tunings = ["", *dict.fromkeys(row.treatment.tuning for row in asked if row.treatment.tuning)]

    def order(row: Row) -> tuple[int, int, int]:
        cut = row.treatment[:2]
        place = emulators.index(cut) + 1 if cut in emulators else 0
        return place, tunings.index(row.treatment.tuning), SETTINGS.index(row.setting)

    return sorted(asked, key=order)


def _whose(row: Row, tasks: Sequence[Task]) -> tuple[str, ...]:
    """Three lines for a row of which anything was published."""
    return WHOSE if any(row in task.published for task in tasks) else WHOSE[:1]


def _labels(
    comparison: Comparison, lines: Mapping[Row, Sequence[str]], footnotes: Footnotes
) -> Iterator[Column]:
    rows = [row for row, whose in lines.items() for _ in whose]
    treatments = [row.treatment for row in rows]
    settings = tuple(Text(text=SETTING_NAMES[row.setting]) for row in rows)
    compressions = tuple(compression_cell(comparison, each, footnotes) for each in treatments)
    yield Column(header="setting", cells=settings, kind="label")
    yield Column(
        header="layout", cells=tuple(label(each.layout) for each in treatments), kind="label"
    )
    yield Column(header="compression", cells=compressions, kind="label")
    yield tuning_column(treatments)
    if any(len(whose) > 1 for whose in lines.values()):
        words = tuple(Text(text=word) for whose in lines.values() for word in whose)
        yield Column(header="whose", cells=words, kind="label")


def _task_column(task: Task, lines: Mapping[Row, Sequence[str]], footnotes: Footnotes) -> Column:
    found = {row: _line(task, row, footnotes) for row in lines}
    plug_ins = [row for row in lines if row.setting == "plug_in"]
    treatments = [row.treatment for row in plug_ins]
    ties = task.comparison.ranks(treatments, task.metric)
    ours = tied([found[row][0] for row in plug_ins], treatments, ties)
    found |= {row: (cell, *found[row][1:]) for row, cell in zip(plug_ins, ours, strict=True)}
    cells = tuple(
        cell
        for row, whose in lines.items()
        for cell in (*found[row], *(NOT_APPLICABLE,) * len(whose))[: len(whose)]
    )
    return Column(
        header=task.name, detail=quality_detail(task.comparison, task.metric), cells=cells
    )


def _line(task: Task, row: Row, footnotes: Footnotes) -> Line:
    """Ours and, where there is one, the paper's and the difference."""
    if row not in task.comparison.entries:
        return (NOT_APPLICABLE,)
    theirs = task.published.get(row)
    observed = task.comparison.setting(*row, task.metric)
    caveats = unlike_most(task.comparison, observed, task.metric)
    style = quality_style(task.metric)
    if theirs is None:
        return (number_cell(observed, style, footnotes, caveats=caveats),)
    # The paper prints vision with two decimals.
    style = replace(style, decimals=theirs.decimals)
    if observed.examples is not None:
        caveats.append(f"ours is scored on {observed.examples:,} examples of the split")
    ours = number_cell(observed, style, footnotes, caveats=caveats)
    note = footnotes.mark(f"Table {theirs.table}: {theirs.note}") if theirs.note else ""
    paper = Number(estimate=estimate([theirs.value]), style=style, mark=note)
    if not isinstance(ours, Number):
        return ours, paper, Absent(word="not known")
    gap = replace(ours.estimate, mean=ours.estimate.mean - theirs.value)
    return ours, paper, replace(ours, estimate=gap, style=replace(style, signed=True))


def _mean_column(
    tasks: Sequence[Task], columns: Sequence[Column], footnotes: Footnotes
) -> Iterator[Column]:
    """Of the accuracies, where there are several: a perplexity has no place in a mean with them."""
    counted = [column for task, column in zip(tasks, columns, strict=True) if task.is_percent]
    if len(counted) >= FEWEST:
        lines = zip(*(column.cells for column in counted), strict=True)
        cells = tuple(mean_of(line, footnotes) for line in lines)
        yield Column(header="mean", detail="% ↑", cells=cells)


def _notes(tasks: Sequence[Task], rows: Sequence[Row]) -> Iterator[str]:
    if any(task.published for task in tasks):
        yield from PUBLISHED_NOTES
        read = sorted({number.source for task in tasks for number in task.published.values()})
        yield f"The paper's numbers were read from {' and '.join(read)}."
    yield from _by_task(
        tasks, lambda task: interval_notes(task.comparison, task.comparison.treatments, task.metric)
    )
    if sum(row.setting == "plug_in" for row in rows) > 1:
        yield TIES_NOTE
    if sum(task.is_percent for task in tasks) >= FEWEST:
        yield MEAN_NOTE
    yield from _by_task(tasks, lambda task: selection_notes(task.comparison))
    unequal = [task.name for task in tasks if _has_several_budgets(task.comparison)]
    if unequal:
        yield f"Unequal training budgets on {', '.join(unequal)}: named below their own tables."


def _by_task(tasks: Sequence[Task], notes_of: Callable[[Task], Iterable[str]]) -> Iterator[str]:
    """What is to be said of the tasks, those with the same note together."""
    by_note: dict[str, list[str]] = defaultdict(list)
    for task in tasks:
        for note in notes_of(task):
            by_note[note].append(task.name)
    for note, names in by_note.items():
        yield note if len(names) == len(tasks) else f"On {', '.join(names)}: {note}"


def _has_several_budgets(comparison: Comparison) -> bool:
    return len(comparison.budgets(comparison.treatments)) > 1
