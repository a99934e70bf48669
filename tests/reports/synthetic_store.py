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

    def plan(self, kind: str, *, repeats: int = 0, **labels: object) -> str:
        """Plan one stage; returns its digest."""
        name = json.dumps([kind, labels], sort_keys=True)
        digest = hashlib.sha256(name.encode()).hexdigest()
        stage = {"digest": digest, "kind": kind, "labels": labels, "repeats": repeats}
        self.stages.append({**stage, "inputs": {}})
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


VOCABULARY = 1024.0
COMPRESSIONS: dict[str, dict[str, object]] = {
    "identity": {"layout": "2-8-2", "stored": 8.0, "effective": 8.0, "zero_shot": 51.04},
    "layer_drop(keep=4)": {"layout": "2-4-2", "stored": 4.0, "effective": 4.0, "zero_shot": 95.61},
    "quantize(bits=4)": {"layout": "2-8-2", "stored": 4.2, "effective": 4.1, "zero_shot": 60.0},
    "magnitude_prune": {"layout": "2-8-2", "stored": 8.0, "effective": 4.25, "zero_shot": 70.0},
    "scale_ot(keep=4)": {
        "layout": "2-4-2",
        "stored": 4.1,
        "effective": 3.9,
        "zero_shot": 90.0,
        "experimental": ["scale_ot: definition second-hand"],
    },
    "layer_drop(keep=2)": {"layout": "2-2-2", "stored": 2.0, "effective": 2.0, "zero_shot": 1200.0},
}
"""Sizes in MiB. The last is off the budget, and knows less than nothing."""
PLUG_IN = {
    "identity": 38.0,
    "layer_drop(keep=4)": 40.0,
    "quantize(bits=4)": 38.5,
    "magnitude_prune": 39.0,
    "scale_ot(keep=4)": 41.0,
    "layer_drop(keep=2)": 44.0,
}
OPT = "commit:facebook/opt-1.3b@3f5c25d0bc631cb57ac65913f76e22c2dfb61d62"
OPT_DATA = {
    "openbookqa": "commit:allenai/openbookqa@388097ea7776?config=main&test=test&train=train[:90%]"
    "&validation=train[90%:]",
    "wikitext2": "commit:Salesforce/wikitext@b08601e04326?config=wikitext-2-raw-v1"
    "&test=validation&train=train&validation=test",
}
OPT_CUT = {"layout": "2-8-2", "compression": "layer_drop(keep=8)+distill(steps=2000)"}
OPT_SCORES = {
    "openbookqa": {
        "full_zero_shot": 0.236,
        "emulator_zero_shot": 0.190,
        "full_finetuned": 0.314,
        "emulator_finetuned": 0.25,
        "plug_in": 0.28,
    },
    "wikitext2": {
        "full_zero_shot": 31.50,
        "emulator_zero_shot": 40.0,
        "full_finetuned": 12.9,
        "emulator_finetuned": 16.0,
        "plug_in": 13.0,
    },
}


def disclosed(fraction: float, stored: float, effective: float) -> tuple[Metric, ...]:
    """What a disclosure stage measures; sizes in MiB."""
    shares = {"disclosed_fraction": fraction, "verbatim_fraction": fraction / 2}
    sizes = {"sent_bytes": stored + 6.0, "stored_bytes": stored, "effective_bytes": effective}
    return (
        *(
            Metric(metric=name, value=value, unit="fraction", better="lower")
            for name, value in shares.items()
        ),
        *(
            Metric(metric=name, value=value * MIB, unit="bytes", better="lower")
            for name, value in sizes.items()
        ),
        Metric(metric="block_similarity", value=0.875, unit="1", better="lower"),
    )


def with_chance(metrics: tuple[Metric, ...], chance: float) -> tuple[Metric, ...]:
    """The same metrics of a task that names its chance level."""
    return tuple(metric.model_copy(update={"chance": chance}) for metric in metrics)


