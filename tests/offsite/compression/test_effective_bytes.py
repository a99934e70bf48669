"""Effective bytes are those of the smallest encoding, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offsite.compression import effective_bytes as module
from offsite.compression.crash import share
from offsite.compression.effective_bytes import (
    MOST_VALUES,
    distinct_values,
    effective_bytes,
    smallest_encoding,
)
from offsite.compression.emulator import compress
from offsite.compression.methods import MagnitudePrune, PaperRtn, Quantize
from offsite.sandwich import cut
from tests.fakes import tiny_model

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def random(*shape: int) -> torch.Tensor:
    """Normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def half_zero(*shape: int) -> torch.Tensor:
    """Every second number is 0."""
    result = random(*shape)
    result.view(-1)[::2] = 0
    return result


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_numbers_without_a_pattern_take_what_they_take(dtype):
    """Nothing is smaller than dense."""
    weight = random(50, 1000).to(dtype)
    assert smallest_encoding(weight) <= weight.numel() * weight.element_size()
    if dtype == torch.float32:
        assert smallest_encoding(weight) == 200_000


@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)], ids=str)
def test_zeros_take_a_bit(dtype, size):
    """And so do the others, beside themselves."""
    weight = half_zero(50, 1000).to(dtype)
    assert smallest_encoding(weight) == 50_000 // 8 + 25_000 * size


def test_few_values_take_a_table():
    """5 values are numbered with 3 bits."""
    weight = torch.tensor([-2.0, -1.0, 1.0, 2.0, 3.0]).repeat(10, 200)
    assert smallest_encoding(weight) == 10_000 * 3 // 8 + 5 * 4


def test_a_constant_takes_one_value():
    """Which of one value it is needs no bits."""
    assert smallest_encoding(torch.full((10, 10), 0.5)) == 4
    assert smallest_encoding(torch.zeros(10, 10)) == 4


def test_mostly_zeros_and_few_others_take_a_bitmap_and_a_table():
    """A bit for each, and 2 bits for those that are one of 4 values."""
    weight = torch.zeros(10, 1000)
    weight.view(-1)[::10] = torch.tensor([-2.0, -1.0, 1.0, 2.0]).repeat(250)
    assert smallest_encoding(weight) == 10_000 // 8 + 1000 * 2 // 8 + 4 * 4


def test_what_is_no_matrix_of_floats_counts_as_it_is():
    """Packed codes are packed already; biases and norms are small."""
    assert smallest_encoding(torch.zeros(10, 10, dtype=torch.uint8)) == 100
    assert smallest_encoding(torch.zeros(100)) == 400
    assert smallest_encoding(torch.zeros(0, 4)) == 0


@given(
    seed=st.integers(0, 2**31),
    kinds=st.integers(1, 600),
    count=st.integers(1, 3000),
    chunk=st.integers(1, 5000),
    sample=st.integers(1, 400),
    dtype=st.sampled_from(DTYPES),
)
@settings(max_examples=60, deadline=None)
def test_every_value_is_found(seed, kinds, count, chunk, sample, dtype):
    """Also the rare ones that the first look missed."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(kinds, generator=generator)
    values[0] = 0
    tensor = values[torch.randint(0, kinds, (count, 1), generator=generator)].to(dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", max(chunk, count // 20 + 1))
        patch.setattr(module, "SAMPLE", sample)
        found = distinct_values(tensor)
    expected = torch.unique(tensor)
    if len(expected) > MOST_VALUES:
        assert found is None
    else:
        assert found is not None
        assert torch.equal(found, expected)


def test_values_whose_bits_fall_together_are_all_counted():
    """They share a slot of the look-up table."""
    bits = torch.tensor([0x3F80_0001, 0x3F81_0000, 0x3F82_0003], dtype=torch.int32)
    values = bits.view(torch.float32)
    assert len(set(module._slots(values).tolist())) < 3
    found = distinct_values(values.repeat(100, 1))
    assert found is not None
    assert torch.equal(found, values)


def test_of_an_emulator_it_counts_what_was_not_kept():
    """Pruned and rounded weights are stored dense, and are here what they would take."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    whole = compress(sandwich, [])
    in_matrices = sum(t.numel() for t in whole.tensors() if t.dim() == 2)
    others = sum(t.numel() for t in whole.tensors()) - in_matrices
    assert effective_bytes(whole) == whole.stored_bytes == 4 * (in_matrices + others)
    pruned = compress(sandwich, [("magnitude_prune", MagnitudePrune(ratio=0.75))])
    assert pruned.stored_bytes == whole.stored_bytes
    assert effective_bytes(pruned) == in_matrices // 8 + in_matrices + 4 * others
    rounded = compress(sandwich, [("paper-rtn", PaperRtn(bits=2))])
    count = sum(t.dim() == 2 for t in rounded.tensors())
    assert effective_bytes(rounded) == math.ceil(in_matrices * 3 / 8) + count * 5 * 4 + 4 * others


def test_packed_codes_and_shared_blocks_count_once_and_as_they_are():
    """What is small on disk is not made smaller."""
    whole = compress(cut(tiny_model("llama"), bottom=1, top=1), [])
    packed = compress(cut(tiny_model("llama"), bottom=1, top=1), [("quantize", Quantize(bits=3))])
    assert effective_bytes(packed) == packed.stored_bytes
    assert effective_bytes(share(whole, [0, 2])) * 2 == effective_bytes(whole)
