"""Clusters by CKA, removal, and sharing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from offsite import emulated
from offsite.blocks import get_blocks
from offsite.compression.crash import cluster, crash, linear_cka, share, similarities
from offsite.compression.data_aware_choice import passages
from offsite.compression.emulator import Emulator, compress
from offsite.compression.methods import Crash, LayerDrop
from offsite.sandwich import Sandwich, cut, with_emulator
from tests.fakes import LANGUAGE, VISION, run_model, tiny_batch, tiny_model, weights
from tests.offsite.corpora import calibration, tiny_corpus

TWO = Crash(keep=2, corpus="tiny", samples=8)


def crashed(sandwich: Sandwich, architecture: str, parameters: Crash = TWO) -> Emulator:
    """What CRaSh makes of the middle with the tiny corpus."""
    return compress(sandwich, [("crash", parameters)], {"tiny": tiny_corpus(architecture)})


def test_linear_cka_of_known_features():
    """Known answers: centred x = (-1, 0, 1), y = (1, -2, 1) and z = x and y side by side."""
    x = torch.tensor([[4.0], [5.0], [6.0]], dtype=torch.float64)
    y = torch.tensor([[1.0], [-2.0], [1.0]], dtype=torch.float64)
    turned = torch.cat([x, y], 1) @ torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    found = linear_cka([x, -7 * x + 2, y, torch.cat([x, y], 1), turned, torch.ones_like(x)])
    # |Kx| = 2, |Ky| = 6, Kx . Ky = 0, Kz = Kx + Ky, so Kx . Kz / (2 sqrt(4 + 36)) = 1 / sqrt(10).
    expected = [1, 1, 0, 10**-0.5, 10**-0.5, 0]
    torch.testing.assert_close(found[0], torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(found[3, 4], torch.tensor(1.0, dtype=torch.float64))


def test_cka_is_the_formula_of_the_definition():
    """HSIC written out with the centring matrix, on random features of two widths."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand((5, w), generator=generator, dtype=torch.float64) for w in (3, 8))
    centring = torch.eye(5, dtype=torch.float64) - 1 / 5

    def hsic(left, right):
        grams = [centring @ each @ each.T @ centring for each in (left, right)]
        return (grams[0] * grams[1]).sum()

    expected = hsic(x, y) / (hsic(x, x) * hsic(y, y)).sqrt()
    torch.testing.assert_close(linear_cka([x, y])[0, 1], expected)


def test_facing_ends_decide_which_clusters_merge():
    """Blocks 1 and 2 merge first; then 2 and 3 face each other, not 1 and 3."""
    alike = torch.eye(4)
    for (left, right), value in {(1, 2): 0.9, (2, 3): 0.6, (1, 3): 0.1, (0, 1): 0.5}.items():
        alike[left, right] = alike[right, left] = value
    assert cluster(alike, 4) == [[0], [1], [2], [3]]
    assert cluster(alike, 3) == [[0], [1, 2], [3]]
    assert cluster(alike, 2) == [[0], [1, 2, 3]]
    assert cluster(alike, 1) == [[0, 1, 2, 3]]


def test_of_equal_pairs_the_first_merges():
    """So the choice does not depend on the machine."""
    assert cluster(torch.ones(4, 4), 3) == [[0, 1], [2], [3]]


def test_outputs_are_pooled_over_real_tokens():
    """The similarities are the same numbers, whatever stands where no token is."""
    sandwich = cut(tiny_model("opt"), bottom=1, top=1)
    blocks = Emulator(nn.ModuleList(sandwich.middle), (0, 1, 2, 3), None)
    plain, padded = (
        similarities(blocks, TWO, calibration(sandwich, "opt", padding)) for padding in (0, 3)
    )
    torch.testing.assert_close(plain, padded, rtol=1e-5, atol=1e-6)
    (passage,) = passages(blocks, TWO, calibration(sandwich, "opt"))
    samples = list(zip(passage.mask, *passage.after, strict=True))
    means = [
        torch.stack([sample[block][sample[0]].double().mean(0) for sample in samples])
        for block in range(1, 5)
    ]
    torch.testing.assert_close(plain, linear_cka(means))


