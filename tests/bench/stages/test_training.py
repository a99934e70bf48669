"""Which examples a training sees, and what it keeps of its checkpoints."""

from __future__ import annotations

import csv
import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.measure.memory import MemoryMeter
from bench.plan import plan
from bench.stages import training
from bench.stages.work import StageResult, Work
from bench.store import Store
from bench.suite import load_suite
from bench.tasks.task import Task
from bench.world import look_up
from offsite.training import Batch
from reports.record import Record, read_record
from tests.bench.command import ROOT, offsite_bench

SUITE = f"""\
schema: 1
name: chosen
models: {{lm: {{source: "random:{ROOT}/suites/models/tiny-lm"}}}}
tasks:
  mine:
    task: perplexity
    data: {{train: train.jsonl, validation: validation.jsonl, test: test.jsonl}}
    block: 16
matrix:
  {{model: lm, adapter_blocks: 2+1, compression: {{method: layer_drop, keep: 4}},
   tuning: {{method: full}}, task: mine, seed: 0}}
train: {{learning_rate: 1.0e-2, epochs: 1, batch_size: 4, checkpoints: 3}}
"""
Rows = frozenset[tuple[int, ...]]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A suite over random weights, with rows of its own in every split."""
    words = ["able", "both", "cold", "dark", "each", "fast", "good", "hard", "idle", "just", "kind"]
    for split in ("train", "validation", "test"):
        draw = random.Random(split)
        rows = [{"text": " ".join(draw.choices(words, k=12))} for _ in range(60)]
        content = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(content)
    path = tmp_path / "chosen.yaml"
    path.write_text(SUITE)
    return path


@dataclass
class Seen:
    """What a training was given."""

    trained: list[tuple[int, ...]] = field(default_factory=list)
    """Rows of its batches."""
    slices: list[Rows] = field(default_factory=list)
    """What each checkpoint was scored on."""
    tasks: list[Task] = field(default_factory=list)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Seen:
    """A spy on the batches of a training, and on the slices of its checkpoints."""
    found = Seen()
    real_batches, real_loss = training.batches, training.loss_on

    def batches(*args: Any, **options: Any) -> Iterator[Batch]:
        for batch in real_batches(*args, **options):
            found.trained += map(tuple, batch.inputs["input_ids"].tolist())
            yield batch

    def loss_on(task: Any, model: Any, examples: Any) -> float:
        found.tasks.append(task)
        found.slices.append(frozenset(tuple(e["input_ids"]) for e in examples))
        return real_loss(task, model, examples)

    monkeypatch.setattr(training, "batches", batches)
    monkeypatch.setattr(training, "loss_on", loss_on)
    return found


def finetune(suite: Path, *sets: str) -> StageResult:
    """Fine-tune the suite's model, here in this process."""
    loaded = load_suite(str(suite), sets=["settings=[full_finetuned]", *sets])
    made = plan(loaded, look_up(loaded, online=False))
    stage = next(stage for stage in made.stages if stage.kind == "finetune")
    scratch = suite.parent / f"scratch{stage.digest}"
    scratch.mkdir()
    store = Store.create(suite.parent / "store")
    with torch.random.fork_rng():
        return training.finetune(Work(stage, store, "here", scratch, MemoryMeter()))


