"""The tables of a report, as objects: which numbers, in which order, with which footnotes.

The settings table is the paper's: one row per compression and tuning, one column per setting.
Nothing in it is assumed, the paper's order of the settings least of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.comparison import Compared, Comparison, Treatment
from reports.record import SETTINGS, TRAININGS
from reports.statistics.intervals import Better
from reports.tables.cells import NOT_APPLICABLE, Cell, Column, Footnotes, Table, Text, one_line
from reports.tables.columns import cost_columns, label_columns, quality_columns, size_column
from reports.tables.efficiency import is_cost_only
from reports.tables.notes import budget_notes, cost_notes, quality_notes
from reports.tables.observed_cells import OTHER_ITEMS, SETTING_NAMES, metric_text
from reports.tables.published import stand_in_notes

PAPER_ORDER = (
    ("full_finetuned", "plug_in"),
    ("plug_in", "full_zero_shot"),
    ("plug_in", "emulator_finetuned"),
    ("full_zero_shot", "emulator_zero_shot"),
)
"""What the paper finds: the first of each pair is better than the second."""


def settings_tables(found: Compared) -> tuple[Table, ...]:
    """The main table of every model and task: quality, gap, speed, memory, size."""
    return tuple(settings_table(each) for each in found.tasks if not is_cost_only(each))


def further_tables(found: Compared) -> tuple[Table, ...]:
    """The settings again in every quality metric that the main tables do not show."""
    return tuple(
        quality_table(comparison, metric)
        for comparison in found.tasks
        for metric in comparison.metrics[1:]
    )


def settings_table(comparison: Comparison) -> Table:
    """One model on one task in its main metric, with what tuning cost."""
    metric = next(iter(comparison.metrics), "")
    footnotes = Footnotes()
    columns = (
        *label_columns(comparison, comparison.treatments, footnotes),
        *quality_columns(comparison, SETTINGS, comparison.treatments, metric, footnotes),
        *cost_columns(comparison, comparison.treatments, footnotes),
        *_size_column(comparison, footnotes),
        *_order_column(comparison, metric, footnotes),
    )
    return Table(
        name=f"{comparison.model}-{comparison.task}",
        title=_title(comparison, metric),
        model=comparison.model,
        task=comparison.task,
        metric=metric,
        columns=columns,
        notes=(
            *quality_notes(comparison, metric),
            *budget_notes(comparison, comparison.treatments),
            *cost_notes(comparison),
            *stand_in_notes(comparison),
        ),
        footnotes=footnotes.lettered(),
    )


def quality_table(comparison: Comparison, metric: str) -> Table:
    """One model on one task in another metric, without the cost of tuning."""
    footnotes = Footnotes()
    columns = (
        *label_columns(comparison, comparison.treatments, footnotes),
        *quality_columns(comparison, SETTINGS, comparison.treatments, metric, footnotes),
        *_order_column(comparison, metric, footnotes),
    )
    return Table(
        name=f"{comparison.model}-{comparison.task}-{metric}",
        title=_title(comparison, metric),
        model=comparison.model,
        task=comparison.task,
        metric=metric,
        columns=columns,
        notes=(
            *quality_notes(comparison, metric),
            *budget_notes(comparison, comparison.treatments),
        ),
        footnotes=footnotes.lettered(),
    )


def paper_order(means: Mapping[str, float], better: Better) -> str:
    """Whether the settings stand in the paper's order, or the first relation that does not hold.

    >>> paper_order({"full_finetuned": 29.1, "plug_in": 40.9, "full_zero_shot": 51.0,
    ...              "emulator_finetuned": 43.6, "emulator_zero_shot": 95.6}, "lower")
    'yes'
    """
    sign = 1 if better == "higher" else -1
    for first, second in PAPER_ORDER:
        if first not in means or second not in means:
            continue
        lead = sign * (means[first] - means[second])
        if lead <= 0:
            verb = "beats" if lead else "ties"
            return f"no: {SETTING_NAMES[second]} {verb} {SETTING_NAMES[first]}"
    absent = next((setting for setting in SETTINGS if setting not in means), None)
    return f"not known: no {SETTING_NAMES[absent]}" if absent else "yes"


def _title(comparison: Comparison, metric: str) -> str:
    subject = one_line(f"{comparison.model} on {comparison.task}")
    if not comparison.has(*SETTINGS):
        return f"{subject}: cost of tuning"
    if not metric:
        return f"{subject}: nothing was scored"
    return f"{subject}: {metric_text(comparison, metric)}"


def _size_column(comparison: Comparison, footnotes: Footnotes) -> Iterator[Column]:
    if comparison.has(*TRAININGS):
        yield size_column(comparison, comparison.treatments, footnotes)


def _order_column(comparison: Comparison, metric: str, footnotes: Footnotes) -> Iterator[Column]:
    """Yes, no or not known; why stands in a footnote, as the column has no room for it."""
    if not comparison.has("plug_in"):
        return
    cells: list[Cell] = []
    for treatment in comparison.treatments:
        if not treatment.layout:
            cells.append(NOT_APPLICABLE)
            continue
        verdict = _order(comparison, treatment, metric)
        word, _, why = verdict.partition(": ")
        cells.append(Text(text=word, mark=footnotes.mark(verdict) if why else ""))
    yield Column(header="paper's order", cells=tuple(cells), kind="verdict")


def _order(comparison: Comparison, treatment: Treatment, metric: str) -> str:
    observed = {
        str(setting): comparison.setting(setting, treatment, metric) for setting in SETTINGS
    }
    measured = [found for found in observed.values() if found.values]
    if not all(found.is_comparable(measured[0]) for found in measured):
        return f"not known: {OTHER_ITEMS}"
    means = {name: found.mean for name, found in observed.items() if found.values}
    return paper_order(means, comparison.better(metric))
