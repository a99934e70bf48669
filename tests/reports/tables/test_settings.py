"""The settings table against arithmetic done by hand, and what it says of what is missing."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pandas as pd
import pytest

from reports.comparison import compared
from reports.record import Metric
from reports.results import PlanFile, frame, read_plan, read_stages
from reports.statistics.intervals import Estimate
from reports.tables.appendix import parameters_table, runs_table
from reports.tables.cells import (
    DASH,
    TIMES,
    Absent,
    Column,
    Number,
    Style,
    Table,
    Text,
    one_line,
    three_digits,
)
from reports.tables.settings import further_tables, paper_order, settings_tables
from tests.reports.synthetic_store import SyntheticStore, accuracy, fill, perplexity, training

SETTING_COLUMNS = (
    "full zero-shot",
    "emulator zero-shot",
    "full fine-tuned",
    "emulator fine-tuned",
    "plug-in",
)


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty store."""
    return SyntheticStore(tmp_path)


@pytest.fixture
def tables(store: SyntheticStore) -> dict[str, Table]:
    """The main tables of the synthetic run, by name."""
    return {
        table.name: table
        for table in settings_tables(compared(frame_of(store, read_plan(fill(store)))))
    }


def frame_of(store: SyntheticStore, plan: PlanFile) -> pd.DataFrame:
    """The long table that tables are made of."""
    return frame(read_stages(store.root, plan))


def column(table: Table, header: str) -> Column:
    """A column by its header."""
    return next(column for column in table.columns if column.header == header)


def texts(table: Table, header: str) -> list[str]:
    """The texts of a column from top to bottom."""
    return [cell.text for cell in column(table, header).cells]


def test_rows_are_full_fine_tuning_then_every_compression_and_tuning(tables: dict[str, Table]):
    """Full fine-tuning stands on top so that its cost can be compared."""
    table = tables["tiny-lm-pydoc_topics"]
    assert texts(table, "layout") == [DASH, "2-4-2", "2-2-2", "2-4-2"]
    assert texts(table, "tuning") == ["full", "full", "full", "lora(rank=4)"]
    assert texts(table, "compression") == [
        "full fine-tuning",
        "layer_drop(keep=4)",
        "layer_drop(keep=2)",
        "layer_drop(keep=4)",
    ]


def test_five_settings_with_their_intervals(tables: dict[str, Table]):
    """Seeds at 43.3, 43.6, 43.9: mean 43.60, half-width 4.3027 x 0.3 / sqrt(3) = 0.75."""
    row = tables["tiny-lm-pydoc_topics"]
    assert [texts(row, header)[1] for header in SETTING_COLUMNS] == [
        "51.04",
        "95.61",
        "29.10 ± 0.50",
        "43.60 ± 0.75",
        "40.90 ± 0.75 A",
    ]


def test_accuracies_are_percent(tables: dict[str, Table]):
    """A fraction of 0.67 is printed as 67.0, and the header says so."""
    table = tables["tiny-vit-digit_pairs"]
    assert texts(table, "plug-in") == [DASH, "67.0 ± 2.5"]
    assert column(table, "plug-in").detail == "top1, % ↑"
    assert texts(table, "plug-in gap")[1] == "+6.0 ± 0.0"


def test_gap_is_signed_by_what_is_better(tables: dict[str, Table]):
    """A plug-in of lower perplexity has a positive gap, one of higher perplexity a negative."""
    gaps = texts(tables["tiny-lm-pydoc_topics"], "plug-in gap")
    assert gaps == [DASH, "+2.70 ± 0.00", "+9.60 ± 0.00", "-5.20 ± 0.00"]


def test_cost_is_compared_with_full_fine_tuning(tables: dict[str, Table]):
    """8,020 real tokens/s against 4,010 is twice as fast; 800 MiB of 1,000 is 0.80."""
    table = tables["tiny-lm-pydoc_topics"]
    assert texts(table, "tuning throughput")[:2] == ["4,010 ± 25", f"8,020 ± 50 (2.00{TIMES})"]
    assert texts(table, "peak memory")[:2] == ["1,000 ± 0", f"800 ± 0 (0.80{TIMES})"]
    assert texts(table, "trainable parameters")[:2] == ["1,327,104", "442,368"]


