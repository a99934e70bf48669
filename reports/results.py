"""Read a result store into one tidy long table: one row per (stage, metric, phase, repeat).

Quality is a property of the stage and may come from any machine. Speed, memory and energy are
properties of a machine too, and are never carried over from one to another.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from reports.budget import Budget, budget_of
from reports.collector import resting
from reports.errors import BadRecord, ReportError
from reports.record import TRAININGS, ItemScores, Metric, Record, read_record

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = {
    "suite": "string",
    "case": "string",
    "model": "string",
    "layout": "string",
    "compression": "string",
    "tuning": "string",
    "task": "string",
    "seed": "Int64",
    "setting": "string",
    "metric": "string",
    "value": "Float64",
    "unit": "string",
    "better": "string",
    "stderr": "Float64",
    "n": "Int64",
    "stage": "string",
    "digest": "string",
    "machine": "string",
    "outcome": "string",
    "reason": "string",
    "grade": "string",
    "phase": "string",
    "repeat": "Int64",
    "commit": "string",
    "peer": "string",
}
"""Name and type of every column, in order. The types can hold "nothing": no 0 or NaN stands in."""
FURTHER_COLUMNS = {
    "chance": "Float64",
    "source": "string",
    "data": "string",
    "examples": "Int64",
    "experimental": "string",
    "selection": "string",
    "step": "Int64",
    "checkpoint": "Int64",
    "items": "object",
    "budget": "object",
    "train_seconds": "Float64",
    "lost": "string",
}
"""What our own tables need beside the documented columns: what knowing nothing scores, the digest
of the model that went in and the identity of the task's data, how many examples the evaluation was
cut to, why the compression is experimental, what a training chose its checkpoint on and which step
that was, which checkpoint an evaluation took if it was not the chosen one, the metric by item, how
much a training was given and how long its steps took, and why another run of the stage is lost."""

NOT_RUN = "not run"
"""Stands where an outcome would, for a stage that left nothing. No record has it."""
MACHINE_UNITS = frozenset({"s", "J", "W", "MHz"})
MACHINE_METRICS = (
    *("peak_memory", "memory", "monitor_overhead", "throughput", "step_time", "energy", "mfu"),
)

UNREPORTED = frozenset({"memory"})
"""Facts that no report shows: how memory was measured, most of what a training's record holds. Its
peaks are metrics."""

OPEN = ConfigDict(extra="ignore", frozen=True)


class Labels(BaseModel):
    """What a stage is called in tables; a label that does not apply is empty."""

    model_config = OPEN

    case: str = ""
    model: str = ""
    layout: str = ""
    compression: str = ""
    tuning: str = ""
    task: str = ""
    seed: int | None = None
    setting: str = ""
    peer: str = ""
    """Whose training loop, where it is not ours."""
    checkpoint: int | None = None
    """Which checkpoint was plugged in, where it is not the one that was chosen."""


class PlannedStage(BaseModel):
    """One stage of a plan: the digest its record is found by, and its labels."""

    model_config = OPEN

    digest: str
    kind: str
    labels: Labels = Labels()
    repeats: int = 0
    """How many records it asks for, where it is run for its speed and memory."""

    @property
    def row(self) -> tuple[object, ...]:
        """What stages share that differ in nothing but their seed and the case that asks first."""
        shared = (value for name, value in self.labels if name not in ("seed", "case"))
        return (self.kind, *shared)

    @property
    def asked(self) -> range:
        """The repeats that count."""
        return range(max(1, self.repeats))


class PlanFile(BaseModel):
    """What of a stored plan a report needs."""

    model_config = OPEN

    schema_version: Literal[1] = Field(alias="schema")
    suite: str
    profile: str | None = None
    """None: the suite as it stands."""
    stages: tuple[PlannedStage, ...]
    name: str = ""
    """What the store calls the plan; it is not in the file."""


class Entry(NamedTuple):
    """One row of the table, in the order of COLUMNS and FURTHER_COLUMNS; None for what is empty."""

    suite: str
    case: str
    model: str
    layout: str
    compression: str
    tuning: str
    task: str
    seed: int | None
    setting: str
    metric: str
    value: float | None
    unit: str
    better: str
    stderr: float | None
    n: int | None
    stage: str
    digest: str
    machine: str
    outcome: str
    reason: str
    grade: str
    phase: str
    repeat: int | None
    commit: str
    peer: str
    chance: float | None
    source: str
    data: str
    examples: int | None
    experimental: str
    selection: str
    step: int | None
    checkpoint: int | None
    items: ItemScores | None
    budget: Budget | None
    train_seconds: float | None
    lost: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRun:
    """One stage and what it left in the store."""

    suite: str
    planned: PlannedStage
    records: tuple[Record, ...]
    """Whole results, by machine and repeat; empty when nothing succeeded."""
    attempt: Record | None = None
    """The latest failure of a run that was asked for and has no result."""

    @property
    def found(self) -> tuple[Record, ...]:
        """The results, else the failure, else nothing."""
        return self.records or ((self.attempt,) if self.attempt else ())

    @property
    def is_failed(self) -> bool:
        """Whether it was tried, and nothing succeeded."""
        return self.attempt is not None and not self.records

    @property
    def failure(self) -> str:
        """Outcome and reason of that failure; empty where there is none."""
        return f"{self.attempt.outcome}: {self.attempt.reason}" if self.attempt else ""


def read_plan(path: Path) -> PlanFile:
    """Read one plan file.

    Raises:
        ReportError: not a plan, or of a schema this version does not read.
    """
    try:
        plan = PlanFile.model_validate(json.loads(path.read_bytes()))
        return plan.model_copy(update={"name": path.stem})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "plan"
        raise ReportError(f"{path}: not a plan: {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path}: not a plan ({error})") from None


def tidy(results: Path, plan: PlanFile | None, machine: str | None = None) -> pd.DataFrame:
    """The exported table of a plan's stages in plan order or, without a plan, of the whole store.

    With `machine`, speed, memory and energy are that machine's only.
    """
    whole = frame(read_stages(results, plan), machine=machine, whole_store=plan is None)
    return whole[list(COLUMNS)]


def missing(results: Path, plan: PlanFile) -> list[PlannedStage]:
    """The planned stages that left nothing at all: neither a result nor a failed attempt."""
    return [run.planned for run in read_stages(results, plan) if not run.found]


@resting()
def read_stages(
    results: Path,
    plan: PlanFile | None,
    repeats: Collection[int] | None = None,
    *,
    machine: str | None = None,
    without: frozenset[str] = frozenset(),
) -> list[StageRun]:
    """Every stage of the plan, or of the whole store, with its records, each file read once.

    Of a plan's stages those repeats are read that it asks for, or `repeats`: others are there to
    judge other code by. With `machine`, what others made is left out, and so are the facts named in
    `without`, for they may be large.

    Raises:
        BadRecord: a record is damaged, or lies under another stage's name.
    """
    records = _files_by_digest(results / "records")
    attempts = results / "attempts"
    tried = set(glob("[!.]*", root_dir=attempts))
    if plan:
        planned = _planned(plan)
    else:
        failed = [digest for digest in tried if _attempts(attempts / digest)]
        planned = _planned_anywhere(results, [*records, *failed])
    found = []
    reader = _Reader(without, machine)
    for suite, stage in planned:
        files = records.get(stage.digest, [])
        wanted = (repeats or stage.asked) if plan else None
        if wanted:
            files = [path for path in files if _repeat(path) in wanted]
        # A plan is a file like any other: what is no folder's name here leads nowhere.
        folder = attempts if stage.digest in tried else None
        found.append(_read_stage(suite, stage, files, folder, reader, wanted))
    return found


def rows(
    runs: Iterable[StageRun],
    *,
    machine: str | None = None,
    whole_store: bool = False,
    with_not_run: bool = False,
) -> list[Entry]:
    """Lay stages out in rows, with the further columns.

    `whole_store` keeps every machine's rows; otherwise quality comes from one machine a stage.
    `with_not_run` adds a row for a stage that left nothing, as a table must tell "not run" from
    "not asked for".
    """
    found: list[Entry] = []
    for run in runs:
        found.extend(_stage_rows(run, machine, whole_store))
        if with_not_run and not run.found:
            found.append(_row(run, _Told(), None))
    return found


def frame(
    runs: Iterable[StageRun],
    *,
    machine: str | None = None,
    whole_store: bool = False,
    with_not_run: bool = False,
) -> pd.DataFrame:
    """The same rows as a data frame, for programs; our own tables are made without pandas."""
    import pandas as pd  # takes half a second

    found = rows(runs, machine=machine, whole_store=whole_store, with_not_run=with_not_run)
    types = COLUMNS | FURTHER_COLUMNS
    columns = list(zip(*found, strict=True)) if found else [()] * len(types)
    return pd.DataFrame(
        {
            name: pd.Series(list(column), dtype=dtype)
            for (name, dtype), column in zip(types.items(), columns, strict=True)
        }
    )


def makers(records: Iterable[Record]) -> Counter[str]:
    """How much each machine made: trainings, or anything where nothing was trained.

    Whose speed and memory are shown follows from it.
    """
    found = list(records)
    trained = [record for record in found if record.kind in TRAININGS]
    return Counter(record.machine for record in trained or found)


def is_machine_bound(metric: str, unit: str) -> bool:
    """Whether a metric says something about the machine, so that no other may stand in for it."""
    rate = unit.endswith("/s")
    return rate or unit in MACHINE_UNITS or metric.startswith(MACHINE_METRICS)


def _files_by_digest(folder: Path) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = defaultdict(list)
    for name in sorted(glob("[0-9a-f][0-9a-f]/[!.]*.json", root_dir=folder)):
        files[name[3:].partition(".")[0]].append(folder / name)
    return files


def _repeat(path: Path) -> int:
    """Of a record, as its file's name says."""
    number = path.name.rsplit(".", 2)[1]
    if not number.isdecimal():
        raise BadRecord(f"{path}: no record of ours has such a name; remove the file")
    return int(number)


