"""The best checkpoint beside the one that was chosen, and what rows say of how it was chosen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest

from reports.comparison import Compared, compared
from reports.record import ORACLE, Metric
from reports.results import frame, read_plan, read_stages, tidy
from reports.tables.cells import Table
from reports.tables.compressions import compression_tables
from reports.tables.observed_cells import CHOSEN_TOO_WELL
from reports.tables.oracle import oracle_tables
from reports.tables.settings import further_tables, settings_tables
from reports.tables.tasks import task_tables
from tests.reports.scored_store import evaluated, first, scored
from tests.reports.synthetic_store import (
    OPT,
    OPT_CUT,
    OPT_DATA,
    SyntheticStore,
    accuracy,
    fill_row,
    perplexity,
)

ROW = {"model": "m", "task": "t", "layout": "1-1-1", "compression": "c", "tuning": "full"}
PAPER = {"rule": "paper", "split": "test", "examples": 9}


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty store."""
    return SyntheticStore(tmp_path)


def diagnostic(metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
    """The same numbers as a checkpoint has them that was not chosen."""
    return tuple(m.model_copy(update={"metric": ORACLE + m.metric}) for m in metrics)


def tuned(
    store: SyntheticStore,
    seed: int,
    chosen: int,
    values: tuple[float, ...],
    *,
    failed: int | None = None,
    selection: dict[str, object] | None = None,
) -> None:
    """One seed: checkpoint `chosen` (from 1) is the result; `failed` could not be plugged in."""
    digest = store.plan("tune", setting="emulator_finetuned", seed=seed, **ROW)
    facts = {"chosen_step": 10 * chosen, "selection": selection or {}}
    store.save(store.record(digest, "tune", facts=facts))
    digest = store.plan("evaluate", setting="plug_in", seed=seed, **ROW)
    store.save(store.record(digest, "evaluate", *perplexity(values[chosen - 1])))
    for number, value in enumerate(values, start=1):
        digest = store.plan("evaluate", setting="plug_in", seed=seed, checkpoint=number, **ROW)
        if number == failed:
            lost = {"outcome": "oom_host", "reason": "too much"}
            store.save_attempt(store.record(digest, "evaluate", **lost))
        else:
            scores = diagnostic(perplexity(value))
            store.save(store.record(digest, "evaluate", *scores, facts={"step": 10 * number}))


def found(store: SyntheticStore) -> Compared:
    """What tables are made of."""
    runs = read_stages(store.root, read_plan(store.save_plan()))
    return compared(frame(runs, with_not_run=True))


def texts(table: Table, header: str) -> list[str]:
    """The texts of all columns of this name."""
    return [cell.text for c in table.columns if c.header == header for cell in c.cells]


def test_the_best_checkpoint_of_each_seed_stands_beside_the_chosen_one(store: SyntheticStore):
    """By perplexity: 12 and 15 were chosen; 11 at step 10 and 15 at step 20 were the best."""
    tuned(store, 0, 3, (11.0, 14.0, 12.0))
    tuned(store, 1, 2, (16.0, 15.0, 17.0))
    (table,) = oracle_tables(found(store))
    assert table.title == (
        "m on t: the best checkpoint, which no owner could know (perplexity; a diagnostic)"
    )
    assert texts(table, "plug-in")[0].startswith("13.50 ±")
    assert texts(table, "oracle's plug-in")[0].startswith("13.00 ±")
    assert [texts(table, h) for h in ("chosen step", "oracle's step")] == [["30, 20"], ["10, 20"]]
    assert texts(table, "oracle's lead")[0].startswith("+0.50 ±")
    assert "No party of the exchange can" in table.notes[0]


def test_higher_is_better_for_an_accuracy(store: SyntheticStore):
    """The best of 0.5 and 0.6 is 0.6, ten points above the chosen one."""
    for number, value in ((None, 0.5), (1, 0.5), (2, 0.6)):
        labels = {} if number is None else {"checkpoint": number}
        digest = store.plan("evaluate", setting="plug_in", seed=0, **ROW, **labels)
        scores = (accuracy("acc", value, 0.05),)
        store.save(store.record(digest, "evaluate", *(diagnostic(scores) if number else scores)))
    (table,) = oracle_tables(found(store))
    assert texts(table, "oracle's plug-in") == ["60.0"]
    assert texts(table, "oracle's lead") == ["+10.0"]
    assert table.columns[-1].detail == "points"


def test_no_table_of_results_has_the_diagnostic(store: SyntheticStore, tmp_path: Path):
    """Every cell is as it is without it, and the export has one number under the metric's name."""
    tuned(store, 0, 3, (11.0, 14.0, 12.0))
    (with_oracle,) = settings_tables(found(store))
    path = store.save_plan()
    store.stages = [stage for stage in store.stages if "checkpoint" not in stage["labels"]]
    assert [asdict(table) for table in settings_tables(found(store))] == [asdict(with_oracle)]
    assert further_tables(found(store)) == ()
    assert oracle_tables(found(store)) == ()
    table = tidy(store.root, read_plan(path))
    evaluations = table[table["stage"] == "evaluate"]
    assert evaluations["metric"].tolist() == ["perplexity", *["oracle_perplexity"] * 3]


def test_the_best_is_not_known_where_a_checkpoint_could_not_be_plugged_in(store: SyntheticStore):
    """It could have been the one that is missing."""
    tuned(store, 0, 3, (11.0, 14.0, 12.0), failed=2)
    tuned(store, 1, 2, (16.0, 15.0, 17.0))
    (table,) = oracle_tables(found(store))
    assert texts(table, "oracle's plug-in") == ["15.00"]
    assert texts(table, "oracle's step") == ["20"]
    assert dict(table.footnotes)["a"] == "1 of 2 seeds; seed 0: oom_host: too much"


def test_a_diagnostic_does_not_hide_that_the_result_failed(store: SyntheticStore):
    """The plug-in's cell says why it is empty."""
    digest = store.plan("evaluate", setting="plug_in", seed=0, **ROW)
    store.save_attempt(store.record(digest, "evaluate", outcome="oom_gpu", reason="12 GiB"))
    digest = store.plan("evaluate", setting="plug_in", seed=0, checkpoint=1, **ROW)
    store.save(store.record(digest, "evaluate", *diagnostic(perplexity(9.0))))
    digest = store.plan("evaluate", setting="emulator_finetuned", seed=0, **ROW)
    store.save(store.record(digest, "evaluate", *perplexity(12.0)))
    (table,) = settings_tables(found(store))
    assert texts(table, "plug-in") == ["oom_gpu"]


def test_a_row_chosen_on_the_scored_split_says_so_in_every_table(store: SyntheticStore):
    """Its number is better than on data it was not chosen on."""
    tuned(store, 0, 1, (11.0,), selection=PAPER)
    (table,) = settings_tables(found(store))
    (note,) = [note for note in table.notes if note.startswith("Checkpoint:")]
    assert "on the split that is scored, as in the paper" in note
    assert "Rows" not in note
    (cell,) = [c.cells[0] for c in table.columns if c.header == "plug-in"]
    assert dict(table.footnotes)[cell.mark] == CHOSEN_TOO_WELL


def test_rows_are_named_where_not_all_were_chosen_alike(store: SyntheticStore):
    """Full fine-tuning with one checkpoint beside a choice on the scored split."""
    tuned(store, 0, 1, (11.0,), selection=PAPER)
    whole = {"model": "m", "task": "t", "tuning": "full", "seed": 0}
    digest = store.plan("finetune", setting="full_finetuned", **whole)
    store.save(store.record(digest, "finetune", facts={"chosen_step": 9, "selection": {}}))
    (table,) = settings_tables(found(store))
    (note,) = [note for note in table.notes if note.startswith("Checkpoint:")]
    assert note.endswith("too good. Rows: 1-1-1 c full.")


@pytest.mark.parametrize("rule", ["held_out", "validation"])
def test_other_ways_of_choosing_are_told_too(store: SyntheticStore, rule: str):
    """Which split the checkpoint is of stands under the numbers."""
    tuned(store, 0, 1, (11.0,), selection={"rule": rule, "split": "x", "examples": 9})
    (table,) = settings_tables(found(store))
    (note,) = [note for note in table.notes if note.startswith("Checkpoint:")]
    assert {"held_out": "slice of the train", "validation": "neither trained"}[rule] in note


def test_compressions_beside_each_other_say_it_too(store: SyntheticStore):
    """A table that is read alone."""
    for number, compression in enumerate("abc"):
        fill_row(store, "1-1-1", compression, 10.0 + number)
        labels = {"model": "m", "task": "t", "layout": "1-1-1", "tuning": "full", "seed": 0}
        digest = store.plan("tune", compression=compression, **labels)
        store.save(store.record(digest, "tune", facts={"selection": PAPER}))
    (table,) = compression_tables(found(store))
    assert any("on the split that is scored" in note for note in table.notes)


def test_ours_beside_the_papers_says_what_ours_was_chosen_on(store: SyntheticStore):
    """By task: WikiText on the scored split, as the paper."""
    labels = {"model": "opt-1.3b", "task": "wikitext2", "seed": 0, "tuning": "full", **OPT_CUT}
    inputs = {"data": OPT_DATA["wikitext2"]}
    digest = store.plan("tune", setting="emulator_finetuned", **labels)
    store.save(store.record(digest, "tune", facts={"selection": PAPER}, inputs=inputs))
    digest = store.plan("evaluate", setting="plug_in", **labels)
    inputs |= {"model": OPT}
    store.save(store.record(digest, "evaluate", *perplexity(13.0), inputs=inputs))
    evaluated(store, "full_zero_shot", scored(first(50)), model="opt-1.3b", task="mine")
    (table,) = task_tables(found(store))
    (note,) = [note for note in table.notes if "Checkpoint" in note]
    assert note.startswith("On wikitext2: Checkpoint: chosen among several on the split that")
