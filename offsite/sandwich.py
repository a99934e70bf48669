"""Cut a model into adapter blocks and the middle between them; put it together again.

The model owner's model is never changed: what is trained is a copy, and both assembled
models share the frozen rest (embeddings, final norm, head) with it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from offsite.blocks import get_blocks, with_blocks
from offsite.compression.emulator import Emulator
from offsite.layout import AdapterBlocks
from offsite.tuning import Tuning


@dataclass(frozen=True, slots=True)
class Sandwich:
    """A model and which of its blocks are the adapter blocks."""

    model: nn.Module
    adapter: tuple[int, ...]
    """Positions of the adapter blocks, in order."""

    @property
    def blocks(self) -> list[nn.Module]:
        """All blocks of the model."""
        return list(get_blocks(self.model))

    @property
    def middle_positions(self) -> tuple[int, ...]:
        """Positions of the blocks an emulator stands in for: all that are not adapter blocks."""
        return tuple(i for i in range(len(self.blocks)) if i not in self.adapter)

    @property
    def middle(self) -> list[nn.Module]:
        """The blocks an emulator stands in for."""
        blocks = self.blocks
        return [blocks[i] for i in self.middle_positions]

    def order(self, layer_map: Sequence[int]) -> list[tuple[int, int | None]]:
        """How adapter blocks and emulator blocks follow one another, from input to output.

        Args:
            layer_map: of the emulator: positions in the middle, in order.

        Returns:
            For each block its position in the foundation model, and its place in the emulator
            (None for an adapter block).
        """
        middle = self.middle_positions
        emulator = [(middle[m], place) for place, m in enumerate(layer_map)]
        adapter = [(position, None) for position in self.adapter]
        return sorted([*emulator, *adapter], key=lambda pair: (pair[0], pair[1] or 0))

    def sent_positions(self, emulator: Emulator) -> tuple[int, ...]:
        """Where the adapter blocks stand in the model that is sent: `with_emulator`'s."""
        order = self.order(emulator.layer_map)
        return tuple(i for i, (_, place) in enumerate(order) if place is None)


def cut(
    model: nn.Module, *, bottom: int = 0, top: int = 0, scattered: Sequence[int] = ()
) -> Sandwich:
    """Mark `bottom` and `top` blocks of `model`, or those at `scattered`, as its adapter blocks.

    Raises:
        BadLayout: the cuts leave no middle, or name a block the model does not have.
    """
    wanted = AdapterBlocks(bottom, top, tuple(scattered))
    return Sandwich(model, wanted.positions(len(get_blocks(model))))


def with_emulator(sandwich: Sandwich, emulator: Emulator) -> nn.Module:
    """What the data owner receives: adapter blocks around the emulator. Layout a-m-b.

    Adapter blocks are copies, to be trained; the emulator's own blocks become part of the
    model, which a tuning freezes but for what it trains.
    """
    return _around(sandwich, emulator, copy.deepcopy, renumber=True)


def view(sandwich: Sandwich, emulator: Emulator) -> nn.Module:
    """`with_emulator` without a copy: it shares the owner's adapter blocks too.

    To save, or to run without a key-value cache (blocks keep their numbers); never to train.
    """
    return _around(sandwich, emulator, lambda block: block, renumber=False)


def plug_in(sandwich: Sandwich, tuning: Tuning, state: Mapping[str, Tensor]) -> nn.Module:
    """What the model owner serves: the tuned adapter blocks around the original middle."""
    blocks = [
        copy.deepcopy(block) if position in sandwich.adapter else block
        for position, block in enumerate(sandwich.blocks)
    ]
    plugged = with_blocks(sandwich.model, blocks, origins=range(len(blocks)))
    adapter = adapter_blocks(plugged, scattered=sandwich.adapter)
    tuning.load(tuning.attach(plugged, adapter), state)
    return plugged.eval()


def adapter_blocks(
    model: nn.Module, *, bottom: int = 0, top: int = 0, scattered: Sequence[int] = ()
) -> dict[str, nn.Module]:
    """The adapter blocks of `model` by name, `adapter.0` first: the same names at any depth.

    `scattered` are positions in this model: see `Sandwich.sent_positions`.
    """
    blocks = get_blocks(model)
    positions = AdapterBlocks(bottom, top, tuple(scattered)).positions(len(blocks))
    return {f"adapter.{i}": blocks[position] for i, position in enumerate(positions)}


def all_blocks(model: nn.Module) -> dict[str, nn.Module]:
    """Every block by name: what full fine-tuning trains."""
    return {f"block.{i}": block for i, block in enumerate(get_blocks(model))}


def _around(
    sandwich: Sandwich,
    emulator: Emulator,
    adapter: Callable[[nn.Module], nn.Module],
    *,
    renumber: bool,
) -> nn.Module:
    """What `adapter` makes of the adapter blocks, around the emulator's own blocks."""
    order, originals = sandwich.order(emulator.layer_map), sandwich.blocks
    blocks = [
        adapter(originals[position]) if place is None else emulator.blocks[place]
        for position, place in order
    ]
    origins = [position for position, _ in order]
    return with_blocks(sandwich.model, blocks, origins=origins, renumber=renumber)
