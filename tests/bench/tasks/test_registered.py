"""Tasks of lm-eval over local rows: scored as lm-eval scores them, tuned on what it scores."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from bench.errors import SuiteError
from bench.suite.task_files import read_task_file, resolve, task_files
from bench.tasks.sequences import IGNORED
from bench.tasks.task import Task, examples_of, loss_on, prepare
from offsite.models import Foundation, load_model
from tests.bench.command import ROOT

PIQA = [
    {"goal": f"To {goal},", "sol1": one, "sol2": two, "label": label}
    for goal, one, two, label in [
        ("dry a plate", "use a dry towel", "use a wet stone in the rain", 0),
        ("see in the dark", "close both of your eyes", "light a lamp", 1),
        ("sharpen a pencil", "turn it in a sharpener", "put it into water", 0),
        ("open a letter", "bake it", "cut the envelope along its edge", 1),
        ("keep soup warm", "put a lid on the pot", "put the pot into snow", 0),
    ]
]
ARC = [
    {
        "id": f"q{number}",
        "question": question,
        "choices": {"text": texts, "label": [*"ABCD"][: len(texts)]},
        "answerKey": key,
    }
    for number, (question, texts, key) in enumerate(
        [
            ("What falls from clouds?", ["rain", "sand", "light", "stones"], "A"),
            ("Which one is a metal?", ["wood", "iron", "glass"], "B"),
            ("What do plants need?", ["noise", "paper", "water", "salt"], "C"),
        ]
    )
]
HELLASWAG = [
    {
        "activity_label": "Baking",
        "ctx_a": "A man stands in a kitchen [step] and takes flour.",
        "ctx_b": "he",
        "endings": ["makes  a dough.", "flies away.", "sings to it.", "paints a car."],
        "label": "0",
    },
    {
        "activity_label": "Running",
        "ctx_a": "A woman ties her shoes.",
        "ctx_b": "she",
        "endings": ["eats them.", "starts to run.", "sleeps in them.", "sells a house."],
        "label": "1",
    },
]
WEBQS = [
    {"question": "which city has the tower?", "answers": ["Paris", "Paris, France", "City"]},
    {"question": "who wrote it?", "answers": ["A poet"]},
]
ROWS = {"piqa": PIQA, "arc_easy": ARC, "hellaswag": HELLASWAG, "webqs": WEBQS}
SCORED = {"piqa": "validation", "arc_easy": "test", "hellaswag": "validation", "webqs": "test"}


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """A JSONL file of the rows."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def registered(
    folder: Path,
    foundation: Foundation,
    name: str,
    rows: list[dict[str, Any]] | None = None,
    length: int = 96,
) -> Task:
    """The task of lm-eval's definition over rows, the same ones to tune on and to score."""
    file = write(folder / "rows.jsonl", ROWS[name] if rows is None else rows)
    data = {"train": file, SCORED[name]: file}
    return prepare({"kind": "lm_eval", "id": name, "length": length}, data, foundation)


