"""A small suite with everything that other tools are shown: runs, seeds, items, failures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reports.exchange.shown import Shown
from reports.items import pack_items
from reports.record import Metric
from reports.results import read_plan, read_stages
from tests.reports.synthetic_store import MIB, SyntheticStore, accuracy, perplexity

STEPS = (0.5, 0.4, 0.8)
"""Seconds of the three runs of the fine-tuning; a step has four samples."""
PEAKS = (100.0, 110.0, 120.0)
"""MiB of the same."""
RIGHT = (0.60, 0.64, 0.68)
"""Accuracy of three seeds."""
ITEMS = 100
TUNED = {"model": "m", "tuning": "full", "task": "t"}
FINETUNE = "m full t finetune"
FINETUNED = "m full t full_finetuned evaluate"


def timed(step: float, peak: float, *, with_step: bool = True) -> tuple[Metric, ...]:
    """What a training with four samples a step measures."""
    speed = 4 / step
    found = [
        Metric(metric="throughput_samples", value=speed, unit="samples/s", better="higher"),
        Metric(metric="throughput_tokens_real", value=9 * speed, unit="tokens/s", better="higher"),
        Metric(metric="step_time_median", value=step, unit="s", better="lower"),
        Metric(metric="peak_memory_process", value=peak * MIB, unit="bytes", better="lower"),
    ]
    return tuple(found if with_step else [found[0], found[3]])


def fill_left(store: SyntheticStore, *, slower: float = 1.0, with_step: bool = True) -> None:
    """Three runs of a fine-tuning, three evaluations, one perplexity, a failure and its like."""
    digest = store.plan("finetune", repeats=len(STEPS), seed=0, **TUNED)
    for repeat, (step, peak) in enumerate(zip(STEPS, PEAKS, strict=True)):
        metrics = timed(slower * step, peak, with_step=with_step)
        store.save(store.record(digest, "finetune", *metrics, repeat=repeat))
    for seed, value in enumerate(RIGHT):
        digest = store.plan("evaluate", setting="full_finetuned", seed=seed, **TUNED)
        right = np.arange(ITEMS) < round(value * ITEMS)
        items = pack_items([str(number) for number in range(ITEMS)], right.astype(float).tolist())
        metric = accuracy("acc", value, 0.05).model_copy(update={"items": items})
        store.save(store.record(digest, "evaluate", metric))
    digest = store.plan("evaluate", model="m", task="text", setting="full_zero_shot")
    store.save(store.record(digest, "evaluate", *perplexity(41.5)))


def fill_failures(store: SyntheticStore) -> None:
    """A stage that ran out of memory, one that was skipped for it, and one that never ran."""
    labels = {**TUNED, "layout": "2-4-2", "compression": "layer_drop(keep=4)", "seed": 0}
    digest = store.plan("tune", **labels)
    reason = "killed:\n9.1 \x1b[31mGiB <of> 8 & more"
    store.save_attempt(store.record(digest, "tune", outcome="oom_host", reason=reason))
    digest = store.plan("evaluate", setting="plug_in", **labels)
    skipped = {"outcome": "skipped", "reason": "its input tune was oom_host"}
    store.save_attempt(store.record(digest, "evaluate", **skipped))
    store.plan("disclose", model="m", layout="2-4-2", compression="layer_drop(keep=4)")


def shown(folder: Path, store: SyntheticStore, machine: str | None = None) -> Shown:
    """What was left in that folder."""
    plan = read_plan(store.save_plan())
    return Shown(suite="synthetic", runs=read_stages(folder, plan), machine=machine)
