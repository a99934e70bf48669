"""Every architecture goes the whole way: cut, compress, tune one step, plug in, generate."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from offsite.architectures import ARCHITECTURES as TABLE
from offsite.blocks import architecture_of, call_every_linear, get_blocks, roles, with_blocks
from offsite.compression.emulator import compress
from offsite.compression.methods import Identity, LayerDrop
from offsite.errors import UnknownArchitecture
from offsite.sandwich import Sandwich, adapter_blocks, cut, plug_in, with_emulator
from offsite.training import Recipe, train
from offsite.tuning import Tuning, tuning_from
from tests.fakes import (
    DEPTH,
    LANGUAGE,
    TIMM,
    VISION,
    run_model,
    tiny_batch,
    tiny_loss,
    tiny_model,
    weights,
)

ARCHITECTURES = LANGUAGE + VISION
TUNINGS = [{"method": "full"}, {"method": "lora", "rank": 2}]
RECIPE = Recipe(learning_rate=0.01, steps=1)


def emulated(model: nn.Module, keep: int = 2) -> tuple[Sandwich, nn.Module]:
    """A cut model and what its data owner would receive."""
    sandwich = cut(model, bottom=2, top=1)
    emulator = compress(sandwich, [("layer_drop", LayerDrop(keep=keep))])
    return sandwich, with_emulator(sandwich, emulator)


def tune_one_step(sent: nn.Module, tuning: Tuning, architecture: str) -> dict[str, torch.Tensor]:
    """Train one step; returns what the tuning exports."""
    torch.manual_seed(0)
    blocks = tuning.attach(sent, adapter_blocks(sent, bottom=2, top=1))
    train(sent, [tiny_batch(architecture)], RECIPE, loss_of=tiny_loss)
    return tuning.state(blocks)


def test_every_architecture_of_the_table_is_tested():
    """A line in the table without a tiny model here would be an untested promise."""
    assert TABLE.keys() == set(ARCHITECTURES) - TIMM.keys() | {"timm"}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda t: t["method"])
def test_the_owners_model_is_the_same_bits_after_everything(architecture, tuning):
    """Cutting, compressing, tuning and plugging in leave the owner's tensors and outputs alone."""
    model = tiny_model(architecture)
    batch = tiny_batch(architecture)
    before, expected = weights(model), run_model(model, batch)
    sandwich, sent = emulated(model)
    state = tune_one_step(sent, tuning_from(tuning), architecture)
    plugged = plug_in(sandwich, tuning_from(tuning), state)
    assert not torch.equal(run_model(plugged, batch), expected)
    assert len(get_blocks(model)) == DEPTH
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(run_model(model, batch), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda t: t["method"])
def test_an_untrained_adapter_plugged_in_is_the_full_model_exactly(architecture, tuning):
    """Attaching a tuning changes no output: step 0 is the foundation model, bit for bit."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    expected = run_model(model, batch)
    sandwich, sent = emulated(model)
    method = tuning_from(tuning)
    blocks = method.attach(sent, adapter_blocks(sent, bottom=2, top=1))
    plugged = plug_in(sandwich, method, method.state(blocks))
    assert torch.equal(run_model(plugged, batch), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("tuning", TUNINGS, ids=lambda t: t["method"])
def test_an_identity_emulator_makes_plug_in_equal_emulator_finetuned(architecture, tuning):
    """Where nothing is compressed, the two halves of the method are the same model."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    sandwich = cut(model, bottom=2, top=1)
    sent = with_emulator(sandwich, compress(sandwich, [("identity", Identity())]))
    method = tuning_from(tuning)
    state = tune_one_step(sent, method, architecture)
    plugged = plug_in(sandwich, method, state)
    assert torch.equal(run_model(plugged, batch), run_model(sent.eval(), batch))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_only_the_adapter_blocks_change_in_training(architecture):
    """Embeddings, emulator, final norm and head keep their bits; every adapter block moves."""
    _, sent = emulated(tiny_model(architecture))
    before = weights(sent)
    tune_one_step(sent, Tuning(), architecture)
    adapter = adapter_blocks(sent, bottom=2, top=1).values()
    trained = {id(p) for block in adapter for p in block.parameters()}
    for name, parameter in sent.named_parameters():
        if id(parameter) not in trained:
            assert torch.equal(before[name], parameter), name
    for block in adapter:
        moved = {n for n, p in sent.named_parameters() if not torch.equal(before[n], p)}
        assert moved & {n for n, p in sent.named_parameters() if p in set(block.parameters())}


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_dropped_blocks_generate_the_same_with_and_without_a_cache(architecture):
    """The library indexes its cache by block number, so dropping blocks must renumber them."""
    model = tiny_model(architecture)
    sandwich, sent = emulated(model)
    plugged = plug_in(sandwich, Tuning(), Tuning().state(_attached(sent)))
    ids = tiny_batch(architecture).inputs["ids"]
    for each in (sent.eval(), plugged):
        texts = [
            each.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=8,
                min_new_tokens=8,
                do_sample=False,
                use_cache=cached,
            )
            for cached in (True, False)
        ]
        assert torch.equal(*texts)


