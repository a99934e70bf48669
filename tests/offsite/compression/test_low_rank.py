"""Factors are the best there are, run as two matmuls, and leave all else as it was."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from offsite import emulated
from offsite.blocks import architecture_of, roles
from offsite.compression.calibration import Calibration
from offsite.compression.channels import ResizedLinear, matrix_of
from offsite.compression.emulator import Emulator, compress
from offsite.compression.low_rank import (
    LowRankLinear,
    factors,
    low_rank,
    of_rank,
    rank_of,
    second_moments,
)
from offsite.compression.methods import LowRank, Quantize
from offsite.errors import BadLayout, OffsiteError
from offsite.sandwich import Sandwich, cut, view, with_emulator
from offsite.training import NonFiniteLoss
from tests.fakes import run_model, tiny_batch, tiny_model, weights
from tests.offsite.corpora import calibration, tiny_corpus

SOME = ["bloom", "gpt2", "llama", "opt", "timm", "timm_eva"]
PLAIN = LowRank(keep=0.5)
SEEN = LowRank(keep=0.5, corpus="tiny", samples=16)


def whole(sandwich: Sandwich) -> Emulator:
    """The middle before any compression."""
    middle = sandwich.middle
    return Emulator(
        nn.ModuleList(middle), tuple(range(len(middle))), architecture_of(sandwich.model)
    )


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def correlated_inputs() -> torch.Tensor:
    """200 tokens of 12 numbers, most of whose energy is in few directions."""
    return random(200, 12, seed=1) * torch.logspace(0, -2, 12) @ random(12, 12, seed=2)


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_error_of_plain_factors_is_the_tail_of_the_singular_values(rank):
    """Eckart and Young: no factors of that rank are nearer."""
    matrix = random(10, 12)
    down, up = factors(matrix, rank)
    assert down.shape == (rank, 12)
    assert up.shape == (10, rank)
    tail = torch.linalg.svdvals(matrix)[rank:].square().sum()
    assert (matrix - up @ down).square().sum() == pytest.approx(float(tail), rel=1e-4)


def test_singular_values_are_split_evenly():
    """Neither factor is much smaller than the other, which bf16 or few bits would not forgive."""
    matrix = random(10, 12)
    down, up = factors(matrix, 4)
    expected = torch.linalg.svdvals(matrix)[:4]
    assert torch.allclose(down.square().sum(1), expected, rtol=1e-4)
    assert torch.allclose(up.square().sum(0), expected, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 4, 9])
def test_the_error_of_weighed_factors_is_the_best_possible(rank):
    """SVD-LLM's theorem: the outputs are off by the tail of the singular values of W S."""
    matrix, inputs = random(10, 12), correlated_inputs()
    down, up = factors(matrix, rank, inputs.T @ inputs)
    error = (inputs @ (matrix - up @ down).T).square().sum()
    triangle = torch.linalg.cholesky(inputs.double().T @ inputs.double())
    best = torch.linalg.svdvals(matrix.double() @ triangle)[rank:].square().sum()
    assert error == pytest.approx(float(best), rel=1e-3)
    plain_down, plain_up = factors(matrix, rank)
    assert error < 0.9 * (inputs @ (matrix - plain_up @ plain_down).T).square().sum()


def test_inputs_of_few_directions_lose_nothing():
    """A second moment of rank 3 needs rank 3; that it has no inverse does no harm."""
    matrix, inputs = random(10, 12), random(50, 3, seed=1) @ random(3, 12, seed=2)
    down, up = factors(matrix, 3, inputs.T @ inputs)
    assert torch.allclose(inputs @ (up @ down).T, inputs @ matrix.T, atol=1e-3)


def test_a_dead_layer_has_factors():
    """No input was ever seen, or all weights are zero: the result is finite."""
    for matrix, moment in [
        (random(10, 12), torch.zeros(12, 12)),
        (torch.zeros(10, 12), None),
    ]:
        down, up = factors(matrix, 4, moment)
        assert down.isfinite().all()
        assert up.isfinite().all()


@pytest.mark.parametrize("moment", [None, torch.eye(12) + 1])
def test_full_rank_is_exact(moment):
    """Then nothing is lost but rounding."""
    matrix = random(10, 12)
    down, up = factors(matrix, 10, moment)
    assert torch.allclose(up @ down, matrix, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "keep", "rank"),
    [
        ((64, 64), 0.5, 16),
        ((64, 64), 0.51, 16),
        ((10, 40), 0.29, 2),  # 2.32
        ((100, 100), 0.58, 29),  # though 0.58 * 50 is 28.999999999999996
        ((64, 64), 0.04, 1),
        ((64, 64), 1.0, None),
        ((1, 64), 0.9, None),
    ],
)
def test_the_rank_follows_from_the_parameters_that_stay(shape, keep, rank):
    """floor(keep out in / (out + in)); None where nothing would shrink."""
    assert rank_of(shape, keep) == rank


