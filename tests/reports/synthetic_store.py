"""A result store as a run would leave it: two models, three tasks, three seeds, one failed stage.

Every number follows from the tables below, so that tests can state what a report must show.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from reports.record import Metric, Record, to_bytes

MACHINE = "cpu0aa11bb22"
MIB = 2**20
SEEDS = (0, 1, 2)
FAILED_SEED = 1
FAILURE = "process killed: 9.1 GiB of 8 GiB"

PERPLEXITY = {
    "full_zero_shot": 51.04,
    "full_finetuned": 29.10,
    ("emulator_zero_shot", "layer_drop(keep=4)"): 95.61,
    ("emulator_zero_shot", "layer_drop(keep=2)"): 165.22,
    ("emulator_finetuned", "layer_drop(keep=4)", "full"): 43.60,
    ("plug_in", "layer_drop(keep=4)", "full"): 40.90,
    ("emulator_finetuned", "layer_drop(keep=2)", "full"): 53.90,
    ("plug_in", "layer_drop(keep=2)", "full"): 44.30,
    ("emulator_finetuned", "layer_drop(keep=4)", "lora(rank=4)"): 47.10,
    ("plug_in", "layer_drop(keep=4)", "lora(rank=4)"): 52.30,
}
"""The last pair stands against the paper's order: the plug-in is worse than not tuning."""
TOP1 = {
    "full_zero_shot": 0.590,
    "full_finetuned": 0.880,
    ("emulator_zero_shot", "layer_drop(keep=4)"): 0.480,
    ("emulator_finetuned", "layer_drop(keep=4)", "full"): 0.610,
    ("plug_in", "layer_drop(keep=4)", "full"): 0.670,
}
LANGUAGE_ROWS = (
    ("2-4-2", "layer_drop(keep=4)", "full"),
    ("2-2-2", "layer_drop(keep=2)", "full"),
    ("2-4-2", "layer_drop(keep=4)", "lora(rank=4)"),
)
VISION_ROWS = (("1-4-1", "layer_drop(keep=4)", "full"),)


def by_seed(mean: float, seed: int | None, step: float) -> float:
    """One seed's value: `step` below, at and above the mean for seeds 0, 1, 2."""
    return mean if seed is None else mean + step * (seed - 1)


@dataclass
class SyntheticStore:
    """Writes plan, records and attempts under one folder."""

    root: Path
    suite: str = "synthetic"
    profile: str | None = None
    machine: str = MACHINE
    reason: str = FAILURE
    """What the failed stage says."""
    stages: list[dict[str, object]] = field(default_factory=list)

    def plan(self, kind: str, **labels: object) -> str:
        """Plan one stage; returns its digest."""
        name = json.dumps([kind, labels], sort_keys=True)
        digest = hashlib.sha256(name.encode()).hexdigest()
        self.stages.append({"digest": digest, "kind": kind, "labels": labels, "inputs": {}})
        return digest

    def record(self, digest: str, kind: str, *metrics: Metric, **fields: object) -> Record:
        """A record of this store's machine; `fields` replace what it would hold."""
        values: dict[str, object] = {
            "digest": digest,
            "machine": self.machine,
            "kind": kind,
            "version": 1,
            "params": {},
            "inputs": {},
            "outcome": "ok",
            "metrics": metrics,
            "environment": {
                "commit": "0123456789abcdef",
                "dirty": True,
                "machine": {"device": "cpu", "processor": "Test CPU", "cores": 2, "gpus": []},
                "packages": {"torch": "2.11.0", "transformers": "5.17.0"},
            },
            "observed": {"started": "2026-01-01T00:00:00Z", "seconds": 1.25},
        }
        return Record.model_validate(values | fields)

    def save(self, record: Record) -> Path:
        """Put a record where the store keeps it."""
        name = f"{record.digest}.{record.machine}.{record.repeat}.json"
        return self._write(self.root / "records" / record.digest[:2] / name, record)

    def save_attempt(self, record: Record, name: str = "1") -> Path:
        """Put a failed attempt where the store keeps it."""
        return self._write(self.root / "attempts" / record.digest / f"{name}.json", record)

    def save_plan(self) -> Path:
        """Write the plan file of every stage planned so far."""
        plan = {
            "schema": 1,
            "suite": self.suite,
            "profile": self.profile,
            "cases": [{"name": "one", "model": "tiny-lm"}],
            "stages": self.stages,
        }
        content = json.dumps(plan).encode()
        path = self.root / "plans" / f"{hashlib.sha256(content).hexdigest()}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def _write(self, path: Path, record: Record) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_bytes(record))
        return path


