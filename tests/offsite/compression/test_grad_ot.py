"""Scores are what removing a triplet or a channel does, and what scores highest stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from offsite import emulated
from offsite.blocks import architecture_of, roles
from offsite.compression import grad_ot as grad_ot_module
from offsite.compression.calibration import Calibration
from offsite.compression.channels import channel_matrices, matrix_of
from offsite.compression.emulator import Emulator, compress
from offsite.compression.grad_ot import (
    Statistics,
    _halves,
    channel_scores,
    chosen_triplets,
    grad_ot,
    triplet_scores,
)
from offsite.compression.low_rank import LowRankLinear
from offsite.compression.methods import GradOt, Quantize
from offsite.errors import OffsiteError
from offsite.sandwich import Sandwich, cut, view, with_emulator
from offsite.training import NonFiniteLoss
from tests.fakes import run_model, tiny_batch, tiny_model, weights
from tests.offsite.corpora import calibration, loss_of, tiny_corpus

SOME = ["bloom", "gemma3_text", "gpt2", "llama", "opt", "phi3", "timm", "timm_eva"]
HALF = GradOt(corpus="tiny", samples=8)


def whole(sandwich: Sandwich) -> Emulator:
    """The middle before any compression."""
    middle = sandwich.middle
    return Emulator(
        nn.ModuleList(middle), tuple(range(len(middle))), architecture_of(sandwich.model)
    )


def random(*shape: int, seed: int) -> Tensor:
    """Normal numbers, always the same."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def statistics(out: int, in_: int, seed: int) -> Statistics:
    """What some linear might have seen."""
    inputs, outputs = random(20, in_, seed=seed), random(20, out, seed=seed + 1)
    return Statistics(
        random(out, in_, seed=seed + 2), inputs.T @ inputs / 20, outputs.T @ outputs / 20
    )


def gcs(change: Tensor, seen: Statistics, weight: float) -> float:
    """GCS of one matrix's change, with the whole Hessian written out."""
    # Rows of a matrix laid end to end: (G kron A) vec(d) = vec(G d A) for symmetric factors.
    hessian = torch.kron(seen.outputs, seen.inputs)
    curvature = (hessian @ change.flatten()).abs().sum()
    return float(curvature - weight * (seen.gradient * change).sum())


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_a_triplets_score_is_the_gcs_of_its_removal(weight):
    """Against the Hessian as one big matrix."""
    matrix, seen = random(6, 9, seed=0), statistics(6, 9, seed=1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    scores = triplet_scores(left, values, right.T, seen, weight)
    for i in range(6):
        change = -values[i] * torch.outer(left[:, i], right[i])
        assert float(scores[i]) == pytest.approx(gcs(change, seen, weight), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize("weight", [0.0, 2.5])
def test_a_channels_score_is_the_gcs_of_its_removal_from_every_matrix(weight):
    """Gate, up and down: the sum of theirs."""
    gate, up, down = random(7, 5, seed=0), random(7, 5, seed=1), random(4, 7, seed=2)
    seen = [statistics(7, 5, seed=10), statistics(7, 5, seed=20), statistics(4, 7, seed=30)]
    scores = channel_scores([(gate, seen[0]), (up, seen[1])], (down, seen[2]), weight)
    for channel in range(7):
        expected = 0.0
        for matrix, each in zip((gate, up), seen, strict=False):
            change = torch.zeros(7, 5)
            change[channel] = -matrix[channel]
            expected += gcs(change, each, weight)
        change = torch.zeros(4, 7)
        change[:, channel] = -down[:, channel]
        expected += gcs(change, seen[2], weight)
        assert float(scores[channel]) == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_the_largest_triplets_stay_whatever_their_score():
    """5% of 25 begin a second one; the rest go by score, and come out by falling value."""
    scores = torch.arange(25.0)
    scores[0] = scores[1] = -100
    assert chosen_triplets(scores, 4).tolist() == [0, 1, 23, 24]
    assert chosen_triplets(scores, 1).tolist() == [0]


def test_a_fused_gate_and_up_is_two_matrices():
    """Each half has its rows of the gradient and its corner of G; their inputs are the same."""
    seen = statistics(8, 5, seed=0)
    gate, up = _halves(seen)
    assert torch.equal(torch.cat([gate.gradient, up.gradient]), seen.gradient)
    assert torch.equal(gate.outputs, seen.outputs[:4, :4])
    assert torch.equal(up.outputs, seen.outputs[4:, 4:])
    assert gate.inputs is up.inputs is seen.inputs


def collected(sandwich: Sandwich, look: Calibration) -> dict[int, dict[str, Statistics]]:
    """The statistics of the whole middle in one pass."""
    emulator = whole(sandwich)
    linears = {
        place: roles(emulator.architecture, block).all
        for place, block in enumerate(emulator.blocks)
    }
    return grad_ot_module._collect(emulator, look, look.batches(16, 0), linears)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "timm_eva", "bloom"])
