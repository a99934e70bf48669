"""Blocks chosen by what data does in them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from offsite.blocks import get_blocks
from offsite.compression.calibration import Calibration
from offsite.compression.data_aware_choice import influences, passages, run_distances
from offsite.compression.emulator import Emulator, compress
from offsite.compression.methods import Angular, BlockInfluence, LayerDrop, PerplexityGreedy
from offsite.sandwich import Sandwich, cut
from offsite.training import NonFiniteLoss
from tests.fakes import DEPTH, LANGUAGE, VISION, tiny_model, weights
from tests.offsite.corpora import calibration, tiny_corpus

METHODS = {
    "angular": Angular(keep=2, corpus="tiny", samples=8),
    "block_influence": BlockInfluence(keep=2, corpus="tiny", samples=8),
    "perplexity_greedy": PerplexityGreedy(keep=2, corpus="tiny", samples=8),
}
EVERY = BlockInfluence(keep=4, corpus="tiny", samples=16)


def whole(sandwich: Sandwich) -> Emulator:
    """The middle before any compression."""
    return Emulator(nn.ModuleList(sandwich.middle), tuple(range(len(sandwich.middle))), None)


class Turn(nn.Module):
    """Turns the first two coordinates of every position by an angle."""

    def __init__(self, degrees: float) -> None:
        super().__init__()
        self.angle = math.radians(degrees)

    def forward(self, hidden: Tensor, *_: object, **__: object) -> Tensor:
        """Longer, too: a cosine must not see that. A power of two, so that it rounds alike."""
        sine, cosine = math.sin(self.angle), math.cos(self.angle)
        turned = torch.tensor([[cosine, sine], [-sine, cosine]], dtype=hidden.dtype)
        return torch.cat([hidden[..., :2] @ turned, hidden[..., 2:] * 0], -1) * 4


def turning(*degrees: float, scattered: tuple[int, ...] = ()) -> Sandwich:
    """A model whose middle blocks turn by known angles, after one that leaves only a plane."""
    model = tiny_model("llama")
    blocks = get_blocks(model)
    for position, angle in enumerate(degrees, start=1):
        blocks[position] = Turn(angle)
    blocks[0] = Turn(0)
    return cut(model, scattered=scattered) if scattered else cut(model, bottom=1, top=1)


def test_block_influence_is_one_minus_the_cosine():
    """Known answer: a block that turns all states by 60 degrees has influence 1/2."""
    sandwich = turning(60, 10, 180, 0)
    found = influences(whole(sandwich), EVERY, calibration(sandwich, "llama"))
    expected = [1 - math.cos(math.radians(angle)) for angle in (60, 10, 180, 0)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_block_influence_keeps_the_blocks_that_turn_most():
    """In the order of the model."""
    assert kept("block_influence", turning(61, 10, 180, 60)) == (0, 2)


def test_of_blocks_that_turn_as_much_the_first_are_kept():
    """Blocks that turn all states round have the same influence to the last bit."""
    assert kept("block_influence", turning(180, 180, 180, 10)) == (0, 1)


def kept(method: str, sandwich: Sandwich) -> tuple[int, ...]:
    """Which blocks a method keeps."""
    corpora = {"tiny": tiny_corpus("llama")}
    return compress(sandwich, [(method, METHODS[method])], corpora).layer_map


def test_the_run_that_turns_least_together_goes():
    """90 degrees there and back again are nothing, though each block alone turns most."""
    sandwich = turning(90, -90, 20, 30)
    assert kept("angular", sandwich) == (2, 3)
    found = run_distances(whole(sandwich), METHODS["angular"], calibration(sandwich, "llama"))
    assert found == pytest.approx([0, 70 / 180, 50 / 180], abs=1e-6)


def test_a_run_across_an_adapter_block_counts_its_turn_too():
    """Scattered adapter blocks run in their places and are never dropped."""
    sandwich = turning(20, 90, 20, 25, scattered=(0, 2, 5))
    found = run_distances(
        whole(sandwich),
        Angular(keep=1, corpus="tiny", samples=8),
        calibration(sandwich, "llama"),
    )
    assert found == pytest.approx([130 / 180, 45 / 180], abs=1e-6)


def test_padding_has_no_influence():
    """The scores are the same numbers, whatever stands where no token is."""
    sandwich = cut(tiny_model("opt"), bottom=1, top=1)
    scores = [
        measure(whole(sandwich), parameters, calibration(sandwich, "opt", padding))
        for measure, parameters in ((influences, EVERY), (run_distances, METHODS["angular"]))
        for padding in (0, 5)
    ]
    assert scores[0] == pytest.approx(scores[1], rel=1e-5)
    assert scores[2] == pytest.approx(scores[3], rel=1e-5)


def greedy_by_hand(
    sandwich: Sandwich, left: list[int], count: int, loss: Callable[[Emulator], float]
) -> tuple[int, ...]:
    """The definition, by trying with real copies."""
    while len(left) > count:
        trials = []
        for out in left:
            rest = LayerDrop(blocks=tuple(p for p in left if p != out))
            trials.append((loss(compress(sandwich, [("layer_drop", rest)])), out))
        left = [p for p in left if p != min(trials)[1]]
    return tuple(left)


def test_greedy_removal_tries_all_that_are_left_again():
    """The removed blocks are those of the definition, by losses weighed with real tokens."""
    sandwich = cut(tiny_model("bloom"), bottom=1, top=1)
    corpora = {"tiny": tiny_corpus("bloom")}
    given = Calibration(sandwich, corpora["tiny"])
    parameters = PerplexityGreedy(keep=2, corpus="tiny", samples=16, seed=3)

    def loss(emulator: Emulator) -> float:
        with torch.no_grad():
            pairs = [(b.tokens_real, float(given.loss(emulator, b))) for b in given.batches(16, 3)]
        return sum(n * value for n, value in pairs) / sum(n for n, _ in pairs)

    emulator = compress(sandwich, [("perplexity_greedy", parameters)], corpora)
    assert emulator.layer_map == greedy_by_hand(sandwich, [0, 1, 2, 3], 2, loss)


def test_greedy_removal_weighs_batches_by_their_tokens():
    """A short batch that one block serves well does not outweigh a long one."""
    sandwich = cut(tiny_model("llama"), bottom=2, top=2)
    corpus = tiny_corpus("llama")
    sizes = [3, 1]

    def draw(batch_size, seed):
        stream = corpus.batches(batch_size, seed)
        for size in sizes:
            yield replace(next(stream), tokens_real=size)

    def loss_of(model, batch):
        # Without block 0 the long batch gains 1 and the short one loses 2; 3 x 1 > 1 x 2.
        kept_first = get_blocks(model)[2] is sandwich.blocks[2]
        gain = {3: -1.0, 1: 2.0}[batch.tokens_real]
        return torch.tensor(0.0 if kept_first else gain)

    parameters = PerplexityGreedy(keep=1, corpus="tiny", samples=16)
    corpora = {"tiny": replace(corpus, batches=draw, loss_of=loss_of)}
    assert compress(sandwich, [("perplexity_greedy", parameters)], corpora).layer_map == (1,)


def test_a_choice_after_another_counts_in_what_is_left():
    """The layer map stays the middle's: 60 and 180 degrees are its blocks 0 and 2."""
    sandwich = turning(60, 170, 180, 10)
    steps = [("layer_drop", LayerDrop(blocks=(0, 2, 3)))]
    steps.append(("block_influence", METHODS["block_influence"]))
    assert compress(sandwich, steps, {"tiny": tiny_corpus("llama")}).layer_map == (0, 2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("architecture", LANGUAGE + VISION)
def test_every_architecture_loses_blocks_and_nothing_else(architecture, method):
    """Kept blocks are equal copies; the owner's model stays in every respect, in training too."""
    model = tiny_model(architecture).train()
    model.requires_grad_(False)
    before = weights(model)
    sandwich = cut(model, scattered=(0, 2))
    emulator = compress(sandwich, [(method, METHODS[method])], {"tiny": tiny_corpus(architecture)})
    assert len(emulator.blocks) == len(emulator.layer_map) == 2
    for block, position in zip(emulator.blocks, emulator.layer_map, strict=True):
        for name, tensor in sandwich.middle[position].state_dict().items():
            assert torch.equal(block.state_dict()[name], tensor)
            assert block.state_dict()[name].data_ptr() != tensor.data_ptr()
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_dropout_of_a_model_in_training_changes_no_score():
    """Two looks at the same data see the same."""
    sandwich = cut(tiny_model("gpt2").train(), bottom=1, top=1)
    first, second = (
        influences(whole(sandwich), EVERY, calibration(sandwich, "gpt2")) for _ in range(2)
    )
    assert first == second


def test_a_passage_ends_where_the_next_begins():
    """What leaves a block enters the next one, unless an adapter block lies between."""
    sandwich = cut(tiny_model("llama"), scattered=(0, 3))
    (passage,) = passages(whole(sandwich), METHODS["angular"], calibration(sandwich, "llama"))
    assert len(passage.before) == len(passage.after) == DEPTH - 2
    joined = [torch.equal(passage.after[i], passage.before[i + 1]) for i in range(3)]
    assert joined == [True, False, True]


@pytest.mark.parametrize("method", METHODS)
def test_states_that_are_not_finite_choose_nothing(method):
    """A choice made among NaN would be the order of the list."""
    model = tiny_model("llama")
    with torch.no_grad():
        get_blocks(model)[0].mlp.up_proj.weight.fill_(torch.nan)
    with pytest.raises(NonFiniteLoss):
        compress(
            cut(model, bottom=1, top=1), [(method, METHODS[method])], {"tiny": tiny_corpus("llama")}
        )
