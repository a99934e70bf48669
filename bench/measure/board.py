"""Which GPU is this process's, and which of the processes on it is this one.

In a container the driver names processes by the host's numbers, so ours is found by what
changes: the list of processes just before and just after this one starts to use CUDA.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bench.measure.nvml import Nvml, NvmlUnavailable
from bench.measure.unavailable import Unavailable

T = TypeVar("T")


class GpuMemory(Protocol):
    """What this process holds on its GPU, as its framework counts."""

    def has_context(self) -> bool:
        """Whether this process uses a GPU already."""
        ...

    def create_context(self) -> None:
        """Start to use the GPU, with next to no memory."""
        ...

    def synchronize(self) -> None:
        """Wait until the GPU has done all it was given."""
        ...

    def reset_peak(self) -> None:
        """Start new peaks."""
        ...

    def allocated_peak(self) -> int:
        """Bytes the framework's tensors took at the highest."""
        ...

    def reserved_peak(self) -> int:
        """Bytes the framework's allocator held at the highest."""
        ...

    def uuid(self) -> str:
        """The GPU's UUID, bare: without the GPU- or MIG- that NVML puts before it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """This process in the driver's list."""

    pid: int | None
    """The driver's number of it, None if it cannot be told from others."""
    candidates: frozenset[int]
    """Numbers that may be this process."""
    reason: str | None
    """Why `pid` is None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """This process's GPU, as the driver knows it."""

    uuid: str
    process: Process
    neighbours: frozenset[int] | None
    """Processes that were there first; None if the driver did not tell."""
    used_before: int | None
    """Bytes in use before this process used the GPU; None if that was not read."""
    why_not_used_before: str | None
    context: int | None
    """Bytes the process takes on top of what the framework reserves; None if unknown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One GPU at one moment; None with a reason where the driver did not tell."""

    processes: dict[int, int | None] | None
    used: int | None
    reason: str | None


def known(call: Callable[[], T]) -> tuple[T | None, str | None]:
    """What a source says, or None and its reason."""
    try:
        return call(), None
    except Unavailable as error:
        return None, str(error)


def enter(gpu: GpuMemory, source: Callable[[], Nvml]) -> Board:
    """Start to use the GPU and find out where it is.

    Raises:
        NvmlUnavailable: the GPU is in use now, and the driver does not tell of it.
    """
    had_context = gpu.has_context()
    nvml, reason = known(source)
    # CUDA tells which GPU it is only once it is in use, so all are looked at.
    before = {} if nvml is None or had_context else _look_at_all(nvml)
    gpu.create_context()
    if nvml is None:
        raise NvmlUnavailable(reason)
    uuid = nvml.named(gpu.uuid())
    first = before.get(uuid, _not_seen(had_context))
    now = _look(nvml, uuid)
    process = _find(first, now, os.getpid(), had_context=had_context)
    return Board(
        uuid=uuid,
        process=process,
        neighbours=None if first.processes is None else frozenset(first.processes),
        used_before=first.used,
        why_not_used_before=first.reason,
        context=_context(now, process, gpu.reserved_peak()),
    )


def _find(before: _Look, now: _Look, own: int, *, had_context: bool) -> Process:
    """The process that was not there before this one used the GPU; `own` is its own number."""
    if now.processes is None:
        return Process(pid=None, candidates=frozenset(), reason=now.reason)
    if had_context and own in now.processes:
        return Process(pid=own, candidates=frozenset({own}), reason=None)
    if before.processes is None:
        return Process(pid=None, candidates=frozenset(), reason=before.reason)
    # A number equal to ours that was there before is another namespace's.
    new = frozenset(now.processes.keys() - before.processes.keys())
    if own in new or len(new) == 1:
        pid = own if own in new else min(new)
        return Process(pid=pid, candidates=frozenset({pid}), reason=None)
    reason = (
        f"{len(new)} processes appeared on the GPU together with this one"
        if new
        else "the driver's list of processes does not show this one"
    )
    return Process(pid=None, candidates=new, reason=reason)


def _look_at_all(nvml: Nvml) -> dict[str, _Look]:
    uuids, _ = known(nvml.uuids)
    return {uuid: _look(nvml, uuid) for uuid in uuids or ()}


def _look(nvml: Nvml, uuid: str) -> _Look:
    processes, why_no_processes = known(lambda: nvml.process_memory(uuid))
    used, why_not_used = known(lambda: nvml.device_memory(uuid))
    return _Look(processes=processes, used=used, reason=why_no_processes or why_not_used)


def _not_seen(had_context: bool) -> _Look:
    reason = (
        "the GPU was in use by this process before it was looked at"
        if had_context
        else "NVML did not list this GPU before it was used"
    )
    return _Look(processes=None, used=None, reason=reason)


def _context(now: _Look, process: Process, reserved: int) -> int | None:
    """Bytes that are the process's and not the framework's, right after the start."""
    if process.pid is None or now.processes is None:
        return None
    held = now.processes[process.pid]
    return None if held is None or held < reserved else held - reserved