def perplexity(value: float) -> tuple[Metric, ...]:
    """What a perplexity evaluation measures."""
    return (
        Metric(
            metric="perplexity", value=value, unit="1", better="lower", n=8192, phase="evaluate"
        ),
    )


def accuracy(name: str, value: float, stderr: float) -> Metric:
    """One accuracy over 100 items."""
    return Metric(
        metric=name,
        value=value,
        unit="fraction",
        better="higher",
        stderr=stderr,
        n=100,
        phase="evaluate",
    )


def training(throughput: str, speed: float, memory: float, size: int) -> tuple[Metric, ...]:
    """What a training stage measures."""
    unit = "samples/s" if throughput == "throughput_samples" else "tokens/s"
    return (
        Metric(
            metric=throughput, value=speed, unit=unit, better="higher", phase="train", grade="exact"
        ),
        Metric(
            metric="peak_memory_process",
            value=memory * MIB,
            unit="bytes",
            better="lower",
            phase="train",
            grade="bounded",
            reason="resident set of the process",
        ),
        Metric(
            metric="memory_floor", value=400.0 * MIB, unit="bytes", better="lower", phase="load"
        ),
        Metric(
            metric="energy_per_sample",
            value=None,
            unit="J",
            better="lower",
            phase="train",
            grade="unmeasured",
            reason="no NVIDIA driver",
        ),
        Metric(metric="trainable_parameters", value=size, unit="1", better="lower"),
    )


def fill(store: SyntheticStore) -> Path:
    """A whole run of language and vision; returns the path of its plan."""
    _zero_shot(store, "tiny-lm", "pydoc_topics", LANGUAGE_ROWS, PERPLEXITY, perplexity)
    _finetuned(store, "tiny-lm", "pydoc_topics", PERPLEXITY, 0.2, perplexity)
    for row in LANGUAGE_ROWS:
        for seed in SEEDS:
            _tuned_language(store, row, seed)
    _multiple_choice(store)
    vision = lambda value: (accuracy("top1", value, 0.01),)  # noqa: E731
    _zero_shot(store, "tiny-vit", "digit_pairs", VISION_ROWS, TOP1, vision)
    for seed in SEEDS:
        _tuned_vision(store, seed)
    return store.save_plan()


def _zero_shot(store, model, task, rows, numbers, metrics):
    digest = store.plan("evaluate", model=model, task=task, setting="full_zero_shot")
    store.save(store.record(digest, "evaluate", *metrics(numbers["full_zero_shot"])))
    for layout, compression in dict.fromkeys(row[:2] for row in rows):
        labels = {"model": model, "layout": layout, "compression": compression}
        digest = store.plan("emulator", **labels)
        size = Metric(metric="emulator_parameters", value=1000.0, unit="1", better="lower")
        record = store.record(digest, "emulator", size, params={"method": compression, "seed": 0})
        store.save(record)
        digest = store.plan("evaluate", task=task, setting="emulator_zero_shot", **labels)
        value = numbers["emulator_zero_shot", compression]
        store.save(store.record(digest, "evaluate", *metrics(value)))


