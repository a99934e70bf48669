"""After how many fine-tunings the time that building an emulator took has paid.

Every tuning with the emulator saves what full fine-tuning would have taken longer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from reports.comparison import Compared, Comparison, Observed, Treatment
from reports.statistics.intervals import estimate
from reports.tables.cells import (
    COUNT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Table,
    Text,
    one_line,
    three_digits,
)
from reports.tables.columns import label_columns
from reports.tables.notes import budget_notes, runs_note
from reports.tables.observed_cells import marked, runs_cells

NEVER = "never"
NOTHING_SAVED = "never: it takes no less time than full fine-tuning, or may not"
NOTES = (
    "Build: making the emulator from the loaded model, distillation included. Full and offsite "
    "tuning: all steps of one training, warm-up included, loading, scoring and saving not.",
    "Saved: full less offsite tuning, run by run. Breaks even after: build over saved, rounded "
    "up, from the means. At the latest: the same from the lower end of the interval of what is "
    "saved.",
    "Seconds are of one machine; what sending an emulator and adapter blocks takes is not in them.",
)


def break_even_tables(found: Compared) -> tuple[Table, ...]:
    """One table for every model and task on which both kinds of training were timed."""
    return tuple(
        _break_even_table(comparison, comparison.reference, rows)
        for comparison in found.tasks
        if comparison.reference and (rows := _timed(comparison, comparison.reference))
    )


def break_even(build: float, saved: float) -> int | None:
    """Fine-tunings after which a build has paid; None for never.

    >>> break_even(100.0, 30.0), break_even(100.0, 0.0)
    (4, None)
    """
    return max(math.ceil(build / saved), 1) if saved > 0 else None


def _timed(comparison: Comparison, base: Treatment) -> list[Treatment]:
    """The rows whose emulator's building was timed, if full fine-tuning was."""
    if not comparison.train_seconds(base).runs:
        return []
    rows = [row for row in comparison.sandwiches if row.tuning]
    return [row for row in rows if comparison.build_seconds(row).runs]


def _break_even_table(comparison: Comparison, base: Treatment, rows: Sequence[Treatment]) -> Table:
    footnotes = Footnotes()
    whole = comparison.train_seconds(base)
    builds = [comparison.build_seconds(row) for row in rows]
    tunes = [comparison.train_seconds(row) for row in rows]
    saved = [
        _saved(build, whole, tune, _unequal(comparison, base, row), footnotes)
        for build, tune, row in zip(builds, tunes, rows, strict=True)
    ]
    counted = list(zip(builds, saved, strict=True))
    subject = one_line(f"{comparison.model} on {comparison.task}")
    return Table(
        name=f"{comparison.model}-{comparison.task}-break-even",
        title=f"{subject}: when building the emulator has paid",
        columns=(
            *label_columns(comparison, rows, footnotes),
            _seconds("build", builds, footnotes),
            _seconds("full tuning", [whole] * len(rows), footnotes),
            _seconds("offsite tuning", tunes, footnotes),
            _column("saved", "s a tuning ↑", saved),
            _column(
                "breaks even after", "tunings ↓", [_after(*each, footnotes) for each in counted]
            ),
            _column("at the latest", "tunings ↓", [_latest(*each, footnotes) for each in counted]),
        ),
        notes=(*runs_note((whole, *tunes)), *NOTES, *budget_notes(comparison, (base, *rows))),
        footnotes=footnotes.lettered(),
        model=comparison.model,
        task=comparison.task,
    )


def _unequal(comparison: Comparison, base: Treatment, row: Treatment) -> list[str]:
    """What the two trainings were given, where their lengths cannot be compared."""
    ours, theirs = (list(comparison.budgets([each])) for each in (row, base))
    # The learning rate takes no time.
    if {budget[:3] for budget in ours} == {budget[:3] for budget in theirs}:
        return []
    own, full = (" or ".join(budget.text for budget in each) for each in (ours, theirs))
    return [f"unequal budgets: {own or 'not known'}; full tuning: {full or 'not known'}"]


def _saved(
    build: Observed, whole: Observed, tune: Observed, caveats: Sequence[str], footnotes: Footnotes
) -> Cell:
    """Seconds less than full fine-tuning, run by run, on one machine."""
    pairs = [whole.runs[run] - seconds for run, seconds in tune.runs.items() if run in whole.runs]
    if not pairs:
        # Why stands in the two cells it would be made of.
        return Absent(word="not known")
    if len(build.machines | whole.machines | tune.machines) > 1:
        return Absent(word="not known", mark=footnotes.mark("timed on different machines"))
    return Number(
        estimate=estimate(pairs),
        style=replace(three_digits(pairs), signed=True),
        mark=marked(caveats, footnotes),
        sources=(*whole.stages, *tune.stages),
    )


def _after(build: Observed, saved: Cell, footnotes: Footnotes) -> Cell:
    if not isinstance(saved, Number):
        return saved
    return _count_cell(build, saved, saved.estimate.mean, footnotes)


def _latest(build: Observed, saved: Cell, footnotes: Footnotes) -> Cell:
    """By the lower end of what may be saved; nothing is known of it from one run."""
    if not isinstance(saved, Number):
        return saved
    if saved.estimate.half_width is None:
        return Absent(word="not known", mark=footnotes.mark("one run each: no interval"))
    return _count_cell(build, saved, saved.estimate.mean - saved.estimate.half_width, footnotes)


def _count_cell(build: Observed, saved: Number, seconds: float, footnotes: Footnotes) -> Cell:
    count = break_even(fmean(build.runs.values()), seconds)
    if count is None:
        return Text(text=NEVER, mark=footnotes.mark(NOTHING_SAVED))
    return Number(
        estimate=estimate([count]),
        style=COUNT,
        mark=saved.mark,
        sources=(*build.stages, *saved.sources),
    )


def _seconds(header: str, observed: Sequence[Observed], footnotes: Footnotes) -> Column:
    style = three_digits([seconds for each in observed for seconds in each.runs.values()])
    return _column(header, "s ↓", runs_cells(observed, style, footnotes))


def _column(header: str, detail: str, cells: Sequence[Cell]) -> Column:
    return Column(header=header, detail=detail, cells=tuple(cells), kind="cost")
