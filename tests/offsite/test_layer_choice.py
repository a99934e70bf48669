"""Which blocks layer-drop keeps, and the two controls."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from offsite.blocks import get_blocks
from offsite.compression.emulator import Emulator, compress, parameters_of
from offsite.compression.layer_choice import (
    evenly_spaced,
    identity,
    keep,
    layer_drop,
    random_positions,
)
from offsite.compression.methods import Identity, LayerDrop, RandomInit
from offsite.errors import BadLayout
from offsite.sandwich import Sandwich, cut, with_emulator
from tests.fakes import LANGUAGE, VISION, run_model, tiny_batch, tiny_model, weights

ARCHITECTURES = LANGUAGE + VISION

GOLDEN = [
    # blocks, bottom, top, keep, kept blocks of the full model (arXiv 2302.04870's own code)
    (48, 2, 2, 16, "2 5 8 11 13 16 19 22 25 28 31 34 36 39 42 45"),
    (24, 2, 2, 8, "2 5 7 10 13 16 18 21"),
    (32, 2, 2, 18, "2 4 5 7 8 10 12 13 15 16 18 19 21 23 24 26 27 29"),
    (30, 2, 2, 12, "2 4 7 9 11 13 16 18 20 22 25 27"),
    (40, 4, 4, 22, "4 5 7 8 10 11 13 14 16 17 19 20 22 23 25 26 28 29 31 32 34 35"),
    (40, 4, 4, 16, "4 6 8 10 12 14 16 18 21 23 25 27 29 31 33 35"),
]


def middle_of(count: int) -> Emulator:
    """A middle of blocks without weights, that know their number."""
    blocks = [nn.Identity() for _ in range(count)]
    for number, block in enumerate(blocks):
        block.number = number
    return Emulator(nn.ModuleList(blocks), tuple(range(count)), None)


def kept(emulator: Emulator, first: int = 0) -> list[int]:
    """Numbers of the blocks an emulator has; they must be those of its layer map."""
    numbers = [block.number for block in emulator.blocks]
    assert tuple(numbers) == emulator.layer_map
    return [first + number for number in numbers]


@pytest.mark.parametrize(("depth", "bottom", "top", "count", "golden"), GOLDEN)
def test_the_papers_layouts_keep_the_papers_blocks(depth, bottom, top, count, golden):
    """Python's rounding of ties to even is part of the definition."""
    emulator = layer_drop(middle_of(depth - bottom - top), LayerDrop(keep=count))
    assert kept(emulator, bottom) == [int(word) for word in golden.split()]


def test_the_floor_keeps_federatedscopes_blocks():
    """The same words, uniform layer-drop of OPT-1.3B to 2-8-2, and two other blocks."""
    emulator = layer_drop(middle_of(20), LayerDrop(keep=8, rounding="floor"))
    assert kept(emulator, 2) == [2, 4, 7, 10, 12, 15, 18, 21]


def test_every_choice_starts_at_the_first_and_ends_at_the_last():
    """No block is chosen twice, whatever the depth."""
    for total in range(2, 60):
        for count in range(2, total + 1):
            chosen = evenly_spaced(total, count)
            assert chosen[0] == 0
            assert chosen[-1] == total - 1
            assert len(set(chosen)) == count


@pytest.mark.parametrize("count", [0, 1, 9])
def test_a_depth_that_cannot_be_is_refused(count):
    """The authors' code divides by zero at 1 and repeats blocks above the depth."""
    with pytest.raises(BadLayout, match=f"cannot keep {count} of 8"):
        evenly_spaced(8, count)


def test_a_random_choice_is_the_seeds_in_every_version_of_python():
    """Golden: a suite's case means the same blocks on another machine."""
    chosen = LayerDrop(keep=4, choose="random", seed=3)
    assert kept(layer_drop(middle_of(10), chosen)) == RANDOM_4_OF_10
    assert random_positions(10, 4, 4) != RANDOM_4_OF_10
    assert set(random_positions(10, 3, 3)) < set(RANDOM_4_OF_10)


RANDOM_4_OF_10 = [0, 5, 6, 9]


def test_a_random_choice_may_keep_any_block_equally_often():
    """1,000 seeds keep each of 5 blocks 400 times, within 4 standard deviations."""
    counts = [0] * 5
    for seed in range(1000):
        for position in random_positions(5, 2, seed):
            counts[position] += 1
    assert all(abs(count - 400) < 4 * math.sqrt(1000 * 0.4 * 0.6) for count in counts)


def test_named_blocks_are_kept_in_terms_of_what_is_left():
    """A second choice counts from 0 among the first one's blocks; the map stays the middle's."""
    first = layer_drop(middle_of(8), LayerDrop(blocks=(1, 3, 4, 7)))
    assert kept(layer_drop(first, LayerDrop(blocks=(0, 2)))) == [1, 4]