def by_lm_eval(folder: Path, foundation: Foundation, name: str) -> dict[str, Any]:
    """What lm-eval reports for its own task of that name, its data set replaced by the file."""
    import lm_eval
    import lm_eval.tasks
    from lm_eval.models.huggingface import HFLM

    own = Path(lm_eval.tasks.__file__).parent / name.split("_")[0]
    manager = lm_eval.tasks.TaskManager(include_path=str(own), include_defaults=False)
    file = str(folder / "rows.jsonl")
    kwargs = {"data_files": {"train": file, SCORED[name]: file}, "cache_dir": str(folder / "cache")}
    if SCORED[name] == "test":
        kwargs["data_files"]["validation"] = file
    member = {"task": name, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": kwargs}
    tasks = manager.load({"group": "one", "task": [member]})
    lm = HFLM(
        pretrained=foundation.model, tokenizer=foundation.tokenizer, batch_size=2, max_length=96
    )
    results: dict[str, Any] = lm_eval.evaluate(lm, tasks, bootstrap_iters=2)["results"][name]
    return results


@pytest.mark.parametrize("name", ROWS)
def test_scores_are_those_lm_eval_reports(foundation, tmp_path, name):
    """Same rows, same model: the same metrics, value and standard error."""
    scored = registered(tmp_path, foundation, name).evaluate(
        foundation.model, batch_size=2, examples=None
    )
    expected = by_lm_eval(tmp_path, foundation, name)
    for metric in scored.metrics:
        assert metric.value == pytest.approx(expected[f"{metric.metric},none"])
        assert metric.stderr == pytest.approx(expected[f"{metric.metric}_stderr,none"])
        assert metric.n == len(scored.items) == len(ROWS[name])
    names = {key.split(",")[0] for key in expected if ",none" in key and "stderr" not in key}
    assert {metric.metric for metric in scored.metrics} == names
    assert scored.facts["definition"]["id"] == name


TEXTS = {
    "piqa": ("Question: To dry a plate,\nAnswer: use a dry towel", " use a dry towel"),
    "arc_easy": ("Question: What falls from clouds?\nAnswer: rain", " rain"),
    "hellaswag": (
        "Baking: A man stands in a kitchen and takes flour. He makes a dough.",
        " makes a dough.",
    ),
    # The aliases in order: the first of the accepted ones.
    "webqs": ("Question: which city has the tower?\nAnswer: City", " City"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_training_text_is_the_definitions_own(foundation, tmp_path, name):
    """Context, delimiter and right choice after its clean-up; only the choice is learnt."""
    example = registered(tmp_path, foundation, name).training_examples()[0]
    text, target = TEXTS[name]
    assert foundation.tokenizer.decode(example["input_ids"]) == text
    learned = [label for label in example["labels"] if label != IGNORED]
    assert foundation.tokenizer.decode(learned) == target


def test_what_is_tuned_is_what_is_scored(foundation, tmp_path):
    """The training loss of a row is its right choice's log-likelihood in the scored items."""
    task = registered(tmp_path, foundation, "piqa")
    items = task.evaluate(foundation.model, batch_size=2, examples=None).items
    for row, example, item in zip(PIQA, task.training_examples(), items, strict=True):
        tokens = sum(label != IGNORED for label in example["labels"])
        loss = float(task.loss(foundation.model, task.collate([example])).detach())
        assert -loss * tokens == pytest.approx(item["loglikelihoods"][row["label"]], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "guess"), [("piqa", 1 / 2), ("arc_easy", (1 / 4 + 1 / 3 + 1 / 4) / 3)]
)
def test_chance_is_the_mean_over_the_scored_items(foundation, tmp_path, name, guess):
    """Questions have different numbers of choices."""
    task = registered(tmp_path, foundation, name)
    metrics = task.evaluate(foundation.model, batch_size=4, examples=None).metrics
    assert [m.chance for m in metrics] == [pytest.approx(guess)] * 2


def test_a_greedy_match_has_no_chance(foundation, tmp_path):
    """Nothing that knows nothing writes the answer."""
    task = registered(tmp_path, foundation, "webqs")
    (metric,) = task.evaluate(foundation.model, batch_size=4, examples=None).metrics
    assert (metric.metric, metric.chance) == ("exact_match", 0.0)


def test_a_sample_is_of_the_scored_split(foundation, tmp_path):
    """One item of each place of the right answer, and n says how many."""
    task = registered(tmp_path, foundation, "piqa")
    some = task.evaluate(foundation.model, batch_size=4, examples=2)
    assert sorted(item["target"] for item in some.items) == [0, 1]
    assert {metric.n for metric in some.metrics} == {2}


@pytest.mark.parametrize("name", ["piqa", "arc_easy"])
def test_what_is_chosen_on_has_the_loss_that_is_trained(foundation, tmp_path, name):
    """Whichever split it is: piqa's is the scored one, for want of another."""
    task = registered(tmp_path, foundation, name)
    examples = examples_of(task, task.scored)
    assert examples == task.training_examples()
    loss = float(task.loss(foundation.model, task.collate(examples)).detach())
    assert loss_on(task, foundation.model, examples) == pytest.approx(loss, rel=1e-4)


def test_rows_whose_answer_does_not_fit_are_left_out_and_counted(foundation, tmp_path):
    """No context leaves nothing that predicts a one-token answer of a one-token text."""
    rows = [{"question": "", "choices": ["a", "b"], "label": 0}]
    rows += [{"question": "A spoon", "choices": ["is flat", "is not"], "label": 1}]
    file = write(tmp_path / "rows.jsonl", rows)
    task = prepare(
        {"kind": "multiple_choice", "doc_to_text": "question"},
        {"train": file, "test": file},
        foundation,
    )
    assert (len(task.training_examples()), task.dropped) == (1, 1)


def test_an_answer_longer_than_the_task_is_left_out_of_tuning_and_named_in_scoring(
    foundation, tmp_path
):
    """Half an answer teaches another one, lm-eval cannot score it, and a check names it in both."""
    rows = changed("piqa", 1, sol2="a word and " * 12)
    task = registered(tmp_path, foundation, "piqa", rows, length=30)
    assert (len(task.training_examples()), task.dropped) == (4, 1)
    message = r"rows\.jsonl:2: a choice of \d+ tokens, more than the task's length of 30$"
    with pytest.raises(SuiteError, match=message):
        task.evaluate(foundation.model, batch_size=2, examples=None)
    train = {"train": task.data["train"], "validation": write(tmp_path / "sound.jsonl", PIQA)}
    described = {"kind": "lm_eval", "id": "piqa", "length": 30}
    with pytest.raises(SuiteError, match=message):
        prepare(described, train, foundation).check()


def test_a_context_that_ends_in_a_space_is_cut_as_lm_eval_cuts_it(foundation, tmp_path):
    """Its space is scored with the choice, so it is learnt with it."""
    file = write(
        tmp_path / "r.jsonl", [{"question": "Rain is ", "choices": ["wet", "dry"], "label": 0}]
    )
    task = prepare({"kind": "multiple_choice"}, {"train": file, "test": file}, foundation)
    (example,) = task.training_examples()
    (item,) = task.evaluate(foundation.model, batch_size=1, examples=None).items
    learned = sum(label != IGNORED for label in example["labels"])
    loss = float(task.loss(foundation.model, task.collate([example])).detach())
    assert -loss * learned == pytest.approx(item["loglikelihoods"][0], abs=1e-3)


def changed(name: str, position: int, **values: object) -> list[dict[str, Any]]:
    """The rows of a task with one of them changed; a field set to ... is taken out."""
    rows = deepcopy(ROWS[name])
    rows[position] |= values
    rows[position] = {key: value for key, value in rows[position].items() if value is not ...}
    return rows


MALFORMED = {
    r"rows.jsonl:4: no field 'sol2', which other rows have": changed("piqa", 3, sol2=...),
    r"rows.jsonl:3: label 2 is none of 2 choices": changed("piqa", 2, label=2),
    r"rows.jsonl:5: label -1 is none of 2 choices": changed("piqa", 4, label=-1),
    r"rows.jsonl:2: the choice '' is no text": changed("piqa", 1, sol1=""),
    r"rows.jsonl:2: the choice None is no text": changed("piqa", 1, sol1=None),
    r"rows.jsonl:3: the task cannot read it \(ValueError: 'Z' is not": changed(
        "arc_easy", 2, answerKey="Z"
    ),
    r"rows.jsonl:1: the task cannot read it": changed("arc_easy", 0, answerKey="Z"),
    r"rows.jsonl:2: the task cannot read it \(ValueError: invalid lit": changed(
        "hellaswag", 1, label=""
    ),
    r"rows.jsonl:1: the task cannot read it \(UndefinedError: 'goal'": [
        {"sol1": "a", "sol2": "b", "label": 0}
    ],
    r"rows.jsonl:3: the task cannot read it \(Arrow": changed("piqa", 2, label="one"),
    r"rows.jsonl has no rows": [],
}


@pytest.mark.parametrize("message", MALFORMED)
def test_a_malformed_row_is_named(foundation, tmp_path, message):
    """File and row in one line, whether it is tuned on or scored."""
    rows = MALFORMED[message]
    name = next((n for n in ROWS if rows and rows[-1].keys() == ROWS[n][-1].keys()), "piqa")
    task = registered(tmp_path, foundation, name, rows)
    with pytest.raises(SuiteError, match=message) as caught:
        task.training_examples()
    assert "\n" not in str(caught.value)
    with pytest.raises(SuiteError, match=message):
        task.evaluate(foundation.model, batch_size=2, examples=None)
    with pytest.raises(SuiteError, match=message):
        task.check()


def test_data_whose_scored_split_is_not_the_definitions_are_refused(foundation, tmp_path):
    """The line says what to change."""
    file = write(tmp_path / "rows.jsonl", PIQA)
    wrong = {
        "piqa": ({"train": file, "test": file}, "scores the validation split.*leave test out"),
        "arc_easy": ({"validation": file}, "scores the test split of 'arc_easy'; add test to"),
    }
    for name, (data, message) in wrong.items():
        with pytest.raises(SuiteError, match=message):
            prepare({"kind": "lm_eval", "id": name}, data, foundation)


def test_tasks_this_kind_cannot_run_are_refused(foundation, tmp_path, monkeypatch):
    """Another output type, or a name lm-eval does not know."""
    import lm_eval.tasks

    data = {"test": write(tmp_path / "rows.jsonl", PIQA)}
    message = r"^lm-eval task 'gsm8k' has generate_until; kind lm_eval runs [^\n]*multiple_choice$"
    with pytest.raises(SuiteError, match=message):
        prepare({"kind": "lm_eval", "id": "gsm8k"}, data, foundation)
    # The real list takes seconds to read.
    scan = lm_eval.tasks.TaskManager
    near = str(Path(lm_eval.tasks.__file__).parent / "piqa")
    monkeypatch.setattr(
        lm_eval.tasks,
        "TaskManager",
        lambda **given: scan(include_path=near, include_defaults=False),
    )
    expected = r"^unknown lm-eval task 'piqaa'\. Did you mean 'piqa'.{0,80}lm-eval ls [^\n]{0,40}$"
    with pytest.raises(SuiteError, match=expected):
        prepare({"kind": "lm_eval", "id": "piqaa"}, data, foundation)


LM_EVAL_FILES = [
    name for name in task_files() if read_task_file(name).plain().get("task") == "lm_eval"
]


@pytest.mark.parametrize("name", LM_EVAL_FILES)
def test_a_task_file_says_what_the_installed_definition_says(name):
    """Data set, config and splits are those of lm-eval, so a score is comparable with its own."""
    import lm_eval.tasks

    task, _ = resolve(name, read_task_file(name), ROOT)
    folder = Path(lm_eval.tasks.__file__).parent
    own_id = task.parameters.id.replace("{subject}", "anatomy")
    patterns = ("*/{}.yaml", "{}/default.yaml", "*/{}/default.yaml", "*/*/{}.yaml")
    near = {str(path.parent) for each in patterns for path in folder.glob(each.format(own_id))}
    manager = lm_eval.tasks.TaskManager(include_path=sorted(near), include_defaults=False)
    definition = manager.task_index[own_id].cfg
    assert task.hub.repository == definition["dataset_path"]
    if name == "mmlu":
        # Subjects are configurations there, and rows here; lm-eval names no split to tune on.
        assert definition["dataset_name"] == "anatomy"
        assert (definition["test_split"], definition["fewshot_split"]) == ("test", "dev")
        assert (task.hub.splits["test"], task.hub.splits["validation"]) == ("test", "dev")
        return
    assert task.hub.config == definition.get("dataset_name")
    own = {
        "train": definition.get("training_split"),
        "validation": definition.get("validation_split"),
        "test": definition.get("test_split"),
    }
    assert task.hub.splits == {split: value for split, value in own.items() if value}


REAL = {
    "arc_easy": {"train": "validation", "test": "test"},
    "boolq": {"train": "validation", "validation": "validation"},
    "openbookqa": {"train": "validation", "test": "test"},
    "piqa": {"train": "validation", "validation": "validation"},
    "hellaswag": {"train": "pseudo_train", "validation": "validation"},
    "sciq": {"train": "pseudo_train", "test": "test"},
    "webqs": {"train": "test", "test": "test"},
}


@pytest.mark.parametrize("name", REAL)
def test_real_rows_are_read_tuned_on_and_scored(foundation, name):
    """The hub's own field names, every row of a slice, a few of them scored."""
    home = os.environ.get("OFFSITE_BENCH_DATA")
    if not home:
        pytest.skip("OFFSITE_BENCH_DATA is not set: no real data")
    data = {role: f"{home}/{name}/{file}.jsonl" for role, file in REAL[name].items()}
    task = prepare({"kind": "lm_eval", "id": name, "length": 512}, data, foundation)
    assert len(task.training_examples()) > 200
    assert task.dropped == 0
    scored = task.evaluate(foundation.model, batch_size=4, examples=3)
    assert len(scored.items) == 3
    assert all(0 <= metric.value <= 1 for metric in scored.metrics)
