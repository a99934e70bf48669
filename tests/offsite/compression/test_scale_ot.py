"""Blocks that matter stay, the others become harmonizers that a model runs like blocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

from offsite import emulated
from offsite.blocks import architecture_of, get_blocks, roles
from offsite.compression.calibration import Calibration, Corpus
from offsite.compression.channels import matrix_of
from offsite.compression.emulator import Emulator, compress
from offsite.compression.layer_choice import identity
from offsite.compression.methods import FfnPrune, GradOt, Identity, LayerDrop, LowRank, ScaleOt
from offsite.compression.scale_ot import Harmonizer, draw, scale_ot, scores_after
from offsite.sandwich import Sandwich, cut, view, with_emulator
from offsite.training import NonFiniteLoss
from tests.fakes import LANGUAGE, run_model, tiny_batch, tiny_model, weights
from tests.offsite.corpora import calibration, loss_of, tiny_corpus

SOME = ["bloom", "gemma3_text", "gpt2", "llama", "opt", "qwen2", "timm", "timm_eva"]
FEW = ScaleOt(corpus="tiny", steps=2, rank=4, attention_keep=0.5, batch_size=4)


def whole(sandwich: Sandwich) -> Emulator:
    """The middle before any compression."""
    middle = sandwich.middle
    return Emulator(
        nn.ModuleList(middle), tuple(range(len(middle))), architecture_of(sandwich.model)
    )


def replaced_places(emulator: Emulator) -> list[int]:
    """Which blocks are harmonizers."""
    return [i for i, block in enumerate(emulator.blocks) if isinstance(block, Harmonizer)]


def test_a_draw_keeps_two_of_every_four_neighbours():
    """Of the last two one, and each about as often as any other while scores are equal."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([draw(torch.zeros(10), generator) for _ in range(400)])
    for group, kept in zip(masks.split(4, dim=1), (2, 2, 1), strict=True):
        assert set(group.sum(1).tolist()) == {kept}
    assert masks.float().mean(0).sub(0.5).abs().max() < 0.1


def test_a_higher_score_is_kept_more_often():
    """By logistic noise: of a pair 1 apart the better about 65% of the time; far apart, always."""
    generator = torch.Generator().manual_seed(0)
    near = torch.stack([draw(torch.tensor([1.0, 0.0]), generator) for _ in range(1000)])
    assert near[:, 0].float().mean() == pytest.approx(0.66, abs=0.04)
    far = torch.stack([draw(torch.tensor([30.0, 0, 30, 0]), generator) for _ in range(50)])
    assert far.all(0).tolist() == [True, False, True, False]


def test_a_block_alone_is_kept_with_the_probability_of_its_score():
    """sigmoid(1) = 0.73: a group of one has no median to beat but itself."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.cat([draw(torch.tensor([1.0]), generator) for _ in range(2000)])
    assert masks.float().mean() == pytest.approx(0.731, abs=0.03)


def test_scores_move_by_the_reward_of_draws_that_kept_the_block():
    """Known by hand: rewards 1/2 and 1/4 and 1/4, their mean 1/3; p (1 - p) = 1/4 at 0."""
    losses = -torch.log(torch.tensor([0.5, 0.25, 0.25]))
    masks = torch.tensor([[True, False], [False, True], [True, False]])
    after = scores_after(torch.zeros(2), losses, masks)
    assert torch.allclose(after, torch.tensor([(1 / 6 - 1 / 12) / 4, -1 / 12 / 4]))
    sure = scores_after(torch.tensor([50.0, 0.0]), losses, masks)
    assert sure[0] == 50.0


@pytest.mark.parametrize("important", [(0, 3), (1, 2)])
def test_the_blocks_without_which_the_loss_rises_stay(important):
    """Where the loss is the number of important blocks that are replaced, those are found."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)

    def count_lost(model, batch):
        loss = 0 * loss_of(model, batch)
        blocks = get_blocks(model)[1:5]
        return loss + sum(isinstance(blocks[i], Harmonizer) for i in important)

    corpus = Corpus(tiny_corpus("llama").batches, count_lost)
    parameters = replace(FEW, steps=16, batch_size=1)
    emulator = scale_ot(whole(sandwich), parameters, Calibration(sandwich, corpus))
    assert replaced_places(emulator) == [i for i in range(4) if i not in important]


