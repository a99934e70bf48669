"""When building an emulator has paid: sums by hand, and when it never does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.comparison import Compared, compared
from reports.results import frame, read_plan, read_stages
from reports.tables.break_even import NOTHING_SAVED, break_even, break_even_tables
from reports.tables.cells import Absent, Column, Number, Table, Text
from tests.reports.scored_store import built, trained
from tests.reports.synthetic_store import SyntheticStore

EMULATOR = {"model": "m", "layout": "2-4-2", "compression": "layer_drop(keep=4)"}
SECONDS = st.floats(0.001, 1e6)


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty store."""
    return SyntheticStore(tmp_path)


def found(store: SyntheticStore, machine: str | None = None) -> Compared:
    """What tables are made of."""
    runs = read_stages(store.root, read_plan(store.save_plan()))
    return compared(frame(runs, machine=machine, with_not_run=True))


def column(table: Table, header: str) -> Column:
    """A column by its header."""
    return next(column for column in table.columns if column.header == header)


def texts(table: Table, header: str) -> list[str]:
    """The texts of a column from top to bottom."""
    return [cell.text for cell in column(table, header).cells]


def timed(
    store: SyntheticStore, build: float, whole: list[float], cut: list[float], **given: object
) -> None:
    """One emulator, and trainings of as many seeds as there are seconds."""
    built(store, build, **EMULATOR)
    for kind, labels, seconds in (
        ("finetune", {"model": "m"}, whole),
        ("tune", EMULATOR, cut),
    ):
        for seed, each in enumerate(seconds):
            more = given if kind == "tune" else {}
            trained(store, kind, task="t", tuning="full", seed=seed, seconds=each, **more, **labels)


def test_build_over_saved_rounded_up(store: SyntheticStore):
    """Three seeds save 30, 40 and 50 s, 40 ± 24.8: 100 s of building pay after 3, at worst 7."""
    timed(store, 100.0, [60.0, 70.0, 80.0], [30.0, 30.0, 30.0])
    (table,) = break_even_tables(found(store))
    assert table.title == "m on t: when building the emulator has paid"
    assert texts(table, "build") == ["100"]
    assert texts(table, "full tuning") == ["70.0 ± 24.8"]
    assert texts(table, "offsite tuning") == ["30.0 ± 0.0"]
    assert texts(table, "saved") == ["+40.0 ± 24.8"]
    assert texts(table, "breaks even after") == ["3"]
    assert texts(table, "at the latest") == ["7"]
    assert [c.detail for c in table.columns[3:]] == [
        *["s ↓"] * 3,
        *("s a tuning ↑", "tunings ↓", "tunings ↓"),
    ]


def test_what_saves_nothing_never_pays(store: SyntheticStore):
    """A word, not a number, and a footnote."""
    timed(store, 100.0, [30.0, 30.0], [31.0, 33.0])
    (table,) = break_even_tables(found(store))
    assert texts(table, "saved") == ["-2.00 ± 12.71"]
    for header in ("breaks even after", "at the latest"):
        (cell,) = column(table, header).cells
        assert isinstance(cell, Text)
        assert cell.text == "never"
        assert dict(table.footnotes)[cell.mark] == NOTHING_SAVED


def test_what_may_save_nothing_may_never_pay(store: SyntheticStore):
    """The mean saves, the lower end of its interval does not."""
    timed(store, 10.0, [30.0, 30.0], [20.0, 29.0])
    (table,) = break_even_tables(found(store))
    assert texts(table, "breaks even after") == ["2"]
    assert texts(table, "at the latest") == ["never"]


def test_one_run_says_nothing_of_the_latest(store: SyntheticStore):
    """The count stands, and no interval is made up."""
    timed(store, 10.0, [30.0], [20.0])
    (table,) = break_even_tables(found(store))
    assert texts(table, "breaks even after") == ["1"]
    (cell,) = column(table, "at the latest").cells
    assert isinstance(cell, Absent)
    assert dict(table.footnotes)[cell.mark] == "one run each: no interval"


