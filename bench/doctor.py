"""What this machine can measure, and why not: one finding a source."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass
from typing import Any

from bench.environment import PACKAGES, this_machine, version
from bench.measure.memory import CLEAR, STATUS
from bench.measure.nvml import NvmlUnavailable, open_nvml


@dataclass(frozen=True, slots=True)
class Finding:
    """One source of numbers."""

    source: str
    grade: str
    detail: str

    @property
    def line(self) -> str:
        """As `doctor` prints it."""
        return f"{self.source:22} {self.grade:11} {self.detail}"

    def as_dict(self) -> dict[str, Any]:
        """As `doctor --json` prints it."""
        return asdict(self)


def examine() -> list[Finding]:
    """Look at every source once."""
    machine = this_machine()
    return [
        Finding("machine", machine.fingerprint, f"{machine.processor}, {machine.threads} threads"),
        Finding("device", machine.device, "where stages compute"),
        Finding("wall clock", "exact", "perf_counter, windows synchronised at both ends"),
        _host_memory(),
        *_gpu_memory(),
        _processes(),
        *(Finding(name, version(name), "installed") for name in PACKAGES),
    ]


def _host_memory() -> Finding:
    source = "host memory"
    if not STATUS.exists():
        return Finding(source, "bounded", "no /proc: the peak is of the whole process, not a phase")
    try:
        with CLEAR.open("w"):
            pass
    except OSError as error:
        return Finding(source, "bounded", f"{CLEAR} cannot be written: {error.strerror}")
    return Finding(source, "exact", "peak resident memory per phase, from /proc")


def _gpu_memory() -> list[Finding]:
    try:
        gpus = open_nvml().gpus()
    except NvmlUnavailable as error:
        return [Finding("GPU memory (NVML)", "unmeasured", str(error))]
    return [
        Finding("GPU memory (NVML)", "bounded", f"{g.name}, driver {g.driver}, {g.uuid}")
        for g in gpus
    ]


def _processes() -> Finding:
    if sys.platform == "linux":
        return Finding("stage processes", "forked", "0.01 s a stage, from a server with imports")
    return Finding("stage processes", "spawned", "each stage imports torch anew, some seconds")
