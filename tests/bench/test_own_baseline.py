"""The baseline this project checks itself against: it fits the suite, and broken code fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from bench.cli.planned import lay_out
from bench.plan import Stage
from reports.gate.baseline import Baseline, read_baseline
from reports.gate.rules import FALSE_ALARMS
from reports.record import OF_A_RUN
from tests.bench.command import ROOT
from tests.bench.test_gate import run_there

BASELINE = ROOT / ".ci" / "baselines" / "quickstart-smoke.json"
SETS = ["matrix.0.seed=[0,1,2]", "matrix.1.seed=[0,1,2]", "evaluate.examples=100"]
"""One training says nothing of others, and sixteen answers little."""
OURS = ("bench", "offsite", "reports", "suites")
LARGEST = 100_000


@pytest.fixture(scope="module")
def baseline() -> Baseline:
    """The file in git."""
    return read_baseline(BASELINE)


def test_it_is_small_whole_and_of_committed_code(baseline: Baseline):
    """What a reviewer reads in a diff, made by code that anyone can check out."""
    assert BASELINE.stat().st_size < LARGEST
    assert (baseline.suite, baseline.profile) == ("quickstart", "smoke")
    assert not baseline.dirty
    assert not baseline.missing


def test_it_holds_what_the_suite_measures_today(baseline: Baseline):
    """A line that was measured otherwise is never judged, so an old baseline would pass all code.

    What a stage's parameters leave open, the text of the task among it, is not compared: Python's
    help topics differ from one patch release to the next.
    """
    kept = {_text(_without_data(each.setup)) for each in baseline.measured}
    planned = lay_out("quickstart", "smoke", SETS, None).stages
    by_digest = {stage.digest: stage for stage in planned}
    asked = {_text(_asked(each, by_digest)) for each in planned if each.kind == "evaluate"}
    assert asked == kept, "save it again, as docs/gate.md says"


def _asked(stage: Stage, by_digest: Mapping[str, Stage]) -> dict[str, object]:
    """What a stage and those it goes on from are to do."""
    needs = {role: by_digest[each] for role, each in stage.inputs.items() if each in by_digest}
    params = {key: value for key, value in stage.params.items() if key not in OF_A_RUN}
    return params | {role: _asked(each, by_digest) for role, each in needs.items()}


def _without_data(setup: Mapping[str, Any]) -> dict[str, object]:
    return {
        key: _without_data(value) if key in ("tuned", "emulator") else value
        for key, value in setup.items()
        if key not in ("data", "model")
    }


def _text(values: dict[str, object]) -> str:
    return json.dumps(values, sort_keys=True)


@pytest.fixture
def broken(tmp_path: Path, baseline: Baseline) -> Path:
    """A copy of this code that calls as many right answers of one task wrong as have to be seen.

    A line whose weights were scored before is judged by McNemar's exact test: of k answers lost
    and none won it makes 1/2^k, which Holm multiplies by the number of lines, at most. With 17
    lines that takes 13 right answers; twice as many answers hold them, as four of five are right.
    """
    for name in OURS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / "code" / name, ignore=ignored)
    lines = len(baseline.measured)
    wrong = next(k for k in count(1) if lines / 2**k < FALSE_ALARMS)
    path = tmp_path / "code" / "bench" / "tasks" / "vision.py"
    text, found = path.read_text(), "hit = ranked == labels[:, None]\n"
    assert text.count(found) == 1
    path.write_text(text.replace(found, f"{found}        hit[: {2 * wrong}] = False\n"))
    return tmp_path / "code"


@pytest.mark.slow
def test_lost_answers_fail_the_check_and_nothing_else_does(broken: Path, tmp_path: Path):
    """On this machine or any other: exit 4, and what regressed is the broken task's."""
    done = run_there(
        broken,
        *("check", "quickstart", "--profile", "smoke", "--baseline", BASELINE),
        *(part for each in SETS for part in ("--set", each)),
        *("--runs", "1", "--results", tmp_path / "results", "--json"),
    )
    assert done.returncode == 4, done.stdout + done.stderr
    lost = [each for each in json.loads(done.stdout) if each["verdict"] == "REGRESSED"]
    assert {each["task"] for each in lost} == {"digits_pair_sum"}
    assert "full_zero_shot" in {each["setting"] for each in lost}
