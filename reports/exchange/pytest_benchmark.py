"""The JSON that pytest-benchmark writes, for what reads it: its `compare`, and other tools.

A training is a benchmark. Its rounds are its runs, each a process: the seconds a step took.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean, median, stdev
from typing import Any

import numpy as np

from reports.comparison import MEMORIES
from reports.exchange.shown import SPEED, STEP, Shown, by_place
from reports.gate.baseline import Measured
from reports.record import TRAININGS, Record

VERSION = "5.1.0"
"""Of the pytest-benchmark whose format this is."""
FENCE = 1.5
"""So many interquartile ranges from the quartiles begins what it calls an outlier."""


def pytest_benchmark(shown: Shown) -> str:
    """One benchmark for every training, its labels and peak memory beside it."""
    benchmarks = list(_benchmarks(shown))
    if not benchmarks:
        return ""
    records = [record for _, record in shown.records() if record.kind in TRAININGS]
    content = {
        "machine_info": _machine(records[0]),
        "commit_info": _commit(records),
        "benchmarks": benchmarks,
        "datetime": max(str(record.observed.get("started", "")) for record in records),
        "version": VERSION,
    }
    return json.dumps(content, indent=4) + "\n"


def _benchmarks(shown: Shown) -> Iterator[dict[str, Any]]:
    for place, metrics in by_place(shown.measured()).items():
        timed = metrics.get(STEP) or metrics.get(SPEED)
        if timed is None:
            continue
        line = timed.line
        labelled = line.model_copy(update={"stage": "", "metric": ""})
        name = f"{line.stage}[{labelled.name}]"
        labels = line.model_dump(exclude={"stage", "metric"}, exclude_defaults=True)
        values = [run.value for run in timed.runs]
        is_step = line.metric == STEP
        yield {
            "group": line.stage,
            "name": name,
            "fullname": f"{shown.suite}::{name}",
            "params": labels,
            "param": place,
            "extra_info": {
                **labels,
                "seconds_per": "step" if is_step else "sample",
                **_peaks(metrics),
            },
            "options": {
                "disable_gc": False,
                "timer": "perf_counter",
                "min_rounds": len(values),
                "max_time": 0.0,
                "min_time": 0.0,
                "warmup": True,
            },
            "stats": _stats(values if is_step else [1 / value for value in values]),
        }


def _peaks(metrics: Mapping[str, Measured]) -> dict[str, float]:
    """Mean over the runs, in bytes."""
    return {
        name: fmean(run.value for run in metrics[name].runs) for name in MEMORIES if name in metrics
    }


def _stats(seconds: Sequence[float]) -> dict[str, Any]:
    """As pytest-benchmark reckons them; its quartiles are Hazen's."""
    q1, q3 = (float(each) for each in np.quantile(seconds, (0.25, 0.75), method="hazen"))
    mean, spread = fmean(seconds), stdev(seconds) if len(seconds) > 1 else 0.0
    fences = (q1 - FENCE * (q3 - q1), q3 + FENCE * (q3 - q1))
    within = [value for value in seconds if fences[0] <= value <= fences[1]]
    far = sum(abs(value - mean) > spread for value in seconds)
    beyond = len(seconds) - len(within)
    return {
        "min": min(seconds),
        "max": max(seconds),
        "mean": mean,
        "stddev": spread,
        "rounds": len(seconds),
        "median": median(seconds),
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": beyond,
        "stddev_outliers": far,
        "outliers": f"{far};{beyond}",
        "ld15iqr": min(within),
        "hd15iqr": max(within),
        "ops": 1 / mean,
        "total": sum(seconds),
        "data": list(seconds),
        "iterations": 1,
    }


def _machine(record: Record) -> dict[str, Any]:
    """Of what pytest-benchmark says of a machine, what a record knows; its name is not in it."""
    described = record.environment.get("machine") or {}
    system, _, architecture = str(described.get("system", "")).partition(" ")
    return {
        "node": record.machine,
        "processor": described.get("processor", ""),
        "machine": architecture,
        "python_version": record.environment.get("python", ""),
        "system": system,
        "cpu": {"brand_raw": described.get("processor", ""), "count": described.get("cores")},
        "gpus": [gpu.get("name") for gpu in described.get("gpus", ())],
    }


def _commit(records: Sequence[Record]) -> dict[str, Any]:
    """Of all records if one made them."""
    commits = {str(record.environment.get("commit") or "") for record in records}
    return {
        "id": (commits.pop() if len(commits) == 1 else "") or "unknown",
        "time": None,
        "author_time": None,
        "dirty": any(bool(record.environment.get("dirty")) for record in records),
        "project": "offsite-bench",
        "branch": "(unknown)",
    }
