"""A user's rows with faults in them: what `run` says, and that it starts nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.bench.command import ROOT, offsite_bench

SOUND: list[dict[str, Any]] = [
    {"question": f"The number {i} is", "choices": ["even", "odd"], "label": i % 2} for i in range(6)
]
FAULTS: dict[str, tuple[int, dict[str, Any], str]] = {
    "missing": (2, {"question": "The number 9 is", "label": 0}, "no field 'choices'"),
    "label": (3, {**SOUND[3], "label": 2}, "label 2 is none of 2 choices"),
    "empty": (4, {**SOUND[4], "choices": ["even", ""]}, "the choice '' is no text"),
    "long": (
        5,
        {**SOUND[5], "choices": ["even", "odd " * 40]},
        "more than the task's length of 32",
    ),
}
"""What is wrong with one of the rows: its position, the row, and what is said of it."""
SUITE = f"""\
schema: 1
name: faulty
models: {{lm: {{source: "{ROOT}/suites/models/tiny-lm"}}}}
tasks:
"""
MATRIX = """\
matrix:
  model: lm
  adapter_blocks: 2+2
  compression: {method: layer_drop, keep: 4}
  tuning: {method: full}
  seed: 0
  task:
"""


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Eight tasks, each with one fault in the rows to tune on or to score, and a sound one."""
    write(tmp_path / "sound.jsonl", SOUND)
    data = {"sound": {"train": "sound.jsonl", "test": "sound.jsonl"}}
    for name, (position, row, _) in FAULTS.items():
        for split in ("train", "test"):
            file = f"{name}-{split}.jsonl"
            write(tmp_path / file, [*SOUND[:position], row, *SOUND[position + 1 :]])
            data[f"{name}_{split}"] = {**data["sound"], split: file}
    tasks = [
        f"  {name}: {json.dumps({'task': 'multiple_choice', 'length': 32, 'data': files})}\n"
        for name, files in data.items()
    ]
    path = tmp_path / "faulty.yaml"
    path.write_text(f"{SUITE}{''.join(tasks)}{MATRIX.rstrip()} [{', '.join(data)}]\n")
    return path


def records(results: Path) -> list[Path]:
    """What stages left."""
    return [*results.glob("records/*/*"), *results.glob("attempts/*/*")]


def test_every_fault_is_named_with_file_and_row_before_a_stage_starts(suite, tmp_path):
    """In the train split and in the scored one; all of them at once, one line each."""
    done = offsite_bench("run", suite, "--results", "r", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 2 * len(FAULTS), done.stderr
    for name, (position, _, sentence) in FAULTS.items():
        for split in ("train", "test"):
            start = f"offsite-bench: {tmp_path}/{name}-{split}.jsonl:{position + 1}: "
            (line,) = [line for line in lines if line.startswith(start)]
            assert sentence in line
    assert records(tmp_path / "r") == []


OTHERS = {
    "text": (
        "{task: perplexity, block: 8, data: {train: sound.jsonl, test: text.jsonl}}",
        "text.jsonl:2: no text in field 'text'",
    ),
    "unknown": (
        "{task: lm_eval, id: piqaa, data: {train: sound.jsonl, validation: sound.jsonl}}",
        "unknown lm-eval task 'piqaa'. Did you mean",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds_are_checked_too(tmp_path, name):
    """A row without text; a definition that lm-eval does not have."""
    task, sentence = OTHERS[name]
    write(tmp_path / "sound.jsonl", [{**row, "text": "Rain falls from clouds."} for row in SOUND])
    write(tmp_path / "text.jsonl", [{"text": "Rain falls."}, {"texd": "Ice melts."}])
    path = tmp_path / "other.yaml"
    path.write_text(f"{SUITE}  mine: {task}\n{MATRIX.rstrip()} mine\n")
    done = offsite_bench("run", path, "--results", "r", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert records(tmp_path / "r") == []


def test_a_label_that_is_no_class_of_the_model_is_named(tmp_path):
    """Of images too; rows are counted from 1."""
    images = np.zeros((4, 1, 8, 16), dtype="float32")
    for split, labels in {"train": [0, 1, 2, 3], "test": [0, 1, 19, 3]}.items():
        np.savez(tmp_path / f"{split}.npz", images=images, labels=np.array(labels))
    text = SUITE.replace("tiny-lm", "tiny-vit").replace("lm:", "vit:")
    task = "{task: image_classification, data: {train: train.npz, test: test.npz}}"
    matrix = MATRIX.replace("model: lm", "model: vit").replace("2+2", "1+1")
    path = tmp_path / "images.yaml"
    path.write_text(f"{text}  mine: {task}\n{matrix.rstrip()} mine\n")
    done = offsite_bench("run", path, "--results", "r", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line == (
        f"offsite-bench: {tmp_path}/test.npz:3: label 19 is none of 19 classes, counted from 0"
    )
    assert records(tmp_path / "r") == []
