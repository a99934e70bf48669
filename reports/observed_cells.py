"""One cell of a table from what was observed, with the footnote that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from reports.cells import (
    COUNT,
    MEBIBYTE,
    NOT_APPLICABLE,
    PERCENT,
    Absent,
    Cell,
    Column,
    Footnotes,
    Number,
    Style,
    Text,
    label,
    quality_style,
    three_digits,
)
from reports.comparison import Comparison, Failure, Observed, Treatment
from reports.disclosure import Leak, corrected_leak, raw_leak
from reports.results import NOT_RUN
from reports.statistics import Better, estimate, paired_gain, ratio

SETTING_NAMES: Mapping[str, str] = {
    "full_zero_shot": "full zero-shot",
    "emulator_zero_shot": "emulator zero-shot",
    "full_finetuned": "full fine-tuned",
    "emulator_finetuned": "emulator fine-tuned",
    "plug_in": "plug-in",
}
OTHER_ITEMS = "scored on different items"
WHOLE_MODEL = Text(text="full fine-tuning")
"""Where a compression would stand in a row without one."""
ARROWS: Mapping[Better, str] = {"higher": "↑", "lower": "↓"}


def compression_cell(comparison: Comparison, treatment: Treatment, footnotes: Footnotes) -> Cell:
    """The name of a row's compression; a footnote says why it is experimental."""
    reason = comparison.experimental(treatment)
    cell = label(treatment.compression)
    return replace(cell, mark=footnotes.mark(f"experimental: {reason}")) if reason else cell


def setting_cell(
    comparison: Comparison, setting: str, treatment: Treatment, metric: str, footnotes: Footnotes
) -> Cell:
    """The quality of one setting, seen from one row."""
    if not treatment.layout and setting not in ("full_zero_shot", "full_finetuned"):
        return NOT_APPLICABLE
    observed = comparison.setting(setting, treatment, metric)
    return number_cell(observed, quality_style(metric), footnotes)


def number_cell(
    observed: Observed, style: Style, footnotes: Footnotes, ratio_to: Observed | None = None
) -> Cell:
    """The mean of what was observed, or why there is none."""
    if not observed.values:
        return absent_cell(observed, footnotes)
    return Number(
        estimate=estimate(observed.numbers),
        style=style,
        ratio=ratio(observed.numbers, ratio_to.numbers) if ratio_to else None,
        mark=_incomplete_mark(observed, footnotes),
    )


def absent_cell(observed: Observed, footnotes: Footnotes) -> Absent:
    """The word that stands for a missing number, and its reason."""
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


def gap_cell(
    comparison: Comparison, treatment: Treatment, metric: str, footnotes: Footnotes
) -> Cell:
    """By how much the plug-in is better than the emulator it was tuned with."""
    if not treatment.layout:
        return NOT_APPLICABLE
    plug_in = comparison.setting("plug_in", treatment, metric)
    emulator = comparison.setting("emulator_finetuned", treatment, metric)
    gain = paired_gain(plug_in.values, emulator.values, plug_in.better)
    if gain is None:
        # Why stands in the two cells it would be made of.
        return Absent(word="not known")
    if not plug_in.is_comparable(emulator):
        return _undefined(OTHER_ITEMS, footnotes)
    style = quality_style(metric)
    return Number(
        estimate=gain,
        style=replace(style, signed=True),
        mark=_incomplete_mark(plug_in, footnotes) or _incomplete_mark(emulator, footnotes),
    )


def exact_cell(observed: Observed, footnotes: Footnotes) -> Cell:
    """A count that every seed shares: an interval around it would only look like doubt."""
    distinct = sorted(set(observed.numbers))
    if len(distinct) == 1:
        return Number(estimate=estimate(distinct), style=COUNT)
    return number_cell(observed, COUNT, footnotes)


def metric_text(comparison: Comparison, metric: str) -> str:
    """A metric's name, unit and direction in words."""
    unit = " in %" if quality_style(metric) is PERCENT else ""
    return f"{metric}{unit} ({comparison.better(metric)} is better)"


def emulator_labels(
    comparison: Comparison, rows: Sequence[Treatment], footnotes: Footnotes
) -> tuple[Column, Column]:
    """Layout and compression of every row."""
    compressions = tuple(compression_cell(comparison, row, footnotes) for row in rows)
    return (
        Column(header="layout", cells=tuple(label(row.layout) for row in rows), kind="label"),
        Column(header="compression", cells=compressions, kind="label"),
    )


def mebibytes(observed: Sequence[Observed]) -> Style:
    """MiB, as fine as the smallest of these sizes needs."""
    sizes = [number / MEBIBYTE for found in observed for number in found.numbers]
    return replace(three_digits(sizes), scale=1 / MEBIBYTE)


def raw_leak_cell(comparison: Comparison, emulator: Treatment, footnotes: Footnotes) -> Cell:
    """How much of the full model's score the untuned emulator has."""
    better = comparison.better(comparison.metrics[0])
    return _leak_cell(
        comparison, emulator, footnotes, lambda part, whole: raw_leak(part.mean, whole.mean, better)
    )


def corrected_leak_cell(comparison: Comparison, emulator: Treatment, footnotes: Footnotes) -> Cell:
    """How much of the full model's lead over chance the untuned emulator has."""
    better = comparison.better(comparison.metrics[0])
    chance = comparison.chance(comparison.metrics[0])
    return _leak_cell(
        comparison,
        emulator,
        footnotes,
        lambda part, whole: corrected_leak(
            part.mean, whole.mean, better, chance=chance, stderr=whole.stderr or 0.0
        ),
    )


def _leak_cell(
    comparison: Comparison,
    emulator: Treatment,
    footnotes: Footnotes,
    leak_of: Callable[[Observed, Observed], Leak],
) -> Cell:
    """A leak from what the untuned emulator and the untuned full model score."""
    metric = comparison.metrics[0]
    part = comparison.setting("emulator_zero_shot", emulator, metric)
    whole = comparison.setting("full_zero_shot", emulator, metric)
    if not (part.values and whole.values):
        # Why stands in the cells of the two settings.
        return Absent(word="not known")
    leak = leak_of(part, whole) if part.is_comparable(whole) else Leak(reason=OTHER_ITEMS)
    if leak.value is None:
        return _undefined(leak.reason, footnotes)
    return Number(estimate=estimate([leak.value]), style=PERCENT)


def _undefined(reason: str, footnotes: Footnotes) -> Absent:
    return Absent(word="undefined", mark=footnotes.mark(f"undefined: {reason}"))
