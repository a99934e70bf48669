"""Which blocks of a model are trained, and how the cut is written: `2+2`, `2-8-2`. No torch."""

from __future__ import annotations

import re
from dataclasses import dataclass

from offsite.errors import BadLayout


@dataclass(frozen=True, slots=True)
class AdapterBlocks:
    """The trainable blocks: some at each end (the paper), or scattered (arXiv 2310.15477)."""

    bottom: int = 0
    """How many at the input end."""
    top: int = 0
    """How many at the output end."""
    scattered: tuple[int, ...] = ()
    """Instead of ends: their positions in the foundation model, from 0, in order."""

    def positions(self, depth: int) -> tuple[int, ...]:
        """Positions of the adapter blocks in a model of `depth` blocks, in order.

        Raises:
            BadLayout: they do not fit, or leave no middle.
        """
        if self.scattered:
            return self._scattered_in(depth)
        if self.bottom < 0 or self.top < 0 or self.bottom + self.top >= depth:
            raise BadLayout(
                f"adapter blocks {self} leave no middle in a model of {depth} blocks; "
                f"bottom + top may be at most {depth - 1}"
            )
        return (*range(self.bottom), *range(depth - self.top, depth))

    def _scattered_in(self, depth: int) -> tuple[int, ...]:
        if sorted(set(self.scattered)) != list(self.scattered) or self.scattered[0] < 0:
            raise BadLayout(f"adapter blocks {self} must be positions in order, each once")
        if self.scattered[-1] >= depth:
            raise BadLayout(
                f"adapter blocks {self} do not fit a model of {depth} blocks; "
                f"positions go from 0 to {depth - 1}"
            )
        if len(self.scattered) == depth:
            raise BadLayout(f"adapter blocks {self} leave no middle in a model of {depth} blocks")
        return self.scattered

    def __len__(self) -> int:
        """How many blocks are trained."""
        return len(self.scattered) or self.bottom + self.top

    def __str__(self) -> str:
        """As a suite gives it: `2+2`, or `0,5,18,23`."""
        return ",".join(map(str, self.scattered)) or f"{self.bottom}+{self.top}"

    def layout(self, emulator: int | str) -> str:
        """`a-m-b`, where m is how many blocks the emulator has; `0,5,18,23-m` when scattered.

        >>> AdapterBlocks(2, 2).layout(8)
        '2-8-2'
        """
        if self.scattered:
            return f"{self}-{emulator}"
        return f"{self.bottom}-{emulator}-{self.top}"


def read(text: str) -> AdapterBlocks:
    """The adapter blocks that `2+2` or `0,5,18,23` names.

    Raises:
        BadLayout: it is neither.
    """
    ends = re.fullmatch(r"([0-9]{1,3})\+([0-9]{1,3})", text)
    if ends:
        return AdapterBlocks(int(ends[1]), int(ends[2]))
    if re.fullmatch(r"[0-9]{1,3}(,[0-9]{1,3})+,?", text):
        return AdapterBlocks(scattered=tuple(int(p) for p in text.strip(",").split(",")))
    raise BadLayout(f"{text!r} is not bottom+top adapter blocks, as in 2+2, or positions, as 0,5,9")
