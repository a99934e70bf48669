"""The tables of a report, as objects: which numbers, in which order, with which footnotes.

The settings table is the paper's: one row per compression and tuning, one column per setting.
Nothing in it is assumed, the paper's order of the settings least of all.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import pandas as pd

from reports.cells import (
    COUNT,
    MEBIBYTES,
    NOT_APPLICABLE,
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Style,
    Table,
    Text,
    label,
    one_line,
    quality_style,
    three_digits,
)
from reports.comparison import Comparison, Failure, Observed, Treatment, comparisons
from reports.notes import cost_notes, quality_notes
from reports.record import SETTINGS
from reports.results import NOT_RUN
from reports.statistics import Better, estimate, paired_gain, ratio

SETTING_NAMES: Mapping[str, str] = {
    "full_zero_shot": "full zero-shot",
    "emulator_zero_shot": "emulator zero-shot",
    "full_finetuned": "full fine-tuned",
    "emulator_finetuned": "emulator fine-tuned",
    "plug_in": "plug-in",
}
PAPER_ORDER = (
    ("full_finetuned", "plug_in"),
    ("plug_in", "full_zero_shot"),
    ("plug_in", "emulator_finetuned"),
    ("full_zero_shot", "emulator_zero_shot"),
)
"""What the paper finds: the first of each pair is better than the second."""
ARROWS: Mapping[Better, str] = {"higher": "↑", "lower": "↓"}


def settings_tables(frame: pd.DataFrame) -> tuple[Table, ...]:
    """The main table of every model and task: quality, gap, speed, memory, size."""
    return tuple(settings_table(comparison) for comparison in comparisons(frame))


def further_tables(frame: pd.DataFrame) -> tuple[Table, ...]:
    """The settings again in every quality metric that the main tables do not show."""
    return tuple(
        quality_table(comparison, metric)
        for comparison in comparisons(frame)
        for metric in comparison.metrics[1:]
    )


def settings_table(comparison: Comparison) -> Table:
    """One model on one task in its main metric, with what tuning cost."""
    metric = next(iter(comparison.metrics), "")
    footnotes = Footnotes()
    columns = (
        *_label_columns(comparison),
        *_quality_columns(comparison, metric, footnotes),
        *_cost_columns(comparison, footnotes),
        *_order_column(comparison, metric),
    )
    return Table(
        name=f"{comparison.model}-{comparison.task}",
        title=_title(comparison, metric),
        columns=columns,
        notes=(*quality_notes(comparison, metric), *cost_notes(comparison)),
        footnotes=footnotes.lettered(),
    )


def quality_table(comparison: Comparison, metric: str) -> Table:
    """One model on one task in another metric, without the cost of tuning."""
    footnotes = Footnotes()
    columns = (
        *_label_columns(comparison),
        *_quality_columns(comparison, metric, footnotes),
        *_order_column(comparison, metric),
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
    direction = f"{comparison.better(metric)} is better"
    unit = " in %" if quality_style(metric) is PERCENT else ""
    return f"{subject}: {metric}{unit} ({direction})"


def _label_columns(comparison: Comparison) -> tuple[Column, ...]:
    texts = [
        (t.layout, t.compression or ("full fine-tuning" if t.tuning else ""), t.tuning)
        for t in comparison.treatments
    ]
    return tuple(
        Column(header=header, cells=tuple(label(text) for text in column), kind="label")
        for header, column in zip(
            ("layout", "compression", "tuning"), zip(*texts, strict=True), strict=True
        )
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
                _setting_cell(comparison, setting, treatment, metric, footnotes)
                for treatment in comparison.treatments
            ),
        )
    if comparison.has("plug_in") and comparison.has("emulator_finetuned"):
        yield Column(
            header="plug-in gap",
            detail="points" if style is PERCENT else unit,
            cells=tuple(
                _gap_cell(comparison, treatment, metric, footnotes)
                for treatment in comparison.treatments
            ),
        )


def _setting_cell(
    comparison: Comparison, setting: str, treatment: Treatment, metric: str, footnotes: Footnotes
) -> Cell:
    if not treatment.layout and setting not in ("full_zero_shot", "full_finetuned"):
        return NOT_APPLICABLE
    observed = comparison.setting(setting, treatment, metric)
    return _number_cell(observed, quality_style(metric), footnotes)


def _number_cell(
    observed: Observed, style: Style, footnotes: Footnotes, ratio_to: Observed | None = None
) -> Cell:
    if not observed.values:
        return _absent_cell(observed, footnotes)
    return Number(
        estimate=estimate(observed.numbers),
        style=style,
        ratio=ratio(observed.numbers, ratio_to.numbers) if ratio_to else None,
        mark=_incomplete_mark(observed, footnotes),
    )


def _absent_cell(observed: Observed, footnotes: Footnotes) -> Absent:
    if observed.unmeasured:
        return Absent(word="unmeasured", mark=footnotes.mark(f"unmeasured: {observed.unmeasured}"))
    told = [failure for failure in observed.failures if failure.word != NOT_RUN]
    if told:
        if len({failure[1:] for failure in observed.failures}) == 1:
            # All seeds alike: naming them would only make a footnote of its own.
            told = [told[0]._replace(seed=None)]
        return Absent(word=told[0].word, mark=footnotes.mark(_failures_text(told)))
    if observed.failures:
        return Absent(word=NOT_RUN)
    return Absent(
        word="unmeasured",
        mark=footnotes.mark(
            "unmeasured: the record has no such number, or none from the machine reported here"
        ),
    )


def _incomplete_mark(observed: Observed, footnotes: Footnotes) -> str:
    """A mean over fewer seeds than planned says so."""
    have, lost = len(observed.values), len(observed.failures)
    if not lost:
        return ""
    return footnotes.mark(f"{have} of {have + lost} seeds; {_failures_text(observed.failures)}")


def _failures_text(failures: Sequence[Failure]) -> str:
    """Why seeds are missing, seeds with the same reason together."""

    def why(failure: Failure) -> str:
        return f"{failure.word}: {failure.reason}" if failure.reason else failure.word

    parts = []
    for reason, group in groupby(failures, key=why):
        seeds = [str(failure.seed) for failure in group if failure.seed is not None]
        prefix = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}: " if seeds else ""
        parts.append(prefix + reason)
    return "; ".join(parts)


def _gap_cell(
    comparison: Comparison, treatment: Treatment, metric: str, footnotes: Footnotes
) -> Cell:
    if not treatment.layout:
        return NOT_APPLICABLE
    plug_in = comparison.setting("plug_in", treatment, metric)
    emulator = comparison.setting("emulator_finetuned", treatment, metric)
    gain = paired_gain(plug_in.values, emulator.values, plug_in.better)
    if gain is None:
        # Why stands in the two cells it would be made of.
        return Absent(word="not known")
    style = quality_style(metric)
    return Number(
        estimate=gain,
        style=Style(decimals=style.decimals, scale=style.scale, signed=True),
        mark=_incomplete_mark(plug_in, footnotes) or _incomplete_mark(emulator, footnotes),
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
            _exact_cell(comparison.training("trainable_parameters", treatment), footnotes)
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
        cells.append(_number_cell(observed, style, footnotes, reference if comparable else None))
    return tuple(cells)


def _exact_cell(observed: Observed, footnotes: Footnotes) -> Cell:
    """A count that every seed shares: an interval around it would only look like doubt."""
    distinct = sorted(set(observed.numbers))
    if len(distinct) == 1:
        return Number(estimate=estimate(distinct), style=COUNT)
    return _number_cell(observed, COUNT, footnotes)


def _order_column(comparison: Comparison, metric: str) -> Iterator[Column]:
    if not comparison.has("plug_in"):
        return
    cells = tuple(
        Text(text=_order(comparison, treatment, metric)) if treatment.layout else NOT_APPLICABLE
        for treatment in comparison.treatments
    )
    yield Column(header="paper's order", cells=cells, kind="verdict")


def _order(comparison: Comparison, treatment: Treatment, metric: str) -> str:
    observed = {
        setting: comparison.setting(setting, treatment, metric).numbers for setting in SETTINGS
    }
    means = {str(name): estimate(values).mean for name, values in observed.items() if values}
    return paper_order(means, comparison.better(metric))
