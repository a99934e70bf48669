"""Tunings of one emulator and choices of adapter blocks: what is beside what."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.comparison import Compared, Treatment, compared
from reports.results import frame, read_plan, read_stages
from reports.tables.cells import Column, Table
from reports.tables.positions import position_groups, position_tables
from reports.tables.tunings import RANKED, tuning_groups, tuning_tables
from tests.reports.scored_store import evaluated, first, scored, trained
from tests.reports.synthetic_store import SyntheticStore, training

SIZES = {"full": 250_000, "lora(rank=4)": 1_250}


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty store."""
    return SyntheticStore(tmp_path)


def found(store: SyntheticStore) -> Compared:
    """What tables are made of."""
    runs = read_stages(store.root, read_plan(store.save_plan()))
    return compared(frame(runs, with_not_run=True))


def column(table: Table, header: str) -> Column:
    """A column by its header."""
    return next(column for column in table.columns if column.header == header)


def texts(table: Table, header: str) -> list[str]:
    """The texts of a column from top to bottom."""
    return [cell.text for cell in column(table, header).cells]


def headers(table: Table) -> list[str]:
    """The columns' names."""
    return [column.header for column in table.columns]


def tuned(
    store: SyntheticStore,
    layout: str,
    compression: str,
    tuning: str,
    right: int,
    seed: int = 0,
    **given: int,
) -> None:
    """A row of `m` on `t`: tuned, then scored with the emulator and plugged in."""
    labels = {"model": "m", "task": "t", "layout": layout, "compression": compression}
    labels |= {"tuning": tuning, "seed": seed}
    trained(store, "tune", setting="emulator_finetuned", **given, **labels)
    evaluated(store, "emulator_finetuned", scored(first(right - 5)), **labels)
    evaluated(store, "plug_in", scored(first(right)), **labels)


