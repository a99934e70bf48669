"""What makes a step cheaper changes nothing of what it computes."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

from offsite.acceleration import checkpointed_blocks, compiled_blocks, fused_activations
from offsite.blocks import get_blocks
from tests.fakes import LANGUAGE, VISION, run_model, tiny_batch, tiny_loss, tiny_model


def gradients(model: nn.Module, architecture: str) -> dict[str, Tensor]:
    """Of one batch, by parameter."""
    model.zero_grad()
    tiny_loss(model, tiny_batch(architecture)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def fused_in(model: nn.Module) -> list[nn.Module]:
    """Activations of torch's own."""
    return [module for module in get_blocks(model).modules() if type(module) is nn.GELU]


@pytest.mark.parametrize("architecture", ["bloom", "gpt2"])
def test_a_fused_activation_computes_the_same(architecture):
    """In the forward and in the backward pass, and no written-out one is left."""
    model = tiny_model(architecture)
    before, wanted = run_model(model, tiny_batch(architecture)), gradients(model, architecture)
    with fused_activations(model):
        torch.testing.assert_close(run_model(model, tiny_batch(architecture)), before)
        for name, gradient in gradients(model, architecture).items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5, msg=name)
        assert len(fused_in(model)) == len(get_blocks(model))
    assert not fused_in(model)
    assert torch.equal(run_model(model, tiny_batch(architecture)), before), "as it was"


@pytest.mark.parametrize("architecture", [*LANGUAGE, *VISION])
def test_recomputed_activations_give_the_same_gradients(architecture):
    """Also where the first blocks are frozen, so that nothing before them asks for a gradient."""
    model = tiny_model(architecture)
    model.requires_grad_(False)
    get_blocks(model)[-2:].requires_grad_(True)
    wanted = gradients(model, architecture)
    calls: list[object] = []
    # Recomputing stops where nothing more is needed, so the block's end may not be reached.
    inside = next(m for m in get_blocks(model)[-1].modules() if not list(m.children()))
    inside.register_forward_pre_hook(lambda *_: calls.append(1))
    model.train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        # OPT keeps the share in a number of its own.
        for name in ("dropout", "attention_dropout", "hidden_dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    with checkpointed_blocks(model):
        found = gradients(model, architecture)
    assert len(calls) == 2, "the block ran once more in the backward pass"
    gradients(model, architecture)
    assert len(calls) == 3, "and does not any more"
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "timm"])
def test_compiled_blocks_compute_the_same(architecture):
    """Logits and gradients, to rounding."""
    model = tiny_model(architecture)
    before, wanted = run_model(model, tiny_batch(architecture)), gradients(model, architecture)
    with compiled_blocks(model):
        found = run_model(model, tiny_batch(architecture))
        torch.testing.assert_close(found, before, rtol=1e-4, atol=1e-5)
        for name, gradient in gradients(model, architecture).items():
            torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-5, msg=name)
    assert torch.equal(run_model(model, tiny_batch(architecture)), before), "as it was"
