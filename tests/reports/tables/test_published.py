"""The paper's numbers against sums done elsewhere, and when they stand beside ours."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path
from statistics import fmean

import pandas as pd
import pytest
import yaml

from reports.comparison import Compared, compared
from reports.published import (
    FOLDER,
    RAW,
    REPOSITORIES,
    TABLES,
    PublishedNumber,
    is_published_data,
    is_published_model,
    place,
    published_data,
    published_numbers,
)
from reports.record import SETTINGS
from reports.results import frame, read_plan, read_stages
from reports.tables.cells import DASH, Absent, Column, Number, Table
from reports.tables.published import STAND_IN_NOTE
from reports.tables.settings import settings_tables
from reports.tables.tasks import task_tables
from tests.reports.synthetic_store import (
    OPT,
    OPT_CUT,
    OPT_DATA,
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
PIQA = "commit:baber/piqa@1?train=train&validation=validation"
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


def beside(found: Compared) -> tuple[Table, ...]:
    """The tables with a published number in them."""
    return tuple(
        table
        for table in task_tables(found)
        if "whose" in [column.header for column in table.columns]
    )


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
    files = {path.stem for path in FOLDER.glob("*.csv")}
    assert files == {"data", *(f"table{table}" for table in TABLES)}
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


def test_every_published_task_has_its_data():
    """No number without data to match it by, and no data without a number."""
    assert set(published_data()) == {number.place.task for number in published_numbers().values()}
    assert all(data.repositories and data.scored for data in published_data().values())


SUITES = FOLDER.parents[1] / "suites" / "tasks"


@pytest.mark.parametrize("task", sorted(published_data()))
def test_the_shipped_task_is_the_published_one(task: str):
    """What suites/tasks names is what a number is matched by: repository, config and split."""
    given = yaml.safe_load((SUITES / f"{task}.yaml").read_text())["data"]
    rows = "&".join(f"{key}={value}" for key, value in sorted(given.items()) if key != "hub")
    assert is_published_data(task, f"commit:{given['hub']}@1?{rows}")


@pytest.mark.parametrize(
    ("task", "identity", "is_same"),
    [
        ("piqa", "commit:baber/piqa@1?train=train[:90%]&validation=validation", True),
        ("piqa", "commit:baber/piqa@1?test=test&train=train", False),
        ("piqa", "commit:baber/piqa@1?test=validation[:50%]&train=train", False),
        ("piqa", "commit:me/piqa@1?train=train&validation=validation", False),
        ("piqa", "sha256:0123", False),
        ("piqa", "pending:baber/piqa?train=train&validation=validation", False),
        ("piqa", "baber/piqa@1?validation=validation", False),
        ("piqa", "commit:baber/piqa@1", False),
        ("sciq", "commit:baber/piqa@1?validation=validation", False),
        ("mine", "commit:baber/piqa@1?validation=validation", False),
        ("arc_easy", "commit:allenai/ai2_arc@1?config=ARC-Easy&test=test", True),
        ("arc_easy", "commit:allenai/ai2_arc@1?config=ARC-Challenge&test=test", False),
        ("arc_easy", "commit:allenai/ai2_arc@1?test=test", False),
        (
            "wikitext2",
            "commit:Salesforce/wikitext@1?config=wikitext-2-raw-v1&test=validation&train=train",
            True,
        ),
        (
            "wikitext2",
            "commit:Salesforce/wikitext@1?config=wikitext-2-raw-v1&test=test&validation=validation",
            False,
        ),
        ("cifar10", "commit:uoft-cs/cifar10@1?test=train[85%:]&train=train[:85%]", True),
        ("cifar10", "commit:uoft-cs/cifar10@1?test=train[:85%]&train=train", False),
        ("flowers102", "commit:dpdl-benchmark/oxford_flowers102@1?test=test&train=a+b", True),
    ],
)
def test_only_the_published_rows_are_the_published_data(task: str, identity: str, is_same: bool):
    """Repository, config and scored split count; commit and what is tuned on do not."""
    assert is_published_data(task, identity) is is_same


def test_tuning_may_take_any_rows_of_the_data():
    """A stage that tunes is recorded with the splits it reads, and the scored one is not among."""
    rows = "commit:baber/piqa@1?train=train[:90%]&validation=train[90%:]"
    assert not is_published_data("piqa", rows)
    assert is_published_data("piqa", rows, scored=False)
    assert is_published_data("piqa", "commit:baber/piqa@1?train=train", scored=False)
    assert not is_published_data("piqa", "commit:me/piqa@1?train=train", scored=False)
    other = "commit:allenai/ai2_arc@1?config=ARC-Challenge&train=train"
    assert not is_published_data("arc_easy", other, scored=False)


@pytest.mark.parametrize(("repository", "is_compared"), [("baber/piqa", True), ("me/p", False)])
def test_what_was_tuned_on_is_the_papers_too(
    store: SyntheticStore, repository: str, is_compared: bool
):
    """A model tuned on other data under the task's name is not compared."""
    labels = {"model": "opt-1.3b", "task": "piqa", "setting": "full_finetuned", "seed": 0}
    digest = store.plan("finetune", tuning="full", **labels)
    given = {"model": OPT, "data": f"commit:{repository}@1?train=train"}
    store.save(store.record(digest, "finetune", inputs=given))
    digest = store.plan("evaluate", tuning="full", **labels)
    scored = accuracy("acc", 0.5, 0.1)
    store.save(store.record(digest, "evaluate", scored, inputs={"data": PIQA}))
    table = frame_of(store, store.save_plan())
    assert bool(beside(compared(table))) is is_compared
    assert (STAND_IN_NOTE in settings_tables(compared(table))[0].notes) is not is_compared


