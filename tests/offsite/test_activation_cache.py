"""Training from kept activations is training: the same losses and the same weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from offsite.activation_cache import ActivationCache
from offsite.blocks import get_blocks
from offsite.errors import NothingToCache
from offsite.head_loss import next_token_loss
from offsite.sandwich import adapter_blocks
from offsite.training import Batch, Recipe, train
from offsite.tuning import Tuning
from offsite.tuning_methods import Lora, SoftPrompt
from tests.fakes import LANGUAGE, VISION, tiny_batch, tiny_loss, tiny_model, weights

RECIPE = Recipe(learning_rate=1e-2, steps=6, schedule="constant")


def prepared(architecture: str, tuning: Tuning, **blocks: int) -> nn.Module:
    """A model without dropout whose chosen blocks train."""
    model = tiny_model(architecture)
    for module in model.modules():
        for name, value in vars(module).items():
            if "drop" in name and isinstance(value, float):
                setattr(module, name, 0.0)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    tuning.attach(model, adapter_blocks(model, **blocks))
    return model


def epochs(architecture: str) -> Iterator[Batch]:
    """The two samples of the tiny batch, one at a time, over and over."""
    whole = tiny_batch(architecture)
    while True:
        for i in range(2):
            inputs = {name: tensor[i : i + 1] for name, tensor in whole.inputs.items()}
            yield Batch(inputs, 1, examples=(i,))


@pytest.mark.parametrize("tuning", [Tuning(), Tuning("lora", Lora(rank=2))], ids=["full", "lora"])
@pytest.mark.parametrize("architecture", [*LANGUAGE, *VISION])
def test_it_trains_to_the_same_weights(architecture, tuning):
    """Three epochs of two samples, and the lower part runs once for each sample."""
    whole, cached = (prepared(architecture, tuning, top=2) for _ in range(2))
    runs: list[int] = []
    get_blocks(cached)[0].register_forward_hook(lambda *_: runs.append(1))
    loss = ActivationCache(cached, tiny_loss)
    wanted = train(whole, epochs(architecture), RECIPE, loss_of=tiny_loss)
    found = train(cached, epochs(architecture), RECIPE, loss_of=loss)
    assert found == pytest.approx(wanted, rel=1e-4)
    assert len(runs) == 2
    assert loss.bytes > 0
    trained = {name for name, p in whole.named_parameters() if p.requires_grad}
    after = weights(cached)
    for name, value in weights(whole).items():
        if name in trained:
            torch.testing.assert_close(after[name], value, rtol=1e-2, atol=1e-3, msg=name)
        else:
            assert torch.equal(after[name], value), name


def test_samples_of_unequal_length_are_put_together_anew():
    """What was kept beside a longer sample serves beside a shorter one."""
    model = prepared("llama", Tuning(), top=2)
    ids = tiny_batch("llama").inputs["ids"]

    def loss_of(model: nn.Module, batch: Batch) -> Tensor:
        return next_token_loss(model, **batch.inputs)  # type: ignore[arg-type]

    def batch(rows: tuple[int, ...], length: int) -> Batch:
        mask = torch.ones(len(rows), length, dtype=torch.long)
        labels = ids[list(rows), :length].clone()
        for place, row in enumerate(rows):
            if row == 1:
                mask[place, 6:] = 0
                labels[place, 6:] = -100
        inputs = {"input_ids": ids[list(rows), :length], "labels": labels, "attention_mask": mask}
        return Batch(inputs, len(rows), examples=rows)

    cached = ActivationCache(model, loss_of)
    cached(model, batch((0, 1), 10))
    for each in (batch((1,), 6), batch((1, 0), 10), batch((0, 1), 10)):
        torch.testing.assert_close(cached(model, each), loss_of(model, each))


@pytest.mark.parametrize(
    ("tuning", "blocks"),
    [
        (Tuning(), {"bottom": 1, "top": 1}),
        (Tuning("soft_prompt", SoftPrompt(length=2)), {"top": 2}),
    ],
    ids=["bottom", "soft prompt"],
)
def test_what_is_trained_at_the_bottom_is_refused(tuning, blocks):
    """Its activations change with every step."""
    with pytest.raises(NothingToCache, match="as in 0\\+2"):
        ActivationCache(prepared("llama", tuning, **blocks), tiny_loss)


def test_a_batch_must_say_what_it_holds():
    """Otherwise one sample would be trained with another's activations."""
    model = prepared("llama", Tuning(), top=1)
    with pytest.raises(AssertionError, match="which examples"):
        ActivationCache(model, tiny_loss)(model, replace(tiny_batch("llama"), examples=None))