def _finetuned(store, model, task, numbers, step, metrics):
    for seed in SEEDS:
        labels = {"model": model, "task": task, "tuning": "full", "seed": seed}
        digest = store.plan("finetune", setting="full_finetuned", **labels)
        cost = training("throughput_tokens_real", 4000.0 + 10 * seed, 1000.0, 1_327_104)
        params = {"train": {"learning_rate": 0.001, "max_steps": 60}, "seed": seed}
        store.save(store.record(digest, "finetune", *cost, params=params))
        digest = store.plan("evaluate", setting="full_finetuned", **labels)
        value = by_seed(numbers["full_finetuned"], seed, step)
        store.save(store.record(digest, "evaluate", *metrics(value)))


def _tuned_language(store, row, seed):
    layout, compression, tuning = row
    labels = {
        "case": f"tiny-lm-{compression}-{tuning}-{seed}",
        "model": "tiny-lm",
        "layout": layout,
        "compression": compression,
        "tuning": tuning,
        "task": "pydoc_topics",
        "seed": seed,
    }
    tune = store.plan("tune", setting="emulator_finetuned", **labels)
    ends = [
        (store.plan("evaluate", setting=setting, **labels), setting)
        for setting in ("emulator_finetuned", "plug_in")
    ]
    if compression == "layer_drop(keep=2)" and seed == FAILED_SEED:
        failed = store.record(tune, "tune", outcome="oom_host", reason=store.reason)
        store.save_attempt(failed)
        for digest, _ in ends:
            skipped = {"outcome": "skipped", "reason": "its input tune was oom_host"}
            store.save_attempt(store.record(digest, "evaluate", **skipped))
        return
    cost = training("throughput_tokens_real", 8000.0 + 20 * seed, 800.0, 442_368)
    params = {"train": {"learning_rate": 0.001, "max_steps": 60}, "seed": seed}
    store.save(store.record(tune, "tune", *cost, params=params))
    for digest, setting in ends:
        value = by_seed(PERPLEXITY[setting, compression, tuning], seed, 0.3)
        store.save(store.record(digest, "evaluate", *perplexity(value)))


def _multiple_choice(store):
    """A task scored in two metrics on which only zero-shot settings were run."""
    labels = {"model": "tiny-lm", "task": "choices"}
    full = (accuracy("acc", 0.31, 0.046), accuracy("acc_norm", 0.33, 0.047))
    digest = store.plan("evaluate", setting="full_zero_shot", **labels)
    store.save(store.record(digest, "evaluate", *full))
    labels |= {"layout": "2-4-2", "compression": "layer_drop(keep=4)"}
    emulator = (accuracy("acc", 0.27, 0.044), accuracy("acc_norm", 0.26, 0.044))
    digest = store.plan("evaluate", setting="emulator_zero_shot", **labels)
    store.save(store.record(digest, "evaluate", *emulator))


def _tuned_vision(store, seed):
    whole = {"model": "tiny-vit", "task": "digit_pairs", "tuning": "full", "seed": seed}
    layout, compression, _ = VISION_ROWS[0]
    cut = {**whole, "layout": layout, "compression": compression}
    unmeasured = Metric(
        metric="peak_memory_process",
        value=None,
        unit="bytes",
        better="lower",
        phase="train",
        grade="unmeasured",
        reason="the sampler did not start",
    )
    finetune = store.plan("finetune", setting="full_finetuned", **whole)
    speed, *_, size = training("throughput_samples", 310.0 + seed, 0.0, 800_000)
    store.save(store.record(finetune, "finetune", speed, unmeasured, size))
    tune = store.plan("tune", setting="emulator_finetuned", **cut)
    cost = training("throughput_samples", 620.0 + 2 * seed, 700.0, 200_000)
    store.save(store.record(tune, "tune", *cost))
    for setting, labels, key in (
        ("full_finetuned", whole, "full_finetuned"),
        ("emulator_finetuned", cut, ("emulator_finetuned", compression, "full")),
        ("plug_in", cut, ("plug_in", compression, "full")),
    ):
        digest = store.plan("evaluate", setting=setting, **labels)
        value = by_seed(TOP1[key], seed, 0.01)
        store.save(store.record(digest, "evaluate", accuracy("top1", value, 0.01)))
