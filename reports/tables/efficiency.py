"""What tuning costs, beside what it would cost at best and beside other training loops.

The paper's Table 6, with the bound its ratios are under.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Protocol

from reports.comparison import Compared, Comparison, Observed, Treatment
from reports.published import published_numbers
from reports.record import DRAWN, TRAININGS
from reports.statistics.intervals import Estimate
from reports.statistics.ratios import RatioEstimate, paired_ratio
from reports.tables.cells import (
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
    three_digits,
)
from reports.tables.notes import budget_notes, runs_note
from reports.tables.observed_cells import (
    WHOLE_MODEL,
    absent_cell,
    exact_cell,
    mebibytes,
    runs_cells,
)

RATIO = Style(decimals=2)
PEERS = {"trainer": "Hugging Face Trainer", "authors": "the authors' loop"}
PAPER_SHAPES = {"gpt2-xl": 1_475_558_400, "opt-1.3b": 1_208_598_528}
"""Parameters of all blocks of the models in the paper's Table 6: a narrower model of that name is
not compared with it."""


class Measure(Protocol):
    """One number of every run of a row, by our loop or a peer's."""

    def __call__(self, comparison: Comparison, row: Treatment, peer: str = "") -> Observed:
        """The runs."""


def is_cost_only(comparison: Comparison) -> bool:
    """Whether it was trained on random samples: the tables of this module stand for the others."""
    return comparison.data(*TRAININGS) == {DRAWN}


def efficiency_tables(found: Compared) -> tuple[Table, ...]:
    """Speed, memory and peers of every model whose training was only to be measured."""
    return tuple(
        table
        for comparison in found.tasks
        if is_cost_only(comparison)
        for table in (
            _speed_table(comparison),
            _memory_table(comparison),
            *_peer_tables(comparison),
        )
    )


def _speed_table(comparison: Comparison) -> Table:
    footnotes, rows, ideals = Footnotes(), comparison.treatments, _ideals(comparison)
    flops = [comparison.training("flops_per_step", row) for row in rows]
    giga = replace(three_digits([n / 1e9 for each in flops for n in each.numbers]), scale=1e-9)
    columns = (
        *_labels(rows),
        _column("throughput", _speed_unit(comparison), _means(comparison, rows, _speed, footnotes)),
        _column("achieved ratio", "to FT ↑", _ratios(comparison, _speed)),
        _column("ideal ratio", "to FT ↑", [_ideal_ratio(comparison, ideals, row) for row in rows]),
        _column("achieved of ideal", "% ↑", [_reached(comparison, ideals, row) for row in rows]),
        _column("like for like", "to FT of its tuning ↑", _alike(comparison, _speed)),
        *_paper_column(comparison, "throughput", "↑", footnotes),
        _column("FLOPs a step", "GFLOP ↓", [_exact(each, giga, footnotes) for each in flops]),
        _column("step of ideal", "% ↑", [_share_of_ideal(comparison, ideals, row) for row in rows]),
        *_energy_column(comparison, footnotes),
    )
    return Table(
        name=f"{comparison.model}-{comparison.task}-speed",
        title=one_line(f"{comparison.model} on {comparison.task}: speed of tuning"),
        model=comparison.model,
        task=comparison.task,
        columns=columns,
        notes=(*_speed_notes(comparison, ideals), *budget_notes(comparison, rows)),
        footnotes=footnotes.lettered(),
    )


def _memory_table(comparison: Comparison) -> Table:
    footnotes, rows = Footnotes(), comparison.treatments
    counts = [comparison.training("trainable_parameters", row) for row in rows]
    columns = (
        *_labels(rows),
        _column("peak memory", "MiB ↓", _means(comparison, rows, _memory, footnotes)),
        _column("peak ratio", "to FT ↓", _ratios(comparison, _memory)),
        *_floor_columns(comparison, footnotes),
        _column("like for like", _alike_detail(comparison), _alike(comparison, _above)),
        *_paper_column(comparison, "memory", "↓", footnotes),
        _column("trainable parameters", "↓", [exact_cell(each, footnotes) for each in counts]),
    )
    return Table(
        name=f"{comparison.model}-{comparison.task}-memory",
        title=one_line(f"{comparison.model} on {comparison.task}: memory of tuning"),
        model=comparison.model,
        task=comparison.task,
        columns=columns,
        notes=(
            *runs_note(_memory(comparison, row) for row in rows),
            *_memory_notes(comparison),
        ),
        footnotes=footnotes.lettered(),
    )


