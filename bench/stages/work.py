"""What a stage function gets and what it returns."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.measure.memory import MemoryMeter
from bench.plan import Stage
from bench.store import Store
from reports.record import Metric, Record, read_record


@dataclass(frozen=True, slots=True)
class Work:
    """One stage to do."""

    stage: Stage
    store: Store
    machine: str
    """Fingerprint, to prefer this machine's records among the inputs'."""
    scratch: Path
    """A folder that is removed when the stage ends."""
    memory: MemoryMeter
    repeat: int = 0
    base: int = 0
    """Repeat of the inputs that have none of this one's."""

    @property
    def device(self) -> str:
        """cpu or cuda, as the plan says."""
        return self.stage.environment["device"]

    def input_record(self, role: str) -> Record:
        """The record of a stage this one needs."""
        digest = self.stage.inputs[role]
        path = self.store.find(digest, self.machine, self.repeat, self.base)
        if path is None:
            raise FileNotFoundError(f"stage {digest[:12]} ({role}) has no record yet")
        return read_record(path)


@dataclass(slots=True)
class StageResult:
    """What a stage found out and wrote."""

    metrics: list[Metric] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)
    """Blob name to a file in the scratch folder."""
    facts: dict[str, Any] = field(default_factory=dict)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """One JSON object a line."""
    path.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))
    return path
