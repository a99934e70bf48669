"""Cut a model into bottom adapter blocks, middle and top adapter blocks; put it together again.

The model owner's model is never changed: what is trained is a copy, and both assembled
models share the frozen rest (embeddings, final norm, head) with it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from offsite.blocks import get_blocks, with_blocks
from offsite.compression.emulator import Emulator
from offsite.errors import BadLayout
from offsite.tuning import Tuning


@dataclass(frozen=True, slots=True)
class Sandwich:
    """A model and the place of the two cuts."""

    model: nn.Module
    bottom: int
    """How many adapter blocks at the input end."""
    top: int
    """How many at the output end."""

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks of the model."""
        return list(get_blocks(self.model))

    @property
    def middle(self) -> list[nn.Module]:
        """The blocks between the adapter blocks: what an emulator stands in for."""
        return self.blocks[self.bottom : len(self.blocks) - self.top]


def cut(model: nn.Module, *, bottom: int, top: int) -> Sandwich:
    """Mark `bottom` and `top` blocks of `model` as its adapter blocks.

    Raises:
        BadLayout: the cuts leave no middle.
    """
    depth = len(get_blocks(model))
    check_layout(depth, bottom=bottom, top=top)
    return Sandwich(model, bottom, top)


def check_layout(depth: int, *, bottom: int, top: int) -> None:
    """Raise `BadLayout` unless `bottom` and `top` leave a middle in a model of `depth` blocks."""
    if bottom < 0 or top < 0 or bottom + top >= depth:
        raise BadLayout(
            f"adapter blocks {bottom}+{top} leave no middle in a model of {depth} blocks; "
            f"bottom + top may be at most {depth - 1}"
        )


def with_emulator(sandwich: Sandwich, emulator: Emulator) -> nn.Module:
    """What the data owner receives: adapter blocks around the emulator. Layout a-m-b."""
    first = sandwich.bottom
    last = len(sandwich.blocks) - sandwich.top
    bottom = list(range(first))
    top = list(range(last, len(sandwich.blocks)))
    middle = [first + i for i in emulator.layer_map]
    blocks: list[nn.Module] = [
        *_copies(sandwich, bottom),
        *copy.deepcopy(emulator.blocks),
        *_copies(sandwich, top),
    ]
    return with_blocks(sandwich.model, blocks, origins=bottom + middle + top)


def plug_in(sandwich: Sandwich, tuning: Tuning, state: Mapping[str, Tensor]) -> nn.Module:
    """What the model owner serves: the tuned adapter blocks around the original middle."""
    depth = len(sandwich.blocks)
    blocks = [
        *_copies(sandwich, range(sandwich.bottom)),
        *sandwich.middle,
        *_copies(sandwich, range(depth - sandwich.top, depth)),
    ]
    plugged = with_blocks(sandwich.model, blocks, origins=range(depth))
    adapter = adapter_blocks(plugged, bottom=sandwich.bottom, top=sandwich.top)
    tuning.attach(plugged, adapter)
    tuning.load(adapter, state)
    return plugged.eval()


def adapter_blocks(model: nn.Module, *, bottom: int, top: int) -> dict[str, nn.Module]:
    """The adapter blocks by name, `bottom.0` ... `top.0` ...: the same names at any depth."""
    blocks = list(get_blocks(model))
    named = {f"bottom.{i}": block for i, block in enumerate(blocks[:bottom])}
    return named | {f"top.{i}": block for i, block in enumerate(blocks[len(blocks) - top :])}


def all_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Every block by name: what full fine-tuning trains."""
    return {f"block.{i}": block for i, block in enumerate(get_blocks(model))}


def _copies(sandwich: Sandwich, positions: Sequence[int]) -> list[nn.Module]:
    return [copy.deepcopy(sandwich.blocks[i]) for i in positions]
