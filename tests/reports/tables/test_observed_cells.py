"""Intervals over seeds and items, ties, and what a footnote must tell of a number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reports.comparison import Compared, Treatment, compared
from reports.results import frame, read_plan, read_stages
from reports.tables.cells import Column, Number, Table
from reports.tables.notes import TIES_NOTE
from reports.tables.observed_cells import CHOSEN_TOO_WELL
from reports.tables.settings import settings_tables
from tests.reports.scored_store import evaluated, first, scored, trained
from tests.reports.synthetic_store import SyntheticStore, accuracy

SUBJECT = {"model": "m", "task": "t"}
CUT = {**SUBJECT, "layout": "1-1-1", "tuning": "full"}


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


def numbers(table: Table, header: str) -> list[Number]:
    """The numbers of a column."""
    return [cell for cell in column(table, header).cells if isinstance(cell, Number)]


def plug_in(
    store: SyntheticStore, compression: str, by_seed: Sequence[Sequence[float]], of: str = "test"
) -> None:
    """One row's plug-ins, seed by seed."""
    for seed, right in enumerate(by_seed):
        labels = {**CUT, "compression": compression, "seed": seed}
        evaluated(store, "plug_in", scored(right, of=of), **labels)


def test_a_zero_shot_score_is_as_good_as_its_items(store: SyntheticStore):
    """60 of 100 right: 1.984 x sqrt(0.6 x 0.4 / 99) = 9.8 points."""
    evaluated(store, "full_zero_shot", scored(first(60)), **SUBJECT)
    (table,) = settings_tables(found(store))
    (cell,) = numbers(table, "full zero-shot")
    assert cell.text == "60.0 ± 9.8"
    assert (cell.estimate.n, cell.estimate.items) == (1, 100)
    assert "± of a zero-shot setting: over the scored items; nothing else in it is random." in (
        table.notes
    )
    assert "Scored: 100 items." in table.notes
    assert not any("does not cover" in note for note in table.notes)


def test_items_all_right_are_no_certainty(store: SyntheticStore):
    """Sixteen of sixteen are not 100 ± 0, and a gap of no item is not 0 ± 0."""
    labels = {**CUT, "compression": "c", "seed": 0}
    evaluated(store, "full_zero_shot", scored(first(16, count=16)), **SUBJECT)
    evaluated(store, "emulator_finetuned", scored(first(9, count=16)), **labels)
    evaluated(store, "plug_in", scored(first(9, count=16)), **labels)
    (table,) = settings_tables(found(store))
    assert [cell.text for cell in numbers(table, "full zero-shot")] == ["100.0"]
    assert [cell.text for cell in numbers(table, "plug-in gap")] == ["0.0"]
    assert any("all 16 items alike" in note for note in table.notes)


def test_seeds_that_answer_alike_leave_the_doubt_of_the_items(store: SyntheticStore):
    """Three equal seeds are three, and no more certain than one."""
    plug_in(store, "c", [first(60)] * 3)
    (table,) = settings_tables(found(store))
    (cell,) = numbers(table, "plug-in")
    assert cell.text == "60.0 ± 9.8"
    assert (cell.estimate.n, cell.estimate.items) == (3, 100)
    assert any("over 3 seeds and the scored items" in note for note in table.notes)


def test_seeds_that_differ_add_theirs(store: SyntheticStore):
    """50, 60 and 70 right: the seeds alone give 4.303 x 10 / sqrt(3) = 24.8, the items more."""
    plug_in(store, "c", [first(50), first(60), first(70)])
    (table,) = settings_tables(found(store))
    (cell,) = numbers(table, "plug-in")
    half_width = cell.estimate.half_width
    assert half_width is not None
    assert 0.248 < half_width < 0.248 + 0.098


def test_other_items_leave_the_seeds_alone(store: SyntheticStore):
    """Seeds that did not score the same items are not crossed with them."""
    for seed, of in enumerate(("one", "other")):
        labels = {**CUT, "compression": "c", "seed": seed}
        evaluated(store, "plug_in", scored(first(50 + seed), of=of), **labels)
    (table,) = settings_tables(found(store))
    (cell,) = numbers(table, "plug-in")
    assert cell.estimate.items is None
    assert any("95 % t interval over 2 seeds" in note for note in table.notes)


