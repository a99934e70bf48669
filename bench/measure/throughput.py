"""Throughput of a training run: counts and seconds of the same steps, after warm-up.

A count and its time live in one object, so a rate cannot mix two scopes. Steps are timed in
windows that wait for the device at both ends, not at every step. Warm-up is over when the
time per step no longer falls; that is detected, and said when it never happens.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from scipy.stats import linregress

from offsite.training import Batch
from reports.record import Metric

WINDOWS = 20
"""Into how many windows a run is cut: enough to see a trend, few enough to average jitter."""
STEADY = 0.05
"""A trend that changes the time per step by less than this share over the run is none."""


@dataclass(slots=True)
class Window:
    """One timed stretch."""

    steps: int = 0
    samples: int = 0
    tokens_real: int = 0
    tokens_padded: int = 0
    seconds: float = 0.0

    @property
    def step_time(self) -> float:
        """Seconds a step took on average."""
        return self.seconds / self.steps


@dataclass(frozen=True, slots=True)
class Step:
    """One step as the host saw it."""

    clock: float
    """When the host had queued it; where a device works behind, not when it was done."""
    samples: int
    tokens_real: int | None
    tokens_padded: int | None


@dataclass(slots=True)
class Stopwatch:
    """Counts and times the steps of a run; pass `on_step` to `offsite.training.train`."""

    steps: int
    """How many steps the run will have."""
    synchronize: Callable[[], None] = lambda: None
    """Waits for queued work; on a GPU `torch.cuda.synchronize`."""
    clock: Callable[[], float] = time.perf_counter
    windows: list[Window] = field(default_factory=list)
    steps_seen: list[Step] = field(default_factory=list)
    has_tokens: bool = True
    _current: Window = field(default_factory=Window)
    _since: float = 0.0
    _started: float = 0.0

    def start(self) -> None:
        """Begin the first window, once earlier work is done."""
        self.synchronize()
        self._since = self.clock()
        if not self.steps_seen:
            self._started = self._since

    def on_step(self, step: int, batch: Batch) -> None:
        """Count a finished step; close the window when it is full."""
        seen = Step(self.clock(), batch.samples, batch.tokens_real, batch.tokens_padded)
        self.steps_seen.append(seen)
        window = self._current
        window.steps += 1
        window.samples += batch.samples
        if batch.tokens_real is None or batch.tokens_padded is None:
            self.has_tokens = False
        else:
            window.tokens_real += batch.tokens_real
            window.tokens_padded += batch.tokens_padded
        if window.steps >= max(1, self.steps // WINDOWS) or step == self.steps:
            self._close()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the block out of every window."""
        if self._current.steps:
            self._close()
        yield
        self.start()

    def _close(self) -> None:
        self.synchronize()
        now = self.clock()
        self._current.seconds = now - self._since
        self.windows.append(self._current)
        self._current, self._since = Window(), now

    def metrics(self) -> list[Metric]:
        """Medians over the steady windows, each rate named by its denominator."""
        first, reason = steady_from(self.windows)
        steady = self.windows[first:]
        rates = [
            _metric(
                f"throughput_{counted}",
                median(getattr(w, counted) / w.seconds for w in steady),
                f"{counted.partition('_')[0]}/s",
                "higher",
                len(steady),
                reason,
            )
            for counted in self._counted
        ]
        middle = median(w.step_time for w in steady)
        return [*rates, _metric("step_time_median", middle, "s", "lower", len(steady), reason)]

    @property
    def _counted(self) -> tuple[str, ...]:
        tokens = ("tokens_real", "tokens_padded") if self.has_tokens else ()
        return ("samples", *tokens)

    def rows(self, losses: list[float]) -> Iterator[dict[str, Any]]:
        """One row a step: what it held, when it was queued, its loss if every step's is known."""
        known = losses if len(losses) == len(self.steps_seen) else [None] * len(self.steps_seen)
        for number, (step, loss) in enumerate(zip(self.steps_seen, known, strict=True), start=1):
            row = asdict(step)
            queued = row.pop("clock") - self._started
            yield {"step": number, "queued": queued, "loss": loss, **row}

    def facts(self) -> dict[str, Any]:
        """The windows themselves, and where steady state was found."""
        first, reason = steady_from(self.windows)
        seconds = sum(w.seconds for w in self.windows)
        return {
            "steady_from_window": first,
            "steady": reason or "yes",
            "end_to_end_seconds": seconds,
            "end_to_end": {
                f"throughput_{counted}": sum(getattr(w, counted) for w in self.windows) / seconds
                for counted in self._counted
            },
            "windows": [asdict(w) for w in self.windows],
        }


def steady_from(windows: list[Window]) -> tuple[int, str | None]:
    """The first window of the steady part, and why it is doubtful (None if it is not).

    The first window is always warm-up. Then windows are dropped from the front, at most half
    of them, until a straight line through the rest is flat.
    """
    if len(windows) < 4:
        return min(1, len(windows) - 1), f"only {len(windows)} windows: steady state not tested"
    for first in range(1, len(windows) // 2 + 1):
        if _is_flat([w.step_time for w in windows[first:]]):
            return first, None
    return len(windows) // 2, "not steady: the time per step kept changing"


def _is_flat(times: list[float]) -> bool:
    """Whether a line through the times rises or falls by less than noise or `STEADY`.

    A first window that is slower than every later one by more than that is still warm-up: a
    line through many windows hardly feels one of them.
    """
    if len(times) < 3:
        return True
    if times[0] - max(times[1:]) > STEADY * median(times):
        return False
    line = linregress(range(len(times)), times)
    change = abs(line.slope) * (len(times) - 1)
    return bool(change <= STEADY * median(times) or abs(line.slope) <= 2 * line.stderr)


def _metric(
    name: str,
    value: float,
    unit: str,
    better: Literal["higher", "lower"],
    windows: int,
    reason: str | None,
) -> Metric:
    return Metric(
        metric=name,
        value=value,
        unit=unit,
        better=better,
        n=windows,
        phase="train",
        grade="bounded" if reason else "exact",
        reason=reason,
    )