@pytest.mark.parametrize(
    ("model", "inside", "is_the_papers"),
    [
        (
            "opt-1.3b",
            "batch_size=80, corpus=pile_sample, learning_rate=0.001, precision=bf16, "
            "schedule=linear, steps=9, warmup_steps=250, weight_decay=0.1",
            True,
        ),
        ("opt-1.3b", "corpus=x, kd_weight=1, steps=1", False),
        ("opt-1.3b", "corpus=x, lm_weight=0, steps=1", False),
        ("opt-1.3b", "corpus=x, layerwise=true, steps=1", False),
        ("opt-1.3b", "corpus=x, logit_weight=1, steps=1", False),
        ("opt-1.3b", "corpus=x, kd_weight=1, lm_weight=0, steps=1", False),
        ("eva-giant", "corpus=imagenet, kd_weight=1, lm_weight=0, steps=5005", True),
        ("clip-vit-g", "corpus=imagenet, kd_weight=1, lm_weight=0, steps=5005", True),
        ("eva-giant", "corpus=imagenet, steps=5005", False),
        ("eva-giant", "corpus=imagenet, kd_weight=1, steps=5005", False),
        ("eva-giant", "corpus=x, kd_weight=1, layerwise=true, lm_weight=0, steps=1", False),
    ],
)
def test_another_goal_of_distillation_is_another_emulator(
    model: str, inside: str, is_the_papers: bool
):
    """Its budget may differ; what it is trained towards may not."""
    numbers = (n.place for n in published_numbers().values() if n.place.model == model)
    theirs = next(where for where in numbers if where.compression)
    given = theirs.compression.replace("+distill", f"+distill({inside})")
    ours = place(**theirs._replace(compression=given)._asdict())
    assert (ours in published_numbers()) is is_the_papers


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
    (table,) = beside(compared(frame_of(store, fill_published(store))))
    assert table.title == "Ours beside the paper's Table 1: opt-1.3b"
    assert texts(table, "whose") == ["ours", "paper", "difference"] * 5
    assert texts(table, "setting")[::3] == [
        "full zero-shot",
        "full fine-tuned",
        "emulator zero-shot",
        "emulator fine-tuned",
        "plug-in",
    ]
    assert texts(table, "openbookqa") == [
        *("23.6", "23.4", "+0.2"),
        *("31.4 ± 2.5", "31.4", "0.0 ± 2.5"),
        *("19.0", "19.4", "-0.4"),
        *("25.0 ± 2.5", "24.8", "+0.2 ± 2.5"),
        *("28.0 ± 2.5", "29.0", "-1.0 ± 2.5"),
    ]
    assert texts(table, "wikitext2")[-3:] == ["13.00 ± 0.50", "13.15", "-0.15 ± 0.50"]


def test_a_caveat_stands_at_the_papers_number(store: SyntheticStore):
    """The footnote marks the published cell, not ours."""
    (table,) = beside(compared(frame_of(store, fill_published(store))))
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
    assert beside(compared(table)) == ()
    assert all(STAND_IN_NOTE in shown.notes for shown in settings_tables(compared(table)))