def _attempts(folder: Path) -> list[Path]:
    """The failures of one stage. Its folder holds the logs of successes too."""
    return sorted(folder.glob("[!.]*.json"))


def _planned(plan: PlanFile) -> list[tuple[str, PlannedStage]]:
    return [(plan.suite, stage) for stage in plan.stages]


def _planned_anywhere(results: Path, digests: list[str]) -> list[tuple[str, PlannedStage]]:
    """Stages the store holds, labelled by the plans that name them, known ones first."""
    plans = [read_plan(path) for path in (results / "plans").glob("[!.]*.json")]
    known: dict[str, list[tuple[str, PlannedStage]]] = defaultdict(list)
    for plan in sorted(plans, key=lambda plan: (plan.suite, plan.profile or "")):
        for stage in plan.stages:
            known[stage.digest].append((plan.suite, stage))
    held = set(digests)
    labelled = [_shared_label(known[digest]) for digest in known if digest in held]
    unknown = sorted(held - known.keys())
    # A stage no plan names any more still shows: its kind is filled in from its record.
    return labelled + [("", PlannedStage(digest=digest, kind="")) for digest in unknown]


def _shared_label(owners: list[tuple[str, PlannedStage]]) -> tuple[str, PlannedStage]:
    """One label for a stage that several plans share: no suite or case may claim it alone."""
    suite, stage = owners[0]
    if any(other != suite for other, _ in owners):
        suite = ""
    if any(other.labels.case != stage.labels.case for _, other in owners):
        labels = stage.labels.model_copy(update={"case": ""})
        stage = stage.model_copy(update={"labels": labels})
    return suite, stage


