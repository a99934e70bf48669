"""What the sampler saw during one phase, boiled down to what is worth keeping.

The sampler imports this: no heavy imports here.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

POINTS = 300
"""How long the line of a phase may get; a long phase has fewer points a second."""


class Sample:
    """One look at everything: values by source, and reasons of the sources that failed."""

    __slots__ = ("missing", "pids", "values")

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        """rss, process and device in bytes; clock in MHz, temperature in degrees Celsius, power
        in watts, throttling as bits."""
        self.missing: dict[str, str] = {}
        self.pids: set[int] = set()
        """Processes on the GPU."""


class Line:
    """Memory over time, at most `POINTS` points of it: each the highest of its stretch."""

    __slots__ = ("_in_last", "_stretch", "points")

    def __init__(self) -> None:
        self.points: list[tuple[float, float | None, float | None]] = []
        """Seconds since the phase began, bytes of the process, bytes of it on the GPU."""
        self._stretch = 1
        self._in_last = 0

    def add(self, seconds: float, rss: float | None, process: float | None) -> None:
        """One more sample."""
        point = (seconds, rss, process)
        if self.points and self._in_last < self._stretch:
            self.points[-1] = _joined(self.points[-1], point)
            self._in_last += 1
            return
        if len(self.points) == POINTS:
            self.points = [_joined(*self.points[i : i + 2]) for i in range(0, POINTS, 2)]
            self._stretch *= 2
        self.points.append(point)
        self._in_last = 1


class Tally:
    """Peaks, rates and shares of one phase. Times are seconds of the system's monotonic clock."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.samples = 0
        self.peaks: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.missing: dict[str, str] = {}
        self.pids: set[int] = set()
        self.longest_gap = 0.0
        self.line = Line()
        self._last = began
        self._clocks: Counter[int] = Counter()
        self._throttled: Counter[int] = Counter()
        self._power = Power()

    def add(self, at: float, sample: Sample) -> None:
        """Take one sample in."""
        values = sample.values
        self.samples += 1
        self.longest_gap = max(self.longest_gap, at - self._last)
        self._last = at
        self.counts.update(values.keys())
        self.missing = {**sample.missing, **self.missing}
        self.pids |= sample.pids
        for source in ("rss", "process", "device", "temperature"):
            if source in values:
                self.peaks[source] = max(values[source], self.peaks.get(source, 0))
        self.line.add(at - self.began, values.get("rss"), values.get("process"))
        self._add_state(at, values)

    def _add_state(self, at: float, values: dict[str, float]) -> None:
        if "clock" in values:
            self._clocks[int(values["clock"])] += 1
        if "throttling" in values:
            bits = int(values["throttling"])
            self._throttled.update(1 << i for i in range(bits.bit_length()) if bits >> i & 1)
        if "power" in values:
            self._power.add(at, values["power"])

    def report(self, ended: float) -> dict[str, Any]:
        """All of it, as JSON. `ended` is when the phase did."""
        seconds = ended - self.began
        return {
            "seconds": seconds,
            "samples": self.samples,
            # The last sample is taken when the stage has told of the end.
            "hz": (self.samples - 1) / max(seconds, self._last - self.began),
            "longest_gap": min(self.longest_gap, seconds),
            "peaks": self.peaks,
            "counts": dict(self.counts),
            "missing": self.missing,
            "pids": sorted(self.pids),
            "clocks": sorted(self._clocks.items()),
            "throttled": sorted(self._throttled.items()),
            "power_joules": self._power.joules,
            "power_seconds": self._power.seconds,
            "line": self.line.points,
        }


class Power:
    """Energy by adding up power: the area of the trapezoids between readings."""

    __slots__ = ("_last", "joules", "seconds")

    def __init__(self) -> None:
        self.joules = 0.0
        self.seconds = 0.0
        """How long the readings cover."""
        self._last: tuple[float, float] | None = None

    def add(self, at: float, watts: float) -> None:
        """One more reading."""
        if self._last is not None:
            before, earlier = self._last
            self.joules += (watts + earlier) / 2 * (at - before)
            self.seconds += at - before
        self._last = (at, watts)


def _joined(
    first: tuple[float, float | None, float | None],
    second: tuple[float, float | None, float | None],
) -> tuple[float, float | None, float | None]:
    return first[0], _higher(first[1], second[1]), _higher(first[2], second[2])


def _higher(a: float | None, b: float | None) -> float | None:
    return max((value for value in (a, b) if value is not None), default=None)
