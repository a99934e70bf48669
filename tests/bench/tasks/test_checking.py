"""What is found wrong with a task's rows, without the model's weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.errors import SuiteError
from bench.plan import Plan, plan
from bench.preflight import unchecked
from bench.store import Store
from bench.tasks import checking
from bench.tasks.task import Task, prepare
from bench.world import look_up
from offsite.models import load_outline
from tests.bench.command import ROOT
from tests.bench.worlds import suite_of

MODELS = ROOT / "suites" / "models"
SUITE = f"""\
schema: 1
name: two
models: {{lm: {{source: "{MODELS}/tiny-lm"}}, vit: {{source: "{MODELS}/tiny-vit"}}}}
tasks:
  mine: {{task: perplexity, block: 8, data: {{train: rows.jsonl, test: rows.jsonl}}}}
matrix:
  - model: lm
    task: mine
    adapter_blocks: 2+2
    compression: {{method: layer_drop, keep: 4}}
    tuning: {{method: full}}
    seed: 0
  - model: vit
    task: digits_pair_sum
    adapter_blocks: 1+1
    compression: {{method: layer_drop, keep: 4}}
    tuning: {{method: full}}
    seed: 0
"""


def images(folder: Path, shape: tuple[int, ...], **fields: Any) -> Task:
    """A task over three images, for a model of 1x8x16 with 19 classes."""
    for split in ("train", "test"):
        file = folder / f"{split}.npz"
        np.savez(file, images=np.zeros((3, *shape), dtype="float32"), labels=np.array([0, 18, 4]))
    data = {split: str(folder / f"{split}.npz") for split in ("train", "test")}
    described = {"kind": "image_classification", **fields}
    return prepare(described, data, load_outline(MODELS / "tiny-vit"))


@pytest.mark.parametrize("shape", [(8, 16), (1, 8, 16)])
def test_sound_images_are_sound(tmp_path, shape):
    """With a dimension of channels, or without."""
    images(tmp_path, shape).check()


def test_images_of_another_shape_are_named(tmp_path):
    """The model would fail on the first batch."""
    message = r"train\.npz:1: an image of 1x8x8; the model takes 1x8x16 \(channels"
    with pytest.raises(SuiteError, match=message):
        images(tmp_path, (8, 8)).check()


def test_labels_are_classes_of_a_new_classifier_where_there_is_one(tmp_path):
    """The task says how many it has; the model's own has 19."""
    with pytest.raises(SuiteError, match=r"train\.npz:2: label 18 is none of 18 classes"):
        images(tmp_path, (8, 16), classes=18).check()
    images(tmp_path, (8, 16), classes=30).check()


def test_a_text_too_short_to_score_is_named(tmp_path):
    """One token predicts nothing."""
    (tmp_path / "short.jsonl").write_text('{"text": ""}\n')
    data = {"test": str(tmp_path / "short.jsonl")}
    task = prepare({"kind": "perplexity"}, data, load_outline(MODELS / "tiny-lm"))
    with pytest.raises(SuiteError, match=r"short\.jsonl: .* less than two tokens"):
        task.check()


REAL = os.environ.get("OFFSITE_BENCH_DATA")
SLICES = ("arc_challenge", "arc_easy", "boolq", "hellaswag", "openbookqa", "piqa", "sciq", "webqs")


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="OFFSITE_BENCH_DATA names no folder of real data sets")
@pytest.mark.parametrize("name", SLICES)
def test_real_rows_are_sound_and_tokenised_once(tmp_path, name):
    """No row of the field's own data sets is refused, and a second look makes no token."""
    files = {
        file.stem.removeprefix("pseudo_"): str(file) for file in Path(REAL, name).glob("*.jsonl")
    }
    described = {"kind": "lm_eval", "id": name, "length": 1024}
    made = []
    for _ in range(2):
        prepare(described, files, load_outline(MODELS / "tiny-lm"), tmp_path).check()
        made.append(sorted(tmp_path.glob("*/*.npz")))
    assert made[0] == made[1] != []


def planned(folder: Path, rows: list[dict[str, str]]) -> Plan:
    """A text task of our own and a task of images."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = suite_of(folder, SUITE)
    return plan(suite, look_up(suite, online=False))


def test_what_is_found_is_kept_with_the_tokens(tmp_path):
    """Then there is nothing left to check; a fault stays to be told."""
    store = Store.create(tmp_path / "r")
    made = planned(tmp_path, [{"text": "Rain falls from clouds."}, {"tex": ""}])
    readings = unchecked(made, store)
    assert checking.check(made, store) == 0
    faults = [reading.fault(store) for reading in readings]
    assert faults == [
        f"{tmp_path}/rows.jsonl:2: no text in field 'text'; the row has tex",
        None,
    ]
    made = planned(tmp_path, [{"text": "Rain falls from clouds."}])
    assert checking.check(made, store) == 0
    assert unchecked(made, store) == []
    assert list(store.tokens.glob("*/*.npz"))


def test_a_model_that_does_not_load_keeps_no_other_task_from_being_checked(
    tmp_path, monkeypatch, capsys
):
    """Why is in the log; its stages will say it too."""

    def loads(source: str, **options: Any) -> Any:
        if "tiny-lm" in source:
            raise OSError("no such tokenizer")
        return load_outline(source, **options)

    monkeypatch.setattr(checking, "load_outline", loads)
    store = Store.create(tmp_path / "r")
    made = planned(tmp_path, [{"text": "Rain falls from clouds."}])
    assert checking.check(made, store) == 1
    assert "no such tokenizer" in capsys.readouterr().err
    (left,) = unchecked(made, store)
    assert left.task["kind"] == "perplexity"
