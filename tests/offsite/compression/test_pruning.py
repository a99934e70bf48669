"""Exactly as many weights are zero as were asked for, and they are the right ones."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

from offsite import emulated
from offsite.blocks import get_blocks, roles
from offsite.compression import pruning
from offsite.compression.calibration import Calibration
from offsite.compression.crash import share
from offsite.compression.emulator import Emulator, compress
from offsite.compression.methods import Identity, LowRank, MagnitudePrune, NofM, Quantize, Wanda
from offsite.compression.pruning import (
    magnitude_prune,
    n_m,
    smallest_in_rows,
    wanda,
    zero_smallest,
    zero_where,
)
from offsite.errors import OffsiteError
from offsite.sandwich import Sandwich, cut, view
from tests.fakes import run_model, tiny_batch, tiny_model, weights
from tests.offsite.corpora import calibration, tiny_corpus

SOME = ["bloom", "gpt2", "llama", "timm", "timm_eva"]
STEPS = [
    ("magnitude_prune", MagnitudePrune(ratio=0.3)),
    ("magnitude_prune", MagnitudePrune(ratio=0.3, scope="row")),
    ("magnitude_prune", MagnitudePrune(ratio=0.3, scope="global")),
    ("n_m", NofM()),
    ("wanda", Wanda(ratio=0.3, corpus="tiny", samples=8)),
]


def sandwich_of(architecture: str, seed: int = 0) -> Sandwich:
    """A tiny model between one adapter block at each end."""
    return cut(tiny_model(architecture, seed), bottom=1, top=1)


def matrices(emulator: Emulator) -> list[torch.Tensor]:
    """Every linear's weight as (outputs, inputs)."""
    found = [
        module
        for block in emulator.blocks
        for linear in roles(emulator.architecture, block).all.values()
        for module in linear.modules()
        if isinstance(module, (nn.Linear, Conv1D))
    ]
    return [m.weight.detach().T if isinstance(m, Conv1D) else m.weight.detach() for m in found]


def zeros(tensor: torch.Tensor) -> int:
    """How many weights are zero."""
    return int((tensor == 0).sum())


def few_values(seed: int, *shape: int) -> torch.Tensor:
    """Numbers with many ties in magnitude, and a tiny one."""
    values = torch.tensor([-3.0, -1.5, 1.5, 1e-30, 0.5, -0.5, 2.0, 3.0])
    generator = torch.Generator().manual_seed(seed)
    return values[torch.randint(0, len(values), shape, generator=generator)]


@given(
    seed=st.integers(0, 2**31),
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    share=st.floats(0, 1),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    chunk=st.integers(1, 9),
)
@settings(max_examples=150, deadline=None)
def test_the_smallest_of_all_weights_go_and_ties_from_the_front(seed, lengths, share, dtype, chunk):
    """As a stable sort of all of them in a row would have it, however they are cut to pieces."""
    parts = [few_values(seed + i, n, 2).to(dtype) for i, n in enumerate(lengths)]
    row = torch.cat([part.flatten() for part in parts])
    count = math.floor(share * len(row))
    expected = row.clone()
    expected[row.abs().argsort(stable=True)[:count]] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pruning, "CHUNK", chunk)
        zero_smallest(parts, count)
    assert torch.equal(torch.cat([part.flatten() for part in parts]), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_the_smallest_of_many_weights_are_found_exactly(dtype):
    """Where all 32 bits matter."""
    weight = torch.randn((300, 40), generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = weight.clone()
    expected.view(-1)[weight.flatten().abs().argsort(stable=True)[:5555]] = 0
    zero_smallest([weight], 5555)
    assert torch.equal(weight, expected)


@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 5),
    columns=st.integers(1, 9),
    share=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_the_smallest_of_each_row_are_exactly_as_many(seed, rows, columns, share):
    """And of ties the first."""
    scores, count = few_values(seed, rows, columns).abs(), math.floor(share * columns)
    expected = torch.zeros(rows, columns, dtype=torch.bool)
    expected.scatter_(1, scores.argsort(dim=1, stable=True)[:, :count], True)
    assert torch.equal(smallest_in_rows(scores, count), expected)


def test_what_is_chosen_in_rows_is_zeroed_in_place_also_in_a_transposed_view(monkeypatch):
    """GPT-2's weights are transposed; some rows at a time."""
    monkeypatch.setattr(pruning, "CHUNK", 5)
    weight = torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]])
    zero_where(weight.T, lambda rows: rows == rows.amin(1, keepdim=True))
    assert weight.tolist() == [[0, 5], [2, 4], [3, 0]]


