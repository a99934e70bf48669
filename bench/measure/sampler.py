"""`python -m bench.measure.sampler PID CORES`: watch a stage's memory from outside it.

Reads commands, one JSON object a line, and answers a phase's end with one line:

    {"gpu": {"uuid": "GPU-...", "pid": 17}}     watch this GPU too; pid may be null
    {"begin": 12.5}                              a phase begins, seconds of the monotonic clock
    {"end": 14.5}                                it ends; answered with what was seen

It waits between samples and never spins, it spaces them out where they would cost more than
its share, and it ends when its input does, which is when the stage ends. No torch, and next to
nothing else: the stage's first phase begins while this starts.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from bench.measure.rapl import Rapl
from bench.measure.tally import Sample, Tally
from bench.measure.unavailable import Unavailable

HOST_INTERVAL = 0.05
"""Seconds between samples of the host's memory alone."""
GPU_INTERVAL = 0.02
"""Seconds between samples where there is a GPU, whose memory peaks are shorter."""
LONGEST_INTERVAL = 0.1
"""However much a sample costs, there are ten a second: fewer would not tell the GPU's state."""
STATE_INTERVAL = 0.05
"""Seconds at least between looks at clock, power, temperature and throttling."""
PACKAGE_INTERVAL = 5.0
"""Seconds between looks at the CPU's energy counters, which wrap around."""
BUDGET = 0.003
"""The share of the stage's cores that sampling may take."""
ORPHAN_CHECK = 5.0
"""Seconds after which an idle sampler looks whether its stage is still there."""


class Probe:
    """Reads every source once."""

    def __init__(self, pid: int, open_nvml: Callable[[], Any], *, proc: str = "/proc") -> None:
        self._statm = f"{proc}/{pid}/statm"
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._open_nvml = open_nvml
        self._nvml: Any = None
        self._why_no_nvml: str | None = None
        self._uuid = ""
        self._ours: int | None = None

    @property
    def has_gpu(self) -> bool:
        """Whether there is a GPU to look at."""
        return bool(self._uuid)

    def watch(self, uuid: str, pid: int | None) -> None:
        """Look at this GPU too, where the driver calls the stage's process `pid`."""
        self._uuid, self._ours = uuid, pid
        try:
            self._nvml = self._open_nvml()
        except Unavailable as error:
            self._why_no_nvml = str(error)

    def sample(self, *, with_state: bool) -> Sample:
        """Memory; with the GPU's clock, power, temperature and throttling if asked."""
        sample = Sample()
        self._ask(sample, "rss", self._rss)
        if not self.has_gpu:
            return sample
        self._ask(sample, "process", lambda: self._process(sample.pids))
        self._ask(sample, "device", lambda: int(self._gpu().device_memory(self._uuid)))
        if with_state:
            for source in ("clock", "power", "temperature", "throttling"):
                self._ask(sample, source, partial(self._state, source))
        return sample

    def _ask(self, sample: Sample, source: str, read: Callable[[], float]) -> None:
        try:
            sample.values[source] = read()
        except Unavailable as error:
            sample.missing[source] = str(error)

    def _rss(self) -> float:
        try:
            with open(self._statm) as stream:
                return int(stream.read().split()[1]) * self._page
        except OSError as error:
            raise Unavailable(f"{self._statm} cannot be read: {error.strerror}") from None

    def _process(self, pids: set[int]) -> float:
        """Bytes of the stage's process; fills `pids` with all that are on the GPU."""
        processes = self._gpu().process_memory(self._uuid)
        pids.update(processes)
        if self._ours is None:
            raise Unavailable("which process on the GPU is this one is not known")
        if self._ours not in processes:
            raise Unavailable("the driver's list of processes does not show this one any more")
        held = processes[self._ours]
        if held is None:
            raise Unavailable("the driver does not tell a process's memory (as under WSL)")
        return int(held)

    def _state(self, source: str) -> float:
        return float(getattr(self._gpu(), source)(self._uuid))

    def _gpu(self) -> Any:  # noqa: ANN401 - importing its type costs more than starting
        if self._nvml is None:
            raise Unavailable(self._why_no_nvml)
        return self._nvml


