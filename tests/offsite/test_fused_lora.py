"""A fused LoRA layer computes what peft's does, and only plain ones are fused."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from offsite.fused_lora import fused_lora
from offsite.sandwich import all_blocks
from offsite.tuning import Tuning, keep_masters
from offsite.tuning_methods import Dora, Lora
from tests.fakes import LANGUAGE, VISION, run_model, tiny_batch, tiny_loss, tiny_model


def tuned(architecture: str, tuning: Tuning) -> nn.Module:
    """A model whose updates have moved away from zero."""
    model = tiny_model(architecture)
    keep_masters(tuning.attach(model, all_blocks(model)))
    generator = torch.Generator().manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def fused(model: nn.Module) -> int:
    """How many layers have a forward pass of their own."""
    return sum("forward" in vars(module) for module in model.modules())


def gradients(model: nn.Module, architecture: str) -> dict[str, Tensor]:
    """Of one batch, by parameter."""
    model.zero_grad()
    tiny_loss(model, tiny_batch(architecture)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("architecture", [*LANGUAGE, *VISION])
def test_outputs_and_gradients_are_pefts(architecture):
    """Linears with and without bias, stored either way round, fused q, k and v."""
    model = tuned(architecture, Tuning("lora", Lora(rank=3, alpha=7)))
    before, wanted = run_model(model, tiny_batch(architecture)), gradients(model, architecture)
    with fused_lora(model):
        assert fused(model) == sum(hasattr(m, "lora_A") for m in model.modules()) > 0
        torch.testing.assert_close(run_model(model, tiny_batch(architecture)), before)
        found = gradients(model, architecture)
    assert fused(model) == 0
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_under_autocast_it_computes_in_bfloat16():
    """No further from float32 than peft's layer is; what trains keeps its float32 gradient."""
    model = tuned("llama", Tuning("lora", Lora(rank=3)))
    exact = gradients(model, "llama")
    with torch.autocast("cpu", torch.bfloat16):
        pefts = gradients(model, "llama")
    with fused_lora(model), torch.autocast("cpu", torch.bfloat16):
        assert run_model(model, tiny_batch("llama")).dtype == torch.bfloat16
        found = gradients(model, "llama")
    assert {gradient.dtype for gradient in found.values()} == {torch.float32}
    ours, theirs = (
        sum((each[name] - gradient).square().sum() for name, gradient in exact.items())
        for each in (found, pefts)
    )
    assert ours <= theirs
    assert ours <= 0.02 * sum(gradient.square().sum() for gradient in exact.values())


@pytest.mark.parametrize(
    "tuning",
    [
        Tuning("lora", Lora(rank=3, dropout=0.1)),
        Tuning("dora", Dora(rank=3)),
        Tuning("full"),
    ],
    ids=["dropout", "dora", "full"],
)
def test_what_is_not_plain_stays_as_it_is(tuning):
    """Dropout and DoRA's sizes are none of this."""
    model = tuned("llama", tuning)
    with fused_lora(model):
        assert fused(model) == 0


def test_a_copy_runs_its_own_factors():
    """Not those of the model it was copied from."""
    model = tuned("gpt2", Tuning("lora", Lora(rank=3)))
    with fused_lora(model):
        copied = copy.deepcopy(model)
        before = run_model(copied, tiny_batch("gpt2"))
        with torch.no_grad():
            for name, parameter in copied.named_parameters():
                if "lora_B" in name:
                    parameter.zero_()
        assert not torch.equal(run_model(copied, tiny_batch("gpt2")), before)
        assert torch.equal(run_model(model, tiny_batch("gpt2")), before)
