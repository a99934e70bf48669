"""Peers train the same parameters on the same samples, and are what their names say."""

from __future__ import annotations

import importlib

import pytest
import torch

from bench.peers import PEERS
from bench.tasks.kinds import SyntheticImages, SyntheticTokens
from bench.tasks.synthetic import SyntheticTask, prepare
from bench.tasks.task import batches
from offsite.models import Foundation
from offsite.sandwich import adapter_blocks
from offsite.training import Recipe, train
from offsite.tuning import Tuning
from tests.fakes import TIMM, VISION, tiny_model, weights

STEPS = 3
RECIPE = Recipe(learning_rate=1e-2, steps=STEPS, schedule="constant")


def prepared(architecture: str) -> tuple[torch.nn.Module, SyntheticTask]:
    """A model with its outer blocks to be trained, without dropout, and a task for it."""
    model = tiny_model(architecture)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    kind = "vision" if architecture in VISION else "language"
    config = TIMM.get(architecture)
    foundation = Foundation(model=model, kind=kind, timm_config=config)
    parameters = SyntheticImages() if kind == "vision" else SyntheticTokens(length=12)
    task = prepare(parameters, foundation)
    Tuning().attach(model, adapter_blocks(model, bottom=1, top=1))
    return model, task


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "vit", "timm"])
@pytest.mark.parametrize("peer", PEERS)
def test_a_peer_learns_what_we_learn(peer, architecture):
    """On one sample, over and over, its weights end where ours do, and frozen ones stay."""
    ours, task = prepared(architecture)
    theirs, _ = prepared(architecture)
    before = weights(theirs)
    examples = task.training_examples()[:1]
    losses = train(ours, batches(task, examples, batch_size=1, seed=0), RECIPE, loss_of=task.loss)
    module, _, name = PEERS[peer].function.partition(":")
    seen = []
    mean = getattr(importlib.import_module(module), name)(
        theirs,
        task,
        examples,
        RECIPE,
        batch_size=1,
        seed=0,
        on_step=lambda step, batch: seen.append((step, batch.samples)),
    )
    assert seen == [(1, 1), (2, 1), (3, 1)]
    # The Trainer divides by the number of labels, the first of which nothing predicts.
    assert mean == pytest.approx(sum(losses) / STEPS, rel=1e-3 if peer == "authors" else 0.1)
    after, trained = weights(theirs), {n for n, p in ours.named_parameters() if p.requires_grad}
    for key, value in weights(ours).items():
        torch.testing.assert_close(after[key], value, rtol=0.05, atol=2e-3, msg=key)
        if key not in trained:
            assert torch.equal(after[key], before[key]), key
    assert any(not torch.equal(after[key], before[key]) for key in trained)


def test_random_samples_are_the_same_in_every_run_and_all_real():
    """What is timed is the same work each time, and no position is padding."""
    _, task = prepared("llama")
    batch = task.collate(task.training_examples()[:2])
    again = task.collate(prepared("llama")[1].training_examples()[:2])
    assert torch.equal(batch.inputs["input_ids"], again.inputs["input_ids"])
    assert (batch.tokens_real, batch.tokens_padded) == (24, 24)
    assert "attention_mask" not in batch.inputs
