"""What this machine can measure, and why not: one finding a source."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.environment import PACKAGES, Machine, this_machine, version
from bench.measure.board import known
from bench.measure.energy import SHORTEST
from bench.measure.host import CLEAR, STATUS
from bench.measure.monitor import start_sampler
from bench.measure.nvml import GpuInfo, Nvml, NvmlUnavailable, open_nvml
from bench.measure.rapl import Rapl
from bench.measure.unavailable import Unavailable
from reports.record import Grade

SAMPLED_FOR = 0.5
"""Seconds for which the sampler is tried."""


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
        _sampler(machine.cores),
        _package_energy(),
        _torch_memory(machine),
        *_gpus(),
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


def _sampler(cores: int) -> Finding:
    """Have this very process watched for a moment."""
    source = "sampler"
    monitor = start_sampler(cores)
    try:
        # The first phase waits until it runs.
        for seconds in (0.0, SAMPLED_FOR):
            monitor.begin(time.monotonic())
            time.sleep(seconds)
            sampled = monitor.end(time.monotonic())
    except Unavailable as error:
        return Finding(source, "unmeasured", str(error))
    finally:
        monitor.close()
    overhead = sampled.cpu_seconds / (sampled.seconds * cores)
    detail = (
        f"{sampled.hz:.0f} samples a second, {sampled.longest_gap * 1000:.0f} ms apart at most; "
        f"takes {overhead:.2%} of {cores} cores"
    )
    if "rss" in sampled.missing:
        detail += f"; sees no memory: {sampled.missing['rss']}"
    return Finding(source, "bounded", detail)


def _package_energy() -> Finding:
    source = "CPU energy (RAPL)"
    _, reason = known(Rapl().joules)
    if reason is not None:
        return Finding(source, "unmeasured", reason)
    return Finding(source, "device", "of the whole CPU package, with all that runs on it")


def _torch_memory(machine: Machine) -> Finding:
    source = "GPU memory (torch)"
    if machine.device == "cuda":
        return Finding(source, "exact", "allocated and reserved peak of its allocator, per phase")
    why = "torch is built for the CPU" if "+cpu" in machine.torch else "stages run on the CPU"
    return Finding(source, "unmeasured", why)


def _gpus() -> list[Finding]:
    try:
        nvml = open_nvml()
        gpus = nvml.gpus()
    except NvmlUnavailable as error:
        return [Finding("GPU memory (NVML)", "unmeasured", str(error))]
    return [finding for gpu in gpus for finding in _gpu(nvml, gpu)]


def _gpu(nvml: Nvml, gpu: GpuInfo) -> list[Finding]:
    """Every source of one GPU."""
    name = f"{gpu.name}, driver {gpu.driver}, {gpu.uuid}"
    sources: list[tuple[str, Grade, str, Callable[[str], object]]] = [
        ("GPU memory (NVML)", "bounded", f"of the process, sampled; {name}", nvml.process_memory),
        ("GPU memory (device)", "device", "less what was in use before", nvml.device_memory),
        ("GPU accounting", "exact", "the driver's own high-water mark", nvml.require_accounting),
        ("GPU energy counter", "exact", f"phases of {SHORTEST:.0f} s and more", nvml.energy),
        ("GPU power", "bounded", "added up where there is no energy counter", nvml.power),
        ("GPU clock", "exact", "median and lowest of a phase", nvml.clock),
        ("GPU temperature", "exact", "highest of a phase", nvml.temperature),
        ("GPU throttling", "exact", "share of a phase, by cause", nvml.throttling),
    ]
    return [_finding(*source, gpu.uuid) for source in sources]


def _finding(
    source: str, grade: Grade, detail: str, read: Callable[[str], object], uuid: str
) -> Finding:
    _, reason = known(lambda: read(uuid))
    return Finding(source, "unmeasured", reason) if reason else Finding(source, grade, detail)


def _processes() -> Finding:
    if sys.platform == "linux":
        return Finding("stage processes", "forked", "0.01 s a stage, from a server with imports")
    return Finding("stage processes", "spawned", "each stage imports torch anew, some seconds")
