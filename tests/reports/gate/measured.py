"""Baselines made by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from reports.gate.baseline import Baseline, Measured, Missing, Run
from reports.gate.lines import Line
from reports.items import pack_items
from reports.statistics.intervals import Items

SPEED = Line(model="m", tuning="full", task="t", stage="finetune", metric="throughput_samples")
MEMORY = Line(model="m", tuning="full", task="t", stage="finetune", metric="peak_memory_process")
PLUG_IN = Line(
    model="m",
    layout="2-4-2",
    compression="layer_drop(keep=4)",
    tuning="full",
    task="t",
    setting="plug_in",
    stage="evaluate",
    metric="acc",
)
PERPLEXITY = PLUG_IN.model_copy(update={"metric": "perplexity"})
SETUP = {"train": {"batch_size": 8}, "data": "sha256:d"}


def timed(
    values: Sequence[float],
    line: Line = SPEED,
    setup: Mapping[str, Any] = SETUP,
    *,
    clocks: Sequence[float | None] = (),
    canaries: Sequence[float | None] = (),
) -> Measured:
    """Runs of a speed or a memory, one repeat each; some know the clock or the canary."""
    return Measured(
        line=line,
        unit="samples/s",
        better="higher" if line.metric.startswith("throughput") else "lower",
        setup=dict(setup),
        runs=tuple(
            Run(seed=0, repeat=i, value=value, clock=clock, canary=canary)
            for i, (value, clock, canary) in enumerate(zip_longest(values, clocks, canaries))
        ),
    )


HOW = timed([1.0]).measured_how
"""Of all that is measured by hand."""


def answered(found: Items, line: Line = PLUG_IN, weights: str = "") -> Measured:
    """Right and wrong of several seeds, shape (seeds, items)."""
    documents = [str(number) for number in range(found.shape[1])]
    return Measured(
        line=line,
        unit="fraction",
        better="higher",
        setup=SETUP,
        runs=tuple(
            Run(
                seed=seed,
                value=float(np.mean(each)),
                items=pack_items(documents, list(each)),
                weights=weights and f"{weights}{seed}",
            )
            for seed, each in enumerate(found)
        ),
    )


def read(nats: Items, line: Line = PERPLEXITY) -> Measured:
    """A perplexity over blocks of one token each, shape (seeds, blocks)."""
    documents = [str(number) for number in range(nats.shape[1])]
    return Measured(
        line=line,
        unit="1",
        better="lower",
        setup=SETUP,
        runs=tuple(
            Run(
                seed=seed, value=float(np.exp(each.mean())), items=pack_items(documents, list(each))
            )
            for seed, each in enumerate(nats)
        ),
    )


def baseline(
    *measured: Measured, machine: str = "here", missing: Sequence[Missing] = ()
) -> Baseline:
    """All of a suite."""
    return Baseline(
        schema=2,
        suite="s",
        profile=None,
        commit="c0ffee",
        dirty=False,
        machine=machine,
        described={},
        measured=measured,
        missing=tuple(missing),
    )
