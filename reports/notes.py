"""What has to be said under a settings table for its numbers to be understood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from reports.cells import MEBIBYTES, PERCENT, Table, one_line, quality_style
from reports.comparison import Comparison, Observed, Treatment
from reports.observed_cells import WHOLE_MODEL
from reports.record import SETTINGS

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
)
LEAK_NOTES = (
    "Capability leak: how much of the full model's zero-shot score the untuned emulator has. Raw "
    "(CPL, as LLEOT defines it): S(emulator)/S(full), of a perplexity ppl(full)/ppl(emulator).",
    "Corrected for chance c (our definition): (S(emulator) - c)/(S(full) - c), of a perplexity "
    "(ln c - ln ppl(emulator))/(ln c - ln ppl(full)) with c what a uniform guess scores (per "
    "token, the size of the vocabulary). 0 %: the emulator knows nothing; 100 %: it is as good as "
    "the full model.",
)
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
    seen = [
        comparison.setting(setting, treatment, metric)
        for treatment in comparison.treatments
        for setting in SETTINGS
    ]
    return (
        *_spread_notes(seen),
        *_item_notes(seen, metric),
        *_column_notes(comparison),
        *selection_notes(comparison),
    )


def selection_notes(comparison: Comparison) -> Iterator[str]:
    """What checkpoints were chosen on, and of which rows where not all are alike."""
    found = comparison.selections()
    for rule, note in SELECTION_NOTES.items():
        if rule in found:
            rows = "; ".join(map(_row_name, found[rule]))
            yield note if len(found) == 1 else f"{note} Rows: {rows}."


def _row_name(row: Treatment) -> str:
    words = (row.layout, row.compression or WHOLE_MODEL.text, row.tuning)
    return one_line(" ".join(filter(None, words)))


def cost_notes(comparison: Comparison) -> tuple[str, ...]:
    """What speed and memory are of, and how far they can be trusted."""
    return tuple(_cost_notes(comparison)) if comparison.has("tune", "finetune") else ()


def shared_notes(tables: Sequence[Table]) -> tuple[str, ...]:
    """Notes of several tables, to be said once for all of them."""
    times = Counter(note for table in tables for note in table.notes)
    return tuple(note for note, count in times.items() if count > 1)


def _spread_notes(seen: Sequence[Observed]) -> Iterator[str]:
    seeds = max((len(observed.values) for observed in seen), default=0)
    if seeds > 1:
        yield f"±: half-width of the 95 % t interval over {seeds} seeds; a footnote names fewer."
    if any(None in observed.values for observed in seen):
        yield "No ± in a zero-shot setting: evaluated once; nothing random in it."
    if any(len(observed.values) == 1 and None not in observed.values for observed in seen):
        yield "No ± in a tuned setting: one seed, which says nothing of the spread."


def _item_notes(seen: Sequence[Observed], metric: str) -> Iterator[str]:
    """Seeds say nothing of the items that were scored: that doubt is named beside the interval."""
    known = [observed for observed in seen if observed.items and observed.stderr is not None]
    items = sorted({observed.items for observed in known if observed.items and observed.stderr})
    errors = [observed.stderr for observed in known if observed.stderr]
    alike = sorted({observed.items for observed in known if observed.items and not observed.stderr})
    scored = "items" if quality_style(metric) is PERCENT else "tokens"
    for count in alike:
        yield f"In an evaluation all {count:,} {scored} alike: no standard error, and no certainty."
    if errors:
        yield (
            f"The interval does not cover the choice of scored {scored}: one evaluation of "
            f"{' or '.join(f'{count:,}' for count in items)} {scored} has a standard error of up "
            f"to {_points(max(errors), metric)}."
        )


def _points(error: float, metric: str) -> str:
    style = quality_style(metric)
    return style.spread(error) + " points" * (style is PERCENT)


def _column_notes(comparison: Comparison) -> Iterator[str]:
    if comparison.reference:
        tuning = one_line(comparison.reference.tuning)
        yield f"Full fine-tuned: the whole model without an emulator, tuning {tuning}."
    if comparison.has("plug_in"):
        yield "Plug-in gap: by how much plug-in is better than emulator fine-tuned, seed by seed."
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
