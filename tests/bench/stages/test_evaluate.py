"""What identifies the weights that were scored."""

from __future__ import annotations

import pytest
import torch

from bench.stages.evaluate import weights_digest
from offsite.models import load_model
from tests.bench.command import ROOT
from tests.fakes import tiny_model


@pytest.mark.parametrize("architecture", ["gpt2", "timm"])
def test_one_bit_of_one_weight_changes_the_digest(architecture):
    """Of any tensor, and back again."""
    model = tiny_model(architecture)
    before = weights_digest(model)
    assert (
        before
        == weights_digest(tiny_model(architecture))
        != weights_digest(tiny_model(architecture, seed=1))
    )
    parameters = list(model.parameters())
    for parameter in (parameters[0], parameters[-1]):
        bits = parameter.data.view(-1)[:1].view(torch.int32)
        bits ^= 1
        assert weights_digest(model) != before
        bits ^= 1
    assert weights_digest(model) == before


def test_the_form_of_a_weight_is_in_the_digest():
    """Two zeros of bfloat16 are the bytes of one float32 zero, and are not the same weight."""
    found = set()
    for dtype, size in ((torch.float32, 1), (torch.bfloat16, 2), (torch.float16, 2)):
        model = torch.nn.Module()
        model.register_buffer("weight", torch.zeros(size, dtype=dtype))
        found.add(weights_digest(model))
    assert len(found) == 3


def test_every_dtype_and_shape_of_a_tensor_is_taken():
    """Scalars, empty and transposed tensors, whole numbers."""
    model = torch.nn.Module()
    tensors = [torch.tensor(3.0), torch.zeros(0), torch.ones(2, 3).T, torch.arange(3)]
    for number, tensor in enumerate(tensors):
        model.register_buffer(f"t{number}", tensor)
    assert len(weights_digest(model)) == 64


def test_a_models_digest_does_not_depend_on_how_it_was_loaded(tmp_path):
    """The shipped model twice from its folder."""
    folder = ROOT / "suites" / "models" / "tiny-vit"
    first, second = (load_model(folder).model for _ in range(2))
    assert weights_digest(first) == weights_digest(second)
