"""What an emulator would take if zeros and repeated values were not stored as full numbers.

A measure of ours. Unstructured pruning and simulated rounding store every weight in full, so
by stored bytes they save nothing and cannot be set beside layer-drop, two factors or packed
weights. Effective bytes take each tensor in the smallest of four simple encodings that lose
nothing. They are read off the tensors themselves and never declared by a compression.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from offsite.compression.emulator import Emulator

MOST_VALUES = 512
"""A tensor with more distinct values than this is not put in a table."""
SAMPLE = 10_000
"""Values that are looked at first: most dense tensors show here that no table will do."""
CHUNK = 2**21


def effective_bytes(emulator: Emulator) -> int:
    """Bytes of the blocks, each tensor in its `smallest_encoding`; shared ones count once."""
    return sum(smallest_encoding(tensor) for tensor in emulator.tensors())


def smallest_encoding(tensor: Tensor) -> int:
    """Bytes that a tensor takes in the smallest of these encodings.

    * dense: every value in full;
    * bitmap: a bit for each value, and those that are not 0 in full;
    * table: the distinct values, and for each value its number in the table;
    * both: a bit for each value, and a table for those that are not 0.

    Integers (packed codes) and tensors of one dimension count as they are.
    """
    count, size = tensor.numel(), tensor.element_size()
    dense = count * size
    if not tensor.is_floating_point() or tensor.dim() < 2 or not count:
        return dense
    nonzero = int(torch.count_nonzero(tensor))
    sizes = [dense, _bytes(count) + nonzero * size]
    values = distinct_values(tensor) if size <= 4 else None
    if values is not None:
        without_zero = len(values) - int(nonzero < count)
        sizes += [
            _table(count, len(values), size),
            _bytes(count) + _table(nonzero, without_zero, size),
        ]
    return min(sizes)


@torch.no_grad()
def distinct_values(tensor: Tensor) -> Tensor | None:
    """The values that occur in a tensor of at most 32-bit floats, in order.

    None if they are more than `MOST_VALUES`.
    """
    flat = tensor.flatten()
    values = torch.unique(flat[:: max(1, len(flat) // SAMPLE)])
    # Ten times as fast as sorting: each value is looked up in the slot of its bits. Of two
    # values with one slot, the one that is not in it merely counts as new each time.
    table = torch.full((2**16,), math.nan, dtype=torch.float32, device=tensor.device)
    for part in torch.split(flat, CHUNK):
        if len(values) > MOST_VALUES:
            return None
        table[_slots(values)] = values.float()
        new = part[table[_slots(part)] != part]
        if len(new):
            values = torch.unique(torch.cat([values, new]))
    return values if len(values) <= MOST_VALUES else None


def _slots(values: Tensor) -> Tensor:
    bits = values.float().view(torch.int32)
    return (bits ^ bits >> 16) & 0xFFFF


def _table(count: int, values: int, size: int) -> int:
    bits = max(0, values - 1).bit_length()
    return _bytes(count * bits) + values * size


def _bytes(bits: int) -> int:
    return -(-bits // 8)
