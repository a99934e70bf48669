"""What the GPU did to its own clock during a phase: slow code is not a slow GPU."""

from __future__ import annotations

from typing import Any

from bench.measure.monitor import Sampled

THROTTLING = {
    0x1: "idle",
    0x2: "application_clocks",
    0x4: "power_cap",
    0x8: "hardware_slowdown",
    0x10: "sync_boost",
    0x20: "software_thermal",
    0x40: "hardware_thermal",
    0x80: "power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
"""nvml.h's bits for why the clock is not higher."""
SOURCES = ("clock", "temperature", "throttling")


def gpu_state(sampled: Sampled) -> dict[str, Any]:
    """Clock in MHz, temperature in degrees Celsius, throttling as shares of the samples.

    What the driver did not tell is under `missing`, with the reason.
    """
    state: dict[str, Any] = {"samples": sampled.counts.get("clock", 0)}
    if sampled.clocks:
        state["clock"] = {"median": _median(sampled.clocks), "lowest": sampled.clocks[0][0]}
    if "temperature" in sampled.peaks:
        state["temperature"] = sampled.peaks["temperature"]
    if "throttling" in sampled.counts:
        count = sampled.counts["throttling"]
        state["throttled"] = {
            THROTTLING.get(bit, f"bit {bit:#x}"): seen / count for bit, seen in sampled.throttled
        }
    state["missing"] = {name: sampled.missing[name] for name in SOURCES if name in sampled.missing}
    return state


def _median(counts: list[tuple[int, int]]) -> int:
    """The middle of values given with their counts, from the lowest."""
    left = sum(count for _, count in counts) / 2
    for value, count in counts:
        left -= count
        if left <= 0:
            return value
    raise AssertionError("no values")
