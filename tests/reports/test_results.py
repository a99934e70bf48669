"""From a store's files to the tidy table: which rows there are and which there must not be."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from reports.errors import BadRecord, ReportError
from reports.record import Metric
from reports.results import (
    COLUMNS,
    FURTHER_COLUMNS,
    Entry,
    frame,
    is_machine_bound,
    makers,
    missing,
    read_plan,
    read_stages,
    rows,
    tidy,
)
from tests.reports.synthetic_store import SyntheticStore, fill, perplexity

SPECIFIED = (
    *("suite", "case", "model", "layout", "compression", "tuning", "task", "seed", "setting"),
    *("metric", "value", "unit", "better", "stderr", "n", "stage", "digest", "machine"),
    *("outcome", "reason", "grade", "phase", "repeat", "commit", "peer"),
)
SPEED = Metric(
    metric="throughput_tokens_real", value=10.0, unit="tokens/s", better="higher", phase="train"
)


@pytest.fixture
def store(tmp_path: Path) -> SyntheticStore:
    """An empty store."""
    return SyntheticStore(tmp_path)


def test_columns_are_the_contract(store: SyntheticStore):
    """The columns stand in the documented order, also in a table without rows."""
    plan = read_plan(store.save_plan())
    assert tuple(COLUMNS) == SPECIFIED
    assert tuple(tidy(store.root, plan).columns) == SPECIFIED


def test_rows_are_the_columns_of_the_table(store: SyntheticStore):
    """Our own tables read by name what programs find in the data frame."""
    assert Entry._fields == (*COLUMNS, *FURTHER_COLUMNS)
    runs = read_stages(store.root, read_plan(fill(store)))
    laid_out, table = rows(runs, with_not_run=True), frame(runs, with_not_run=True)
    assert len(laid_out) == len(table)
    for name in ("model", "seed", "value", "outcome", "train_seconds"):
        plain = [None if pd.isna(value) else value for value in table[name]]
        assert [getattr(entry, name) for entry in laid_out] == plain


def test_our_own_tables_also_hold_chance(store: SyntheticStore):
    """What a model that knows nothing scores comes with the metric; nothing where none is named."""
    digest = store.plan("evaluate", model="m")
    chosen = Metric(metric="acc", value=0.5, unit="fraction", better="higher", chance=0.25)
    store.save(store.record(digest, "evaluate", chosen, *perplexity(9.0)))
    table = frame(read_stages(store.root, read_plan(store.save_plan())))
    assert tuple(table.columns)[: len(SPECIFIED)] == SPECIFIED
    assert table["chance"].isna().tolist() == [False, True]
    assert table["chance"].iloc[0] == 0.25


def test_one_row_per_stage_metric_phase_and_repeat(store: SyntheticStore):
    """No two rows of a whole run share that key."""
    table = tidy(store.root, read_plan(fill(store)))
    assert not table.duplicated(["digest", "metric", "phase", "repeat"]).any()


def test_rows_follow_the_plan(store: SyntheticStore):
    """Stages come in plan order, whatever their digests."""
    plan = read_plan(fill(store))
    order = list(dict.fromkeys(tidy(store.root, plan)["digest"]))
    assert order == [stage.digest for stage in plan.stages]


def test_a_row_holds_what_the_record_holds(store: SyntheticStore):
    """Value, unit, direction, labels and commit arrive unchanged; what does not apply is empty."""
    row = tidy(store.root, read_plan(fill(store))).iloc[0]
    assert (row["value"], row["unit"], row["better"], row["n"]) == (51.04, "1", "lower", 8192)
    assert (row["model"], row["task"], row["setting"]) == (
        "tiny-lm",
        "pydoc_topics",
        "full_zero_shot",
    )
    assert (row["layout"], row["compression"], row["tuning"], row["case"]) == ("", "", "", "")
    assert (row["stage"], row["phase"], row["commit"]) == (
        "evaluate",
        "evaluate",
        "0123456789abcdef",
    )
    assert tidy(store.root, read_plan(store.save_plan()))["seed"].isna().iloc[0]


def test_a_failed_stage_is_one_row_with_its_latest_reason(store: SyntheticStore):
    """Of several attempts the one that started last speaks, and there is no number."""
    digest = store.plan("tune", model="m")
    for name, started, reason in (("z", "2026-01-01", "first"), ("a", "2026-01-02", "second")):
        attempt = store.record(
            digest,
            "tune",
            SPEED,
            outcome="oom_gpu",
            reason=reason,
            observed={"started": started},
        )
        store.save_attempt(attempt, name)
    table = tidy(store.root, read_plan(store.save_plan()))
    assert len(table) == 1
    row = table.iloc[0]
    assert (row["outcome"], row["reason"], row["metric"]) == ("oom_gpu", "second", "")
    assert table["value"].isna().all()


def test_a_result_silences_earlier_failures(store: SyntheticStore):
    """A stage that failed and then succeeded is ok."""
    digest = store.plan("evaluate", model="m")
    store.save_attempt(store.record(digest, "evaluate", outcome="timeout", reason="slow"))
    store.save(store.record(digest, "evaluate", *perplexity(9.0)))
    table = tidy(store.root, read_plan(store.save_plan()))
    assert list(table["outcome"]) == ["ok"]


def test_an_unmeasured_metric_is_empty_with_its_reason(store: SyntheticStore):
    """No value is an empty cell that says why; neither 0 nor NaN."""
    table = tidy(store.root, read_plan(fill(store)))
    energy = table[table["metric"] == "energy_per_sample"]
    assert energy["value"].isna().all()
    assert set(energy["reason"]) == {"no NVIDIA driver"}
    assert set(energy["grade"]) == {"unmeasured"}
    assert "nan" not in table.to_csv(index=False).lower()


def test_planned_stages_without_a_trace_are_missing(store: SyntheticStore):
    """A stage that never ran has no row and is named; one that failed is not missing."""
    never = store.plan("evaluate", model="never")
    failed = store.plan("evaluate", model="failed")
    store.save_attempt(store.record(failed, "evaluate", outcome="crashed", reason="signal 11"))
    plan = read_plan(store.save_plan())
    assert [stage.digest for stage in missing(store.root, plan)] == [never]
    assert list(tidy(store.root, plan)["digest"]) == [failed]


def test_speed_never_comes_from_another_machine(store: SyntheticStore):
    """With a machine named, its own speed and, for want of its own, another's quality."""
    digest = store.plan("tune", model="m")
    store.machine = "elsewhere"
    store.save(store.record(digest, "tune", SPEED, *perplexity(9.0)))
    plan = read_plan(store.save_plan())
    table = tidy(store.root, plan, machine="here")
    assert list(table["metric"]) == ["perplexity"]
    assert list(tidy(store.root, plan, machine="elsewhere")["metric"]) == [
        "throughput_tokens_real",
        "perplexity",
    ]


