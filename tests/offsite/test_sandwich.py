"""Cuts, compositions and what must not be shared."""

from __future__ import annotations

import pytest
import torch

from offsite.compression.emulator import compress, parameters_of
from offsite.errors import BadLayout
from offsite.sandwich import cut, view, with_emulator
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
    emulator = compress(sandwich, [parameters_of(step) for step in steps])
    assert emulator.layer_map == (0, 4)


def test_an_emulator_shares_no_storage_with_the_original():
    """Writing into the emulator or the sent adapter blocks cannot reach the owner's blocks."""
    model = tiny_model("llama")
    sandwich = cut(model, bottom=2, top=2)
    steps = [parameters_of({"method": "identity"})]
    sent = with_emulator(sandwich, compress(sandwich, steps))
    owned = {p.data_ptr() for block in sandwich.blocks for p in block.parameters()}
    shipped = {p.data_ptr() for block in sent.model.layers for p in block.parameters()}
    assert not owned & shipped


@pytest.mark.parametrize("positions", [(2, 1), (1, 1), (-1, 2)])
def test_scattered_positions_are_in_order_and_each_once(positions):
    """A position twice would train one block under two names."""
    with pytest.raises(BadLayout, match="must be positions in order, each once"):
        cut(tiny_model("llama"), scattered=positions)


def test_scattered_positions_beyond_the_model_are_refused():
    """The message says which positions there are."""
    with pytest.raises(BadLayout, match="positions go from 0 to 5"):
        cut(tiny_model("llama"), scattered=(0, 6))
    with pytest.raises(BadLayout, match="leave no middle"):
        cut(tiny_model("llama"), scattered=range(6))


def test_scattered_blocks_stay_between_the_blocks_they_were_between():
    """The emulator's blocks keep their order around the adapter blocks."""
    sandwich = cut(tiny_model("llama"), scattered=(0, 3))
    assert sandwich.middle_positions == (1, 2, 4, 5)
    step = parameters_of({"method": "layer_drop", "blocks": [1, 3]})
    emulator = compress(sandwich, [step])
    assert emulator.layer_map == (1, 3)
    assert sandwich.order(emulator.layer_map) == [(0, None), (2, 0), (3, None), (5, 1)]
    assert sandwich.sent_positions(emulator) == (0, 2)


def test_a_view_runs_the_owners_own_blocks_and_changes_nothing():
    """It is for looking at data: no copy, and block numbers stay as they are."""
    model = tiny_model("llama")
    sandwich = cut(model, bottom=1, top=1)
    step = parameters_of({"method": "layer_drop", "keep": 2})
    seen = view(sandwich, compress(sandwich, [step]))
    assert seen.model.layers[0] is model.model.layers[0]
    assert [block.self_attn.layer_idx for block in model.model.layers] == list(range(DEPTH))
    assert len(model.model.layers) == DEPTH


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
