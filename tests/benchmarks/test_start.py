"""How long a user waits for an answer that needs no model: `tox -e bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tests.bench.command import START, environment
from tests.bench.worlds import SUITE

SEEDS = ", ".join(str(seed) for seed in range(50))
CASES = 200


def command(*arguments: str) -> str:
    """Run a command line to its end; returns what it printed."""
    done = subprocess.run(
        [*START, *arguments], capture_output=True, text=True, check=True, env=environment()
    )
    return done.stdout


@pytest.mark.benchmark(group="start")
def test_help(benchmark: BenchmarkFixture):
    """`--help` answers; the aim is 0.4 s."""
    assert "Usage" in benchmark(command, "--help")


@pytest.mark.benchmark(group="start")
def test_python_alone(benchmark: BenchmarkFixture):
    """What an interpreter takes to start: the floor of the others."""
    benchmark(subprocess.run, [sys.executable, "-c", ""], check=True)


@pytest.mark.benchmark(group="start")
def test_plan_of_a_large_suite(benchmark: BenchmarkFixture, tmp_path: Path):
    """`plan` of 200 cases answers; the aim is 3 s."""
    from tests.bench.command import ROOT

    path = tmp_path / "large.yaml"
    model = str(ROOT / "suites" / "models" / "tiny-lm")
    path.write_text(SUITE.replace("org/lm", model).replace("[0, 1, 2]", f"[{SEEDS}]"))
    assert f"{CASES} cases" in benchmark(command, "plan", str(path))
