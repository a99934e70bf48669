"""Capability leak by hand, then the tables that show it and what else was given away."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.comparison import Treatment, compared
from reports.record import Metric
from reports.results import frame, read_plan, read_stages
from reports.statistics.leak import corrected_leak, raw_leak
from reports.tables.cells import Absent, Column, Table
from reports.tables.compressions import adapter_blocks, common_budget, compression_tables
from reports.tables.disclosure import disclosure_tables, leak_tables
from reports.tables.notes import RECOVERY_NOTE
from reports.tables.settings import settings_tables
from tests.reports.scored_store import evaluated, first, scored
from tests.reports.synthetic_store import (
    MIB,
    SyntheticStore,
    accuracy,
    disclosed,
    fill,
    fill_compressions,
    fill_row,
    perplexity,
    with_chance,
)

FRACTION = st.floats(0.0, 1.0)


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty store."""
    return SyntheticStore(tmp_path)


@pytest.fixture
def compressions(store: SyntheticStore) -> pd.DataFrame:
    """The long table of six compressions on two tasks."""
    return frame_of(store, fill_compressions(store))


def frame_of(store: SyntheticStore, plan: Path) -> pd.DataFrame:
    """The long table that tables are made of."""
    return frame(read_stages(store.root, read_plan(plan)), with_not_run=True)


def column(table: Table, header: str) -> Column:
    """A column by its header."""
    return next(column for column in table.columns if column.header == header)


def texts(table: Table, header: str) -> list[str]:
    """The texts of a column from top to bottom."""
    return [cell.text for cell in column(table, header).cells]


def test_raw_leak_is_a_ratio_that_points_one_way():
    """Half the accuracy and twice the perplexity are both half the capability."""
    assert raw_leak(0.25, 0.5, "higher").value == 0.5
    assert raw_leak(40.0, 20.0, "lower").value == 0.5
    assert raw_leak(0.2, 0.0, "higher").reason == "a ratio to 0 has no meaning"


def test_a_model_that_knows_nothing_leaks_nothing_once_corrected():
    """At chance the raw leak of four choices is half, the corrected one 0."""
    assert raw_leak(0.25, 0.5, "higher").value == 0.5
    assert corrected_leak(0.25, 0.5, "higher", chance=0.25).value == 0.0
    assert corrected_leak(1000.0, 10.0, "lower", chance=1000.0).value == 0.0


def test_corrected_leak_by_hand():
    """(0.40 - 0.25)/(0.55 - 0.25) = 0.5; (ln 1000 - ln 100)/(ln 1000 - ln 10) = 0.5."""
    assert corrected_leak(0.40, 0.55, "higher", chance=0.25).value == pytest.approx(0.5)
    assert corrected_leak(100.0, 10.0, "lower", chance=1000.0).value == pytest.approx(0.5)
    value = corrected_leak(38.55, 31.48, "lower", chance=50272.0).value
    assert value == pytest.approx((10.82521 - 3.65195) / (10.82521 - 3.44935), abs=1e-5)


def test_worse_than_chance_is_negative_and_better_than_the_full_model_above_one():
    """Neither is cut off: both are possible and both should be seen."""
    assert corrected_leak(0.20, 0.50, "higher", chance=0.25).value == pytest.approx(-0.2)
    assert corrected_leak(0.60, 0.50, "higher", chance=0.25).value == pytest.approx(1.4)
    below = corrected_leak(2000.0, 10.0, "lower", chance=1000.0).value
    assert below is not None
    assert below < 0


@pytest.mark.parametrize(
    ("full", "better", "chance", "stderr"),
    [
        (0.25, "higher", 0.25, 0.0),
        (0.24, "higher", 0.25, 0.0),
        (0.29, "higher", 0.25, 0.05),
        (0.30, "higher", 0.25, 0.30 - 0.25),
        (1000.0, "lower", 1000.0, 0.0),
        (990.0, "lower", 1000.0, 20.0),
    ],
)
def test_no_leak_where_the_full_model_has_no_skill(full, better, chance, stderr):
    """Within its standard error of chance there is nothing to leak, not a huge number."""
    leak = corrected_leak(full, full, better, chance=chance, stderr=stderr)
    assert leak.value is None
    assert leak.reason == "the full model is not above chance by more than its standard error"