@pytest.mark.parametrize("ratio", [0, 0.001, 0.29, 0.5, 0.99])
@pytest.mark.parametrize("architecture", SOME)
def test_magnitude_prune_zeroes_the_exact_count(architecture, ratio):
    """floor(ratio x count) of each matrix, of each row, or of all together."""
    sandwich = sandwich_of(architecture)
    before = matrices(compress(sandwich, []))

    def after(scope):
        return matrices(magnitude_prune(compress(sandwich, []), MagnitudePrune(
            ratio=ratio, scope=scope)))  # fmt: skip

    assert [zeros(w) for w in after("tensor")] == [int(ratio * w.numel()) for w in before]
    for pruned in after("row"):
        assert (pruned == 0).sum(1).tolist() == [int(ratio * pruned.shape[1])] * len(pruned)
    together = after("global")
    assert sum(map(zeros, together)) == int(ratio * sum(w.numel() for w in before))
    limit = max(
        (float(old[new == 0].abs().max()) for old, new in zip(before, together, strict=True)
         if zeros(new)), default=0.0
    )  # fmt: skip
    assert all((new[new != 0].abs() >= limit).all() for new in together)


def test_a_ratio_means_its_decimal_number():
    """0.29 of 100 weights are 29, though the product of floats is below it."""
    assert math.floor(0.29 * 100) == 28
    model = tiny_model("timm")
    emulator = compress(cut(model, bottom=1, top=1), [])
    linear = nn.Linear(10, 10)
    emulator.blocks[0].mlp.fc1 = linear
    pruned = magnitude_prune(emulator, MagnitudePrune(ratio=0.29))
    assert zeros(pruned.blocks[0].mlp.fc1.weight) == 29


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (1, 2), (4, 8), (3, 5)])
@pytest.mark.parametrize("architecture", ["gpt2", "llama", "timm"])
def test_n_m_keeps_the_n_largest_of_m_inputs(architecture, n, m):
    """In every output row; at a row's end at most n stay."""
    whole = compress(sandwich_of(architecture), [])
    for old, new in zip(matrices(whole), matrices(n_m(whole, NofM(n=n, m=m))), strict=True):
        for start in range(0, old.shape[1], m):
            before, after = old[:, start : start + m], new[:, start : start + m]
            kept = min(n, before.shape[1])
            assert ((after != 0).sum(1) == kept).all()
            order = before.abs().argsort(dim=1, descending=True)[:, :kept]
            assert torch.equal(after.gather(1, order), before.gather(1, order))


@pytest.mark.parametrize("architecture", SOME)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_an_emulator_is_a_model_of_its_own_and_survives_the_disk(architecture, step, tmp_path):
    """The owner's model stays, nothing is shared with it, and the logits are the same bits."""
    sandwich, batch = sandwich_of(architecture), tiny_batch(architecture)
    before = weights(sandwich.model)
    emulator = compress(sandwich, [step], {"tiny": tiny_corpus(architecture)})
    owned = {t.untyped_storage().data_ptr() for t in sandwich.model.state_dict().values()}
    assert all(t.untyped_storage().data_ptr() not in owned for t in emulator.tensors())
    assert all(torch.equal(t, before[name]) for name, t in sandwich.model.state_dict().items())
    assert not any(m._forward_pre_hooks for m in sandwich.model.modules())
    assert not any(m._forward_pre_hooks for m in emulator.blocks.modules())
    assert emulator.layer_map == (0, 1, 2, 3)
    made = view(sandwich, emulator)
    emulated.save(made, tmp_path)
    again = emulated.rebuild(tiny_model(architecture, seed=1), tmp_path)
    with torch.no_grad():
        expected = run_model(made, batch)
        assert torch.equal(run_model(again.eval(), batch), expected)
        assert not torch.equal(run_model(sandwich.model, batch), expected)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_only_matrices_of_linears_are_pruned(step):
    """What is not zero is as it was; biases and norms are whole."""
    sandwich = sandwich_of("gpt2")
    before = compress(sandwich, []).blocks.state_dict()
    after = compress(sandwich, [step], {"tiny": tiny_corpus("gpt2")}).blocks.state_dict()
    for name, tensor in after.items():
        kept = tensor != 0 if tensor.dim() == 2 else torch.ones_like(tensor, dtype=torch.bool)
        assert torch.equal(tensor[kept], before[name][kept])


