"""Peak memory per phase of a stage: from the host always, from the GPU where there is one.

The kernel keeps a high-water mark of resident memory. It is set back at the start of a
phase, so a phase's peak is its own; where that is not allowed the mark is of the process so
far, and the number says so.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.measure.nvml import Nvml, NvmlUnavailable, open_nvml
from reports.record import Grade, Metric

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
GPU_PROCESS = "peak_memory_gpu_process"


class HostMemory(Protocol):
    """Resident memory of this process."""

    def reset_peak(self) -> str | None:
        """Start a new peak; the reason if that is not possible."""
        ...

    def peak(self) -> int:
        """Bytes at the highest since the last reset."""
        ...

    def current(self) -> int:
        """Bytes now."""
        ...


class LinuxHostMemory:
    """VmHWM and VmRSS of /proc."""

    def reset_peak(self) -> str | None:
        """Start a new peak; the reason if that is not possible."""
        try:
            CLEAR.write_text("5")
        except OSError as error:
            return f"peak of the process so far: {CLEAR} cannot be written ({error.strerror})"
        return None

    def peak(self) -> int:
        """Bytes at the highest since the last reset."""
        return _kibibytes("VmHWM")

    def current(self) -> int:
        """Bytes now."""
        return _kibibytes("VmRSS")


class PortableHostMemory:
    """getrusage, where there is no /proc: its peak cannot be set back."""

    def reset_peak(self) -> str | None:
        """Start a new peak; the reason if that is not possible."""
        return "peak of the process so far: this system cannot set it back"

    def peak(self) -> int:
        """Bytes at the highest since the process started."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    def current(self) -> int:
        """Bytes now."""
        import psutil

        return int(psutil.Process().memory_info().rss)


class GpuMemory(Protocol):
    """What this process holds on its GPU."""

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
        """NVML's name of the GPU."""
        ...


@dataclass(slots=True)
class MemoryMeter:
    """Measures the phases of one stage and keeps their metrics."""

    gpu: GpuMemory | None = None
    """None where the stage runs on the CPU."""
    host: HostMemory = field(
        default_factory=lambda: LinuxHostMemory() if STATUS.exists() else PortableHostMemory()
    )
    nvml: Callable[[], Nvml] = open_nvml
    metrics: list[Metric] = field(default_factory=list)

    def floor(self) -> None:
        """Note what the process holds before anything is loaded."""
        floor = self.host.current()
        self.metrics.append(_bytes("memory_floor", floor, "load", "exact", None))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as phase `name`: load, build, train or evaluate."""
        reason = self.host.reset_peak()
        if self.gpu is not None:
            self.gpu.reset_peak()
        yield
        grade: Grade = "bounded" if reason else "exact"
        self.metrics.append(
            _bytes("peak_memory_process", self.host.peak(), name, grade, reason, n=1)
        )
        self.metrics += self._gpu(name)

    def _gpu(self, phase: str) -> list[Metric]:
        """The caching allocator's peaks, and the driver's view of this process."""
        if self.gpu is None:
            return [_unmeasured(GPU_PROCESS, phase, self._why_no_gpu())]
        return [
            _bytes("peak_memory_allocated", self.gpu.allocated_peak(), phase, "exact", None),
            _bytes("peak_memory_reserved", self.gpu.reserved_peak(), phase, "exact", None),
            self._gpu_process(self.gpu.uuid(), phase),
        ]

    def _gpu_process(self, uuid: str, phase: str) -> Metric:
        """What the driver charges this process now: at the end of a phase, so a lower bound."""
        try:
            used = self.nvml().process_memory(uuid).get(os.getpid())
        except NvmlUnavailable as error:
            return _unmeasured(GPU_PROCESS, phase, str(error))
        if used is None:
            reason = "the driver does not tell this process's memory"
            return _unmeasured(GPU_PROCESS, phase, reason)
        reason = "read once at the end of the phase: the peak is at least this"
        return _bytes(GPU_PROCESS, used, phase, "bounded", reason)

    def _why_no_gpu(self) -> str:
        try:
            self.nvml()
        except NvmlUnavailable as error:
            return str(error)
        return "the stage ran on the CPU"


def _kibibytes(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {key}")


def _bytes(
    name: str, value: int, phase: str, grade: Grade, reason: str | None, n: int | None = None
) -> Metric:
    return Metric(
        metric=name,
        value=value,
        unit="bytes",
        better="lower",
        phase=phase,
        grade=grade,
        reason=reason,
        n=n,
    )


def _unmeasured(name: str, phase: str, reason: str) -> Metric:
    return Metric(
        metric=name,
        value=None,
        unit="bytes",
        better="lower",
        phase=phase,
        grade="unmeasured",
        reason=reason,
    )
