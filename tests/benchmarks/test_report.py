"""How long a report of 10,000 records takes, and how much memory: `tox -e bench`.

The aims are 5 s and 500 MB, imports and all. Every round is a process of its own, so that nothing
is cached. The memory is that of all its processes together, a shared page counted once, seen in a
round that is not timed: to look takes time.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import psutil
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.environment import facts as environment_facts
from reports.record import TRAININGS, Metric, Record
from tests.bench.command import ROOT, environment
from tests.reports.large_store import fill_large
from tests.reports.synthetic_store import SyntheticStore

SHAPE = {"models": 4, "tasks": 8, "compressions": 5, "tunings": 4, "seeds": 5}
TIMED = """\
import json, sys, time

started = time.perf_counter()
from pathlib import Path
{imports}

results, plan, folder = map(Path, sys.argv[1:])
imported = time.perf_counter()
{work}
print(json.dumps({{
    "records": found,
    "imports_s": imported - started,
    "work_s": time.perf_counter() - imported,
    "cpu_s": time.process_time(),
    **parts,
}}))
"""
READ = TIMED.format(
    imports="from reports.results import read_plan, read_stages",
    work="""\
runs = read_stages(results, read_plan(plan))
found, parts = sum(len(run.found) for run in runs), {}
""",
)
REPORT = TIMED.format(
    imports="""\
from reports.render import write_report
from reports.report import build_report
from reports.results import read_plan
""",
    work="""\
report = build_report(results, read_plan(plan))
built = time.perf_counter()
files = write_report(report, folder)
found = report.counts.ok
parts = {
    "build_s": built - imported,
    "write_s": time.perf_counter() - built,
    "files": len(files),
    "html_mb": (folder / "report.html").stat().st_size / 1e6,
}
""",
)


class MeasuredStore(SyntheticStore):
    """A store with as much in its records as real ones have: environments, 4 KB of a training."""

    def record(self, digest: str, kind: str, *metrics: Metric, **fields: object) -> Record:
        """A record that says where its memory was measured and its time went."""
        if kind in TRAININGS:
            fields["facts"] = _facts()
        return super().record(digest, kind, *metrics, environment=_environment(), **fields)


@cache
def _environment() -> dict[str, object]:
    return environment_facts()


def _facts() -> dict[str, object]:
    none = {"grade": "unmeasured", "reason": "no NVIDIA driver", "value": None}
    sources = dict.fromkeys(
        ("accounting", "allocated", "device", "gpu_process", "process", "reserved"), none
    )
    host = {"grade": "exact", "reason": None, "value": 1_740_562_432}
    phase = {
        "energy": {"grade": "unmeasured", "joules": None, "reason": "no energy counter (RAPL)"},
        "neighbours": [],
        "sampling": {"cores": 2, "cpu_seconds": 0.034260534, "hz": 18.615872568311158},
        "seconds": 0.5367475490002107,
        "sources": {**sources, "host": host, "host_sampled": host},
        "violations": [],
    }
    windows = [{"seconds": 1.25 + step / 7, "samples": 8, "tokens": 4096} for step in range(12)]
    return {
        "steps": 60,
        "examples": 480,
        "mean_loss": 3.059505860010782,
        "memory": {"phases": dict.fromkeys(("load", "build", "train"), phase)},
        "timing": {"end_to_end_seconds": 14.647167881999849, "windows": windows},
    }


@pytest.fixture(scope="module")
def large(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, str, str]:
    """Results, plan and the report's folder."""
    if not request.config.getoption("benchmark_enable"):
        pytest.skip("writes 10,000 records first; `tox -e bench` runs it")
    root = tmp_path_factory.mktemp("large")
    plan = fill_large(MeasuredStore(root / "results"), **SHAPE)
    return str(root / "results"), str(plan), str(root / "report")


@pytest.mark.benchmark(group="report of 10,000 records")
@pytest.mark.parametrize("part", ["read", "report"])
def test_large_report(benchmark: BenchmarkFixture, large: tuple[str, str, str], part: str):
    """Seconds and megabytes of reading alone and of the whole, in every format."""
    script = {"read": READ, "report": REPORT}[part]
    figures = json.loads(benchmark.pedantic(timed, (script, *large), rounds=3))
    figures["peak_mb"] = peak(script, *large) / 1e6
    benchmark.extra_info.update(figures)
    told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    sys.stdout.write(f"\n{part}: {told}\n")
    assert figures["records"] > 10_000


def timed(script: str, *paths: str) -> str:
    """Run in a process of its own; returns what it measured, as JSON."""
    with started(script, *paths) as process:
        told, _ = process.communicate()
    assert process.returncode == 0
    return told


def peak(script: str, *paths: str) -> int:
    """Bytes of all processes of a run, at the highest that is seen."""
    highest = 0
    with started(script, *paths) as process:
        while process.poll() is None:
            # A process may end while it is looked at.
            with suppress(psutil.NoSuchProcess, OSError):
                first = psutil.Process(process.pid)
                everyone = [first, *first.children(recursive=True)]
                highest = max(highest, sum(_resident(each.pid) for each in everyone))
            time.sleep(0.02)
    assert process.returncode == 0
    return highest


def _resident(pid: int) -> int:
    """Of a shared page the process's share."""
    told = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (line,) = (line for line in told.splitlines() if line.startswith("Pss:"))
    return int(line.split()[1]) * 1024


def started(script: str, *paths: str) -> subprocess.Popen[str]:
    """A process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *paths],
        stdout=subprocess.PIPE,
        text=True,
        env=environment() | {"PYTHONPATH": str(ROOT)},
    )
