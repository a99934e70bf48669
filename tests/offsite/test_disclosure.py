"""What was sent is read off the tensors that were sent."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from offsite import emulated
from offsite.blocks import get_blocks, with_blocks
from offsite.compression.emulator import Emulator, compress, parameters_of
from offsite.compression.scale_ot import Harmonizer
from offsite.disclosure import (
    Disclosure,
    block_similarity,
    disclose,
    disclosed_fraction,
    parameter_count,
    verbatim_elements,
)
from offsite.errors import BadLayout
from offsite.sandwich import Sandwich, cut, view, with_emulator
from tests.fakes import LANGUAGE, VISION, tiny_model
from tests.offsite.corpora import tiny_corpus

ARCHITECTURES = LANGUAGE + VISION


def shaken(architecture: str) -> nn.Module:
    """A tiny model without a zero among its parameters."""
    model = tiny_model(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.rand_like(parameter) * 0.01 + 0.001)
    return model


def emulated_by(sandwich: Sandwich, *steps: dict) -> Emulator:
    """The middle after these compressions."""
    return compress(sandwich, [parameters_of(step) for step in steps])


def disclosed(sandwich: Sandwich, emulator: Emulator) -> Disclosure:
    """What such an emulator gives away."""
    return disclose(sandwich, with_emulator(sandwich, emulator), emulator.layer_map)


def count(module: nn.Module, *, matrices: bool | None = None) -> int:
    """Parameters of a module; of its matrices only, or of all else."""
    return sum(
        p.numel() for p in module.parameters() if matrices is None or (p.dim() > 1) == matrices
    )


def skeleton(kind: str, **config: int) -> nn.Module:
    """A published model's shapes, without numbers."""
    from transformers import AutoConfig, AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **config))


@pytest.mark.parametrize(
    ("kind", "config", "kept", "millions", "percent"),
    [
        (
            "opt",
            {"hidden_size": 2048, "ffn_dim": 8192, "num_hidden_layers": 24, "vocab_size": 50272}
            | {"num_attention_heads": 32, "max_position_embeddings": 2048}
            | {"word_embed_proj_dim": 2048},
            12,
            711.5,
            54.1,
        ),
        ("gpt2", {"n_embd": 1600, "n_layer": 48, "n_head": 25}, 20, 696.9, 44.7),
    ],
)
def test_the_papers_layouts_send_what_the_reference_says(kind, config, kept, millions, percent):
    """OPT-1.3B 2-8-2 and GPT2-XL 2-16-2, embeddings and final norm in it, tied heads once."""
    model = skeleton(kind, **config)
    sent = with_blocks(model, list(get_blocks(model))[:kept], origins=range(kept))
    assert parameter_count(sent) / 1e6 == pytest.approx(millions, abs=0.05)
    assert disclosed_fraction(model, sent) * 100 == pytest.approx(percent, abs=0.05)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_layer_drop_sends_all_that_it_sends_verbatim(architecture):
    """Disclosed and verbatim are one number: the model without the dropped blocks."""
    sandwich = cut(shaken(architecture), bottom=1, top=1)
    emulator = emulated_by(sandwich, {"method": "layer_drop", "keep": 2})
    found = disclosed(sandwich, emulator)
    dropped = sum(count(sandwich.middle[i]) for i in (1, 2))
    whole = count(sandwich.model)
    assert found.sent_parameters == whole - dropped
    assert found.disclosed_fraction == found.verbatim_fraction == (whole - dropped) / whole
    for block, position in zip(found.blocks, (1, 4), strict=True):
        assert (block.position, block.verbatim_fraction, block.reason) == (position, 1, "")
        assert block.cosine == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_random_weights_are_sent_and_are_not_the_owners(architecture):
    """They count as disclosed, and nothing of the middle is verbatim or alike."""
    sandwich = cut(shaken(architecture), bottom=1, top=1)
    found = disclosed(sandwich, emulated_by(sandwich, {"method": "random_init"}))
    whole, middle = count(sandwich.model), sum(map(count, sandwich.middle))
    assert found.disclosed_fraction == 1
    assert found.verbatim_fraction == (whole - middle) / whole
    for block in found.blocks:
        assert block.verbatim_fraction == 0
        assert block.cosine is not None
        assert abs(block.cosine) < 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_weights_are_disclosed_and_alike_but_not_verbatim(architecture):
    """Biases and norms are sent as they are; a matrix stored the other way round is found."""
    sandwich = cut(shaken(architecture), bottom=1, top=1)
    found = disclosed(sandwich, emulated_by(sandwich, {"method": "quantize", "bits": 8}))
    assert found.disclosed_fraction == 1
    for block, original in zip(found.blocks, sandwich.middle, strict=True):
        rest = count(original, matrices=False)
        assert block.verbatim_fraction == pytest.approx(rest / count(original))
        assert block.cosine == pytest.approx(1, abs=1e-3)
        assert block.reason == ""


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_pruned_weights_are_verbatim_where_they_are_left(architecture):
    """Half of every matrix, all biases and norms; the cosine of a known pruning."""
    sandwich = cut(shaken(architecture), bottom=1, top=1)
    emulator = emulated_by(sandwich, {"method": "magnitude_prune", "ratio": 0.5})
    found = disclosed(sandwich, emulator)
    original = sandwich.middle[0]
    rest = count(original, matrices=False)
    left = rest + count(original, matrices=True) / 2
    assert found.disclosed_fraction == 1
    assert found.blocks[0].verbatim_fraction == left / count(original)
    # What is kept of a vector has with it the cosine |kept| / |all|.
    norms = [
        sum(float(p.detach().square().sum()) for p in block.parameters() if p.dim() > 1)
        for block in (emulator.blocks[0], original)
    ]
    assert found.blocks[0].cosine == pytest.approx((norms[0] / norms[1]) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt"])
def test_two_factors_are_compared_as_the_matrix_they_make(architecture):
    """The best approximation of a lower rank is the more alike, the more rank it keeps."""
    sandwich = cut(shaken(architecture), bottom=1, top=1)
    low, high = (
        disclosed(sandwich, emulated_by(sandwich, {"method": "low_rank", "keep": keep}))
        for keep in (0.3, 0.9)
    )
    assert low.disclosed_fraction < high.disclosed_fraction < 1
    assert 0.3 < low.blocks[0].cosine < high.blocks[0].cosine < 1
    original = sandwich.middle[0]
    rest = count(original, matrices=False) / count(original)
    assert high.blocks[0].verbatim_fraction == low.blocks[0].verbatim_fraction == rest


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "opt", "phi3", "timm"])
def test_channels_that_are_left_are_verbatim_and_not_in_the_cosine(architecture):
    """Whole rows and columns of the original are found; what has another shape is named."""
    sandwich = cut(shaken(architecture), bottom=1, top=1)
    emulator = emulated_by(sandwich, {"method": "ffn_prune", "ratio": 0.5})
    found = disclosed(sandwich, emulator)
    block = found.blocks[0]
    assert block.verbatim_fraction == count(emulator.blocks[0]) / count(sandwich.middle[0])
    assert found.verbatim_fraction == pytest.approx(found.disclosed_fraction)
    assert block.cosine == pytest.approx(1, abs=1e-6)
    assert block.reason.startswith("not compared: ")
    assert "(another shape)" in block.reason