def test_a_lost_seed_is_named(tables: dict[str, Table]):
    """A mean over two of three seeds has a footnote with the reason of the third."""
    table = tables["tiny-lm-pydoc_topics"]
    cell = column(table, "plug-in").cells[2]
    assert isinstance(cell, Number)
    assert cell.estimate.n == 2
    assert dict(table.footnotes)[cell.mark] == (
        "2 of 3 seeds; seed 1: oom_host: process killed: 9.1 GiB of 8 GiB"
    )


def test_a_gap_says_over_which_seeds_it_is(store: SyntheticStore):
    """Plug-in and emulator lost other seeds: one is left, and both reasons stand there."""
    row = {"model": "m", "task": "t", "layout": "1-1", "compression": "c", "tuning": "full"}
    lost = {"plug_in": 0, "emulator_finetuned": 2}
    for (setting, failed), seed in product(lost.items(), range(3)):
        digest = store.plan("evaluate", setting=setting, seed=seed, **row)
        if seed != failed:
            store.save(store.record(digest, "evaluate", *perplexity(40.0 + seed)))
            continue
        reason = {"outcome": "oom_gpu", "reason": f"no room for {setting}"}
        store.save_attempt(store.record(digest, "evaluate", **reason))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    (cell,) = column(table, "plug-in gap").cells
    assert isinstance(cell, Number)
    assert cell.estimate.n == 1
    told = dict(table.footnotes)[cell.mark]
    assert told.startswith("over the 1 seed that both have; ")
    assert "no room for plug_in" in told
    assert "no room for emulator_finetuned" in told


def test_a_metric_that_nobody_measured_points_its_way(store: SyntheticStore):
    """A perplexity is better lower, whether or not a number says so."""
    digest = store.plan("evaluate", model="m", task="t", setting="plug_in", seed=0)
    store.save_attempt(store.record(digest, "evaluate", outcome="timeout", reason="3 s"))
    (found,) = compared(frame_of(store, read_plan(store.save_plan()))).tasks
    for metric, better in (
        ("perplexity", "lower"),
        ("acc", "higher"),
        ("peak_memory_allocated", "lower"),
        ("throughput_samples", "higher"),
        ("energy_per_sample", "lower"),
    ):
        assert found.better(metric) == better


def test_an_unmeasured_cost_says_why(tables: dict[str, Table]):
    """The cell reads `unmeasured`, its footnote has the reason, and no ratio rests on it."""
    table = tables["tiny-vit-digit_pairs"]
    full, tuned = column(table, "peak memory").cells
    assert isinstance(full, Absent)
    assert dict(table.footnotes)[full.mark] == "unmeasured: the sampler did not start"
    assert tuned.text == "700 ± 0"


def test_other_metrics_have_their_own_tables(store: SyntheticStore):
    """A task scored by acc and acc_norm shows acc first, and acc_norm in a second table."""
    table = frame_of(store, read_plan(fill(store)))
    assert (
        settings_tables(compared(table))[1].title
        == "tiny-lm on choices: acc in % (higher is better)"
    )
    further = further_tables(compared(table))
    assert [t.name for t in further] == ["tiny-lm-choices-acc_norm"]
    assert texts(further[0], "full zero-shot") == ["33.0"]


def test_scoring_doubt_is_named_beside_the_interval(tables: dict[str, Table]):
    """Seeds do not cover the choice of items, so the standard error over items is told."""
    notes = " ".join(tables["tiny-lm-choices"].notes)
    assert "100 items has a standard error of up to 4.6 points" in notes


def test_settings_nobody_asked_for_have_no_column(tables: dict[str, Table]):
    """A zero-shot task shows two settings, no empty columns and no cost."""
    headers = [column.header for column in tables["tiny-lm-choices"].columns]
    assert headers == ["layout", "compression", "tuning", "full zero-shot", "emulator zero-shot"]


