"""Bencher Metric Format, which `bencher run --adapter json` reads.

Of `throughput` and `accuracy` more is better, which needs a lower boundary; of all else less.
"""

from __future__ import annotations

import json

from reports.comparison import MEMORIES, QUALITY
from reports.exchange.shown import SPEED, STEP, Shown, by_place, mean_of
from reports.gate.baseline import Measured

MEASURES = {
    SPEED: "throughput",
    STEP: "step-time",
    **dict.fromkeys(MEMORIES, "peak-memory"),
    **{name: "perplexity" if "perplexity" in name else "accuracy" for name in QUALITY},
}
"""Samples a second, seconds, bytes, and scores as fractions or perplexities."""


def bencher(shown: Shown) -> str:
    """Every mean, with the ends of its 95 % interval where it has one."""
    found = {
        place: {MEASURES[name]: _metric(each) for name, each in metrics.items()}
        for place, metrics in by_place(shown.measured()).items()
    }
    return json.dumps(found, indent=2) + "\n" if found else ""


def _metric(measured: Measured) -> dict[str, float]:
    found = mean_of(measured)
    if found.half_width is None:
        return {"value": found.mean}
    return {
        "value": found.mean,
        "lower_value": found.mean - found.half_width,
        "upper_value": found.mean + found.half_width,
    }