def test_all_steps_are_counted_not_the_steady_ones(store: SyntheticStore):
    """The step time of the store's trainings is half of what a step took with its warm-up."""
    timed(store, 10.0, [30.0], [20.0])
    (table,) = break_even_tables(found(store))
    assert texts(table, "full tuning") == ["30.0"]


def test_unequal_budgets_are_marked_where_they_count(store: SyntheticStore):
    """Fewer steps save time that no emulator saved; another learning rate takes none."""
    timed(store, 10.0, [30.0], [20.0], steps=40)
    (table,) = break_even_tables(found(store))
    expected = (
        "unequal budgets: 40 steps of 8 out of 96 examples (3.33 epochs), learning rate 5e-05; "
        "full tuning: 60 steps of 8 out of 96 examples (5 epochs), learning rate 5e-05"
    )
    for header in ("saved", "breaks even after"):
        (cell,) = column(table, header).cells
        assert dict(table.footnotes)[cell.mark] == expected
    assert any(note.startswith("Unequal training budgets") for note in table.notes)


def test_another_learning_rate_takes_no_time(store: SyntheticStore):
    """It is named in a note, but marks no count."""
    timed(store, 10.0, [30.0], [20.0], train={"learning_rate": 1e-3})
    (table,) = break_even_tables(found(store))
    assert column(table, "breaks even after").cells[0].mark == ""
    assert any(note.startswith("Unequal training budgets") for note in table.notes)


def test_no_count_across_machines(store: SyntheticStore):
    """An emulator that was built elsewhere has no time here."""
    store.machine = "other"
    built(store, 10.0, **EMULATOR)
    store.machine = "here"
    for kind, labels in (("finetune", {"model": "m"}), ("tune", EMULATOR)):
        trained(store, kind, task="t", tuning="full", seed=0, seconds=9.0, **labels)
    (table,) = break_even_tables(found(store))
    (cell,) = column(table, "breaks even after").cells
    assert isinstance(cell, Absent)
    assert dict(table.footnotes)[cell.mark] == "timed on different machines"
    assert break_even_tables(found(store, machine="here")) == ()


def test_no_table_without_times(store: SyntheticStore):
    """Records that hold no times leave nothing to count."""
    built(store, **EMULATOR)
    for kind, labels in (("finetune", {"model": "m"}), ("tune", EMULATOR)):
        trained(store, kind, task="t", tuning="full", seed=0, **labels)
    assert break_even_tables(found(store)) == ()


def test_a_failed_tuning_keeps_its_reason(store: SyntheticStore):
    """Its row stands: the emulator was built."""
    timed(store, 10.0, [30.0], [])
    labels = {**EMULATOR, "task": "t", "tuning": "full", "seed": 0}
    digest = store.plan("tune", **labels)
    store.save_attempt(store.record(digest, "tune", outcome="oom_gpu", reason="12 GiB"))
    (table,) = break_even_tables(found(store))
    assert texts(table, "offsite tuning") == ["oom_gpu"]
    assert texts(table, "breaks even after") == ["not known"]


def test_every_number_leads_to_its_stages(store: SyntheticStore):
    """A count is made of three of them."""
    timed(store, 10.0, [30.0], [20.0])
    (table,) = break_even_tables(found(store))
    (cell,) = column(table, "breaks even after").cells
    assert isinstance(cell, Number)
    assert set(cell.sources) == {stage["digest"] for stage in store.stages}


@given(SECONDS, SECONDS)
def test_one_tuning_fewer_would_not_have_paid(build: float, saved: float):
    """The count is the first that pays."""
    count = break_even(build, saved)
    assert count is not None
    assert count * saved >= build * (1 - 1e-9)
    assert count == 1 or (count - 1) * saved < build * (1 + 1e-9)