def test_no_chance_no_correction():
    """An unnamed chance level is not taken for 0; a chance of 0 changes nothing."""
    assert corrected_leak(0.1, 0.2, "higher", chance=None).reason == (
        "the record names no chance level"
    )
    assert corrected_leak(0.1, 0.2, "higher", chance=0.0).value == 0.5


@given(FRACTION, FRACTION, FRACTION)
def test_correction_is_1_for_the_full_model_itself_and_always_finite(emulator, full, chance):
    """What is defined is finite, and the full model leaks all of itself."""
    leak = corrected_leak(emulator, full, "higher", chance=chance, stderr=1e-6)
    assert (leak.value is None) is (full - chance <= 1e-6)
    if leak.value is not None:
        assert math.isfinite(leak.value)
        assert corrected_leak(full, full, "higher", chance=chance).value == 1.0


def test_what_the_owner_gave_away(compressions: pd.DataFrame):
    """Shares in percent, sizes in MiB, likeness as it is, one row an emulator in plan order."""
    (table,) = disclosure_tables(compared(compressions))
    assert table.title == "What the owner gave away: owner-lm"
    assert texts(table, "compression")[:3] == ["identity", "layer_drop(keep=4)", "quantize(bits=4)"]
    assert texts(table, "layout")[:3] == ["2-8-2", "2-4-2", "2-8-2"]
    assert texts(table, "parameters sent")[:2] == ["50.0", "25.0"]
    assert texts(table, "parameters verbatim")[:2] == ["25.0", "12.5"]
    assert texts(table, "bytes sent")[1] == "10.00"
    assert texts(table, "emulator, stored")[3] == "8.00"
    assert texts(table, "emulator, effective")[3] == "4.25"
    assert texts(table, "block similarity")[0] == "0.875"
    assert any("drawn anew or zero ones count, so at most" in note for note in table.notes)


def test_leaks_stand_beside_what_was_disclosed(compressions: pd.DataFrame):
    """51.04/95.61 = 53.4 %, corrected ln(1024/95.61)/ln(1024/51.04) = 79.1 %."""
    (table,) = disclosure_tables(compared(compressions))
    assert texts(table, "raw leak, topics")[:2] == ["100.0", "53.4"]
    assert texts(table, "corrected leak, topics")[:2] == ["100.0", "79.1"]
    assert texts(table, "corrected leak, topics")[-1] == "-5.3"
    assert texts(table, "raw leak, choices")[0] == "70.0"
    assert texts(table, "corrected leak, choices")[0] == "40.0"
    assert any("LLEOT" in note for note in table.notes)
    assert any("our definition" in note for note in table.notes)


def test_the_leak_table_shows_what_a_leak_is_made_of(compressions: pd.DataFrame):
    """Both scores and chance stand in the row."""
    (table,) = leak_tables(compared(compressions))
    row = [cell.text for cell in table.rows[1]]
    assert row == [
        *("topics", "2-4-2", "layer_drop(keep=4)", "perplexity (lower is better)"),
        *("51.04", "95.61", "1,024.00", "53.4", "79.1"),
    ]
    assert [cell.text for cell in table.rows[-1]][4:7] == ["50.0", "35.0", "25.0"]


def test_a_failed_disclosure_says_why(store: SyntheticStore):
    """The failure of the stage, or of the emulator before it, stands in every cell."""
    labels = {"model": "m", "layout": "1-1-1", "compression": "c"}
    digest = store.plan("emulator", **labels)
    store.save_attempt(store.record(digest, "emulator", outcome="oom_host", reason="9 GiB"))
    store.plan("disclose", **labels)
    (table,) = disclosure_tables(compared(frame_of(store, store.save_plan())))
    assert {cell.text for cell in table.rows[0][2:]} == {"oom_host"}
    assert dict(table.footnotes) == {"a": "oom_host: 9 GiB"}


def test_an_undefined_leak_says_why(store: SyntheticStore):
    """A full model at chance and a task without a chance level are told apart, and never 0."""
    labels = {"layout": "1-1-1", "compression": "c"}
    for task, chance in (("guess", 0.5), ("open", None)):
        for setting, cut in (("full_zero_shot", {}), ("emulator_zero_shot", labels)):
            digest = store.plan("evaluate", model="m", task=task, setting=setting, **cut)
            score = (accuracy("acc", 0.52, 0.03),)
            score = score if chance is None else with_chance(score, chance)
            store.save(store.record(digest, "evaluate", *score))
    (table,) = leak_tables(compared(frame_of(store, store.save_plan())))
    cells = column(table, "corrected leak").cells
    assert all(isinstance(cell, Absent) and cell.word == "undefined" for cell in cells)
    notes = dict(table.footnotes)
    assert "not above chance by more than its standard error" in notes[cells[0].mark]
    assert "names no chance level" in notes[cells[1].mark]
    assert texts(table, "raw leak") == ["100.0", "100.0"]
    assert texts(table, "chance") == ["50.0", "not known"]