def test_not_run_is_told_from_not_asked_for(store: SyntheticStore):
    """A planned evaluation without a trace reads `not run`, and a lone seed has no interval."""
    labels = {"model": "m", "task": "t", "layout": "1-1-1", "compression": "c", "tuning": "full"}
    for seed in (0, 1):
        digest = store.plan("evaluate", setting="emulator_finetuned", seed=seed, **labels)
        store.plan("evaluate", setting="plug_in", seed=seed, **labels)
        if seed == 0:
            store.save(store.record(digest, "evaluate", *perplexity(9.0)))
    runs = read_stages(store.root, read_plan(store.save_plan()))
    (table,) = settings_tables(compared(frame(runs, with_not_run=True)))
    assert texts(table, "plug-in") == ["not run"]
    assert texts(table, "emulator fine-tuned") == ["9.00"]
    assert texts(table, "plug-in gap") == ["not known"]
    assert texts(table, "paper's order") == ["not known"]
    assert dict(table.footnotes) == {
        "a": "1 of 2 seeds; seed 1: not run",
        "b": "not known: no full zero-shot",
    }


def test_one_seed_has_no_interval(store: SyntheticStore):
    """A single trained run is named as such; it must not pass for an exact number."""
    labels = {"model": "m", "task": "t", "layout": "1-1-1", "compression": "c", "tuning": "full"}
    digest = store.plan("evaluate", setting="plug_in", seed=0, **labels)
    store.save(store.record(digest, "evaluate", *perplexity(9.0)))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    assert texts(table, "plug-in") == ["9.00"]
    assert "No ± in a tuned setting: one seed, which says nothing of the spread." in table.notes


def test_a_failed_emulator_explains_every_row_built_on_it(store: SyntheticStore):
    """Where only the emulator left a trace, its outcome stands in all its settings."""
    cut = {"model": "m", "layout": "1-1-1", "compression": "c"}
    digest = store.plan("emulator", **cut)
    store.save_attempt(store.record(digest, "emulator", outcome="oom_gpu", reason="12 GiB"))
    for setting, tuned in (("emulator_zero_shot", {}), ("plug_in", {"tuning": "full", "seed": 0})):
        store.plan("evaluate", setting=setting, task="t", **cut, **tuned)
    runs = read_stages(store.root, read_plan(store.save_plan()))
    (table,) = settings_tables(compared(frame(runs, with_not_run=True)))
    assert texts(table, "emulator zero-shot") == ["oom_gpu"]
    assert texts(table, "plug-in") == ["oom_gpu"]
    assert dict(table.footnotes)["a"] == "oom_gpu: 12 GiB"


def test_repeats_are_averaged_before_seeds(store: SyntheticStore):
    """Three repeats of one seed are still one seed."""
    labels = {"model": "m", "task": "t", "tuning": "full"}
    for seed, values in ((0, (1.0, 2.0, 3.0)), (1, (6.0,))):
        digest = store.plan("evaluate", repeats=3, setting="full_finetuned", seed=seed, **labels)
        for repeat, value in enumerate(values):
            store.save(store.record(digest, "evaluate", *perplexity(value), repeat=repeat))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    cell = column(table, "full fine-tuned").cells[0]
    assert isinstance(cell, Number)
    assert (cell.estimate.mean, cell.estimate.n) == (4.0, 2)


def test_no_mean_and_no_ratio_mixes_machines(store: SyntheticStore):
    """Seeds timed on two machines give no mean; quality is not touched by that."""
    for seed, machine in ((0, "a"), (1, "b")):
        labels = {"model": "m", "task": "t", "tuning": "full", "seed": seed}
        store.machine = machine
        cost = training("throughput_tokens_real", 100.0, 10.0, 5)
        store.save(store.record(store.plan("finetune", **labels), "finetune", *cost))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    cell = column(table, "tuning throughput").cells[0]
    assert cell.text == "unmeasured"
    assert "several machines" in dict(table.footnotes)[cell.mark]


