"""The sampler's process, as the stage sees it.

The stage never depends on it: a sampler that ends, or does not answer, costs the numbers it
would have given, and `Unavailable` says so.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from bench.measure.unavailable import Unavailable

PATIENCE = 10.0
"""Seconds to wait for an answer, which takes milliseconds, on a machine that is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled:
    """What the sampler saw during one phase."""

    seconds: float
    samples: int
    hz: float
    """Samples a second, as achieved."""
    longest_gap: float
    """Seconds without a sample at the longest: a peak shorter than this may be missed."""
    cpu_seconds: float
    """What sampling took of the machine's cores."""
    with_start: bool
    """Whether that includes the start of the sampler."""
    peaks: dict[str, float]
    """Highest value by source: rss, process and device in bytes, temperature."""
    counts: dict[str, int]
    """Samples by source."""
    missing: dict[str, str]
    """Why a source gave nothing, at least once."""
    pids: list[int]
    """Processes that were on the GPU."""
    clocks: list[tuple[int, int]]
    """MHz and the samples that saw it, from the lowest."""
    throttled: list[tuple[int, int]]
    """NVML's throttle bit and the samples that saw it."""
    power_joules: float
    power_seconds: float
    """How much of the phase the readings of power cover."""
    package_joules: float | None
    """Energy of the CPU packages."""
    line: list[tuple[float, float | None, float | None]]
    """Seconds since the phase began, bytes of the process, bytes of it on the GPU."""


class Monitor(Protocol):
    """Watches a stage from outside it."""

    def watch(self, uuid: str, pid: int | None) -> None:
        """Look at this GPU too, where the driver calls the stage's process `pid`."""
        ...

    def begin(self, at: float) -> None:
        """A phase begins: seconds of the monotonic clock."""
        ...

    def end(self, at: float) -> Sampled:
        """It ends. Raises Unavailable where nothing is known of it."""
        ...

    def close(self) -> None:
        """No more phases."""
        ...


class NoMonitor:
    """Stands for a sampler that was not started."""

    def __init__(self, reason: str = "no sampler was started") -> None:
        self._reason = reason

    def watch(self, uuid: str, pid: int | None) -> None:
        """Nothing to tell."""

    def begin(self, at: float) -> None:
        """Nothing to tell."""

    def end(self, at: float) -> Sampled:
        """Raises Unavailable."""
        raise Unavailable(self._reason)

    def close(self) -> None:
        """Nothing to close."""


@dataclass(slots=True)
class SamplerProcess:
    """The real one: pipes to `bench.measure.sampler`."""

    process: subprocess.Popen[bytes]
    _unread: bytearray = field(default_factory=bytearray)
    _ended: str | None = None
    """Why there is no sampler any more."""

    def watch(self, uuid: str, pid: int | None) -> None:
        """Look at this GPU too, where the driver calls the stage's process `pid`."""
        self._tell({"gpu": {"uuid": uuid, "pid": pid}})

    def begin(self, at: float) -> None:
        """A phase begins: seconds of the monotonic clock."""
        self._tell({"begin": at})

    def end(self, at: float) -> Sampled:
        """It ends. Raises Unavailable where the sampler ended before."""
        self._tell({"end": at})
        return Sampled(**json.loads(self._answer()))

    def close(self) -> None:
        """End it: what it knew was told at the end of each phase."""
        # Not by closing its input, which a process that the stage forked may hold open.
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def _tell(self, command: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command).encode() + b"\n")
        except BrokenPipeError:
            self._ended = self._ended or "the sampler ended early"

    def _answer(self) -> bytes:
        """One line of the sampler's."""
        until = time.monotonic() + PATIENCE
        while self._ended is None and b"\n" not in self._unread:
            self._read(until - time.monotonic())
        if self._ended is not None:
            raise Unavailable(self._ended)
        line, _, rest = bytes(self._unread).partition(b"\n")
        self._unread[:] = rest
        return line

    def _read(self, seconds: float) -> None:
        assert self.process.stdout is not None
        descriptor = self.process.stdout.fileno()
        ready, _, _ = select.select([descriptor], [], [], max(0.0, seconds))
        read = os.read(descriptor, 65536) if ready else b""
        if not ready:
            self._ended = f"the sampler did not answer within {PATIENCE:.0f} s"
        elif not read:
            self._ended = "the sampler ended early"
        self._unread += read


def start_sampler(cores: int) -> Monitor:
    """Start to watch this process, which computes on `cores` cores; does not wait for it."""
    command = [
        sys.executable,
        # -P: a folder called bench in the working folder must not be taken for ours.
        "-P",
        "-m",
        "bench.measure.sampler",
        str(os.getpid()),
        str(cores),
    ]
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
    except OSError as error:
        return NoMonitor(f"the sampler does not start: {error.strerror}")
    return SamplerProcess(process)