def test_models_without_disclosure_have_no_such_table(store: SyntheticStore):
    """A plan from before the stage makes the report it made."""
    table = frame_of(store, fill(store))
    assert disclosure_tables(compared(table)) == ()
    assert compression_tables(compared(table)) == ()


def test_compressions_stand_by_their_plug_in(compressions: pd.DataFrame):
    """The best first; sizes as a share of the middle that `identity` leaves whole."""
    table = compression_tables(compared(compressions))[0]
    assert table.title == (
        "Compressions on one budget: owner-lm on topics, tuning full, adapter blocks 2+2: "
        "perplexity (lower is better)"
    )
    assert texts(table, "compression") == [
        *("identity", "quantize(bits=4)", "magnitude_prune"),
        *("layer_drop(keep=4)", "scale_ot(keep=4)", "layer_drop(keep=2)"),
    ]
    assert texts(table, "effective bytes") == ["100.0", "51.2", "53.1", "50.0", "48.8", "25.0"]
    assert column(table, "effective bytes").detail == "% of the middle ↓"
    assert texts(table, "stored bytes") == ["8.00", "4.20", "8.00", "4.00", "4.10", "2.00"]
    assert texts(table, "plug-in")[1] == "38.50 ± 0.75 A"
    assert texts(table, "plug-in gap")[1] == "+3.00 ± 0.00"
    assert texts(table, "corrected leak")[-1] == "-5.3"
    assert any(note.startswith("Budget: 50.0 % of") for note in table.notes)


def test_what_is_off_the_budget_is_marked(compressions: pd.DataFrame):
    """Half the common size is not on it; `identity` is no part of it."""
    table = compression_tables(compared(compressions))[0]
    marks = [cell.mark for cell in column(table, "effective bytes").cells]
    assert marks[:-1] == [""] * 5
    assert dict(table.footnotes)[marks[-1]] == "more than 10 % off the budget"


def test_without_identity_sizes_are_bytes(store: SyntheticStore):
    """Nothing to be a share of; three compressions of different sizes share no budget."""
    for size in (2.0, 4.0, 8.0):
        labels = {"model": "m", "layout": "1-1-1", "compression": f"c{size}"}
        digest = store.plan("disclose", **labels)
        store.save(store.record(digest, "disclose", *disclosed(0.5, size, size)))
        digest = store.plan(
            "evaluate", task="t", setting="plug_in", tuning="full", seed=0, **labels
        )
        store.save(store.record(digest, "evaluate", accuracy("acc", size / 10, 0.1)))
    (table,) = compression_tables(compared(frame_of(store, store.save_plan())))
    assert table.title.startswith("Compressions compared: m on t")
    assert texts(table, "effective bytes") == ["8.00", "4.00", "2.00"]
    assert column(table, "effective bytes").detail == "MiB ↓"
    assert texts(table, "plug-in") == ["80.0 A", "40.0 A", "20.0 A"]


def test_rows_of_other_adapter_blocks_or_tunings_are_not_mixed(store: SyntheticStore):
    """Three compressions each in another layout or tuning make no comparison."""
    for layout, tuning in (("1-1-1", "full"), ("2-1-1", "full"), ("1-1-1", "lora")):
        labels = {"model": "m", "layout": layout, "compression": f"c{layout}{tuning}"}
        digest = store.plan("disclose", **labels)
        store.save(store.record(digest, "disclose", *disclosed(0.5, 1.0, 1.0)))
        digest = store.plan(
            "evaluate", task="t", setting="plug_in", tuning=tuning, seed=0, **labels
        )
        store.save(store.record(digest, "evaluate", *perplexity(9.0)))
    assert compression_tables(compared(frame_of(store, store.save_plan()))) == ()


