"""One cell of a table from what was observed, with the footnote that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

from reports.comparison import Comparison, Failure, Observed, Treatment
from reports.results import NOT_RUN
from reports.statistics.intervals import Better, estimate
from reports.statistics.leak import Leak, corrected_leak, leak_estimate, raw_leak
from reports.statistics.ratios import ratio
from reports.statistics.ties import Rank
from reports.tables.cells import (
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

SETTING_NAMES: Mapping[str, str] = {
    "full_zero_shot": "full zero-shot",
    "emulator_zero_shot": "emulator zero-shot",
    "full_finetuned": "full fine-tuned",
    "emulator_finetuned": "emulator fine-tuned",
    "plug_in": "plug-in",
}
OTHER_ITEMS = "scored on different items"
CHOSEN_TOO_WELL = "checkpoint chosen on the split that is scored: too good"
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
    unlike = unlike_most(comparison, observed, metric)
    return number_cell(observed, quality_style(metric), footnotes, caveats=unlike)


def unlike_most(comparison: Comparison, observed: Observed, metric: str = "") -> list[str]:
    """In which counts of seeds and items a number differs from what the notes say of all."""
    seeds, usual = len(observed.values), comparison.items.get(metric)
    # Fewer than were planned for the row itself are named with their reasons.
    is_seeded = None not in observed.values and not observed.failures
    found = [f"{seeds} seed{'s' * (seeds > 1)}"] * (is_seeded and 0 < seeds < comparison.seeds)
    if observed.items and usual and observed.items != usual:
        found.append(f"scored on {observed.items:,} {items_word(metric)}")
    return found


def items_word(metric: str) -> str:
    """What a metric's records count."""
    return "items" if quality_style(metric) is PERCENT else "tokens"


def setting_cells(
    comparison: Comparison,
    setting: str,
    rows: Sequence[Treatment],
    metric: str,
    footnotes: Footnotes,
    groups: Sequence[Sequence[Treatment]] | None = None,
) -> tuple[Cell, ...]:
    """The quality of one setting for several rows; plug-ins with their ties.

    Only these: of an emulator's score the owner hopes for less, the data owner for more.

    Args:
        comparison: the model and task.
        setting: one of the five.
        rows: in the table's order.
        metric: what is shown.
        footnotes: of the table.
        groups: rows that are ranked among themselves; None ranks all rows together.
    """
    cells = [setting_cell(comparison, setting, row, metric, footnotes) for row in rows]
    if setting != "plug_in":
        return tuple(cells)
    ties = [comparison.ranks(group, metric) for group in groups or (rows,)]
    return tied(cells, rows, {row: rank for found in ties for row, rank in found.items()})


def tied(
    cells: Sequence[Cell], rows: Sequence[Treatment], ties: Mapping[Treatment, Rank]
) -> tuple[Cell, ...]:
    """The plug-ins of some rows with the letters of their ties."""
    return tuple(
        replace(cell, group=ties[row].letters, is_best=ties[row].is_best)
        if isinstance(cell, Number) and row in ties
        else cell
        for cell, row in zip(cells, rows, strict=True)
    )


def number_cell(
    observed: Observed,
    style: Style,
    footnotes: Footnotes,
    ratio_to: Observed | None = None,
    caveats: Sequence[str] = (),
) -> Cell:
    """The mean of what was observed with what must be known of it, or why there is none."""
    if not observed.values:
        return absent_cell(observed, footnotes)
    return Number(
        estimate=observed.estimate,
        style=style,
        sources=observed.stages,
        ratio=ratio(observed.numbers, ratio_to.numbers) if ratio_to else None,
        mark=marked([*_caveats(observed), *caveats], footnotes),
    )


def marked(caveats: Sequence[str], footnotes: Footnotes) -> str:
    """The letter of one footnote for all that must be known of a number; empty for nothing."""
    return footnotes.mark("; ".join(dict.fromkeys(caveats))) if caveats else ""


def runs_cells(observed: Sequence[Observed], style: Style, footnotes: Footnotes) -> list[Cell]:
    """A column of means over runs, or why there is none.

    A footnote names fewer runs than most rows have, and why others failed.
    """
    usual = max((len(each.runs) for each in observed), default=0)
    return [_runs_cell(each, style, usual, footnotes) for each in observed]