def test_rows_without_items_are_told_from_those_with(store: SyntheticStore):
    """An older record beside new ones."""
    plug_in(store, "c", [first(50), first(60)])
    for seed in (0, 1):
        labels = {**CUT, "compression": "old", "seed": seed}
        evaluated(store, "plug_in", accuracy("acc", 0.5 + seed / 10, 0.05), **labels)
    (table,) = settings_tables(found(store))
    assert "Where a record has no scores by item, ± is over its seeds alone." in table.notes


def test_only_what_cannot_be_told_from_the_best_shares_its_mark(store: SyntheticStore):
    """One item between the first two, forty to the third."""
    plug_in(store, "a", [first(80)] * 3)
    plug_in(store, "b", [first(40)] * 3)
    plug_in(store, "c", [first(81)] * 3)
    (table,) = settings_tables(found(store))
    marks = [(cell.group, cell.is_best) for cell in numbers(table, "plug-in")]
    assert marks == [("A", True), ("B", False), ("A", True)]
    assert [cell.text.split()[-1] for cell in numbers(table, "plug-in")] == ["A", "B", "A"]
    assert TIES_NOTE in table.notes


def test_a_sole_winner_is_marked_where_there_is_one(store: SyntheticStore):
    """Twenty items better, item by item."""
    plug_in(store, "a", [first(80)] * 3)
    plug_in(store, "b", [first(60)] * 3)
    (table,) = settings_tables(found(store))
    assert [cell.is_best for cell in numbers(table, "plug-in")] == [True, False]


def test_nothing_is_ranked_on_different_items(store: SyntheticStore):
    """Or alone."""
    plug_in(store, "a", [first(80)] * 3)
    (alone,) = settings_tables(found(store))
    assert numbers(alone, "plug-in")[0].group == ""
    plug_in(store, "b", [first(20, count=50)] * 3)
    (table,) = settings_tables(found(store))
    assert [cell.group for cell in numbers(table, "plug-in")] == ["", ""]


def test_emulators_are_not_ranked(store: SyntheticStore):
    """The owner hopes for little of them, the data owner for much."""
    for compression, right in (("a", 80), ("b", 40)):
        labels = {**CUT, "compression": compression, "seed": 0}
        evaluated(store, "emulator_finetuned", scored(first(right)), **labels)
        evaluated(store, "plug_in", scored(first(right)), **labels)
    (table,) = settings_tables(found(store))
    assert [cell.group for cell in numbers(table, "emulator fine-tuned")] == ["", ""]


def test_a_gap_is_paired_by_item(store: SyntheticStore):
    """Five items between them: 1.984 x sqrt(0.05 x 0.95 / 99) = 4.3, far less than of either."""
    labels = {**CUT, "compression": "c", "seed": 0}
    evaluated(store, "emulator_finetuned", scored(first(50)), **labels)
    evaluated(store, "plug_in", scored(first(55)), **labels)
    (table,) = settings_tables(found(store))
    assert [cell.text for cell in numbers(table, "plug-in gap")] == ["+5.0 ± 4.3"]


def test_a_row_of_fewer_seeds_says_so(store: SyntheticStore):
    """Though none failed: only two were planned."""
    plug_in(store, "a", [first(80)] * 3)
    plug_in(store, "b", [first(70)] * 2)
    (table,) = settings_tables(found(store))
    cells = numbers(table, "plug-in")
    notes = dict(table.footnotes)
    assert [notes.get(cell.mark, "") for cell in cells] == ["", "2 seeds"]


