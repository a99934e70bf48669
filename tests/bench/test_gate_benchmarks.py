"""`baseline save` and `check` with pytest-benchmark's files, made by pytest-benchmark itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import call
from tests.reports.gate.test_benchmarks import run

RUNS = 6
TURNS = 1_000
BENCHMARKS = """
import os

import pytest

PACE = float(os.environ["PACE"])
elapsed = 0.0


def clock():
    return elapsed


def busy(turns):
    global elapsed
    total = 0
    for turn in range(turns):
        total += turn * turn
        elapsed += PACE
    return total


@pytest.mark.benchmark(timer=clock)
@pytest.mark.parametrize("part", ["same", "changed"])
def test_busy(benchmark, part):
    turns = int(os.environ["TURNS"]) if part == "changed" else {TURNS}
    benchmark.pedantic(busy, args=(turns,), rounds=5, warmup_rounds=1)
"""
"""The clock counts turns, each process at a pace of its own: a busy machine changes no verdict."""


def measure(folder: Path, target: Path, turns: int, pace: float) -> None:
    """One run in a process of its own, untouched by this checkout's settings."""
    target.parent.mkdir(exist_ok=True)
    own = {"TURNS": str(turns), "PACE": str(pace), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    # pytest-benchmark measures nothing where it takes itself for a worker of xdist.
    inherited = {name: each for name, each in os.environ.items() if "XDIST" not in name}
    subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "pytest_benchmark.plugin", "bench_busy.py", f"--benchmark-json={target}"),
        ],
        cwd=folder,
        env={**inherited, **own},
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs before and after a loop became half as long again; processes differ by 2 %."""
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "bench_busy.py").write_text(BENCHMARKS.replace("{TURNS}", str(TURNS)))
    for number in range(RUNS):
        pace = 1e-6 * (1 + 0.004 * number)
        measure(folder, folder / "before" / f"{number}.json", TURNS, pace)
        measure(folder, folder / "after" / f"{number}.json", TURNS * 3 // 2, pace)
    return folder


@pytest.mark.slow
def test_a_longer_loop_regressed_and_an_equal_one_did_not(
    measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    """A folder a side."""
    monkeypatch.chdir(tmp_path)
    kept = ["--baseline", str(tmp_path / "kept" / "b.json")]
    assert call(["baseline", "save", "--from-benchmarks", str(measured / "before"), *kept]) == 0
    assert "2 lines" in capsys.readouterr().out
    assert call(["baseline", "show", kept[1]]) == 0
    assert "bench_busy.py" in capsys.readouterr().out
    after = ["check", "--from-benchmarks", str(measured / "after"), *kept, "--json"]
    assert call(after) == 4
    words = {each["task"]: each["verdict"] for each in json.loads(capsys.readouterr().out)}
    assert words["bench_busy.py::test_busy[changed]"] == "REGRESSED"
    assert words["bench_busy.py::test_busy[same]"] in ("PASS", "INCONCLUSIVE")
    assert not (tmp_path / "results").exists()


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Six files that differ by a thousandth each, in the working folder, as options."""
    monkeypatch.chdir(tmp_path)
    options = []
    for number in range(RUNS):
        content = run(number, {"test_a": 1.0 + number / 1000, "test_b": 2.0 - number / 1000})
        Path(f"{number}.json").write_text(json.dumps(content))
        options += ["--from-benchmarks", f"{number}.json"]
    return options


KEPT = ["--baseline", "kept.txt"]


@pytest.fixture
def saved(runs: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The same files, with a baseline of them."""
    assert call(["baseline", "save", *runs, *KEPT]) == 0
    assert capsys.readouterr().out == "kept.txt: 2 lines, commit c0ffeec0ffee\n"
    return runs


def test_files_are_judged_against_those_before(saved, capsys):
    """Twice as slow is worse; the other is as it was, and says how little that proves."""
    for number in range(RUNS):
        content = run(10 + number, {"test_a": 2.0 + number / 500, "test_b": 2.0 - number / 1000})
        Path(f"{number}.json").write_text(json.dumps(content))
    assert call(["check", *saved, *KEPT, "--junit", "j.xml"]) == 4
    told = " ".join(capsys.readouterr().out.split())
    assert "pytest-benchmark against c0ffeec0ffee: 1 REGRESSED, 1 INCONCLUSIVE" in told
    assert "test_a" in told
    assert 'failures="1"' in Path("j.xml").read_text()


def test_a_benchmark_that_is_gone_is_missing(saved, capsys):
    """Exit 3."""
    for number in range(RUNS):
        Path(f"{number}.json").write_text(json.dumps(run(number, {"test_b": 2.0})))
    assert call(["check", *saved, *KEPT, "--json"]) == 3
    verdicts = json.loads(capsys.readouterr().out)
    (missing,) = (each for each in verdicts if each["verdict"] == "MISSING")
    assert missing["task"] == "bench/test_x.py::test_a"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check"], "give a SUITE, or --from-benchmarks"),
        (["baseline", "save"], "give a SUITE, or --from-benchmarks"),
        (["check", "--from-benchmarks", "0.json", "1.json"], "'1.json' beside --from-benchmarks"),
        (["baseline", "save", "quickstart", "--from-benchmarks", "0.json"], "'quickstart' beside"),
        (["check", "--from-benchmarks", "0.json", "-k", "x"], "-k is of a suite"),
        (["check", "--from-benchmarks", "0.json", "--runs", "9"], "--runs is of a suite"),
        (["baseline", "save", "--from-benchmarks", "0.json", "--scores"], "--scores is of a suite"),
        (["check", "--from-benchmarks", "none.json"], "none.json: No such file"),
        (["check", "--from-benchmarks", "kept.txt"], "not a run of pytest-benchmark"),
        (["check", "quickstart"], "kept.txt is a baseline of benchmarks"),
    ],
)
def test_what_cannot_be_meant_is_one_line(saved, capsys, arguments: list[str], says: str):
    """Exit 2, and nothing is measured or written."""
    before = Path("kept.txt").read_bytes()
    assert call([*arguments, *KEPT]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert says in told.err
    assert told.err.count("\n") == 1
    assert Path("kept.txt").read_bytes() == before
    assert not Path("results").exists()


def test_a_suite_is_not_judged_by_benchmarks(saved, capsys):
    """The other way round: a baseline of a suite, which its lines tell, whatever it is called."""
    content = json.loads(Path("kept.txt").read_bytes())
    for measured in content["measured"]:
        measured["line"]["stage"] = "tune"
    Path("kept.txt").write_text(json.dumps(content))
    assert call(["check", *saved, *KEPT]) == 2
    assert "kept.txt is a baseline of pytest-benchmark" in capsys.readouterr().err
