"""Peak memory, energy and the GPU's state per phase of a stage.

Each phase is measured by every source there is: the kernel, the framework, the driver, and a
sampler in a process of its own. The best becomes the metric, with the grade and the reason it
deserves; all of them are facts of the record. A source that fails costs its own figure and
never the stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.measure.board import Board, GpuMemory, enter, known
from bench.measure.energy import Energy, gpu_energy, package_energy
from bench.measure.gpu_state import gpu_state
from bench.measure.host import HostMemory, host_memory
from bench.measure.monitor import Monitor, NoMonitor, Sampled, start_sampler
from bench.measure.nvml import Nvml, NvmlUnavailable, open_nvml
from bench.measure.peaks import (
    Peak,
    accounting_peak,
    checked_host,
    device_peak,
    exact,
    gpu_process,
    host_sampled,
    neighbours,
    process_peak,
    unmeasured,
)
from bench.measure.unavailable import Unavailable
from reports.record import Metric

ON_CPU = "the stage ran on the CPU"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opening:
    """What was read when a phase began."""

    at: float
    host_reason: str | None
    """Why the host's peak could not be set back."""
    accounted: int | None
    joules: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """One phase, measured."""

    seconds: float
    sources: dict[str, Peak]
    violations: list[str]
    sampled: Sampled | str
    """What the sampler saw, or why it saw nothing."""
    energy: Energy
    neighbours: frozenset[int]


