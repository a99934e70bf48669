"""What a run has checked before its first stage: every row of every task that it will read.

Reading a task takes a tokenizer, so a worker does it (`bench.tasks.checking`). What it finds is
kept beside the tokens it makes, and is not looked for again while nothing it rests on changes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.environment import this_machine
from bench.plan import Plan, Stage
from bench.stages import KINDS
from bench.store import Store, write_replacing
from bench.tasks import kinds as task_kinds
from reports.record import canonical

STAGE = "tasks"
"""What a worker is told in the place of a stage's digest."""


@dataclass(slots=True, kw_only=True)
class Reading:
    """A task as one model reads it."""

    model: Mapping[str, Any]
    """`source`, `revision` and `trust_remote_code`, for `offsite.models.load_outline`."""
    task: Mapping[str, Any]
    data: Mapping[str, str]
    """Where the task's data lie on this machine."""
    rests_on: set[bytes] = field(default_factory=set)
    """Of each stage: versions, and what stands for its model and its data."""
    is_needed: bool = False
    """Whether a stage that reads it has no record yet."""

    @property
    def key(self) -> str:
        """The name of what was found."""
        content = [b"".join(sorted(self.rests_on)), canonical(self.task)]
        return hashlib.sha256(b"".join(content)).hexdigest()

    def fault(self, store: Store) -> str | None:
        """The line that says what is wrong with it; None if nothing is, or nobody looked."""
        found = _found(store, self.key)
        return found["fault"] if found else None

    def keep(self, store: Store, fault: str | None) -> None:
        """Note what was found; None says that every row is sound."""
        content = json.dumps({"fault": fault}).encode()
        write_replacing(store.tokens / f"{self.key}.json", content)


def unchecked(plan: Plan, store: Store) -> list[Reading]:
    """What stages that are still to do will read, but for what was found sound before."""
    stages = {stage.digest: stage for stage in plan.stages}
    readings: dict[bytes, Reading] = {}
    machine = this_machine().fingerprint
    for stage in plan.stages:
        owner = stage if "model" in stage.inputs else stages[stage.inputs["emulator"]]
        for role, task in _tasks(stage):
            model = {
                "source": owner.locations["model"],
                "revision": owner.locations.get("revision"),
                "trust_remote_code": owner.params.get("trust_remote_code", False),
            }
            data = stage.locations[role]
            each = Reading(model=model, task=task, data=data)
            reading = readings.setdefault(canonical([model, task, data]), each)
            version = KINDS["evaluate"].version
            reading.rests_on.add(
                canonical([version, stage.environment, owner.inputs["model"], stage.inputs[role]])
            )
            reading.is_needed |= bool(store.lacks(stage.digest, machine, stage.repeats))
    needed = (reading for reading in readings.values() if reading.is_needed)
    return [reading for reading in needed if _found(store, reading.key) != {"fault": None}]


def _tasks(stage: Stage) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The tasks whose rows a stage reads, by the role of their data."""
    steps = enumerate(stage.params.get("compression", ()))
    roles = {f"corpus.{i}": step.get("corpus") for i, step in steps}
    for role, task in {"data": stage.params.get("task"), **roles}.items():
        if task is not None and not task_kinds.KINDS[task["kind"]].is_drawn:
            yield role, task


def _found(store: Store, key: str) -> dict[str, str | None] | None:
    """What a worker found; None if it did not look, or left no file that can be read."""
    try:
        found: dict[str, str | None] = json.loads((store.tokens / f"{key}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "fault" in found else None
