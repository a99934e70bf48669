"""Channels that go are gone from every matrix, and what stays computes as before."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import timm
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from offsite import emulated
from offsite.blocks import architecture_of, call_every_linear, get_blocks, roles
from offsite.compression.channels import (
    ResizedLayerNorm,
    ResizedLinear,
    channel_matrices,
    ffn_prune,
    highest,
    matrix_of,
    narrowed,
    saliency,
    with_channels,
)
from offsite.compression.emulator import Emulator, compress
from offsite.compression.methods import FfnPrune, Quantize
from offsite.errors import OffsiteError
from offsite.sandwich import Sandwich, cut, view, with_emulator
from tests.fakes import LANGUAGE, VISION, run_model, tiny_batch, tiny_model, weights

RATIO = 0.3
EVA_WITH_NORM: dict[str, Any] = {
    "embed_dim": 16,
    "depth": 3,
    "num_heads": 2,
    "mlp_ratio": 2.0,
    "scale_mlp": True,
    "img_size": 8,
    "patch_size": 4,
    "in_chans": 1,
    "num_classes": 5,
}


def whole(sandwich: Sandwich) -> Emulator:
    """The middle before any compression."""
    middle = sandwich.middle
    return Emulator(
        nn.ModuleList(middle), tuple(range(len(middle))), architecture_of(sandwich.model)
    )


def eva_with_norm() -> nn.Module:
    """An eva whose FFNs normalise their channels."""
    torch.manual_seed(0)
    model = timm.create_model("eva02_tiny_patch14_224", **EVA_WITH_NORM)
    call_every_linear(model)
    return model.eval()


@torch.no_grad()
def without_channels(emulator: Emulator, kept: list[torch.Tensor]) -> Emulator:
    """The same blocks at full size, with zeros where the other channels would be read."""
    blocks = deepcopy(emulator.blocks)
    for block, stay in zip(blocks, kept, strict=True):
        out = channel_matrices(block, emulator.architecture)[1]
        gone = torch.ones(out.shape[1], dtype=torch.bool)
        gone[stay] = False
        out[:, gone] = 0
    return Emulator(blocks, emulator.layer_map, emulator.architecture)


@pytest.mark.parametrize("architecture", [*LANGUAGE, *VISION])
def test_dropping_channels_is_zeroing_what_is_read_from_them(architecture, tmp_path):
    """On every architecture: gate and up together, apart or fused, transposed or not."""
    model = tiny_model(architecture)
    before = weights(model)
    sandwich = cut(model, bottom=1, top=1)
    middle = whole(sandwich)
    emulator = ffn_prune(middle, FfnPrune(ratio=RATIO))
    scores = [saliency(block, middle.architecture) for block in middle.blocks]
    channels = len(scores[0])
    count = channels - int(RATIO * channels)
    zeroed = without_channels(middle, [highest(each, count) for each in scores])
    batch = tiny_batch(architecture)
    pruned = run_model(view(sandwich, emulator), batch)
    assert torch.allclose(pruned, run_model(view(sandwich, zeroed), batch), atol=1e-5)
    if architecture != "timm_eva":  # its last layers start near zero
        assert not torch.allclose(pruned, run_model(model, batch), atol=1e-5)
    for block in emulator.blocks:
        into, out = channel_matrices(block, emulator.architecture)
        assert {len(matrix) for matrix in into} == {count} == {out.shape[1]}
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert emulator.stored_bytes < middle.stored_bytes
    owned = {t.untyped_storage().data_ptr() for t in before.values()}
    owned |= {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    assert all(t.untyped_storage().data_ptr() not in owned for t in emulator.tensors())
    sent = view(sandwich, emulator)
    emulated.save(sent, tmp_path)
    again = emulated.rebuild(tiny_model(architecture, seed=5), tmp_path)
    assert torch.equal(run_model(again, batch), pruned)


def test_the_saliency_of_a_channel_is_the_norm_of_all_its_weights():
    """Known by hand: into it 3 and 4 by gate and up, out of it 12."""
    model = tiny_model("llama")
    block = get_blocks(model)[0]
    with torch.no_grad():
        for linear in roles(architecture_of(model), block).all.values():
            linear.weight.zero_()
        block.mlp.gate_proj.weight[5, 1] = 3
        block.mlp.up_proj.weight[5, 2] = -4
        block.mlp.down_proj.weight[7, 5] = 12
    expected = torch.zeros(48)
    expected[5] = 13
    assert torch.equal(saliency(block, architecture_of(model)), expected)


@pytest.mark.parametrize("architecture", ["gpt2", "phi3"])
def test_channels_keep_their_order_and_their_bias(architecture):
    """In a fused gate and up, the rows of both halves go."""
    model = tiny_model(architecture)
    row, block = architecture_of(model), get_blocks(model)[0]
    kept = torch.tensor([2, 3, 11])
    made = with_channels(block, row, kept)
    (into,) = roles(row, made).ffn_in.values()
    (original,) = roles(row, block).ffn_in.values()
    rows = [2, 3, 11, 50, 51, 59] if architecture == "phi3" else [2, 3, 11]
    assert torch.equal(matrix_of(into), matrix_of(original)[rows])
    if architecture == "gpt2":
        assert isinstance(original, Conv1D)
        assert torch.equal(into.bias, original.bias[rows])
        (out,) = roles(row, made).ffn_out.values()
        assert torch.equal(out.bias, block.mlp.c_proj.bias)


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 48), (0.5, 24), (0.75, 12), (0.99, 1)])
def test_exactly_the_floor_of_the_share_goes(ratio, count):
    """The count that stays, of 48."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    emulator = ffn_prune(whole(sandwich), FfnPrune(ratio=ratio))
    assert emulator.blocks[0].mlp.down_proj.in_features == count


