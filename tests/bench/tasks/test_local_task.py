"""Definitions in files of a suite's own, as stages run them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.suite.task_files import resolve
from bench.suite.yaml_reader import read_text
from bench.tasks.task import Task, prepare
from offsite.models import Foundation, load_model
from tests.bench.command import ROOT

ROWS = ROOT / "tests" / "data" / "tasks"
DEFINITION = """\
task: lessons
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "Lesson: {{question}}"
doc_to_choice: "{{choices.text}}"
doc_to_target: "{{choices.label.index(answerKey)}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 3}
"""


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


def local(folder: Path, foundation: Foundation, definition: str) -> Task:
    """The task of a definition in a file, over our rows."""
    (folder / "own.yaml").write_text(definition)
    file = str(ROWS / "arc_easy.jsonl")
    entry = {"task": "lm_eval", "id": "own.yaml", "data": {"train": file, "test": file}}
    task, _ = resolve("own", read_text(json.dumps(entry), f"{folder}/suite.yaml"), folder)
    data = {split: str(path) for split, path in task.files.items()}
    return prepare({"kind": "lm_eval", "id": task.parameters.id}, data, foundation)


def test_a_definition_of_ones_own_is_tuned_on_and_scored(tmp_path, foundation):
    """Its own text, its own version in the record."""
    task = local(tmp_path, foundation, DEFINITION)
    task.check()
    first = task.training_examples()[0]
    assert (
        foundation.tokenizer.decode(first["input_ids"])
        == "Lesson: What falls from dark clouds? rain"
    )
    scored = task.evaluate(foundation.model, batch_size=8, examples=None)
    assert [metric.metric for metric in scored.metrics] == ["acc"]
    assert scored.facts["definition"] == {"id": "lessons", "version": "3"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("multiple_choice", "generate_until", "'lessons' has generate_until; kind lm_eval runs"),
        ("metric: acc", "metric: f1", "'lessons' is scored by f1; kind lm_eval knows acc"),
        ("test_split", "validation_split", "scores the validation split of 'lessons'; leave test"),
        ("metadata", "metadatum", "'lessons' has a key 'metadatum', which lm-eval does not know"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path, foundation, old, new, message):
    """Before anything is read."""
    with pytest.raises(SuiteError, match=message):
        local(tmp_path, foundation, DEFINITION.replace(old, new))


def test_the_papers_prompt_is_known_for_its_tasks_alone(foundation):
    """race has another form of rows; others the paper did not run."""
    data = {"test": str(ROWS / "arc_easy.jsonl")}
    for name, message in {
        "race": "a row of 'race' holds several; use task race_questions",
        "commonsense_qa": "prompt: paper is not known for 'commonsense_qa', only for arc_",
    }.items():
        split = "test" if name == "race" else "validation"
        given = {split: data["test"]}
        with pytest.raises(SuiteError, match=message):
            prepare({"kind": "lm_eval", "id": name, "prompt": "paper"}, given, foundation)
