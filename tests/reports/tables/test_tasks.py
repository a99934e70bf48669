"""Settings down and tasks across: which rows, whose ties, and the mean by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from reports.comparison import Compared, compared
from reports.results import frame, read_plan, read_stages
from reports.statistics.intervals import Estimate
from reports.tables.cells import DASH, PERCENT, Column, Footnotes, Number, Table
from reports.tables.notes import TIES_NOTE
from reports.tables.tasks import MEAN_NOTE, OF_MARKED, mean_of, task_tables
from tests.reports.scored_store import evaluated, first, scored, trained
from tests.reports.synthetic_store import SyntheticStore, perplexity

CUT = {"layout": "1-2-1", "compression": "layer_drop(keep=2)"}


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


def number(mean: float, half_width: float | None, n: int = 3, mark: str = "") -> Number:
    """An accuracy."""
    estimate = Estimate(mean=mean, half_width=half_width, n=n)
    return Number(estimate=estimate, style=PERCENT, mark=mark)


def one_model(store: SyntheticStore) -> None:
    """Two question tasks and one of text, all settings, two tunings, two references."""
    for task, lead in (("a", 0), ("b", 10)):
        for setting, right, labels in (
            ("plug_in", 60, {**CUT, "tuning": "full"}),
            ("plug_in", 55, {**CUT, "tuning": "lora"}),
            ("full_zero_shot", 40, {}),
            ("emulator_finetuned", 50, {**CUT, "tuning": "full"}),
            ("emulator_finetuned", 45, {**CUT, "tuning": "lora"}),
            ("emulator_zero_shot", 30, CUT),
            ("full_finetuned", 80, {"tuning": "full"}),
            ("full_finetuned", 70, {"tuning": "lora"}),
        ):
            score = scored(first(right + lead), of=task)
            evaluated(store, setting, score, model="m", task=task, **labels)
    evaluated(store, "full_zero_shot", *perplexity(20.0), model="m", task="text")


def test_rows_are_the_whole_model_then_each_emulator_and_its_tunings(store: SyntheticStore):
    """Whatever the order they were planned in; an emulator as it is stands once."""
    one_model(store)
    (table,) = task_tables(found(store))
    assert table.title == "All tasks: m"
    assert list(zip(texts(table, "setting"), texts(table, "tuning"), strict=True)) == [
        ("full zero-shot", DASH),
        ("full fine-tuned", "full"),
        ("full fine-tuned", "lora"),
        ("emulator zero-shot", DASH),
        ("emulator fine-tuned", "full"),
        ("plug-in", "full"),
        ("emulator fine-tuned", "lora"),
        ("plug-in", "lora"),
    ]
    assert [column.header for column in table.columns][4:] == ["a", "b", "text", "mean"]
    assert [column.detail for column in table.columns][4:] == [
        *("acc, % ↑", "acc, % ↑", "perplexity ↓", "% ↑"),
    ]


def test_what_was_not_asked_for_is_a_dash(store: SyntheticStore):
    """The text was only scored without tuning."""
    one_model(store)
    (table,) = task_tables(found(store))
    assert texts(table, "text") == ["20.00", *[DASH] * 7]


def test_the_mean_is_over_accuracies(store: SyntheticStore):
    """40 and 50 are 45; halves of 9.77 and 9.97 are 6.98: the root of their squares, over 2."""
    one_model(store)
    (table,) = task_tables(found(store))
    assert texts(table, "a")[0] == "40.0 ± 9.8"
    assert texts(table, "b")[0] == "50.0 ± 10.0"
    assert texts(table, "mean")[0] == "45.0 ± 7.0"
    assert texts(table, "mean")[-1] == "60.0 ± 6.9"
    assert MEAN_NOTE in table.notes


def test_plug_ins_of_a_column_are_ranked(store: SyntheticStore):
    """Five of a hundred items between them: told apart, and only the better one is marked."""
    one_model(store)
    (table,) = task_tables(found(store))
    groups = [getattr(cell, "group", "") for cell in column(table, "a").cells]
    assert groups == ["", "", "", "", "", "A", "", "B"]
    assert [getattr(cell, "is_best", None) for cell in column(table, "a").cells][-1] is False
    assert TIES_NOTE in table.notes


def test_a_mean_needs_a_number_of_every_task():
    """One that failed or was not asked for leaves none; one without ± leaves no interval."""
    footnotes = Footnotes()
    lone = mean_of([number(0.5, 0.03), number(0.7, None)], footnotes)
    assert lone.text == "60.0"
    whole = mean_of([number(0.5, 0.03), number(0.7, 0.04, n=2)], footnotes)
    assert isinstance(whole, Number)
    assert whole.text == "60.0 ± 2.5"
    assert whole.estimate.n == 2
    assert footnotes.lettered() == ()


def test_a_mean_carries_the_doubt_of_its_parts():
    """A footnote at one of its numbers is told at the mean."""
    footnotes = Footnotes()
    mark = footnotes.mark("2 of 3 seeds; seed 1: oom_gpu")
    cell = mean_of([number(0.5, 0.03, mark=mark), number(0.7, 0.04)], footnotes)
    assert dict(footnotes.lettered())[cell.mark] == OF_MARKED
    shared = mean_of([number(0.5, 0.03, mark=mark), number(0.7, 0.04, mark=mark)], footnotes)
    assert shared.mark == mark


def test_a_failed_task_leaves_no_mean(store: SyntheticStore):
    """It is not the mean of the others."""
    one_model(store)
    labels = {"model": "m", "task": "c", "setting": "full_zero_shot"}
    digest = store.plan("evaluate", **labels)
    store.save_attempt(store.record(digest, "evaluate", outcome="timeout", reason="slow"))
    evaluated(store, "full_finetuned", scored(first(9)), model="m", task="c", tuning="full")
    (table,) = task_tables(found(store))
    assert texts(table, "c")[:2] == ["timeout", "9.0 ± 5.7"]
    assert texts(table, "mean")[:3] == ["not known", "59.7 ± 3.8", DASH]


def test_one_accuracy_has_no_mean(store: SyntheticStore):
    """A perplexity is no second one."""
    evaluated(store, "full_zero_shot", scored(first(9)), model="m", task="a")
    evaluated(store, "full_zero_shot", *perplexity(20.0), model="m", task="text")
    (table,) = task_tables(found(store))
    assert [column.header for column in table.columns][4:] == ["a", "text"]
    assert MEAN_NOTE not in table.notes


def test_one_task_has_its_own_table_only(store: SyntheticStore):
    """Nothing to be read across."""
    evaluated(store, "full_zero_shot", scored(first(9)), model="m", task="a")
    evaluated(store, "full_zero_shot", scored(first(9)), model="other", task="b")
    assert task_tables(found(store)) == ()


def test_tasks_of_unequal_budgets_are_named(store: SyntheticStore):
    """What the budgets are stands under the table of each."""
    one_model(store)
    for task, steps in (("a", 60), ("b", 30)):
        labels = {"model": "m", "task": task, "tuning": "full", "seed": 0}
        trained(store, "finetune", setting="full_finetuned", **labels)
        trained(store, "tune", steps=steps, setting="emulator_finetuned", **labels, **CUT)
    (table,) = task_tables(found(store))
    (note,) = [note for note in table.notes if "budgets" in note]
    assert note == "Unequal training budgets on b: named below their own tables."


def test_notes_name_their_tasks_where_they_differ(store: SyntheticStore):
    """How many items were scored is said of each task, what all share once."""
    one_model(store)
    (table,) = task_tables(found(store))
    assert "On a, b: Scored: 100 items." in table.notes
    assert "On text: Scored: 8,192 tokens." in table.notes
