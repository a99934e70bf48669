"""What has to be said under a settings table for its numbers to be understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from reports.budget import Budget
from reports.comparison import Comparison, Observed, Treatment
from reports.record import SETTINGS, TRAININGS
from reports.tables.cells import MEBIBYTES, PERCENT, Table, one_line, quality_style
from reports.tables.observed_cells import WHOLE_MODEL, items_word

SIZE_NOTES = (
    "Stored: the emulator's blocks as they are kept. Effective: the smallest that a simple "
    "encoding makes of them.",
)
DISCLOSURE_NOTES = (
    "Parameters sent: share of the foundation model's parameters that the data owner receives, "
    "embeddings and head included, whatever their values: trained, drawn anew or zero ones count, "
    "so at most this share is the owner's. Verbatim: share received bit for bit as it is.",
    "Bytes sent: all that goes to the data owner.",
    *SIZE_NOTES,
    "Block similarity: mean cosine of an emulator block's weights with the block it stands for.",
    "No ± for what was counted in the one emulator that was sent.",
)
LEAK_NOTES = (
    "Capability leak: how much of the full model's zero-shot score the untuned emulator has. Raw "
    "(CPL, as LLEOT defines it): S(emulator)/S(full), of a perplexity ppl(full)/ppl(emulator).",
    "Corrected for chance c (our definition): (S(emulator) - c)/(S(full) - c), of a perplexity "
    "(ln c - ln ppl(emulator))/(ln c - ln ppl(full)) with c what a uniform guess scores (per "
    "token, the size of the vocabulary). 0 %: the emulator knows nothing; 100 %: it is as good as "
    "the full model. ±, where scores by item are known: over the items, to first order.",
)
TIES_NOTE = (
    "Letters behind plug-ins: those that share one cannot be told apart (every pair tested over "
    "seeds and items in common, 5 % a column after Holm's correction; a single seed is told from "
    "none). Bold: not told from the best."
)
RECOVERY_NOTE = (
    "Recovery: how much of what the emulator lacks of the full model its holder gets back without "
    "the data owner's task, as a share of the gap between the two; 0 %: nothing, 100 %: all of it."
)
GAP_NOTE = "Plug-in gap: by how much plug-in is better than emulator fine-tuned, seed by seed."
SELECTION_NOTES: Mapping[str, str] = {
    "held_out": "Checkpoint: chosen among several on a slice of the train split that was not "
    "trained on.",
    "validation": "Checkpoint: chosen among several on the validation split, which is neither "
    "trained on nor scored.",
    "paper": "Checkpoint: chosen among several on the split that is scored, as in the paper: such "
    "scores are too good.",
}


def quality_notes(comparison: Comparison, metric: str) -> tuple[str, ...]:
    """What the intervals cover, and what the columns mean."""
    return (
        *interval_notes(comparison, comparison.treatments, metric),
        *_column_notes(comparison),
        *selection_notes(comparison),
    )


def interval_notes(
    comparison: Comparison,
    rows: Sequence[Treatment],
    metric: str,
    settings: Sequence[str] = SETTINGS,
) -> Iterator[str]:
    """Over how many seeds and items the intervals of some rows are."""
    seen = [comparison.setting(setting, row, metric) for row in rows for setting in settings]
    yield from _spread_notes(seen)
    yield from _item_notes(comparison, seen, metric)


def runs_note(observed: Iterable[Observed]) -> Iterator[str]:
    """Over how many runs the intervals of a cost are, if over several."""
    runs = max((len(each.runs) for each in observed), default=0)
    if runs > 1:
        yield (
            f"±: half-width of the 95 % t interval over {runs} runs, each in its own process; a "
            "footnote names fewer."
        )


def selection_notes(comparison: Comparison) -> Iterator[str]:
    """What checkpoints were chosen on, and of which rows where not all are alike."""
    found = comparison.selections()
    for rule, note in SELECTION_NOTES.items():
        if rule in found:
            rows = "; ".join(map(row_name, found[rule]))
            yield note if len(found) == 1 else f"{note} Rows: {rows}."


def plug_in_notes(comparison: Comparison, ranked: str) -> Iterator[str]:
    """What the letters and the gap mean; `ranked` says which rows are ranked among themselves."""
    if comparison.has("plug_in"):
        yield TIES_NOTE
        yield ranked
        yield GAP_NOTE


def budget_notes(comparison: Comparison, rows: Sequence[Treatment]) -> Iterator[str]:
    """What each row was trained with, where that is not alike."""
    found = comparison.budgets(rows)
    return unequal_budgets({budget: list(map(row_name, own)) for budget, own in found.items()})


def unequal_budgets(found: Mapping[Budget, Sequence[str]]) -> Iterator[str]:
    """What was given to whom, where that is not alike; the names of the most are not said."""
    if len(found) < 2:
        return
    most = max(found, key=lambda budget: len(found[budget]))
    names = {budget: "; ".join(own) for budget, own in found.items()}
    if len(found[most]) > 1:
        names[most] = "all other rows"
    ordered = [*(budget for budget in found if budget != most), most]
    told = (f"{names[budget]}: {budget.text}." for budget in ordered)
    yield f"Unequal training budgets. {' '.join(told)}"


def row_name(row: Treatment) -> str:
    """Layout, compression and tuning in one line."""
    words = (row.layout, row.compression or WHOLE_MODEL.text, row.tuning)
    return one_line(" ".join(filter(None, words)))


def cost_notes(comparison: Comparison) -> tuple[str, ...]:
    """What speed and memory are of, and how far they can be trusted."""
    return tuple(_cost_notes(comparison)) if comparison.has(*TRAININGS) else ()


def shared_notes(tables: Sequence[Table]) -> tuple[str, ...]:
    """Notes of several tables, to be said once for all of them."""
    times = Counter(note for table in tables for note in table.notes)
    return tuple(note for note, count in times.items() if count > 1)


def _spread_notes(seen: Sequence[Observed]) -> Iterator[str]:
    """What the intervals cover, and what they do not."""
    seeds = max((len(observed.values) for observed in seen), default=0)
    seeded = [observed for observed in seen if len(observed.values) > 1]
    one_seed = [observed for observed in seen if observed.is_one_seed]
    whole = [observed for observed in seen if None in observed.values]
    crossed = [observed for observed in seeded if observed.scores.by_item]
    if crossed:
        yield (
            f"±: half-width of the 95 % interval over {seeds} seeds and the scored items, both "
            "taken as drawn at random; a footnote names fewer seeds."
        )
    if crossed and len(crossed) < len(seeded):
        yield "Where a record has no scores by item, ± is over its seeds alone."
    elif seeded and not crossed:
        yield f"±: half-width of the 95 % t interval over {seeds} seeds; a footnote names fewer."
    if any(observed.scores.by_item for observed in whole):
        yield "± of a zero-shot setting: over the scored items; nothing else in it is random."
    if any(not observed.scores.by_item for observed in whole):
        yield "No ± in a zero-shot setting: evaluated once; nothing random in it."
    if any(observed.scores.by_item for observed in one_seed):
        yield "± of a tuned setting with one seed: over the scored items; other seeds may differ."
    if any(not observed.scores.by_item for observed in one_seed):
        yield "No ± in a tuned setting: one seed, which says nothing of the spread."


def _item_notes(comparison: Comparison, seen: Sequence[Observed], metric: str) -> Iterator[str]:
    """How many items were scored; where that is in no interval, how much doubt they leave."""
    known = [observed for observed in seen if observed.items]
    word, usual = items_word(metric), comparison.items.get(metric)
    if known and usual:
        texts = sorted({len(each) for o in known for each in o.scores.by_item.values()})
        within = f" in {_counts(texts)} texts" if texts and word == "tokens" else ""
        others = any(observed.items != usual for observed in known)
        yield f"Scored: {usual:,} {word}{within}{'; a footnote names other counts' * others}."
    for count in sorted({o.items for o in known if o.items and o.stderr == 0}):
        yield f"In an evaluation all {count:,} {word} alike: no standard error, and no certainty."
    left_out = [o for o in known if o.stderr and not o.scores.by_item]
    if left_out:
        items = sorted({o.items for o in left_out if o.items})
        yield (
            f"The interval does not cover the choice of scored {word}: one evaluation of "
            f"{_counts(items)} {word} has a standard error of up "
            f"to {_points(max(o.stderr for o in left_out if o.stderr), metric)}."
        )


def _counts(counts: Sequence[int]) -> str:
    return " or ".join(f"{count:,}" for count in counts)


def _points(error: float, metric: str) -> str:
    style = quality_style(metric)
    return style.spread(error) + " points" * (style is PERCENT)


def _column_notes(comparison: Comparison) -> Iterator[str]:
    if comparison.reference:
        tuning = one_line(comparison.reference.tuning)
        yield f"Full fine-tuned: the whole model without an emulator, tuning {tuning}."
    if comparison.has("plug_in") and len(comparison.sandwiches) > 1:
        yield TIES_NOTE
    if comparison.has("plug_in"):
        yield GAP_NOTE
        yield (
            "Paper's order: full fine-tuned better than plug-in, plug-in better than full "
            "zero-shot and than emulator fine-tuned, full zero-shot better than emulator "
            "zero-shot; computed from the means."
        )


def _cost_notes(comparison: Comparison) -> Iterator[str]:
    throughput, memory = comparison.throughput, comparison.memory
    if throughput == "throughput_tokens_real":
        yield "Tuning throughput: real tokens, padding not counted."
    if comparison.reference and comparison.sandwiches:
        tuning = one_line(comparison.reference.tuning)
        yield f"In brackets: ratio to full fine-tuning (tuning {tuning}) on the same machine."
    if memory == "peak_memory_process":
        yield "Peak memory: of the whole process while it trains."
        yield from _floor_note(comparison)
    else:
        yield "Peak memory: of the tensors on the GPU while training (peak_memory_allocated)."
    timed = [comparison.training(throughput, row) for row in comparison.treatments]
    seeds = max((len(observed.values) for observed in timed), default=0)
    if seeds > 1:
        yield f"± of speed and memory: 95 % t interval over {seeds} seeds."
    for name, metric in (("Throughput", throughput), ("Peak memory", memory)):
        observed = [comparison.training(metric, t) for t in comparison.treatments]
        for grade in dict.fromkeys(grade for o in observed for grade in o.grades):
            yield f"{name} is graded {one_line(grade)}."


def _floor_note(comparison: Comparison) -> Iterator[str]:
    """What the process weighs before it loads a model: most of the peak for a tiny one."""
    floors = [
        number
        for treatment in comparison.treatments
        for number in comparison.training("memory_floor", treatment, phase="load").numbers
    ]
    if floors:
        floor = MEBIBYTES.mean(min(floors))
        yield f"Of the peak memory, {floor} MiB are there before anything loads."
