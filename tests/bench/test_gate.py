"""The gate's verbs on a real suite: what is kept, what is judged, and what never passes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from reports.gate.baseline import Baseline
from reports.gate.noise import Noise, Session, Values
from reports.record import read_record
from tests.bench.command import ROOT, offsite_bench

SUITE = ("quickstart", "--profile", "smoke", "-k", "tiny-vit", "--set", "evaluate.examples=64")
TRAINING = "offsite/training.py"
CALL = "on_step(number, here)"
"""What a training does there after every step."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A baseline of the suite's image model, and the store it was measured in."""
    root = tmp_path_factory.mktemp("gate")
    baseline, results = root / "kept" / "b.json", root / "results"
    done = offsite_bench(
        *("baseline", "save", *SUITE, "--baseline", baseline),
        *("--results", results, "--runs", "2"),
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    assert "9 lines" in done.stdout
    return baseline, results


@pytest.fixture
def check(saved: tuple[Path, Path], tmp_path: Path) -> Callable[..., Any]:
    """Judge against the baseline, or what it is changed to; its runs are there already."""

    def judged(change: Callable[[dict[str, Any]], None] = lambda content: None, *options: object):
        baseline, results = saved
        content = json.loads(baseline.read_bytes())
        change(content)
        path = tmp_path / "b.json"
        path.write_text(json.dumps(content))
        return offsite_bench(
            *("check", *SUITE, "--baseline", path, "--results", results, "--runs", "2"),
            *map(str, options),
            cwd=tmp_path,
        )

    return judged


def test_show_says_what_a_baseline_holds(saved: tuple[Path, Path], tmp_path: Path):
    """Lines, runs, items and means."""
    done = offsite_bench("baseline", "show", saved[0], cwd=tmp_path)
    assert done.returncode == 0
    for part in ("throughput_samples", "peak_memory_process", "top1", "64"):
        assert part in done.stdout


def test_the_same_code_has_nothing_that_regressed(check: Callable[..., Any], tmp_path: Path):
    """Accuracy passes; two runs of speed prove nothing, which --strict makes an exit status."""
    done = check(lambda content: None, "--json", "--junit", tmp_path / "j.xml")
    assert done.returncode == 0, done.stderr
    verdicts = json.loads(done.stdout)
    assert {v["verdict"] for v in verdicts if v["metric"] == "top1"} == {"PASS"}
    speed = [v for v in verdicts if v["metric"] == "throughput_samples"]
    assert {v["verdict"] for v in speed} == {"INCONCLUSIVE"}
    assert ElementTree.parse(tmp_path / "j.xml").getroot().get("failures") == "0"
    assert check(lambda content: None, "--strict").returncode == 5


def worse_accuracy(content: dict[str, Any]) -> None:
    """As if all 64 answers had been right."""
    for measured in content["measured"]:
        if measured["line"].get("setting") == "emulator_zero_shot":
            for run in measured["runs"]:
                run["value"] = 1.0
                run["items"]["values"] = "//////////8="


def test_lost_answers_of_the_same_weights_are_a_regression(check: Callable[..., Any]):
    """Exit 4, and the line that lost says how much."""
    done = check(worse_accuracy, "--json")
    assert done.returncode == 4, done.stdout
    worst = json.loads(done.stdout)[0]
    assert (worst["verdict"], worst["setting"]) == ("REGRESSED", "emulator_zero_shot")


def test_workflows_get_annotations_and_a_summary(
    check: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """One error line for what regressed, and the table on the page of the run."""
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    done = check(worse_accuracy)
    assert "::error title=REGRESSED%3A top1::" in done.stdout
    assert "| REGRESSED |" in summary.read_text()


def another_machine(content: dict[str, Any]) -> None:
    """Speed of other hardware."""
    content["machine"] = "other"


def another_batch_size(content: dict[str, Any]) -> None:
    """Trained otherwise."""
    for measured in content["measured"]:
        if measured["line"]["stage"] == "tune":
            measured["setup"]["train"]["batch_size"] = 7


def another_case(content: dict[str, Any]) -> None:
    """What the suite no longer has."""
    extra = json.loads(json.dumps(content["measured"][0]))
    extra["line"]["task"] = "gone"
    content["measured"].append(extra)


@pytest.mark.parametrize(
    ("change", "status", "word", "says"),
    [
        (another_machine, 5, "INCONCLUSIVE", "another machine"),
        (another_batch_size, 5, "INCONCLUSIVE", "batch_size 7 became"),
        (another_case, 3, "MISSING", "not measured"),
    ],
)
def test_what_cannot_be_compared_never_passes(
    check: Callable[..., Any], change: Callable[..., None], status: int, word: str, says: str
):
    """Another machine, another batch size, a missing case: each line says so."""
    done = check(change, "--strict", "--json")
    assert done.returncode == status
    assert any(v["verdict"] == word and says in v["reason"] for v in json.loads(done.stdout))


def test_a_future_baseline_is_refused_before_anything_runs(check: Callable[..., Any]):
    """One line, exit 2."""
    done = check(lambda content: content.update(schema=99))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "schema 99" in done.stderr


@pytest.mark.parametrize("place", ["b.json/x.xml", "."])
def test_a_file_that_cannot_be_written_is_refused_before_anything_runs(
    check: Callable[..., Any], tmp_path: Path, place: str
):
    """Hours of runs would end without their verdicts."""
    done = check(lambda content: None, "--junit", tmp_path / place)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / place) in done.stderr


def calibrated(content: dict[str, Any]) -> None:
    """As saved on a machine that was calibrated on four days, and hardly drifts."""
    measured = Baseline.model_validate(content).measured
    timed = [each for each in measured if each.line.stage != "evaluate"]
    sessions = []
    for day, mean in enumerate((1.0, 1.001, 0.999, 1.0005)):
        lines = tuple(
            Values(line=each.line, setup=each.measured_how, values=(mean, mean * 1.001))
            for each in timed
        )
        sessions.append(Session(started=f"2026-01-0{day + 1}", commit="c", lines=lines))
    noise = Noise(machine=content["machine"], sessions=tuple(sessions))
    content["noise"] = noise.model_dump(mode="json", by_alias=True)


def test_a_baseline_brings_the_noise_of_its_machine(check: Callable[..., Any]):
    """Beside results that were never calibrated: the drift is known all the same."""
    told = []
    for change in (lambda content: None, calibrated):
        verdicts = json.loads(check(change, "--json").stdout)
        speed = [each for each in verdicts if each["metric"] == "throughput_samples"]
        told.append(["may drift as much" in each["reason"] for each in speed])
    assert told == [[True, True], [False, False]]


def of_scores(content: dict[str, Any]) -> None:
    """As `baseline save --scores` would have saved it."""
    content["measured"] = [
        each for each in content["measured"] if each["line"]["stage"] == "evaluate"
    ]
    content["only_scores"] = True


def test_a_baseline_of_scores_has_no_say_in_speed(check: Callable[..., Any]):
    """Nothing is inconclusive that nobody asked for, with --strict neither."""
    done = check(of_scores, "--strict", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert {each["stage"] for each in json.loads(done.stdout)} == {"evaluate"}


@pytest.mark.parametrize("change", [{"profile": None}, {"suite": "another"}])
def test_a_baseline_of_another_suite_is_refused_before_anything_runs(
    check: Callable[..., Any], change: dict[str, Any]
):
    """A profile that was forgotten, or the wrong file: hours would end in nothing."""
    done = check(lambda content: content.update(change))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "not of quickstart --profile smoke" in done.stderr


def test_calibrate_keeps_sessions(saved: tuple[Path, Path], tmp_path: Path):
    """Each call is a session of new runs; the table says how noisy the machine is."""
    results = tmp_path / "results"
    for number in (1, 2):
        done = offsite_bench(
            *("calibrate", *SUITE, "--results", results, "--runs", "4"), cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        (path,) = (results / "noise").glob("*.json")
        sessions = json.loads(path.read_text())["sessions"]
        assert [len(session["lines"][0]["values"]) for session in sessions] == [4] * number
    assert "throughput_samples" in done.stdout
    assert "of the difference of two days" in " ".join(done.stdout.split())
    kept = ("--results", results, "--baseline", tmp_path / "b.json", "--runs", "2")
    assert offsite_bench("baseline", "save", *SUITE, *kept, cwd=tmp_path).returncode == 0
    noise = json.loads((tmp_path / "b.json").read_bytes())["noise"]
    assert len(noise["sessions"]) == 2
    shown = offsite_bench("baseline", "show", tmp_path / "b.json", cwd=tmp_path)
    assert "2 sessions of calibration" in shown.stdout


def clone_of(root: Path, clone: Path) -> Path:
    """A clone of a checkout with what is not committed there, to be changed."""
    subprocess.run(["git", "clone", "-q", str(root), str(clone)], check=True)
    for name in ("bench", "offsite", "reports", "suites"):
        shutil.rmtree(clone / name)
        shutil.copytree(root / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"))
    git(clone, "add", "-A")
    git(clone, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "as", "--allow-empty")
    return clone


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A clone of this checkout."""
    return clone_of(ROOT, tmp_path / "clone")


def git(folder: Path, *arguments: str) -> None:
    """Run git there."""
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def slow_down(clone: Path, seconds: float) -> None:
    """Make every training step take longer, without touching any version."""
    path = clone / TRAINING
    text = path.read_text()
    assert text.count(CALL) == 1
    path.write_text(text.replace(CALL, f"(__import__('time').sleep({seconds}), {CALL})"))


def run_there(clone: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The clone's own command line."""
    start = [sys.executable, "-P", "-c", "from bench.cli import main; main()"]
    return subprocess.run(
        [*start, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(clone)},
        cwd=clone.parent,
        check=False,
    )


@pytest.mark.slow
def test_a_slower_step_regresses_though_no_version_and_no_store_changed(
    checkout: Path, tmp_path: Path
):
    """Records of the code before are there with the same digests, and are no evidence."""
    kept = ("--results", tmp_path / "results", "--baseline", tmp_path / "b.json", "--runs", "8")
    first = run_there(checkout, "baseline", "save", *SUITE, *kept)
    assert first.returncode == 0, first.stderr
    slow_down(checkout, 1.0)
    done = run_there(checkout, "check", *SUITE, *kept, "--json")
    assert done.returncode == 4, done.stdout + done.stderr
    slow = {
        v["stage"]
        for v in json.loads(done.stdout)
        if v["metric"] == "throughput_samples" and v["verdict"] == "REGRESSED"
    }
    assert slow == {"tune", "finetune"}


@pytest.mark.slow
def test_every_run_trains_on_the_emulator_of_its_own_code(checkout: Path, tmp_path: Path):
    """The store is kept, and the emulator that the code before built has the same digest."""
    results = tmp_path / "results"
    kept = ("--results", results, "--baseline", tmp_path / "b.json", "--runs", "3")
    suite = ("quickstart", "--profile", "smoke", "-k", "tiny-vit and s0")
    assert run_there(checkout, "baseline", "save", *suite, *kept).returncode == 0
    path = checkout / "offsite/compression/layer_choice.py"
    text, drops = path.read_text(), "evenly_spaced(total, parameters.keep, parameters.rounding)"
    assert text.count(drops) == 1
    path.write_text(text.replace(drops, "range(total)"))
    run_there(checkout, "check", *suite, *kept)
    operations: dict[str, list[float]] = defaultdict(list)
    for record in map(read_record, sorted((results / "records").glob("*/*.json"))):
        if record.kind == "tune":
            code = record.environment["code"]
            operations[code] += [
                each.value for each in record.metrics if each.metric == "flops_per_step"
            ]
    assert sorted(map(len, operations.values())) == [3, 3]
    assert [len(set(each)) for each in operations.values()] == [1, 1]
    assert len({value for each in operations.values() for value in each}) == 2


@pytest.mark.slow
def test_code_that_cannot_train_is_missing_results(checkout: Path, tmp_path: Path):
    """Exit 3, every line with its reason, and nothing that could be kept as a baseline."""
    kept = ("--results", tmp_path / "results", "--baseline", tmp_path / "b.json", "--runs", "1")
    suite = (*SUITE, "-k", "tiny-vit and s0")
    assert run_there(checkout, "baseline", "save", *suite, *kept).returncode == 0
    path = checkout / TRAINING
    path.write_text(path.read_text().replace(CALL, "1 / 0"))
    done = run_there(checkout, "check", *suite, *kept, "--json")
    assert done.returncode == 3, done.stdout + done.stderr
    verdicts = json.loads(done.stdout)
    assert {v["verdict"] for v in verdicts if v["stage"] != "evaluate"} == {"MISSING"}
    assert all("division by zero" in v["reason"] for v in verdicts if v["stage"] == "finetune")
    assert {v["verdict"] for v in verdicts if v["setting"] == "full_zero_shot"} == {"PASS"}
    again = run_there(checkout, "baseline", "save", *suite, *kept)
    assert again.returncode == 3
    assert "division by zero" in again.stderr


@pytest.mark.slow
def test_ab_sees_what_is_not_committed(checkout: Path, tmp_path: Path):
    """The last commit against the checkout with a slower step, a file of which is new."""
    slow_down(checkout, 0.2)
    (checkout / "offsite" / "unheard.py").write_text('"""New."""\n')
    done = run_there(
        checkout,
        *("ab", *SUITE, "--base", "HEAD", "--results", tmp_path / "results", "--json"),
    )
    assert done.returncode == 4, done.stdout + done.stderr
    verdicts = json.loads(done.stdout)
    assert {v["verdict"] for v in verdicts if v["metric"] == "throughput_samples"} == {"REGRESSED"}
    assert {v["verdict"] for v in verdicts if v["metric"] == "top1"} == {"PASS"}
    listed = subprocess.run(
        ["git", "-C", str(checkout), "worktree", "list"], capture_output=True, text=True, check=True
    )
    assert len(listed.stdout.splitlines()) == 1
