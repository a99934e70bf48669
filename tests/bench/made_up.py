"""A suite with a store of made-up results, so that verbs have something to show at once."""

from __future__ import annotations

import json
from pathlib import Path

from bench.cli.planned import lay_out
from bench.store import Store
from reports.record import Metric, Record
from tests.bench.command import ROOT
from tests.bench.worlds import SUITE

FAILED_CASE = "lm/2+2/layer_drop(keep=2)/lora(rank=4)/text/s2"
LOSSES = [3.0, 2.5, 2.25]


def write_made_up(folder: Path) -> Path:
    """A suite file, and its results in `results` beside it; one training failed."""
    path = folder / "small.yaml"
    path.write_text(SUITE.replace("org/lm", str(ROOT / "suites/models/tiny-lm")))
    store = Store.create(folder / "results")
    losses = folder / "steps.jsonl"
    rows = [{"step": number, "loss": loss} for number, loss in enumerate(LOSSES, start=1)]
    losses.write_text("".join(json.dumps(row) + "\n" for row in rows))
    blob = store.save_blob(losses)
    for stage in lay_out(str(path), None, None, None).stages:
        is_failed = stage.kind == "tune" and stage.labels.case == FAILED_CASE
        record = Record(
            digest=stage.digest,
            machine="here",
            kind=stage.kind,
            version=1,
            params=stage.params,
            inputs=stage.inputs,
            outcome="oom_host" if is_failed else "ok",
            reason="9.1 GiB of 8 GiB" if is_failed else None,
            metrics=() if is_failed else _metrics(stage.kind, stage.labels.setting),
            blobs={"steps.jsonl": blob} if stage.kind == "tune" and not is_failed else {},
            environment={"commit": "c0ffee"},
        )
        if is_failed:
            store.save_attempt(record)
        else:
            store.save_record(record)
    return path


def _metrics(kind: str, setting: str) -> tuple[Metric, ...]:
    """A perplexity that tells its setting, or what a stage of this kind measures."""
    if kind == "evaluate":
        value = 30.0 + len(setting)
        return (
            Metric(metric="perplexity", value=value, unit="1", better="lower", phase="evaluate"),
        )
    phases = ("load", "train") if kind == "tune" else ("build",)
    return tuple(
        Metric(metric="peak_memory", value=100.0, unit="bytes", better="lower", phase=phase)
        for phase in phases
    )