def test_what_another_machine_built_is_what_it_is(store: SyntheticStore):
    """Its speed is not shown, and why its compression is experimental is."""
    digest = store.plan("emulator", model="m")
    store.machine = "elsewhere"
    facts = {"experimental": ["second-hand"]}
    store.save(store.record(digest, "emulator", SPEED, facts=facts))
    (entry,) = rows(read_stages(store.root, read_plan(store.save_plan())), machine="here")
    assert (entry.metric, entry.outcome, entry.experimental) == ("", "ok", "second-hand")


def test_who_trained_is_whose_speed_is_shown(store: SyntheticStore):
    """However much another machine evaluated; where nothing was trained, whoever did most."""
    trained = store.record(store.plan("tune", model="m"), "tune", SPEED)
    store.machine = "elsewhere"
    scored = [
        store.record(store.plan("evaluate", model="m", seed=seed), "evaluate", *perplexity(9.0))
        for seed in range(2)
    ]
    assert makers([trained, *scored]) == {trained.machine: 1}
    assert makers(scored) == {"elsewhere": 2}


@pytest.mark.parametrize(
    ("metric", "unit", "bound"),
    [
        ("perplexity", "1", False),
        ("trainable_parameters", "1", False),
        ("emulator_bytes", "bytes", False),
        ("peak_memory_process", "bytes", True),
        ("memory_floor", "bytes", True),
        ("throughput_samples", "samples/s", True),
        ("build_seconds", "s", True),
        ("energy_per_sample", "J", True),
        ("mfu", "fraction", True),
    ],
)
def test_what_depends_on_the_machine(metric: str, unit: str, bound: bool):
    """Time, energy and memory are the machine's; sizes and scores are the stage's."""
    assert is_machine_bound(metric, unit) is bound


def test_quality_comes_from_the_named_machine_else_the_first_by_name(store: SyntheticStore):
    """One machine's quality a stage, never both."""
    digest = store.plan("evaluate", model="m")
    for machine, value in (("b", 2.0), ("a", 1.0)):
        store.save(store.record(digest, "evaluate", *perplexity(value), machine=machine))
    plan = read_plan(store.save_plan())
    assert list(tidy(store.root, plan)["value"]) == [1.0]
    assert list(tidy(store.root, plan, machine="b")["value"]) == [2.0]
    assert list(tidy(store.root, plan, machine="c")["value"]) == [1.0]


