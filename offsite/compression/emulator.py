"""What a compression works on and returns, and how compressions follow one another."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from offsite.architectures import Architecture
from offsite.blocks import architecture_of
from offsite.compression.layers import shared_tensors
from offsite.compression.methods import METHODS, Parameters
from offsite.errors import OffsiteError

if TYPE_CHECKING:
    from offsite.compression.calibration import Corpus
    from offsite.sandwich import Sandwich


@dataclass(frozen=True, slots=True)
class Emulator:
    """A smaller stand-in for the middle of a model; before any compression, the middle itself.

    A compression never changes the emulator it is given. The blocks it returns share no
    storage with it; they may share parameters with one another.
    """

    blocks: nn.ModuleList
    layer_map: tuple[int, ...]
    """For each block, the position in the middle (from 0) that it stands for, in order."""
    architecture: Architecture
    """Where linears lie within the blocks: see `offsite.blocks.roles`."""

    def tensors(self) -> Iterator[Tensor]:
        """Every stored tensor once, also where blocks share it."""
        state = self.blocks.state_dict()
        shared = shared_tensors(state)
        return (tensor for name, tensor in state.items() if name not in shared)

    @property
    def stored_bytes(self) -> int:
        """What the blocks take as they are stored; shared tensors count once."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors())


def compress(
    sandwich: Sandwich,
    steps: Sequence[tuple[str, Parameters]],
    corpora: Mapping[str, Corpus] | None = None,
) -> Emulator:
    """Make an emulator of the middle: apply compressions in order, each to the last one's result.

    Args:
        sandwich: the cut model. It is not changed.
        steps: pairs of a name in `METHODS` and its parameters.
        corpora: by the name that a step's `corpus` gives, what it calibrates or trains on.

    Raises:
        OffsiteError: a step does not fit the model, with what would.
    """
    middle = sandwich.middle
    emulator = Emulator(
        nn.ModuleList(middle), tuple(range(len(middle))), architecture_of(sandwich.model)
    )
    for name, parameters in steps:
        function = _function(METHODS[name].function)
        parameters.depth(len(emulator.blocks))
        if any(field.name == "corpus" for field in fields(parameters)):
            emulator = function(emulator, parameters, _calibration(sandwich, parameters, corpora))
        else:
            emulator = function(emulator, parameters)
    return emulator


def parameters_of(step: Mapping[str, Any]) -> tuple[str, Parameters]:
    """`{"method": "layer_drop", "keep": 4}` as the pair that `compress` takes."""
    # JSON has no tuples.
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in step.items()
        if key != "method"
    }
    return step["method"], METHODS[step["method"]].parameters(**values)


def _calibration(
    sandwich: Sandwich,
    parameters: Any,  # noqa: ANN401 - any of the table's dataclasses that has a corpus
    corpora: Mapping[str, Corpus] | None,
) -> object:
    from offsite.compression.calibration import Calibration

    if parameters.corpus is None:
        return None
    if parameters.corpus not in (corpora or {}):
        known = ", ".join(corpora or {}) or "none"
        raise OffsiteError(f"no corpus {parameters.corpus!r} is given; given: {known}")
    return Calibration(sandwich, (corpora or {})[parameters.corpus])


def _function(reference: str) -> Any:  # noqa: ANN401 - a function found by name
    module, _, name = reference.partition(":")
    return getattr(importlib.import_module(module), name)