@pytest.mark.parametrize("architecture", SOME)
def test_half_of_the_blocks_become_harmonizers(architecture, tmp_path):
    """The owner's model stays, with no gradient left on it; the disk changes not a bit."""
    model = tiny_model(architecture)
    before = weights(model)
    sandwich = cut(model, bottom=1, top=1)
    random_state = torch.get_rng_state()
    emulator = compress(sandwich, [("scale_ot", FEW)], {"tiny": tiny_corpus(architecture)})
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert all(p.grad is None for p in emulator.blocks.parameters())
    owned = {t.untyped_storage().data_ptr() for t in model.state_dict().values()}
    assert all(t.untyped_storage().data_ptr() not in owned for t in emulator.tensors())
    assert Counter(isinstance(b, Harmonizer) for b in emulator.blocks) == {True: 2, False: 2}
    assert emulator.layer_map == (0, 1, 2, 3)
    for place in set(range(4)) - set(replaced_places(emulator)):
        found = roles(emulator.architecture, emulator.blocks[place])
        original = roles(emulator.architecture, sandwich.middle[place])
        for name, linear in (found.attention | found.attention_out).items():
            side = min(matrix_of(original.all[name]).shape)
            factor = [t for n, t in linear.state_dict().items() if n.endswith("weight")]
            rank = min(min(t.shape) for t in factor)
            assert int(torch.linalg.matrix_rank(factor[-1], rtol=1e-4)) == side // 2
            assert rank in (side // 2, side)
        for name in found.ffn_out:
            assert torch.equal(matrix_of(found.ffn_out[name]), matrix_of(original.ffn_out[name]))
    sent = view(sandwich, emulator)
    emulated.save(sent, tmp_path)
    again = emulated.rebuild(tiny_model(architecture, seed=5), tmp_path)
    batch = tiny_batch(architecture)
    assert torch.equal(run_model(again, batch), run_model(sent, batch))
    if architecture in LANGUAGE:
        with torch.no_grad():
            assert_caches(again, architecture)


@pytest.mark.parametrize("architecture", ["bloom", "gemma3_text", "gpt2", "llama", "mistral"])
@pytest.mark.parametrize("place", [0, 2])
def test_harmonizers_keep_their_place_in_a_cache(architecture, place):
    """Also where the first block, or the first of its attention type, is a harmonizer.

    Libraries read off those how many positions are cached.
    """
    sandwich = cut(tiny_model(architecture), top=1)
    emulator = identity(whole(sandwich), Identity())
    made = Harmonizer(32, 4, layer_idx=0, returns_tuple=architecture == "bloom")
    emulator.blocks[place] = made
    with torch.no_grad():
        assert_caches(with_emulator(sandwich, emulator), architecture)


def assert_caches(model: nn.Module, architecture: str) -> None:
    """Token after token with a cache gives the logits of all at once."""
    ids = tiny_batch(architecture).inputs["ids"]
    expected = model(ids, use_cache=False).logits
    output = model(ids[:, :6], use_cache=True)
    logits = [output.logits]
    for i in range(6, ids.shape[1]):
        cache = output.past_key_values
        output = model(ids[:, i : i + 1], use_cache=True, past_key_values=cache)
        logits.append(output.logits)
    assert torch.allclose(torch.cat(logits, 1), expected, atol=1e-5)


def test_a_new_harmonizer_returns_what_it_gets():
    """U is zero: before it is trained, a replaced block is one that is left out."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    parameters = replace(FEW, steps=1, learning_rate=1e-30)
    emulator = scale_ot(whole(sandwich), parameters, calibration(sandwich, "llama"))
    hidden = torch.rand(2, 3, 32)
    for place in replaced_places(emulator):
        assert torch.allclose(emulator.blocks[place](hidden, None), hidden)
    made = Harmonizer(32, 4, layer_idx=0)
    expected = hidden + torch.relu(hidden @ made.down.weight.T) @ made.up.weight.T
    assert torch.allclose(made(hidden), expected, atol=1e-6)


def test_harmonizers_learn():
    """After some steps the model with them does better than without the blocks."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    batch = next(tiny_corpus("llama").batches(8, 0))
    corpus = Corpus(lambda size, seed: iter(lambda: batch, None), loss_of)
    parameters = ScaleOt(corpus="tiny", steps=25, rank=8, learning_rate=2e-2)
    emulator = scale_ot(whole(sandwich), parameters, Calibration(sandwich, corpus))
    kept = [i for i in range(4) if i not in replaced_places(emulator)]
    without = Emulator(
        nn.ModuleList(emulator.blocks[i] for i in kept), tuple(kept), emulator.architecture
    )
    with torch.no_grad():
        learnt, left_out = (
            float(loss_of(view(sandwich, each), batch)) for each in (emulator, without)
        )
    assert learnt < left_out - 0.05


def test_the_seed_decides_everything():
    """The same one gives the same bits, another one others."""
    sandwich = cut(tiny_model("gpt2"), bottom=1, top=1)
    look = calibration(sandwich, "gpt2")
    first, again, other = (
        scale_ot(whole(sandwich), replace(FEW, seed=seed), look) for seed in (0, 0, 1)
    )
    assert replaced_places(first) == replaced_places(again)
    pairs = list(zip(first.tensors(), again.tensors(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    drawn = [next(b for b in e.blocks if isinstance(b, Harmonizer)) for e in (first, other)]
    assert not torch.equal(drawn[0].down.weight, drawn[1].down.weight)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.2, 0), (0.25, 1), (0.5, 2), (0.9, 3)])
def test_exactly_the_floor_of_the_share_is_replaced(share, count):
    """Of four blocks."""
    sandwich = cut(tiny_model("opt"), bottom=1, top=1)
    parameters = replace(FEW, replace=share, attention_keep=1.0)
    emulator = scale_ot(whole(sandwich), parameters, calibration(sandwich, "opt"))
    assert len(replaced_places(emulator)) == count


def test_scattered_adapter_blocks_are_run_between():
    """Harmonizers are numbered as the blocks of the model that is sent."""
    sandwich = cut(tiny_model("llama"), scattered=(0, 2, 5))
    emulator = scale_ot(whole(sandwich), replace(FEW, replace=0.9), calibration(sandwich, "llama"))
    numbers = {0: 1, 1: 3, 2: 4}
    assert len(replaced_places(emulator)) == 2
    for place in replaced_places(emulator):
        assert emulator.blocks[place].layer_idx == numbers[place]


def test_other_compressions_let_harmonizers_pass():
    """They have neither attention nor channels."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    corpora = {"tiny": tiny_corpus("llama")}
    first = compress(sandwich, [("scale_ot", replace(FEW, attention_keep=1.0))], corpora)
    for step in [
        ("low_rank", LowRank(keep=0.5)),
        ("low_rank", LowRank(keep=0.5, corpus="tiny", samples=2)),
        ("ffn_prune", FfnPrune(ratio=0.5)),
        ("grad_ot", GradOt(corpus="tiny", samples=2)),
        ("layer_drop", LayerDrop(keep=3)),
    ]:
        steps = [("scale_ot", replace(FEW, attention_keep=1.0)), step]
        emulator = compress(sandwich, steps, corpora)
        assert replaced_places(first)[0] in replaced_places(emulator)
        assert run_model(view(sandwich, emulator), tiny_batch("llama")).isfinite().all()


def test_a_bfloat16_model_gets_bfloat16_harmonizers():
    """They train in float32, and are stored as the model is."""
    sandwich = cut(tiny_model("llama").bfloat16(), bottom=1, top=1)
    emulator = scale_ot(whole(sandwich), FEW, calibration(sandwich, "llama"))
    assert {t.dtype for t in emulator.tensors()} == {torch.bfloat16}
    assert run_model(view(sandwich, emulator), tiny_batch("llama")).isfinite().all()


def test_a_loss_that_is_not_finite_decides_nothing():
    """The order among NaN would be the order of the list."""
    model = tiny_model("llama")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.fill_(torch.nan)
    sandwich = cut(model, bottom=1, top=1)
    with pytest.raises(NonFiniteLoss):
        scale_ot(whole(sandwich), FEW, calibration(sandwich, "llama"))


def test_a_model_in_training_is_run_without_dropout_and_stays_in_training():
    """Losses of two draws differ by the draws alone."""
    model = tiny_model("gpt2").train()
    sandwich = cut(model, bottom=1, top=1)
    first, second = (scale_ot(whole(sandwich), FEW, calibration(sandwich, "gpt2")) for _ in "ab")
    assert all(torch.equal(a, b) for a, b in zip(first.tensors(), second.tensors(), strict=True))
    assert all(module.training for module in model.modules())
