"""Cuts, compositions and what must not be shared."""

from __future__ import annotations

import pytest
import torch

from offsite.compression.emulator import compress, parameters_of
from offsite.errors import BadLayout
from offsite.sandwich import cut, with_emulator
from offsite.tuning import Tuning
from tests.fakes import DEPTH, tiny_model


@pytest.mark.parametrize(("bottom", "top"), [(3, 3), (6, 0), (-1, 2), (0, 9)])
def test_cuts_that_leave_no_middle_are_refused(bottom, top):
    """The message says how deep the model is and what would work."""
    with pytest.raises(BadLayout, match=f"of {DEPTH} blocks; bottom \\+ top may be at most 5"):
        cut(tiny_model("llama"), bottom=bottom, top=top)


def test_a_composition_maps_through_all_its_steps():
    """The layer map of a second compression is in terms of the original middle."""
    sandwich = cut(tiny_model("llama"), bottom=0, top=1)
    steps = [{"method": "layer_drop", "keep": 4}, {"method": "layer_drop", "keep": 2}]
    emulator = compress(sandwich.middle, [parameters_of(step) for step in steps])
    assert emulator.layer_map == (0, 4)


def test_an_emulator_shares_no_storage_with_the_original():
    """Writing into the emulator or the sent adapter blocks cannot reach the owner's blocks."""
    model = tiny_model("llama")
    sandwich = cut(model, bottom=2, top=2)
    steps = [parameters_of({"method": "identity"})]
    sent = with_emulator(sandwich, compress(sandwich.middle, steps))
    owned = {p.data_ptr() for block in sandwich.blocks for p in block.parameters()}
    shipped = {p.data_ptr() for block in sent.model.layers for p in block.parameters()}
    assert not owned & shipped


def test_a_state_that_does_not_fit_is_refused():
    """Tensors for other blocks, or of other shapes, are never loaded silently."""
    model = tiny_model("llama")
    blocks = {"block.0": model.model.layers[0]}
    tuning = Tuning()
    tuning.attach(model, blocks)
    state = tuning.state(blocks)
    name = next(iter(state))
    with pytest.raises(ValueError, match="missing"):
        tuning.load(blocks, {k: v for k, v in state.items() if k != name})
    with pytest.raises(ValueError, match="!="):
        tuning.load(blocks, {**state, name: torch.zeros(3)})
