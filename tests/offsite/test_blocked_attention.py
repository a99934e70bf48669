"""Attention in blocks of queries is torch's own, for every model that attends causally."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from offsite import blocked_attention as module
from offsite.blocked_attention import blocked_attention
from tests.fakes import LANGUAGE, VISION, run_model, tiny_batch, tiny_loss, tiny_model

FUSED = [name for name in LANGUAGE if name not in ("bloom", "gemma2", "mistral")]
"""BLOOM and Gemma 2 attend in single operations of their own; Mistral's window is a mask."""


def gradients(model: nn.Module, architecture: str) -> dict[str, Tensor]:
    """Of one batch, by parameter."""
    model.zero_grad()
    tiny_loss(model, tiny_batch(architecture)).backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("architecture", FUSED)
def test_outputs_and_gradients_are_torchs(architecture, monkeypatch):
    """Blocks of four of ten positions, one of them short; grouped heads too."""
    monkeypatch.setattr(module, "BLOCK", 4)
    calls: list[int] = []
    real = module._Blocked.forward
    monkeypatch.setattr(
        module._Blocked, "forward", lambda ctx, *a: (calls.append(1), real(ctx, *a))[1]
    )
    model = tiny_model(architecture)
    before, wanted = run_model(model, tiny_batch(architecture)), gradients(model, architecture)
    with blocked_attention(model):
        torch.testing.assert_close(run_model(model, tiny_batch(architecture)), before)
        found = gradients(model, architecture)
    assert calls, "it was used"
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5, msg=name)
    used = len(calls)
    run_model(model, tiny_batch(architecture))
    assert len(calls) == used, "and is not any more"


@pytest.mark.parametrize("architecture", [*LANGUAGE, *VISION])
def test_a_mask_is_torchs_business(architecture):
    """Padding, windows, and images, which attend to all: nothing changes."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)

    def run() -> Tensor:
        if "images" in batch.inputs:
            return run_model(model, batch)
        mask = torch.ones_like(batch.inputs["ids"])
        mask[1, 7:] = 0
        return model(batch.inputs["ids"], attention_mask=mask, use_cache=False).logits[0]

    before = run()
    with blocked_attention(model):
        torch.testing.assert_close(run(), before)


def test_an_error_leaves_the_model_as_it_was():
    """Its configuration asks for torch's kernel again."""
    model = tiny_model("llama")

    def fail() -> None:
        with blocked_attention(model):
            assert model.config._attn_implementation == module.NAME
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert model.config._attn_implementation == "sdpa"