def two_tunings(store: SyntheticStore) -> None:
    """One emulator in two tunings, another in one, and full fine-tuning."""
    whole = {"model": "m", "task": "t", "tuning": "full", "seed": 0}
    trained(store, "finetune", setting="full_finetuned", size=1_000_000, **whole)
    for tuning, size in SIZES.items():
        tuned(store, "2-4-2", "layer_drop(keep=4)", tuning, 60 + size // 100_000, size=size)
    tuned(store, "2-2-2", "layer_drop(keep=2)", "full", 50, size=SIZES["full"])


def test_tunings_of_one_emulator(store: SyntheticStore):
    """Exact counts, their share of all blocks, and the two settings that come of it."""
    two_tunings(store)
    (table,) = tuning_tables(found(store))
    assert table.title == "Tunings of one emulator: m on t: acc in % (higher is better)"
    assert set(texts(table, "compression")) == {"layer_drop(keep=4)"}
    assert texts(table, "tuning") == list(SIZES)
    assert texts(table, "trainable parameters") == ["250,000", "1,250"]
    assert texts(table, "trainable share") == ["25.000", "0.125"]
    assert [text.partition(" ")[0] for text in texts(table, "plug-in")] == ["62.0", "60.0"]
    assert texts(table, "plug-in gap") == ["+5.0 ± 4.3", "+5.0 ± 4.3"]


def test_an_emulator_with_one_tuning_has_no_such_table(store: SyntheticStore):
    """And zero-shot rows are no tuning."""
    tuned(store, "2-2-2", "c", "full", 50)
    evaluated(
        store,
        "emulator_zero_shot",
        scored(first(9)),
        model="m",
        task="t",
        layout="2-2-2",
        compression="c",
    )
    (comparison,) = found(store).tasks
    assert list(tuning_groups(comparison)) == []
    assert tuning_tables(found(store)) == ()


def test_tunings_are_ranked_on_their_own_emulator(store: SyntheticStore):
    """Each emulator has its best, however much better another emulator is."""
    for layout, right in (("2-4-2", 80), ("2-2-2", 40)):
        for tuning, more in (("full", 10), ("lora", 0)):
            for seed in range(2):
                tuned(store, layout, "c", tuning, right + more, seed)
    (table,) = tuning_tables(found(store))
    assert texts(table, "layout") == ["2-4-2", "2-4-2", "2-2-2", "2-2-2"]
    assert [cell.group for cell in column(table, "plug-in").cells] == ["A", "B", "A", "B"]
    assert RANKED in table.notes


def test_no_share_of_what_was_not_trained(store: SyntheticStore):
    """Without full fine-tuning, or with another tuning in its place, the whole is not known."""
    for tuning in SIZES:
        tuned(store, "2-4-2", "c", tuning, 60)
    whole = {"model": "m", "task": "t", "tuning": "lora(rank=4)", "seed": 0}
    trained(store, "finetune", setting="full_finetuned", **whole)
    (table,) = tuning_tables(found(store))
    assert "trainable share" not in headers(table)


def test_speed_and_memory_stand_there_if_measured(store: SyntheticStore):
    """Beside the ratio to full fine-tuning."""
    two_tunings(store)
    (before,) = tuning_tables(found(store))
    assert headers(before)[-1] == "plug-in gap"
    assert not any("memory" in note for note in before.notes)
    for layout, tuning, speed in (("", "full", 100.0), ("2-4-2", "full", 250.0)):
        labels = {"model": "m", "task": "t", "tuning": tuning, "seed": 1}
        labels |= {"layout": layout, "compression": "layer_drop(keep=4)"} if layout else {}
        kind = "tune" if layout else "finetune"
        cost = training("throughput_samples", speed, 10.0, 7)
        store.save(store.record(store.plan(kind, **labels), kind, *cost))
    (table,) = tuning_tables(found(store))
    assert texts(table, "tuning throughput")[0].startswith("250 (2.50")
    assert texts(table, "peak memory")[1] == "unmeasured"


def test_unequal_budgets_are_named(store: SyntheticStore):
    """The one row that was given more, then the others together."""
    tuned(store, "2-4-2", "c", "full", 60, steps=90)
    for tuning in ("bitfit", "lora"):
        tuned(store, "2-4-2", "c", tuning, 60)
    (table,) = tuning_tables(found(store))
    (note,) = [note for note in table.notes if "budget" in note]
    assert note == (
        "Unequal training budgets. 2-4-2 c full: 90 steps of 8 out of 96 examples (7.5 epochs), "
        "learning rate 5e-05. all other rows: 60 steps of 8 out of 96 examples (5 epochs), "
        "learning rate 5e-05."
    )


def test_equal_budgets_are_no_news(store: SyntheticStore):
    """No note."""
    two_tunings(store)
    (table,) = tuning_tables(found(store))
    assert not any("budget" in note for note in table.notes)


def test_adapter_blocks_in_several_places(store: SyntheticStore):
    """Rows that differ in the adapter blocks alone, in plan order, middle and all."""
    for layout, size in (("2-4-2", 400), ("4-4-0", 400), ("0,7-4", 200)):
        tuned(store, layout, "layer_drop(keep=4)", "full", 50, size=size)
    tuned(store, "2-4-2", "layer_drop(keep=4)", "lora", 50)
    tuned(store, "2-2-2", "layer_drop(keep=2)", "full", 50)
    (table,) = position_tables(found(store))
    assert table.title == "Choices of adapter blocks: m on t: acc in % (higher is better)"
    assert texts(table, "adapter blocks") == ["2+2", "4+0", "0,7"]
    assert texts(table, "trainable parameters") == ["400", "400", "200"]
    assert headers(table)[5:] == ["emulator fine-tuned", "plug-in", "plug-in gap"]


def test_one_choice_of_adapter_blocks_is_no_comparison(store: SyntheticStore):
    """Two sizes of emulator between the same adapter blocks are another table's matter."""
    tuned(store, "2-4-2", "c", "full", 50)
    tuned(store, "2-3-2", "c", "full", 50)
    (comparison,) = found(store).tasks
    assert list(position_groups(comparison)) == []
    tuned(store, "1-4-1", "c", "full", 50)
    (comparison,) = found(store).tasks
    (group,) = position_groups(comparison)
    assert (group.compression, group.tuning) == ("c", "full")
    assert group.rows == tuple(
        Treatment(layout, "c", "full") for layout in ("2-4-2", "2-3-2", "1-4-1")
    )


def test_all_three_adapters_that_answer_alike_are_tied(store: SyntheticStore):
    """Equal answers to every item cannot be told apart: all are best."""
    for layout in ("2-4-2", "4-4-0", "0-4-4"):
        tuned(store, layout, "c", "full", 50)
    (table,) = position_tables(found(store))
    assert [(cell.group, cell.is_best) for cell in column(table, "plug-in").cells] == (
        [("A", True)] * 3
    )
