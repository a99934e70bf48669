"""Sequences of tokens as rows of trees, so that what several begin with is computed once.

A transformer with causal attention computes a position from those before it, so the choices of a
question need its context once. A row is a tree of tokens: each token attends to those on its way
to the root, at the position that way gives it. It holds neighbours of the sorted sequences,
because those share most.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LONGEST = 2048
"""Tokens of a row at most, if no sequence has more: its mask is this squared."""
FULL = {"cpu": 1024, "cuda": 8192}
"""Tokens that make a batch large enough to be closed rather than padded, by device: a GPU is idle
with few."""
PADDING = 0.1
"""Share of a row that may be padding once its batch is large enough."""


@dataclass(slots=True)
class Row:
    """A tree of tokens, parents before children."""

    tokens: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    """Of each token, how many come before it in its sequence."""
    paths: dict[int, list[int]] = field(default_factory=dict)
    """Of each sequence, by its number, the places of its tokens in this row."""
    starts: dict[int, int] = field(default_factory=dict)
    """Of each sequence, how many of its tokens were there before it came."""

    @property
    def is_chain(self) -> bool:
        """Whether it is one sequence and beginnings of it: plain causal attention will do."""
        return not self.depths or self.depths[-1] == len(self.depths) - 1

    def add(self, number: int, sequence: Sequence[int], path: Sequence[int]) -> None:
        """Add a sequence whose first tokens are at `path`."""
        first = len(self.tokens)
        self.tokens += sequence[len(path) :]
        self.depths += range(len(path), len(sequence))
        self.paths[number] = [*path, *range(first, len(self.tokens))]
        self.starts[number] = len(path)

    def mask(self, length: int) -> NDArray[np.bool_]:
        """(length, length): which token, in rows, attends to which. Padding attends to itself."""
        allowed = np.eye(length, dtype=bool)
        for number, path in self.paths.items():
            start = self.starts[number]
            triangle = np.tri(len(path), dtype=bool)[start:]
            allowed[np.ix_(path[start:], path)] = triangle
        return allowed


def rows(sequences: Sequence[Sequence[int]], *, width: int, branching: bool) -> list[Row]:
    """Rows that hold every sequence once.

    Args:
        sequences: each of at least one token.
        width: the model's. A wide model gains more from a shared token than it loses by attention
            between tokens that have nothing to do with each other.
        branching: False for rows that are chains, which every model takes.
    """
    made: list[Row] = []
    longest = max(LONGEST, max(map(len, sequences), default=0))
    before: tuple[int, Sequence[int]] | None = None
    for number in sorted(range(len(sequences)), key=lambda n: tuple(sequences[n])):
        sequence = sequences[number]
        path: list[int] = []
        if before is not None:
            shared = _shared(before[1], sequence)
            row, new = made[-1], len(sequence) - shared
            is_worth = shared * width >= len(row.tokens) * new
            if not branching:
                # Sorted, a beginning comes just before what it begins.
                is_worth = shared == len(before[1]) and row.is_chain
            if shared and is_worth and len(row.tokens) + new <= longest:
                path = row.paths[before[0]][:shared]
        if not path:
            made.append(Row())
        made[-1].add(number, sequence, path)
        before = number, sequence
    return made


def batches(made: Sequence[Row], size: int, device: str) -> Iterator[list[Row]]:
    """Rows of like length together, the longest first, at most `size` of them.

    The longest come first, so that what does not fit in memory is known at once.
    """
    batch: list[Row] = []
    for row in sorted(made, key=lambda row: -len(row.tokens)):
        if batch:
            longest = len(batch[0].tokens)
            is_full = longest * len(batch) >= FULL[device]
            is_shorter = len(row.tokens) < (1 - PADDING) * longest
            if len(batch) == size or (is_full and is_shorter):
                yield batch
                batch = []
        batch.append(row)
    if batch:
        yield batch


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """How many tokens both begin with."""
    limit = min(len(one), len(other))
    return next((i for i in range(limit) if one[i] != other[i]), limit)
