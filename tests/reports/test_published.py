"""The paper's numbers against sums done elsewhere, and when they stand beside ours."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest

from reports.cells import DASH, Absent, Column, Number, Table
from reports.published import (
    FOLDER,
    RAW,
    REPOSITORIES,
    TABLES,
    PublishedNumber,
    is_published_model,
    place,
    published_numbers,
)
from reports.published_tables import STAND_IN_NOTE, published_tables
from reports.record import SETTINGS
from reports.results import frame, read_plan, read_stages
from reports.tables import settings_tables
from tests.reports.synthetic_store import (
    OPT_CUT,
    SyntheticStore,
    accuracy,
    fill_published,
)

QUESTIONS = (
    *("openbookqa", "piqa", "arc_easy", "arc_challenge"),
    *("hellaswag", "sciq", "webqs", "race"),
)
METRIC = {"webqs": "exact_match", "wikitext2": "perplexity"}
VISION = ("flowers102", "stanford_cars", "food101", "oxford_pets", "cifar10", "cifar100")
AVERAGES = {
    ("gpt2-xl", "full_zero_shot"): 41.86,
    ("gpt2-xl", "emulator_zero_shot"): 37.65,
    ("gpt2-xl", "full_finetuned"): 49.86,
    ("gpt2-xl", "emulator_finetuned"): 45.40,
    ("gpt2-xl", "plug_in"): 48.29,
    ("opt-1.3b", "full_zero_shot"): 42.51,
    ("opt-1.3b", "emulator_zero_shot"): 39.23,
    ("opt-1.3b", "full_finetuned"): 49.87,
    ("opt-1.3b", "emulator_finetuned"): 46.59,
    ("opt-1.3b", "plug_in"): 49.00,
    ("opt-6.7b", "full_zero_shot"): 48.45,
    ("opt-6.7b", "emulator_zero_shot"): 28.49,
    ("opt-6.7b", "emulator_finetuned"): 35.58,
    ("opt-6.7b", "plug_in"): 53.03,
    ("bloom-7b1", "full_zero_shot"): 45.99,
    ("bloom-7b1", "emulator_zero_shot"): 35.65,
    ("bloom-7b1", "emulator_finetuned"): 42.00,
    ("bloom-7b1", "plug_in"): 52.14,
}
"""Averages over the eight question-answering tasks, worked out apart from the files."""


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty store."""
    return SyntheticStore(tmp_path)


def frame_of(store: SyntheticStore, plan: Path) -> pd.DataFrame:
    """The long table that tables are made of."""
    return frame(read_stages(store.root, read_plan(plan)))


def numbers_of(table: str) -> list[PublishedNumber]:
    """All numbers of one published table."""
    return [number for number in published_numbers().values() if number.table == table]


def column(table: Table, header: str) -> Column:
    """A column by its header."""
    return next(column for column in table.columns if column.header == header)


def texts(table: Table, header: str) -> list[str]:
    """The texts of a column from top to bottom."""
    return [cell.text for cell in column(table, header).cells]