def test_copies_of_tied_blocks_are_tied_to_one_another_and_to_nothing_else():
    """A compression after CRaSh's sharing does not undo it."""
    blocks = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
    blocks[1].weight = blocks[0].weight
    copy = keep(Emulator(blocks, (0, 1), None), range(2))
    assert copy.blocks[0].weight is copy.blocks[1].weight
    assert copy.blocks[0].weight.data_ptr() != blocks[0].weight.data_ptr()


def drawn(sandwich: Sandwich, seed: int = 0) -> Emulator:
    """The middle of `sandwich`, drawn anew."""
    return compress(sandwich, [("random_init", RandomInit(seed=seed))])


def shaken(architecture: str) -> nn.Module:
    """A tiny model none of whose parameters has its initial value."""
    model = tiny_model(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) + 0.5)
    return model


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nothing_of_the_owners_middle_is_left(architecture):
    """Every parameter of every block is another one, and the owner's are what they were."""
    model = shaken(architecture)
    before = weights(model)
    sandwich = cut(model, bottom=2, top=1)
    emulator = drawn(sandwich)
    for block, original in zip(emulator.blocks, sandwich.middle, strict=True):
        state = block.state_dict()
        assert state.keys() == original.state_dict().keys()
        for name, tensor in original.state_dict().items():
            assert not bool((state[name] == tensor).any()), name
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert run_model(with_emulator(sandwich, emulator), tiny_batch(architecture)).isfinite().all()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scales_are_the_librarys(architecture):
    """Linears spread as in a fresh model of the configuration; norms and biases are its own."""
    model = tiny_model(architecture)
    sandwich = cut(model, bottom=2, top=1)
    emulator = drawn(sandwich, seed=5)
    fresh = sandwich.middle[0].state_dict()
    for name, tensor in emulator.blocks[0].state_dict().items():
        if tensor.dim() < 2:
            assert torch.equal(tensor, fresh[name]), name
        else:
            # These two libraries' blocks do not know their scale.
            default = architecture in ("bloom", "timm_eva")
            expected = 0.02 if default else float(fresh[name].std())
            assert float(tensor.std()) == pytest.approx(expected, rel=0.25), name


@pytest.mark.parametrize("architecture", ["gpt2", "timm"])
def test_the_draw_is_the_seeds_whatever_the_dtype(architecture):
    """bfloat16 weights are the float32 ones, rounded; torch's own generator is not moved."""
    model = tiny_model(architecture)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    single = drawn(cut(model, bottom=2, top=1), seed=7)
    assert torch.equal(torch.get_rng_state(), state)
    half = drawn(cut(model.bfloat16(), bottom=2, top=1), seed=7)
    other = drawn(cut(model, bottom=2, top=1), seed=8)
    changed = False
    for name, tensor in half.blocks.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, single.blocks.state_dict()[name].bfloat16())
        changed |= not torch.equal(tensor, other.blocks.state_dict()[name])
    assert changed


def test_a_loaded_model_is_drawn_anew_too(tmp_path):
    """transformers marks loaded weights as initialised and then leaves them alone."""
    from transformers import AutoModelForCausalLM

    tiny_model("llama").save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    sandwich = cut(model, bottom=2, top=1)
    drawn_weight = drawn(sandwich).blocks[0].mlp.up_proj.weight
    assert not bool((drawn_weight == sandwich.middle[0].mlp.up_proj.weight).any())


@pytest.mark.parametrize(
    ("first", "name"),
    [
        ({"method": "quantize"}, "attn.c_attn"),
        ({"method": "low_rank", "keep": 0.5}, "attn.c_attn"),
    ],
)
def test_weights_that_only_a_compression_makes_are_refused(first, name):
    """Left as they are they would give away what the control must not."""
    sandwich = cut(tiny_model("gpt2"), bottom=2, top=1)
    with pytest.raises(BadLayout, match=f"'{name}'.*before compressions that pack, factor"):
        compress(sandwich, [parameters_of(first), ("random_init", RandomInit())])


def test_weights_that_no_one_can_draw_are_refused():
    """Tensors beside the parameters, and parameters the library's initialiser does not reach."""
    model = tiny_model("llama")
    block = get_blocks(model)[2]
    block.mlp.register_buffer("codes", torch.zeros(3, dtype=torch.uint8))
    with pytest.raises(BadLayout, match=r"'mlp\.codes'"):
        drawn(cut(model, bottom=2, top=1))
    del block.mlp.codes
    block.mlp.factor = nn.Parameter(torch.zeros(3, 3))
    with pytest.raises(BadLayout, match=r"'mlp\.factor'"):
        drawn(cut(model, bottom=2, top=1))


def test_resized_layers_are_drawn_too():
    """They are linears like others."""
    sandwich = cut(tiny_model("gpt2"), bottom=2, top=1)
    steps = [parameters_of({"method": "ffn_prune", "ratio": 0.5}), ("random_init", RandomInit())]
    assert compress(sandwich, steps).blocks[0].mlp.c_fc.weight.std() > 0


def test_identity_keeps_all():
    """The control that must lose nothing."""
    assert kept(identity(middle_of(3), Identity())) == [0, 1, 2]
