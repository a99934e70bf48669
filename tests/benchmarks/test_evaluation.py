"""What one multiple-choice evaluation takes, beside lm-eval's own model: `tox -e bench`.

The same weights, items, batch size and definition, each evaluation from texts to metrics.
`scoring.py` compares the two on real data sets and a larger model.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from lm_eval import evaluate
from lm_eval.models.huggingface import HFLM
from pytest_benchmark.fixture import BenchmarkFixture

from bench.tasks.kinds import MultipleChoice
from bench.tasks.language import ChoiceTask, prepare
from bench.tasks.scorer import SharedPrefixLM
from offsite.models import Foundation, load_model
from tests.bench.command import ROOT

ROWS = ROOT / "suites" / "data" / "topic_continuation" / "test.jsonl"
ITEMS = 64
BATCH = 16
LENGTH = 128
CLASSES: dict[str, Callable[..., HFLM]] = {"lm-eval's": HFLM, "ours": SharedPrefixLM}


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The tiny shipped language model."""
    return load_model(ROOT / "suites" / "models" / "tiny-lm")


@pytest.fixture(scope="module")
def task(foundation: Foundation) -> ChoiceTask:
    """Which of four continuations follows?"""
    return prepare(MultipleChoice(data={"test": str(ROWS)}, length=LENGTH), foundation)


@pytest.fixture(scope="module")
def answers() -> dict[str, list[float]]:
    """The log-likelihoods each way found, kept until both have run."""
    return {}


@pytest.mark.benchmark(group="evaluation of 64 items with four choices")
@pytest.mark.parametrize("way", CLASSES)
def test_evaluation(
    benchmark: BenchmarkFixture,
    foundation: Foundation,
    task: ChoiceTask,
    answers: dict[str, list[float]],
    way: str,
):
    """Both ways find the same log-likelihood of every choice."""
    name = task.definition.id
    rows = [json.loads(text) for text in ROWS.read_text().splitlines()[:ITEMS]]
    defined = task.definition.over(name, rows, is_scored=True)

    def evaluation() -> list[dict[str, Any]]:
        model, tokenizer = foundation.model, foundation.tokenizer
        lm = CLASSES[way](model, tokenizer=tokenizer, batch_size=BATCH, max_length=LENGTH)
        samples: list[dict[str, Any]]
        samples = evaluate(lm, {name: defined}, bootstrap_iters=0)["samples"][name]
        return samples

    samples = benchmark.pedantic(evaluation, rounds=5, warmup_rounds=1)
    answers[way] = [found for sample in samples for found, _ in sample["filtered_resps"]]
    assert len(answers[way]) == 4 * ITEMS
    assert all(found == pytest.approx(answers[way], abs=1e-3) for found in answers.values())
