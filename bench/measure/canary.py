"""A fixed piece of work that tells a slow machine from slow code.

Run before and after what is measured: if the canary slowed down too, the machine did it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

REPEATS = 5
"""The best of these counts: a pause of the system lengthens one, nothing shortens one."""
SIZES = {"cpu": (1024, 1), "cuda": (2048, 8)}
"""Rows of the square matrices and multiplications a repeat: tens of milliseconds on two cores,
some milliseconds on a GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """The machine's speed at one moment."""

    seconds: float
    """Of one repeat, the best."""
    flops: float
    """Floating-point operations a second, single precision."""


def canary(device: str, *, clock: Callable[[], float] = time.perf_counter) -> Canary:
    """Multiply matrices on `device` (cpu or cuda) and time it.

    Draws nothing from torch's generators. What it takes on a GPU it gives back, so it is not in
    the next peak.
    """
    import torch

    rows, count = SIZES[device]
    synchronize: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else _nothing
    matrix = torch.linspace(-1, 1, rows * rows, device=device).reshape(rows, rows)
    product = torch.empty_like(matrix)
    # The first multiplication loads kernels.
    torch.mm(matrix, matrix, out=product)
    times = []
    for _ in range(REPEATS):
        synchronize()
        start = clock()
        for _ in range(count):
            torch.mm(matrix, matrix, out=product)
        synchronize()
        times.append(clock() - start)
    del matrix, product
    if device == "cuda":
        torch.cuda.empty_cache()
    best = min(times)
    return Canary(seconds=best, flops=2 * rows**3 * count / best)


def _nothing() -> None:
    """The CPU does at once what it is told."""
