"""Hold a block to a memory budget, so that one machine tells what fits into a smaller one.

What counts is the whole process. On a GPU: all that torch's allocator holds, model included. On
the CPU: its resident memory, with the interpreter and the libraries that were there before.

It is a limit, not a smaller machine. On a GPU the driver's own share (the CUDA context, some
hundred megabytes) is not in it; a card sold as 24 GB holds 24 GiB, 7 % more, which is about that
share. A card of another kind has other kernels and may split its memory otherwise. On the CPU
every byte that is mapped from now on counts as used, and code of libraries that is first run from
now on, which the system can always read again from the disk, does not: tens of megabytes by which
the peak of the process may lie above the cap.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import psutil
import torch

GIGABYTE = 10**9


class CapNotPossible(Exception):
    """This machine cannot hold a process to that budget; no word on what would fit."""


def memory_cap(gigabytes: float | None, device: str) -> AbstractContextManager[None]:
    """In the block, what takes this process above `gigabytes` is out of memory.

    Args:
        gigabytes: of 10^9 bytes; None for no cap.
        device: cpu or cuda: whose memory is meant.

    Raises:
        MemoryError, torch.OutOfMemoryError: the process is above it already.
        CapNotPossible: others use so much of the machine that this process would run out of
            memory below the cap, or the system has no such limit.
    """
    if gigabytes is None:
        return nullcontext()
    cap = round(gigabytes * GIGABYTE)
    return _gpu_cap(cap) if device == "cuda" else _host_cap(cap)


@contextmanager
def _gpu_cap(cap: int) -> Iterator[None]:
    # Free pieces of what the allocator holds could be used even above the cap.
    torch.cuda.empty_cache()
    held = torch.cuda.memory_reserved()
    free, total = torch.cuda.mem_get_info()
    if held > cap:
        raise torch.OutOfMemoryError(_above(held, cap))
    _require(held + free, cap)
    before = torch.cuda.get_per_process_memory_fraction()
    torch.cuda.set_per_process_memory_fraction(min(cap / total, 1.0))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(before)


@contextmanager
def _host_cap(cap: int) -> Iterator[None]:
    if sys.platform != "linux":
        raise CapNotPossible("the CPU's memory can be capped on Linux only")
    held = psutil.Process().memory_info()
    if held.rss > cap:
        raise MemoryError(_above(held.rss, cap))
    _require(held.rss + psutil.virtual_memory().available, cap)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    # Much is mapped and never touched: it is the growth that is limited.
    limits = (held.data + cap - held.rss, soft, hard)
    lowest = min(limit for limit in limits if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _above(held: int, cap: int) -> str:
    return (
        f"the process holds {held / GIGABYTE:.2f} GB before its first step; "
        f"memory_cap is {cap / GIGABYTE:.2f} GB"
    )


def _require(available: int, cap: int) -> None:
    """Refuse a cap that could never be reached."""
    if available < cap:
        raise CapNotPossible(
            f"{available / GIGABYTE:.2f} GB can be had; memory_cap is {cap / GIGABYTE:.2f} GB: "
            "give less, or free what others hold"
        )