def test_a_block_that_is_replaced_has_no_similarity_and_says_why():
    """A harmonizer has no matrix that stands for one of the block's."""
    sandwich = cut(shaken("llama"), bottom=1, top=1)
    emulator = emulated_by(sandwich, {"method": "layer_drop", "keep": 2})
    emulator.blocks[1] = Harmonizer(32, 4, layer_idx=1)
    block = disclosed(sandwich, emulator).blocks[1]
    assert (block.cosine, block.verbatim_fraction) == (None, 0)
    assert block.reason.startswith("not compared: self_attn.q_proj (missing)")


def test_shared_blocks_are_sent_once():
    """CRaSh's removed blocks are neither disclosed nor verbatim; the kept one is."""
    sandwich = cut(shaken("llama"), bottom=1, top=1)
    step = parameters_of({"method": "crash", "keep": 1, "corpus": "tiny", "samples": 8})
    corpus = tiny_corpus("llama")
    found = disclosed(sandwich, compress(sandwich, [step], {"tiny": corpus}))
    removed = sum(map(count, sandwich.middle)) - count(sandwich.middle[0])
    assert found.sent_parameters == count(sandwich.model) - removed
    assert found.verbatim_fraction == found.disclosed_fraction
    assert [block.verbatim_fraction for block in found.blocks] == [0, 0, 1, 0]
    packed = compress(sandwich, [step, parameters_of({"method": "quantize"})], {"tiny": corpus})
    assert disclosed(sandwich, packed).sent_parameters == found.sent_parameters


def test_no_more_is_verbatim_than_was_disclosed():
    """A shared block's norms equal those of every block it stands for, and are sent once."""
    sandwich = cut(tiny_model("llama"), bottom=1, top=1)
    step = parameters_of({"method": "crash", "keep": 1, "corpus": "tiny", "samples": 8})
    emulator = compress(sandwich, [step], {"tiny": tiny_corpus("llama")})
    found = disclose(sandwich, with_emulator(sandwich, emulator), emulator.layer_map)
    assert found.verbatim_fraction == found.disclosed_fraction


