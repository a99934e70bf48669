"""Rows of every task's shape, written by us: each is checked, tuned on and scored."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from lm_eval.models.huggingface import HFLM

from bench.errors import SuiteError
from bench.stages.work import write_rows
from bench.suite.task_files import read_task_file
from bench.tasks.documents import documents, read
from bench.tasks.task import Task, batches, prepare
from offsite.models import Foundation, load_model
from offsite.training import NonFiniteLoss, Recipe, train
from tests.bench.command import ROOT

ROWS = ROOT / "tests" / "data" / "tasks"
SCORED = {
    "arc_easy": ("test", ("acc", "acc_norm")),
    "boolq": ("validation", ("acc",)),
    "commonsense_qa": ("validation", ("acc",)),
    "copa": ("validation", ("acc",)),
    "hellaswag": ("validation", ("acc", "acc_norm")),
    "lambada_openai": ("test", ("acc", "perplexity")),
    "mmlu": ("test", ("acc",)),
    "openbookqa": ("test", ("acc", "acc_norm")),
    "piqa": ("validation", ("acc", "acc_norm")),
    "sciq": ("test", ("acc", "acc_norm")),
    "webqs": ("test", ("exact_match",)),
    "wikitext": ("test", ("word_perplexity", "byte_perplexity", "bits_per_byte")),
    "winogrande": ("validation", ("acc",)),
}
"""Task file to the split it scores and its metrics."""
LENGTH = 128


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


def shaped(name: str, foundation: Foundation, **fields: object) -> Task:
    """The task over our rows, the same ones to tune on and to score."""
    file = str(ROWS / f"{name}.jsonl")
    own: Any = read_task_file(name).plain()
    described = {"kind": "lm_eval", "id": own["id"], "length": LENGTH, **fields}
    return prepare(described, {"train": file, SCORED[name][0]: file}, foundation)


@pytest.mark.parametrize("name", SCORED)
def test_a_shape_is_checked_tuned_on_and_scored(foundation, name):
    """One step moves every item's log-likelihoods; nothing is left out, and all is counted."""
    task = shaped(name, foundation)
    task.check()
    examples = task.training_examples()
    assert len(examples) >= 32
    assert task.dropped == 0
    tuned = deepcopy(foundation.model)
    before = task.evaluate(tuned, batch_size=8, examples=None)
    recipe = Recipe(learning_rate=1e-3, steps=1, schedule="constant")
    train(tuned, batches(task, examples, batch_size=8, seed=0), recipe, loss_of=task.loss)
    after = task.evaluate(tuned.eval(), batch_size=8, examples=None)
    assert tuple(metric.metric for metric in after.metrics) == SCORED[name][1]
    assert {metric.n for metric in after.metrics} == {32}
    assert len(after.items) == 32
    for one, other in zip(before.items, after.items, strict=True):
        assert one["doc"] == other["doc"]
        assert one["loglikelihoods"] != other["loglikelihoods"]


@pytest.mark.parametrize("name", SCORED)
def test_scores_are_those_lm_eval_reports(foundation, name):
    """Its own model over the same documents: every metric, and of a group the mean over all."""
    task: Any = shaped(name, foundation)
    scored = task.evaluate(foundation.model, batch_size=8, examples=None)
    lm = HFLM(
        pretrained=foundation.model,
        tokenizer=foundation.tokenizer,
        batch_size=8,
        max_length=LENGTH,
    )
    parts = read(task.definition, task.data, task.scored, is_scored=True)
    done = lm_eval.evaluate(lm, {part.name: part.task for part in parts}, bootstrap_iters=0)
    for metric in scored.metrics:
        values = [done["results"][part.name][f"{metric.metric},none"] for part in parts]
        weights = [len(part.places) for part in parts]
        mean = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
        assert metric.value == pytest.approx(mean, rel=1e-4)


def test_a_group_is_divided_among_its_definitions(foundation):
    """Each subject's rows have that subject's description; the rows are in no order of subjects."""
    task: Any = shaped("mmlu", foundation)
    parts = read(task.definition, task.data, "test", is_scored=True)
    assert {part.name: len(part.places) for part in parts} == {
        "mmlu_conceptual_physics": 13,
        "mmlu_high_school_biology": 13,
        "mmlu_astronomy": 4,
        "mmlu_miscellaneous": 2,
    }
    for part in parts:
        subject = part.name.removeprefix("mmlu_").replace("_", " ")
        for document in documents(part):
            assert document.asked[0][0].startswith(
                f"The following are multiple choice questions (with answers) about {subject}."
            )