def test_the_gradient_is_the_one_autograd_gives_the_weights(architecture):
    """Averaged over batches, also for GPT-2's transposed matrices."""
    sandwich = cut(tiny_model(architecture), bottom=1, top=1)
    look = calibration(sandwich, architecture)
    found = collected(sandwich, look)
    other = cut(tiny_model(architecture), bottom=1, top=1)
    batches = look.batches(16, 0)
    (sum(loss_of(other.model, batch) for batch in batches) / len(batches)).backward()
    row = architecture_of(other.model)
    for place, block in enumerate(other.middle):
        for name, linear in roles(row, block).all.items():
            gradient = linear.weight.grad
            assert gradient is not None
            expected = gradient.T if architecture == "gpt2" else gradient
            assert torch.allclose(found[place][name].gradient, expected, atol=1e-5)


def test_the_factors_are_second_moments_over_real_tokens():
    """A of the inputs, G of the gradients of a token's own loss; padding changes neither."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    look = calibration(sandwich, "llama")
    seen = collected(sandwich, look)[1]["mlp.up_proj"]
    linear = sandwich.middle[1].mlp.up_proj
    inputs, gradients = [], []

    def keep(_: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
        output.retain_grad()
        inputs.append(args[0].detach())
        gradients.append(output)

    handle = linear.register_forward_hook(keep)
    batches = look.batches(16, 0)
    for batch in batches:
        loss_of(sandwich.model, batch).backward()
    handle.remove()
    masks = [batch.inputs["attention_mask"].bool() for batch in batches]
    rows = torch.cat([x[mask] for x, mask in zip(inputs, masks, strict=True)])
    own = torch.cat([g.grad[m] * m.sum() for g, m in zip(gradients, masks, strict=True)])
    assert torch.allclose(seen.inputs, rows.T @ rows / len(rows), rtol=1e-3, atol=1e-6)
    assert torch.allclose(seen.outputs, own.T @ own / len(own), rtol=1e-3, atol=1e-6)
    padded = collected(sandwich, calibration(sandwich, "llama", padding=5))[1]["mlp.up_proj"]
    assert torch.allclose(padded.inputs, seen.inputs, rtol=1e-3, atol=1e-6)
    assert torch.allclose(padded.outputs, seen.outputs, rtol=1e-3, atol=1e-6)
    assert torch.allclose(padded.gradient, seen.gradient, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("architecture", SOME)
def test_attention_gets_factors_and_the_ffn_fewer_channels(architecture, tmp_path):
    """The owner's model stays, with no gradient left on it; the disk changes not a bit."""
    model = tiny_model(architecture)
    before = weights(model)
    sandwich = cut(model, bottom=1, top=1)
    emulator = compress(sandwich, [("grad_ot", HALF)], {"tiny": tiny_corpus(architecture)})
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in emulator.blocks.modules())
    owned = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    assert all(t.untyped_storage().data_ptr() not in owned for t in emulator.tensors())
    for block, original in zip(emulator.blocks, sandwich.middle, strict=True):
        found = roles(emulator.architecture, block)
        attention = found.attention | found.attention_out
        assert all(isinstance(linear, LowRankLinear) for linear in attention.values())
        channels = channel_matrices(original, emulator.architecture)[1].shape[1]
        into, out = channel_matrices(block, emulator.architecture)
        assert {len(matrix) for matrix in into} == {channels // 2} == {out.shape[1]}
    sent = view(sandwich, emulator)
    emulated.save(sent, tmp_path)
    again = emulated.rebuild(tiny_model(architecture, seed=5), tmp_path)
    batch = tiny_batch(architecture)
    assert torch.equal(run_model(again, batch), run_model(sent, batch))


@torch.no_grad()
def test_the_factors_are_some_of_the_matrix_own_triplets():
    """Not the largest ones alone: what they leave is orthogonal to them."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    emulator = grad_ot(whole(sandwich), HALF, calibration(sandwich, "llama"))
    other = 0
    for block, original in zip(emulator.blocks, sandwich.middle, strict=True):
        made, matrix = block.self_attn.q_proj, original.self_attn.q_proj.weight
        product = made.up.weight @ made.down.weight
        values = torch.linalg.svdvals(matrix)
        kept = torch.linalg.svdvals(product)[: made.rank]
        assert (values[:, None] - kept).abs().min(0).values.max() < 1e-5
        assert torch.linalg.matrix_rank(matrix - product, rtol=1e-4) == len(values) - made.rank
        assert values[0] == pytest.approx(float(kept[0]), rel=1e-4)
        other += not torch.allclose(kept, values[: made.rank])
    assert other


def test_channels_that_do_nothing_go_first():
    """All their weights are zero: removing them changes neither gradients nor loss."""
    model = tiny_model("opt")
    sandwich = cut(model, bottom=1, top=1)
    useful = torch.arange(48)[1::2]
    with torch.no_grad():
        for block in sandwich.middle:
            block.fc1.weight[::2] = 0
            block.fc2.weight[:, ::2] = 0
    parameters = replace(HALF, attention_keep=1.0, ffn_weight=0.0)
    emulator = grad_ot(whole(sandwich), parameters, calibration(sandwich, "opt"))
    for block, original in zip(emulator.blocks, sandwich.middle, strict=True):
        assert torch.equal(block.fc1.weight, original.fc1.weight[useful])
    batch = tiny_batch("opt")
    assert torch.allclose(
        run_model(view(sandwich, emulator), batch), run_model(model, batch), atol=1e-5
    )


@pytest.mark.parametrize("part", ["attention", "ffn"])
def test_the_privacy_term_keeps_less_of_what_lowers_the_loss(part):
    """With a large lambda what goes is what the loss misses, in each kind of layer."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    look = calibration(sandwich, "llama")
    batch = look.batches(8, 0)[0]
    only = {"attention": {"ffn_keep": 1.0}, "ffn": {"attention_keep": 1.0}}[part]
    losses = []
    for weight in (0.0, 1e6):
        parameters = replace(HALF, **only, **{f"{part}_weight": weight})
        emulator = grad_ot(whole(sandwich), parameters, look)
        with torch.no_grad():
            losses.append(float(loss_of(view(sandwich, emulator), batch)))
    assert losses[0] < losses[1]


def test_what_keeps_all_is_the_middle_itself():
    """And no data are looked at."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    parameters = replace(HALF, attention_keep=1.0, ffn_keep=1.0)
    emulator = grad_ot(whole(sandwich), parameters, calibration(sandwich, "llama"))
    batch = tiny_batch("llama")
    assert torch.equal(run_model(view(sandwich, emulator), batch), run_model(sandwich.model, batch))


def test_the_number_of_passes_changes_nothing(monkeypatch):
    """Statistics of a few blocks at a time are those of all at once."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    look = calibration(sandwich, "gpt2")
    emulators = []
    for runs in ([range(4)], [range(3), range(3, 4)], [range(i, i + 1) for i in range(4)]):
        monkeypatch.setattr(grad_ot_module, "_passes", lambda *_, runs=runs: runs)
        emulators.append(grad_ot(whole(sandwich), HALF, look))
    batch = tiny_batch("gpt2")
    first, *others = (run_model(view(sandwich, each), batch) for each in emulators)
    assert all(torch.allclose(first, other, atol=1e-5) for other in others)


def test_statistics_are_held_for_few_blocks_at_a_time():
    """As many as take no more than the middle itself, and every block once."""
    emulator = whole(cut(tiny_model("gpt2"), bottom=1, top=1))
    passes = grad_ot_module._passes(emulator, HALF)
    assert [place for places in passes for place in places] == [0, 1, 2, 3]
    assert max(map(len, passes)) == 1
    attention = replace(HALF, ffn_keep=1.0)
    assert max(map(len, grad_ot_module._passes(emulator, attention))) > 1


def test_generation_with_a_cache_is_generation_without():
    """Factored attention keeps its place in the cache."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    emulator = grad_ot(whole(sandwich), HALF, calibration(sandwich, "llama"))
    model = with_emulator(sandwich, emulator)
    ids = tiny_batch("llama").inputs["ids"]
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    with torch.no_grad():
        assert torch.equal(
            model.generate(ids, **options, use_cache=True),
            model.generate(ids, **options, use_cache=False),
        )


def test_packed_weights_are_refused():
    """With the order that would work."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    steps = [("quantize", Quantize()), ("grad_ot", HALF)]
    with pytest.raises(OffsiteError, match="put this one first"):
        compress(sandwich, steps, {"tiny": tiny_corpus("llama")})


def test_a_bfloat16_model_gets_a_bfloat16_emulator():
    """Statistics are in float32, what is stored as the model is."""
    sandwich = cut(tiny_model("llama").bfloat16(), bottom=1, top=1)
    emulator = grad_ot(whole(sandwich), HALF, calibration(sandwich, "llama"))
    assert {t.dtype for t in emulator.tensors()} == {torch.bfloat16}
    assert matrix_of(emulator.blocks[0].mlp.up_proj).shape == (24, 32)
    assert run_model(view(sandwich, emulator), tiny_batch("llama")).isfinite().all()


def test_a_loss_that_is_not_finite_decides_nothing():
    """The order among NaN would be the order of the list."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(torch.nan)
    sandwich = cut(model, bottom=1, top=1)
    with pytest.raises(NonFiniteLoss):
        grad_ot(whole(sandwich), HALF, calibration(sandwich, "llama"))


def test_a_model_in_training_is_run_without_dropout_and_stays_in_training():
    """Two looks at the same data give the same bits."""
    model = tiny_model("gpt2").train()
    sandwich = cut(model, bottom=1, top=1)
    first, second = (grad_ot(whole(sandwich), HALF, calibration(sandwich, "gpt2")) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), second.tensors(), strict=True))
    assert all(module.training for module in model.modules())
