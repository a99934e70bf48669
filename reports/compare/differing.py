"""What differs between sides beside the numbers: settings, data, versions of code and packages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reports.compare.sides import Side, identity
from reports.flat import flat_texts
from reports.record import Record
from reports.results import PlannedStage

MADE = ("emulator", "tuned")
"""Inputs that other stages made: they differ because something named here does."""
DEFAULT = "default"
"""Stands for a setting that the record does not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differing:
    """One setting that is not the same on all sides."""

    what: str
    values: Mapping[str, str]
    """By the letter of the side; a side without any such stage is not there."""
    stages: tuple[PlannedStage, ...]
    """Of the first side that has each."""


def differing(sides: Sequence[Side]) -> list[Differing]:
    """Settings of stages with the same labels, those that differ alike together."""
    found: list[Differing] = []
    for stage, records in _matched(sides):
        settings = {letter: dict(_settings(record)) for letter, record in records.items()}
        for name in dict.fromkeys(name for own in settings.values() for name in own):
            values = {letter: own.get(name, DEFAULT) for letter, own in settings.items()}
            if len(set(values.values())) > 1:
                _add(found, Differing(what=name, values=values, stages=(stage,)))
    return found


def _add(found: list[Differing], new: Differing) -> None:
    """Join it to one that says the same, as far as both know a side; else it is one more."""
    for place, old in enumerate(found):
        known = old.values.items() | new.values.items()
        if old.what == new.what and len(known) == len(dict(known)):
            values = dict(sorted(known))
            found[place] = replace(old, values=values, stages=old.stages + new.stages)
            return
    found.append(new)


def _matched(sides: Sequence[Side]) -> Iterator[tuple[PlannedStage, dict[str, Record]]]:
    """Every stage that several sides have something of, with the first record of each."""
    stages: dict[tuple[object, ...], PlannedStage] = {}
    records: dict[tuple[object, ...], dict[str, Record]] = defaultdict(dict)
    for side in sides:
        for run in side.runs:
            for record in run.found[:1]:
                key = identity(run.planned)
                stages.setdefault(key, run.planned)
                records[key][side.letter] = record
    for key, by_letter in records.items():
        if len(by_letter) > 1:
            yield stages[key], by_letter


def _settings(record: Record) -> Iterator[tuple[str, str]]:
    yield from flat_texts(record.params)
    for role, digest in record.inputs.items():
        if role not in MADE:
            yield f"input {role}", digest
    yield "code version of the stage", str(record.version)
    packages = record.environment.get("packages")
    for name, version in packages.items() if isinstance(packages, Mapping) else ():
        yield f"package {name}", str(version)
