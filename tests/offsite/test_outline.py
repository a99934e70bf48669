"""A model without its weights: all that reading a task's rows takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from offsite.errors import NotAModel
from offsite.models import Foundation, load_model, load_outline, save_model
from tests.bench.command import ROOT
from tests.fakes import TIMM, VISION, tiny_model

MODELS = ROOT / "suites" / "models"


def held_bytes(model: nn.Module) -> int:
    """What the model's own tensors take of the memory."""
    tensors = [*model.parameters(), *model.buffers()]
    return sum(t.numel() * t.element_size() for t in tensors if t.device.type != "meta")


@pytest.mark.parametrize("prefix", ["", "random:"])
@pytest.mark.parametrize("name", ["tiny-lm", "tiny-vit"])
def test_an_outline_is_the_model_but_for_its_weights(prefix, name):
    """Same modules and shapes, same tokenizer, images taken in the same way; no memory."""
    source = f"{prefix}{MODELS / name}"
    whole, outline = load_model(source), load_outline(source)
    assert held_bytes(outline.model) == 0
    shapes = [{k: v.shape for k, v in m.model.state_dict().items()} for m in (whole, outline)]
    assert shapes[0] == shapes[1]
    assert outline.kind == whole.kind
    assert outline.image_settings == whole.image_settings
    assert outline.timm_config == whole.timm_config
    if whole.tokenizer is not None:
        text = "Rain falls from clouds."
        assert outline.tokenizer(text)["input_ids"] == whole.tokenizer(text)["input_ids"]
        assert outline.tokenizer.pad_token_id == whole.tokenizer.pad_token_id


@pytest.mark.parametrize("architecture", VISION)
def test_every_kind_of_vision_model_has_an_outline(architecture, tmp_path: Path):
    """Its folder need not hold weights for it."""
    foundation = Foundation(
        model=tiny_model(architecture), kind="vision", timm_config=TIMM.get(architecture)
    )
    save_model(foundation, tmp_path)
    (tmp_path / "model.safetensors").unlink()
    outline = load_outline(tmp_path)
    assert outline.kind == "vision"
    assert held_bytes(outline.model) == 0


def test_an_outline_draws_nothing_from_the_generator():
    """What comes after it is as if it had not been."""
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    load_outline(MODELS / "tiny-lm")
    load_outline(f"random:{MODELS / 'tiny-vit'}")
    assert torch.equal(torch.rand(3), expected)


def test_what_is_no_model_has_no_outline(tmp_path):
    """The error is that of loading it."""
    with pytest.raises(NotAModel, match=r"has no config\.json"):
        load_outline(tmp_path)