def _runs_cell(observed: Observed, style: Style, usual: int, footnotes: Footnotes) -> Cell:
    if not observed.runs:
        return absent_cell(observed, footnotes)
    count = len(observed.runs)
    caveats = [f"{count} run{'s' * (count > 1)}"] * (count < usual or bool(observed.lost))
    caveats += [f"another failed ({why})" for why in observed.lost]
    caveats += [f"graded {'; '.join(observed.grades)}"] * bool(observed.grades)
    return Number(
        estimate=estimate(list(observed.runs.values())),
        style=style,
        mark=marked(caveats, footnotes),
        sources=observed.stages,
    )


def absent_cell(observed: Observed, footnotes: Footnotes) -> Absent:
    """The word that stands for a missing number, and its reason."""
    if observed.unmeasured:
        mark = footnotes.mark(f"unmeasured: {observed.unmeasured}")
        return Absent(word="unmeasured", mark=mark, sources=observed.stages)
    told = [failure for failure in observed.failures if failure.word != NOT_RUN]
    if told:
        if len({failure[1:] for failure in observed.failures}) == 1:
            # All seeds alike: naming them would only make a footnote of its own.
            told = [told[0]._replace(seed=None)]
        mark = footnotes.mark(_failures_text(told))
        return Absent(word=told[0].word, mark=mark, sources=observed.stages)
    if observed.failures:
        return Absent(word=NOT_RUN, sources=observed.stages)
    return Absent(
        word="unmeasured",
        mark=footnotes.mark(
            "unmeasured: the record has no such number, or none from the machine reported here"
        ),
        sources=observed.stages,
    )


def _caveats(*parts: Observed) -> list[str]:
    """A mean over fewer seeds than planned says so, and one of a checkpoint chosen too well."""
    found = [
        f"{len(each.values)} of {len(each.values) + len(each.failures)} seeds; "
        f"{_failures_text(each.failures)}"
        for each in parts
        if each.failures
    ]
    chosen = [CHOSEN_TOO_WELL] * any(each.is_chosen_on_scored for each in parts)
    return found + chosen


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
    found = comparison.gap(treatment, metric)
    if found is None:
        # Why stands in the two cells it would be made of.
        return Absent(word="not known")
    if not plug_in.is_comparable(emulator):
        return _undefined(OTHER_ITEMS, footnotes)
    style = quality_style(metric)
    most = max(len(plug_in.values), len(emulator.values))
    shared = [f"over the {found.n} seed{'s' * (found.n > 1)} that both have"] * (found.n < most)
    return Number(
        estimate=found,
        style=replace(style, signed=True),
        sources=(*plug_in.stages, *emulator.stages),
        mark=marked(
            [*shared, *_caveats(plug_in, emulator), *unlike_most(comparison, plug_in, metric)],
            footnotes,
        ),
    )


def exact_cell(observed: Observed, footnotes: Footnotes, style: Style = COUNT) -> Cell:
    """A count that every seed shares: an interval around it would only look like doubt."""
    distinct = sorted(set(observed.numbers))
    if len(distinct) == 1:
        return Number(estimate=estimate(distinct), style=style, sources=observed.stages)
    return number_cell(observed, style, footnotes)


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
        comparison, emulator, footnotes, lambda part, whole: raw_leak(part, whole, better)
    )


def corrected_leak_cell(comparison: Comparison, emulator: Treatment, footnotes: Footnotes) -> Cell:
    """How much of the full model's lead over chance the untuned emulator has."""
    metric = comparison.metrics[0]
    better, chance = comparison.better(metric), comparison.chance(metric)
    stderr = comparison.setting("full_zero_shot", emulator, metric).stderr or 0.0
    return _leak_cell(
        comparison,
        emulator,
        footnotes,
        lambda part, whole: corrected_leak(part, whole, better, chance=chance, stderr=stderr),
    )


def _leak_cell(
    comparison: Comparison,
    emulator: Treatment,
    footnotes: Footnotes,
    leak_of: Callable[[float, float], Leak],
) -> Cell:
    """A leak from what the untuned emulator and the untuned full model score."""
    metric = comparison.metrics[0]
    part = comparison.setting("emulator_zero_shot", emulator, metric)
    whole = comparison.setting("full_zero_shot", emulator, metric)
    if not (part.values and whole.values):
        # Why stands in the cells of the two settings.
        return Absent(word="not known")
    if not part.is_comparable(whole):
        return _undefined(OTHER_ITEMS, footnotes)
    found = leak_estimate(part.scores, whole.scores, leak_of)
    if isinstance(found, Leak):
        return _undefined(found.reason, footnotes)
    return Number(estimate=found, style=PERCENT, sources=(*part.stages, *whole.stages))


def _undefined(reason: str, footnotes: Footnotes) -> Absent:
    return Absent(word="undefined", mark=footnotes.mark(f"undefined: {reason}"))