def test_every_file_is_whole_and_in_the_words_of_a_suite():
    """As many numbers as the tables have, each a known setting with its unit and its image."""
    assert Counter(n.table for n in published_numbers().values()) == {
        "1": 90,
        "2": 72,
        "3": 36,
        "6": 16,
    }
    assert sorted(path.stem.removeprefix("table") for path in FOLDER.glob("*.csv")) == sorted(
        TABLES
    )
    for number in published_numbers().values():
        assert number.place.setting in SETTINGS
        assert number.place.model in REPOSITORIES
        assert number.place.task in (*QUESTIONS, "wikitext2", *VISION)
        assert number.source.startswith("mit-han-lab/offsite-tuning@")
        if number.table in ("1", "2", "3"):
            assert number.place.metric == METRIC.get(
                number.place.task, "top1" if number.place.task in VISION else "acc"
            )
        cut = number.place.setting in ("emulator_zero_shot", "emulator_finetuned", "plug_in")
        assert cut == bool(number.place.layout) == bool(number.place.compression)
        assert bool(number.place.tuning) == (not number.place.setting.endswith("zero_shot"))
    for table in TABLES:
        with (FOLDER / f"table{table}.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        assert {row["unit"] for row in rows} <= set(RAW)
        assert {row["table"] for row in rows} == {table}


def test_averages_are_those_worked_out_apart():
    """A misread digit of an accuracy would move the average of its row."""
    for (model, setting), average in AVERAGES.items():
        row = [
            100 * number.value
            for where, number in published_numbers().items()
            if (where.model, where.setting) == (model, setting) and where.task in QUESTIONS
        ]
        assert len(row) == 8
        assert fmean(row) == pytest.approx(average, abs=0.0051)


def test_headline_ratios_of_table_6():
    """GPT2-XL: emulator and LoRA are 6.5 times as fast and 5.6 as small as full fine-tuning."""
    by = {
        (n.place.tuning, n.place.setting, n.place.metric): n.value
        for n in numbers_of("6")
        if n.place.model == "gpt2-xl"
    }
    ours, full = ("lora(rank=4)", "emulator_finetuned"), ("full", "full_finetuned")
    assert by[*ours, "throughput"] / by[*full, "throughput"] == pytest.approx(6.54, abs=0.005)
    assert by[*full, "memory"] / by[*ours, "memory"] == pytest.approx(5.58, abs=0.005)
    assert by[*full, "memory"] == 39922 * 2**20


def test_gaps_of_table_3():
    """In vision the plug-in is at most 0.97 points better than the emulator."""
    values = {n.place: n.value for n in numbers_of("3")}
    gaps = [
        100 * (value - values[where._replace(setting="emulator_finetuned")])
        for where, value in values.items()
        if where.setting == "plug_in"
    ]
    assert len(gaps) == 12
    assert (min(gaps), max(gaps)) == (pytest.approx(0.02), pytest.approx(0.97))


def test_marked_rows_are_those_that_were_measured_otherwise():
    """Table 2: the emulator rows of the questions, not WikiText and not OPT's plug-in."""
    other = {n.place[:6] for n in numbers_of("2") if "another emulator" in n.note}
    assert {(where[4], where[5] in QUESTIONS) for where in other} == {
        ("emulator_zero_shot", True),
        ("emulator_finetuned", True),
    }
    assert len(other) == 32
    eighteen = {n.place for n in numbers_of("2") if "18 emulator blocks" in n.note}
    assert {where.model for where in eighteen} == {"bloom-7b1"}


@pytest.mark.parametrize(
    ("model", "digest", "is_real"),
    [
        ("opt-1.3b", "commit:facebook/opt-1.3b@3f5c", True),
        ("gpt2-xl", "commit:openai-community/gpt2-xl@15ea", True),
        ("eva-giant", "commit:timm/eva_giant_patch14_clip_224.laion400m_s11b_b41k@1", True),
        ("opt-1.3b", "commit:hf-internal-testing/tiny-random-OPTForCausalLM@3f5c", False),
        ("opt-1.3b", "commit:facebook/opt-1.3b-finetuned@3f5c", False),
        ("opt-1.3b", "sha256:3f5c", False),
        ("opt-1.3b", "pending:facebook/opt-1.3b", False),
        ("opt-1.3b", "facebook/opt-1.3b@3f5c", False),
        ("opt-6.7b", "commit:facebook/opt-1.3b@3f5c", False),
        ("other", "commit:facebook/opt-1.3b@3f5c", False),
    ],
)
def test_only_the_published_repository_is_the_published_model(
    model: str, digest: str, is_real: bool
):
    """A commit of the right repository counts; a file or another repository does not."""
    assert is_published_model(model, digest) is is_real


def test_only_the_budget_of_distillation_is_left_out_of_a_place():
    """Other blocks, or no distillation, make another emulator."""
    where = {"model": "m", "layout": "l", "tuning": "full", "setting": "s", "task": "t"}

    def name(compression: str) -> str:
        return place(compression=compression, metric="acc", **where).compression

    assert name("layer_drop(keep=8)+distill(corpus=x, steps=1)") == "layer_drop(keep=8)+distill"
    assert name("layer_drop(keep=8)") == "layer_drop(keep=8)"
    assert name("layer_drop(keep=8, rounding=floor)") == "layer_drop(keep=8, rounding=floor)"
    assert name("predistill(steps=1)") == "predistill(steps=1)"


def test_ours_the_papers_and_the_difference(store: SyntheticStore):
    """23.6 against 23.4 is +0.2; the interval of the difference is ours; every row in its place."""
    (table,) = published_tables(frame_of(store, fill_published(store)))
    assert table.title == "Ours beside the paper's Table 1: opt-1.3b"
    assert texts(table, "whose") == ["ours", "paper", "difference"] * 5
    assert texts(table, "setting")[::3] == [
        "full zero-shot",
        "emulator zero-shot",
        "full fine-tuned",
        "emulator fine-tuned",
        "plug-in",
    ]
    assert texts(table, "openbookqa") == [
        *("23.6", "23.4", "+0.2"),
        *("19.0", "19.4", "-0.4"),
        *("31.4 ± 2.5", "31.4", "0.0 ± 2.5"),
        *("25.0 ± 2.5", "24.8", "+0.2 ± 2.5"),
        *("28.0 ± 2.5", "29.0", "-1.0 ± 2.5"),
    ]
    assert texts(table, "wikitext2")[-3:] == ["13.00 ± 0.50", "13.15", "-0.15 ± 0.50"]


def test_a_caveat_stands_at_the_papers_number(store: SyntheticStore):
    """The footnote marks the published cell, not ours."""
    (table,) = published_tables(frame_of(store, fill_published(store)))
    ours, paper, difference = column(table, "wikitext2").cells[:3]
    assert (ours.mark, difference.mark) == ("", "")
    assert dict(table.footnotes)[paper.mark].startswith("Table 1: validation split in blocks")


@pytest.mark.parametrize(
    "source",
    ["sha256:0123", "commit:hf-internal-testing/tiny-random-OPTForCausalLM@3f5c", ""],
)
def test_stand_ins_are_not_compared_and_that_is_said(store: SyntheticStore, source: str):
    """A model that only bears the name gets no published number but one note."""
    table = frame_of(store, fill_published(store, source))
    assert published_tables(table) == ()
    assert all(STAND_IN_NOTE in shown.notes for shown in settings_tables(table))


def test_nothing_is_said_where_nothing_was_published(store: SyntheticStore):
    """Another task has no companion and no note, and neither has the real model."""
    digest = store.plan("evaluate", model="opt-1.3b", task="mine", setting="full_zero_shot")
    store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1)))
    table = frame_of(store, store.save_plan())
    assert published_tables(table) == ()
    assert STAND_IN_NOTE not in settings_tables(table)[0].notes
    real = settings_tables(frame_of(store, fill_published(store)))
    assert not any(STAND_IN_NOTE in shown.notes for shown in real if "mine" not in shown.title)


