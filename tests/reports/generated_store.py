"""Stores drawn at random: other metrics, seeds, failures, items and magnitudes every time."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

from reports.items import pack_items
from reports.record import Metric
from tests.reports.synthetic_store import MIB, SyntheticStore, disclosed

OUTCOMES = ("oom_gpu", "timeout", "crashed", "skipped")
SETTINGS = ("emulator_finetuned", "plug_in")


def fill_generated(store: SyntheticStore, number: int) -> Path:
    """Two models on two tasks, all else drawn from `number`; returns the plan's path."""
    draw = random.Random(number)
    for model in ("m_1", "org/m-2"):
        for task in ("choices", "loss"):
            _Drawn(store, draw, {"model": model, "task": task}).fill()
    return store.save_plan()


class _Drawn:
    """One model on one task."""

    def __init__(self, store: SyntheticStore, draw: random.Random, labels: dict[str, str]) -> None:
        self.store, self.draw, self.labels = store, draw, labels
        self.is_rate = labels["task"] == "choices"
        self.items = draw.choice((0, 7, 60))
        self.size = 10 ** draw.uniform(-3, 9)
        """Of perplexities and costs: from far below one to billions."""
        self.seeds = range(draw.randint(1, 4))

    def fill(self) -> None:
        """Every setting, with here and there one that failed or never ran."""
        self._stage("evaluate", setting="full_zero_shot", **self.labels)
        for seed in self.seeds:
            whole = {**self.labels, "tuning": "full", "seed": seed, "setting": "full_finetuned"}
            self._stage("finetune", **whole)
            self._stage("evaluate", **whole)
        for row in range(self.draw.randint(1, 5)):
            self._row(f"c{row}")

    def _row(self, compression: str) -> None:
        cut = {"model": self.labels["model"], "layout": "1-2-1", "compression": compression}
        for kind in ("emulator", "disclose"):
            if not any(s["kind"] == kind and s["labels"] == cut for s in self.store.stages):
                self._stage(kind, **cut)
        whole = {**self.labels, **cut}
        self._stage("evaluate", setting="emulator_zero_shot", **whole)
        for seed in self.seeds:
            tuned = {**whole, "tuning": "full", "seed": seed}
            self._stage("tune", setting="emulator_finetuned", **tuned)
            for setting in SETTINGS:
                self._stage("evaluate", setting=setting, **tuned)

    def _stage(self, kind: str, **labels: object) -> None:
        digest = self.store.plan(kind, **labels)
        chance = self.draw.random()
        if chance < 0.05:
            return
        if chance < 0.15:
            outcome = self.draw.choice(OUTCOMES)
            record = self.store.record(digest, kind, outcome=outcome, reason=f"why_{chance:.3f}")
            self.store.save_attempt(record)
            return
        made = {"evaluate": self._scored, "disclose": self._disclosed, "emulator": tuple}
        metrics = made.get(kind, self._cost)()
        self.store.save(self.store.record(digest, kind, *metrics))

    def _scored(self) -> tuple[Metric, ...]:
        if not self.is_rate:
            value = self.size * self.draw.uniform(0.5, 2)
            return (
                Metric(metric="perplexity", value=value, unit="1", better="lower", n=self.items),
            )
        count = self.items or 9
        right = [float(self.draw.random() < 0.6) for _ in range(count)]
        documents = [hashlib.sha256(bytes([place])).hexdigest() for place in range(count)]
        acc = Metric(
            metric="acc",
            value=sum(right) / count,
            unit="fraction",
            better="higher",
            stderr=0.05,
            n=count,
            items=pack_items(documents, right) if self.items else None,
        )
        return acc, acc.model_copy(update={"metric": "acc_norm", "items": None})

    def _disclosed(self) -> tuple[Metric, ...]:
        return disclosed(self.draw.random(), self.draw.uniform(0.1, 9), self.draw.uniform(0.1, 9))

    def _cost(self) -> tuple[Metric, ...]:
        speed = self.size * self.draw.uniform(0.9, 1.1)
        memory = self.draw.uniform(1, 90_000) * MIB
        parameters = self.draw.randint(1, 10**10)
        return (
            Metric(
                metric="throughput_tokens_real",
                value=speed,
                unit="tokens/s",
                better="higher",
                phase="train",
            ),
            Metric(
                metric="peak_memory_process",
                value=memory,
                unit="bytes",
                better="lower",
                phase="train",
                grade="bounded",
                reason="drawn",
            ),
            Metric(metric="trainable_parameters", value=parameters, unit="1", better="lower"),
        )
