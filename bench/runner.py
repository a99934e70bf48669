"""Walk a plan's stages: reuse what exists, run what is missing, collect failures."""

from __future__ import annotations

import datetime
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bench import preflight
from bench.environment import this_machine
from bench.errors import SuiteError
from bench.executors.local import Executor
from bench.plan import Plan, Stage, run_name
from bench.stages.outcome import FAILED, describe, explain
from bench.store import Store
from reports.record import Outcome

Status = Literal["reused", "done", "failed", "skipped"]

WAIT = 0.2
"""Seconds between looks at a stage that another runner holds."""


@dataclass(frozen=True, slots=True)
class Event:
    """What became of one stage; told as it happens."""

    stage: Stage
    repeat: int
    status: Status
    seconds: float
    reason: str | None = None


@dataclass(slots=True)
class Summary:
    """What became of all of them."""

    events: list[Event] = field(default_factory=list)

    def count(self, status: Status) -> int:
        """How many stages ended so."""
        return sum(event.status == status for event in self.events)

    @property
    def failures(self) -> list[Event]:
        """Stages that have no record."""
        return [event for event in self.events if event.status in ("failed", "skipped")]


class Interrupted(Exception):
    """The run was asked to stop."""

    def __init__(self, number: int) -> None:
        self.exit_status = 128 + number
        super().__init__(signal.Signals(number).name)


def run_plan(
    plan: Plan,
    store: Store,
    executor: Executor,
    *,
    runs: Sequence[tuple[Stage, int]] | None = None,
    base: int = 0,
    on_start: Callable[[Stage, int], None] = lambda stage, repeat: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> Summary:
    """Bring every stage of `plan` to its records, one after another.

    A stage that fails leaves an attempt with its reason, and the stages that need it are
    skipped; the others go on. Running again tries what has no record. With `runs`, exactly those
    repeats are made here, and no other record stands for one; what they need is of the same repeat
    or, where there is none, of the repeat `base`.
    """
    name = store.save_plan(plan.to_bytes())
    summary = Summary()
    broken: dict[str, str] = {}
    is_there = _is_there if runs is None else _was_run_here
    for stage, repeat in plan.runs() if runs is None else runs:
        run = _Run(stage, repeat, base, name, store, executor, is_there)
        event = _bring(run, broken, on_start)
        if event.status in ("failed", "skipped"):
            broken.setdefault(stage.digest, f"{stage.kind} {stage.digest[:12]} {event.reason}")
        summary.events.append(event)
        on_event(event)
    return summary


def check_tasks(plan: Plan, store: Store, executor: Executor) -> Path | None:
    """Have every row looked at that the stages still to do will read, before the first starts.

    Returns:
        The log of a worker that could not look at all of them: their stages say why.

    Raises:
        SuiteError: a row that its task cannot read, one line a task.
    """
    readings = preflight.unchecked(plan, store)
    if not readings:
        return None
    name = store.save_plan(plan.to_bytes())
    log = store.tokens / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    status = executor.run(store.root, name, preflight.STAGE, log)
    if status == 0:
        log.unlink(missing_ok=True)
    faults = [fault for reading in readings if (fault := reading.fault(store))]
    if faults:
        # Several models may read one task.
        raise SuiteError("\n".join(dict.fromkeys(faults)))
    return log if status else None


def stop_on_signals() -> None:
    """Turn SIGINT and SIGTERM into `Interrupted`, so that a run ends in order."""

    def stop(number: int, frame: object) -> None:
        raise Interrupted(number)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


@dataclass(frozen=True, slots=True)
class _Run:
    """One repeat of one stage, and all that it takes to make it."""

    stage: Stage
    repeat: int
    base: int
    plan_name: str
    store: Store
    executor: Executor
    is_there: Callable[[Store, Stage, int], bool]

    @property
    def is_done(self) -> bool:
        """Whether its record is there."""
        return self.is_there(self.store, self.stage, self.repeat)


def _bring(run: _Run, broken: dict[str, str], on_start: Callable[[Stage, int], None]) -> Event:
    stage, repeat, store = run.stage, run.repeat, run.store
    start = time.perf_counter()
    # What failed once is not tried again and again in one run.
    cause = next((broken[need] for need in (*stage.needs, stage.digest) if need in broken), None)
    while True:
        if run.is_done:
            return Event(stage, repeat, "reused", 0.0)
        if cause:
            _attempt(store, stage, repeat, "skipped", cause)
            return Event(stage, repeat, "skipped", 0.0, cause)
        with store.claim(run_name(stage.digest, repeat)) as is_ours:
            # Another runner may have finished it between the look and the claim.
            if is_ours and not run.is_done:
                on_start(stage, repeat)
                return _execute(run, start)
        time.sleep(WAIT)


def _is_there(store: Store, stage: Stage, repeat: int) -> bool:
    return repeat not in store.lacks(stage.digest, this_machine().fingerprint, stage.repeats)


def _was_run_here(store: Store, stage: Stage, repeat: int) -> bool:
    return store.record_path(stage.digest, this_machine().fingerprint, repeat).exists()


def _execute(run: _Run, start: float) -> Event:
    stage, repeat, store = run.stage, run.repeat, run.store
    log = store.log_path(stage.digest)
    try:
        name = run_name(stage.digest, repeat, run.base)
        status = run.executor.run(store.root, run.plan_name, name, log)
    except Interrupted as interruption:
        _attempt(store, stage, repeat, "interrupted", f"stopped by {interruption}")
        raise
    seconds = time.perf_counter() - start
    if status == 0:
        return Event(stage, repeat, "done", seconds)
    if status != FAILED:
        outcome, reason = explain(status, log)
        _attempt(store, stage, repeat, outcome, reason)
    last = store.attempts(stage.digest)[-1]
    return Event(stage, repeat, "failed", seconds, f"{last.outcome}: {last.reason}")


def _attempt(store: Store, stage: Stage, repeat: int, outcome: Outcome, reason: str) -> None:
    started = datetime.datetime.now(datetime.UTC).isoformat()
    store.save_attempt(describe(stage, outcome, reason, {"started": started}, repeat=repeat))