class Sampler:
    """The process's work, one call at a time."""

    def __init__(
        self,
        probe: Probe,
        cores: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
        rapl: Rapl | None = None,
    ) -> None:
        self._probe = probe
        self._cores = cores
        self._clock = clock
        self._cpu = cpu
        self._rapl = rapl or Rapl()
        self._ready = clock()
        self._tally: Tally | None = None
        self._cpu_start = cpu()
        self._cpu_before = 0.0
        self._joules_before: float | None = None
        self._due = self._state_due = self._package_due = 0.0

    def obey(self, command: dict[str, Any]) -> dict[str, Any] | None:
        """Do what the stage asks; the answer to the end of a phase."""
        if "gpu" in command:
            self._probe.watch(**command["gpu"])
        elif "begin" in command:
            self._begin(command["begin"])
        elif "end" in command:
            return self._end(command["end"])
        return None

    def timeout(self) -> float:
        """Seconds until there is something to do, unless a command comes."""
        if self._tally is None:
            return ORPHAN_CHECK
        return max(0.0, self._due - self._clock())

    def tick(self) -> None:
        """Take a sample if one is due."""
        if self._tally is None or self._clock() < self._due:
            return
        self._look(self._tally)
        interval = self._interval(self._tally)
        # On a grid, so that the rate is kept; not one after the other to catch up.
        self._due = max(self._due + interval, self._clock() + interval / 2)

    def _begin(self, at: float) -> None:
        self._cpu_before = self._cpu()
        self._tally = Tally(at)
        self._due = self._state_due = self._clock()
        self._package_due = self._due + PACKAGE_INTERVAL
        self._joules_before = self._joules(self._tally.missing)
        self.tick()

    def _end(self, ended: float) -> dict[str, Any]:
        tally = self._tally
        assert tally is not None, "a phase ends that did not begin"
        # The stage waits for the answer, so this is still its state at the end.
        self._state_due = 0.0
        self._look(tally)
        joules = self._joules(tally.missing)
        self._tally = None
        # A phase that began before this process was ready paid for its start.
        with_start = tally.began < self._ready
        start = self._cpu_start if with_start else 0.0
        return {
            **tally.report(ended),
            "cpu_seconds": self._cpu() - self._cpu_before + start,
            "with_start": with_start,
            "package_joules": None
            if joules is None or self._joules_before is None
            else joules - self._joules_before,
        }

    def _look(self, tally: Tally) -> None:
        now = self._clock()
        with_state = self._probe.has_gpu and now >= self._state_due
        if with_state:
            self._state_due = now + STATE_INTERVAL
        if now >= self._package_due:
            self._package_due = now + PACKAGE_INTERVAL
            self._joules(tally.missing)
        tally.add(now, self._probe.sample(with_state=with_state))

    def _joules(self, missing: dict[str, str]) -> float | None:
        try:
            return self._rapl.joules()
        except Unavailable as error:
            missing["package"] = str(error)
            return None

    def _interval(self, tally: Tally) -> float:
        """Seconds to the next sample, so that sampling stays within its share of the cores."""
        shortest = GPU_INTERVAL if self._probe.has_gpu else HOST_INTERVAL
        cost = (self._cpu() - self._cpu_before) / tally.samples
        return max(shortest, min(LONGEST_INTERVAL, cost / (BUDGET * self._cores)))


def main(arguments: list[str]) -> None:
    """Serve the stage until it ends."""
    pid, cores = map(int, arguments)
    # Ctrl-C is the runner's to handle; this ends with the stage.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sampler = Sampler(Probe(pid, _open_nvml), cores)
    unread = b""
    while os.getppid() == pid:
        ready, _, _ = select.select([0], [], [], sampler.timeout())
        if ready:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, unread = (unread + read).split(b"\n")
            for line in lines:
                _answer(sampler.obey(json.loads(line)))
        sampler.tick()


def _answer(answer: dict[str, Any] | None) -> None:
    if answer is not None:
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _open_nvml() -> Any:  # noqa: ANN401 - importing its type costs more than starting
    from bench.measure.nvml import open_nvml

    return open_nvml()


if __name__ == "__main__":
    main(sys.argv[1:])