def test_repeats_are_rows_of_their_own(store: SyntheticStore):
    """Replicates stand beside each other, in order."""
    digest = store.plan("evaluate", repeats=2, model="m")
    for repeat in (1, 0):
        store.save(store.record(digest, "evaluate", *perplexity(repeat + 1.0), repeat=repeat))
    table = tidy(store.root, read_plan(store.save_plan()))
    assert list(zip(table["repeat"], table["value"], strict=True)) == [(0, 1.0), (1, 2.0)]


def test_repeats_that_a_plan_does_not_ask_for_are_left_out(store: SyntheticStore):
    """They were made to judge other code by; who asks for them, or for all there is, has them."""
    digest = store.plan("evaluate", model="m")
    for repeat in (0, 1, 7):
        store.save(store.record(digest, "evaluate", *perplexity(repeat + 1.0), repeat=repeat))
    plan = read_plan(store.save_plan())
    assert list(tidy(store.root, plan)["value"]) == [1.0]
    assert list(tidy(store.root, None)["value"]) == [1.0, 2.0, 8.0]
    (run,) = read_stages(store.root, plan, repeats=(1, 7))
    assert [record.repeat for record in run.records] == [1, 7]


def test_a_repeat_that_failed_keeps_its_reason(store: SyntheticStore):
    """Beside those that went through; not if it went through later, or nobody asked for it."""
    digest = store.plan("tune", repeats=3, model="m")
    store.save(store.record(digest, "tune", *perplexity(1.0)))
    for repeat, reason in {0: "went through later", 1: "too large", 3: "not asked for"}.items():
        failed = store.record(digest, "tune", outcome="oom_host", reason=reason, repeat=repeat)
        store.save_attempt(failed, name=str(repeat))
    skipped = {"outcome": "skipped", "reason": "1 was oom_host", "repeat": 2}
    later = {"observed": {"started": "2026-01-02T00:00:00Z"}}
    store.save_attempt(store.record(digest, "tune", **skipped, **later), name="2")
    plan = read_plan(store.save_plan())
    (run,) = read_stages(store.root, plan)
    assert ([each.repeat for each in run.records], run.failure) == ([0], "oom_host: too large")
    (entry,) = rows([run])
    assert (entry.outcome, entry.lost) == ("ok", "oom_host: too large")
    for repeat in (1, 2):
        store.save(store.record(digest, "tune", *perplexity(1.0), repeat=repeat))
    (run,) = read_stages(store.root, plan)
    assert (len(run.records), run.failure) == (3, "")


def test_what_another_machine_left_can_be_left_out(store: SyntheticStore):
    """What this one failed at is its failure, whatever the other has."""
    digest = store.plan("tune", model="m")
    store.save(store.record(digest, "tune", *perplexity(1.0), machine="other"))
    store.save_attempt(store.record(digest, "tune", outcome="failed", reason="broken"))
    plan = read_plan(store.save_plan())
    (run,) = read_stages(store.root, plan, machine=store.machine)
    assert (run.records, run.failure) == ((), "failed: broken")
    (run,) = read_stages(store.root, plan)
    assert (len(run.records), run.failure) == (1, "")


def test_the_whole_store_holds_every_record(store: SyntheticStore):
    """Without a plan every machine's record is there, labelled by whatever plan knows it."""
    known = store.plan("evaluate", model="m", task="t")
    for machine in ("a", "b"):
        store.save(store.record(known, "evaluate", *perplexity(1.0), machine=machine))
    store.save(store.record("f" * 64, "emulator", *perplexity(2.0)))
    store.save_plan()
    table = tidy(store.root, None)
    assert list(table["machine"]) == ["a", "b", store.machine]
    assert list(table["model"]) == ["m", "m", ""]
    assert list(table["stage"]) == ["evaluate", "evaluate", "emulator"]
    assert list(table["suite"]) == ["synthetic", "synthetic", ""]


def test_a_stage_of_two_suites_belongs_to_neither(store: SyntheticStore):
    """The whole store counts a shared stage once and names no suite or case for it."""
    digest = store.plan("evaluate", model="m", case="one")
    store.save(store.record(digest, "evaluate", *perplexity(1.0)))
    store.save_plan()
    store.suite, store.stages = "other", []
    store.plan("evaluate", model="m", case="one")
    store.save_plan()
    table = tidy(store.root, None)
    assert list(zip(table["suite"], table["case"], table["model"], strict=True)) == [
        ("", "one", "m")
    ]


