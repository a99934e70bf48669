"""pytest-benchmark's JSON, against pytest-benchmark itself."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pytest_benchmark.stats import Stats

from reports.errors import ReportError
from reports.exchange.pytest_benchmark import pytest_benchmark
from reports.exchange.shown import Shown
from tests.reports.exchange.left import STEPS, fill_failures, fill_left, shown
from tests.reports.synthetic_store import MACHINE, MIB, SyntheticStore, fill

NAME = "finetune[m full t]"


def written(folder: Path, **changes: object) -> Path:
    """A store's export as a file."""
    store = SyntheticStore(folder)
    fill_left(store, **changes)
    path = folder / f"{folder.name}.json"
    path.write_text(pytest_benchmark(shown(folder, store)))
    return path


def test_its_own_compare_reads_it(tmp_path: Path):
    """A row a training and file, the faster first, and in a table of its CSV."""
    files = [written(tmp_path / "a"), written(tmp_path / "b", slower=1.5)]
    table = tmp_path / "compared.csv"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest_benchmark", "compare", *map(str, files)),
            *("--columns=min,median,max,rounds", "--sort=min", f"--csv={table}"),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=True,
    )
    assert "benchmark 'finetune': 2 tests" in done.stdout
    rows = re.findall(rf"^{re.escape(NAME)} \(\S*/([ab])\) +([\d.]+)", done.stdout, re.MULTILINE)
    assert rows == [("a", "400.0000"), ("b", "600.0000")]
    assert "Failed to load" not in done.stderr
    found = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(row["median"]) for row in found] == pytest.approx([0.5, 0.75])
    assert [row["rounds"] for row in found] == ["3", "3"]


@pytest.mark.parametrize(
    "steps", [STEPS, (0.5,), (0.1, 0.2), (3, 1, 4, 1, 5, 2, 6, 11), (9, 2, 3, 60, 4)]
)
def test_statistics_are_as_it_reckons_them(
    tmp_path: Path, steps: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
):
    """Quartiles, outliers and all, for odd and even numbers of runs and for one."""
    monkeypatch.setattr("tests.reports.exchange.left.STEPS", steps)
    monkeypatch.setattr("tests.reports.exchange.left.PEAKS", [1.0] * len(steps))
    theirs = Stats()
    for step in steps:
        theirs.update(step)
    (found,) = json.loads(written(tmp_path).read_text())["benchmarks"]
    ours = found["stats"]
    assert ours["data"] == list(steps)
    assert {key: ours[key] for key in theirs.fields} == pytest.approx(theirs.as_dict())


def test_labels_and_memory_stand_beside_the_time(tmp_path: Path):
    """Enough to know what was trained, where, and by which code."""
    content = json.loads(written(tmp_path).read_text())
    (found,) = content["benchmarks"]
    assert found["fullname"] == f"synthetic::{NAME}"
    assert found["params"] == {"model": "m", "tuning": "full", "task": "t"}
    assert found["extra_info"]["peak_memory_process"] == 110 * MIB
    assert found["extra_info"]["seconds_per"] == "step"
    assert content["machine_info"]["cpu"] == {"brand_raw": "Test CPU", "count": 2}
    assert content["commit_info"]["id"] == "0123456789abcdef"
    assert content["commit_info"]["dirty"] is True
    assert content["datetime"] == "2026-01-01T00:00:00Z"


def test_without_a_step_it_is_seconds_a_sample(tmp_path: Path):
    """Said beside it, since the two are not to be compared."""
    (found,) = json.loads(written(tmp_path, with_step=False).read_text())["benchmarks"]
    assert found["stats"]["data"] == pytest.approx([step / 4 for step in STEPS])
    assert found["extra_info"]["seconds_per"] == "sample"


def test_records_of_two_commits_have_none(tmp_path: Path):
    """What two versions of the code measured is the work of neither."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    found = shown(tmp_path, store)
    (run,) = (run for run in found.runs if run.planned.kind == "finetune")
    first, *others = run.records
    another = first.model_copy(update={"environment": {**first.environment, "commit": "another"}})
    mixed = replace(run, records=(another, *others))
    found = replace(found, runs=[mixed if each is run else each for each in found.runs])
    assert json.loads(pytest_benchmark(found))["commit_info"]["id"] == "unknown"


def test_only_this_machines_speed_is_shown(tmp_path: Path):
    """Another's is there, and no part of it."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    elsewhere = SyntheticStore(tmp_path, machine="elsewhere")
    fill_left(elsewhere, slower=3.0)
    (found,) = json.loads(pytest_benchmark(shown(tmp_path, store, MACHINE)))["benchmarks"]
    assert found["stats"]["data"] == list(STEPS)
    (found,) = json.loads(pytest_benchmark(shown(tmp_path, store, "elsewhere")))["benchmarks"]
    assert found["stats"]["data"] == pytest.approx([3 * step for step in STEPS])
    with pytest.raises(ReportError, match=r"several machines.*cpu0aa11bb22, elsewhere; --format"):
        pytest_benchmark(shown(tmp_path, store))


def test_nothing_timed_is_nothing_to_show(tmp_path: Path):
    """A suite that failed, and one that only evaluates."""
    store = SyntheticStore(tmp_path)
    fill_failures(store)
    assert pytest_benchmark(shown(tmp_path, store)) == ""
    assert pytest_benchmark(Shown(suite="s", runs=(), machine=None)) == ""


def test_seeds_are_rounds_of_one_training(tmp_path: Path):
    """Of a suite with several models those that have a time of samples or steps."""
    store = SyntheticStore(tmp_path)
    fill(store)
    found = json.loads(pytest_benchmark(shown(tmp_path, store)))["benchmarks"]
    assert [each["name"] for each in found] == [
        "finetune[tiny-vit full digit_pairs]",
        "tune[tiny-vit 1-4-1 layer_drop(keep=4) full digit_pairs]",
    ]
    assert [each["stats"]["rounds"] for each in found] == [3, 3]
