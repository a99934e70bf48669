"""Every architecture goes the whole way: cut, compress, tune one step, plug in, generate."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from offsite.architectures import BLOCK_PATHS
from offsite.blocks import get_blocks
from offsite.compression.emulator import compress
from offsite.compression.methods import Identity, LayerDrop
from offsite.sandwich import Sandwich, adapter_blocks, cut, plug_in, with_emulator
from offsite.training import Recipe, train
from offsite.tuning import Tuning, tuning_from
from tests.fakes import (
    DEPTH,
    LANGUAGE,
    VISION,
    run_model,
    tiny_batch,
    tiny_loss,
    tiny_model,
    weights,
)

ARCHITECTURES = LANGUAGE + VISION
TUNINGS = [{"method": "full"}, {"method": "lora", "rank": 2}]
RECIPE = Recipe(learning_rate=0.01, steps=1)


def emulated(model: nn.Module, keep: int = 2) -> tuple[Sandwich, nn.Module]:
    """A cut model and what its data owner would receive."""
    sandwich = cut(model, bottom=2, top=1)
    emulator = compress(sandwich.middle, [("layer_drop", LayerDrop(keep=keep))])
    return sandwich, with_emulator(sandwich, emulator)


def tune_one_step(sent: nn.Module, tuning: Tuning, architecture: str) -> dict[str, torch.Tensor]:
    """Train one step; returns what the tuning exports."""
    blocks = adapter_blocks(sent, bottom=2, top=1)
    torch.manual_seed(0)
    tuning.attach(sent, blocks)
    train(sent, [tiny_batch(architecture)], RECIPE, loss_of=tiny_loss)
    return tuning.state(blocks)


def test_every_architecture_of_the_table_is_tested():
    """A line in the table without a tiny model here would be an untested promise."""
    assert sorted(BLOCK_PATHS) == sorted(ARCHITECTURES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda t: t["method"])
def test_the_owners_model_is_the_same_bits_after_everything(architecture, tuning):
    """Cutting, compressing, tuning and plugging in leave the owner's tensors and outputs alone."""
    model = tiny_model(architecture)
    batch = tiny_batch(architecture)
    before, expected = weights(model), run_model(model, batch)
    sandwich, sent = emulated(model)
    state = tune_one_step(sent, tuning_from(tuning), architecture)
    plugged = plug_in(sandwich, tuning_from(tuning), state)
    assert not torch.equal(run_model(plugged, batch), expected)
    assert len(get_blocks(model)) == DEPTH
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(run_model(model, batch), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda t: t["method"])
def test_an_untrained_adapter_plugged_in_is_the_full_model_exactly(architecture, tuning):
    """Attaching a tuning changes no output: step 0 is the foundation model, bit for bit."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    expected = run_model(model, batch)
    sandwich, sent = emulated(model)
    method = tuning_from(tuning)
    blocks = adapter_blocks(sent, bottom=2, top=1)
    method.attach(sent, blocks)
    plugged = plug_in(sandwich, method, method.state(blocks))
    assert torch.equal(run_model(plugged, batch), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda t: t["method"])
def test_an_identity_emulator_makes_plug_in_equal_emulator_finetuned(architecture, tuning):
    """Where nothing is compressed, the two halves of the method are the same model."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    sandwich = cut(model, bottom=2, top=1)
    sent = with_emulator(sandwich, compress(sandwich.middle, [("identity", Identity())]))
    method = tuning_from(tuning)
    state = tune_one_step(sent, method, architecture)
    plugged = plug_in(sandwich, method, state)
    assert torch.equal(run_model(plugged, batch), run_model(sent.eval(), batch))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_the_adapter_blocks_change_in_training(architecture):
    """Embeddings, emulator, final norm and head keep their bits; every adapter block moves."""
    _, sent = emulated(tiny_model(architecture))
    before = weights(sent)
    tune_one_step(sent, Tuning(), architecture)
    adapter = adapter_blocks(sent, bottom=2, top=1).values()
    trained = {id(p) for block in adapter for p in block.parameters()}
    for name, parameter in sent.named_parameters():
        if id(parameter) not in trained:
            assert torch.equal(before[name], parameter), name
    for block in adapter:
        moved = {n for n, p in sent.named_parameters() if not torch.equal(before[n], p)}
        assert moved & {n for n, p in sent.named_parameters() if p in set(block.parameters())}


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_dropped_blocks_generate_the_same_with_and_without_a_cache(architecture):
    """The library indexes its cache by block number, so dropping blocks must renumber them."""
    model = tiny_model(architecture)
    sandwich, sent = emulated(model)
    plugged = plug_in(sandwich, Tuning(), Tuning().state(_attached(sent)))
    ids = tiny_batch(architecture).inputs["ids"]
    for each in (sent.eval(), plugged):
        texts = [
            each.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=8,
                min_new_tokens=8,
                do_sample=False,
                use_cache=cached,
            )
            for cached in (True, False)
        ]
        assert torch.equal(*texts)


def _attached(sent: nn.Module) -> dict[str, nn.Module]:
    blocks = adapter_blocks(sent, bottom=2, top=1)
    Tuning().attach(sent, blocks)
    return blocks


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_the_configuration_has_the_new_depth(architecture):
    """Config, block list and per-layer settings agree, and the owner's config is not touched."""
    model = tiny_model(architecture)
    _, sent = emulated(model)
    assert sent.config.num_hidden_layers == len(get_blocks(sent)) == 5
    assert model.config.num_hidden_layers == DEPTH
    layer_types = getattr(sent.config, "layer_types", None)
    assert layer_types is None or len(layer_types) == 5
