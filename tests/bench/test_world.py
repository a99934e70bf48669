"""What planning looks up: identities of data split by split, and twins refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.suite import load_suite
from bench.tasks.data import local_data, scored_split
from bench.world import look_up
from tests.bench.command import ROOT

LM = ROOT / "suites" / "models" / "tiny-lm"
SUITE = f"""\
schema: 1
name: twins
models:
  lm: {{source: {LM}}}
  copy: {{source: copy}}
tasks:
  mine: {{task: perplexity, data: {{train: a.jsonl, test: b.jsonl}}}}
  mine2: {{task: perplexity, data: {{train: c.jsonl, test: b.jsonl}}}}
matrix:
  {{model: [lm], adapter_blocks: 2+2, compression: {{method: identity}}, tuning: full, seed: 0,
    task: [mine, mine2]}}
"""


def looked_up(folder: Path, text: str = SUITE, **files: str) -> object:
    """The world of a suite over files of these contents."""
    for name in "abc":
        content = files.get(name, name)
        (folder / f"{name}.jsonl").write_text(f'{{"text": "{content}"}}\n')
    (folder / "copy").mkdir(exist_ok=True)
    for file in LM.iterdir():
        target = folder / "copy" / file.name
        if not target.exists():
            target.symlink_to(file)
    (folder / "twins.yaml").write_text(text)
    return look_up(load_suite(str(folder / "twins.yaml")), online=False)


def test_one_task_under_two_names_is_refused(tmp_path):
    """Its stages would be one, and the second name missing from reports."""
    looked_up(tmp_path)
    with pytest.raises(SuiteError, match=r"twins\.yaml:8:\d+: tasks\.mine2: it is 'mine' again"):
        looked_up(tmp_path, c="a")
    text = SUITE.replace("c.jsonl, test: b.jsonl}", "c.jsonl, test: b.jsonl}, block: 64")
    looked_up(tmp_path, text, c="a")


def test_a_corpus_may_be_a_task_under_another_name(tmp_path):
    """Tables name it nowhere; two corpora of one content they would."""
    step = "{method: layer_drop, keep: 2, distill: {corpus: mine2, steps: 1}}"
    text = SUITE.replace("{method: identity}", step).replace("[mine, mine2]", "mine")
    looked_up(tmp_path, text, c="a")
    both = text.replace(step, f"[[{step}], [{step.replace('mine2', 'mine')}]]")
    with pytest.raises(SuiteError, match=r"tasks\.mine: it is 'mine2' again"):
        looked_up(tmp_path, both, c="a")


def test_one_model_in_two_folders_is_refused(tmp_path):
    """The bytes count; in another type it is another model."""
    text = SUITE.replace("[lm]", "[lm, copy]")
    with pytest.raises(SuiteError, match=r"twins\.yaml:5:\d+: models\.copy: it is 'lm' again"):
        looked_up(tmp_path, text)
    looked_up(tmp_path, text.replace("source: copy", "source: copy, dtype: bfloat16"))


def test_local_splits_are_identified_one_by_one(tmp_path):
    """By content; other splits, and where the files lie, do not matter."""
    paths = {split: tmp_path / f"{split}.jsonl" for split in ("train", "validation", "test")}
    for split, path in paths.items():
        path.write_text(split)
    found = local_data(paths, None)
    without = local_data({"test": paths["test"]}, None)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", found.of("test"))
    assert found.of("test") == found.of("test", "other") == without.of("test")
    sets = [("test",), ("train",), ("train", "validation"), ("train", "validation", "test")]
    assert len({found.of(*each) for each in sets}) == 4
    assert found.of("train", "validation") == found.of("validation", "train")
    paths["train"].write_text("more")
    later = local_data(paths, None)
    assert later.of("test") == found.of("test")
    assert later.of("train") != found.of("train")


def test_a_built_in_data_set_is_hashed_whole():
    """It is split by rules that are part of the hash."""
    topics, digits = (local_data({}, name) for name in ("pydoc_topics", "digits_pair_sum"))
    assert topics.of("test") == topics.of("train", "validation") != digits.of("test")


def test_the_scored_split_is_test_or_else_validation():
    """As lm-eval has it."""
    assert scored_split({"train": "", "validation": ""}) == "validation"
    assert scored_split(("train", "validation", "test")) == "test"