def test_memory_is_the_gpus_where_training_ran_on_one(store: SyntheticStore):
    """Next to what its tensors take on the GPU, the host process says little."""
    gpu = Metric(
        metric="peak_memory_allocated", value=2**30, unit="bytes", better="lower", phase="train"
    )
    digest = store.plan("finetune", model="m", task="t", tuning="full", seed=0)
    cost = training("throughput_samples", 5.0, 300.0, 1)
    store.save(store.record(digest, "finetune", *cost, gpu))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    assert texts(table, "peak memory") == ["1,024"]
    assert any("on the GPU" in note for note in table.notes)


def test_no_ratio_across_machines(store: SyntheticStore):
    """Full fine-tuning timed on another machine is no reference for speed."""
    cost = training("throughput_tokens_real", 100.0, 10.0, 5)
    cut = {"layout": "1-1-1", "compression": "c"}
    for machine, kind, extra in (("a", "finetune", {}), ("b", "tune", cut)):
        store.machine = machine
        digest = store.plan(kind, model="m", task="t", tuning="full", seed=0, **extra)
        store.save(store.record(digest, kind, *cost))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    assert texts(table, "tuning throughput") == ["100", "100"]


def test_reference_is_another_tuning_where_full_was_not_run(store: SyntheticStore):
    """The footnote names what full fine-tuned stands for."""
    labels = {"model": "m", "task": "t", "tuning": "lora(rank=4)", "seed": 0}
    digest = store.plan("evaluate", setting="full_finetuned", **labels)
    store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1)))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    assert "Full fine-tuned: the whole model without an emulator, tuning lora(rank=4)." in (
        table.notes
    )


def test_order_is_computed_for_every_order_of_the_settings():
    """Of all orders of five distinct means exactly those the paper allows are called yes."""
    names = (
        "full_finetuned",
        "plug_in",
        "full_zero_shot",
        "emulator_finetuned",
        "emulator_zero_shot",
    )
    for values in product(range(5), repeat=5):
        means = dict(zip(names, map(float, values), strict=True))
        expected = (
            means["full_finetuned"]
            > means["plug_in"]
            > max(means["full_zero_shot"], means["emulator_finetuned"])
            and means["full_zero_shot"] > means["emulator_zero_shot"]
        )
        assert (paper_order(means, "higher") == "yes") is expected
        mirrored = {name: -value for name, value in means.items()}
        assert (paper_order(mirrored, "lower") == "yes") is expected


def test_the_first_violated_relation_is_named():
    """The verdict says which setting should not have won, and a tie is no win."""
    means = {"full_finetuned": 3.0, "plug_in": 2.0, "full_zero_shot": 2.0}
    assert paper_order(means, "higher") == "no: full zero-shot ties plug-in"
    means["plug_in"] = 4.0
    assert paper_order(means, "higher") == "no: plug-in beats full fine-tuned"
    assert paper_order({"plug_in": 1.0}, "higher") == "not known: no full zero-shot"


def test_a_verdict_is_a_word_and_its_reason_a_footnote(tables: dict[str, Table]):
    """The column is narrow, and rows with the same reason share its letter."""
    table = tables["tiny-lm-pydoc_topics"]
    assert texts(table, "paper's order") == [DASH, "yes", "yes", "no"]
    (*_, cell) = column(table, "paper's order").cells
    assert dict(table.footnotes)[cell.mark] == "no: full zero-shot beats plug-in"


@pytest.mark.parametrize("right", [0.0, 1.0])
def test_items_all_alike_are_no_certainty(store: SyntheticStore, right: float):
    """Four wrong answers have a standard error of 0 by the formula, which says nothing."""
    digest = store.plan("evaluate", model="m", task="t", setting="full_zero_shot")
    score = accuracy("acc", right, 0.0).model_copy(update={"n": 4})
    store.save(store.record(digest, "evaluate", score))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    notes = " ".join(table.notes)
    assert "all 4 items alike: no standard error" in notes
    assert "up to 0.0" not in notes


