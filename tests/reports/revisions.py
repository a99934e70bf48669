"""Stores of one suite as two revisions would leave it, with differences that are known exactly.

One model on one multiple-choice task, one compression, two tunings, three seeds. A revision may
answer some items wrong that the first one has right, be slower, or lack rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from reports.items import pack_items
from reports.record import Metric
from tests.reports.synthetic_store import MACHINE, MIB, SyntheticStore

ITEMS = 400
SHARE = {
    "full_zero_shot": 0.45,
    "emulator_zero_shot": 0.30,
    "full_finetuned": 0.70,
    "emulator_finetuned": 0.50,
    "plug_in": 0.60,
}
MODEL = {"model": "owner-lm"}
EMULATOR = {**MODEL, "layout": "2-4-2", "compression": "layer_drop(keep=4)"}
TUNINGS = ("full", "lora(rank=4)")
FIRST = "a" * 40
SECOND = "b" * 40


@dataclass(frozen=True, kw_only=True)
class Revision:
    """What one revision leaves behind."""

    name: str = "first"
    """Enters every digest: another revision has others."""
    commit: str = FIRST
    suite: str = "pair"
    profile: str | None = None
    started: str = "2026-01-01T00:00:00Z"
    machine: str = MACHINE
    wrong: int = 0
    """Items that its plug-ins miss and the first one has right, in every seed."""
    speed: float = 1.0
    """Times the speed of the first one."""
    is_shuffled: bool = False
    """Whether it scores its items in another order."""
    items: int = ITEMS
    seeds: tuple[int, ...] = (0, 1, 2)
    tunings: tuple[str, ...] = TUNINGS
    failed: str = ""
    """A tuning whose training is out of memory."""
    train: Mapping[str, object] = field(default_factory=lambda: {"learning_rate": 0.001})
    steps: int = 60
    data: str = "d" * 64


def write_revision(root: Path, revision: Revision) -> Path:
    """Write plan and records below `root`, which may hold other revisions; returns the plan."""
    store = SyntheticStore(
        root, suite=revision.suite, profile=revision.profile, machine=revision.machine
    )
    writer = _Writer(store, revision)
    writer.evaluate("full_zero_shot", **MODEL)
    writer.save("emulator", (), **EMULATOR)
    writer.evaluate("emulator_zero_shot", **EMULATOR)
    for seed in revision.seeds:
        writer.train("finetune", seed, "full", **MODEL)
        writer.evaluate("full_finetuned", seed, tuning="full", **MODEL)
        for tuning in revision.tunings:
            writer.train("tune", seed, tuning, **EMULATOR)
            for setting in ("emulator_finetuned", "plug_in"):
                writer.evaluate(setting, seed, tuning=tuning, **EMULATOR)
    return store.save_plan()


class _Writer:
    def __init__(self, store: SyntheticStore, revision: Revision) -> None:
        self.store = store
        self.revision = revision

    def evaluate(self, setting: str, seed: int | None = None, **labels: str) -> None:
        if labels.get("tuning") == self.revision.failed and "layout" in labels:
            reason = "its input tune was oom_gpu"
            self.fail("evaluate", "skipped", reason, setting=setting, seed=seed, **labels)
            return
        wrong = self.revision.wrong if setting == "plug_in" else 0
        scored = _scored(self.revision, SHARE[setting], seed, wrong, labels.get("tuning", ""))
        self.save("evaluate", (scored,), setting=setting, task="choices", seed=seed, **labels)

    def train(self, kind: str, seed: int, tuning: str, **labels: str) -> None:
        setting = "full_finetuned" if kind == "finetune" else "emulator_finetuned"
        named = {"tuning": tuning, "seed": seed, "setting": setting, **labels}
        params = {"train": dict(self.revision.train), "seed": seed}
        if tuning == self.revision.failed and kind == "tune":
            self.fail(kind, "oom_gpu", "9.1 GiB of 8 GiB", params=params, **named)
            return
        speed = Metric(
            metric="throughput_tokens_real",
            value=(1000.0 + 7 * seed) * self.revision.speed,
            unit="tokens/s",
            better="higher",
            phase="train",
            grade="exact",
        )
        peak = Metric(
            metric="peak_memory_process",
            value=(800.0 + seed) * MIB,
            unit="bytes",
            better="lower",
            phase="train",
            grade="bounded",
            reason="resident set",
        )
        told = {"params": params, "facts": {"steps": self.revision.steps, "examples": 96}}
        self.save(kind, (speed, peak), told, task="choices", **named)

    def save(
        self,
        kind: str,
        metrics: tuple[Metric, ...],
        told: Mapping[str, object] | None = None,
        **labels: object,
    ) -> None:
        digest = self.store.plan(kind, revision=self.revision.name, **labels)
        self.store.save(self.store.record(digest, kind, *metrics, **(told or {}), **self._made()))

    def fail(
        self,
        kind: str,
        outcome: str,
        reason: str,
        params: Mapping[str, object] | None = None,
        **labels: object,
    ) -> None:
        labels = {"task": "choices", "revision": self.revision.name, **labels}
        digest = self.store.plan(kind, **labels)
        failed = {"outcome": outcome, "reason": reason, "params": params or {}, **self._made()}
        self.store.save_attempt(self.store.record(digest, kind, **failed))

    def _made(self) -> dict[str, object]:
        return {
            "inputs": {"data": self.revision.data},
            "environment": {
                "commit": self.revision.commit,
                "packages": {"torch": "2.11.0"},
                "machine": {"processor": "Test CPU", "cores": 2, "gpus": []},
            },
            "observed": {"started": self.revision.started, "seconds": 1.0},
        }


def _scored(revision: Revision, share: float, seed: int | None, wrong: int, tuning: str) -> Metric:
    """An accuracy by item; the first `wrong` right answers are turned into wrong ones."""
    rng = np.random.default_rng([7 if seed is None else seed, int(share * 100), len(tuning)])
    hard = np.random.default_rng(0).random(revision.items)
    right = (0.7 * hard + 0.3 * rng.random(revision.items) < share).astype(float)
    right[np.flatnonzero(right)[:wrong]] = 0.0
    names = [hashlib.sha256(f"{value:.17g}".encode()).hexdigest() for value in hard]
    if revision.is_shuffled:
        right, names = right[::-1], names[::-1]
    return Metric(
        metric="acc",
        value=float(right.mean()),
        unit="fraction",
        better="higher",
        stderr=float(right.std() / np.sqrt(revision.items)),
        n=revision.items,
        phase="evaluate",
        chance=0.25,
        items=pack_items(names, right.tolist()),
    )
