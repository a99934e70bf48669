"""pytest-benchmark's files as a baseline: a run each, and never what cannot be compared."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from reports.errors import ReportError
from reports.gate.baseline import read_baseline
from reports.gate.benchmarks import read_benchmarks
from reports.gate.judge import judge
from reports.gate.rules import SPEED, rule_of


def run(number: int, medians: dict[str, float]) -> dict[str, Any]:
    """A file as pytest-benchmark 5.3 writes it, with three rounds around each median."""
    return {
        "machine_info": {
            "node": f"host-{number}",
            "processor": "",
            "machine": "x86_64",
            "python_implementation": "CPython",
            "python_implementation_version": "3.11.7",
            "python_version": "3.11.7",
            "release": f"6.1.{number}",
            "system": "Linux",
            "cpu": {
                "brand_raw": "Test CPU",
                "arch": "X86_64",
                "count": 2,
                "hz_actual": [2_000_000_000 + number, 0],
            },
        },
        "commit_info": {"id": "c0ffee" * 6, "dirty": False, "branch": "main"},
        "benchmarks": [
            {
                "group": "sorting",
                "name": name,
                "fullname": f"bench/test_x.py::{name}",
                "params": None,
                "extra_info": {},
                "options": {"timer": "perf_counter", "disable_gc": False, "confidence": None},
                "stats": {
                    "data": [value / 2, value, 4 * value],
                    "min": value / 2,
                    "median": value,
                    "mean": 11 * value / 6,
                    "rounds": 3,
                    "iterations": number,
                },
            }
            for name, value in medians.items()
        ],
        "datetime": f"2026-01-01T00:00:{number:02}+00:00",
        "version": "5.3.1",
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., list[Path]]:
    """Files of several runs."""

    def written(*contents: dict[str, Any], folder: str = "runs") -> list[Path]:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        paths = [place / f"{number}.json" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_text(json.dumps(content))
        return paths

    return written


Write = Callable[..., list[Path]]


def test_a_file_is_one_run_of_every_benchmark(write: Write, tmp_path: Path):
    """Its value is the median of its rounds, in seconds, and judged as a speed."""
    paths = write(run(1, {"test_a": 0.5, "test_b": 2.0}), run(2, {"test_b": 2.5, "test_a": 0.25}))
    found = read_benchmarks(paths)
    assert [each.line.name for each in found.measured] == [
        "sorting bench/test_x.py::test_a benchmark seconds",
        "sorting bench/test_x.py::test_b benchmark seconds",
    ]
    assert [run.value for run in found.measured[0].runs] == [0.5, 0.25]
    assert {(each.unit, each.better) for each in found.measured} == {("s", "lower")}
    assert found.measured[0].setup == {"timer": "perf_counter", "disable_gc": False}
    assert rule_of("seconds") is SPEED
    assert (found.suite, found.commit) == ("pytest-benchmark", "c0ffee" * 6)
    path = tmp_path / "b.json"
    path.write_bytes(found.to_bytes())
    assert read_baseline(path) == found


def test_a_folder_is_all_its_files(write: Write):
    """In the order of their names; several places add up."""
    one = write(run(1, {"a": 1.0}), run(2, {"a": 2.0}))
    (other,) = write(run(3, {"a": 3.0}), folder="more")
    found = read_benchmarks([one[0].parent, other])
    assert [run.value for run in found.measured[0].runs] == [1.0, 2.0, 3.0]


def test_a_machine_is_known_by_what_decides_speed(write: Write):
    """Host names, kernels and clocks differ from run to run of one; another processor does not."""
    first = read_benchmarks(write(run(1, {"a": 1.0}))).machine
    assert read_benchmarks(write(run(2, {"a": 1.0}))).machine == first
    for part in ("brand_raw", "arch", "count"):
        content = run(3, {"a": 1.0})
        content["machine_info"]["cpu"][part] = 3 if part == "count" else "other"
        assert read_benchmarks(write(content)).machine != first
    for part in ("system", "machine", "python_implementation", "python_implementation_version"):
        content = run(3, {"a": 1.0})
        content["machine_info"][part] = "other"
        assert read_benchmarks(write(content)).machine != first


def test_another_machine_is_refused_as_for_suites(write: Write):
    """However much faster or slower it is."""
    was = read_benchmarks(write(*(run(n, {"a": 1.0 + n / 1000}) for n in range(6))))
    runs = [run(n, {"a": 9.0 + n / 1000}) for n in range(6)]
    for each in runs:
        each["machine_info"]["cpu"]["brand_raw"] = "Other CPU"
    (verdict,) = judge(was, read_benchmarks(write(*runs)))
    assert (verdict.word, "another machine" in verdict.sentence) == ("INCONCLUSIVE", True)


def test_no_commit_is_not_a_commit(write: Write):
    """Outside of a checkout pytest-benchmark has a word for it."""
    for word in ("unversioned", "unknown"):
        content = run(1, {"a": 1.0})
        content["commit_info"]["id"] = word
        assert read_benchmarks(write(content)).commit == ""


def test_one_run_with_local_changes_makes_all_of_them_that(write: Write):
    """As for suites."""
    runs = [run(number, {"a": 1.0}) for number in range(2)]
    assert not read_benchmarks(write(*runs)).dirty
    runs[1]["commit_info"]["dirty"] = True
    assert read_benchmarks(write(*runs)).dirty


def changed(content: dict[str, Any], where: str, value: object) -> dict[str, Any]:
    """The same with something else at a dotted place."""
    place: Any = content
    *parts, last = where.split("/")
    for part in parts:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value
    return content


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("commit_info/id", "decaf", "commit decaf, not c0ffee"),
        ("machine_info/cpu/count", 64, "machine.cpu.count 64, not 2"),
        ("machine_info/system", "Darwin", "machine.system Darwin, not Linux"),
        ("benchmarks/0/fullname", "new", "only one has bench/test_x.py::a"),
        ("benchmarks/0/options", {"timer": "t"}, r"a\.timer t, not perf_counter"),
        ("datetime", "2026-01-01T00:00:01+00:00", r"1\.json holds the same run as .*0\.json"),
    ],
)
def test_runs_of_something_else_are_not_mixed(write: Write, where: str, value: object, says: str):
    """Other code, another machine, other benchmarks, another timer; one run copied."""
    paths = write(run(1, {"a": 1.0}), changed(run(2, {"a": 1.0}), where, value))
    with pytest.raises(ReportError, match=says) as error:
        read_benchmarks(paths)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("benchmarks", [], "benchmarks: .*at least 1"),
        ("benchmarks/0/stats/median", float("nan"), "median: .*finite"),
        ("benchmarks/0/stats/median", float("inf"), "median: .*finite"),
        ("benchmarks/0/stats/median", 0.0, "median: .*greater than 0"),
        ("benchmarks/0/stats/median", True, "median"),
        ("benchmarks/0/stats/median", "1.0", "median"),
        ("benchmarks/0/stats", {}, r"benchmarks\.0\.stats\.median: Field required"),
        ("benchmarks/1/fullname", "bench/test_x.py::a", "test_x.py::a is there 2 times"),
        ("machine_info", {}, "machine_info"),
        ("datetime", None, "datetime"),
    ],
)
def test_what_is_no_measurement_is_refused(write: Write, where: str, value: object, says: str):
    """One line with the file and the place in it."""
    paths = write(changed(run(1, {"a": 1.0, "b": 1.0}), where, value))
    with pytest.raises(ReportError, match=says) as error:
        read_benchmarks(paths)
    assert str(paths[0]) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[", "[]", "null", "3", "{}", "[" * 100_000, "\ud800"])
def test_no_json_at_all_is_refused(tmp_path: Path, text: str):
    """Half a file and other JSON."""
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ReportError, match="not a run of pytest-benchmark"):
        read_benchmarks([path])


def test_no_file_says_what_writes_one(tmp_path: Path):
    """A name mistyped, and an empty folder."""
    with pytest.raises(ReportError, match="--benchmark-json"):
        read_benchmarks([tmp_path / "none.json"])
    with pytest.raises(ReportError, match=r"no \*\.json"):
        read_benchmarks([tmp_path])
