"""Energy of a phase: from the board's counter, else from its power; of the CPU without a GPU."""

from __future__ import annotations

from dataclasses import dataclass

from bench.measure.monitor import Sampled
from reports.record import Grade

PERIOD = 0.1
"""Seconds between updates of a board's counter and power, at the slowest."""
PERIODS = 20
"""Updates a phase must span: the first and the last are off by up to one each, 5 % of these."""
SHORTEST = PERIODS * PERIOD
"""Seconds a phase must take for its energy to be told."""
COVERED = 0.9
"""The share of a phase that readings of power must span to stand for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Joules of one phase, or why there are none."""

    joules: float | None
    grade: Grade
    reason: str | None


def gpu_energy(
    *,
    seconds: float,
    counted: float | str,
    sampled: Sampled | str,
    neighbours: frozenset[int],
) -> Energy:
    """Energy of the board a phase ran on.

    Args:
        seconds: how long the phase took.
        counted: joules by the board's counter, or why there are none.
        sampled: what the sampler saw, or why it saw nothing.
        neighbours: other processes that were on the board, which takes energy for them too.
    """
    if seconds < SHORTEST:
        return _none(
            f"the phase took {seconds:.2f} s; a board tells its energy every {PERIOD} s, "
            f"so {SHORTEST:.0f} s are needed"
        )
    others = f"of the whole board, with {names(neighbours)} on it" if neighbours else None
    if not isinstance(counted, str):
        return Energy(joules=counted, grade="device" if others else "exact", reason=others)
    if isinstance(sampled, str):
        return _none(f"{counted}; {sampled}")
    if sampled.power_seconds < COVERED * seconds:
        why = sampled.missing.get("power", f"power was read for {sampled.power_seconds:.2f} s only")
        return _none(f"{counted}; {why}")
    readings = sampled.counts["power"]
    how = f"{counted}; {readings} readings of power added up, which a board averages over time"
    return Energy(
        joules=sampled.power_joules,
        grade="device" if others else "bounded",
        reason="; ".join(filter(None, (how, others))),
    )


def package_energy(sampled: Sampled | str) -> Energy:
    """Energy of the CPU packages during a phase."""
    if isinstance(sampled, str):
        return _none(sampled)
    if sampled.package_joules is None:
        return _none(sampled.missing["package"])
    reason = "of the whole CPU package (RAPL), with all that ran on it; no memory, no fans"
    return Energy(joules=sampled.package_joules, grade="device", reason=reason)


def names(pids: frozenset[int]) -> str:
    """Processes as a reason names them."""
    listed = ", ".join(map(str, sorted(pids)))
    return f"process {listed}" if len(pids) == 1 else f"processes {listed}"


def _none(reason: str) -> Energy:
    return Energy(joules=None, grade="unmeasured", reason=reason)