def test_a_share_below_one_rank_is_refused_with_the_least_there_is():
    """Rank 1 under the name of a smaller share would be another emulator than asked for."""
    with pytest.raises(BadLayout, match=r"keep 0.03 leaves no rank of .* 64 x 64; at least 0.0312"):
        rank_of((64, 64), 0.03)


@pytest.mark.parametrize("bias", [True, False])
def test_a_factored_linear_is_two_matmuls_and_holds_no_more(bias):
    """The product of the factors is nowhere."""
    linear = nn.Linear(40, 30, bias=bias)
    made = of_rank(linear, 4)
    assert isinstance(made, LowRankLinear)
    assert sum(p.numel() for p in made.parameters()) == 4 * (40 + 30) + 30 * bias
    inputs = random(2, 5, 40)
    product = made.up.weight @ made.down.weight
    assert torch.allclose(
        made(inputs), nn.functional.linear(inputs, product, linear.bias), atol=1e-5
    )
    calls = []
    made.down.register_forward_hook(lambda *_: calls.append("down"))
    made.up.register_forward_hook(lambda *_: calls.append("up"))
    made(inputs)
    assert calls == ["down", "up"]


@pytest.mark.parametrize("rank", [4, 30])
def test_gpt2s_transposed_matrix_is_factored_the_right_way_round(rank):
    """Conv1D stores (in, out)."""
    conv, linear = Conv1D(30, 40), nn.Linear(40, 30)
    with torch.no_grad():
        linear.weight.copy_(conv.weight.T)
        linear.bias.copy_(conv.bias.uniform_())
    inputs = random(2, 5, 40)
    assert torch.allclose(of_rank(conv, rank)(inputs), of_rank(linear, rank)(inputs), atol=1e-6)


def test_factors_that_would_be_larger_are_one_matrix_of_that_rank():
    """At rank 20, 20 x (40 + 30) numbers are more than 40 x 30."""
    linear = nn.Linear(40, 30)
    made = of_rank(linear, 20)
    assert isinstance(made, ResizedLinear)
    assert torch.linalg.matrix_rank(made.weight, rtol=1e-4) == 20
    assert torch.equal(made.bias, linear.bias)


@pytest.mark.parametrize("parameters", [PLAIN, SEEN], ids=["plain", "seen"])
@pytest.mark.parametrize("architecture", SOME)
def test_every_matrix_becomes_factors_and_nothing_else_changes(architecture, parameters, tmp_path):
    """The owner's model stays; the emulator survives the disk to the bit, and generates."""
    model = tiny_model(architecture)
    before = weights(model)
    sandwich = cut(model, bottom=1, top=1)
    emulator = compress(sandwich, [("low_rank", parameters)], {"tiny": tiny_corpus(architecture)})
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    owned = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    assert all(t.untyped_storage().data_ptr() not in owned for t in emulator.tensors())
    for block, original in zip(emulator.blocks, sandwich.middle, strict=True):
        matrices = roles(emulator.architecture, block).all
        assert all(isinstance(linear, LowRankLinear) for linear in matrices.values())
        rest, kept = original.state_dict(), block.state_dict()
        unchanged = [n for n in rest if n.rpartition(".")[0] not in matrices]
        assert all(torch.equal(rest[n], kept[n]) for n in unchanged)
        full = sum(p.numel() for p in original.parameters() if p.dim() > 1)
        assert sum(p.numel() for p in block.parameters() if p.dim() > 1) <= 0.5 * full
    sent = view(sandwich, emulator)
    emulated.save(sent, tmp_path)
    again = emulated.rebuild(tiny_model(architecture, seed=5), tmp_path)
    batch = tiny_batch(architecture)
    assert torch.equal(run_model(again, batch), run_model(sent, batch))


def test_generation_with_a_cache_is_generation_without():
    """Factored attention keeps its place in the cache."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    model = with_emulator(sandwich, low_rank(whole(sandwich), PLAIN))
    ids = tiny_batch("llama").inputs["ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        assert torch.equal(
            model.generate(ids, **options, use_cache=True),
            model.generate(ids, **options, use_cache=False),
        )


def test_attention_alone_leaves_the_ffn():
    """ScaleOT's selective rank compression."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    emulator = low_rank(whole(sandwich), LowRank(keep=0.5, only="attention"))
    found = roles(emulator.architecture, emulator.blocks[0])
    attention = found.attention | found.attention_out
    assert all(isinstance(linear, LowRankLinear) for linear in attention.values())
    assert all(isinstance(m, Conv1D) for m in (found.ffn_in | found.ffn_out).values())


