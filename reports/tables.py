"""The tables of a report, as objects: which numbers, in which order, with which footnotes.

The settings table is the paper's: one row per compression and tuning, one column per setting.
Nothing in it is assumed, the paper's order of the settings least of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from reports.cells import (
    MEBIBYTES,
    NOT_APPLICABLE,
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Style,
    Table,
    Text,
    label,
    one_line,
    quality_style,
    three_digits,
)
from reports.comparison import Compared, Comparison, Treatment
from reports.efficiency_tables import is_cost_only
from reports.notes import cost_notes, quality_notes
from reports.observed_cells import (
    ARROWS,
    OTHER_ITEMS,
    SETTING_NAMES,
    WHOLE_MODEL,
    compression_cell,
    exact_cell,
    gap_cell,
    metric_text,
    number_cell,
    setting_cell,
)
from reports.published_tables import stand_in_notes
from reports.record import SETTINGS
from reports.statistics import Better

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
        *_label_columns(comparison, footnotes),
        *_quality_columns(comparison, metric, footnotes),
        *_cost_columns(comparison, footnotes),
        *_order_column(comparison, metric, footnotes),
    )
    return Table(
        name=f"{comparison.model}-{comparison.task}",
        title=_title(comparison, metric),
        columns=columns,
        notes=(
            *quality_notes(comparison, metric),
            *cost_notes(comparison),
            *stand_in_notes(comparison),
        ),
        footnotes=footnotes.lettered(),
    )


def quality_table(comparison: Comparison, metric: str) -> Table:
    """One model on one task in another metric, without the cost of tuning."""
    footnotes = Footnotes()
    columns = (
        *_label_columns(comparison, footnotes),
        *_quality_columns(comparison, metric, footnotes),
        *_order_column(comparison, metric, footnotes),
    )
    return Table(
        name=f"{comparison.model}-{comparison.task}-{metric}",
        title=_title(comparison, metric),
        columns=columns,
        notes=quality_notes(comparison, metric),
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


def _label_columns(comparison: Comparison, footnotes: Footnotes) -> tuple[Column, ...]:
    rows = comparison.treatments
    compressions = tuple(
        compression_cell(comparison, t, footnotes) if t.compression or not t.tuning else WHOLE_MODEL
        for t in rows
    )
    return (
        Column(header="layout", cells=tuple(label(t.layout) for t in rows), kind="label"),
        Column(header="compression", cells=compressions, kind="label"),
        Column(header="tuning", cells=tuple(label(t.tuning) for t in rows), kind="label"),
    )


def _quality_columns(comparison: Comparison, metric: str, footnotes: Footnotes) -> Iterator[Column]:
    """The five settings, then the gap between the last two."""
    style = quality_style(metric)
    unit = f"{metric}, %" if metric and style is PERCENT else metric
    arrow = ARROWS[comparison.better(metric)] if metric else ""
    for setting in filter(comparison.has, SETTINGS):
        yield Column(
            header=SETTING_NAMES[setting],
            detail=f"{unit} {arrow}".strip(),
            cells=tuple(
                setting_cell(comparison, setting, treatment, metric, footnotes)
                for treatment in comparison.treatments
            ),
        )
    if comparison.has("plug_in") and comparison.has("emulator_finetuned"):
        yield Column(
            header="plug-in gap",
            detail="points" if style is PERCENT else unit,
            cells=tuple(
                gap_cell(comparison, treatment, metric, footnotes)
                for treatment in comparison.treatments
            ),
        )


def _cost_columns(comparison: Comparison, footnotes: Footnotes) -> Iterator[Column]:
    """Speed, memory and size of the tuning, if anything was to be tuned."""
    if not comparison.has("tune", "finetune"):
        return
    metric = comparison.throughput
    speeds = [n for t in comparison.treatments for n in comparison.training(metric, t).numbers]
    yield Column(
        kind="cost",
        header="tuning throughput",
        detail="samples/s ↑" if metric == "throughput_samples" else "tokens/s ↑",
        cells=_training_cells(comparison, metric, three_digits(speeds), footnotes),
    )
    yield Column(
        kind="cost",
        header="peak memory",
        detail="MiB ↓",
        cells=_training_cells(comparison, comparison.memory, MEBIBYTES, footnotes),
    )
    yield Column(
        kind="cost",
        header="trainable parameters",
        cells=tuple(
            exact_cell(comparison.training("trainable_parameters", treatment), footnotes)
            for treatment in comparison.treatments
        ),
    )


def _training_cells(
    comparison: Comparison, metric: str, style: Style, footnotes: Footnotes
) -> tuple[Cell, ...]:
    """A column of costs, each but the reference's own with its ratio to full fine-tuning."""
    base = comparison.reference
    reference = comparison.training(metric, base) if base else None
    cells: list[Cell] = []
    for treatment in comparison.treatments:
        observed = comparison.training(metric, treatment)
        if len(observed.machines) > 1:
            reason = "unmeasured: several machines measured it; a mean would mix them"
            cells.append(Absent(word="unmeasured", mark=footnotes.mark(reason)))
            continue
        comparable = reference and treatment != base and reference.machines == observed.machines
        cells.append(number_cell(observed, style, footnotes, reference if comparable else None))
    return tuple(cells)


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
