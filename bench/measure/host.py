"""Resident memory of this process, from the kernel."""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import Protocol

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


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


def host_memory() -> HostMemory:
    """The best source of this system."""
    return LinuxHostMemory() if STATUS.exists() else PortableHostMemory()


def _kibibytes(key: str) -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"{STATUS} has no {key}")