def test_what_is_held_out_is_not_trained_on_and_is_the_same_for_every_seed(suite, seen):
    """A tenth of the blocks; steps are counted from the rest."""
    slices = []
    for seed in (0, 1):
        seen.trained.clear()
        seen.slices.clear()
        facts = finetune(suite, f"matrix.seed={seed}").facts
        assert len(seen.slices) == 3, "each checkpoint is scored"
        (held,) = set(seen.slices)
        assert not held & set(seen.trained)
        assert facts["selection"] == {"rule": "held_out", "split": "train", "examples": len(held)}
        assert facts["examples"] == len(set(seen.trained))
        assert len(held) == (facts["examples"] + len(held)) // 10
        assert facts["steps"] == -(-facts["examples"] // 4)
        slices.append(held)
    assert slices[0] == slices[1]


def test_one_checkpoint_holds_nothing_out(suite, seen):
    """Everything is trained on, and nothing is scored in between."""
    facts = finetune(suite, "train.checkpoints=1").facts
    blocks = len(set(seen.trained))
    assert seen.slices == []
    assert (facts["examples"], facts["selection"]) == (blocks, {})
    seen.trained.clear()
    assert finetune(suite).facts["examples"] < blocks


@pytest.mark.parametrize(("selection", "split"), [("validation", "validation"), ("paper", "test")])
def test_other_splits_are_chosen_on_whole(suite, seen, selection, split):
    """The train split is then trained on whole too."""
    facts = finetune(suite, f"train.selection={selection}").facts
    (chosen_on,) = set(seen.slices)
    assert facts["selection"] == {"rule": selection, "split": split, "examples": len(chosen_on)}
    assert chosen_on == frozenset(tuple(e["input_ids"]) for e in seen.tasks[0].examples(split))
    assert not chosen_on & set(seen.trained)
    assert finetune(suite, "train.checkpoints=1").facts["examples"] == facts["examples"]


def records(store: Path, kind: str) -> list[Record]:
    """All records of a kind of stage."""
    found = [read_record(path) for path in store.glob("records/*/*.json")]
    return [record for record in found if record.kind == kind]


def test_an_oracle_scores_every_checkpoint_under_a_name_of_its_own(suite, tmp_path):
    """Start to end: three more plug-ins, one of them the result's, and a table that says so."""
    suite.write_text(SUITE + "evaluate: {oracle: true}\nsettings: [emulator_finetuned, plug_in]\n")
    done = offsite_bench("run", suite, "--results", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tuned,) = records(tmp_path / "r", "tune")
    steps = sorted(int(step) for step in tuned.facts["selection_loss"])
    assert len(steps) == 3
    assert {f"step-{step}.safetensors" for step in steps} <= tuned.blobs.keys()
    chosen = f"step-{tuned.facts['chosen_step']}.safetensors"
    assert tuned.blobs[chosen] == tuned.blobs["tuned.safetensors"]
    scored: dict[object, float | None] = {}
    for record in records(tmp_path / "r", "evaluate"):
        if record.params["setting"] == "plug_in":
            quality = [m for m in record.metrics if m.metric.endswith("perplexity")]
            scored |= {(m.metric, record.facts.get("step")): m.value for m in quality}
    assert scored.keys() == {("perplexity", None), *(("oracle_perplexity", s) for s in steps)}
    result = scored["perplexity", None]
    assert scored["oracle_perplexity", tuned.facts["chosen_step"]] == result
    assert len(set(scored.values())) == 3

    table = offsite_bench("export", suite, "--results", "r", cwd=tmp_path).stdout
    rows = [row for row in csv.DictReader(io.StringIO(table)) if row["setting"] == "plug_in"]
    assert [row["value"] for row in rows if row["metric"] == "perplexity"] == [str(result)]
    markdown = (tmp_path / "r" / "reports" / "chosen" / "report.md").read_text()
    assert "lm on mine: the best checkpoint, which no owner could know" in markdown
    assert "No party of the exchange can" in markdown
    assert "chosen among several on a slice of the train split" in markdown


def test_a_run_with_fewer_steps_than_checkpoints_has_its_last_one_again(suite, tmp_path):
    """One step of three that were asked for: every diagnostic is of it."""
    suite.write_text(SUITE + "evaluate: {oracle: true}\nsettings: [plug_in]\n")
    options = ("--set", "train.max_steps=1", "--results", "r")
    done = offsite_bench("run", suite, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "r", "evaluate")
    assert [record.facts.get("step") for record in found].count(1) == 3
    assert len({record.metrics[0].value for record in found}) == 1
