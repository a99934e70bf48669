"""What tuning costs, beside the ideal and beside other loops: every ratio by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest

from reports.comparison import compared
from reports.record import DRAWN, Metric, Outcome, Record
from reports.results import Labels, PlannedStage, StageRun, frame
from reports.statistics.ratios import paired_ratio
from reports.tables.cells import DASH, Absent, Number, Table, Text
from reports.tables.efficiency import PAPER_SHAPES, efficiency_tables
from reports.tables.settings import settings_tables

MIB = 2**20
FLOOR = 400 * MIB
RATE, TRAFFIC = 1e11, 1e10
RUNS = 3
DRIFT = (1.0, 1.1, 0.8)
"""How fast the machine is in each run: all rows of a run share it."""
ROWS = {
    # layout, compression, tuning: tokens/s, MiB above the floor, parameters, FLOPs
    ("", "", "full"): (100.0, 900, 1_000_000, 6e10),
    ("", "", "lora(rank=4)"): (140.0, 600, 10_000, 4e10),
    ("2-16-2", "layer_drop(keep=16)", "full"): (280.0, 350, 100_000, 2.2e10),
    ("2-16-2", "layer_drop(keep=16)", "lora(rank=4)"): (330.0, 250, 1_000, 2e10),
}
LAST = list(ROWS)[-1]
PEER = 0.8
"""The peer's speed, of ours; it takes as much memory again above the floor."""


def metric(name: str, value: float, unit: str, phase: str = "train") -> Metric:
    """One number of a training."""
    return Metric(metric=name, value=value, unit=unit, better="higher", phase=phase, grade="exact")


def record(row: tuple[str, str, str], peer: str, repeat: int) -> Record:
    """What a run of a row left."""
    speed, memory, parameters, flops = ROWS[row]
    speed *= DRIFT[repeat] * (PEER if peer else 1.0)
    metrics = [
        metric("throughput_tokens_real", speed, "tokens/s"),
        metric("step_time_median", 512 / speed, "s"),
        metric("peak_memory_process", FLOOR + memory * MIB * (2 if peer else 1), "bytes"),
        metric("memory_floor", FLOOR, "bytes", "load"),
        metric("trainable_parameters", parameters, "1"),
        metric("monitor_overhead", 0.0031 if row[0] else 0.0025, "fraction"),
    ]
    if not peer:
        metrics += [
            metric("flops_per_step", flops, "1"),
            metric("optimizer_bytes_per_step", 28 * parameters, "bytes"),
            metric("matmul_rate", RATE, "flop/s"),
            # A small model's optimizer waits for its launches: only the largest row's counts.
            metric("adamw_rate", TRAFFIC * parameters / 1e6, "bytes/s"),
        ]
    return Record(
        digest=f"{row}{peer}",
        machine="m",
        repeat=repeat,
        kind="tune" if row[0] else "finetune",
        version=1,
        params={},
        inputs={"data": DRAWN},
        outcome="ok",
        metrics=tuple(metrics),
    )


def stages(model: str = "lm", failed: str = "", outcome: Outcome = "oom_gpu") -> Iterator[StageRun]:
    """Every row by our loop and by the Trainer; `failed` names a tuning of the whole model."""
    for row in ROWS:
        for peer in ("", "trainer"):
            layout, compression, tuning = row
            kind = "tune" if layout else "finetune"
            labels = Labels(
                model=model,
                layout=layout,
                compression=compression,
                tuning=tuning,
                task="tokens",
                seed=0,
                setting="emulator_finetuned" if layout else "full_finetuned",
                peer=peer,
            )
            planned = PlannedStage(digest=f"{row}{peer}", kind=kind, labels=labels)
            if not layout and tuning == failed and not peer:
                attempt = record(row, peer, 0).model_copy(
                    update={"outcome": outcome, "reason": "80 GB are not enough", "metrics": ()}
                )
                yield StageRun(suite="s", planned=planned, records=(), attempt=attempt)
                continue
            records = tuple(record(row, peer, repeat) for repeat in range(RUNS))
            yield StageRun(suite="s", planned=planned, records=records)


def tables(**options: str) -> dict[str, Table]:
    """By the last word of their names."""
    found = compared(frame(stages(**options), with_not_run=True))  # type: ignore[arg-type]
    return {table.name.rpartition("-")[2]: table for table in efficiency_tables(found)}


