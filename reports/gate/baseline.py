"""What a suite measured once, small enough for git: every run of every line, never just a mean."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from reports.comparison import MEMORIES, QUALITY, THROUGHPUTS
from reports.errors import ReportError
from reports.gate.kept import SCHEMA, read_kept
from reports.gate.lines import CLOSED, Line, Positive
from reports.gate.noise import Noise
from reports.gate.rules import rule_of
from reports.items import is_made_of, scores_by_item
from reports.record import OF_A_RUN, TRAININGS, ItemScores, Metric, Record, canonical
from reports.results import NOT_RUN, Labels, PlannedStage, StageRun
from reports.statistics.intervals import Better, Scores

BENCHMARK = "benchmark"
"""Stands for the stage of a line that is no stage of ours: a file of pytest-benchmark's."""
MADE_BY = ("code", "python", "packages")
"""What of a record's environment makes it the work of one state of the code."""


class Missing(BaseModel):
    """A stage, or some of its runs, that should have been measured and was not."""

    model_config = CLOSED

    place: Line
    seed: int | None = None
    why: str

    @property
    def text(self) -> str:
        """One line of it."""
        seed = "" if self.seed is None else f" seed {self.seed}"
        return f"{self.place.name}{seed}: {self.why}"


class Run(BaseModel):
    """One value: of one seed, and one repeat of it."""

    model_config = CLOSED

    seed: int | None = None
    repeat: int = 0
    value: float
    items: ItemScores | None = None
    weights: str = ""
    """sha256 of the weights that were scored."""
    clock: Positive | None = None
    """Median clock of the GPU's multiprocessors in MHz while it trained."""
    canary: Positive | None = None
    """Seconds that a fixed piece of work took on the machine: the mean of before and after."""


class Measured(BaseModel):
    """One line with all its runs."""

    model_config = CLOSED

    line: Line
    unit: str
    better: Better
    setup: dict[str, Any]
    """Parameters of the stage and of those it goes on from, but for the seed; model and data."""
    runs: tuple[Run, ...]

    @model_validator(mode="after")
    def _is_one_sample(self) -> Measured:
        counts = Counter((run.seed, run.repeat) for run in self.runs)
        twice = next((run for run, count in counts.items() if count > 1), None)
        if twice:
            raise ValueError(f"{self.line.name}: seed {twice[0]}, repeat {twice[1]} is there twice")
        if not all(math.isfinite(run.value) for run in self.runs):
            raise ValueError(f"{self.line.name}: a value is not a finite number")
        return self

    @property
    def measured_how(self) -> str:
        """One short text for its setup."""
        return hashlib.sha256(canonical(self.setup)).hexdigest()[:16]

    def scores(self) -> Scores:
        """By seed and item; of several repeats the first stands for all."""
        first = {run.seed: run for run in reversed(self.runs)}
        values = {seed: run.value for seed, run in first.items()}
        items = {seed: run.items for seed, run in first.items() if run.items is not None}
        return scores_by_item(self.line.metric, values, items)


