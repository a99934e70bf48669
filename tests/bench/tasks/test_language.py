"""Text tasks against hand-computed answers, on rows written for these tests."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from bench.errors import SuiteError
from bench.tasks.samples import content_hash
from bench.tasks.sequences import IGNORED
from bench.tasks.task import Task, batches, prepare, steps_for
from offsite.models import Foundation, load_model
from tests.bench.command import ROOT
from tests.fakes import tiny_model

DATA = ROOT / "tests" / "data"
CHOICES = {split: str(DATA / "choices.jsonl") for split in ("train", "validation", "test")}
LESSONS = {split: str(DATA / "lessons.jsonl") for split in ("train", "validation", "test")}


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


def multiple_choice(foundation: Foundation, **fields: object) -> Task:
    """The task over the rows of these tests."""
    return prepare({"kind": "multiple_choice", **fields}, CHOICES, foundation)


def perplexity(foundation: Foundation, block: int = 32) -> Task:
    """The task over the texts of these tests."""
    return prepare({"kind": "perplexity", "block": block}, LESSONS, foundation)


def log_probabilities(model: nn.Module, ids: list[int]) -> torch.Tensor:
    """Log-probability of each token but the first, given those before it."""
    with torch.no_grad():
        scores = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
    return scores[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]


def test_choices_are_scored_as_by_hand(foundation):
    """Each choice's log-likelihood, acc and acc_norm agree with a computation from logits."""
    scored = multiple_choice(foundation).evaluate(foundation.model, batch_size=4, examples=None)
    rows = [json.loads(line) for line in Path(CHOICES["test"]).read_text().splitlines()]
    hits = {"acc": 0, "acc_norm": 0}
    for row, item in zip(rows, scored.items, strict=True):
        sums = []
        for choice in row["choices"]:
            start = foundation.tokenizer(row["question"])["input_ids"]
            whole = foundation.tokenizer(f"{row['question']} {choice}")["input_ids"]
            sums.append(float(log_probabilities(foundation.model, whole)[len(start) - 1 :].sum()))
        assert item["loglikelihoods"] == pytest.approx(sums, abs=1e-3)
        lengths = [len(choice) for choice in row["choices"]]
        best = max(range(4), key=lambda i: sums[i])
        best_norm = max(range(4), key=lambda i: sums[i] / lengths[i])
        hits["acc"] += best == row["label"]
        hits["acc_norm"] += best_norm == row["label"]
    values = {m.metric: m.value for m in scored.metrics}
    assert values == {name: pytest.approx(count / 32) for name, count in hits.items()}


def test_training_text_is_what_is_scored(foundation):
    """Question, the scorer's own space, right choice; only the choice has labels."""
    example = multiple_choice(foundation).training_examples()[0]
    assert foundation.tokenizer.decode(example["input_ids"]) == "A spoon is used to eat soup"
    learned = [i for i in example["labels"] if i != IGNORED]
    assert foundation.tokenizer.decode(learned) == " eat soup"


def test_too_long_a_context_loses_its_start_never_its_answer(foundation):
    """Truncation is from the left."""
    example = multiple_choice(foundation, length=6).training_examples()[0]
    assert len(example["input_ids"]) == 6
    assert foundation.tokenizer.decode(example["input_ids"]).endswith(" eat soup")


def test_a_sample_is_chosen_by_content(foundation):
    """Each place of the right answer has its share, n says how many, and order is kept."""
    task = multiple_choice(foundation)
    whole = task.evaluate(foundation.model, batch_size=4, examples=None).items
    scored = task.evaluate(foundation.model, batch_size=4, examples=16)
    assert Counter(item["target"] for item in scored.items) == {0: 4, 1: 4, 2: 4, 3: 4}
    assert {m.n for m in scored.metrics} == {16}
    docs = [item["doc"] for item in scored.items]
    assert docs == [item["doc"] for item in whole if item["doc"] in docs]


def test_a_sample_of_blocks_is_chosen_by_their_tokens(foundation):
    """The blocks with the smallest hashes, as they stand in the text."""
    task = perplexity(foundation)
    blocks = [block["input_ids"] for block in task.examples("test")]
    whole = task.evaluate(foundation.model, batch_size=4, examples=None).items
    some = task.evaluate(foundation.model, batch_size=4, examples=3).items
    smallest = sorted(sorted(range(len(blocks)), key=lambda i: content_hash(blocks[i]))[:3])
    expected = [whole[i]["nll"] for i in smallest]
    assert [item["nll"] for item in some] == pytest.approx(expected, rel=1e-5)


