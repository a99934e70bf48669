"""Compressions that choose which blocks of the middle stay."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from torch import nn

from offsite.compression.emulator import Emulator
from offsite.compression.methods import Identity, LayerDrop
from offsite.errors import BadLayout


def layer_drop(middle: Sequence[nn.Module], parameters: LayerDrop) -> Emulator:
    """Keep `keep` evenly spaced blocks (arXiv 2302.04870, section 4)."""
    return _keep(middle, evenly_spaced(len(middle), parameters.keep))


def identity(middle: Sequence[nn.Module], parameters: Identity) -> Emulator:
    """Keep every block."""
    return _keep(middle, range(len(middle)))


def evenly_spaced(total: int, keep: int) -> list[int]:
    """Pick `keep` of `total` positions, always including the first and last.

    >>> evenly_spaced(20, 8)
    [0, 3, 5, 8, 11, 14, 16, 19]
    """
    if not 2 <= keep <= total:
        raise BadLayout(f"layer_drop cannot keep {keep} of {total} middle blocks; 2 to {total} can")
    stride = (total - 1) / (keep - 1)
    # round() sends ties to even, as the authors' code does. int(x + 0.5) picks other
    # blocks at some depths (3 of 6: 0, 3, 5), which would not compare with the paper.
    return [round(i * stride) for i in range(keep)]


def _keep(middle: Sequence[nn.Module], positions: Sequence[int]) -> Emulator:
    return Emulator(nn.ModuleList(deepcopy(middle[i]) for i in positions), tuple(positions))