class Baseline(BaseModel):
    """Everything a suite measured at one commit on one machine."""

    model_config = CLOSED

    version: Literal[2] = Field(alias="schema")
    suite: str
    profile: str | None
    commit: str
    dirty: bool
    machine: str
    """Fingerprint: speed and memory are compared on an equal one only."""
    described: dict[str, Any]
    """That machine in words."""
    measured: tuple[Measured, ...]
    missing: tuple[Missing, ...] = ()
    only_scores: bool = False
    """Speed and memory, which are a machine's own, were left out."""
    noise: Noise | None = None
    """How far that machine differs from itself, if it was calibrated."""

    def by_line(self) -> Mapping[Line, Measured]:
        """Lines by what they are called."""
        return {each.line: each for each in self.measured}

    def of_scores(self) -> Baseline:
        """Without what is a machine's own, and its environment's: speed and memory."""
        scored = tuple(each for each in self.measured if each.line.stage == "evaluate")
        changes = {"measured": scored, "only_scores": True, "noise": None}
        return self.model_copy(update=changes)

    def with_noise(self, noise: Noise) -> Baseline:
        """With what is known of its lines on its machine, if anything is."""
        lines = {(each.line, each.measured_how) for each in self.measured}
        known = noise.of_lines(lines)
        return self.model_copy(update={"noise": known}) if known.sessions else self

    @property
    def is_of_benchmarks(self) -> bool:
        """Whether it holds pytest-benchmark's runs, not a suite's."""
        return any(each.line.stage == BENCHMARK for each in self.measured)

    def to_bytes(self) -> bytes:
        """A JSON file with a line for every run, so that a diff in git can be read."""
        body = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        body["schema"] = SCHEMA
        head = {key: value for key, value in body.items() if key != "measured"}
        lines = [json.dumps(each, sort_keys=True) for each in body.get("measured", ())]
        text = json.dumps(head, sort_keys=True, indent=1).removesuffix("\n}")
        joined = ",\n".join(lines)
        return f'{text},\n "measured": [\n{joined}\n ]\n}}\n'.encode()


def read_baseline(path: Path) -> Baseline:
    """Read a baseline file.

    Raises:
        ReportError: it is none, is damaged, or of a schema this version does not read.
    """
    try:
        found = read_kept(path, Baseline, "baseline")
    except FileNotFoundError as error:
        raise ReportError(f"{path}: {error.strerror}; `baseline save` writes one") from None
    wrong = next(_contradictions(found), None)
    if wrong:
        raise ReportError(f"{path}: {wrong}")
    return found


def _contradictions(baseline: Baseline) -> Iterator[str]:
    """What no suite can have measured: somebody changed the file."""
    if not baseline.measured:
        yield "nothing was measured"
    counts = Counter(each.line for each in baseline.measured)
    yield from (f"{line.name}: is there twice" for line, count in counts.items() if count > 1)
    for each in baseline.measured:
        if not each.runs:
            yield f"{each.line.name}: no run"
        for run in each.runs:
            if rule_of(each.line.metric).is_ratio and run.value <= 0:
                yield f"{each.line.name}: {run.value:g} is not above 0"
            elif run.items and not is_made_of(each.line.metric, run.value, run.items):
                yield f"{each.line.name}: seed {run.seed}: its items do not make {run.value:g}"


def gather(
    runs: Iterable[StageRun],
    *,
    suite: str,
    profile: str | None,
    machine: str,
    repeats: int | None = None,
) -> Baseline:
    """A baseline of what these stages left behind; only records of one machine are given.

    Args:
        runs: the stages with their records.
        suite: its name.
        profile: of the suite.
        machine: whose records they are.
        repeats: how often what is timed was to be run; as often as the plan says if not given.

    Raises:
        ReportError: records of several codes.
    """
    found = list(runs)
    records = [record for run in found for record in run.records]
    codes = {made_by(record.environment) for record in records}
    if len(codes) > 1:
        raise ReportError(f"records of {len(codes)} states of the code or its packages, not of one")
    # Commits with the same code are one: what it says in a document measures nothing.
    commits = {str(record.environment.get("commit") or ""): None for record in records}
    lines: dict[Line, list[Measured]] = {}
    made = made_in(found)
    for run in found:
        for record in run.records:
            for line, once in measured(run.planned, record, made).items():
                lines.setdefault(line, []).append(once)
    return Baseline(
        schema=SCHEMA,
        suite=suite,
        profile=profile,
        commit=next(reversed(commits), ""),
        dirty=any(bool(record.environment.get("dirty")) for record in records),
        machine=machine,
        described=dict(records[0].environment.get("machine") or {}) if records else {},
        measured=tuple(_joined(each) for each in lines.values()),
        missing=tuple(_missing(found, repeats)),
    )


def made_in(runs: Iterable[StageRun]) -> dict[str, Record]:
    """One record of every stage that has any, by its digest."""
    return {run.planned.digest: run.records[0] for run in runs if run.records}


