"""Models load from folders, and an emulated model survives the way through disk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from offsite.compression.emulator import compress
from offsite.compression.methods import LayerDrop
from offsite.errors import NotAModel
from offsite.models import Foundation, load_model, save_model
from offsite.sandwich import cut, with_emulator
from tests.fakes import LANGUAGE, run_model, tiny_batch, tiny_model

TIMM = {
    "architecture": "vit_tiny_patch16_224",
    "num_classes": 5,
    "model_args": {
        "img_size": 8,
        "patch_size": 4,
        "in_chans": 1,
        "embed_dim": 16,
        "depth": 6,
        "num_heads": 2,
    },
    "pretrained_cfg": {"mean": [0.5], "std": [0.25]},
}


def foundation(architecture: str) -> Foundation:
    """A tiny random model as `load_model` would return it."""
    if architecture == "timm":
        return Foundation(model=tiny_model("timm"), kind="vision", timm_config=TIMM)
    kind = "language" if architecture in LANGUAGE else "vision"
    return Foundation(model=tiny_model(architecture), kind=kind)


@pytest.mark.parametrize("architecture", [*LANGUAGE, "timm", "vit"])
def test_an_emulated_model_is_the_same_bits_after_the_way_through_disk(architecture, tmp_path):
    """What is evaluated later is exactly what was built: one saved emulator serves all."""
    owner = foundation(architecture)
    sandwich = cut(owner.model, bottom=1, top=2)
    emulator = compress(sandwich.middle, [("layer_drop", LayerDrop(keep=2))])
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


def test_folders_that_are_no_models_are_refused_in_one_line(tmp_path):
    """The message names the folder and what it lacks."""
    with pytest.raises(NotAModel, match=r"no config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(NotAModel, match="not JSON"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(TIMM))
    with pytest.raises(NotAModel, match=r"no model\.safetensors"):
        load_model(tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    """A folder whose weights are a pickle is refused, not executed."""
    save_model(foundation("llama"), tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(NotAModel):
        load_model(tmp_path)