def test_scattered_adapter_blocks_are_one_group(store: SyntheticStore):
    """A shared emulator of as many blocks as the middle stands beside the smaller ones."""
    for layout, compression in (("0,5,18,23-8", "a"), ("0,5,18,23-20", "b"), ("0,5,18,23-8", "c")):
        fill_row(store, layout, compression, 0.5)
    fill_row(store, "0,5,17,23-8", "d", 0.5)
    fill_row(store, "2-8-2", "e", 0.5)
    (table,) = compression_tables(compared(frame_of(store, store.save_plan())))
    assert "adapter blocks 0,5,18,23: acc" in table.title
    assert set(texts(table, "layout")) == {"0,5,18,23-8", "0,5,18,23-20"}
    assert set(texts(table, "compression")) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("layout", "blocks"),
    [("2-8-2", "2+2"), ("0-?-4", "0+4"), ("0,5,18,23-8", "0,5,18,23"), ("0,9-?", "0,9")],
)
def test_adapter_blocks_as_a_suite_gives_them(layout: str, blocks: str):
    """The middle is what may differ."""
    assert adapter_blocks(layout) == blocks


@pytest.mark.parametrize("cut", ["examples", "n"])
def test_no_leak_and_no_gap_between_different_items(store: SyntheticStore, cut: str):
    """Fifty items of one setting and a hundred of the other are not subtracted or divided."""
    labels = {"layout": "1-1-1", "compression": "c"}
    tuned = {**labels, "tuning": "full", "seed": 0}
    for setting, named in (
        *(("full_zero_shot", {}), ("emulator_zero_shot", labels)),
        *(("emulator_finetuned", tuned), ("plug_in", tuned)),
    ):
        digest = store.plan("evaluate", model="m", task="t", setting=setting, **named)
        (score,) = with_chance((accuracy("acc", 0.5, 0.01),), 0.25)
        is_cut = setting in ("full_zero_shot", "plug_in")
        if is_cut and cut == "n":
            score = score.model_copy(update={"n": 50})
        params = {"evaluate": {"examples": 50}} if is_cut and cut == "examples" else {}
        store.save(store.record(digest, "evaluate", score, params=params))
    table = frame_of(store, store.save_plan())
    (main,), (leak,) = settings_tables(compared(table)), leak_tables(compared(table))
    for shown, header in ((main, "plug-in gap"), (leak, "raw leak"), (leak, "corrected leak")):
        (cell,) = column(shown, header).cells
        assert isinstance(cell, Absent)
        assert dict(shown.footnotes)[cell.mark] == "undefined: scored on different items"
    (verdict,) = column(main, "paper's order").cells
    assert verdict.text == "not known"
    assert dict(main.footnotes)[verdict.mark] == "not known: scored on different items"


def test_a_missing_plug_in_comes_last_with_its_reason(store: SyntheticStore):
    """A compression whose tuning failed is listed, not dropped and not first."""
    plan = fill_compressions(store)
    labels = {"model": "owner-lm", "layout": "2-4-2", "compression": "broken"}
    digest = store.plan("disclose", **labels)
    store.save(store.record(digest, "disclose", *disclosed(0.5, 4.0, 4.0)))
    tuned = {**labels, "task": "topics", "tuning": "full", "seed": 0}
    digest = store.plan("evaluate", setting="plug_in", **tuned)
    store.save_attempt(store.record(digest, "evaluate", outcome="timeout", reason="slow"))
    plan = store.save_plan()
    table = compression_tables(compared(frame_of(store, plan)))[0]
    assert texts(table, "compression")[-1] == "broken"
    assert texts(table, "plug-in")[-1] == "timeout"


def test_a_budget_needs_three_that_share_it():
    """The median decides; ten percent off still counts."""
    rows = [Treatment("1-1-1", str(index), "") for index in range(5)]
    sizes = dict(zip(rows, (100.0, 110.0, 90.0, 111.0, 50.0), strict=True))
    budget = common_budget(sizes)
    assert budget is not None
    assert (budget.size, budget.outside) == (100.0, frozenset(rows[3:]))
    assert common_budget(dict(zip(rows, (1.0, 2.0, 4.0, 8.0, 16.0), strict=True))) is None
    assert common_budget({}) is None


def test_experimental_compressions_are_marked_wherever_they_stand(compressions: pd.DataFrame):
    """The reason in the emulator's record is a footnote at the compression's name."""
    tables = [
        *settings_tables(compared(compressions)),
        *compression_tables(compared(compressions)),
        *disclosure_tables(compared(compressions)),
        *leak_tables(compared(compressions)),
    ]
    assert len(tables) == 6
    for table in tables:
        marked = {c.text: c.mark for c in column(table, "compression").cells if c.mark}
        assert list(marked) == ["scale_ot(keep=4)"]
        notes = dict(table.footnotes)
        assert notes[marked["scale_ot(keep=4)"]] == (
            "experimental: scale_ot: definition second-hand"
        )