def made_by(environment: Mapping[str, Any]) -> str:
    """One text for one state of the code, Python and the packages, from a record's environment."""
    found = {name: environment.get(name) for name in MADE_BY}
    # Old records know their commit alone.
    found["code"] = found["code"] or environment.get("commit")
    return canonical(found).decode()


def judged(planned: PlannedStage, record: Record) -> Iterator[tuple[Line, Metric]]:
    """What of a record is judged: its first quality metric, its first speed, its first memory."""
    families: tuple[tuple[str, ...], ...] = ()
    if record.kind == "evaluate":
        families = (QUALITY,)
    elif record.kind in TRAININGS:
        families = (THROUGHPUTS, MEMORIES)
    have = {m.metric: m for m in record.metrics if m.value is not None}
    for family in families:
        name = next((name for name in family if name in have), None)
        if name is not None:
            yield _line(planned, name), have[name]


def measured(
    planned: PlannedStage, record: Record, made: Mapping[str, Record]
) -> Mapping[Line, Measured]:
    """What one record adds to a baseline: its lines, each with one run.

    Args:
        planned: the stage.
        record: one of its.
        made: records of the stages that it goes on from, by their digests.
    """
    return {
        line: Measured(
            line=line,
            unit=metric.unit,
            better=metric.better,
            setup=_setup(record, made),
            runs=(_run(record, planned.labels, metric),),
        )
        for line, metric in judged(planned, record)
    }


def _line(planned: PlannedStage, metric: str) -> Line:
    labels = planned.labels.model_dump(include=set(Line.model_fields))
    setting = labels["setting"] if planned.kind == "evaluate" else ""
    return Line(**{**labels, "setting": setting, "stage": planned.kind, "metric": metric})


def _joined(parts: list[Measured]) -> Measured:
    """One line with the runs of all; how it was measured is taken from the first."""
    fields = {name: getattr(parts[0], name) for name in Measured.model_fields}
    return Measured(**{**fields, "runs": tuple(run for each in parts for run in each.runs)})


def _setup(record: Record, made: Mapping[str, Record]) -> dict[str, Any]:
    """How it was measured, and how what it goes on from was made; inputs of its own as they are."""
    params = {key: value for key, value in record.params.items() if key not in OF_A_RUN}
    inputs = {
        role: _setup(made[digest], made) if digest in made else digest
        for role, digest in record.inputs.items()
    }
    return {**params, **inputs}


def _run(record: Record, labels: Labels, metric: Metric) -> Run:
    assert metric.value is not None
    is_speed = metric.metric in THROUGHPUTS
    return Run(
        seed=labels.seed,
        repeat=record.repeat,
        value=metric.value,
        items=metric.items,
        weights=str(record.facts.get("weights_digest", "")),
        clock=_clock(record.facts) if is_speed else None,
        canary=_canary(record.facts) if is_speed else None,
    )


def _clock(facts: Mapping[str, Any]) -> float | None:
    return _number(facts, "memory", "phases", "train", "gpu_state", "clock", "median")


def _canary(facts: Mapping[str, Any]) -> float | None:
    seconds = [_number(facts, "canary", when, "seconds") for when in ("before", "after")]
    known = [each for each in seconds if each is not None]
    return sum(known) / 2 if len(known) == 2 else None


def _number(facts: object, *place: str) -> float | None:
    """What is above 0 at that place; None if there is no such place, or something else there."""
    for name in place:
        facts = facts.get(name) if isinstance(facts, dict) else None
    if not isinstance(facts, (int, float)) or not 0 < facts < math.inf:
        return None
    return float(facts)


def _missing(runs: Iterable[StageRun], repeats: int | None) -> Iterator[Missing]:
    for run in runs:
        have, asked = len(run.records), 1
        if run.planned.kind in TRAININGS:
            asked = repeats or len(run.planned.asked)
        if have >= asked:
            continue
        why = run.failure or NOT_RUN
        if have:
            why = f"{have} of {asked} runs; {why}"
        yield Missing(place=_line(run.planned, ""), seed=run.planned.labels.seed, why=why)
