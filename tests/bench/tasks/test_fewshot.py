"""Answered examples before a scored text: lm-eval's own, and nowhere in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lm_eval
import lm_eval.tasks
import pytest
from lm_eval.models.huggingface import HFLM

from bench.errors import SuiteError
from bench.suite.task_files import read_task_file, resolve
from bench.suite.yaml_reader import read_text
from bench.tasks.documents import documents, read
from bench.tasks.task import Task, prepare
from offsite.models import Foundation, load_model
from tests.bench.command import ROOT

ROWS = ROOT / "tests" / "data" / "tasks"
LENGTH = 128


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


@pytest.fixture
def halves(tmp_path: Path) -> dict[str, dict[str, str]]:
    """Of each shape the first rows to draw examples from, and the others to score."""
    found = {}
    for name, scored in {"arc_easy": "test", "winogrande": "validation", "mmlu": "test"}.items():
        lines = (ROWS / f"{name}.jsonl").read_text().splitlines(keepends=True)
        files = {"train": lines[:24], scored: lines[24:]}
        for split, chosen in files.items():
            (tmp_path / f"{name}-{split}.jsonl").write_text("".join(chosen))
        found[name] = {split: str(tmp_path / f"{name}-{split}.jsonl") for split in files}
    return found


def fewshot(name: str, data: dict[str, str], foundation: Foundation, count: int = 2) -> Task:
    """The task with so many examples."""
    described = {"kind": "lm_eval", "id": name, "length": LENGTH, "fewshot": count}
    return prepare(described, data, foundation)


def by_lm_eval(name: str, data: dict[str, str], folder: Path, count: int) -> Any:
    """lm-eval's own task of that name over the files, seeded as `simple_evaluate` seeds it."""
    home = Path(lm_eval.tasks.__file__).parent
    own = {"mmlu_high_school_biology": "mmlu/default", "arc_easy": "arc"}.get(name, name)
    manager = lm_eval.tasks.TaskManager(include_path=str(home / own), include_defaults=False)
    files = {**data, "dev": data["train"]}
    member = {
        "task": name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "num_fewshot": count,
    }
    task = manager.load({"group": "one", "task": [member]})["tasks"][name]
    task.set_fewshot_seed(1234)
    return task


@pytest.mark.parametrize("name", ["arc_easy", "winogrande"])
def test_contexts_and_scores_are_those_of_lm_eval(foundation, halves, tmp_path, name):
    """The same examples in the same order before each text, and so the same metrics."""
    task: Any = fewshot(name, halves[name], foundation)
    theirs = by_lm_eval(name, halves[name], tmp_path, 2)
    theirs.build_all_requests()
    (part,) = read(task.definition, task.data, task.scored, is_scored=True)
    ours = [pair for document in documents(part) for pair in document.asked]
    assert ours == [request.args for request in theirs.instances]
    assert ours[0][0].count("\n\n") == 2
    theirs.set_fewshot_seed(1234)
    lm = HFLM(
        pretrained=foundation.model, tokenizer=foundation.tokenizer, batch_size=4, max_length=LENGTH
    )
    expected = lm_eval.evaluate(lm, {name: theirs}, bootstrap_iters=0)["results"][name]
    scored = task.evaluate(foundation.model, batch_size=4, examples=None)
    assert scored.facts["fewshot"] == {"examples": 2, "seed": 1234}
    for metric in scored.metrics:
        assert metric.value == pytest.approx(expected[f"{metric.metric},none"])


def test_examples_are_drawn_as_the_definition_says(foundation, halves, tmp_path):
    """Of the subject's own rows the first ones, for MMLU."""
    task: Any = fewshot("mmlu_{subject}", halves["mmlu"], foundation, 1)
    name = "mmlu_high_school_biology"
    data = {}
    for split, file in halves["mmlu"].items():
        lines = Path(file).read_text().splitlines(keepends=True)
        chosen = [line for line in lines if json.loads(line)["subject"] == "high_school_biology"]
        data[split] = str(tmp_path / f"own-{split}.jsonl")
        Path(data[split]).write_text("".join(chosen))
    theirs = by_lm_eval(name, data, tmp_path, 1)
    theirs.build_all_requests()
    parts = {part.name: part for part in read(task.definition, task.data, "test", is_scored=True)}
    ours = [pair for document in documents(parts[name]) for pair in document.asked]
    assert ours == [request.args for request in theirs.instances]


def test_nothing_stands_before_what_is_tuned_on(foundation, halves):
    """Examples are for scoring alone."""
    plain = fewshot("arc_easy", halves["arc_easy"], foundation, 0)
    assert (
        fewshot("arc_easy", halves["arc_easy"], foundation).training_examples()
        == plain.training_examples()
    )


def test_too_few_rows_to_draw_from_are_named(foundation, halves):
    """The split and how many it has."""
    task = fewshot("arc_easy", halves["arc_easy"], foundation, 25)
    message = "fewshot: 25 needs as many rows for 'arc_easy', and the train split has 24"
    with pytest.raises(SuiteError, match=message):
        task.check()


def test_without_a_split_to_draw_from_it_is_refused(foundation, halves):
    """It says which is missing."""
    data = {"test": halves["arc_easy"]["test"]}
    with pytest.raises(SuiteError, match="no train split"):
        fewshot("arc_easy", data, foundation).check()


def test_whole_texts_have_no_examples(foundation):
    """There is no context for them to stand in."""
    data = {"test": str(ROWS / "wikitext.jsonl")}
    with pytest.raises(SuiteError, match="'wikitext' scores whole texts; use fewshot: 0"):
        fewshot("wikitext", data, foundation)


def test_a_score_with_examples_rests_on_every_split(halves):
    """So that other rows to draw from are another score."""
    entry = json.dumps({"task": "arc_easy", "data": halves["arc_easy"], "fewshot": 2})
    task, _ = resolve("own", read_text(entry, "suite.yaml"), ROOT)
    assert set(task.read_to_score) == {"train", "test"}
    plain, _ = resolve("piqa", read_task_file("piqa"), ROOT)
    assert plain.read_to_score == ("validation",)