def _read_stage(
    suite: str,
    stage: PlannedStage,
    records: Iterable[Path],
    attempts: Path | None,
    reader: _Reader,
    wanted: Collection[int] | None,
) -> StageRun:
    read = reader.read_all(records, stage.digest)
    whole = sorted(
        (record for record in read if record.outcome == "ok"),
        key=lambda record: (record.machine, record.repeat),
    )
    done = {record.repeat for record in whole}
    failed: list[Record] = []
    if not whole or (wanted and not done.issuperset(wanted)):
        tried = _attempts(attempts / stage.digest) if attempts else []
        failed = [*read, *reader.read_all(tried, stage.digest)]
        # What went through later is no failure any more.
        failed = [each for each in failed if each.repeat not in done]
        failed = [each for each in failed if wanted is None or each.repeat in wanted]
    latest = max(failed, key=_telling, default=None)
    first = whole[0] if whole else latest
    planned = _with_kind(stage, first) if first else stage
    return StageRun(suite=suite, planned=planned, records=tuple(whole), attempt=latest)


def _telling(failed: Record) -> tuple[bool, str]:
    """The more the later; that a run was skipped only shows that another failed."""
    return failed.outcome != "skipped", str(failed.observed.get("started", ""))


class _Reader:
    """Reads records and keeps what is shown of them, and what they have in common once."""

    def __init__(self, without: frozenset[str], machine: str | None) -> None:
        self.without = without
        self.machine = machine
        self.environment: dict[str, Any] = {}
        """Of the last record: those of one run are alike, and ten thousand take 30 MB."""

    def read_all(self, paths: Iterable[Path], digest: str) -> list[Record]:
        read = (self.read(path, digest) for path in paths)
        return [record for record in read if self.machine in (None, record.machine)]

    def read(self, path: Path, digest: str) -> Record:
        record = read_record(path)
        if record.digest != digest:
            raise BadRecord(f"{path}: holds the record of stage {record.digest}, not of {digest}")
        if record.environment != self.environment:
            self.environment = record.environment
        # Frozen for everybody else; nobody has it yet, and ten thousand copies take a while.
        object.__setattr__(record, "environment", self.environment)
        if not self.without.isdisjoint(record.facts):
            facts = record.facts.items()
            kept = {name: fact for name, fact in facts if name not in self.without}
            object.__setattr__(record, "facts", kept)
        return record


