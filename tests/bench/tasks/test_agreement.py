"""Whole tasks scored by ours and by lm-eval's own model: items, decisions and metrics."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from bench.suite.task_files import SUITES
from bench.tasks import rows
from bench.tasks.task import prepare
from offsite.models import Foundation
from tests.bench.command import ROOT

LENGTH = 512
SPLITS = {
    "arc_easy": "test",
    "boolq": "validation",
    "hellaswag": "validation",
    "openbookqa": "test",
    "piqa": "validation",
}
ROWS = 250
"""Of a slice, to keep this within minutes."""
CLOSE = 1e-4
"""By how much log-likelihoods may differ, in nats; and the margin of a decision that may turn."""


def model(architecture: str) -> Foundation:
    """A tiny model with random weights large enough to prefer some answers."""
    torch.manual_seed(7)
    sizes = {"vocab_size": 4096, "initializer_range": 0.05}
    if architecture == "gpt2":
        config = GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=LENGTH + 1, **sizes)
        made: Any = GPT2LMHeadModel(config)
    else:
        small = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
        made = LlamaForCausalLM(LlamaConfig(num_attention_heads=4, **small, **sizes))
    tokenizer = AutoTokenizer.from_pretrained(SUITES / "models" / "tiny-lm")
    assert len(tokenizer) <= 4096
    return Foundation(model=made.eval(), kind="language", tokenizer=tokenizer)


def assert_agrees(name: str, file: Path, foundation: Foundation) -> None:
    """Every item's log-likelihoods and decisions, and the metrics lm-eval itself reports."""
    described = {"kind": "lm_eval", "id": name, "length": LENGTH}
    task: Any = prepare(described, {SPLITS[name]: str(file)}, foundation)
    ours = task.evaluate(foundation.model, batch_size=16, examples=None)
    defined = task.definition.over(name, rows.read(task.data, task.scored), is_scored=True)
    theirs = HFLM(
        pretrained=foundation.model,
        tokenizer=foundation.tokenizer,
        batch_size=16,
        max_length=LENGTH,
    )
    done = lm_eval.evaluate(theirs, {name: defined}, log_samples=True, bootstrap_iters=0)
    samples = done["samples"][name]
    assert len(ours.items) == len(samples)
    turned = 0
    for item, sample in zip(ours.items, samples, strict=True):
        expected = [response[0] for response in sample["filtered_resps"]]
        assert item["doc"] == sample["doc_hash"]
        # Of hundreds of nats, float32 itself does not hold more.
        assert item["loglikelihoods"] == pytest.approx(expected, abs=CLOSE, rel=2.5e-7)
        first, second = sorted(expected, reverse=True)[:2]
        is_close = first - second < CLOSE
        turned += is_close and item["acc"] != sample["acc"]
        assert is_close or item["acc"] == sample["acc"]
    for metric in ours.metrics:
        reported = done["results"][name][f"{metric.metric},none"]
        assert metric.value == pytest.approx(reported, abs=turned / len(samples) + 1e-12)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("name", SPLITS)
def test_shipped_rows_are_scored_as_lm_eval_scores_them(name, architecture):
    """32 rows of each shape."""
    assert_agrees(name, ROOT / "tests" / "data" / "tasks" / f"{name}.jsonl", model(architecture))


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("name", SPLITS)
def test_real_rows_are_scored_as_lm_eval_scores_them(name, architecture, tmp_path):
    """The first rows of the slice."""
    home = os.environ.get("OFFSITE_BENCH_DATA")
    if not home:
        pytest.skip("OFFSITE_BENCH_DATA is not set: no real data")
    lines = (Path(home) / name / f"{SPLITS[name]}.jsonl").read_text().splitlines(keepends=True)
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(lines[:ROWS]))
    assert_agrees(name, file, model(architecture))
