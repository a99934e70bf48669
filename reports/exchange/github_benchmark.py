"""A list for benchmark-action/github-action-benchmark, with `tool: customSmallerIsBetter`.

The action knows one direction a file. So speeds are shown as seconds, scores as errors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from reports.exchange.shown import SPEED, STEP, Shown, by_place, mean_of
from reports.gate.baseline import Measured
from reports.statistics.intervals import Estimate, estimate


def github_benchmark(shown: Shown) -> str:
    """One entry for every score, every speed and every peak."""
    entries = [
        _entry(place, each)
        for place, metrics in by_place(shown.measured()).items()
        for each in metrics.values()
        # It says the same as the samples, which need no batch size to be compared.
        if each.line.metric != STEP
    ]
    return json.dumps(entries, indent=2) + "\n" if entries else ""


def _entry(place: str, measured: Measured) -> dict[str, Any]:
    what, unit, found = _smaller_is_better(measured)
    entry = {"name": f"{place}: {what}", "unit": unit, "value": found.mean}
    if found.half_width is not None:
        # The action reads a sign and a number.
        entry["range"] = f"± {found.half_width:.6g}"
    return {**entry, "extra": "\n".join(_extra(measured, found))}


def _smaller_is_better(measured: Measured) -> tuple[str, str, Estimate]:
    """What it is then called, its unit and its mean."""
    metric, found = measured.line.metric, mean_of(measured)
    if metric == SPEED:
        return "time per sample", "s", estimate([1 / run.value for run in measured.runs])
    if measured.better == "higher":
        half = found.half_width
        return (
            f"error rate, {metric}",
            "%",
            Estimate(
                mean=100 * (1 - found.mean),
                half_width=None if half is None else 100 * half,
                n=found.n,
                items=found.items,
            ),
        )
    return metric, measured.unit, found


def _extra(measured: Measured, found: Estimate) -> Iterator[str]:
    yield f"runs: {len(measured.runs)}"
    seeds = {run.seed for run in measured.runs if run.seed is not None}
    if seeds:
        yield f"seeds: {len(seeds)}"
    if found.items is not None:
        yield f"items: {found.items}"
    if found.half_width is not None:
        yield "range: 95 % interval"