def test_a_record_under_another_name_is_refused(store: SyntheticStore):
    """A number cannot move to another stage's row by renaming its file."""
    digest = store.plan("evaluate", model="m")
    path = store.save(store.record("0" * 64, "evaluate", *perplexity(1.0)))
    target = store.root / "records" / digest[:2] / f"{digest}.{store.machine}.0.json"
    target.parent.mkdir(parents=True)
    path.rename(target)
    with pytest.raises(BadRecord, match="holds the record of stage 000"):
        tidy(store.root, read_plan(store.save_plan()))


def test_what_records_have_in_common_is_kept_once(store: SyntheticStore):
    """Ten thousand equal environments take as long to read, but not as much memory."""
    commits = ("a", "a", "b", "a")
    for index, commit in enumerate(commits):
        digest = store.plan("tune", model="alike", seed=index)
        store.save(store.record(digest, "tune", environment={"commit": commit}))
    plan = read_plan(store.save_plan())
    found = [
        run.records[0].environment
        for run in read_stages(store.root, plan)
        if run.planned.labels.model == "alike"
    ]
    assert [each["commit"] for each in found] == list(commits)
    assert found[0] is found[1]


def test_a_damaged_record_is_an_error(store: SyntheticStore):
    """A record that cannot be trusted stops the table; it is not left out."""
    digest = store.plan("evaluate", model="m")
    store.save(store.record(digest, "evaluate", *perplexity(1.0))).write_text("{}")
    with pytest.raises(BadRecord, match="not a record"):
        tidy(store.root, read_plan(store.save_plan()))


def test_a_copy_of_a_record_is_named(store: SyntheticStore):
    """Programs that keep folders alike leave `… (1).json` beside the original."""
    digest = store.plan("evaluate", model="m")
    path = store.save(store.record(digest, "evaluate", *perplexity(1.0)))
    path.with_name(f"{path.stem} (1).json").write_bytes(path.read_bytes())
    with pytest.raises(BadRecord, match=r"0 \(1\)\.json: no record of ours has such a name"):
        tidy(store.root, read_plan(store.save_plan()))


def test_unfinished_files_are_not_records(store: SyntheticStore):
    """What a killed writer left behind, a hidden temporary file, is nobody's result."""
    digest = store.plan("evaluate", model="m")
    folder = store.root / "records" / digest[:2]
    folder.mkdir(parents=True)
    (folder / f".{digest}.m.0.json.123.tmp").write_text("{")
    (folder / f".{digest}.m.0.json").write_text("{")
    assert tidy(store.root, read_plan(store.save_plan())).empty


def test_a_digest_leads_nowhere_else(store: SyntheticStore):
    """A plan is a file that anybody may have written."""
    fill(store)
    path = store.save_plan()
    plan = read_plan(path)
    assert list(path.parent.glob("*.json"))
    elsewhere = plan.stages[0].model_copy(update={"digest": f"../{path.parent.name}"})
    (run,) = read_stages(store.root, plan.model_copy(update={"stages": (elsewhere,)}))
    assert run.found == ()


def test_logs_alone_are_no_attempt(store: SyntheticStore):
    """A folder that holds no failure is no stage of the whole store, nor a failed one."""
    digest = store.plan("evaluate", model="m")
    folder = store.root / "attempts" / digest
    folder.mkdir(parents=True)
    (folder / "1.log").write_text("loading")
    (store.root / "attempts" / "notes.txt").write_text("a file among the folders")
    plan = read_plan(store.save_plan())
    assert [stage.digest for stage in missing(store.root, plan)] == [digest]
    assert tidy(store.root, None).empty
    store.save_attempt(store.record(digest, "evaluate", outcome="timeout", reason="slow"))
    assert list(tidy(store.root, None)["outcome"]) == ["timeout"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "[" * 100_000, '{"schema": 9, "suite": "s", "stages": []}', '{"schema": 1}'],
)
def test_what_is_no_plan_is_named(tmp_path: Path, content: str):
    """Any other file is refused in one line with its path."""
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(ReportError, match=r"plan\.json: not a plan"):
        read_plan(path)


def test_a_plan_may_hold_more_than_we_read(tmp_path: Path):
    """Keys of the program's own are no error."""
    path = tmp_path / "plan.json"
    stage = {"digest": "aa", "kind": "tune", "labels": {"model": "m", "new": 1}, "params": {}}
    path.write_text(json.dumps({"schema": 1, "suite": "s", "stages": [stage], "extra": True}))
    plan = read_plan(path)
    assert (plan.profile, plan.stages[0].labels.model) == (None, "m")