def wanda_by_hand(sandwich: Sandwich, parameters: Wanda, given: Calibration) -> list[torch.Tensor]:
    """The definition: the complete model runs anew for each block, on what is pruned so far."""
    emulator = compress(sandwich, [("identity", Identity())])
    for block in emulator.blocks:
        squares: dict[nn.Module, torch.Tensor] = {}
        found = list(roles(emulator.architecture, block).all.values())
        batches = given.batches(parameters.samples, parameters.seed)
        for batch in batches:
            mask = batch.inputs.get("attention_mask")

            def note(module, arguments, mask=mask, squares=squares):
                rows = arguments[0].flatten(0, -2).double()  # OPT's FFN gets them flat already
                if mask is not None:
                    rows = rows[mask.flatten().bool()]
                squares[module] = squares.get(module, 0) + (rows**2).sum(0)

            handles = [linear.register_forward_pre_hook(note) for linear in found]
            with torch.no_grad():
                given.corpus.loss_of(view(sandwich, emulator), batch)
            for handle in handles:
                handle.remove()
        for linear in found:
            weight = linear.weight.data
            rows = weight.T if isinstance(linear, Conv1D) else weight
            scores = rows.abs().double() * squares[linear].sqrt()
            lowest = scores.argsort(dim=1)[:, : int(parameters.ratio * rows.shape[1])]
            rows.scatter_(1, lowest, 0.0)
    return matrices(emulator)


@pytest.mark.parametrize("architecture", [*SOME, "opt"])
def test_wanda_is_its_definition(architecture):
    """Lowest |weight| x input norm of each row, block after block, padding left out."""
    sandwich = sandwich_of(architecture)
    parameters = Wanda(ratio=0.4, corpus="tiny", samples=16)
    given = calibration(sandwich, architecture, padding=3)
    pruned = matrices(wanda(compress(sandwich, []), parameters, given))
    for ours, theirs in zip(pruned, wanda_by_hand(sandwich, parameters, given), strict=True):
        assert torch.equal(ours, theirs)
        assert ((ours == 0).sum(1) == int(0.4 * ours.shape[1])).all()


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_wanda_does_not_see_padding(architecture):
    """However long batches are padded, the same weights go."""
    sandwich = sandwich_of(architecture)
    parameters = Wanda(corpus="tiny", samples=8)
    results = [
        matrices(
            wanda(compress(sandwich, []), parameters, calibration(sandwich, architecture, padding))
        )
        for padding in (0, 5)
    ]
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_wanda_also_goes_through_scattered_blocks():
    """Adapter blocks that stand between those of the middle run too, and stay."""
    sandwich = cut(tiny_model("llama"), scattered=(0, 2, 5))
    parameters = Wanda(corpus="tiny", samples=8)
    given = calibration(sandwich, "llama")
    pruned = matrices(wanda(compress(sandwich, []), parameters, given))
    for ours, theirs in zip(pruned, wanda_by_hand(sandwich, parameters, given), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(zeros(p) for p in get_blocks(sandwich.model)[2].parameters() if p.dim() == 2)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_shared_blocks_are_pruned_once_and_stay_shared(step):
    """As after crash: not twice as many zeros, and no second copy."""
    sandwich = sandwich_of("gpt2")
    shared = share(compress(sandwich, []), [0, 2])
    if step[0] == "wanda":
        pruned = wanda(shared, step[1], calibration(sandwich, "gpt2"))
    else:
        pruned = {"n_m": n_m, "magnitude_prune": magnitude_prune}[step[0]](shared, step[1])
    assert pruned.stored_bytes == shared.stored_bytes
    expected = 0.5 if step[0] == "n_m" else 0.3
    share_of_zeros = sum(map(zeros, matrices(pruned))) / sum(w.numel() for w in matrices(pruned))
    assert share_of_zeros == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_both_factors_of_a_factored_matrix_are_pruned(step):
    """Composed with low_rank: the same share of each."""
    sandwich = sandwich_of("gpt2")
    steps = [("low_rank", LowRank(keep=0.5)), step]
    emulator = compress(sandwich, steps, {"tiny": tiny_corpus("gpt2")})
    found = matrices(emulator)
    assert len(found) == 4 * 4 * 2
    assert all(zeros(weight) for weight in found)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_packed_weights_are_not_pruned(step):
    """One line that says what would work."""
    with pytest.raises(OffsiteError, match="packed by quantize already; prune before quantize"):
        compress(sandwich_of("llama"), [("quantize", Quantize()), step], {
            "tiny": tiny_corpus("llama")})  # fmt: skip


def test_pruned_weights_can_be_quantised():
    """Zeros stay zeros."""
    steps = [("magnitude_prune", MagnitudePrune(ratio=0.5)), ("quantize", Quantize(bits=3))]
    emulator = compress(sandwich_of("llama"), steps)
    weight = emulator.blocks[0].mlp.up_proj.weight
    assert zeros(weight) >= weight.numel() // 2