def test_perplexity_is_weighted_by_tokens(foundation):
    """exp of the mean over all scored tokens of all blocks, the short last block included."""
    task = perplexity(foundation)
    scored = task.evaluate(foundation.model, batch_size=4, examples=None)
    stream: list[int] = []
    for line in Path(LESSONS["test"]).read_text().splitlines():
        stream += foundation.tokenizer(json.loads(line)["text"])["input_ids"]
        stream.append(foundation.tokenizer.eos_token_id)
    blocks = [stream[i : i + 32] for i in range(0, len(stream), 32)]
    parts = [log_probabilities(foundation.model, b) for b in blocks if len(b) > 1]
    expected = math.exp(-float(torch.cat(parts).mean()))
    metric = scored.metrics[0]
    assert metric.value == pytest.approx(expected, rel=1e-5)
    assert metric.n == sum(len(part) for part in parts)
    assert metric.stderr > 0


def test_chance_of_a_perplexity_is_the_size_of_the_head(foundation):
    """A uniform guess over all tokens the model knows."""
    (metric,) = perplexity(foundation).evaluate(foundation.model, batch_size=8, examples=4).metrics
    assert metric.chance == foundation.model.config.vocab_size == 2048


def test_the_token_stream_is_known_by_its_hash(foundation):
    """It does not depend on what is scored of it, and it does on what the tokens are."""
    task = perplexity(foundation)
    streams = [
        task.evaluate(foundation.model, batch_size=8, examples=count).facts["token_stream"]
        for count in (1, 2)
    ]
    assert streams[0] == streams[1]
    joined = prepare({"kind": "perplexity", "row_end": "tokenizer"}, LESSONS, foundation)
    assert joined.evaluate(foundation.model, batch_size=8, examples=1).facts != {
        "token_stream": streams[0]
    }


def test_rows_may_end_as_the_tokenizer_ends_a_text(foundation):
    """One that puts nothing around a text lets rows follow one another; another begins each."""
    rows = [json.loads(line)["text"] for line in Path(LESSONS["train"]).read_text().splitlines()]
    described = {"kind": "perplexity", "block": 8, "row_end": "tokenizer"}
    task = prepare(described, LESSONS, foundation)
    found = [token for example in task.training_examples() for token in example["input_ids"]]
    expected = [token for row in rows for token in foundation.tokenizer(row)["input_ids"]]
    assert found == expected[: len(found)]
    assert foundation.tokenizer.eos_token_id not in found
    assert len(expected) - len(found) < 8
    begun = prepare({**described, "block": 2}, LESSONS, with_start_token(foundation))
    stream = [token for example in begun.training_examples() for token in example["input_ids"]]
    assert stream.count(foundation.tokenizer.eos_token_id) == len(rows)


