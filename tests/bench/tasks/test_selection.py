"""The slice of train that a checkpoint is chosen on, and the loss that it is chosen by."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from bench.errors import SuiteError
from bench.tasks import task as tasks
from bench.tasks.task import Example, Task, examples_of, hold_out, loss_on, prepare
from offsite.models import Foundation, load_model
from tests.bench.command import ROOT

LESSONS = str(ROOT / "tests" / "data" / "lessons.jsonl")


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


@pytest.fixture(scope="module")
def lessons(foundation: Foundation) -> Task:
    """The texts of these tests, in short blocks."""
    data = dict.fromkeys(("train", "validation", "test"), LESSONS)
    return prepare({"kind": "perplexity", "block": 24}, data, foundation)


def texts(count: int) -> list[Example]:
    """As many different examples."""
    return [{"input_ids": [i, i + 1, 7], "labels": [i, i + 1, 7]} for i in range(count)]


def ids(examples: list[Example]) -> list[list[int]]:
    """Their tokens."""
    return [example["input_ids"] for example in examples]


@pytest.mark.parametrize(("examples", "held"), [(2, 1), (19, 1), (200, 20), (5_100, 500)])
def test_a_tenth_is_held_out_at_least_one_and_at_most_500(examples, held):
    """Every example is in one of the two parts."""
    kept, selection = hold_out(texts(examples))
    assert len(selection) == held
    assert sorted(ids(kept) + ids(selection)) == ids(texts(examples))


def test_the_slice_is_of_the_content_and_not_of_the_order():
    """Rows in any order give the same one, and what is kept keeps its order."""
    examples = texts(300)
    shuffled = random.Random(0).sample(examples, len(examples))
    kept, selection = hold_out(shuffled)
    assert selection == hold_out(examples)[1]
    assert kept == [example for example in shuffled if example in kept]
    # A tenth of the first ones would be others.
    assert ids(selection) != ids(examples[:30])


def test_a_copy_of_what_is_held_out_is_not_trained_on():
    """It would be known by heart when the checkpoint is chosen on it."""
    kept, selection = hold_out([*texts(40), *texts(40), *texts(40)])
    assert len(selection) == 4
    assert not [example for example in kept if example in selection]
    assert len(kept) == 3 * 36


def test_images_are_known_by_their_places():
    """Content would have every image decoded first."""
    examples = [{"pictures": None, "position": i} for i in range(100)]
    kept, selection = hold_out(examples)
    assert (len(kept), len(selection)) == (90, 10)
    assert [e["position"] for e in selection] != sorted(e["position"] for e in selection)[:10]
    assert hold_out(list(reversed(examples)))[1] == selection


@pytest.mark.parametrize("examples", [texts(1), texts(1) * 5])
def test_nothing_can_be_held_out_of_one_example(examples):
    """Said in a sentence, as nothing would be left to train on."""
    with pytest.raises(SuiteError, match=r"no two different examples.*use train.checkpoints: 1"):
        hold_out(examples)


def test_the_loss_on_a_slice_is_its_mean_over_tokens(lessons, foundation, monkeypatch):
    """Whatever the batches: a short last block counts for less than a whole one."""
    model = foundation.model.eval()
    blocks = lessons.examples("validation")
    assert len({len(block["input_ids"]) for block in blocks}) == 2
    sums, count = 0.0, 0
    for block in blocks:
        predicted = len(block["input_ids"]) - 1
        with torch.no_grad():
            sums += float(lessons.loss(model, lessons.collate([block]))) * predicted
        count += predicted
    assert loss_on(lessons, model, blocks) == pytest.approx(sums / count, rel=1e-5)
    monkeypatch.setattr(tasks, "SELECTION_BATCH", 3)
    assert loss_on(lessons, model, blocks) == pytest.approx(sums / count, rel=1e-5)


def test_a_split_with_nothing_in_it_is_named():
    """Choosing on nothing would choose the first checkpoint."""

    class Empty:
        def examples(self, split: str) -> list[Example]:
            return []

    empty: Any = Empty()
    with pytest.raises(SuiteError, match="the validation split holds no example"):
        examples_of(empty, "validation")