def _with_kind(stage: PlannedStage, record: Record) -> PlannedStage:
    return stage if stage.kind else stage.model_copy(update={"kind": record.kind})


def _stage_rows(run: StageRun, machine: str | None, whole_store: bool) -> Iterator[Entry]:
    everything = whole_store and machine is None
    own = quality_machine(run.found, machine)
    for record in run.found:
        told = _told(record)
        everything_here = everything or record.machine == own
        # What a failed stage managed to measure is not a result.
        metrics = record.metrics if record.outcome == "ok" else ()
        is_own = machine in (None, record.machine)
        shown = [
            metric
            for metric in metrics
            if (is_own if is_machine_bound(metric.metric, metric.unit) else everything_here)
        ]
        yield from (_row(run, told, metric) for metric in shown)
        # What else the record says counts, whoever measured speed and memory.
        if not shown and everything_here:
            yield _row(run, told, None)


def quality_machine(records: Iterable[Record], machine: str | None) -> str | None:
    """Whose quality counts of one stage: that machine's if it has any, else the first by name."""
    names = sorted({record.machine for record in records})
    return machine if machine in names else next(iter(names), None)


class _Told(NamedTuple):
    """What a record says beside its metrics."""

    machine: str = ""
    outcome: str = NOT_RUN
    reason: str = ""
    repeat: int | None = None
    commit: str = ""
    source: str = ""
    data: str = ""
    examples: int | None = None
    experimental: str = ""
    selection: str = ""
    step: int | None = None
    budget: Budget | None = None
    train_seconds: float | None = None


def _told(record: Record) -> _Told:
    return _Told(
        machine=record.machine,
        outcome=record.outcome,
        reason=record.reason or "",
        repeat=record.repeat,
        commit=str(record.environment.get("commit") or ""),
        source=record.inputs.get("model", ""),
        data=record.inputs.get("data", ""),
        examples=_examples(record.params),
        experimental=_experimental(record.facts),
        selection=_selection(record.facts),
        step=_step(record.facts),
        budget=budget_of(record),
        train_seconds=_train_seconds(record.facts),
    )


def _row(run: StageRun, told: _Told, metric: Metric | None) -> Entry:
    labels = run.planned.labels
    return Entry(
        run.suite,
        labels.case,
        labels.model,
        labels.layout,
        labels.compression,
        labels.tuning,
        labels.task,
        labels.seed,
        labels.setting,
        metric.metric if metric else "",
        metric.value if metric else None,
        metric.unit if metric else "",
        metric.better if metric else "",
        metric.stderr if metric else None,
        metric.n if metric else None,
        run.planned.kind,
        run.planned.digest,
        told.machine,
        told.outcome,
        (metric and metric.reason) or told.reason,
        (metric and metric.grade) or "",
        (metric and metric.phase) or "",
        told.repeat,
        told.commit,
        labels.peer,
        metric.chance if metric else None,
        told.source,
        told.data,
        told.examples,
        told.experimental,
        told.selection,
        told.step,
        labels.checkpoint,
        metric.items if metric else None,
        told.budget,
        told.train_seconds,
        run.failure if run.records else "",
    )


def _examples(params: Mapping[str, Any]) -> int | None:
    """To how many examples an evaluation was cut; None if it scores the whole split."""
    evaluate = params.get("evaluate")
    examples = evaluate.get("examples") if isinstance(evaluate, Mapping) else None
    return examples if isinstance(examples, int) else None


def _experimental(facts: Mapping[str, Any]) -> str:
    """Why an emulator's compression is experimental; empty if it is not."""
    reasons = facts.get("experimental")
    return "; ".join(map(str, reasons)) if isinstance(reasons, list) else ""


def _selection(facts: Mapping[str, Any]) -> str:
    """What a training chose its checkpoint on; empty if there was no choice."""
    selection = facts.get("selection")
    return str(selection.get("rule", "")) if isinstance(selection, Mapping) else ""


def _step(facts: Mapping[str, Any]) -> int | None:
    """After which step the weights were taken that a training keeps, or an evaluation scores."""
    step = facts.get("step", facts.get("chosen_step"))
    return step if isinstance(step, int) else None


def _train_seconds(facts: Mapping[str, Any]) -> float | None:
    """What all steps of a training took, warm-up and all, without loading and scoring."""
    timing = facts.get("timing")
    seconds = timing.get("end_to_end_seconds") if isinstance(timing, Mapping) else None
    return float(seconds) if isinstance(seconds, int | float) else None