def test_the_middle_of_each_cluster_stays(monkeypatch):
    """Element len // 2: of two the second, of three the second."""
    alike = torch.eye(5)
    alike[0, 1] = alike[2, 3] = alike[3, 4] = 0.9
    monkeypatch.setattr("offsite.compression.crash.similarities", lambda *_: alike)
    blocks = nn.ModuleList(nn.Linear(1, 1) for _ in range(5))
    given = Emulator(blocks, (0, 1, 2, 3, 5), None)
    removed = crash(given, Crash(keep=2, corpus="tiny", share=False), None)
    assert removed.layer_map == (1, 3)
    shared = crash(given, Crash(keep=2, corpus="tiny"), None)
    assert shared.layer_map == (0, 1, 2, 3, 5)
    # Position 2 lies between 1 and 3: a tie goes to the right.
    assert origins(shared, given) == [1, 1, 3, 3, 3]


def origins(shared: Emulator, given: Emulator) -> list[int]:
    """For each block, which of the given ones it is a copy of."""
    return [
        next(i for i, other in enumerate(given.blocks) if torch.equal(other.weight, block.weight))
        for block in shared.blocks
    ]


def test_shared_blocks_are_modules_of_their_own_with_the_very_same_parameters():
    """One optimizer step on either is a step on both; stored bytes count once."""
    emulator = share(
        Emulator(nn.ModuleList(nn.Linear(3, 4) for _ in range(3)), (0, 1, 2), None), [1]
    )
    first, kept, last = emulator.blocks
    assert first is not kept
    assert first.weight is kept.weight is last.weight
    assert first.bias is kept.bias is last.bias
    assert emulator.stored_bytes == (3 * 4 + 4) * 4
    assert len(list(emulator.blocks.parameters())) == 2


def test_copies_and_later_compressions_keep_the_sharing():
    """A deep copy, and a layer choice after it."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    emulator = crashed(sandwich, "llama", Crash(keep=1, corpus="tiny", samples=8))
    steps = [("crash", Crash(keep=1, corpus="tiny")), ("layer_drop", LayerDrop(blocks=(0, 3)))]
    dropped = compress(sandwich, steps, {"tiny": tiny_corpus("llama")})
    assert dropped.stored_bytes == emulator.stored_bytes
    assert copy.deepcopy(dropped).stored_bytes == emulator.stored_bytes


@pytest.mark.parametrize("architecture", LANGUAGE + VISION)
def test_sharing_restores_the_depth_and_stores_two_blocks(architecture):
    """For every architecture; the owner's model stays what it was."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    before, expected = weights(model), run_model(model, batch)
    sandwich = cut(model, bottom=1, top=1)
    emulator = crashed(sandwich, architecture)
    sent = with_emulator(sandwich, emulator)
    assert emulator.layer_map == (0, 1, 2, 3)
    assert len({id(block) for block in emulator.blocks}) == 4
    of_one = sum(t.numel() * t.element_size() for t in sandwich.middle[0].state_dict().values())
    assert emulator.stored_bytes == 2 * of_one
    assert run_model(sent, batch).isfinite().all()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert torch.equal(run_model(model, batch), expected)
    owned = {p.data_ptr() for p in model.parameters()}
    assert not owned & {p.data_ptr() for p in emulator.blocks.parameters()}


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_shared_blocks_generate_the_same_with_and_without_a_cache(architecture):
    """Each place has its own number, and so its own keys and values."""
    sandwich = cut(tiny_model(architecture), bottom=1, top=1)
    sent = with_emulator(sandwich, crashed(sandwich, architecture))
    ids = tiny_batch(architecture).inputs["ids"]
    whole = sent(ids, use_cache=False).logits
    output = sent(ids[:, :6], use_cache=True)
    pieces = [output.logits]
    for position in range(6, ids.shape[1]):
        step = ids[:, position : position + 1]
        output = sent(step, past_key_values=output.past_key_values, use_cache=True)
        pieces.append(output.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "vit"])
def test_a_folder_stores_shared_blocks_once_and_gives_them_back_shared(architecture, tmp_path):
    """The file is smaller by the blocks that were removed, and the logits are the same bits."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    sandwich = cut(model, bottom=1, top=1)
    sent = with_emulator(sandwich, crashed(sandwich, architecture))
    assert emulated.is_needed(sent)
    emulated.save(sent, tmp_path)
    loaded = emulated.rebuild(copy.deepcopy(model), tmp_path)
    assert torch.equal(run_model(loaded, batch), run_model(sent, batch))
    size = (tmp_path / "model.safetensors").stat().st_size
    stored = {t.data_ptr(): t.numel() * t.element_size() for t in sent.state_dict().values()}
    assert sum(stored.values()) < size < sum(stored.values()) + 20_000
    middle = get_blocks(loaded)[1:-1]
    assert len(list(middle.parameters())) == 2 * len(list(get_blocks(model)[1].parameters()))
