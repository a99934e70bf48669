"""One side of a comparison: what a store holds of a suite, of a commit, or altogether."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path

from reports.errors import ReportError
from reports.record import OF_A_RUN, Record, canonical
from reports.results import (
    UNREPORTED,
    PlanFile,
    PlannedStage,
    StageRun,
    makers,
    read_plan,
    read_stages,
)

REFERENCE = "A"
"""The letter of the first side, with which all others are compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which results of a store are meant; what is empty chooses nothing."""

    results: Path
    suite: str = ""
    """SUITE or SUITE.PROFILE, as its plans name it."""
    commit: str = ""
    """The first letters of the commit that made the results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The stages of one side, each under labels that no other has."""

    letter: str
    name: str
    """As it was asked for."""
    runs: tuple[StageRun, ...]
    older: int
    """Results left out because newer ones bear the same labels."""
    unnamed: int
    """Results left out because no plan says what they are of."""

    @property
    def records(self) -> list[Record]:
        """All that was found: results, and failures where there are none."""
        return [record for run in self.runs for record in run.found]

    @property
    def has_results(self) -> bool:
        """Whether any stage succeeded."""
        return any(run.records for run in self.runs)


def read_side(choice: Choice, *, letter: str, name: str) -> Side:
    """Read the chosen results.

    Of several results with the same labels the newest counts: they differ in settings, versions or
    data, and a mean would mix them. For the same reason a row has only seeds that were made as its
    newest one was.

    Raises:
        ReportError: no such suite, or letters that begin several commits or none.
    """
    runs = read_stages(choice.results, _plan(choice), without=UNREPORTED)
    if choice.commit:
        runs = _made_by(_commit(choice.commit, runs), runs)
    named = [run for run in runs if run.planned.labels.model]
    newest = _newest(named)
    return Side(
        letter=letter,
        name=name,
        runs=tuple(newest),
        older=sum(bool(run.found) for run in named) - sum(bool(run.found) for run in newest),
        unnamed=sum(bool(run.found) for run in runs) - sum(bool(run.found) for run in named),
    )


def suites_in(results: Path) -> list[str]:
    """What a store's plans are of: SUITE or SUITE.PROFILE."""
    return sorted({_name(plan) for plan in _plans(results)})


def shown_machines(sides: Sequence[Side]) -> list[str | None]:
    """Whose speed and memory to show of each side: one machine for all, if they have one."""
    counts = [makers(side.records) for side in sides]
    shared = set.intersection(*(set(count) for count in counts)) if counts else set()
    total = sum(counts, Counter[str]())
    if shared:
        return [_most(total, shared)] * len(sides)
    return [_most(count, count) for count in counts]


def identity(stage: PlannedStage) -> tuple[object, ...]:
    """What a stage is called, whatever went into it: equal on sides that can be compared."""
    return (stage.kind, *stage.labels.model_dump(exclude={"case"}).values())


def _most(counts: Counter[str], names: Iterable[str]) -> str | None:
    return min(names, key=lambda name: (-counts[name], name), default=None)


def _plans(results: Path) -> list[PlanFile]:
    """All plans of a store, the one with the most stages first: rows come in its order."""
    plans = [read_plan(path) for path in sorted((results / "plans").glob("[!.]*.json"))]
    return sorted(plans, key=lambda plan: -len(plan.stages))


def _name(plan: PlanFile) -> str:
    return f"{plan.suite}.{plan.profile}" if plan.profile else plan.suite


def _plan(choice: Choice) -> PlanFile | None:
    """Every stage that any plan of the suite has; None for the whole store."""
    if not choice.suite:
        return None
    plans = [plan for plan in _plans(choice.results) if _name(plan) == choice.suite]
    if not plans:
        known = ", ".join(suites_in(choice.results)) or "none"
        raise ReportError(f"no suite {choice.suite!r} in {choice.results}; there: {known}")
    stages = {stage.digest: stage for plan in plans for stage in plan.stages}
    return plans[0].model_copy(update={"stages": tuple(stages.values())})


def _commit(prefix: str, runs: Iterable[StageRun]) -> str:
    """The one commit that begins so."""
    made_by = sorted({_made(record) for run in runs for record in run.found} - {""})
    found = [commit for commit in made_by if commit.startswith(prefix)]
    if len(found) == 1:
        return found[0]
    known = ", ".join(commit[:12] for commit in found or made_by) or "none"
    what = "begins several commits" if found else "begins no commit"
    raise ReportError(f"@{prefix} {what} that made results; there: {known}")


def _made(record: Record) -> str:
    return str(record.environment.get("commit") or "")


def _made_by(commit: str, runs: Iterable[StageRun]) -> list[StageRun]:
    """The stages with what this commit left, without those it left nothing of."""
    kept = []
    for run in runs:
        records = tuple(record for record in run.records if _made(record) == commit)
        attempt = run.attempt if run.attempt and _made(run.attempt) == commit else None
        if records or attempt:
            kept.append(replace(run, records=records, attempt=attempt))
    return kept


def _newest(runs: Sequence[StageRun]) -> list[StageRun]:
    unrun = {identity(run.planned): run for run in runs if not run.found}
    newest = _latest(runs, identity)
    by_row = _latest((run for run in newest.values() if run.records), attrgetter("row"))
    made = _Made(runs)
    found = []
    for key, run in newest.items():
        if run.records and made.how(run) != made.how(by_row[run.planned.row]):
            found += [unrun[key]] if key in unrun else []
        else:
            found.append(run)
    return found


def _latest(
    runs: Iterable[StageRun], key: Callable[[PlannedStage], tuple[object, ...]]
) -> dict[tuple[object, ...], StageRun]:
    """Of the stages with one key the last that was started, in the order of the first."""
    found: dict[tuple[object, ...], StageRun] = {}
    for run in runs:
        name = key(run.planned)
        if name not in found or _started(run) > _started(found[name]):
            found[name] = run
    return found


class _Made:
    """How the results of a side were made."""

    def __init__(self, runs: Iterable[StageRun]) -> None:
        self.records = {run.planned.digest: run.records[0] for run in runs if run.records}
        self.known: dict[str, str] = {}

    def how(self, run: StageRun) -> str:
        """Equal for stages that differ in their seed alone, all the way up."""
        return self._how(run.planned.digest)

    def _how(self, digest: str) -> str:
        if digest not in self.records:
            return digest
        if digest not in self.known:
            record = self.records[digest]
            params = {name: each for name, each in record.params.items() if name not in OF_A_RUN}
            inputs = {name: self._how(each) for name, each in record.inputs.items()}
            whole = canonical([record.kind, record.version, params, inputs])
            self.known[digest] = hashlib.sha256(whole).hexdigest()
        return self.known[digest]


def _started(run: StageRun) -> str:
    """Empty for a stage that left nothing: it is no result that could stand for another."""
    return max((str(record.observed.get("started", "")) for record in run.found), default="")
