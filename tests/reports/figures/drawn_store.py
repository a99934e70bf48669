"""A store with all that pictures are drawn from: many rows, costs, sizes, losses and samples."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping

from reports.blobs import Kept, kept
from reports.comparison import Compared, compared
from reports.record import Metric
from reports.results import frame, read_plan, read_stages
from tests.reports.synthetic_store import (
    MIB,
    SyntheticStore,
    accuracy,
    disclosed,
    perplexity,
    training,
)

Row = tuple[str, str, str]
"""Layout, compression and tuning."""


def read(store: SyntheticStore) -> tuple[Compared, Kept]:
    """What pictures are drawn from."""
    runs = read_stages(store.root, read_plan(store.save_plan()))
    return compared(frame(runs, with_not_run=True)), kept(store.root, runs, store.machine)


def save_blob(store: SyntheticStore, content: bytes) -> str:
    """Put a file where the store keeps it; returns its hash."""
    name = hashlib.sha256(content).hexdigest()
    path = store.root / "blobs" / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return name


def json_lines(rows: Iterable[Mapping[str, object]]) -> bytes:
    """As stages write their per-step files."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def losses(start: float, steps: int) -> list[float]:
    """A loss that falls, with a little noise that repeats."""
    return [start * (0.6 + 0.4 * math.exp(-4 * i / steps)) + 0.02 * (i % 3) for i in range(steps)]


def samples(phases: Mapping[str, tuple[float, float]]) -> list[dict[str, object]]:
    """Memory that rises in every phase from nothing to its peak: seconds and MiB by phase."""
    return [
        {"phase": phase, "t": seconds * i / 20, "rss": peak * MIB * i / 20, "gpu_process": None}
        for phase, (seconds, peak) in phases.items()
        for i in range(1, 21)
    ]


def fill_drawn(
    store: SyntheticStore,
    rows: Iterable[Row],
    *,
    model: str = "m",
    task: str = "t",
    metric: str = "perplexity",
    seeds: int = 3,
    steps: int = 40,
) -> None:
    """One model and task: every row worse than the one before, in quality and in what it keeps."""
    whole = {"model": model, "task": task}
    _score(store, metric, 0, setting="full_zero_shot", **whole)
    for seed in range(seeds):
        tuned = {**whole, "tuning": "full", "seed": seed}
        _train(store, "finetune", 0, steps, setting="full_finetuned", **tuned)
        _score(store, metric, -4, setting="full_finetuned", **tuned)
    emulators: set[tuple[str, str]] = set()
    for number, (layout, compression, tuning) in enumerate(rows, start=1):
        cut = {"model": model, "layout": layout, "compression": compression}
        if (layout, compression) not in emulators:
            emulators.add((layout, compression))
            _emulator(store, metric, number, cut, task)
        for seed in range(seeds):
            tuned = {**cut, "task": task, "tuning": tuning, "seed": seed}
            _train(store, "tune", number, steps, setting="emulator_finetuned", **tuned)
            _score(store, metric, number, setting="emulator_finetuned", **tuned)
            _score(store, metric, number - 3, setting="plug_in", **tuned)


def _score(store, metric, badness, **labels):
    wobble = 0.2 * (labels.get("seed", 1) - 1)
    found = (
        perplexity(40.0 * 1.05**badness + wobble)[0]
        if metric == "perplexity"
        else accuracy(metric, 0.7 - 0.02 * badness + wobble / 100, 0.01)
    )
    digest = store.plan("evaluate", **labels)
    blob = save_blob(store, json_lines(samples({"load": (1.0, 300.0), "evaluate": (3.0, 400.0)})))
    store.save(store.record(digest, "evaluate", found, blobs={"memory.jsonl": blob}))


def _emulator(store, metric, number, cut, task):
    digest = store.plan("emulator", **cut)
    blob = save_blob(store, json_lines(samples({"load": (1.0, 300.0), "build": (2.0, 500.0)})))
    seconds = Metric(metric="build_seconds", value=2.0, unit="s", better="lower", phase="build")
    store.save(store.record(digest, "emulator", seconds, blobs={"memory.jsonl": blob}))
    digest = store.plan("disclose", **cut)
    size = 16.0 / number
    store.save(store.record(digest, "disclose", *disclosed(0.5, size, size)))
    _score(store, metric, number + 8, setting="emulator_zero_shot", task=task, **cut)


def _train(store, kind, number, steps, **labels):
    digest = store.plan(kind, **labels)
    cost = training(
        "throughput_tokens_real",
        4000.0 + 300 * number + labels["seed"],
        1000 - 20.0 * number,
        500_000,
    )
    rows = [{"step": i, "loss": loss} for i, loss in enumerate(losses(5 + number / 10, steps), 1)]
    phases = {"load": (1.0, 300.0), "train": (10.0, 1000 - 20.0 * number)}
    blobs = {
        "steps.jsonl": save_blob(store, json_lines(rows)),
        "memory.jsonl": save_blob(store, json_lines(samples(phases))),
    }
    facts = {"selection_loss": {str(steps // 2): 4.0 + number / 10, str(steps): 3.5 + number / 10}}
    store.save(store.record(digest, kind, *cost, blobs=blobs, facts=facts))


def many_rows(count: int, *, long: bool = False) -> list[Row]:
    """Rows that differ in compression and tuning."""
    tail = "+distill(corpus=pydoc_topics, learning_rate=0.001, steps=200)" if long else ""
    tunings = ("full", "lora(rank=4)", "bitfit")
    return [
        (f"2-{8 - i // 3}-2", f"layer_drop(keep={8 - i // 3}){tail}", tunings[i % 3])
        for i in range(count)
    ]
