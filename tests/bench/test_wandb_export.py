"""A suite's cases as wandb runs, with a wandb that only remembers; none is installed or asked."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from bench.cli import call
from bench.store import Store
from tests.bench.made_up import FAILED_CASE, LOSSES, write_made_up


@dataclass
class FakeRun:
    """What one run was given."""

    given: dict[str, Any]
    summary: dict[str, Any] = field(default_factory=dict)
    logged: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    exit_code: int | None = None

    def log(self, values: dict[str, float], step: int) -> None:
        self.logged.append((step, values))

    def finish(self, exit_code: int) -> None:
        self.exit_code = exit_code


class FakeWandb(ModuleType):
    """The few names of wandb that are used."""

    class Error(Exception):
        """As wandb's own."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[FakeRun] = []
        self.refusal = ""

    def init(self, **given: Any) -> FakeRun:
        if self.refusal:
            raise self.Error(self.refusal)
        assert all(run.exit_code is not None for run in self.runs)
        self.runs.append(FakeRun(given))
        return self.runs[-1]


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    """What `import wandb` finds."""
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    return fake


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A suite with results in the working folder."""
    monkeypatch.chdir(tmp_path)
    return str(write_made_up(tmp_path))


def test_one_run_for_every_case(wandb, suite, capsys):
    """Its name is the case's, its group the suite's; each ends before the next begins."""
    assert call(["export", suite, "--format", "wandb"]) == 0
    assert capsys.readouterr().out == "12 runs handed to wandb, group small\n"
    names = [run.given["name"] for run in wandb.runs]
    assert len(set(names)) == 12
    assert "lm/2+2/layer_drop(keep=4)/full/text/s0" in names
    assert {run.given["group"] for run in wandb.runs} == {"small"}
    assert {run.given["project"] for run in wandb.runs} == {"offsite-bench"}


def test_config_is_labels_and_parameters(wandb, suite, capsys):
    """What a user filters and groups by, and what each stage was given."""
    assert call(["export", suite, "--format", "wandb", "-k", "keep=4 and lora and s1"]) == 0
    (run,) = wandb.runs
    config = run.given["config"]
    assert (config["model"], config["task"], config["seed"]) == ("lm", "text", 1)
    assert (config["adapter_blocks"], config["layout"]) == ("2+2", "2-4-2")
    assert config["compression"] == [{"method": "layer_drop", "keep": 4}]
    assert config["tuning"]["method"] == "lora"
    assert config["tune"]["train"]["max_steps"] == 60
    assert (config["commits"], config["machines"]) == (["c0ffee"], ["here"])
    assert set(run.given["tags"]) == {"lm", "text", "layer_drop(keep=4)", "lora(rank=4)", "full"}
    json.dumps(config)


def test_summary_is_every_metric_under_its_setting(wandb, suite, capsys):
    """All five settings, the trainings and the emulator; phases other than a stage's own named."""
    assert call(["export", suite, "--format", "wandb", "-k", "keep=4 and full/text/s1"]) == 0
    (run,) = wandb.runs
    assert run.summary == {
        "full_zero_shot/perplexity": 44.0,
        "emulator/peak_memory": 100.0,
        "emulator_zero_shot/perplexity": 48.0,
        "finetune/peak_memory": 100.0,
        "full_finetuned/perplexity": 44.0,
        "tune/load/peak_memory": 100.0,
        "tune/peak_memory": 100.0,
        "emulator_finetuned/perplexity": 48.0,
        "plug_in/perplexity": 37.0,
        "disclose/peak_memory": 100.0,
    }
    assert run.logged == [(n, {"tune/loss": x}) for n, x in enumerate(LOSSES, start=1)]
    assert run.exit_code == 0


def test_a_failure_is_a_failed_run_with_its_reason(wandb, suite, capsys):
    """Never a number, and never silently left out."""
    assert call(["export", suite, "--format", "wandb"]) == 0
    (failed,) = [run for run in wandb.runs if run.exit_code]
    assert failed.given["name"] == FAILED_CASE
    assert failed.summary["tune/outcome"] == "oom_host"
    assert failed.summary["tune/reason"] == "9.1 GiB of 8 GiB"
    assert "tune/peak_memory" not in failed.summary


def test_a_case_handed_over_again_is_the_same_run(wandb, suite, capsys, monkeypatch):
    """Ids repeat and are the case's own; the project is wandb's to name."""
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    for _ in range(2):
        assert call(["export", suite, "--format", "wandb", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out.split("]\n")[0] + "]")
    ids = [run.given["id"] for run in wandb.runs]
    assert ids[:12] == ids[12:]
    assert [each["id"] for each in listed] == ids[:12]
    assert len(set(ids)) == 12
    assert {run.given["resume"] for run in wandb.runs} == {"allow"}
    assert {run.given["project"] for run in wandb.runs} == {"mine"}


def test_without_wandb_the_line_says_what_to_install(suite, capsys, monkeypatch):
    """Neither where it is missing nor where only a folder of its name is there."""
    for missing in (None, ModuleType("wandb")):
        monkeypatch.setitem(sys.modules, "wandb", missing)
        assert call(["export", suite, "--format", "wandb"]) == 2
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err == (
            "offsite-bench: wandb is not installed; `pip install 'offsite-bench[wandb]'`\n"
        )


def test_what_wandb_refuses_is_one_line(wandb, suite, capsys):
    """Its reason, and what would work."""
    wandb.refusal = "api_key not configured (no-tty). call wandb.login\nmore"
    assert call(["export", suite, "--format", "wandb"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "api_key not configured" in shown
    assert "WANDB_MODE=offline" in shown


def test_the_whole_store_has_no_cases(wandb, suite, capsys):
    """Without a suite there is nothing to make runs of."""
    assert call(["export", "--format", "wandb"]) == 2
    assert "give a SUITE" in capsys.readouterr().err


def test_no_result_is_exit_3(wandb, suite, capsys):
    """A suite that was only planned makes no runs."""
    Store.create(Path("empty"))
    assert call(["export", suite, "--format", "wandb", "--results", "empty"]) == 3
    assert wandb.runs == []
