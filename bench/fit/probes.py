"""Try a batch: an ordinary stage of an ordinary plan, so that what is known is not run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bench.environment import this_machine
from bench.errors import BenchError
from bench.executors.local import Executor
from bench.fit.search import Undetermined
from bench.plan import Labels, Plan, Stage
from bench.plan import plan as lay_out
from bench.runner import run_plan
from bench.store import Store
from bench.suite import Suite, Task, Train
from bench.suite.suite_file import Override, When
from bench.world import World
from reports.record import TRAININGS, Outcome

TOKENS = "synthetic_tokens"
OUT_OF_MEMORY: dict[str, Outcome] = {"cuda": "oom_gpu", "cpu": "oom_host"}
"""By device: the outcome of a training that went over its budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One training of a suite, whatever its batch."""

    labels: Labels
    length: int | None
    """Tokens of a sample; None for images."""
    positions: int | None
    """The longest its model was made for; None where it has no limit."""

    @property
    def is_readable(self) -> bool:
        """Whether the samples are not too long for the model."""
        return self.length is None or self.positions is None or self.length <= self.positions


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What came of one trial; told as it happens."""

    row: Row
    budget: float
    batch: int
    steps: int
    reason: str | None
    """How it ran out of memory; None where it trained."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Everything a trial needs but for the row, the budget and the batch."""

    suite: Suite
    world: World
    store: Store
    executor: Executor
    select: Callable[[str], bool] | None = None
    on_trial: Callable[[Tried], None] = lambda tried: None

    def trial(self, row: Row, budget: float, steps: int, batch: int) -> str | None:
        """Train so: None, or how it ran out of memory.

        Raises:
            Undetermined: it failed otherwise.
        """
        start = time.perf_counter()
        train = Train(batch_size=batch, max_steps=steps, memory_cap=budget, checkpoints=1)
        reason = self._outcome(*self._planned(row, train))
        seconds = time.perf_counter() - start
        self.on_trial(
            Tried(row=row, budget=budget, batch=batch, steps=steps, reason=reason, seconds=seconds)
        )
        return reason

    def _planned(self, row: Row, train: Train) -> tuple[Plan, Stage]:
        """The plan of one training and what it needs, and the training in it."""
        suite = probed(self.suite, train, row.length)
        whole = lay_out(suite, self.world, select=self.select)
        stage = next(stage for stage in trainings(whole) if named(stage) == row.labels)
        needed = [each for each in whole.stages if each.digest in stage.needs]
        name = f"{whole.suite}.fit"
        return Plan(name, whole.profile, stages=[*needed, stage]), stage

    def _outcome(self, plan: Plan, stage: Stage) -> str | None:
        machine, digest = this_machine(), stage.digest
        over = OUT_OF_MEMORY[machine.device]
        if self.store.lacks(digest, machine.fingerprint, stage.repeats):
            for attempt in self.store.attempts(digest):
                if attempt.machine == machine.fingerprint and attempt.outcome == over:
                    return attempt.reason
        event = run_plan(plan, self.store, self.executor).events[-1]
        if event.status in ("done", "reused"):
            return None
        last = self.store.attempts(digest)[-1]
        if last.outcome == over:
            return last.reason
        raise Undetermined(event.reason)


def rows_of(
    suite: Suite,
    world: World,
    lengths: Sequence[int],
    select: Callable[[str], bool] | None = None,
) -> list[Row]:
    """Every training on samples drawn at random, with each length; of its seeds the first.

    Raises:
        BenchError: there is none, or no sample has a length.
    """
    found: dict[Labels, dict[int | None, Row]] = {}
    for length in lengths or (None,):
        own = probed(suite, Train(), length)
        for stage in trainings(lay_out(own, world, select=select)):
            row = Row(
                labels=named(stage),
                length=_length(own.tasks[stage.labels.task]),
                positions=world.sources[stage.labels.model].positions,
            )
            found.setdefault(row.labels, {})[row.length] = row
    rows = [row for each in found.values() for row in each.values()]
    if not rows:
        raise BenchError(
            f"{suite.origin}: nothing trains on synthetic_tokens or synthetic_images, whose "
            "samples are all of one size; the suite 'efficiency' has such tasks"
        )
    if not any(row.is_readable for row in rows):
        most = max(row.positions or 0 for row in rows)
        raise BenchError(f"{suite.origin}: samples are too long; no model takes over {most} tokens")
    if lengths and all(row.length is None for row in rows):
        raise BenchError("--length: images have none; leave it out")
    return rows


def probed(suite: Suite, train: Train, length: int | None) -> Suite:
    """The suite with its trainings changed as `train` says, each once and by our loop."""
    return replace(
        suite,
        tasks={name: _of_length(task, length) for name, task in suite.tasks.items()},
        peers=(),
        repeats=1,
        overrides=(*suite.overrides, Override(when=When(), train=train)),
    )


def _length(task: Task) -> int | None:
    return task.parameters.length if task.kind == TOKENS else None


def _of_length(task: Task, length: int | None) -> Task:
    if length is None or task.kind != TOKENS:
        return task
    return replace(task, parameters=replace(task.parameters, length=length))


def trainings(plan: Plan) -> Iterator[Stage]:
    """Stages that train on samples drawn at random."""
    return (stage for stage in plan.stages if stage.kind in TRAININGS and stage.repeats)


def named(stage: Stage) -> Labels:
    """The labels of a stage that stay when its batch changes, without the seed."""
    return replace(stage.labels, case="", seed=None)