PAPER = {
    "arc_easy": ("Answer: rain", "Answer:rain"),
    "piqa": ("Answer: wipe it with a dry towel", "Answer:wipe it with a dry towel"),
    "openbookqa": ("clouds? rain", "clouds?rain"),
    "webqs": ("Answer: rain", "Answer: rain"),
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_training_text_lacks_the_space_that_is_scored(foundation, name):
    """But for WebQuestions; what is scored is the same."""
    tasks = [shaped(name, foundation, prompt=prompt) for prompt in ("definition", "paper")]
    for task, end in zip(tasks, PAPER[name], strict=True):
        ids = task.training_examples()[0]["input_ids"]
        assert foundation.tokenizer.decode(ids).endswith(end)
    scored = [task.evaluate(foundation.model, batch_size=8, examples=4) for task in tasks]
    assert scored[0].items == scored[1].items


ITEMS = {
    "arc_easy": {"doc", "target", "loglikelihoods", "prediction", "acc", "acc_norm"},
    "winogrande": {"doc", "target", "loglikelihoods", "prediction", "acc"},
    "webqs": {"doc", "target", "loglikelihoods", "prediction", "exact_match"},
    "lambada_openai": {"doc", "target", "loglikelihoods", "prediction", "acc"},
    "wikitext": {"doc", "loglikelihoods", "words", "bytes"},
}
READ = """\
import sys
import pandas
items = pandas.read_json(sys.argv[1], lines=True)
assert len(items) == 32 and not items.isna().any().any()
assert "torch" not in sys.modules
print(*items.columns)
"""


@pytest.mark.parametrize("name", ITEMS)
def test_items_are_read_by_pandas_without_torch(foundation, tmp_path, name):
    """One row a document with all that was said of it."""
    scored = shaped(name, foundation).evaluate(foundation.model, batch_size=8, examples=None)
    path = write_rows(tmp_path / "items.jsonl", scored.items)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == ITEMS[name]


def test_a_prediction_is_the_likeliest_choice(foundation):
    """acc is whether it is the target."""
    items = (
        shaped("arc_easy", foundation).evaluate(foundation.model, batch_size=8, examples=None).items
    )
    for item in items:
        best = max(item["loglikelihoods"])
        assert item["loglikelihoods"][item["prediction"]] == best
        assert item["acc"] == (item["prediction"] == item["target"])
    assert {item["target"] for item in items} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["webqs", "lambada_openai"])
def test_without_choices_a_prediction_is_whether_the_answer_is_said(foundation, name):
    """Greedy decoding says it or not."""
    items = shaped(name, foundation).evaluate(foundation.model, batch_size=8, examples=None).items
    metric = "exact_match" if name == "webqs" else "acc"
    assert [item["prediction"] for item in items] == [bool(item[metric]) for item in items]


