"""Per-step and per-sample data of a stage, from the files its record names."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reports.record import Record
from reports.results import StageRun

HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The records of a report, by digest, with the store that holds their files."""

    results: Path
    records: Mapping[str, Record]

    def rows(self, digest: str, name: str) -> list[dict[str, Any]]:
        """The rows of a stage's file; none where there is no such file, or not a whole one.

        What is read here is only drawn: checking a file against its hash is for who verifies.
        """
        record = self.records.get(digest)
        file = record.blobs.get(name, "") if record else ""
        if not HASH.fullmatch(file):
            return []
        try:
            lines = (self.results / "blobs" / file[:2] / file).read_bytes().split(b"\n")
            found = json.loads(b"[" + b",".join(filter(None, lines)) + b"]")
        except (OSError, ValueError, RecursionError):
            return []
        return [row for row in found if isinstance(row, dict)]

    def facts(self, digest: str, name: str) -> dict[str, Any]:
        """A mapping among a record's facts; empty where there is none."""
        record = self.records.get(digest)
        found = record.facts.get(name) if record else None
        return found if isinstance(found, dict) else {}


def finite(value: object) -> float | None:
    """A number that can be drawn; None for anything else a file may hold."""
    if not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def kept(results: Path, runs: Iterable[StageRun], machine: str | None) -> Kept:
    """The first record of every stage, that of the machine reported where it has one."""
    records = {
        run.planned.digest: min(run.found, key=lambda record: record.machine != machine)
        for run in runs
        if run.found
    }
    return Kept(results=results, records=records)