def texts(table: Table, header: str, detail: str | None = None) -> list[str]:
    """A column's cells as they are read."""
    column = next(
        c for c in table.columns if c.header == header and (detail is None or c.detail == detail)
    )
    return [cell.text for cell in column.cells]


def test_a_ratio_is_taken_run_by_run():
    """The machine's drift of a third is in neither a ratio nor its interval."""
    assert texts(tables()["speed"], "achieved ratio") == [
        DASH,
        "1.40 ± 0.00",
        "2.80 ± 0.00",
        "3.30 ± 0.00",
    ]


def test_the_ideal_is_operations_and_the_optimizers_traffic_at_the_best_rates():
    """0.6 s and 2.8 ms for the whole model, 0.2 s and next to nothing with emulator and LoRA."""
    whole = 6e10 / RATE + 28e6 / TRAFFIC
    least = 2e10 / RATE + 28e3 / TRAFFIC
    speed = tables()["speed"]
    assert texts(speed, "ideal ratio")[-1] == f"{whole / least:.2f}"
    assert texts(speed, "achieved of ideal")[-1] == f"{100 * 3.3 / (whole / least):.1f} ± 0.0"
    step = 512 / 330.0
    assert texts(speed, "step of ideal")[-1] == f"{100 * least / step:.1f}"


def test_what_is_reached_of_the_ideal_is_as_sure_as_its_ratio():
    """Its interval is that of the ratio, over the ideal one."""
    slower = metric("throughput_tokens_real", 300.0, "tokens/s")
    runs = []
    for stage in stages():
        if stage.planned.digest == f"{LAST}":
            first, *others = stage.records
            moved = first.model_copy(update={"metrics": (slower, *first.metrics[1:])})
            stage = replace(stage, records=(moved, *others))  # noqa: PLW2901
        runs.append(stage)
    found = compared(frame(runs, with_not_run=True))
    speed = next(t for t in efficiency_tables(found) if t.name.endswith("-speed"))
    ratio, ideal, reached = (
        next(c for c in speed.columns if c.header == header).cells[-1]
        for header in ("achieved ratio", "ideal ratio", "achieved of ideal")
    )
    assert isinstance(ratio, Number)
    assert isinstance(ideal, Number)
    assert isinstance(reached, Number)
    half = ratio.estimate.half_width
    assert half
    assert reached.estimate.half_width == pytest.approx(half / ideal.estimate.mean)


def test_every_number_leads_to_its_stages():
    """Ratios to those of both rows; what is known of the machine to none."""
    for table in tables().values():
        for column in table.columns:
            for row, cell in enumerate(column.cells):
                if isinstance(cell, Number) and column.header not in (
                    "ideal ratio",
                    "paper's ratio",
                ):
                    assert cell.sources, (table.name, column.header, row)


def test_fewer_runs_than_the_others_are_named():
    """A row whose third run is missing has a footnote."""
    runs = [
        stage if stage.planned.digest != f"{LAST}" else replace(stage, records=stage.records[:2])
        for stage in stages()
    ]
    found = compared(frame(runs, with_not_run=True))
    speed = next(t for t in efficiency_tables(found) if t.name.endswith("-speed"))
    cells = next(c for c in speed.columns if c.header == "throughput").cells
    assert [dict(speed.footnotes).get(cell.mark) for cell in cells] == [None, None, None, "2 runs"]


def test_why_a_run_failed_stands_below_the_table():
    """Even where every row lost one, so that none has fewer than the others."""
    reason = {"metrics": (), "outcome": "oom_host", "reason": "too large"}
    runs = [
        replace(
            stage,
            records=stage.records[:2],
            attempt=stage.records[2].model_copy(update=reason),
        )
        for stage in stages()
    ]
    found = compared(frame(runs, with_not_run=True))
    speed = next(t for t in efficiency_tables(found) if t.name.endswith("-speed"))
    cells = next(c for c in speed.columns if c.header == "throughput").cells
    said = {dict(speed.footnotes)[cell.mark] for cell in cells}
    assert said == {"2 runs; another failed (oom_host: too large)"}


def test_both_like_for_like_ratios_stand_there():
    """OT against FT, and OT with LoRA against FT with LoRA."""
    found = texts(tables()["speed"], "like for like")
    assert found == [DASH, DASH, "2.80 ± 0.00", f"{330 / 140:.2f} ± 0.00"]


