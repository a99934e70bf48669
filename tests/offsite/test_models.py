"""Models load from folders, and an emulated model survives the way through disk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageClassification

from offsite.architectures import ARCHITECTURES
from offsite.blocks import call_every_linear, get_blocks
from offsite.compression.emulator import compress
from offsite.compression.methods import LayerDrop
from offsite.errors import NotAModel
from offsite.models import Foundation, load_model, save_model
from offsite.published import published
from offsite.sandwich import cut, with_emulator
from tests.fakes import (
    DEPTH,
    LANGUAGE,
    TIMM,
    VISION,
    run_model,
    tiny_batch,
    tiny_model,
    weights,
)


def foundation(architecture: str) -> Foundation:
    """A tiny random model as `load_model` would return it."""
    if architecture in TIMM:
        model = tiny_model(architecture)
        return Foundation(model=model, kind="vision", timm_config=TIMM[architecture])
    kind = "language" if architecture in LANGUAGE else "vision"
    return Foundation(model=tiny_model(architecture), kind=kind)


@pytest.mark.parametrize("architecture", LANGUAGE + VISION)
def test_an_emulated_model_is_the_same_bits_after_the_way_through_disk(architecture, tmp_path):
    """What is evaluated later is exactly what was built: one saved emulator serves all."""
    owner = foundation(architecture)
    sandwich = cut(owner.model, bottom=1, top=2)
    emulator = compress(sandwich, [("layer_drop", LayerDrop(keep=2))])
    sent = replace(owner, model=with_emulator(sandwich, emulator))
    save_model(sent, tmp_path / "sent")
    loaded = load_model(tmp_path / "sent")
    assert loaded.kind == owner.kind
    batch = tiny_batch(architecture)
    assert torch.equal(run_model(loaded.model, batch), run_model(sent.model, batch))


def test_random_weights_are_the_same_for_the_same_seed(tmp_path):
    """`random:FOLDER` needs a config alone, and repeats."""
    save_model(foundation("llama"), tmp_path)
    (tmp_path / "model.safetensors").unlink()
    batch = tiny_batch("llama")
    outputs = [run_model(load_model(f"random:{tmp_path}", seed=s).model, batch) for s in (0, 0, 1)]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


def test_weights_are_held_in_the_dtype_that_is_asked_for(tmp_path):
    """Whatever they were saved in."""
    save_model(foundation("llama"), tmp_path)
    model = load_model(tmp_path, dtype="bfloat16").model
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("name", sorted(n for n in published() if "/" in n))
def test_every_published_configuration_has_its_models_shapes(name):
    """Built without memory; the sizes are those the models are published with."""
    from timm import create_model
    from transformers import AutoConfig

    config = json.loads(published()[name].read_text())
    with torch.device("meta"):
        if "architecture" in config:
            model = create_model(config["architecture"], num_classes=config["num_classes"])
        else:
            described = AutoConfig.from_pretrained(published()[name])
            kind = ARCHITECTURES[config["model_type"]].kind
            library = (
                AutoModelForCausalLM if kind == "language" else AutoModelForImageClassification
            )
            model = library.from_config(described)
    call_every_linear(model)
    assert sum(p.numel() for p in model.parameters()) == SIZES[name]
    stated = config.get("vision_config", config)
    depths = [stated[key] for key in ("num_hidden_layers", "n_layer", "depth") if key in stated]
    assert depths == [len(get_blocks(model))]


SIZES = {
    "EleutherAI/pythia-1.4b": 1_414_647_808,
    "Qwen/Qwen2-1.5B": 1_543_714_304,
    "Qwen/Qwen2.5-0.5B": 494_032_768,
    "Qwen/Qwen3-0.6B": 596_049_920,
    "Qwen/Qwen3-8B": 8_190_735_360,
    "allenai/OLMo-2-1124-7B": 7_298_617_344,
    "bigscience/bloom-560m": 559_214_592,
    "bigscience/bloom-7b1": 7_069_016_064,
    "facebook/opt-1.3b": 1_315_758_080,
    "facebook/opt-125m": 125_239_296,
    "facebook/opt-6.7b": 6_658_473_984,
    "google/gemma-2-2b": 2_614_341_888,
    "google/gemma-3-1b-pt": 999_885_952,
    "google/vit-large-patch16-224": 304_326_632,
    "meta-llama/Llama-2-7b-hf": 6_738_415_616,
    "meta-llama/Llama-3.2-1B": 1_235_814_400,
    "meta-llama/Meta-Llama-3-8B": 8_030_261_248,
    "microsoft/Phi-3-mini-4k-instruct": 3_821_079_552,
    "mistralai/Mistral-7B-v0.1": 7_241_732_096,
    # The tower is 303,179,776; a classifier of 1000 classes comes on top.
    "openai/clip-vit-large-patch14": 304_204_776,
    "openai-community/gpt2": 124_439_808,
    "openai-community/gpt2-large": 774_030_080,
    "openai-community/gpt2-medium": 354_823_168,
    "openai-community/gpt2-xl": 1_557_611_200,
    "timm/eva_giant_patch14_224": 1_012_555_112,
    "timm/eva_giant_patch14_clip_224": 1_012_555_112,
    "timm/vit_giant_patch14_clip_224": 1_012_612_840,
    "timm/vit_huge_patch14_clip_224": 632_047_080,
}


def test_the_oldest_models_go_by_their_short_names_too():
    """As on the hub."""
    assert published()["gpt2-xl"] == published()["openai-community/gpt2-xl"]


def test_a_published_configuration_is_drawn_by_its_name(monkeypatch, tmp_path):
    """A folder of that name comes first; a misspelt name says what was meant."""
    (tmp_path / "tiny.json").write_text(
        json.dumps(tiny_model("llama").config.to_dict()), encoding="utf-8"
    )
    monkeypatch.setattr("offsite.models.published", lambda: {"org/tiny": tmp_path / "tiny.json"})
    monkeypatch.chdir(tmp_path)
    assert len(get_blocks(load_model("random:org/tiny").model)) == DEPTH
    with pytest.raises(NotAModel, match=r"'org/tinny' is no folder.* did you mean 'org/tiny'\?"):
        load_model("random:org/tinny")
    save_model(foundation("timm"), tmp_path / "org" / "tiny")
    assert load_model("random:org/tiny").kind == "vision"


@pytest.mark.parametrize("architecture", ["gemma3_text", "llama", "timm_eva"])
def test_a_random_model_is_saved_as_it_is_in_any_type(architecture, tmp_path):
    """Drawn as float32, whatever the configuration says, and the same bits after loading."""
    save_model(foundation(architecture), tmp_path / "owner")
    full = weights(load_model(f"random:{tmp_path / 'owner'}").model)
    config = json.loads((tmp_path / "owner" / "config.json").read_text())
    (tmp_path / "owner" / "config.json").write_text(json.dumps({**config, "dtype": "float64"}))
    drawn = load_model(f"random:{tmp_path / 'owner'}", dtype="bfloat16")
    assert all(torch.equal(full[n].to(v.dtype), v) for n, v in weights(drawn.model).items())
    save_model(drawn, tmp_path / "saved")
    loaded = load_model(tmp_path / "saved", dtype="bfloat16")
    batch = tiny_batch(architecture)
    if "images" in batch.inputs:
        batch.inputs["images"] = batch.inputs["images"].to(torch.bfloat16)
    assert torch.equal(run_model(loaded.model, batch), run_model(drawn.model, batch))


def test_a_timm_model_of_a_commit_is_loaded_as_that_commit(monkeypatch, tmp_path):
    """Also one whose repository names arguments of the architecture; it survives saving."""
    repository = tmp_path / "hub" / "models--timm--vit_tiny_patch16_224.some_tag"
    older = foundation("timm")
    newer = replace(older, model=tiny_model("timm", seed=1))
    for commit, version in (("a" * 40, older), ("b" * 40, newer)):
        save_model(version, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("b" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    batch = tiny_batch("timm")
    name = "timm:vit_tiny_patch16_224.some_tag"
    for commit, version in (("a" * 40, older), ("b" * 40, newer)):
        loaded = load_model(name, revision=commit)
        assert torch.equal(run_model(loaded.model, batch), run_model(version.model, batch))
        save_model(loaded, tmp_path / commit)
        again = load_model(tmp_path / commit)
        assert torch.equal(run_model(again.model, batch), run_model(version.model, batch))
    with pytest.raises(NotAModel, match="some_tag"):
        load_model(name, revision="c" * 40)
    with pytest.raises(NotAModel, match="no_such"):
        load_model("timm:no_such_architecture")
    weights = repository / "snapshots" / ("a" * 40) / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(NotAModel, match="has no safetensors on the hub, and a pickle is not read"):
        load_model(name, revision="a" * 40)


def test_folders_that_are_no_models_are_refused_in_one_line(tmp_path):
    """The message names the folder and what it lacks."""
    with pytest.raises(NotAModel, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(NotAModel, match="not JSON"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(TIMM["timm"]))
    with pytest.raises(NotAModel, match=r"no model\.safetensors"):
        load_model(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    """A folder whose weights are a pickle is refused, not executed."""
    save_model(foundation("llama"), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(NotAModel):
        load_model(tmp_path)
