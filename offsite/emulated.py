"""Model folders whose emulator has modules or sharing that the library's own classes lack.

Beside config.json and the weights, such a folder has `emulator.json`: which modules stand in
for the library's, and which tensors are one and the same. Every tensor is stored once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from offsite.blocks import get_blocks, renumber_block
from offsite.compression.layers import describe, empty, shared_tensors
from offsite.errors import NotAModel

FILE = "emulator.json"
SCHEMA = 1
_DAMAGED = (AttributeError, KeyError, RuntimeError, SafetensorError, TypeError, ValueError)
"""What reading a damaged folder raises."""


def is_needed(model: nn.Module) -> bool:
    """Whether `model` has anything that an ordinary model folder cannot say."""
    if describe(model):
        return True
    # Tied embeddings are the library's own business.
    tied = set(getattr(model, "all_tied_weights_keys", None) or {})
    return bool(shared_tensors(model.state_dict()).keys() - tied)


def save(model: nn.Module, folder: Path) -> None:
    """Write weights and emulator.json; the configuration is the caller's to write."""
    from safetensors.torch import save_file

    state = model.state_dict()
    shared = shared_tensors(state)
    described = {"schema": SCHEMA, "modules": describe(model), "shared": shared}
    (folder / FILE).write_text(json.dumps(described, indent=1, sort_keys=True))
    tensors = {name: t.contiguous() for name, t in state.items() if name not in shared}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def rebuild(skeleton: nn.Module, folder: Path) -> nn.Module:
    """Turn a model of the folder's configuration into the one that was saved there.

    Args:
        skeleton: any weights; its tensors are replaced.
        folder: what `save` wrote.

    Raises:
        NotAModel: emulator.json is of another version, or weights do not fit it.
    """
    from safetensors.torch import load_file

    try:
        described = json.loads((folder / FILE).read_text())
        version = described["schema"]
        if version != SCHEMA:
            raise NotAModel(f"{folder / FILE} is of version {version}; this one reads {SCHEMA}")
        for path, description in described["modules"].items():
            parent, _, name = path.rpartition(".")
            setattr(skeleton.get_submodule(parent), name, empty(description))
        state = load_file(folder / "model.safetensors")
        state |= {name: state[original] for name, original in described["shared"].items()}
        skeleton.load_state_dict(state, strict=True, assign=True)
        for name, original in described["shared"].items():
            _tie(skeleton, name, original)
    # The folder comes from the other party: whatever is wrong with it, it is not a model.
    except _DAMAGED as error:
        reason = (str(error).splitlines() or [""])[-1].strip()
        raise NotAModel(f"{folder}: {type(error).__name__}: {reason}") from error
    # A module of ours may have been described before its block got its place.
    for position, block in enumerate(get_blocks(skeleton)):
        renumber_block(block, position)
    return skeleton


def without_initialisation() -> Any:  # noqa: ANN401 - a context manager of the library's
    """Build modules without drawing weights that are overwritten anyway."""
    from transformers.initialization import no_init_weights

    return no_init_weights()


def _tie(model: nn.Module, name: str, original: str) -> None:
    """Make the parameter `name` the parameter `original`."""
    source, _, source_name = original.rpartition(".")
    target, _, target_name = name.rpartition(".")
    parameter = getattr(model.get_submodule(source), source_name)
    setattr(model.get_submodule(target), target_name, parameter)