def _attached(sent: nn.Module) -> dict[str, nn.Module]:
    return Tuning().attach(sent, adapter_blocks(sent, bottom=2, top=1))


@pytest.mark.parametrize("architecture", sorted(set(ARCHITECTURES) - TIMM.keys()))
def test_the_configuration_has_the_new_depth(architecture):
    """Config, block list and per-layer settings agree, and the owner's config is not touched."""
    model = tiny_model(architecture)
    part = TABLE[architecture].part
    sent = moved(model)
    for changed, depth in ((sent, len(MOVED)), (model, DEPTH)):
        config = getattr(changed.config, part) if part else changed.config
        assert config.num_hidden_layers == len(get_blocks(changed)) == depth
        layer_types = getattr(config, "layer_types", None)
        assert layer_types is None or len(layer_types) == depth
        configs = [m.config for m in changed.modules() if hasattr(m, "config")]
        assert config in configs


MOVED = (0, 1, 3, 5)


def moved(model: nn.Module, *, renumber: bool = True) -> nn.Module:
    """The model with copies of four of its blocks."""
    blocks = [deepcopy(get_blocks(model)[i]) for i in MOVED]
    return with_blocks(model, blocks, origins=MOVED, renumber=renumber)


@pytest.mark.parametrize("architecture", LANGUAGE)
def test_moved_blocks_see_the_same_positions_with_and_without_a_cache(architecture):
    """Windows, rotary embeddings and the cache follow the block, to the logits."""
    model = moved(tiny_model(architecture))
    ids = tiny_batch(architecture).inputs["ids"]
    whole = model(ids, use_cache=False).logits
    output = model(ids[:, :7], use_cache=True)
    pieces = [output.logits]
    for position in range(7, ids.shape[1]):
        output = model(
            ids[:, position : position + 1],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        pieces.append(output.logits)
    torch.testing.assert_close(torch.cat(pieces, 1), whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_moved_block_does_what_it_did_in_its_old_place(architecture):
    """Identity blocks where others were dropped give the same output as dropping them."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    hooks = [
        get_blocks(model)[i].register_forward_hook(_pass_through, with_kwargs=True)
        for i in set(range(DEPTH)) - set(MOVED)
    ]
    expected = _without_cache(model, batch)
    for hook in hooks:
        hook.remove()
    assert torch.equal(_without_cache(moved(model), batch), expected)


def _pass_through(module, args, kwargs, output):
    hidden = args[0] if args else kwargs["hidden_states"]
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _without_cache(model: nn.Module, batch) -> torch.Tensor:
    if "ids" in batch.inputs:
        return model(batch.inputs["ids"], use_cache=False).logits
    return run_model(model, batch)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_passing_look_leaves_the_owners_blocks_as_they_are(architecture):
    """Blocks that keep their numbers give the same logits, and the owner can go on."""
    model, batch = tiny_model(architecture), tiny_batch(architecture)
    expected = run_model(model, batch)
    blocks = get_blocks(model)
    numbers = [m.layer_idx for m in blocks.modules() if hasattr(m, "layer_idx")]
    look = with_blocks(model, [blocks[i] for i in MOVED], origins=MOVED, renumber=False)
    assert torch.equal(_without_cache(look, batch), _without_cache(moved(model), batch))
    assert [m.layer_idx for m in blocks.modules() if hasattr(m, "layer_idx")] == numbers
    assert torch.equal(run_model(model, batch), expected)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_is_added_to_the_new_model_is_not_added_to_the_owners(architecture):
    """Hooks, modules, parameters and buffers of the modules on the way to the blocks."""
    model = tiny_model(architecture)
    kept = {id(m) for m in model.modules()}
    before = {name: _tables(module) for name, module in model.named_modules()}
    for module in [m for m in moved(model).modules() if id(m) not in kept]:
        module.register_forward_hook(lambda *_: None, with_kwargs=True, always_call=True)
        module.register_forward_pre_hook(lambda *_: None, with_kwargs=True)
        module.register_full_backward_pre_hook(lambda *_: None)
        module.register_full_backward_hook(lambda *_: None)
        module.register_state_dict_post_hook(lambda *_: None)
        module.register_state_dict_pre_hook(lambda *_: None)
        module.register_load_state_dict_pre_hook(lambda *_: None)
        module.register_load_state_dict_post_hook(lambda *_: None)
        module.register_parameter("extra", nn.Parameter(torch.zeros(1)))
        module.register_buffer("more", torch.zeros(1), persistent=False)
        module.add_module("child", nn.Identity())
    assert {name: _tables(module) for name, module in model.named_modules()} == before


def _tables(module: nn.Module) -> dict[str, list[str]]:
    return {
        name: sorted(map(str, value))
        for name, value in vars(module).items()
        if name.startswith("_") and isinstance(value, (dict, set))
    }


def _linears(block: nn.Module) -> set[str]:
    return {n for n, m in block.named_modules() if isinstance(m, (nn.Linear, Conv1D))}


def _shape(linear: nn.Module) -> tuple[int, int]:
    """Input and output width."""
    if isinstance(linear, Conv1D):
        return linear.weight.shape[0], linear.weight.shape[1]
    return linear.in_features, linear.out_features


TIMM_VARIANTS = [
    "eva02_base_patch14_224",
    "eva02_tiny_patch14_224",
    "vit_base_patch16_siglip_224",
    "vit_giant_patch14_dinov2",
    "vit_medium_patch16_rope_reg1_gap_256",
    "vit_pe_core_tiny_patch16_384",
    "vit_small_patch16_dinov3",
]


def _timm_skeleton(name: str) -> nn.Module:
    import timm

    with torch.device("meta"):
        model = timm.create_model(name, depth=1)
    call_every_linear(model)
    return model


@pytest.mark.parametrize("name", ARCHITECTURES + TIMM_VARIANTS)
def test_every_linear_of_a_block_has_one_role_and_the_shape_for_it(name):
    """What prunes or factors by role reaches all linears, and channels line up."""
    model = tiny_model(name) if name in ARCHITECTURES else _timm_skeleton(name)
    architecture = architecture_of(model)
    block = get_blocks(model)[0]
    found = roles(architecture, block)
    parts = [found.attention, found.attention_out, found.ffn_in, found.ffn_out]
    assert sum(map(len, parts)) == len(found.all)
    assert found.all.keys() == _linears(block)
    assert all(linear is block.get_submodule(n) for n, linear in found.all.items())
    (channels, width), (_, also_width) = (
        _shape(*part.values()) for part in (found.ffn_out, found.attention_out)
    )
    assert also_width == width
    for linear in found.attention.values():
        assert _shape(linear)[0] == width
    for linear in found.ffn_in.values():
        assert _shape(linear) == (width, channels * (2 if architecture.ffn_fused else 1))
    for norm in found.ffn_norm.values():
        assert norm.weight.shape == (channels,)


def test_a_norm_between_the_halves_of_the_ffn_is_found():
    """Whoever removes intermediate channels must remove them there too."""
    model = _timm_skeleton("eva02_base_patch14_224")
    found = roles(architecture_of(model), model.blocks[0])
    assert list(found.ffn_norm) == ["mlp.norm"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("vit_base_patch16_xp_224", "has no attn.qkv"), ("vit_small_patch16_rope_mixed_224", "rope")],
)
def test_timm_variants_with_other_blocks_are_refused(name, reason):
    """Wrong roles, or a block that would run with another's embeddings, would go unnoticed."""
    model = _timm_skeleton(name)
    with pytest.raises(UnknownArchitecture, match=reason):
        roles(architecture_of(model), get_blocks(model)[0])


def test_a_layer_in_the_place_of_evas_qkv_is_run():
    """timm reads the weight of that layer and never calls it, unless it is told to."""
    import timm

    silent = timm.create_model(
        TIMM["timm_eva"]["architecture"], **TIMM["timm_eva"]["model_args"]
    ).eval()
    batch = tiny_batch("timm_eva")
    with pytest.raises(UnknownArchitecture, match=r"attn\.qkv"):
        get_blocks(silent)
    expected = run_model(silent, batch)
    call_every_linear(silent)
    torch.testing.assert_close(run_model(silent, batch), expected)
    get_blocks(silent)[0].attn.qkv.register_forward_hook(lambda _, __, output: output * 2)
    assert not torch.allclose(run_model(silent, batch), expected)
