"""Whole runs on image folders and parquet files: what a user's own pictures go through."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from reports.record import Record, read_record
from tests.bench.command import ROOT, offsite_bench

SUITE = f"""\
schema: 1
name: pictures
models: {{vit: {{source: "{ROOT}/suites/models/tiny-vit"}}}}
tasks:
  folders: {{task: image_classification, data: {{train: train, test: test}}}}
  rows: {{task: image_classification, data: {{train: rows.parquet, test: rows.parquet}}}}
matrix:
  model: vit
  adapter_blocks: 2+2
  compression: [{{method: identity}}, {{method: layer_drop, keep: 3}}]
  tuning: {{method: full}}
  task: [folders, rows]
  seed: 0
train: {{learning_rate: 1.0e-3, max_steps: 2, batch_size: 4}}
evaluate: {{batch_size: 4}}
"""
CLASSES = ("ant", "bear", "cat", "dog", "emu", "fox")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over images of another size than the model's, one class only in one split."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(CLASSES):
        for split in ("train", "test") if name != "bear" else ("train",):
            path = folder / split / name / "1.jpg"
            path.parent.mkdir(parents=True)
            Image.linear_gradient("L").rotate(15 * number).convert("RGB").save(path)
    images = [path.read_bytes() for path in sorted((folder / "train").rglob("*.jpg"))]
    pd.DataFrame({"image": images, "label": range(len(images))}).to_parquet(folder / "rows.parquet")
    (folder / "own.yaml").write_text(SUITE)
    done = offsite_bench("run", "own.yaml", "--results", "results", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "Crossed scores" not in done.stderr
    return folder


def records(folder: Path, task: str) -> dict[str, Record]:
    """Evaluations of one task, by setting and compression."""
    (plan,) = (folder / "results" / "plans").glob("*.json")
    stages = json.loads(plan.read_bytes())["stages"]
    return {
        f"{stage['labels']['setting']} {stage['labels']['compression']}".strip(): read_record(path)
        for stage in stages
        if stage["kind"] == "evaluate" and stage["labels"]["task"] == task
        for path in (folder / "results" / "records").rglob(f"{stage['digest']}.*.json")
    }


def items(folder: Path, record: Record) -> list[dict[str, Any]]:
    """The items of an evaluation."""
    digest = record.blobs["items.jsonl"]
    (path,) = (p for p in (folder / "results" / "blobs").rglob(f"{digest}*") if p.is_file())
    return pd.read_json(path, lines=True).to_dict("records")


def test_labels_of_folders_are_by_name(folder):
    """The test split has no bear, and cat is 2 all the same."""
    record = records(folder, "folders")["full_zero_shot"]
    assert record.facts["classes"] == list(CLASSES)
    assert record.facts["splits"] == {"train": "train", "test": "test"}
    assert [item["target"] for item in items(folder, record)] == [0, 2, 3, 4, 5]


def test_the_same_images_in_a_parquet_file_are_the_same_documents(folder):
    """Their pixels are; where they lie is not in it."""
    of_rows = items(folder, records(folder, "rows")["full_zero_shot"])
    of_folders = items(folder, records(folder, "folders")["full_zero_shot"])
    assert {item["doc"] for item in of_folders} < {item["doc"] for item in of_rows}


def test_evaluations_say_which_weights_said_what(folder):
    """The identity's emulator has the full model's weights; what was tuned or dropped has others.

    Its scores may differ in their last bit: kernels compute by how tensors lie in memory.
    """
    found = records(folder, "folders")
    weights = {name: record.facts["weights_digest"] for name, record in found.items()}
    assert len(weights) == 8
    assert weights["full_zero_shot"] == weights["emulator_zero_shot identity"]
    others = [
        name for name in found if name not in ("full_zero_shot", "emulator_zero_shot identity")
    ]
    untuned = found["full_zero_shot"].facts
    for name in others:
        assert weights[name] != untuned["weights_digest"]
        assert found[name].facts["scores_digest"] != untuned["scores_digest"]
