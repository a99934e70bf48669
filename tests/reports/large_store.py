"""A large store: as many models, tasks, compressions, tunings and seeds as a test asks for.

Stages of `fill_large`: every case has a tuning and two evaluations; every (model, task, seed) a
full fine-tuning and its evaluation; every (model, task) a zero-shot evaluation; every (model,
compression) an emulator, its disclosure and a zero-shot evaluation a task. Two tasks of three are
scored by accuracy (`acc` and `acc_norm`, with items), the third by perplexity.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path

import numpy as np

from reports.items import pack_items
from reports.record import Metric, Record
from tests.reports.synthetic_store import (
    SyntheticStore,
    disclosed,
    perplexity,
    training,
    with_chance,
)

ITEMS = 400
QUALITY = {
    "full_zero_shot": 0.45,
    "emulator_zero_shot": 0.32,
    "full_finetuned": 0.68,
    "emulator_finetuned": 0.50,
    "plug_in": 0.60,
}
"""Share of right answers by setting, before what model, compression, tuning and seed change."""
DATA = {"evaluate": "items.jsonl", "tune": "steps.jsonl", "finetune": "steps.jsonl"}


def fill_large(
    store: SyntheticStore, *, models: int, tasks: int, compressions: int, tunings: int, seeds: int
) -> Path:
    """Write the whole product, the same bytes every time; returns the path of its plan."""
    cases = [
        _Case(model, task, compression, tuning, seed)
        for model in range(models)
        for task in range(tasks)
        for compression in range(compressions)
        for tuning in range(tunings)
        for seed in range(seeds)
    ]
    filled = _Filled(store)
    for case in cases:
        filled.add(case)
    return _save_plan(store, [case.name for case in cases])


class _Case:
    """The labels of one case."""

    def __init__(self, model: int, task: int, compression: int, tuning: int, seed: int) -> None:
        keep = 2 + 2 * compression
        self.strength = 0.03 * model + 0.008 * compression + 0.002 * tuning
        self.is_accuracy = task % 3 != 2
        self.whole = {"model": f"model-{model}", "task": f"task_{task}"}
        self.emulator = {
            "model": f"model-{model}",
            "layout": f"2-{keep}-2",
            "compression": f"layer_drop(keep={keep})",
        }
        self.tuned = {"tuning": "full" if tuning == 0 else f"lora(rank={2**tuning})", "seed": seed}
        self.seed = seed
        parts = (self.whole["model"], "2+2", self.emulator["compression"], self.tuned["tuning"])
        self.name = "/".join((*parts, self.whole["task"], f"s{seed}"))


class _Filled:
    """Writes each stage once, however many cases share it."""

    def __init__(self, store: SyntheticStore) -> None:
        self.store = store
        self.done: set[str] = set()

    def add(self, case: _Case) -> None:
        """The stages of one case."""
        full = {"tuning": "full", "seed": case.seed, "setting": "full_finetuned"}
        tuned = {"case": case.name, **case.whole, **case.emulator, **case.tuned}
        self._stage("evaluate", case, setting="full_zero_shot", **case.whole)
        self._stage("finetune", case, **case.whole, **full)
        self._stage("evaluate", case, **case.whole, **full)
        self._stage("emulator", case, **case.emulator)
        self._stage("disclose", case, **case.emulator)
        zero_shot = {**case.whole, **case.emulator}
        self._stage("evaluate", case, setting="emulator_zero_shot", **zero_shot)
        self._stage("tune", case, setting="emulator_finetuned", **tuned)
        self._stage("evaluate", case, setting="emulator_finetuned", **tuned)
        self._stage("evaluate", case, setting="plug_in", **tuned)

    def _stage(self, kind: str, of: _Case, /, **labels: object) -> None:
        name = json.dumps([kind, labels], sort_keys=True)
        if name in self.done:
            return
        self.done.add(name)
        digest = self.store.plan(kind, **labels)
        data = {DATA[kind]: digest[::-1]} if kind in DATA else {}
        params = {"train": {"learning_rate": 0.001, "max_steps": 60}} if labels.get("seed") else {}
        metrics = self._metrics(kind, of, labels, digest)
        record = self.store.record(digest, kind, *metrics, blobs=data, params=params)
        self.store.save(record)
        self._log(record)

    def _metrics(
        self, kind: str, case: _Case, labels: dict[str, object], digest: str
    ) -> tuple[Metric, ...]:
        seed = case.seed
        if kind == "finetune":
            return training("throughput_tokens_real", 4000.0 + 10 * seed, 1000.0, 1_327_104)
        if kind == "tune":
            return training("throughput_tokens_real", 8000.0 + 20 * seed, 800.0, 442_368)
        if kind == "disclose":
            return disclosed(0.5, 4.0, 3.0)
        if kind == "emulator":
            return (Metric(metric="emulator_parameters", value=1000.0, unit="1", better="lower"),)
        share = QUALITY[str(labels["setting"])] + case.strength * ("compression" in labels)
        rng = np.random.default_rng(int(digest[:12], 16))
        if not case.is_accuracy:
            score = 100.0 * (1.0 - share) + rng.normal(0.0, 0.3)
            return with_chance(perplexity(float(score)), 1024.0)
        task = str(labels["task"])
        shared = tuple(_scored(name, task, share, rng) for name in ("acc", "acc_norm"))
        return with_chance(shared, 0.25)

    def _log(self, record: Record) -> None:
        path = self.store.root / "attempts" / record.digest / f"{record.digest[:32]}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{record.kind} took 1.2 s\n")


@cache
def _items(task: str) -> tuple[np.ndarray, list[str]]:
    """How hard each item of a task is, and the hashes of the items."""
    hard = np.random.default_rng(int(task.removeprefix("task_"))).random(ITEMS)
    return hard, [hashlib.sha256(f"{value:.17g}".encode()).hexdigest() for value in hard]


def _scored(name: str, task: str, share: float, rng: np.random.Generator) -> Metric:
    """An accuracy over the task's items, the easy ones right more often."""
    hard, documents = _items(task)
    right = (0.6 * hard + 0.4 * rng.random(ITEMS) < share).astype(float)
    return Metric(
        metric=name,
        value=float(right.mean()),
        unit="fraction",
        better="higher",
        stderr=float(right.std() / np.sqrt(ITEMS)),
        n=ITEMS,
        phase="evaluate",
        items=pack_items(documents, right.tolist()),
    )


def _save_plan(store: SyntheticStore, names: list[str]) -> Path:
    """The plan of these cases and all stages planned so far, under the hash of its bytes."""
    cases = [{"name": name} for name in names]
    plan = {
        "schema": 1,
        "suite": store.suite,
        "profile": store.profile,
        "cases": cases,
        "stages": store.stages,
    }
    content = json.dumps(plan).encode()
    path = store.root / "plans" / f"{hashlib.sha256(content).hexdigest()}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
