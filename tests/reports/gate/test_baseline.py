"""Baseline files: what is written is read back, and what cannot be compared with is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from reports.gate.baseline import BadBaseline, Baseline, gather, read_baseline
from reports.record import Metric
from reports.results import read_plan, read_stages
from tests.reports.gate.measured import answered, baseline, timed
from tests.reports.statistics.simulated import answers
from tests.reports.synthetic_store import SyntheticStore, fill


@pytest.fixture
def saved() -> Baseline:
    """One speed and one accuracy."""
    given = answers(np.random.default_rng(0), seeds=3, items=500, seed_sd=0.01)
    return baseline(timed([1.0, 1.1, 0.9]), answered(given))


def test_a_baseline_is_read_back(saved: Baseline, tmp_path: Path):
    """Every run with its items; a file for git, with a line for each line of it."""
    path = tmp_path / "b.json"
    path.write_bytes(saved.to_bytes())
    assert read_baseline(path) == saved
    text = path.read_text()
    assert len(text) < 2000
    assert sum('"line"' in each for each in text.splitlines()) == 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": 2}, "baseline schema 2; this version reads 1"),
        ({"schema": None}, "baseline schema None"),
        ({"measured": [{"line": 3}]}, "measured.0.line"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_foreign_baseline_is_refused(
    saved: Baseline, tmp_path: Path, change: dict[str, object], says: str
):
    """A newer schema, missing and unknown fields: one line with the file and what is wrong."""
    content = {**json.loads(saved.to_bytes()), **change}
    path = tmp_path / "b.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BadBaseline, match=says) as error:
        read_baseline(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[", "[1]", "{}", "null", '"x"', "[" * 100_000])
def test_no_baseline_at_all_is_refused(tmp_path: Path, text: str):
    """Half a file and other JSON."""
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(BadBaseline):
        read_baseline(path)


def test_an_absent_file_says_what_writes_one(tmp_path: Path):
    """Newcomers have none."""
    with pytest.raises(BadBaseline, match="baseline save"):
        read_baseline(tmp_path / "none.json")


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused(saved: Baseline, tmp_path: Path, constant: str):
    """Nothing is worse than NaN, and nothing is better."""
    path = tmp_path / "b.json"
    path.write_text(saved.to_bytes().decode().replace("1.1", constant))
    with pytest.raises(BadBaseline, match="is no number"):
        read_baseline(path)


def test_a_seed_that_is_there_twice_is_refused(saved: Baseline, tmp_path: Path):
    """Copied runs would make any spread as small as one likes."""
    content = json.loads(saved.to_bytes())
    content["measured"][1]["runs"] *= 2
    path = tmp_path / "b.json"
    path.write_text(json.dumps(content))
    with pytest.raises(BadBaseline, match="twice"):
        read_baseline(path)


def test_gathered_from_a_store(tmp_path: Path):
    """The main metric of every evaluation, speed and memory of every training; no more."""
    plan = read_plan(fill(SyntheticStore(tmp_path)))
    found = gather(read_stages(tmp_path, plan), suite="s", profile=None, machine="m")
    stages = {(each.line.stage, each.line.metric) for each in found.measured}
    assert ("evaluate", "perplexity") in stages
    assert ("evaluate", "top1") in stages
    assert ("tune", "throughput_tokens_real") in stages
    assert ("finetune", "peak_memory_process") in stages
    assert not any(stage in ("emulator", "disclose") for stage, _ in stages)
    plug_in = next(each for each in found.measured if each.line.setting == "plug_in")
    assert [run.seed for run in plug_in.runs] == [0, 1, 2]


def test_what_failed_is_named(tmp_path: Path):
    """A case that has no record is missing from the baseline, with its reason."""
    plan = read_plan(fill(SyntheticStore(tmp_path)))
    found = gather(read_stages(tmp_path, plan), suite="s", profile=None, machine="m")
    assert any("oom_host" in each for each in found.missing)


def test_several_commits_are_no_baseline(tmp_path: Path):
    """What two versions of the code measured is the work of neither."""
    store = SyntheticStore(tmp_path)
    metric = Metric(metric="acc", value=0.5, unit="fraction", better="higher")
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        digest = store.plan("evaluate", model="m", task="t", setting="plug_in", seed=seed)
        record = store.record(digest, "evaluate", metric)
        store.save(record.model_copy(update={"environment": {"commit": commit}}))
    runs = read_stages(tmp_path, read_plan(store.save_plan()))
    with pytest.raises(BadBaseline, match="several commits"):
        gather(runs, suite="s", profile=None, machine="m")