def test_another_emulator_is_not_compared(store: SyntheticStore):
    """A layout that was published with another compression is not the published row."""
    plan = fill_published(store)
    cut = {"layout": "2-8-2", "compression": "random_init(keep=8)"}
    digest = store.plan(
        "evaluate", model="opt-1.3b", task="openbookqa", setting="emulator_zero_shot", **cut
    )
    store.save(store.record(digest, "evaluate", accuracy("acc", 0.1, 0.1)))
    plan = store.save_plan()
    (table,) = published_tables(frame_of(store, plan))
    assert set(texts(table, "compression")) == {DASH, OPT_CUT["compression"]}


def test_one_wrong_source_spoils_the_model(store: SyntheticStore):
    """Where any stage loaded something else under the name, nothing is compared."""
    fill_published(store)
    digest = store.plan("emulator", model="opt-1.3b", layout="2-4-2", compression="c")
    store.save(store.record(digest, "emulator", inputs={"model": "sha256:1"}))
    assert published_tables(frame_of(store, store.save_plan())) == ()


def test_a_cut_evaluation_says_so(store: SyntheticStore):
    """Fifty examples of the split are no published number's equal."""
    digest = store.plan("evaluate", model="opt-1.3b", task="piqa", setting="full_zero_shot")
    record = store.record(
        digest,
        "evaluate",
        accuracy("acc", 0.5, 0.1),
        inputs={"model": "commit:facebook/opt-1.3b@1"},
        params={"evaluate": {"examples": 50}},
    )
    store.save(record)
    (table,) = published_tables(frame_of(store, store.save_plan()))
    ours, _, difference = column(table, "piqa").cells
    assert dict(table.footnotes)[ours.mark] == "ours is scored on 50 examples of the split"
    assert difference.mark == ours.mark


def test_a_missing_number_of_ours_keeps_its_reason(store: SyntheticStore):
    """The published number stands, ours names its failure, and there is no difference."""
    fill_published(store)
    labels = {"model": "opt-1.3b", "task": "piqa", "setting": "plug_in", "seed": 0}
    digest = store.plan("evaluate", tuning="full", **labels, **OPT_CUT)
    store.save_attempt(store.record(digest, "evaluate", outcome="oom_gpu", reason="12 GiB"))
    (table,) = published_tables(frame_of(store, store.save_plan()))
    ours, paper, difference = column(table, "piqa").cells[-3:]
    assert isinstance(ours, Absent)
    assert isinstance(paper, Number)
    assert (ours.text, paper.text, difference.text) == ("oom_gpu", "74.5", "not known")