def _peer_tables(comparison: Comparison) -> Iterator[Table]:
    """Our loop beside each other one, if any other was run."""
    if not comparison.peers:
        return
    footnotes = Footnotes()
    rows = [(row, peer) for row in comparison.treatments for peer in comparison.peers]
    speeds = [_against(comparison, row, peer, _speed) for row, peer in rows]
    peaks = [_against(comparison, row, peer, _memory) for row, peer in rows]
    theirs = [_speed(comparison, row, peer) for row, peer in rows]
    style = _style(theirs)
    peer_names = tuple(Text(text=PEERS.get(peer, peer)) for _, peer in rows)
    yield Table(
        name=f"{comparison.model}-{comparison.task}-peers",
        title=one_line(f"{comparison.model} on {comparison.task}: our loop beside others"),
        model=comparison.model,
        task=comparison.task,
        columns=(
            *_labels([row for row, _ in rows]),
            Column(header="other loop", cells=peer_names, kind="label"),
            _column(
                "its throughput",
                _speed_unit(comparison),
                runs_cells(theirs, style, footnotes),
            ),
            _column("our speed over its", "↑", [_ratio_cell(each) for each in speeds]),
            _column("lower bound", "95 %, ↑", [_low_cell(each) for each in speeds]),
            _column("our peak over its", "↓", [_ratio_cell(each) for each in peaks]),
        ),
        notes=(
            *runs_note(theirs),
            "Our loop over the other one, run by run: the runs of a pair were made one after the "
            "other, to and fro. Lower bound: of the 95 % t interval of that ratio.",
        ),
        footnotes=footnotes.lettered(),
    )


def _speed(comparison: Comparison, row: Treatment, peer: str = "") -> Observed:
    return comparison.training(comparison.throughput, row, peer=peer)


def _memory(comparison: Comparison, row: Treatment, peer: str = "") -> Observed:
    return comparison.training(comparison.memory, row, peer=peer)


def _speed_unit(comparison: Comparison) -> str:
    return "samples/s ↑" if comparison.throughput == "throughput_samples" else "tokens/s ↑"


def _floor(comparison: Comparison, row: Treatment, peer: str = "") -> Observed:
    return comparison.training("memory_floor", row, phase="load", peer=peer)


def _above(comparison: Comparison, row: Treatment, peer: str = "") -> Observed:
    """The peak without what the process held before anything loaded; a GPU's peak has no floor."""
    peak, floor = _memory(comparison, row, peer), _floor(comparison, row, peer)
    if not _has_floor(comparison):
        return peak
    runs = {run: value - floor.runs[run] for run, value in peak.runs.items() if run in floor.runs}
    return replace(peak, runs=runs, values={None: fmean(runs.values())} if runs else {})


def _has_floor(comparison: Comparison) -> bool:
    return comparison.memory == "peak_memory_process"


def _labels(rows: Sequence[Treatment]) -> Iterator[Column]:
    yield Column(header="layout", cells=tuple(label(row.layout) for row in rows), kind="label")
    compressions = tuple(label(row.compression) if row.layout else WHOLE_MODEL for row in rows)
    yield Column(header="compression", cells=compressions, kind="label")
    yield Column(header="tuning", cells=tuple(label(row.tuning) for row in rows), kind="label")


def _column(header: str, detail: str, cells: Sequence[Cell]) -> Column:
    return Column(header=header, detail=detail, cells=tuple(cells), kind="cost")


def _style(observed: Sequence[Observed]) -> Style:
    if any(each.unit == "bytes" for each in observed):
        return mebibytes(observed)
    return three_digits([number for each in observed for number in each.numbers])


def _means(
    comparison: Comparison, rows: Sequence[Treatment], measure: Measure, footnotes: Footnotes
) -> list[Cell]:
    observed = [measure(comparison, row) for row in rows]
    return runs_cells(observed, _style(observed), footnotes)


def _exact(observed: Observed, style: Style, footnotes: Footnotes) -> Cell:
    """A count, which every run shares."""
    numbers = observed.numbers
    if not numbers:
        return absent_cell(observed, footnotes)
    return _plain(fmean(numbers), style, observed.stages)