def test_other_counts_of_items_are_named(store: SyntheticStore):
    """The note has the usual one, a footnote every other."""
    plug_in(store, "a", [first(80)] * 2)
    plug_in(store, "b", [first(20, count=50)] * 2)
    evaluated(store, "full_zero_shot", scored(first(60)), **SUBJECT)
    (table,) = settings_tables(found(store))
    assert "Scored: 100 items; a footnote names other counts." in table.notes
    cells = numbers(table, "plug-in")
    assert [dict(table.footnotes).get(cell.mark, "") for cell in cells] == [
        "",
        "scored on 50 items",
    ]


def test_what_was_chosen_on_the_scored_split_is_marked(store: SyntheticStore):
    """Every number of such a checkpoint, and none of another, nor its cost."""
    for compression, rule in (("a", "paper"), ("b", "held_out")):
        labels = {**CUT, "compression": compression, "seed": 0}
        trained(store, "tune", rule=rule, **labels)
        evaluated(store, "emulator_finetuned", scored(first(50)), **labels)
        evaluated(store, "plug_in", scored(first(60)), **labels)
    (table,) = settings_tables(found(store))
    notes = dict(table.footnotes)
    for header in ("emulator fine-tuned", "plug-in", "plug-in gap"):
        chosen, other = numbers(table, header)
        assert notes[chosen.mark] == CHOSEN_TOO_WELL
        assert other.mark == ""
    (comparison,) = found(store).tasks
    cost = comparison.training("trainable_parameters", Treatment("1-1-1", "a", "full"))
    assert not cost.is_chosen_on_scored


def test_full_fine_tuning_chosen_so_is_marked_in_every_row(store: SyntheticStore):
    """It stands beside every emulator."""
    whole = {**SUBJECT, "tuning": "full", "seed": 0}
    trained(store, "finetune", rule="paper", **whole)
    evaluated(store, "full_finetuned", scored(first(70)), **whole)
    plug_in(store, "c", [first(60)])
    (table,) = settings_tables(found(store))
    marks = [dict(table.footnotes).get(c.mark) for c in numbers(table, "full fine-tuned")]
    assert marks == [CHOSEN_TOO_WELL] * 2
    assert [cell.mark for cell in numbers(table, "plug-in")] == [""]


def test_two_things_to_tell_share_one_footnote(store: SyntheticStore):
    """A cell has room for one letter."""
    for seed in (0, 1):
        labels = {**CUT, "compression": "c", "seed": seed}
        trained(store, "tune", rule="paper", **labels)
        if seed:
            evaluated(store, "plug_in", scored(first(60)), **labels)
        else:
            digest = store.plan("evaluate", setting="plug_in", **labels)
            store.save_attempt(store.record(digest, "evaluate", outcome="timeout", reason="slow"))
    (table,) = settings_tables(found(store))
    (cell,) = numbers(table, "plug-in")
    assert dict(table.footnotes)[cell.mark] == (
        f"1 of 2 seeds; seed 0: timeout: slow; {CHOSEN_TOO_WELL}"
    )


def test_full_fine_tuning_on_another_budget_is_named(store: SyntheticStore):
    """Learning rate and steps of both, in a note under the table."""
    whole = {**SUBJECT, "tuning": "full", "seed": 0}
    trained(store, "finetune", train={"learning_rate": 2e-5, "batch_size": 4}, **whole)
    evaluated(store, "full_finetuned", scored(first(70)), **whole)
    trained(store, "tune", **CUT, compression="c", seed=0)
    plug_in(store, "c", [first(60)])
    (table,) = settings_tables(found(store))
    (note,) = [note for note in table.notes if "budget" in note]
    assert note == (
        "Unequal training budgets. 1-1-1 c full: 60 steps of 8 out of 96 examples (5 epochs), "
        "learning rate 5e-05. full fine-tuning full: 60 steps of 4 out of 96 examples "
        "(2.5 epochs), learning rate 2e-05."
    )


def test_every_number_leads_to_its_stages(store: SyntheticStore):
    """All seeds of it."""
    plug_in(store, "c", [first(60), first(61)])
    (table,) = settings_tables(found(store))
    (cell,) = numbers(table, "plug-in")
    assert set(cell.sources) == {stage["digest"] for stage in store.stages}