def test_sizes_are_bytes_in_records():
    """What the tests write as MiB is bytes."""
    sizes = {metric.metric: metric.value for metric in disclosed(0.5, 4.0, 2.0)}
    assert sizes["stored_bytes"] == 4 * MIB


def test_a_leak_is_as_good_as_its_items(store: SyntheticStore):
    """30 of the full model's 60: r = 0.5, and e - r f is 0.5 for 30 items, -0.5 for 30, else 0:

    1.984 x sqrt(0.15 x 100/99 / 100) / 0.6 = 12.9 points.
    """
    labels = {"layout": "1-1-1", "compression": "c"}
    for setting, cut, right in (("full_zero_shot", {}, 60), ("emulator_zero_shot", labels, 30)):
        evaluated(store, setting, scored(first(right)), model="m", task="t", **cut)
    (table,) = leak_tables(compared(frame_of(store, store.save_plan())))
    assert texts(table, "raw leak") == ["50.0 ± 12.9"]


def test_the_full_model_itself_leaks_all_of_itself(store: SyntheticStore):
    """Equal answers to every item say nothing of a spread, raw or corrected."""
    labels = {"layout": "1-1-1", "compression": "identity"}
    for setting, cut in (("full_zero_shot", {}), ("emulator_zero_shot", labels)):
        (score,) = with_chance((scored(first(60)),), 0.25)
        evaluated(store, setting, score, model="m", task="t", **cut)
    (table,) = leak_tables(compared(frame_of(store, store.save_plan())))
    assert texts(table, "raw leak") == ["100.0"]
    assert texts(table, "corrected leak") == ["100.0"]


def test_a_corrected_leak_is_less_certain_than_a_raw_one(store: SyntheticStore):
    """Chance taken off both, the same doubt is of less: (0.3 - 0.2)/(0.6 - 0.2) = 0.25.

    e - 0.25 f is 0.75 for 30 items, -0.25 for 30, 0 for 40: mean 0.15, variance 0.165 x 100/99;
    1.984 x sqrt(0.165/99) / 0.4 = 20.3 points.
    """
    labels = {"layout": "1-1-1", "compression": "c"}
    for setting, cut, right in (("full_zero_shot", {}, 60), ("emulator_zero_shot", labels, 30)):
        (score,) = with_chance((scored(first(right)),), 0.2)
        evaluated(store, setting, score, model="m", task="t", **cut)
    (table,) = leak_tables(compared(frame_of(store, store.save_plan())))
    assert texts(table, "corrected leak") == ["25.0 ± 20.3"]


def test_a_leak_between_other_items_has_no_interval(store: SyntheticStore):
    """As many items, but not the same ones."""
    labels = {"layout": "1-1-1", "compression": "c"}
    for setting, cut in (("full_zero_shot", {}), ("emulator_zero_shot", labels)):
        evaluated(store, setting, scored(first(60), of=setting), model="m", task="t", **cut)
    (table,) = leak_tables(compared(frame_of(store, store.save_plan())))
    assert texts(table, "raw leak") == ["100.0"]


def test_recovery_stands_where_a_record_has_it(store: SyntheticStore):
    """With its definition; a record without it says so."""
    for compression, more in (
        ("a", [Metric(metric="recovery", value=0.4, unit="fraction", better="lower")]),
        ("b", []),
    ):
        labels = {"model": "m", "layout": "1-1-1", "compression": compression}
        digest = store.plan("disclose", **labels)
        store.save(store.record(digest, "disclose", *disclosed(0.5, 1.0, 1.0), *more))
    (table,) = disclosure_tables(compared(frame_of(store, store.save_plan())))
    assert texts(table, "recovery") == ["40.0", "unmeasured"]
    assert column(table, "recovery").detail == "% ↓"
    assert RECOVERY_NOTE in table.notes


def test_no_recovery_no_column(compressions: pd.DataFrame):
    """Nor a note about it."""
    (table,) = disclosure_tables(compared(compressions))
    assert "recovery" not in [column.header for column in table.columns]
    assert RECOVERY_NOTE not in table.notes
