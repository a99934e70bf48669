"""Few bits mean few bytes, the definitions' codes, and the gradients of a dense layer."""

from __future__ import annotations

import weakref
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import nn
from transformers.pytorch_utils import Conv1D

from offsite import emulated
from offsite.compression import quantization
from offsite.compression.crash import share
from offsite.compression.emulator import compress, parameters_of
from offsite.compression.methods import PaperRtn, Quantize
from offsite.compression.quantization import (
    NF4_LEVELS,
    QuantizedLinear,
    packed,
    packed_length,
    paper_round,
    quantize,
    rtn,
    unpacked,
)
from offsite.errors import BadLayout, OffsiteError
from offsite.sandwich import cut, view
from tests.fakes import run_model, tiny_batch, tiny_model, weights
from tests.offsite.corpora import tiny_corpus

SOME = ["bloom", "gpt2", "llama", "timm", "timm_eva"]
FORMATS = [
    *(Quantize(bits=bits, group=16) for bits in range(2, 9)),
    Quantize(format="nf4"),
    Quantize(format="int8"),
]


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def linear_of(weight: torch.Tensor, bias: bool = True) -> nn.Linear:
    """A dense layer with that weight, in its dtype."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias, dtype=weight.dtype)
    layer.weight = nn.Parameter(weight.clone())
    return layer


def filled(linear, parameters: Quantize, bias: nn.Parameter | None) -> QuantizedLinear:
    """The packed layer of a dense one, with another bias."""
    layer = QuantizedLinear.like(linear, parameters, bias)
    layer.fill(linear)
    return layer


def quantized(weight: torch.Tensor, parameters: Quantize) -> QuantizedLinear:
    """The packed layer of a weight."""
    return filled(linear_of(weight), parameters, None)


def paper_rounded(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """A copy, rounded as the authors do."""
    result = weight.clone()
    paper_round(result, bits)
    return result


def rtn_by_hand(weight: torch.Tensor, bits: int, group: int) -> torch.Tensor:
    """The definition, a group at a time."""
    result = weight.clone()
    for row in result:
        for start in range(0, len(row), group):
            w = row[start : start + group].clone()
            s = (w.max() - w.min()) / (2**bits - 1)
            z = (-w.min() / s).round()
            q = ((w / s).round() + z).clamp(0, 2**bits - 1)
            row[start : start + group] = (q - z) * s
    return result


def test_codes_lie_side_by_side():
    """Two 4-bit codes are a byte, the first in its lower half; a row ends on a whole byte."""
    assert packed(torch.tensor([[1, 2, 3]], dtype=torch.uint8), 4).tolist() == [[0x21, 0x03]]
    eight = torch.arange(8, dtype=torch.uint8).unsqueeze(0)
    data = packed(eight, 3)
    assert int.from_bytes(bytes(data[0].tolist()), "little") == sum(i << 3 * i for i in range(8))


@given(
    bits=st.integers(1, 8), rows=st.integers(1, 3), count=st.integers(1, 37), seed=st.integers(0)
)
@settings(max_examples=60, deadline=None)
def test_packing_loses_nothing_and_wastes_less_than_a_byte_a_row(bits, rows, count, seed):
    """Any number of bits, any length of a row."""
    generator = torch.Generator().manual_seed(seed % 2**32)
    codes = torch.randint(0, 2**bits, (rows, count), generator=generator, dtype=torch.uint8)
    data = packed(codes, bits)
    assert data.shape == (rows, packed_length(count, bits))
    assert 0 <= 8 * data.shape[1] - count * bits < 8
    assert torch.equal(unpacked(data, bits, count), codes)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("group", [8, 128])
def test_rtn_is_its_definition(bits, group):
    """Also in the last group of a row, which is shorter."""
    weight = random(9, 148).abs()
    weight[:, ::2] *= -1  # every group has weights of both signs
    layer = quantized(weight, Quantize(bits=bits, group=group))
    assert layer.scales.shape == (9, -(-148 // group))
    assert torch.equal(layer.weight, rtn_by_hand(weight, bits, group))


def test_rtn_of_a_grid_is_the_grid():
    """Weights that are levels already do not move, and the codes are what one would write."""
    codes, scales, zeros = rtn(torch.tensor([[[-1.0, 0.0, 1.0, 2.0]]]), 2, torch.float32)
    assert codes.tolist() == [[[0, 1, 2, 3]]]
    assert (scales.item(), zeros.item()) == (1.0, 1)


def test_rtn_clamps():
    """Zero and the largest weight may both be rounded up: 8 + 8 is no 4-bit code."""
    codes, scales, zeros = rtn(torch.tensor([[[-7.5, 0.0, 7.5]]]), 4, torch.float32)
    assert codes.tolist() == [[[0, 8, 15]]]
    assert (scales.item(), zeros.item()) == (1.0, 8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("parameters", FORMATS, ids=str)
def test_groups_of_one_value_survive(parameters, dtype):
    """Zeros stay zeros, and a constant is not divided by its range of nothing."""
    for constant in (0.0, 0.375, -3.0, 1e-7):
        weight = torch.full((2, 20), constant, dtype=dtype)
        layer = quantized(weight, parameters)
        assert torch.allclose(layer.weight, weight, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("parameters", FORMATS, ids=str)
def test_zeros_stay_zeros(parameters):
    """Pruned weights are still pruned when they are quantised."""
    weight = random(6, 40)
    weight[random(6, 40, seed=1) > 0] = 0
    assert (quantized(weight, parameters).weight[weight == 0] == 0).all()


def test_the_levels_of_nf4_are_quantiles_of_the_normal_distribution():
    """Eight negative and nine positive ones that share 0, scaled to [-1, 1]."""
    offset = 0.5 * ((1 - 1 / 32) + (1 - 1 / 30))
    positive = norm.ppf(np.linspace(offset, 0.5, 9)[:-1])
    negative = -norm.ppf(np.linspace(offset, 0.5, 8)[:-1])
    levels = np.sort([*negative, 0, *positive]) / positive.max()
    assert np.allclose(NF4_LEVELS, levels, atol=1e-6)


def test_nf4_takes_the_nearest_level():
    """In blocks of 64 of a row; the last one is shorter."""
    weight = random(5, 100)
    expected = weight.clone()
    for block in (expected[:, :64], expected[:, 64:]):
        scale = block.abs().amax(1, keepdim=True)
        distance = (block.unsqueeze(-1) / scale.unsqueeze(-1) - torch.tensor(NF4_LEVELS)).abs()
        block.copy_(torch.tensor(NF4_LEVELS)[distance.argmin(-1)] * scale)
    assert torch.equal(quantized(weight, Quantize(format="nf4")).weight, expected)


def test_int8_has_one_symmetric_scale_a_row():
    """The largest magnitude of a row is 127 steps."""
    weight = torch.tensor([[-1.27, 0.013, 0.636], [254.0, 3.1, -100.9]])
    expected = torch.tensor([[-1.27, 0.01, 0.64], [254.0, 4.0, -100.0]])
    layer = quantized(weight, Quantize(format="int8"))
    assert torch.allclose(layer.weight, expected)
    assert layer.scales.shape == (2, 1)


@pytest.mark.parametrize("parameters", FORMATS, ids=str)
def test_rows_that_are_worked_on_apart_are_the_same(parameters, monkeypatch):
    """How many rows fit a chunk changes nothing."""
    weight = random(7, 48)
    whole = quantized(weight, parameters)
    monkeypatch.setattr(quantization, "CHUNK", 100)
    parts = quantized(weight, parameters)
    state = whole.state_dict()
    assert all(torch.equal(t, state[name]) for name, t in parts.state_dict().items())


def test_more_bits_are_nearer():
    """The error halves, or better, with each bit."""
    weight = random(32, 256)
    errors = [
        (quantized(weight, Quantize(bits=bits)).weight - weight).norm() for bits in range(2, 9)
    ]
    assert all(after < 0.55 * before for before, after in pairwise(errors))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (Quantize(bits=3, group=16), 32 * 18 + 32 * 3 * 2 + 32 * 2),
        (Quantize(bits=4, group=64), 32 * 24 + 32 * 2 + 32),
        (Quantize(format="nf4"), 32 * 24 + 32 * 2),
        (Quantize(format="int8"), 32 * 48 + 32 * 2),
    ],
    ids=str,
)
def test_storage_is_really_small(parameters, expected):
    """Codes, scales in the model's two bytes, packed zeros: and nothing else."""
    layer = quantized(random(32, 48).bfloat16(), parameters)
    assert sum(t.numel() * t.element_size() for t in layer.state_dict().values()) == expected


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("parameters", FORMATS[2::2], ids=str)
def test_it_computes_as_the_expanded_layer_does(parameters, dtype, autocast):
    """Outputs and all gradients, in every precision."""
    dense = linear_of(random(12, 20).to(dtype))
    layer = filled(dense, parameters, nn.Parameter(dense.bias.detach().clone()))
    dense.weight = nn.Parameter(layer.weight)
    results = []
    for each in (dense, layer):
        inputs = random(2, 3, 20, seed=1).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = each(inputs)
        outputs.float().square().sum().backward()
        assert inputs.grad is not None
        assert inputs.grad.dtype == dtype
        results.append((outputs, inputs.grad, each.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.allclose(ours, theirs, rtol=1e-2 if dtype != torch.float32 else 1e-5)


def test_the_expanded_weight_does_not_wait_for_the_backward_pass(monkeypatch):
    """It is gone after the forward pass, and made again: what the codes say then counts."""
    layer, inputs = quantized(random(6, 16), Quantize()), random(2, 16).requires_grad_()
    kept: list[torch.Tensor] = []
    made: list[weakref.ref[torch.Tensor]] = []
    expand = QuantizedLinear.weight.fget

    def noted(self: QuantizedLinear) -> torch.Tensor:
        weight = expand(self)
        made.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(QuantizedLinear, "weight", property(noted))
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda _: None):
        total = layer(inputs).sum()
    assert [weight() for weight in made] == [None]
    layer.scales.mul_(2)
    total.backward()
    assert not kept
    assert torch.allclose(inputs.grad, layer.weight.sum(0).expand(2, -1))


@pytest.mark.parametrize("parameters", FORMATS, ids=str)
def test_gpt2s_transposed_layers_are_linears_too(parameters):
    """Groups run along their inputs as well."""
    conv = Conv1D(12, 20)
    layer = filled(conv, parameters, conv.bias)
    plain = quantized(conv.weight.detach().T.contiguous(), parameters)
    assert torch.equal(layer.weight, plain.weight)
    inputs = random(2, 3, 20)
    expected = inputs @ layer.weight.T + conv.bias
    assert torch.allclose(layer(inputs), expected, atol=1e-6)


@pytest.mark.parametrize("architecture", SOME)
@pytest.mark.parametrize(
    "step",
    [
        {"method": "quantize", "bits": 3, "group": 8},
        {"method": "quantize", "format": "nf4"},
        {"method": "quantize", "format": "int8"},
        {"method": "paper-rtn", "bits": 3},
    ],
    ids=str,
)
def test_an_emulator_is_a_model_of_its_own_and_survives_the_disk(architecture, step, tmp_path):
    """The owner's weights stay, nothing is shared with them, and the logits are the same bits."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    before = weights(model)
    sandwich = cut(model, bottom=1, top=1)
    emulator = compress(sandwich, [parameters_of(step)])
    owned = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    assert all(t.untyped_storage().data_ptr() not in owned for t in emulator.tensors())
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert emulator.layer_map == (0, 1, 2, 3)
    made = view(sandwich, emulator)
    emulated.save(made, tmp_path)
    again = emulated.rebuild(tiny_model(architecture, seed=1), tmp_path)
    with torch.no_grad():
        expected = run_model(made, batch)
        assert torch.equal(run_model(again.eval(), batch), expected)
        assert not torch.equal(run_model(model, batch), expected)


@pytest.mark.parametrize("architecture", SOME)
def test_eight_bits_change_little_and_two_much(architecture):
    """Every linear is where it was: logits stay near, and nearer with more bits."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    sandwich = cut(model, bottom=1, top=1)
    whole = compress(sandwich, [])
    distances = []
    for bits in (8, 2):
        made = quantize(whole, Quantize(bits=bits, group=8))
        assert sum(isinstance(m, QuantizedLinear) for m in made.blocks.modules()) == sum(
            isinstance(m, (nn.Linear, Conv1D)) for m in whole.blocks.modules()
        )
        with torch.no_grad():
            moved = run_model(view(sandwich, made), batch) - run_model(model, batch)
        distances.append(float(moved.norm()))
    assert 0 < distances[0] < 0.1 * distances[1]


def test_both_factors_of_a_factored_matrix_are_quantised(tmp_path):
    """Composed with low_rank, and again through the disk."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    low_rank = parameters_of({"method": "low_rank", "keep": 0.5})
    emulator = compress(sandwich, [low_rank, ("quantize", Quantize(group=8))])
    assert not any(isinstance(m, (nn.Linear, Conv1D)) for m in emulator.blocks.modules())
    made, batch = view(sandwich, emulator), tiny_batch("gpt2")
    emulated.save(made, tmp_path)
    again = emulated.rebuild(tiny_model("gpt2", seed=1), tmp_path)
    with torch.no_grad():
        assert torch.equal(run_model(again.eval(), batch), run_model(made, batch))


@pytest.mark.parametrize("parameters", [Quantize(), Quantize(format="nf4")], ids=str)
def test_blocks_that_share_weights_go_on_sharing_them(parameters, tmp_path):
    """As after crash: stored once, in modules of their own."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    whole = compress(sandwich, [])
    shared = quantize(share(whole, [0, 2]), parameters)
    two = quantize(share(whole, [0, 2]), parameters).blocks
    assert shared.stored_bytes * 2 == quantize(whole, parameters).stored_bytes
    assert len(set(map(id, shared.blocks.modules()))) == len(list(shared.blocks.modules()))
    assert len({id(p) for p in two.parameters()}) * 2 == len(
        [p for block in two for p in block.parameters()]
    )
    emulated.save(view(sandwich, shared), tmp_path)
    again = emulated.rebuild(tiny_model("gpt2", seed=1), tmp_path)
    batch = tiny_batch("gpt2")
    with torch.no_grad():
        expected = run_model(view(sandwich, shared), batch)
        assert torch.equal(run_model(again.eval(), batch), expected)


@pytest.mark.parametrize("step", [("quantize", Quantize()), ("paper-rtn", PaperRtn(bits=4))])
def test_what_is_packed_is_not_rounded_again(step):
    """One line that says what would work."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    with pytest.raises(OffsiteError, match="packed by quantize already; quantize once"):
        compress(sandwich, [("quantize", Quantize()), step])


@pytest.mark.parametrize("format", ["nf4", "int8"])
def test_bits_that_would_have_no_effect_are_refused(format):
    """They belong to rtn."""
    with pytest.raises(BadLayout, match=f"bits and group are for format: rtn; {format}"):
        Quantize(format=format, bits=3)


@pytest.mark.parametrize(("bits", "values"), [(1, 1), (2, 5), (8, 257)])
def test_the_authors_rounding_has_their_number_of_values(bits, values):
    """One at 1 bit, and at more bits the extremes overshoot: defect C2 of the authors' code."""
    # At these weights the extremes lie exactly between two steps; elsewhere it is float luck.
    weight = torch.arange(-255.0, 256.0).view(7, 73)
    rounded = paper_rounded(weight, bits)
    assert len(rounded.unique()) == values
    if bits > 1:
        assert rounded.max() > weight.max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("bits", range(1, 9))
def test_the_authors_rounding_is_their_formula(bits, dtype):
    """To the bit, in the tensor's own dtype."""
    w = random(20, 30).to(dtype)
    zp, s = (w.max() + w.min()) / 2, (w.max() - w.min()) / (2**bits - 1)
    assert torch.equal(paper_rounded(w, bits), torch.round((w - zp) / s) * s + zp)


def test_the_authors_rounding_leaves_constants_alone():
    """Their own code divides by zero here."""
    assert torch.equal(paper_rounded(torch.full((3, 4), 0.7), 4), torch.full((3, 4), 0.7))


def test_the_authors_rounding_is_of_every_matrix_and_nothing_else():
    """Biases and norms are as they were."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    for parameter in sandwich.model.parameters():
        nn.init.normal_(parameter)
    before = compress(sandwich, []).blocks.state_dict()
    after = compress(sandwich, [("paper-rtn", PaperRtn(bits=2))]).blocks.state_dict()
    for name, tensor in after.items():
        expected = paper_rounded(before[name], 2) if tensor.dim() == 2 else before[name]
        assert torch.equal(tensor, expected)


def test_shared_codes_are_still_shared_on_another_device():
    """Every tensor moves by itself there; what was one tensor must not become two."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    steps = [
        parameters_of({"method": "crash", "keep": 1, "corpus": "tiny", "samples": 8}),
        parameters_of({"method": "quantize"}),
    ]
    emulator = compress(sandwich, steps, {"tiny": tiny_corpus("llama")})
    before = emulator.stored_bytes
    # What nn.Module.to does, without another device.
    emulator.blocks._apply(torch.clone)
    assert emulator.stored_bytes == before
