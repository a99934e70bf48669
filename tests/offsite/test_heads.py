"""A new classifier for an image model, and who owns it."""

from __future__ import annotations

import pytest
import torch

from offsite.errors import NotAModel
from offsite.heads import renew_head
from offsite.sandwich import adapter_blocks, cut, plug_in
from offsite.training import Batch, Recipe, train
from offsite.tuning import Tuning, trainable
from tests.fakes import VISION, run_model, tiny_batch, tiny_loss, tiny_model, weights

NEW_CLASSES = 7


@pytest.mark.parametrize("architecture", VISION)
def test_a_new_head_finds_every_class_equally_likely(architecture):
    """It is zero, so no seed moves where tuning starts."""
    model = tiny_model(architecture)
    renew_head(model, NEW_CLASSES)
    logits = run_model(model, tiny_batch(architecture))
    assert torch.equal(logits, torch.zeros(2, NEW_CLASSES))


@pytest.mark.parametrize("architecture", VISION)
def test_a_trained_head_goes_to_the_plug_in_and_leaves_the_owner_alone(architecture):
    """It travels with the adapter blocks; the model it was cut from keeps its own."""
    owner, sent = tiny_model(architecture), tiny_model(architecture)
    for model in (owner, sent):
        renew_head(model, NEW_CLASSES)
    before = weights(owner)
    tuning = Tuning(head=True)
    modules = tuning.attach(sent, adapter_blocks(sent, bottom=1, top=1))
    assert {"head.weight", "head.bias"} <= trainable(modules).keys()
    recipe = Recipe(learning_rate=1e-2, steps=2, schedule="constant")
    train(sent, [tiny_batch(architecture)] * 2, recipe, loss_of=tiny_loss)
    sandwich = cut(owner, bottom=1, top=1)
    plugged = plug_in(sandwich, tuning, tuning.state(modules))
    batch = tiny_batch(architecture)
    # The same middle on both sides: the plug-in is the tuned model itself.
    assert torch.equal(run_model(plugged, batch), run_model(sent, batch))
    assert all(torch.equal(tensor, before[name]) for name, tensor in owner.state_dict().items())


def test_a_head_may_learn_faster_than_the_rest():
    """As the paper's classifier does, ten times."""
    steps = {}
    for rates in ({}, None):
        model = tiny_model("vit")
        renew_head(model, NEW_CLASSES)
        head = Tuning(head=True).attach(model, adapter_blocks(model, bottom=1, top=1))["head"]
        own = {p: 0.1 for p in head.parameters()} if rates is None else rates
        recipe = Recipe(learning_rate=1e-3, steps=1, schedule="constant")
        train(model, [Batch(tiny_batch("vit").inputs, 2)], recipe, loss_of=tiny_loss, rates=own)
        steps[rates is None] = head.bias.abs().max().item()
    assert steps[True] == pytest.approx(100 * steps[False], rel=1e-3)


def test_a_language_model_has_no_classifier():
    """It is told so in one line."""
    with pytest.raises(NotAModel, match="LlamaForCausalLM has no linear classifier"):
        renew_head(tiny_model("llama"), NEW_CLASSES)