def test_what_was_trained_a_little_is_alike_and_no_longer_verbatim():
    """One changed element is one element less, among equal ones that are not zero."""
    original = torch.tensor([[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]])
    assert verbatim_elements(original, original.clone()) == 6
    changed = original.clone()
    changed[1, 1] += 1
    assert verbatim_elements(original, changed) == 4
    assert verbatim_elements(original, original.bfloat16()) == 6
    assert verbatim_elements(original, torch.zeros(5)) == 0


def test_rows_and_columns_of_a_resized_matrix_are_looked_up():
    """In any order and any dtype; a row with one other element does not count."""
    original = torch.arange(12.0).view(4, 3)
    assert verbatim_elements(original, original[[2, 0]]) == 6
    assert verbatim_elements(original, original[:, [0, 2]].bfloat16()) == 8
    received = original[[2, 0]].bfloat16()
    received[0, 0] += 0.5
    assert verbatim_elements(original.bfloat16(), received) == 3
    assert verbatim_elements(original, torch.ones(2, 2)) == 0


def test_the_similarity_is_a_cosine():
    """Known answer: (3, 4) and (4, 3) have 24/25; twice a vector has 1; zeros have none."""
    blocks = [nn.ModuleDict({"linear": nn.Linear(2, 1)}) for _ in range(3)]
    for block, values in zip(blocks, ([3.0, 4.0], [4.0, 3.0], [0.0, 0.0]), strict=True):
        block["linear"].weight = nn.Parameter(torch.tensor([values]))
    assert block_similarity(blocks[0], blocks[1])[0] == pytest.approx(24 / 25)
    twice = copy.deepcopy(blocks[0])
    with torch.no_grad():
        twice["linear"].weight.mul_(2)
    assert block_similarity(blocks[0], twice) == (pytest.approx(1), "")
    cosine, reason = block_similarity(blocks[0], blocks[2])
    assert cosine is None
    assert "zero" in reason


def test_what_lies_outside_the_blocks_counts_only_where_it_is_equal():
    """A final norm that was changed before sending is not verbatim."""
    sandwich = cut(shaken("llama"), bottom=1, top=1)
    emulator = emulated_by(sandwich, {"method": "identity"})
    sent = copy.deepcopy(with_emulator(sandwich, emulator))
    assert disclose(sandwich, sent, emulator.layer_map).verbatim_fraction == 1
    with torch.no_grad():
        sent.model.norm.weight += 1
    found = disclose(sandwich, sent, emulator.layer_map)
    whole = count(sandwich.model)
    assert found.verbatim_fraction == (whole - sandwich.model.model.norm.weight.numel()) / whole


@pytest.mark.parametrize(
    "steps",
    [
        [{"method": "layer_drop", "keep": 2}, {"method": "quantize"}],
        [{"method": "low_rank", "keep": 0.5}],
        [{"method": "crash", "keep": 2, "corpus": "tiny", "samples": 8}],
    ],
)
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_folder_gives_away_what_the_emulator_does(architecture, steps, tmp_path):
    """The stage compares what lies on disk, in objects of its own."""
    model = shaken(architecture)
    sandwich = cut(model, bottom=1, top=1)
    emulator = compress(
        sandwich, [parameters_of(step) for step in steps], {"tiny": tiny_corpus(architecture)}
    )
    sent = view(sandwich, emulator)
    emulated.save(sent, tmp_path)
    blocks = [copy.deepcopy(block) for block in get_blocks(model)[: len(get_blocks(sent))]]
    skeleton = copy.deepcopy(with_blocks(model, blocks, origins=range(len(blocks))))
    loaded = emulated.rebuild(skeleton, tmp_path)
    found = disclose(sandwich, loaded, emulator.layer_map)
    assert found == disclose(sandwich, sent, emulator.layer_map)


def test_scattered_adapter_blocks_are_found_in_their_places():
    """The order of the sent blocks is the sandwich's."""
    sandwich = cut(shaken("llama"), scattered=(0, 2, 5))
    emulator = emulated_by(sandwich, {"method": "layer_drop", "blocks": (0, 2)})
    found = disclosed(sandwich, emulator)
    assert found.verbatim_fraction == found.disclosed_fraction
    assert [(block.place, block.position) for block in found.blocks] == [(0, 1), (1, 4)]


def test_a_map_of_another_emulator_is_refused():
    """Blocks would be compared with others than they stand for."""
    sandwich = cut(shaken("llama"), bottom=1, top=1)
    emulator = emulated_by(sandwich, {"method": "layer_drop", "keep": 2})
    with pytest.raises(BadLayout, match="4 blocks were sent"):
        disclose(sandwich, with_emulator(sandwich, emulator), (0,))
