"""Modules that compressions put in the place of a library's own, and how they are written down.

A model folder with such modules has an `emulator.json` that describes them (`offsite.emulated`);
their tensors are in its safetensors like any others.
"""

from __future__ import annotations

import importlib
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn

LAYERS = {
    "harmonizer": "offsite.compression.scale_ot:Harmonizer",
    "linear": "offsite.compression.channels:ResizedLinear",
    "low_rank": "offsite.compression.low_rank:LowRankLinear",
    "norm": "offsite.compression.channels:ResizedLayerNorm",
    "quantized": "offsite.compression.quantization:QuantizedLinear",
}
"""Kind to 'module:class' of a `Described` module."""


@runtime_checkable
class Described(Protocol):
    """A module that can be made again, empty, from a few JSON values."""

    kind: str
    """Its key in `LAYERS`."""

    def description(self) -> dict[str, Any]:
        """Keyword arguments of `empty`, as JSON."""
        ...

    @classmethod
    def empty(cls, **description: Any) -> Self:  # noqa: ANN401 - as `description` gave them
        """A module of the same shape whose tensors are still to be filled."""
        ...


def describe(module: nn.Module) -> dict[str, dict[str, Any]]:
    """By path, the description of every module in `module` that is one of ours."""
    return {
        path: {"kind": each.kind, **each.description()}
        for path, each in module.named_modules()
        if isinstance(each, Described)
    }


def empty(description: dict[str, Any]) -> nn.Module:
    """The module that `describe` described, its tensors still to be filled."""
    fields = {key: value for key, value in description.items() if key != "kind"}
    module, _, name = LAYERS[description["kind"]].partition(":")
    made: nn.Module = getattr(importlib.import_module(module), name).empty(**fields)
    return made


def shared_tensors(state: dict[str, Tensor]) -> dict[str, str]:
    """Name of every tensor that is another one again, to the first name of it."""
    first: dict[tuple[int, tuple[int, ...], torch.dtype], str] = {}
    shared = {}
    for name, tensor in state.items():
        key = tensor.data_ptr(), tuple(tensor.shape), tensor.dtype
        if tensor.numel() and key in first:
            shared[name] = first[key]
        else:
            first[key] = name
    return shared
