"""Hand a suite's results to Weights & Biases: one run for every case.

Labels and parameters become the run's config, metrics its summary, losses its curves; the suite is
its group. A case handed over again is the same run again. Where runs go is wandb's own affair:
WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY and WANDB_DIR count as they always do.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from bench.errors import BenchError, NothingToShow
from bench.plan import Plan, Stage
from bench.store import Store
from reports.blobs import Kept
from reports.record import Record, canonical
from reports.results import StageRun, frame, read_plan, read_stages

PROJECT = "offsite-bench"
INSTALL = "wandb is not installed; `pip install 'offsite-bench[wandb]'`"
TAG_LENGTH = 64
"""wandb refuses longer ones."""
OWN_PHASES = ("evaluate", "train", "build")
"""What a stage is for: its metrics need not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRun:
    """What one wandb run is made of."""

    name: str
    id: str
    group: str
    tags: tuple[str, ...]
    config: Mapping[str, Any]
    summary: Mapping[str, Any]
    curves: Mapping[int, Mapping[str, float]]
    """By step."""
    is_whole: bool
    """Whether every stage of the case succeeded."""


def export_to_wandb(runs: Sequence[CaseRun]) -> None:
    """Make a wandb run of each.

    Raises:
        BenchError: wandb is not installed, or will not have them.
    """
    try:
        wandb = importlib.import_module("wandb")
    except ModuleNotFoundError:
        raise BenchError(INSTALL) from None
    # A folder of that name, which wandb itself makes, can be imported too.
    if not hasattr(wandb, "init"):
        raise BenchError(INSTALL)
    try:
        for run in runs:
            _make(wandb, run)
    except wandb.Error as error:
        why = str(error).strip().splitlines()[0]
        raise BenchError(f"wandb: {why}; `wandb login`, or WANDB_MODE=offline") from None


def case_runs(store: Store, saved: Path, plan: Plan, machine: str | None) -> list[CaseRun]:
    """The cases of a plan that left anything.

    Raises:
        NothingToShow: none did.
    """
    found = read_stages(store.root, read_plan(saved))
    results = _Results(store, plan, found, machine)
    runs = [results.run(case) for case in plan.cases if results.has_any(case)]
    if not runs:
        raise NothingToShow(f"no results in {store.root} for this; run the suite first")
    return runs


class _Results:
    """What the stages of a plan left, case by case."""

    def __init__(
        self, store: Store, plan: Plan, found: Sequence[StageRun], machine: str | None
    ) -> None:
        self.plan = plan
        self.stages = {stage.digest: stage for stage in plan.stages}
        self.left = {run.planned.digest: run for run in found}
        records = {run.planned.digest: run.records[0] for run in found if run.records}
        self.kept = Kept(results=store.root, records=records)
        self.values = _values(frame(found, machine=machine))

    def has_any(self, case: Mapping[str, Any]) -> bool:
        """Whether any stage of the case left something."""
        return any(self.left[stage.digest].found for stage in self._stages(case))

    def run(self, case: Mapping[str, Any]) -> CaseRun:
        """The wandb run of a case."""
        stages = self._stages(case)
        group = ".".join(filter(None, (self.plan.suite, self.plan.profile)))
        identity = hashlib.sha256(canonical([group, case["name"]])).hexdigest()[:16]
        labels = [stage.labels for stage in stages]
        words = {
            *(label.model for label in labels),
            *(label.task for label in labels),
            *(label.compression for label in labels),
            *(label.tuning for label in labels),
        }
        return CaseRun(
            name=case["name"],
            id=identity,
            group=group,
            tags=tuple(sorted(word[:TAG_LENGTH] for word in words if word)),
            config=dict(self._config(case, stages)),
            summary=dict(self._summary(stages)),
            curves=self._curves(stages),
            is_whole=all(self.left[stage.digest].records for stage in stages),
        )

    def _stages(self, case: Mapping[str, Any]) -> list[Stage]:
        """Every stage the case needs, each after what it needs itself."""
        wanted: dict[str, Stage] = {}

        def add(digest: str) -> None:
            for needed in self.stages[digest].needs:
                add(needed)
            wanted[digest] = self.stages[digest]

        for digest in (*case["settings"].values(), case.get("disclosure")):
            if digest:
                add(digest)
        return list(wanted.values())

    def _config(
        self, case: Mapping[str, Any], stages: Sequence[Stage]
    ) -> Iterator[tuple[str, Any]]:
        yield "suite", self.plan.suite
        yield "profile", self.plan.profile
        yield from ((k, v) for k, v in case.items() if k not in ("settings", "disclosure"))
        yield "layout", next((s.labels.layout for s in stages if s.labels.layout), "")
        yield from ((_place(stage), stage.params) for stage in stages)
        yield "versions", stages[0].environment
        records = [record for stage in stages for record in self.left[stage.digest].found]
        yield "commits", sorted({str(r.environment.get("commit") or "") for r in records})
        yield "machines", sorted({record.machine for record in records})

    def _summary(self, stages: Sequence[Stage]) -> Iterator[tuple[str, Any]]:
        """Every metric under its setting or stage; of a failure, its outcome and reason."""
        for stage in stages:
            place = _place(stage)
            for name, value in self.values.get(stage.digest, {}).items():
                yield f"{place}/{name}", value
            attempt: Record | None = self.left[stage.digest].attempt
            if attempt:
                yield f"{place}/outcome", attempt.outcome
                yield f"{place}/reason", attempt.reason

    def _curves(self, stages: Sequence[Stage]) -> dict[int, dict[str, float]]:
        curves: dict[int, dict[str, float]] = defaultdict(dict)
        for stage in stages:
            for row in self.kept.rows(stage.digest, "steps.jsonl"):
                if row.get("loss") is not None:
                    curves[row["step"]][f"{_place(stage)}/loss"] = row["loss"]
        return dict(sorted(curves.items()))


def _values(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """By stage the mean over repeats of every metric."""
    repeats: dict[tuple[str, str], list[float]] = defaultdict(list)
    measured = table[table["value"].notna()]
    for row in measured[["digest", "metric", "phase", "value"]].itertuples(index=False):
        phase = "" if row.phase in OWN_PHASES else row.phase
        repeats[row.digest, "/".join(filter(None, (phase, row.metric)))].append(row.value)
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for (digest, name), found in repeats.items():
        values[digest][name] = fmean(found)
    return values


def _place(stage: Stage) -> str:
    """A setting or, for what is not an evaluation, the kind of stage."""
    return stage.labels.setting if stage.kind == "evaluate" else stage.kind


def _make(wandb: Any, made: CaseRun) -> None:  # noqa: ANN401 - an optional module
    run = wandb.init(
        project=os.environ.get("WANDB_PROJECT") or PROJECT,
        name=made.name,
        id=made.id,
        resume="allow",
        group=made.group,
        job_type="case",
        tags=made.tags,
        config=dict(made.config),
    )
    for step, losses in made.curves.items():
        run.log(dict(losses), step=step)
    run.summary.update(dict(made.summary))
    run.finish(exit_code=0 if made.is_whole else 1)
