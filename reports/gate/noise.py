"""How far a machine differs from itself: the same code against the same code.

Runs of one session say how noisy it is; the means of several sessions, how far it drifts from one
day to another.
"""

from __future__ import annotations

import json
import math
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from reports.gate.kept import read_kept
from reports.gate.lines import CLOSED, Line, Positive
from reports.statistics.intervals import Part, reach
from reports.statistics.losses import of_pairs, trimmed

FEWEST_SESSIONS = 3
"""With fewer, nothing is known of the drift."""
SURE = 0.005
DAY = len("2026-01-31")
"""Of the time of a session."""


class Values(BaseModel):
    """The runs of one line in one session, in the order they were made."""

    model_config = CLOSED

    line: Line
    setup: str
    """Which way it was measured: `Measured.measured_how`."""
    values: tuple[Positive, ...]


class Session(BaseModel):
    """What was run in one go."""

    model_config = CLOSED

    started: str
    commit: str
    lines: tuple[Values, ...]


class Noise(BaseModel):
    """All sessions of one machine."""

    model_config = CLOSED

    version: Literal[2] = Field(default=2, alias="schema")
    machine: str
    sessions: tuple[Session, ...] = ()

    def with_sessions(self, sessions: Iterable[Session]) -> Noise:
        """The same and those of these sessions that are not among them."""
        known = {each.started: each for each in (*self.sessions, *sessions)}
        return self.model_copy(update={"sessions": tuple(known.values())})

    def of_lines(self, known: Container[tuple[Line, str]]) -> Noise:
        """What is known of some lines, each with its setup."""
        sessions = []
        for session in self.sessions:
            lines = tuple(each for each in session.lines if (each.line, each.setup) in known)
            sessions += [session.model_copy(update={"lines": lines})] if lines else []
        return self.model_copy(update={"sessions": tuple(sessions)})

    def drift(self, line: Line, setup: str) -> Part | None:
        """Variance of a difference between two days; None if unknown.

        Twice what the logarithms of the days' means vary: sessions of one day are one, for minutes
        later nothing has drifted yet. What the spread of their runs makes them vary is not taken
        off: of a few sessions nothing would be left too often, and a machine that drifts by 1 % was
        then said not to drift in three of ten lines.
        """
        days: dict[str, list[float]] = {}
        for day, logs in self._logs(line, setup):
            if len(logs) > 1:
                days.setdefault(day, []).append(trimmed(logs).mean)
        means = [fmean(found) for found in days.values()]
        if len(means) < FEWEST_SESSIONS:
            return None
        return Part(2 * float(np.var(means, ddof=1)), len(means) - 1)

    def count(self, line: Line, setup: str) -> int:
        """Sessions in which it was run."""
        return len(self._logs(line, setup))

    def within(self, line: Line, setup: str) -> float | None:
        """Standard deviation of a run within a session, as a share of its mean."""
        found = (logs for _, logs in self._logs(line, setup))
        spreads = [float(np.var(logs, ddof=1)) for logs in found if len(logs) > 1]
        return math.sqrt(sum(spreads) / len(spreads)) if spreads else None

    def offset(self, line: Line, setup: str) -> float:
        """A difference that two runs in turn may have though nothing differs; 0 if unknown.

        Runs of equal place in the turn are compared: first with second, fourth with third.
        """
        pairs = [pair for _, logs in self._logs(line, setup) for pair in _in_turn(logs)]
        if len(pairs) < 2:
            return 0.0
        found = of_pairs([(math.exp(a), math.exp(b)) for a, b in pairs], "lower")
        doubt = reach(found.parts, SURE)
        return abs(found.mean) + doubt if abs(found.mean) > doubt else 0.0

    def _logs(self, line: Line, setup: str) -> list[tuple[str, list[float]]]:
        """The day of every session with the line, and the logarithms of its runs."""
        return [
            (session.started[:DAY], [math.log(value) for value in each.values])
            for session in self.sessions
            for each in session.lines
            if (each.line, each.setup) == (line, setup)
        ]

    def to_bytes(self) -> bytes:
        """A JSON file."""
        body = self.model_dump(mode="json", by_alias=True)
        return json.dumps(body, sort_keys=True, indent=1).encode() + b"\n"


def read_noise(path: Path, machine: str) -> Noise:
    """What is known of a machine; nothing if there is no file.

    Raises:
        ReportError: the file is none of ours.
    """
    try:
        return read_kept(path, Noise, "noise model")
    except FileNotFoundError:
        return Noise(machine=machine)


def _in_turn(logs: Sequence[float]) -> list[tuple[float, float]]:
    """Pairs of neighbours, every second one the other way round."""
    pairs = zip(logs[::2], logs[1::2], strict=False)
    return [(b, a) if turn % 2 else (a, b) for turn, (a, b) in enumerate(pairs)]