def test_memory_is_compared_above_the_floor():
    """An interpreter with its libraries weighs the same in every row and hides the ratio."""
    memory = tables()["memory"]
    assert texts(memory, "peak memory")[0] == "1,300 ± 0"
    assert texts(memory, "floor")[0] == "400 ± 0"
    assert texts(memory, "above floor", "to FT ↓")[-1] == f"{250 / 900:.2f} ± 0.00"
    assert texts(memory, "trainable parameters")[-1] == "1,000"


def test_what_watching_cost_is_printed():
    """The dearest row's: its share of the cores, not of a step."""
    assert (
        "Watching memory while training took up to 0.31 % of the cores." in tables()["memory"].notes
    )


def test_a_peer_stands_beside_every_row_with_a_lower_bound():
    """Ours is 1.25 times as fast; peaks include the floor."""
    peers = tables()["peers"]
    assert texts(peers, "other loop") == ["Hugging Face Trainer"] * 4
    assert texts(peers, "our speed over its") == ["1.25 ± 0.00"] * 4
    assert texts(peers, "lower bound") == ["1.25"] * 4
    assert texts(peers, "our peak over its")[0] == f"{1300 / 2200:.2f} ± 0.00"


def test_peers_are_in_no_row_of_ours():
    """A mean over loops would be nobody's speed."""
    assert texts(tables()["speed"], "throughput")[0].startswith("96.7")


def test_without_full_fine_tuning_there_is_no_ratio_and_the_reason_is_told():
    """A model that does not fit says so where its number would stand."""
    speed = tables(failed="full")["speed"]
    column = next(c for c in speed.columns if c.header == "throughput")
    assert isinstance(column.cells[0], Absent)
    assert column.cells[0].word == "oom_gpu"
    assert any("80 GB are not enough" in text for _, text in speed.footnotes)
    assert texts(speed, "achieved ratio")[1:] == ["not known"] * 3
    assert texts(speed, "ideal ratio")[1:] == ["not known"] * 3


def test_what_is_only_timed_has_no_table_of_settings():
    """There is nothing in it."""
    assert settings_tables(compared(frame(stages(), with_not_run=True))) == ()


@pytest.mark.parametrize("model", ["gpt2-xl", "lm"])
def test_the_papers_ratio_is_for_its_own_shapes(monkeypatch, model):
    """6,257 of 957 tokens/s; a narrow model of that name is another one."""
    monkeypatch.setitem(ROWS, ("", "", "full"), (100.0, 900, PAPER_SHAPES["gpt2-xl"], 6e10))
    headers = [column.header for column in tables(model=model)["speed"].columns]
    assert ("paper's ratio" in headers) == (model == "gpt2-xl")
    if model == "gpt2-xl":
        assert texts(tables(model=model)["speed"], "paper's ratio") == [
            DASH,
            "2.08",
            "5.13",
            "6.54",
        ]
        memory = tables(model=model)["memory"]
        assert texts(memory, "paper's ratio")[-1] == "0.18"
        assert any(text.startswith("the paper's Table 6: ") for _, text in memory.footnotes)


def test_a_narrow_model_of_a_published_name_is_not_compared():
    """The count of trained parameters tells."""
    headers = [column.header for column in tables(model="gpt2-xl")["speed"].columns]
    assert "paper's ratio" not in headers


def test_pairs_are_matched_by_seed_and_repeat():
    """What one side lacks is in no pair; the interval is on a log scale."""
    ours = {(0, 0): 2.0, (0, 1): 8.0, (0, 2): 1.0}
    theirs = {(0, 0): 1.0, (0, 1): 2.0, (1, 2): 1.0}
    found = paired_ratio(ours, theirs)
    assert found is not None
    assert found.n == 2
    assert found.ratio == pytest.approx(math.sqrt(8))
    assert found.low is not None
    assert found.high is not None
    assert found.low * found.high == pytest.approx(8)


def test_one_pair_has_no_interval():
    """One pair says nothing about its own spread."""
    found = paired_ratio({(0, 0): 2.0}, {(0, 0): 1.0})
    assert found is not None
    assert (found.ratio, found.low, found.high) == (2.0, None, None)
    assert paired_ratio({}, {(0, 0): 1.0}) is None


def test_the_whole_models_row_is_named_as_such():
    """As in the settings table."""
    first = tables()["speed"].columns[1].cells[0]
    assert isinstance(first, Text)
    assert first.text == "full fine-tuning"
    assert isinstance(tables()["speed"].columns[3].cells[0], Number)
