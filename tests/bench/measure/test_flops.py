"""Operations of a step, against the closed formulas; and the machine's best rates."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.measure.ceilings import adamw_seconds, listed_peak, matmul_rate
from bench.measure.flops import BACKWARD, FORWARD, attention_flops, count_flops
from offsite.head_loss import next_token_loss
from offsite.models import ensure_torchvision
from offsite.sandwich import adapter_blocks, all_blocks
from offsite.tuning import Tuning
from offsite.tuning_methods import Lora

DEPTH, WIDTH, VOCABULARY, LENGTH, RANK = 6, 64, 96, 33, 4
BLOCK = 12 * WIDTH**2
"""Weights of a block's matrices."""


def gpt2(implementation: str = "sdpa") -> nn.Module:
    """A GPT-2 whose operations are easily added up."""
    ensure_torchvision()
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        n_embd=WIDTH,
        n_layer=DEPTH,
        n_head=2,
        n_positions=LENGTH,
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=0,
        attn_pdrop=0,
        resid_pdrop=0,
        embd_pdrop=0,
    )
    config._attn_implementation = implementation
    return GPT2LMHeadModel(config).requires_grad_(False)


def counted(model: nn.Module) -> int:
    """Operations of the loss of one sequence and its gradients."""
    ids = torch.randint(0, VOCABULARY, (1, LENGTH))
    return count_flops(lambda: next_token_loss(model, ids, ids).backward())


def expected(trained: int, frozen: int) -> int:
    """By hand: p weights a block, attention of half the square, a head whose gradient goes on.

    A token: 6p a trained block, 4p a frozen one that passes gradients on, attention 3 x 2Td
    (causal), head 2 x 2dV.
    """
    attention = 3 * 2 * 2 * LENGTH**2 * WIDTH // 2
    blocks = LENGTH * 2 * BLOCK * (3 * trained + 2 * frozen) + attention * (trained + frozen)
    head = 2 * 2 * (LENGTH - 1) * WIDTH * VOCABULARY
    return blocks + head


def test_full_fine_tuning_is_counted_as_the_formula_says():
    """n(6p + 3a) + 2H: every block with both gradients."""
    model = gpt2()
    Tuning().attach(model, all_blocks(model))
    assert counted(model) == expected(trained=DEPTH, frozen=0)


def test_a_frozen_block_saves_the_gradient_of_its_weights_and_no_more():
    """(l + r)(6p + 3a) + k(4p + 3a) + 2H: 6N would be half as much again for frozen blocks."""
    model = gpt2()
    Tuning().attach(model, adapter_blocks(model, bottom=1, top=1))
    assert counted(model) == expected(trained=2, frozen=DEPTH - 2)


def test_with_the_top_alone_trained_the_blocks_below_run_forward_only():
    """Nothing below the lowest trained block needs a gradient."""
    model = gpt2()
    Tuning().attach(model, adapter_blocks(model, top=1))
    attention = FORWARD * LENGTH**2 * WIDTH
    below = (DEPTH - 1) * (LENGTH * 2 * BLOCK + attention)
    assert counted(model) == below + expected(trained=1, frozen=0)


def test_lora_adds_its_own_small_products():
    """Two skinny products a matrix, forward, and both their gradients."""
    model = gpt2()
    Tuning("lora", Lora(rank=RANK)).attach(model, all_blocks(model))
    skinny = RANK * ((1 + 3) + (1 + 1) + (1 + 4) + (4 + 1)) * WIDTH
    own = 6 * LENGTH * skinny * DEPTH
    # Nothing before the first matrix is trained, so nobody needs the gradient of its input.
    own -= LENGTH * 2 * (3 * WIDTH**2 + RANK * WIDTH)
    assert counted(model) == expected(trained=0, frozen=DEPTH) + own


def test_an_attention_that_computes_the_whole_square_is_counted_whole():
    """The eager one does: its operations are done, needed or not."""
    fused, eager = gpt2(), gpt2("eager")
    for model in (fused, eager):
        Tuning().attach(model, all_blocks(model))
    difference = counted(eager) - counted(fused)
    assert difference == DEPTH * (FORWARD + BACKWARD) * LENGTH**2 * WIDTH


def test_a_mask_of_half_the_square_halves_the_operations():
    """The kernels skip what a causal mask hides."""
    shape = (2, 3, 8, 4)
    whole = attention_flops(shape, shape, FORWARD, is_causal=False)
    assert attention_flops(shape, shape, FORWARD, is_causal=True) * 2 == whole


@pytest.mark.parametrize("name", ["NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA L4"])
def test_known_gpus_have_a_listed_peak(name):
    """A name is matched by whole words: an L40S is no L4."""
    assert listed_peak(name, "bf16") > listed_peak(name, "fp32")


@pytest.mark.parametrize("name", ["NVIDIA L40", "NVIDIA GeForce GTX 1080", ""])
def test_an_unknown_gpu_has_none(name):
    """Another card's peak is never taken."""
    assert listed_peak(name, "bf16") is None


def test_measuring_the_optimizer_leaves_the_parameters_as_they_were():
    """They are the model's own."""
    parameters = [nn.Parameter(torch.randn(50, 7)), nn.Parameter(torch.randn(3))]
    before = [p.detach().clone() for p in parameters]
    assert adamw_seconds(parameters, lambda: None) > 0
    assert all(torch.equal(p, b) for p, b in zip(parameters, before, strict=True))
    assert all(p.grad is None for p in parameters)


def test_a_product_has_a_rate():
    """More than a million operations a second, on anything."""
    rate = matmul_rate(16, (8, 32), torch.float32, torch.device("cpu"), lambda: None)
    assert rate > 1e6