@dataclass(slots=True)
class MemoryMeter:
    """Measures the phases of one stage and keeps their metrics.

    Call `floor` first, then `start_sampler`, then `use_gpu` if the stage has one, and
    `close` at the end.
    """

    host: HostMemory = field(default_factory=host_memory)
    nvml: Callable[[], Nvml] = open_nvml
    clock: Callable[[], float] = time.monotonic
    """The sampler's process must read the same clock."""
    monitor: Monitor = field(default_factory=NoMonitor)
    metrics: list[Metric] = field(default_factory=list)
    cores: int = 1
    """Cores the stage computes on."""
    gpu: GpuMemory | None = field(default=None, init=False)
    """None where the stage runs on the CPU."""
    _board: Board | str = field(default=ON_CPU, init=False)
    """The GPU as the driver knows it, or why it does not."""
    _driver: Nvml | None = field(default=None, init=False)
    _phases: dict[str, _Phase] = field(default_factory=dict, init=False)

    def floor(self) -> None:
        """Note what the process holds before anything is loaded."""
        floor = exact(self.host.current())
        self.metrics.append(_bytes("memory_floor", "load", floor))

    def start_sampler(self, cores: int) -> None:
        """Have this process, which computes on `cores` cores, watched from outside it."""
        self.cores = cores
        self.monitor = start_sampler(cores)

    def use_gpu(self, gpu: GpuMemory) -> None:
        """Start to use the GPU. Nothing may have used it before, or less can be told of it."""
        self.gpu = gpu
        try:
            self._board = enter(gpu, self._opened)
        except NvmlUnavailable as error:
            self._board = str(error)
            return
        self.monitor.watch(self._board.uuid, self._board.process.pid)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the block as phase `name`: load, build, train or evaluate."""
        if name in self._phases:
            raise ValueError(f"phase {name!r} was measured already; a stage has each phase once")
        opening = self._open()
        yield
        phase = self._close(opening)
        self._phases[name] = phase
        self.metrics += self._metrics(name, phase)

    def close(self) -> None:
        """No more phases: ends the sampler."""
        self.monitor.close()

    def energy(self, phase: str) -> Energy:
        """Energy a phase took: of the GPU, or of the CPU where the stage has none."""
        return self._phases[phase].energy

    def timeline(self) -> list[dict[str, Any]]:
        """Memory over time, one row a point: phase, seconds since it began, bytes."""
        return [
            {"phase": name, "t": seconds, "rss": rss, "gpu_process": process}
            for name, phase in self._phases.items()
            if isinstance(phase.sampled, Sampled)
            for seconds, rss, process in phase.sampled.line
        ]

    def facts(self) -> dict[str, Any]:
        """All that was measured, as JSON: the GPU, and every source by phase."""
        board = self._board
        gpu = {"reason": board} if isinstance(board, str) else _board_facts(board)
        return {
            "gpu": gpu,
            "phases": {name: self._phase_facts(phase) for name, phase in self._phases.items()},
        }

    def _open(self) -> _Opening:
        """Start every peak and counter."""
        reason = self.host.reset_peak()
        if self.gpu is not None:
            self.gpu.synchronize()
            self.gpu.reset_peak()
        accounted, _ = known(self._accounted)
        joules, _ = known(self._joules)
        at = self.clock()
        self.monitor.begin(at)
        return _Opening(at=at, host_reason=reason, accounted=accounted, joules=joules)

    def _close(self, opening: _Opening) -> _Phase:
        """Read every peak and counter."""
        if self.gpu is not None:
            self.gpu.synchronize()
        ended = self.clock()
        # Before the sampler's answer, which takes memory to read.
        host = Peak(
            value=self.host.peak(),
            grade="bounded" if opening.host_reason else "exact",
            reason=opening.host_reason,
        )
        sampled, reason = known(lambda: self.monitor.end(ended))
        seen: Sampled | str = sampled or reason or ""
        sources = {"host": host, "host_sampled": host_sampled(seen)}
        sources["host"] = checked_host(sources)
        sources |= self._gpu_sources(opening, seen)
        context = None if isinstance(self._board, str) else self._board.context
        sources["gpu_process"], violations = gpu_process(sources, context)
        return _Phase(
            seconds=ended - opening.at,
            sources=sources,
            violations=violations,
            sampled=seen,
            energy=self._energy(opening, ended - opening.at, seen),
            neighbours=self._neighbours(seen),
        )

    def _gpu_sources(self, opening: _Opening, seen: Sampled | str) -> dict[str, Peak]:
        """What the framework and the driver say of the GPU."""
        board = self._board
        framework = {"allocated": unmeasured(ON_CPU), "reserved": unmeasured(ON_CPU)}
        if self.gpu is not None:
            framework = {
                "allocated": exact(self.gpu.allocated_peak()),
                "reserved": exact(self.gpu.reserved_peak()),
            }
        if isinstance(board, str):
            none = unmeasured(self._why_no_gpu(board))
            return {**framework, "accounting": none, "process": none, "device": none}
        accounted, reason = known(self._accounted)
        after = accounted if accounted is not None else reason or ""
        return {
            **framework,
            "accounting": accounting_peak(opening.accounted, after),
            "process": process_peak(seen, board),
            "device": device_peak(seen, board),
        }

    def _opened(self) -> Nvml:
        """NVML, opened once. Raises NvmlUnavailable."""
        self._driver = self._driver or self.nvml()
        return self._driver

    def _accounted(self) -> int:
        board = self._board
        if isinstance(board, str):
            raise Unavailable(board)
        if board.process.pid is None:
            raise Unavailable(board.process.reason)
        return self._opened().accounted_memory(board.uuid, board.process.pid)

    def _joules(self) -> float:
        if isinstance(self._board, str):
            raise Unavailable(self._board)
        return self._opened().energy(self._board.uuid)

    def _energy(self, opening: _Opening, seconds: float, seen: Sampled | str) -> Energy:
        if self.gpu is None:
            return package_energy(seen)
        now, reason = known(self._joules)
        counted: float | str = reason or "the energy counter was not read at the start"
        if now is not None and opening.joules is not None:
            used = now - opening.joules
            counted = used if used > 0 else "the energy counter did not advance"
        return gpu_energy(
            seconds=seconds, counted=counted, sampled=seen, neighbours=self._neighbours(seen)
        )

    def _neighbours(self, seen: Sampled | str) -> frozenset[int]:
        return frozenset() if isinstance(self._board, str) else neighbours(seen, self._board)

    def _why_no_gpu(self, board: str) -> str:
        """On the CPU the machine may have no GPU at all, which says more."""
        if self.gpu is not None:
            return board
        _, reason = known(self._opened)
        return reason or board

    def _metrics(self, name: str, phase: _Phase) -> list[Metric]:
        sources = phase.sources
        found = [_bytes("peak_memory_process", name, sources["host"], n=1)]
        if self.gpu is not None:
            found += [
                _bytes(f"peak_memory_{kind}", name, sources[kind])
                for kind in ("allocated", "reserved")
            ]
        found.append(_bytes("peak_memory_gpu_process", name, sources["gpu_process"]))
        return [*found, self._overhead(name, phase.sampled)]

    def _overhead(self, name: str, sampled: Sampled | str) -> Metric:
        """The share of the stage's cores that watching it took."""
        value, reason = None, None
        if isinstance(sampled, str):
            reason = sampled
        else:
            value = sampled.cpu_seconds / (sampled.seconds * self.cores)
            if sampled.with_start:
                reason = "with the start of the sampler, which fell into this phase"
        return Metric(
            metric="monitor_overhead",
            value=value,
            unit="fraction",
            better="lower",
            phase=name,
            grade="unmeasured" if value is None else "exact",
            reason=reason,
        )

    def _phase_facts(self, phase: _Phase) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "seconds": phase.seconds,
            "sources": {name: asdict(peak) for name, peak in phase.sources.items()},
            "violations": phase.violations,
            "neighbours": sorted(phase.neighbours),
            "energy": asdict(phase.energy),
        }
        if isinstance(phase.sampled, str):
            return {**facts, "sampling": {"reason": phase.sampled}}
        if self.gpu is not None:
            facts["gpu_state"] = gpu_state(phase.sampled)
        return {**facts, "sampling": self._sampling_facts(phase.sampled)}

    def _sampling_facts(self, sampled: Sampled) -> dict[str, Any]:
        return {
            "samples": sampled.samples,
            "hz": sampled.hz,
            "longest_gap_ms": sampled.longest_gap * 1000,
            "cpu_seconds": sampled.cpu_seconds,
            "cores": self.cores,
            "with_start": sampled.with_start,
            "device_total": sampled.peaks.get("device"),
            "missing": sampled.missing,
        }


def _board_facts(board: Board) -> dict[str, Any]:
    return {
        "uuid": board.uuid,
        "pid": board.process.pid,
        "pid_reason": board.process.reason,
        "used_before": board.used_before,
        "context": board.context,
        "neighbours": sorted(board.neighbours or ()),
    }


def _bytes(name: str, phase: str, peak: Peak, n: int | None = None) -> Metric:
    return Metric(
        metric=name,
        value=peak.value,
        unit="bytes",
        better="lower",
        phase=phase,
        grade=peak.grade,
        reason=peak.reason,
        n=n,
    )
