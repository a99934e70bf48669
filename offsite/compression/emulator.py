"""What a compression returns, and how compressions are applied one after another."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from offsite.compression.methods import METHODS


@dataclass(frozen=True, slots=True)
class Emulator:
    """A smaller stand-in for the middle of a model. Its blocks share no storage with it."""

    blocks: nn.ModuleList
    layer_map: tuple[int, ...]
    """For each block, the position in the middle (from 0) that it stands for."""


def compress(middle: Sequence[nn.Module], steps: Sequence[tuple[str, object]]) -> Emulator:
    """Apply compressions in order, each to what the one before made.

    Args:
        middle: the blocks to stand in for. They are not changed.
        steps: pairs of a name in `METHODS` and its parameters.
    """
    blocks, layer_map = middle, tuple(range(len(middle)))
    for name, parameters in steps:
        emulator = _function(METHODS[name].function)(blocks, parameters)
        layer_map = tuple(layer_map[i] for i in emulator.layer_map)
        blocks = emulator.blocks
    return Emulator(nn.ModuleList(blocks), layer_map)


def parameters_of(step: Mapping[str, Any]) -> tuple[str, object]:
    """`{"method": "layer_drop", "keep": 4}` as the pair that `compress` takes."""
    fields = {key: value for key, value in step.items() if key != "method"}
    return step["method"], METHODS[step["method"]].parameters(**fields)


def _function(reference: str) -> Any:  # noqa: ANN401 - a function found by name
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