def _ratios(comparison: Comparison, measure: Measure) -> list[Cell]:
    """Every row to full fine-tuning."""
    base = comparison.reference
    return [
        NOT_APPLICABLE if row == base else _to(comparison, row, base, measure)
        for row in comparison.treatments
    ]


def _alike(comparison: Comparison, measure: Measure) -> list[Cell]:
    """Every row with an emulator to the whole model in the same tuning."""
    return [
        _to(comparison, row, Treatment("", "", row.tuning), measure)
        if row.layout
        else NOT_APPLICABLE
        for row in comparison.treatments
    ]


def _to(comparison: Comparison, row: Treatment, base: Treatment | None, measure: Measure) -> Cell:
    if base not in comparison.treatments:
        return NOT_APPLICABLE
    return _ratio_cell(_Pair(ours=measure(comparison, row), theirs=measure(comparison, base)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """The runs of two rows, or of two loops, that were made together."""

    ours: Observed
    theirs: Observed

    @property
    def ratio(self) -> RatioEstimate | None:
        """Ours over theirs, run by run; None where they have no run in common."""
        return paired_ratio(self.ours.runs, self.theirs.runs)

    @property
    def stages(self) -> tuple[str, ...]:
        """Where its numbers are from."""
        return (*self.ours.stages, *self.theirs.stages)


def _against(comparison: Comparison, row: Treatment, peer: str, measure: Measure) -> _Pair:
    return _Pair(ours=measure(comparison, row), theirs=measure(comparison, row, peer))


def _ratio_cell(pair: _Pair, style: Style = RATIO, bound: float = 1.0) -> Cell:
    """The ratio of a pair, of a bound if there is one."""
    found = pair.ratio
    if found is None:
        # Why stands in the cells it would be made of.
        return Absent(word="not known")
    half = None if found.low is None or found.high is None else (found.high - found.low) / 2
    own = Estimate(
        mean=found.ratio / bound, half_width=None if half is None else half / bound, n=found.n
    )
    return Number(estimate=own, style=style, sources=pair.stages)


def _low_cell(pair: _Pair) -> Cell:
    found = pair.ratio
    if found is None or found.low is None:
        return Absent(word="not known")
    return _plain(found.low, RATIO, pair.stages)


def _plain(value: float, style: Style, stages: tuple[str, ...] = ()) -> Number:
    return Number(estimate=Estimate(mean=value, half_width=None, n=1), style=style, sources=stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ideals:
    """The machine's best rates in this run: medians over its stages."""

    flops: float
    """A second, of a matrix product of a block's shape."""
    traffic: float
    """Bytes a second of the optimizer, over the row that trains most."""

    def seconds(self, comparison: Comparison, row: Treatment) -> float | None:
        """The least a step could take: all its operations, then all the optimizer's traffic."""
        flops = comparison.training("flops_per_step", row).numbers
        traffic = comparison.training("optimizer_bytes_per_step", row).numbers
        if not flops or not traffic:
            return None
        return fmean(flops) / self.flops + fmean(traffic) / self.traffic


def _ideals(comparison: Comparison) -> _Ideals | None:
    rows = comparison.treatments
    rates = [n for row in rows for n in comparison.training("matmul_rate", row).runs.values()]
    sized = {row: comparison.training("trainable_parameters", row).numbers for row in rows}
    most = max((row for row in rows if sized[row]), key=lambda row: sized[row][0], default=None)
    if most is None or not rates:
        return None
    traffic = comparison.training("adamw_rate", most).runs.values()
    return _Ideals(flops=median(rates), traffic=median(traffic)) if traffic else None


def _ideal(comparison: Comparison, ideals: _Ideals | None, row: Treatment) -> float | None:
    """How many times faster than full fine-tuning a row would be at best."""
    base = comparison.reference
    if ideals is None or base is None or row == base:
        return None
    own, whole = ideals.seconds(comparison, row), ideals.seconds(comparison, base)
    return None if own is None or whole is None else whole / own


def _ideal_ratio(comparison: Comparison, ideals: _Ideals | None, row: Treatment) -> Cell:
    if row == comparison.reference:
        return NOT_APPLICABLE
    bound = _ideal(comparison, ideals, row)
    return Absent(word="not known") if bound is None else _plain(bound, RATIO)


def _reached(comparison: Comparison, ideals: _Ideals | None, row: Treatment) -> Cell:
    """The achieved ratio over the ideal one."""
    base = comparison.reference
    if base is None or row == base:
        return NOT_APPLICABLE
    bound = _ideal(comparison, ideals, row)
    if bound is None:
        return Absent(word="not known")
    pair = _Pair(ours=_speed(comparison, row), theirs=_speed(comparison, base))
    return _ratio_cell(pair, PERCENT, bound)


def _share_of_ideal(comparison: Comparison, ideals: _Ideals | None, row: Treatment) -> Cell:
    """The least a step could take, over what it took."""
    took = comparison.training("step_time_median", row)
    least = ideals.seconds(comparison, row) if ideals else None
    if least is None or not took.runs:
        return Absent(word="not known")
    return _plain(least / median(took.runs.values()), PERCENT, took.stages)


def _alike_detail(comparison: Comparison) -> str:
    above = "above floor, " if _has_floor(comparison) else ""
    return f"{above}to FT of its tuning ↓"


def _floor_columns(comparison: Comparison, footnotes: Footnotes) -> Iterator[Column]:
    if not _has_floor(comparison):
        return
    rows = comparison.treatments
    yield _column("floor", "MiB", _means(comparison, rows, _floor, footnotes))
    yield _column("above floor", "MiB ↓", _means(comparison, rows, _above, footnotes))
    yield _column("above floor", "to FT ↓", _ratios(comparison, _above))


def _energy_column(comparison: Comparison, footnotes: Footnotes) -> Iterator[Column]:
    rows = comparison.treatments
    observed = [comparison.training("energy_per_sample", row) for row in rows]
    if any(each.runs for each in observed):
        yield _column(
            "energy",
            "J/sample ↓",
            runs_cells(observed, _style(observed), footnotes),
        )


def _paper_column(
    comparison: Comparison, metric: str, arrow: str, footnotes: Footnotes
) -> Iterator[Column]:
    """The paper's own ratio, for a model of the same shape: its weights have no part in it."""
    base, model = comparison.reference, comparison.model
    trained = comparison.training("trainable_parameters", base).numbers if base else []
    if not trained or PAPER_SHAPES.get(model) != round(trained[0]):
        return
    theirs = {
        Treatment(n.place.layout, n.place.compression.removesuffix("+distill"), n.place.tuning): n
        for n in published_numbers().values()
        if n.table == "6" and n.place.model == model and n.place.metric == metric
    }
    cells: list[Cell] = []
    for row in comparison.treatments:
        if row not in theirs or row == base or base not in theirs:
            cells.append(NOT_APPLICABLE)
        else:
            ratio = _plain(theirs[row].value / theirs[base].value, RATIO)
            notes = dict.fromkeys(n.note for n in (theirs[row], theirs[base]) if n.note)
            mark = footnotes.mark(f"the paper's Table 6: {'; '.join(notes)}")
            cells.append(replace(ratio, mark=mark))
    yield _column("paper's ratio", f"to FT {arrow}", cells)


def _speed_notes(comparison: Comparison, ideals: _Ideals | None) -> Iterator[str]:
    if comparison.throughput == "throughput_tokens_real":
        yield "Throughput: real tokens, padding not counted; median of the steady windows."
    yield from runs_note(_speed(comparison, row) for row in comparison.treatments)
    yield "FT: full fine-tuning of all blocks. Ratios are run by run, then averaged."
    if ideals is not None:
        yield (
            "Ideal: counted operations over the rate of a matrix product of a block's shape "
            f"({ideals.flops / 1e9:,.0f} GFLOP/s here), plus the optimizer's memory traffic over "
            f"the rate of fused AdamW on the same parameters ({ideals.traffic / 1e9:,.1f} GB/s "
            "here); medians of what was measured after every training of this run. Everything "
            "else is free."
        )
        yield "Step of ideal: the least a step could take so, over what it took in the median run."


def _memory_notes(comparison: Comparison) -> Iterator[str]:
    if _has_floor(comparison):
        yield (
            "Peak memory: of the whole process while it trains. Floor: what the process held "
            "before anything was loaded."
        )
    else:
        yield "Peak memory: of the tensors on the GPU while training (peak_memory_allocated)."
    costs = [
        fmean(found.numbers)
        for row in comparison.treatments
        if (found := comparison.training("monitor_overhead", row)).numbers
    ]
    if costs:
        most = _plain(max(costs), replace(PERCENT, decimals=2)).text
        yield f"Watching memory while training took up to {most} % of the cores."