def fill_row(store: SyntheticStore, layout: str, compression: str, plug_in: float) -> None:
    """One disclosed compression of `m` on `t` with its plug-in; the plan is not saved."""
    labels = {"model": "m", "layout": layout, "compression": compression}
    digest = store.plan("disclose", **labels)
    store.save(store.record(digest, "disclose", *disclosed(0.5, 1.0, 1.0)))
    digest = store.plan("evaluate", task="t", setting="plug_in", tuning="full", seed=0, **labels)
    store.save(store.record(digest, "evaluate", accuracy("acc", plug_in, 0.1)))


def fill_compressions(store: SyntheticStore) -> Path:
    """Six compressions of one model on two tasks, each disclosed; returns the plan's path."""
    model = {"model": "owner-lm"}
    digest = store.plan("evaluate", task="topics", setting="full_zero_shot", **model)
    store.save(store.record(digest, "evaluate", *with_chance(perplexity(51.04), VOCABULARY)))
    digest = store.plan("evaluate", task="choices", setting="full_zero_shot", **model)
    full = with_chance((accuracy("acc", 0.50, 0.05),), 0.25)
    store.save(store.record(digest, "evaluate", *full))
    for compression, made in COMPRESSIONS.items():
        _compressed(store, {**model, "layout": made["layout"], "compression": compression}, made)
    return store.save_plan()


def _compressed(store, labels, made):
    compression = labels["compression"]
    digest = store.plan("emulator", **labels)
    facts = {"experimental": made["experimental"]} if "experimental" in made else {}
    store.save(store.record(digest, "emulator", facts=facts))
    digest = store.plan("disclose", **labels)
    shares = disclosed(made["stored"] / 16, made["stored"], made["effective"])
    store.save(store.record(digest, "disclose", *shares))
    digest = store.plan("evaluate", task="topics", setting="emulator_zero_shot", **labels)
    scored = with_chance(perplexity(made["zero_shot"]), VOCABULARY)
    store.save(store.record(digest, "evaluate", *scored))
    digest = store.plan("evaluate", task="choices", setting="emulator_zero_shot", **labels)
    scored = with_chance((accuracy("acc", 0.35, 0.05),), 0.25)
    store.save(store.record(digest, "evaluate", *scored))
    for seed in SEEDS:
        tuned = {**labels, "task": "topics", "tuning": "full", "seed": seed}
        for setting, worse in (("emulator_finetuned", 3.0), ("plug_in", 0.0)):
            digest = store.plan("evaluate", setting=setting, **tuned)
            value = by_seed(PLUG_IN[compression] + worse, seed, 0.3)
            store.save(store.record(digest, "evaluate", *perplexity(value)))


def fill_published(
    store: SyntheticStore, source: str = OPT, data: dict[str, str] | None = None
) -> Path:
    """OPT-1.3B as in the paper's Table 1, on two of its tasks; returns the plan's path."""
    digest = store.plan("emulator", model="opt-1.3b", **OPT_CUT)
    store.save(store.record(digest, "emulator", inputs={"model": source}))
    for task, scores in OPT_SCORES.items():
        for setting, value in scores.items():
            labels = {"model": "opt-1.3b", "task": task, "setting": setting}
            labels |= {} if setting.startswith("full") else OPT_CUT
            seeds = (None,) if setting.endswith("zero_shot") else SEEDS
            for seed in seeds:
                own = {**labels, **({} if seed is None else {"seed": seed, "tuning": "full"})}
                digest = store.plan("evaluate", **own)
                step = 0.01 if task == "openbookqa" else 0.2
                score = by_seed(value, seed, step)
                metrics = (
                    (accuracy("acc", score, 0.02),) if task == "openbookqa" else perplexity(score)
                )
                inputs = {"data": (data or OPT_DATA)[task]}
                inputs |= {"model": source} if setting == "full_zero_shot" else {}
                store.save(store.record(digest, "evaluate", *metrics, inputs=inputs))
    return store.save_plan()