@pytest.mark.parametrize("corpus", [None, "tiny"])
def test_what_keeps_all_is_the_middle_itself(corpus):
    """No matrix is touched, so not a bit changes."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    step = ("low_rank", LowRank(keep=1.0, corpus=corpus))
    emulator = compress(sandwich, [step], {"tiny": tiny_corpus("llama")})
    batch = tiny_batch("llama")
    assert torch.equal(run_model(view(sandwich, emulator), batch), run_model(sandwich.model, batch))


def test_each_block_is_fitted_to_what_the_compressed_ones_before_it_send():
    """Known by hand for the second block of the middle."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    look = calibration(sandwich, "llama")
    emulator = low_rank(whole(sandwich), SEEN, look)
    calls = look.calls(look.batches(SEEN.samples, SEEN.seed))
    hidden = [call.through(1, emulator.blocks[0], call.hidden) for call in calls]
    block = sandwich.middle[1]
    name, linear = "mlp.down_proj", block.mlp.down_proj
    seen = []
    handle = linear.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    for call, states in zip(calls, hidden, strict=True):
        call.through(2, block, states)
    handle.remove()
    real = torch.cat([x[call.mask] for x, call in zip(seen, calls, strict=True)])
    moment = second_moments({name: linear}, block, 2, calls, hidden)[name]
    assert torch.allclose(moment, real.T @ real, rtol=1e-4, atol=1e-5)
    made = emulator.blocks[1].mlp.down_proj
    down, up = factors(matrix_of(linear), made.rank, moment)
    assert torch.allclose(made.up.weight @ made.down.weight, up @ down, atol=1e-5)


def test_padding_does_not_count():
    """The same samples with more padding give the same matrices."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    first, second = (
        low_rank(whole(sandwich), SEEN, calibration(sandwich, "llama", padding))
        for padding in (0, 7)
    )
    batch = tiny_batch("llama")
    logits = [run_model(view(sandwich, each), batch) for each in (first, second)]
    assert torch.allclose(*logits, atol=1e-4)


def test_the_data_help_on_the_data():
    """On the samples looked at, hidden states after the middle are nearer than plain SVD's."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    look = calibration(sandwich, "llama")
    calls = look.calls(look.batches(SEEN.samples, SEEN.seed))

    def after(emulator: Emulator) -> torch.Tensor:
        rows = []
        for call in calls:
            hidden = call.hidden
            for position, block, _ in look.path(emulator):
                hidden = call.through(position, block, hidden)
            rows.append(hidden[call.mask])
        return torch.cat(rows)

    with torch.no_grad():
        target = after(whole(sandwich))
        plain = (after(low_rank(whole(sandwich), PLAIN)) - target).square().mean()
        seen = (after(low_rank(whole(sandwich), SEEN, look)) - target).square().mean()
    assert seen < plain


def test_bfloat16_stays_bfloat16():
    """Only the computation of factors is in float32."""
    sandwich = cut(tiny_model("llama").bfloat16(), bottom=1, top=1)
    for look in (None, calibration(sandwich, "llama")):
        emulator = low_rank(whole(sandwich), SEEN if look else PLAIN, look)
        assert {t.dtype for t in emulator.tensors()} == {torch.bfloat16}
        assert run_model(view(sandwich, emulator), tiny_batch("llama")).isfinite().all()


@pytest.mark.parametrize("corpus", [None, "tiny"])
def test_blocks_that_share_their_weights_still_do(corpus):
    """As after CRaSh: a middle of four blocks that are two stores two."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    look = calibration(sandwich, "llama") if corpus else None
    stored = whole(sandwich).blocks[:2]
    again = [deepcopy(b, {id(p): p for p in b.parameters()}) for b in stored]
    shared = Emulator(
        nn.ModuleList([stored[0], again[0], stored[1], again[1]]),
        (0, 1, 2, 3),
        architecture_of(sandwich.model),
    )
    parameters = SEEN if corpus else PLAIN
    two = replace(shared, blocks=nn.ModuleList(stored), layer_map=(0, 2))
    expected = low_rank(two, parameters, look).stored_bytes
    emulator = low_rank(shared, parameters, look)
    assert emulator.stored_bytes == expected
    assert len({id(block) for block in emulator.blocks}) == 4


def test_packed_weights_are_refused():
    """With the order that would work."""
    steps = [("quantize", Quantize()), ("low_rank", PLAIN)]
    with pytest.raises(OffsiteError, match="put this one first"):
        compress(cut(tiny_model("llama"), bottom=1, top=1), steps)


def test_states_that_are_not_finite_fit_nothing():
    """An SVD of NaN would be an error of the library's, or worse, none."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(torch.nan)
    sandwich = cut(model, bottom=1, top=1)
    with pytest.raises(NonFiniteLoss):
        low_rank(whole(sandwich), SEEN, Calibration(sandwich, tiny_corpus("llama")))


def test_a_model_in_training_is_looked_at_without_dropout_and_stays_in_training():
    """Two looks at the same data give the same matrices."""
    model = tiny_model("gpt2").train()
    sandwich = cut(model, bottom=1, top=1)
    first, second = (
        low_rank(whole(sandwich), SEEN, calibration(sandwich, "gpt2")) for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), second.tensors(), strict=True))
    assert all(module.training for module in model.modules())