@pytest.mark.parametrize("data", ["sha256:0123", "commit:me/openbookqa@1?test=test", ""])
def test_another_data_set_under_the_name_is_not_compared(store: SyntheticStore, data: str):
    """An own task called openbookqa is a stand-in; the other task is compared all the same."""
    plan = fill_published(store, data={**OPT_DATA, "openbookqa": data})
    table = frame_of(store, plan)
    (shown,) = beside(compared(table))
    assert texts(shown, "wikitext2")[1] == "31.48"
    assert texts(shown, "openbookqa")[:3] == ["23.6", DASH, DASH]
    noted = {t.name: STAND_IN_NOTE in t.notes for t in settings_tables(compared(table))}
    assert noted == {"opt-1.3b-openbookqa": True, "opt-1.3b-wikitext2": False}


def test_nothing_is_said_where_nothing_was_published(store: SyntheticStore):
    """Another task has no companion and no note, and neither has the real model."""
    for task in ("mine", "another"):
        digest = store.plan("evaluate", model="opt-1.3b", task=task, setting="full_zero_shot")
        store.save(store.record(digest, "evaluate", accuracy("acc", 0.5, 0.1)))
    table = frame_of(store, store.save_plan())
    assert beside(compared(table)) == ()
    assert len(task_tables(compared(table))) == 1
    assert STAND_IN_NOTE not in settings_tables(compared(table))[0].notes
    real = settings_tables(compared(frame_of(store, fill_published(store))))
    assert not any(
        STAND_IN_NOTE in shown.notes
        for shown in real
        if "openbookqa" in shown.title or "wikitext2" in shown.title
    )


def test_another_emulator_is_not_compared(store: SyntheticStore):
    """A layout that was published with another compression is not the published row."""
    plan = fill_published(store)
    cut = {"layout": "2-8-2", "compression": "random_init(keep=8)"}
    digest = store.plan(
        "evaluate", model="opt-1.3b", task="openbookqa", setting="emulator_zero_shot", **cut
    )
    store.save(store.record(digest, "evaluate", accuracy("acc", 0.1, 0.1)))
    plan = store.save_plan()
    (table,) = beside(compared(frame_of(store, plan)))
    whose = dict(zip(texts(table, "compression"), texts(table, "whose"), strict=True))
    assert whose == {
        DASH: "difference",
        OPT_CUT["compression"]: "difference",
        "random_init(keep=8)": "ours",
    }
    assert texts(table, "openbookqa")[-1] == "10.0"


def test_one_wrong_source_spoils_the_model(store: SyntheticStore):
    """Where any stage loaded something else under the name, nothing is compared."""
    fill_published(store)
    digest = store.plan("emulator", model="opt-1.3b", layout="2-4-2", compression="c")
    store.save(store.record(digest, "emulator", inputs={"model": "sha256:1"}))
    assert beside(compared(frame_of(store, store.save_plan()))) == ()


def test_a_cut_evaluation_says_so(store: SyntheticStore):
    """Fifty examples of the split are no published number's equal."""
    digest = store.plan("evaluate", model="opt-1.3b", task="piqa", setting="full_zero_shot")
    record = store.record(
        digest,
        "evaluate",
        accuracy("acc", 0.5, 0.1),
        inputs={"model": "commit:facebook/opt-1.3b@1", "data": PIQA},
        params={"evaluate": {"examples": 50}},
    )
    store.save(record)
    (table,) = beside(compared(frame_of(store, store.save_plan())))
    ours, _, difference = column(table, "piqa").cells
    assert dict(table.footnotes)[ours.mark] == "ours is scored on 50 examples of the split"
    assert difference.mark == ours.mark


def test_a_missing_number_of_ours_keeps_its_reason(store: SyntheticStore):
    """The published number stands, ours names its failure, and there is no difference."""
    fill_published(store)
    labels = {"model": "opt-1.3b", "task": "piqa", "setting": "plug_in", "seed": 0}
    digest = store.plan("evaluate", tuning="full", **labels, **OPT_CUT)
    failed = {"outcome": "oom_gpu", "reason": "12 GiB", "inputs": {"data": PIQA}}
    store.save_attempt(store.record(digest, "evaluate", **failed))
    (table,) = beside(compared(frame_of(store, store.save_plan())))
    ours, paper, difference = column(table, "piqa").cells[-3:]
    assert isinstance(ours, Absent)
    assert isinstance(paper, Number)
    assert (ours.text, paper.text, difference.text) == ("oom_gpu", "74.5", "not known")