def test_a_sample_is_stratified_by_the_right_answers_place(foundation, tmp_path):
    """Eight of 32 questions have each of four places twice, in whatever order the rows are."""
    task = shaped("arc_easy", foundation)
    scored = task.evaluate(foundation.model, batch_size=8, examples=8)
    assert sorted(item["target"] for item in scored.items) == [0, 0, 1, 1, 2, 2, 3, 3]
    lines = (ROWS / "arc_easy.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "turned.jsonl").write_text("".join(reversed(lines)))
    turned = prepare(
        {"kind": "lm_eval", "id": "arc_easy", "length": LENGTH},
        {"test": str(tmp_path / "turned.jsonl")},
        foundation,
    ).evaluate(foundation.model, batch_size=8, examples=8)
    docs = [item["doc"] for item in scored.items]
    assert [item["doc"] for item in reversed(turned.items)] == docs


def test_a_row_that_names_no_definition_is_named(foundation, tmp_path):
    """A field of the id that holds no text."""
    lines = (ROWS / "mmlu.jsonl").read_text().splitlines()[:2]
    lines[1] = json.dumps({**json.loads(lines[1]), "subject": None})
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    described = {"kind": "lm_eval", "id": "mmlu_{subject}"}
    task = prepare(described, {"test": str(tmp_path / "rows.jsonl")}, foundation)
    message = r"rows\.jsonl:2: no text in field 'subject', which the id 'mmlu_\{subject\}' names"
    with pytest.raises(SuiteError, match=message):
        task.check()


def test_a_sample_of_a_group_is_one_of_all_its_documents(foundation):
    """Subjects that none was drawn of are left out."""
    scored = shaped("mmlu", foundation).evaluate(foundation.model, batch_size=8, examples=4)
    assert sorted(item["target"] for item in scored.items) == [0, 1, 2, 3]


def test_whole_texts_are_tuned_on_in_the_windows_that_are_scored(foundation, tmp_path):
    """Every token is learnt once, and the loss of a short text is its log-likelihood."""
    task = shaped("wikitext", foundation)
    tokens = sum(
        len(foundation.tokenizer(document.asked[0][1])["input_ids"])
        for part in read(task.definition, task.data, "train")
        for document in documents(part)
    )
    examples = task.training_examples()
    assert sum(label != -100 for e in examples for label in e["labels"]) == tokens
    assert max(len(example["input_ids"]) for example in examples) == LENGTH
    (tmp_path / "short.jsonl").write_text('{"page": "Rain falls from dark clouds ."}\n')
    data = dict.fromkeys(("train", "test"), str(tmp_path / "short.jsonl"))
    short = prepare({"kind": "lm_eval", "id": "wikitext", "length": LENGTH}, data, foundation)
    (example,) = short.training_examples()
    (item,) = short.evaluate(foundation.model, batch_size=1, examples=None).items
    loss = float(short.loss(foundation.model, short.collate([example])).detach())
    count = sum(label != -100 for label in example["labels"])
    assert -loss * count == pytest.approx(item["loglikelihoods"][0], abs=1e-3)


def test_the_last_word_is_tuned_on_as_it_is_scored(foundation):
    """Context and word, and only the word is learnt."""
    task = shaped("lambada_openai", foundation)
    example = task.training_examples()[0]
    learned = [label for label in example["labels"] if label != -100]
    assert foundation.tokenizer.decode(learned) == " bread"
    (item, *_) = task.evaluate(foundation.model, batch_size=8, examples=None).items
    loss = float(task.loss(foundation.model, task.collate([example])).detach())
    assert -loss * len(learned) == pytest.approx(item["loglikelihoods"][0], abs=1e-3)
    assert item["target"] == " bread"


def test_a_uniform_guess_is_the_chance_of_a_loss(foundation):
    """Of a word: all tokens there are, for each of its tokens; of an exact answer nothing."""
    scored = shaped("lambada_openai", foundation).evaluate(
        foundation.model, batch_size=8, examples=None
    )
    chances = {metric.metric: metric.chance for metric in scored.metrics}
    assert chances["acc"] == 0
    assert chances["perplexity"] >= foundation.model.config.vocab_size
    perplexity = next(metric for metric in scored.metrics if metric.metric == "perplexity")
    assert 0 < perplexity.stderr < perplexity.value
    rolling = shaped("wikitext", foundation).evaluate(foundation.model, batch_size=8, examples=None)
    for metric in rolling.metrics:
        assert metric.value < metric.chance
        assert (metric.stderr, metric.better) == (None, "lower")


def test_a_loss_that_no_number_holds_is_no_result(foundation):
    """exp of thousands of nats a word."""
    broken = deepcopy(foundation.model)
    broken.model.norm.weight.data *= 1e5
    with pytest.raises(NonFiniteLoss, match=r"^a perplexity is too large for a number$"):
        shaped("lambada_openai", foundation).evaluate(broken, batch_size=8, examples=None)


def test_an_empty_text_is_scored_where_it_may_be_and_else_named(foundation, tmp_path):
    """A page without words is one word to lm-eval; a passage without a last word is a fault."""
    pages = [{"page": ""}, {"page": "Rain falls ."}]
    texts = [{"text": "Rain falls from dark clouds"}, {"text": ""}]
    for name, rows in {"wikitext": pages, "lambada_openai": texts}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = {
        name: prepare(
            {"kind": "lm_eval", "id": name, "length": LENGTH},
            dict.fromkeys(("train", "test"), str(tmp_path / f"{name}.jsonl")),
            foundation,
        )
        for name in ("wikitext", "lambada_openai")
    }
    scored = tasks["wikitext"].evaluate(foundation.model, batch_size=2, examples=None)
    assert [item["words"] for item in scored.items] == [1, 3]
    assert (len(tasks["wikitext"].training_examples()), tasks["wikitext"].dropped) == (1, 1)
    with pytest.raises(SuiteError, match=r"lambada_openai\.jsonl:2: there is no text to score"):
        tasks["lambada_openai"].check()


def test_every_shape_has_thirty_two_rows():
    """And every task that comes along for language has one, but for those made from another."""
    assert {path.stem for path in ROWS.iterdir()} == set(SCORED)
    for path in ROWS.iterdir():
        assert len(Path(path).read_text().splitlines()) == 32