def test_equal_scores_keep_the_first():
    """So that the choice does not depend on how a library sorts."""
    assert highest(torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0]), 3).tolist() == [0, 1, 4]


def test_a_norm_over_the_channels_shrinks_with_them(tmp_path):
    """timm's eva02: the norm is over those that are left."""
    model = eva_with_norm()
    sandwich = cut(model, bottom=1, top=1)
    with torch.no_grad():
        for block in get_blocks(model):
            block.mlp.norm.weight.uniform_(0.5, 1.5)
            block.mlp.norm.bias.uniform_(-0.5, 0.5)
    emulator = ffn_prune(whole(sandwich), FfnPrune(ratio=RATIO))
    original, made = sandwich.middle[0].mlp, emulator.blocks[0].mlp
    assert isinstance(made.norm, ResizedLayerNorm)
    kept = highest(saliency(sandwich.middle[0], emulator.architecture), 32 - 9)
    inputs = torch.rand((2, 4, 16))
    hidden = (original.act(original.fc1_g(inputs)) * original.fc1_x(inputs))[..., kept]
    normed = nn.functional.layer_norm(
        hidden, (23,), original.norm.weight[kept], original.norm.bias[kept], original.norm.eps
    )
    expected = nn.functional.linear(normed, original.fc2.weight[:, kept], original.fc2.bias)
    assert torch.allclose(made(inputs), expected, atol=1e-5)
    emulated.save(view(sandwich, emulator), tmp_path)
    again = emulated.rebuild(eva_with_norm(), tmp_path)
    batch = tiny_batch("timm")
    assert torch.equal(run_model(again, batch), run_model(view(sandwich, emulator), batch))


def test_another_norm_over_the_channels_is_refused():
    """Nothing is known of it that would tell how it shrinks."""
    model = eva_with_norm()
    block = get_blocks(model)[0]
    block.mlp.norm = nn.GroupNorm(1, 32)
    with pytest.raises(OffsiteError, match="GroupNorm; only a LayerNorm"):
        narrowed(block, architecture_of(model), torch.arange(4))


def test_packed_weights_are_refused():
    """With the order that would work."""
    steps = [("quantize", Quantize()), ("ffn_prune", FfnPrune(ratio=0.5))]
    with pytest.raises(OffsiteError, match="put this one first"):
        compress(cut(tiny_model("llama"), bottom=1, top=1), steps)


def test_blocks_that_share_their_weights_still_do():
    """As after CRaSh."""
    sandwich = cut(tiny_model("opt"), bottom=1, top=1)
    block = sandwich.middle[0]
    twin = deepcopy(block, {id(p): p for p in block.parameters()})
    shared = Emulator(nn.ModuleList([block, twin]), (0, 1), architecture_of(sandwich.model))
    first, second = ffn_prune(shared, FfnPrune(ratio=0.5)).blocks
    assert first is not second
    assert first.fc1.weight is second.fc1.weight
    assert first.fc1.out_features == 24


def test_what_is_frozen_or_in_training_stays_so():
    """New modules are as the ones they stand in for."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    sandwich.middle[0].mlp.up_proj.requires_grad_(False)
    sandwich.middle[1].train()
    first, second, *_ = ffn_prune(whole(sandwich), FfnPrune(ratio=0.5)).blocks
    assert not first.mlp.up_proj.weight.requires_grad
    assert first.mlp.gate_proj.weight.requires_grad
    assert not first.mlp.up_proj.training
    assert second.mlp.up_proj.training


def test_generation_with_a_cache_is_generation_without():
    """Smaller blocks keep their places in the cache."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    model = with_emulator(sandwich, ffn_prune(whole(sandwich), FfnPrune(ratio=0.5)))
    assert isinstance(get_blocks(model)[1].mlp.c_fc, ResizedLinear)
    ids = tiny_batch("gpt2").inputs["ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        assert torch.equal(
            model.generate(ids, **options, use_cache=True),
            model.generate(ids, **options, use_cache=False),
        )