def test_batch_size_moves_perplexity_by_rounding_alone(foundation):
    """Blocks are cut before they are batched."""
    task = perplexity(foundation)
    values = [
        task.evaluate(foundation.model, batch_size=size, examples=None).metrics[0].value
        for size in (1, 7)
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_the_loss_that_is_trained_is_the_loss_that_is_scored(foundation):
    """exp of the mean training loss over the same whole blocks is their perplexity."""
    task = perplexity(foundation)
    whole = task.training_examples()
    losses = [float(task.loss(foundation.model, task.collate([e])).detach()) for e in whole]
    items = task.evaluate(foundation.model, batch_size=1, examples=None).items
    scored = [item["nll"] / item["tokens"] for item in items[: len(whole)]]
    assert losses == pytest.approx(scored, rel=1e-4)


def test_order_depends_on_the_seed_alone(foundation):
    """Equal seeds give equal batches, other seeds others, and each epoch a new order."""
    task = multiple_choice(foundation)
    examples = task.training_examples()

    def first_two_epochs(seed: int) -> list[list[int]]:
        stream = batches(task, examples, batch_size=32, seed=seed)
        return [next(stream).inputs["input_ids"].flatten().tolist() for _ in range(2)]

    assert first_two_epochs(0) == first_two_epochs(0)
    assert first_two_epochs(0) != first_two_epochs(1)
    assert first_two_epochs(0)[0] != first_two_epochs(0)[1]


def test_padding_is_counted_apart(foundation):
    """Real tokens are the mask's sum; padded tokens all positions."""
    task = multiple_choice(foundation)
    batch = task.collate(task.training_examples()[:4])
    assert batch.tokens_real == int(batch.inputs["attention_mask"].sum())
    assert batch.tokens_padded == batch.inputs["input_ids"].numel() > batch.tokens_real


@pytest.mark.parametrize(
    ("examples", "epochs", "max_steps", "steps"),
    [(10, 3, None, 9), (10, 3, 2, 2), (1, 0.1, None, 1)],
)
def test_steps_come_from_epochs_unless_given(examples, epochs, max_steps, steps):
    """max_steps wins, as in the Hugging Face Trainer."""
    assert steps_for(examples, batch_size=4, epochs=epochs, max_steps=max_steps) == steps


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_choice_is_refused(foundation, tmp_path, label):
    """Hidden labels (-1) and labels counted from 1 would be scored as wrong answers."""
    row = {"question": "q", "choices": ["a", "b"], "label": label}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    data = {split: str(tmp_path / "rows.jsonl") for split in ("train", "test")}
    task = prepare({"kind": "multiple_choice"}, data, foundation)
    message = r"rows\.jsonl:1: .*choices, counted from 0"
    with pytest.raises(SuiteError, match=message):
        task.evaluate(foundation.model, batch_size=1, examples=None)
    with pytest.raises(SuiteError, match=message):
        task.training_examples()


def with_start_token(foundation: Foundation) -> Foundation:
    """The model with a tokenizer that begins every text with a token."""
    from copy import deepcopy
    from dataclasses import replace

    from tokenizers.processors import TemplateProcessing

    tokenizer = deepcopy(foundation.tokenizer)
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    return replace(foundation, tokenizer=tokenizer)


def test_text_is_tuned_as_it_is_scored_with_a_start_token_too(foundation):
    """A tokenizer that begins every text with a token does so for both."""
    starting = with_start_token(foundation)
    tokenizer = starting.tokenizer
    example = multiple_choice(starting).training_examples()[0]
    assert example["input_ids"][0] == tokenizer.eos_token_id
    learned = [i for i in example["labels"] if i != IGNORED]
    assert tokenizer.decode(learned) == " eat soup"


def test_other_line_separators_in_a_string_are_text(foundation, tmp_path):
    """JSON leaves U+2028 as it is; a row is what a newline ends."""
    (tmp_path / "rows.jsonl").write_text('{"text": "one\u2028two"}\n', encoding="utf-8")
    data = {split: str(tmp_path / "rows.jsonl") for split in ("train", "test")}
    task = prepare({"kind": "perplexity", "block": 4}, data, foundation)
    assert task.training_examples()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "fine"}\nnot json\n', "rows.jsonl:2: not JSON"),
        ('{"text": "fine"}\n[1]\n', "rows.jsonl:2: expected a JSON object"),
        ("", "has no rows"),
        ('{"txt": "fine"}\n', "rows.jsonl:1: no text in field 'text'; the row has txt"),
        ('{"text": 3}\n', "rows.jsonl:1: no text in field 'text'"),
    ],
)
def test_malformed_rows_are_named(foundation, tmp_path, content, message):
    """File and line, never a stack trace from deep inside a tokenizer."""
    (tmp_path / "rows.jsonl").write_text(content)
    data = {"train": str(tmp_path / "rows.jsonl"), "test": str(tmp_path / "rows.jsonl")}
    with pytest.raises(SuiteError, match=message):
        prepare({"kind": "perplexity"}, data, foundation).training_examples()


@pytest.mark.parametrize(("kind", "reads"), [("gpt2", 64), ("llama", 256)])
def test_no_text_is_longer_than_learned_positions(tmp_path, kind, reads):
    """A table of 64 positions ends there, whatever a task says; rotary ones go on."""
    row = {"question": "word " * 600, "choices": ["yes", "no"], "label": 0}
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(row) + "\n")
    tokenizer = load_model(ROOT / "suites" / "models" / "tiny-lm").tokenizer
    model = tiny_model(kind).eval()
    model.resize_token_embeddings(len(tokenizer))
    owner = Foundation(model=model, kind="language", tokenizer=tokenizer)
    described = {"kind": "multiple_choice", "length": 256}
    task = prepare(described, {"train": str(file), "test": str(file)}, owner)
    assert [len(e["input_ids"]) for e in task.training_examples()] == [reads]
    done = task.evaluate(owner.model, batch_size=1, examples=None)
    assert done.facts["length"] == reads