def test_items_alike_in_one_setting_leave_the_others_their_error(store: SyntheticStore):
    """Both sentences stand."""
    for setting, score in (
        ("full_zero_shot", accuracy("acc", 1.0, 0.0)),
        ("full_finetuned", accuracy("acc", 0.9, 0.03)),
    ):
        digest = store.plan("evaluate", model="m", task="t", setting=setting)
        store.save(store.record(digest, "evaluate", score))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    notes = " ".join(table.notes)
    assert "all 100 items alike" in notes
    assert "100 items has a standard error of up to 3.0 points" in notes


def test_every_stage_is_in_the_appendix(store: SyntheticStore):
    """Each planned stage has its row with outcome, seconds and machine."""
    plan = read_plan(fill(store))
    table = runs_table(read_stages(store.root, plan))
    assert len(table.rows) == len(plan.stages)
    assert set(texts(table, "seconds")) == {"1.2"}
    assert {"ok", "oom_host", "skipped"} == set(texts(table, "outcome"))


def test_every_parameter_is_shown_and_seeds_share_a_row(store: SyntheticStore):
    """The learning rate stands in the report; an emulator's own seed is a parameter and stays."""
    table = parameters_table(read_stages(store.root, read_plan(fill(store))))
    tunes = [row for row in table.rows if row[0].text == "tune" and row[1].text == "tiny-lm"]
    assert "train.learning_rate=0.001, train.max_steps=60" in [row[-1].text for row in tunes]
    assert "method=layer_drop(keep=4), seed=0" in texts(table, "parameters")


def test_long_parameters_are_not_cut(store: SyntheticStore):
    """A setting is part of the result however long it is."""
    digest = store.plan("tune", model="m")
    params = {f"parameter_{index}": index for index in range(100)}
    store.save(store.record(digest, "tune", params=params))
    table = parameters_table(read_stages(store.root, read_plan(store.save_plan())))
    assert "parameter_99=99" in texts(table, "parameters")[0]


@pytest.mark.parametrize(
    ("value", "style", "text"),
    [
        (-0.0004, Style(decimals=2, signed=True), "0.00"),
        (0.004, Style(decimals=2, signed=True), "0.00"),
        (2.5, Style(decimals=2, signed=True), "+2.50"),
        (0.12345, Style(decimals=1, scale=100.0), "12.3"),
        (1234567.0, Style(decimals=0), "1,234,567"),
        (12.345, three_digits([12.345, 99.0]), "12.3"),
        (0.5, three_digits([]), "0.50"),
    ],
)
def test_rounding(value: float, style: Style, text: str):
    """One place rounds, and nothing is ever minus zero."""
    number = Number(estimate=Estimate(mean=value, half_width=None, n=1), style=style)
    assert number.text == text


def test_free_text_is_one_clean_line():
    """Line breaks, escape codes, direction marks and lone surrogates do not get through."""
    dirty = "a\nb\x1b[31m\u202ec\ud800"
    assert one_line(dirty) == "a b\ufffd[31m\ufffdc\ufffd"
    assert one_line("x" * 300) == "x" * 239 + "…"


def test_a_table_is_read_by_row_or_column():
    """Rows are the columns' cells side by side."""
    cells = [Text(text="a"), Text(text="b")]
    table = Table(
        name="t", title="t", columns=tuple(Column(header="h", cells=(cell,)) for cell in cells)
    )
    assert table.rows == [tuple(cells)]


def test_a_metric_may_be_missing_from_a_record(store: SyntheticStore):
    """A training stage that says nothing of its speed is unmeasured, not blank."""
    size = Metric(metric="trainable_parameters", value=7, unit="1", better="lower")
    digest = store.plan("finetune", model="m", task="t", tuning="full", seed=0)
    store.save(store.record(digest, "finetune", size))
    (table,) = settings_tables(compared(frame_of(store, read_plan(store.save_plan()))))
    assert texts(table, "tuning throughput") == ["unmeasured"]
    assert texts(table, "trainable parameters") == ["7"]
