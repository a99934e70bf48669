"""The tables of a comparison: the sides, what changed, what only some have, what else differs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

from reports.compare.changes import CostRatio, Difference, OnlyOn, Row, Shown
from reports.compare.differing import Differing
from reports.compare.sides import REFERENCE
from reports.comparison import MEMORIES, Observed
from reports.results import PlannedStage
from reports.statistics.intervals import Estimate, estimate
from reports.tables.cells import (
    COUNT,
    NOT_APPLICABLE,
    PERCENT,
    PROBABILITY,
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
    three_digits,
)
from reports.tables.observed_cells import (
    ARROWS,
    SETTING_NAMES,
    marked,
    mebibytes,
    number_cell,
)

NOT_THERE = Absent(word="not there")
"""Where a side has no such row."""
NOT_KNOWN = Absent(word="not known")
"""Why stands in the cells it would be made of."""
RATIO = Style(decimals=3)
COSTS: Mapping[str, str] = {
    "throughput_tokens_real": "throughput, tokens/s",
    "throughput_samples": "throughput, samples/s",
    "peak_memory_allocated": "GPU memory, MiB",
    "peak_memory_process": "process memory, MiB",
    "energy_per_sample": "energy, J/sample",
}
TRAINING_NAMES: Mapping[str, str] = {"tune": "tuning", "finetune": "full fine-tuning"}
TOLD_APART = 0.05
Compared = TypeVar("Compared", Difference, CostRatio)
ONE_SEED_NOTE = "One seed: its ± is over the scored items alone; other seeds may differ."
DIFFERENCE_NOTE = (
    "Differences are taken seed by seed and, where both sides scored the same items, item by item. "
    "±: half-width of the 95 % interval of one difference alone."
)
PROBABILITY_NOTE = (
    "p: how often equals would differ at least so much, after Holm's correction for all "
    "differences of the table."
)
RATIO_NOTE = (
    "Ratios are taken run by run (same seed, same repeat), and only where one machine made both. "
    "Low and high: 95 % t interval on a log scale, of one ratio alone."
)


def sides_table(sides: Sequence[Shown]) -> Table:
    """What each letter stands for."""
    counts = [_counts(each) for each in sides]
    return Table(
        name="sides",
        title="What is compared",
        columns=(
            _texts("side", [each.letter for each in sides], "label"),
            _texts("given as", [each.side.name for each in sides]),
            _texts("commit", [_commits(each) for each in sides]),
            _texts("machine", [_machines(each) for each in sides]),
            *(
                _column(state, "stages", [_count(each[state]) for each in counts])
                for state in ("ok", "failed", "not run")
            ),
        ),
        notes=(f"{REFERENCE} is the reference: all others are compared with it.",),
    )


def difference_table(found: Sequence[Difference]) -> Table:
    """One model on one task in one metric: every row that the reference shares with a side."""
    first, footnotes = found[0], Footnotes()
    style = quality_style(first.metric)
    unit = f"{first.metric}, %" if style is PERCENT else first.metric
    by_letter = _by_letter(found)
    aligned = next(iter(by_letter.values()))
    reference = [number_cell(each.reference, style, footnotes) for each in aligned]
    columns = [
        *_labels([each.row for each in aligned]),
        _column(REFERENCE, f"{unit} {ARROWS[first.better]}", reference),
    ]
    for letter, own in by_letter.items():
        heading = f"{letter}-{REFERENCE}"
        points = "points" if style is PERCENT else unit
        columns += [
            _column(
                letter,
                f"{unit} {ARROWS[first.better]}",
                [_value(each.other, style, footnotes) for each in own],
            ),
            _column(heading, points, [_difference_cell(each, footnotes) for each in own]),
            _column("p", heading, [_probability_cell(each) for each in own]),
        ]
    subject = one_line(f"{first.row.model} on {first.row.task}")
    return Table(
        name=f"{first.row.model}-{first.row.task}-{first.metric}-differences",
        title=f"Differences in quality, {subject}: {first.metric} ({first.better} is better)",
        columns=tuple(columns),
        notes=(DIFFERENCE_NOTE, *_over(found), PROBABILITY_NOTE, *_told(found)),
        footnotes=footnotes.lettered(),
        model=first.row.model,
        task=first.row.task,
    )


def cost_table(found: Sequence[CostRatio]) -> Table:
    """One model on one task: speed, memory and energy of every training."""
    first, footnotes = found[0], Footnotes()
    by_letter = _by_letter(found)
    aligned = next(iter(by_letter.values()))
    styles = _cost_styles(found)
    names = [label(f"{COSTS[each.metric]} {ARROWS[each.better]}") for each in aligned]
    reference = [number_cell(e.reference, styles[e.metric], footnotes) for e in aligned]
    columns = [
        *_labels([each.row for each in aligned]),
        Column(header="cost", cells=tuple(names), kind="verdict"),
        _column(REFERENCE, "", reference),
    ]
    for letter, own in by_letter.items():
        heading = f"{letter}/{REFERENCE}"
        columns += [
            _column(letter, "", [_value(e.other, styles[e.metric], footnotes) for e in own]),
            _column(heading, "", [_ratio_cell(each, footnotes) for each in own]),
            _column("low", heading, [_bound_cell(each, "low") for each in own]),
            _column("high", heading, [_bound_cell(each, "high") for each in own]),
        ]
    return Table(
        name=f"{first.row.model}-{first.row.task}-costs",
        title=one_line(f"Ratios of cost, {first.row.model} on {first.row.task}"),
        columns=tuple(columns),
        notes=(RATIO_NOTE,),
        footnotes=footnotes.lettered(),
        model=first.row.model,
        task=first.row.task,
    )


def only_on_table(found: Sequence[OnlyOn], sides: Sequence[Shown]) -> Table:
    """Rows and seeds that not all sides have; one line for a model and task that a side lacks."""
    lines = Counter(_only_line(each, sides) for each in found)
    model, task, setting, layout, compression, tuning, seeds, on, lacking = zip(*lines, strict=True)
    return Table(
        name="only-on",
        title="On some sides only",
        columns=(
            _texts("model", model, "label"),
            _texts("task", task, "label"),
            _texts("setting", setting, "label"),
            _texts("layout", layout, "label"),
            _texts("compression", compression, "label"),
            _texts("tuning", tuning, "label"),
            _texts("seeds", seeds),
            _texts("on", on),
            _texts("not on", lacking),
            _column("rows", "", [_count(count) for count in lines.values()]),
        ),
    )


def _only_line(each: OnlyOn, sides: Sequence[Shown]) -> tuple[str, ...]:
    """What the line says that a row stands in."""
    row = each.row
    on = ", ".join(each.letters)
    lacking = ", ".join(side.letter for side in sides if side.letter not in each.letters)
    if all(
        ((row.model, row.task) in side.tasks) == (side.letter in each.letters) for side in sides
    ):
        return (row.model, row.task, "all rows", "", "", "", "", on, lacking)
    seeds = ", ".join(str(seed) for seed in each.seeds if seed is not None)
    return (row.model, row.task, _role(row.role), *row.treatment, seeds, on, lacking)


def differing_table(found: Sequence[Differing], letters: Sequence[str]) -> Table:
    """Settings, data and versions that are not the same on all sides."""
    return Table(
        name="what-differs",
        title="What differs beside the numbers",
        columns=(
            _texts("what", [each.what for each in found], "label"),
            *(_texts(x, [each.values.get(x, "") for each in found]) for x in letters),
            _texts("stages", [_kinds(each.stages) for each in found]),
            _texts("of", [_owners(each.stages) for each in found]),
        ),
    )


def _by_letter(found: Iterable[Compared]) -> dict[str, list[Compared]]:
    """The rows of every side but the reference: the same ones in the same order."""
    by_letter: dict[str, list[Compared]] = {}
    for each in found:
        by_letter.setdefault(each.letter, []).append(each)
    return by_letter


def _labels(rows: Sequence[Row]) -> Iterator[Column]:
    """What every row is of, on one model and task."""
    treatments = [row.treatment for row in rows]
    yield _texts("setting", [_role(row.role) for row in rows], "label")
    yield _texts("layout", [each.layout for each in treatments], "label")
    yield _texts("compression", [each.compression for each in treatments], "label")
    yield _texts("tuning", [each.tuning for each in treatments], "label")


def _role(role: str) -> str:
    """A setting, or a training and whose loop ran it."""
    kind, _, peer = role.partition("@")
    name = SETTING_NAMES.get(kind) or TRAINING_NAMES[kind]
    return f"{name} ({peer})" if peer else name


def _column(header: str, detail: str, cells: Sequence[Cell]) -> Column:
    return Column(header=header, detail=detail, cells=tuple(cells))


def _texts(
    header: str, texts: Sequence[str], kind: Literal["label", "verdict"] = "verdict"
) -> Column:
    return Column(header=header, cells=tuple(map(label, texts)), kind=kind)


def _value(observed: Observed | None, style: Style, footnotes: Footnotes) -> Cell:
    return number_cell(observed, style, footnotes) if observed else NOT_THERE


def _difference_cell(each: Difference, footnotes: Footnotes) -> Cell:
    if each.reason:
        return Absent(word="undefined", mark=marked([f"undefined: {each.reason}"], footnotes))
    if each.estimate is None or each.other is None:
        return NOT_KNOWN
    return Number(
        estimate=each.estimate,
        style=replace(quality_style(each.metric), signed=True),
        mark=marked(each.caveats, footnotes),
        sources=(*each.other.stages, *each.reference.stages),
    )


def _probability_cell(each: Difference) -> Cell:
    if each.estimate is None:
        return NOT_APPLICABLE
    if each.corrected is None:
        return NOT_KNOWN
    return _plain(each.corrected, PROBABILITY)


def _ratio_cell(each: CostRatio, footnotes: Footnotes) -> Cell:
    if each.reason:
        word, _, why = each.reason.partition(": ")
        return Absent(word=word, mark=footnotes.mark(why) if why else "")
    if each.ratio is None or each.other is None:
        return NOT_KNOWN
    sources = (*each.other.stages, *each.reference.stages)
    return replace(_plain(each.ratio.ratio, RATIO, each.ratio.n), sources=sources)


def _bound_cell(each: CostRatio, bound: Literal["low", "high"]) -> Cell:
    if each.ratio is None:
        return NOT_APPLICABLE
    value = each.ratio.low if bound == "low" else each.ratio.high
    return NOT_KNOWN if value is None else _plain(value, RATIO, each.ratio.n)


def _plain(value: float, style: Style, n: int = 1) -> Number:
    return Number(estimate=Estimate(mean=value, half_width=None, n=n), style=style)


def _cost_styles(found: Sequence[CostRatio]) -> dict[str, Style]:
    """By metric: MiB, or three digits."""
    styles = {}
    for metric in dict.fromkeys(each.metric for each in found):
        own = [each for each in found if each.metric == metric]
        observed = [o for each in own for o in (each.reference, each.other) if o]
        is_size = metric in MEMORIES
        numbers = [number for each in observed for number in each.numbers]
        styles[metric] = mebibytes(observed) if is_size else three_digits(numbers)
    return styles


def _over(found: Sequence[Difference]) -> Iterator[str]:
    """Over how many seeds and items the differences are, where that is known."""
    known = dict.fromkeys(
        (each.spread.n, each.spread.items) for each in found if each.spread and each.spread.parts
    )
    texts = [_seeds_and_items(n, items) for n, items in known]
    if texts:
        yield f"Differences are over {' or '.join(texts)}."
    if any(each.spread and each.spread.items and each.reference.is_one_seed for each in found):
        yield ONE_SEED_NOTE
    if any(each.spread and not each.spread.parts for each in found):
        yield "No interval and no p: one value on each side, whose spread is not known."


def _seeds_and_items(seeds: int, items: int | None) -> str:
    # One pair of values is no sample of seeds: it is one, or of a setting without any.
    over = f"{seeds:,} seeds" if seeds > 1 else ""
    scored = f"{items:,} items" if items else ""
    return " and ".join(filter(None, (over, scored)))


def _told(found: Sequence[Difference]) -> Iterator[str]:
    """How many differences are not just what equals would show."""
    tested = [each for each in found if each.corrected is not None]
    if not tested:
        return
    counts = Counter(
        each.is_for_better for each in tested if each.corrected and each.corrected < TOLD_APART
    )
    yield (
        f"Told from zero (p < {TOLD_APART}): {sum(counts.values())} of {len(tested)} differences; "
        f"{counts[True]} for the better, {counts[False]} for the worse."
    )


def _commits(each: Shown) -> str:
    commits: dict[str, None] = {}
    for record in each.side.records:
        commit = str(record.environment.get("commit") or "not known")[:12]
        changed = " + local changes" if record.environment.get("dirty") else ""
        commits[commit + changed] = None
    return ", ".join(commits)


def _machines(each: Shown) -> str:
    return ", ".join(dict.fromkeys(record.machine for record in each.side.records))


def _counts(each: Shown) -> dict[str, int]:
    runs = each.side.runs
    return {
        "ok": sum(bool(run.records) for run in runs),
        "failed": sum(run.is_failed for run in runs),
        "not run": sum(not run.found for run in runs),
    }


def _count(value: int) -> Number:
    return Number(estimate=estimate([value]), style=COUNT)


def _kinds(stages: Sequence[PlannedStage]) -> str:
    counts = Counter(stage.kind for stage in stages)
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def _owners(stages: Sequence[PlannedStage]) -> str:
    """The models, and the tasks where there are any."""
    names = (f"{each.labels.model} {each.labels.task}".strip() for each in stages)
    return ", ".join(dict.fromkeys(names))
