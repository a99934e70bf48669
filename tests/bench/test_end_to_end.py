"""Whole runs with real models and processes: the shipped ones, and tiny random ones."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from bench.cli import call
from bench.environment import this_machine
from offsite.models import load_model
from reports.record import SETTINGS, read_record
from reports.results import is_machine_bound
from tests.bench.command import ROOT, START, environment, offsite_bench

COLUMNS = [
    *("suite", "case", "model", "layout", "compression", "tuning", "task", "seed", "setting"),
    *("metric", "value", "unit", "better", "stderr", "n", "stage", "digest", "machine"),
    *("outcome", "reason", "grade", "phase", "repeat", "commit", "peer"),
]
SMOKE = ("quickstart", "--profile", "smoke")
RANDOM = f"""\
schema: 1
name: random
models: {{lm: {{source: "random:{ROOT}/suites/models/tiny-lm"}}}}
tasks:
  mine:
    task: perplexity
    data: {{train: train.jsonl, validation: test.jsonl, test: test.jsonl}}
    block: 32
matrix:
  model: lm
  adapter_blocks: 2+1
  compression: {{method: identity}}
  tuning: [{{method: full}}, {{method: lora, rank: 2}}]
  task: mine
  seed: 0
train: {{learning_rate: 1.0e-3, max_steps: 4, batch_size: 2, checkpoints: 2}}
"""


def write_rows(folder: Path) -> None:
    """The rows that `RANDOM` names."""
    for split in ("train", "test"):
        rows = [{"text": f"{split} row {i} says: " + "the quick brown fox " * 8} for i in range(8)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))


def exported(results: Path, cwd: Path, *suite: str) -> list[dict[str, str]]:
    """Rows of the tidy table."""
    done = offsite_bench("export", *suite, "--results", results, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


def quality(rows: list[dict[str, str]]) -> dict[tuple[str, ...], str]:
    """Scores as they were printed, to the last digit, by what they are of."""
    labels = ("model", "layout", "compression", "tuning", "task", "seed", "setting", "metric")
    return {
        tuple(r[k] for k in labels): r["value"]
        for r in rows
        if r["stage"] == "evaluate" and not is_machine_bound(r["metric"], r["unit"])
    }


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of one run of the quickstart's smoke profile."""
    folder = tmp_path_factory.mktemp("smoke")
    done = offsite_bench("run", *SMOKE, "--results", "results", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "28 stages: 28 done, 0 reused, 0 failed, 0 skipped" in done.stdout
    return folder / "results"


def test_a_run_ends_in_a_table_and_a_report(smoke):
    """The report folder holds one HTML file, one Markdown file and the tables."""
    folder = smoke / "reports" / "quickstart.smoke"
    names = {p.name for p in folder.iterdir()}
    assert {"report.html", "report.md", "tables"} <= names
    markdown = (folder / "report.md").read_text()
    for word in ("tiny-lm", "tiny-vit", "layer_drop(keep=4)", "lora", "plug-in"):
        assert word in markdown


def test_export_has_the_columns_and_every_setting(smoke, tmp_path):
    """One row a stage, metric and phase; each setting of each case has its quality metric."""
    rows = exported(smoke, tmp_path, *SMOKE)
    assert list(rows[0]) == COLUMNS
    for task, metric in [
        ("pydoc_topics", "perplexity"),
        ("topic_continuation", "acc"),
        ("digits_pair_sum", "top1"),
    ]:
        scored = {r["setting"] for r in rows if r["task"] == task and r["metric"] == metric}
        assert scored == set(SETTINGS)
    keys = [(r["digest"], r["metric"], r["phase"], r["repeat"]) for r in rows]
    assert len(keys) == len(set(keys))
    assert all(r["value"] or r["reason"] for r in rows)
    gpu = {r["reason"] for r in rows if r["metric"] == "peak_memory_gpu_process"}
    assert gpu == {"no NVIDIA driver"} or all(r["value"] for r in rows)


def test_labels_that_do_not_apply_are_empty(smoke, tmp_path):
    """Full zero-shot has no compression, tuning, layout or seed."""
    for row in exported(smoke, tmp_path, *SMOKE):
        if row["setting"] == "full_zero_shot":
            assert [row[k] for k in ("layout", "compression", "tuning", "seed")] == [""] * 4


def test_a_second_run_starts_no_stage_and_touches_no_record(smoke):
    """Everything is reused."""
    before = {p: p.stat().st_mtime_ns for p in smoke.glob("records/*/*.json")}
    done = offsite_bench("run", *SMOKE, "--results", smoke, "--json", cwd=smoke.parent)
    assert json.loads(done.stdout)["stages"] == {
        "done": 0,
        "reused": 28,
        "failed": 0,
        "skipped": 0,
    }
    assert {p: p.stat().st_mtime_ns for p in smoke.glob("records/*/*.json")} == before


def test_status_and_report_exit_0_when_all_is_done(smoke):
    """And 3 when something is missing: the full suite has stages this store has not."""
    for verb in ("status", "report"):
        done = offsite_bench(verb, *SMOKE, "--results", smoke, cwd=smoke.parent)
        assert done.returncode == 0, done.stderr
        done = offsite_bench(verb, "quickstart", "--results", smoke, cwd=smoke.parent)
        assert done.returncode == 3, done.stderr


def test_results_of_another_machine_are_shown_by_the_plan_they_were_made_with(
    smoke, capsys, monkeypatch, tmp_path
):
    """Copied to a laptop with other versions, a store still gives its report and its speed."""
    other = dict.fromkeys(("device", "lm-eval", "peft", "timm", "torch", "transformers"), "0")
    monkeypatch.setattr("bench.world.environment", lambda: other)
    monkeypatch.setattr("bench.environment._processor", lambda: "another processor")
    this_machine.cache_clear()
    try:
        assert call(["status", *SMOKE, "--results", str(smoke)]) == 0
        assert "28 done" in capsys.readouterr().out
        assert call(["export", *SMOKE, "--results", str(smoke)]) == 0
        assert "throughput_samples" in capsys.readouterr().out
    finally:
        this_machine.cache_clear()


def test_report_never_imports_torch(smoke):
    """Results copied to a laptop without a framework can be shown there."""
    code = (
        "import sys\nfrom bench.cli import call\n"
        f"assert call(['report', 'quickstart', '--profile', 'smoke', '--results', {str(smoke)!r}])"
        " == 0\nassert 'torch' not in sys.modules"
    )
    subprocess.run(
        [START[0], "-c", code],
        check=True,
        cwd=smoke.parent,
        env=environment(),
        capture_output=True,
    )


def test_another_suite_over_the_store_builds_no_emulator(smoke):
    """Another seed of the same model and compression shares emulators and zero-shot scores."""
    seed = ["--set", "matrix.0.seed=5", "-k", "pydoc and full"]
    planned = offsite_bench("plan", *SMOKE, *seed, "--results", smoke, "--json", cwd=smoke.parent)
    stages = json.loads(planned.stdout)["stages"]
    assert {s["kind"] for s in stages if not s["done"]} == {"finetune", "tune", "evaluate"}
    assert {s["labels"]["setting"] for s in stages if s["done"]} >= {
        "full_zero_shot",
        "emulator_zero_shot",
    }


def test_what_is_told_of_a_record_is_enough_to_judge_it(smoke):
    """Versions, machine, memory floor and the layer map are in the records."""
    records = [read_record(p) for p in smoke.glob("records/*/*.json")]
    for record in records:
        assert {"commit", "dirty", "machine", "packages", "python"} <= record.environment.keys()
        assert "memory_floor" in {m.metric for m in record.metrics}
    kept = {tuple(r.facts["layer_map"]) for r in records if r.kind == "emulator"}
    assert kept == {(2, 4, 7, 9), (1, 3, 6, 8)}


@pytest.fixture
def random_suite(tmp_path: Path) -> Path:
    """A suite over random weights and rows of its own, with an identity emulator."""
    path = tmp_path / "random.yaml"
    path.write_text(RANDOM)
    write_rows(tmp_path)
    return path


def test_an_identity_emulator_scores_exactly_like_the_full_model(random_suite, tmp_path):
    """Through disk and three processes: plug-in equals emulator fine-tuned to the last digit."""
    done = offsite_bench("run", random_suite, "--results", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = exported(tmp_path / "r", tmp_path, str(random_suite))
    values = {(r["setting"], r["tuning"]): r["value"] for r in rows if r["metric"] == "perplexity"}
    for tuning in ("full", "lora(rank=2)"):
        assert values["plug_in", tuning] == values["emulator_finetuned", tuning]
    assert values["full_zero_shot", ""] == values["emulator_zero_shot", ""]
    assert values["full_finetuned", "full"] != values["full_zero_shot", ""]


def test_train_all_and_checkpoints_reach_the_stage_and_come_back(random_suite, tmp_path):
    """Everything is trained, two checkpoints are scored, and the better one is evaluated."""
    random_suite.write_text(RANDOM + "settings: [full_zero_shot, full_finetuned]\n")
    choice = ["--set", "train.selection=validation"]
    everything = ["--set", "train.train_all=true", *choice, "-k", "full"]
    done = offsite_bench("run", random_suite, *everything, "--results", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = [read_record(p) for p in (tmp_path / "r").glob("records/*/*.json")]
    trained = next(r for r in records if r.kind == "finetune")
    values = {m.metric: m.value for m in trained.metrics}
    model = load_model(ROOT / "suites" / "models" / "tiny-lm").model
    assert values["trainable_parameters"] == sum(p.numel() for p in model.parameters())
    scores = {int(step): loss for step, loss in trained.facts["selection_loss"].items()}
    assert scores.keys() == {2, 4}
    assert trained.facts["chosen_step"] == min(scores, key=scores.__getitem__)
    # The test split is the validation split here, so the chosen score is the perplexity.
    scored = next(r for r in records if r.params.get("setting") == "full_finetuned")
    assert scored.metrics[0].value == pytest.approx(math.exp(min(scores.values())), rel=1e-4)


def test_a_failing_stage_is_named_and_the_rest_goes_on(random_suite, tmp_path):
    """A learning rate that diverges makes its cases `invalid`; the others have their numbers."""
    overrides = (
        "overrides: [{when: {tuning: {method: lora}, setting: emulator_finetuned}, "
        "train: {learning_rate: 1.0e+30, grad_clip: null}}]\n"
    )
    random_suite.write_text(RANDOM + overrides)
    done = offsite_bench("run", random_suite, "--results", "r", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    assert "1 failed, 2 skipped" in done.stdout
    rows = exported(tmp_path / "r", tmp_path, str(random_suite))
    failed = [r for r in rows if r["outcome"] == "invalid"]
    assert [(r["stage"], r["metric"], r["value"]) for r in failed] == [("tune", "", "")]
    assert "not finite" in failed[0]["reason"]
    full = {r["setting"] for r in rows if r["metric"] == "perplexity" and r["tuning"] == "full"}
    assert full == {"full_finetuned", "emulator_finetuned", "plug_in"}
    markdown = (tmp_path / "r" / "reports" / "random" / "report.md").read_text()
    assert "invalid" in markdown


def processes_of(store: Path) -> list[str]:
    """Command lines of the living processes whose environment names the store."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            try:
                marked = f"KILL_TEST={store}".encode() in (folder / "environ").read_bytes()
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                # It ended while we looked.
                continue
            if marked and state != "Z":
                found.append(command)
    return found


def start(store: Path) -> subprocess.Popen[bytes]:
    """A runner of the smoke profile whose processes can be told by their environment."""
    return subprocess.Popen(
        [*START, "run", *SMOKE, "--results", str(store)],
        cwd=store.parent,
        env={**environment(), "KILL_TEST": str(store)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.slow
def test_twenty_kills_lose_nothing(smoke, tmp_path):
    """SIGKILL at random moments: same numbers, untouched records, no process left behind."""
    import random

    moments = random.Random(0)
    store = tmp_path / "killed"
    kills = 0
    while kills < 20:
        before = {p: p.read_bytes() for p in store.glob("records/*/*.json")}
        logs = len(list(store.glob("attempts/*/*.log")))
        runner = start(store)
        try:
            runner.wait(timeout=moments.uniform(0.5, 15.0))
            # It finished before its moment: take some work away and go on.
            for path in list(store.glob("records/*/*.json"))[::3]:
                path.unlink()
                before.pop(path, None)
            continue
        except subprocess.TimeoutExpired:
            runner.send_signal(signal.SIGKILL)
            runner.wait()
        kills += 1
        time.sleep(5)
        assert processes_of(store) == []
        after = {p: p.read_bytes() for p in store.glob("records/*/*.json")}
        assert {p: after.get(p) for p in before} == before
        started = len(list(store.glob("attempts/*/*.log"))) - logs
        # One log a stage that was started: at most one of them has no record.
        assert started - (len(after) - len(before)) <= 1
    done = offsite_bench("run", *SMOKE, "--results", store, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert quality(exported(store, tmp_path, *SMOKE)) == quality(exported(smoke, tmp_path, *SMOKE))


def test_ctrl_c_ends_the_run_with_130_and_no_process_left(tmp_path):
    """The stage in flight is an interrupted attempt; what was done stays."""
    store = tmp_path / "stopped"
    runner = start(store)
    deadline = time.monotonic() + 120
    while not list(store.glob("attempts/*/*.log")):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=20) == 130
    time.sleep(1)
    assert processes_of(store) == []
    reasons = {read_record(p).outcome for p in store.glob("attempts/*/*.json")}
    assert reasons == {"interrupted"}
