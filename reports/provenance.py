"""Where the numbers of a report come from: their stages with record, command, log and data.

Stages that differ only in their seed share a place: a mean over seeds comes from one place.
"""

from __future__ import annotations

import os
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from reports.record import Record
from reports.results import NOT_RUN, Labels, PlanFile, PlannedStage, StageRun, is_machine_bound
from reports.tables.cells import COUNT, Style, one_line
from reports.tables.observed_cells import SETTING_NAMES

STORE = "../.."
"""The store, seen from the folder of a report."""
SECONDS = Style(decimals=1)
TEXT_LENGTH = 4000
"""Of a command: cut off, it would be another."""
WORD = re.compile(r"[^\s()']+(?:\([^\s()]*\)[^\s()']*)*")
"""What `-k` takes as one word without quotes."""
SHA256 = re.compile(r"[0-9a-f]{64}")


class Link(NamedTuple):
    """A file of the store."""

    name: str
    address: str
    """Relative to the folder of the report."""


class Source(NamedTuple):
    """One stage and what it left; where it ran several times, all of it."""

    seed: str
    """Empty where no seed enters."""
    outcome: str
    reason: str
    seconds: str
    items: str
    """How many items or tokens it scored; empty where it scored none."""
    records: tuple[Link, ...]
    logs: tuple[Link, ...]
    """Empty where none was kept."""
    data: tuple[Link, ...]
    """What it measured item by item or step by step."""

    @property
    def files(self) -> tuple[Link, ...]:
        """All of it."""
        return (*self.records, *self.logs, *self.data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Stages that differ in nothing but their seed."""

    anchor: str
    what: str
    """The setting or the kind of stage."""
    row: str
    """The labels its stages share."""
    made: str
    """On which machine, by which commit; empty where nothing ran."""
    command: str
    """What brings its stages to a record where they have none."""
    sources: tuple[Source, ...]

    @property
    def title(self) -> str:
        """What it is of which row."""
        return f"{self.what}: {self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """All stages of a report, and how to find the ones behind a number."""

    places: tuple[Place, ...] = ()
    made: str = ""
    """Where most of the places were made."""
    rerun: str = ""
    """The command that does one stage again, STAGE standing for its digest."""
    place_of: Mapping[str, Place] = field(default_factory=dict)
    """By the digest of a stage."""

    def places_of(self, stages: Iterable[str]) -> tuple[Place, ...]:
        """The places of some stages, each once; those of unknown stages are left out."""
        found = (self.place_of[digest] for digest in stages if digest in self.place_of)
        return tuple({place.anchor: place for place in found}.values())


def provenance(results: Path, plan: PlanFile, runs: Sequence[StageRun]) -> Provenance:
    """Find the record, command, log and data of every stage of a plan."""
    commands = _Commands(plan)
    attempts = str(results / "attempts")  # joined ten thousand times, which a Path takes long for
    grouped: dict[tuple[object, ...], list[StageRun]] = defaultdict(list)
    for run in runs:
        grouped[run.planned.row].append(run)
    places = tuple(
        Place(
            anchor=f"p{number}",
            what=_what(group[0].planned),
            row=_row(group[0].planned.labels),
            made=_made(group),
            command=commands.command(run.planned.labels for run in group),
            sources=tuple(_source(attempts, run) for run in group),
        )
        for number, group in enumerate(grouped.values(), start=1)
    )
    made = Counter(place.made for place in places if place.made).most_common(1)
    return Provenance(
        places=places,
        made=made[0][0] if made else "",
        rerun=f"python -m bench.worker RESULTS {plan.name} STAGE",
        place_of={
            run.planned.digest: place
            for place, group in zip(places, grouped.values(), strict=True)
            for run in group
        },
    )


def _what(stage: PlannedStage) -> str:
    if stage.kind != "evaluate":
        return one_line(stage.kind)
    return one_line(SETTING_NAMES.get(stage.labels.setting, stage.kind))


def _row(labels: Labels) -> str:
    peer = f"loop of {labels.peer}" if labels.peer else ""
    checkpoint = "" if labels.checkpoint is None else f"checkpoint {labels.checkpoint}"
    emulator = f"{labels.layout} {labels.compression}".strip()
    parts = (labels.model, labels.task, emulator, labels.tuning, peer, checkpoint)
    return one_line(", ".join(filter(None, parts)))


def _made(runs: Iterable[StageRun]) -> str:
    records = [record for run in runs for record in run.found]
    machines = _distinct(record.machine for record in records)
    commits = _distinct(map(_commit, records)) or "not known"
    return f"machine {machines}, commit {commits}" if records else ""


def _source(attempts: str, run: StageRun) -> Source:
    digest, labels = run.planned.digest, run.planned.labels
    # A plan is a file like any other: what is no digest is no folder either.
    kept = _kept(f"{attempts}/{digest}") if SHA256.fullmatch(digest) else []
    tries = [f"attempts/{digest}/{quote(name)}" for name in kept]
    records = [_record_path(record) for record in run.records]
    records = records or [path for path in tries if path.endswith(".json")]
    logs = [path for path in tries if path.endswith(".log")]
    data = {
        (name, f"blobs/{blob[:2]}/{blob}"): None
        for record in run.found
        for name, blob in record.blobs.items()
        if name.endswith(".jsonl") and name != "memory.jsonl" and SHA256.fullmatch(blob)
    }
    return Source(
        seed="" if labels.seed is None else str(labels.seed),
        outcome=_distinct(record.outcome for record in run.found) or NOT_RUN,
        reason=_reason(run),
        seconds=", ".join(_seconds(run.found)),
        items=" or ".join(dict.fromkeys(_items(run.records))),
        records=_links("record", records),
        logs=_links("log", logs),
        data=tuple(
            Link(name=one_line(name), address=f"{STORE}/{address}") for name, address in data
        ),
    )


def _reason(run: StageRun) -> str:
    """Why there is no result, or fewer than were asked for."""
    if run.records:
        return f"another run failed: {run.failure}" if run.failure else ""
    return _distinct(record.reason for record in run.found)


def _kept(folder: str) -> list[str]:
    """Names of the files a stage's tries left, oldest first."""
    try:
        found = [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []
    if len(found) > 1:
        found.sort(key=lambda name: (os.stat(f"{folder}/{name}").st_mtime_ns, name))
    return found


def _record_path(record: Record) -> str:
    name = f"{record.digest}.{record.machine}.{record.repeat}.json"
    return f"records/{quote(record.digest[:2], safe='')}/{quote(name, safe='')}"


def _links(name: str, paths: Sequence[str]) -> tuple[Link, ...]:
    """Several of one kind are numbered."""
    return tuple(
        Link(name=f"{name} {number}" if len(paths) > 1 else name, address=f"{STORE}/{path}")
        for number, path in enumerate(paths, start=1)
    )


def _distinct(texts: Iterable[str | None]) -> str:
    return one_line(", ".join(dict.fromkeys(filter(None, texts))))


def _seconds(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        seconds = record.observed.get("seconds")
        if isinstance(seconds, int | float):
            yield SECONDS.mean(seconds)


def _items(records: Iterable[Record]) -> Iterator[str]:
    for record in records:
        for metric in record.metrics if record.kind == "evaluate" else ():
            if metric.n is not None and not is_machine_bound(metric.metric, metric.unit):
                yield COUNT.mean(metric.n)


def _commit(record: Record) -> str:
    commit = str(record.environment.get("commit") or "")[:12]
    return f"{commit}+changes" if commit and record.environment.get("dirty") else commit


class _Commands:
    """The command of every place: the suite, cut down to the cases that need its stages."""

    def __init__(self, plan: PlanFile) -> None:
        profile = ["--profile", plan.profile] if plan.profile else []
        self.whole = ["offsite-bench", "run", plan.suite, *profile]
        named = [stage.labels for stage in plan.stages if stage.labels.case]
        shared = {_pattern(stage.labels) for stage in plan.stages if not stage.labels.case}
        first = {labels.case: labels for labels in reversed(named)}
        self.names = list(first)[::-1]
        self.count = cache("\n".join(self.names).count)
        self.sharing = {
            _key(labels, pattern): case for case, labels in first.items() for pattern in shared
        }

    def command(self, stages: Iterable[Labels]) -> str:
        """Of a stage that several cases share, the first case; without one, the whole suite."""
        cases = {(case, labels.seed): None for labels in stages if (case := self._case(labels))}
        chosen = ["-k", self._selecting(list(cases))] if cases else []
        return one_line(shlex.join([*self.whole, *chosen]), TEXT_LENGTH)

    def _case(self, labels: Labels) -> str:
        case = labels.case or self.sharing.get(_key(labels, _pattern(labels)), "")
        return "" if "'" in case else case

    def _selecting(self, cases: Sequence[tuple[str, int | None]]) -> str:
        """An expression for these cases alone: `-k` matches parts, and s1 is a part of s10."""
        own = dict.fromkeys(case for case, _ in cases)
        stems = list(own)
        if len(own) > 1:
            stems = list(dict.fromkeys(_seedless(case, seed) for case, seed in cases))
        others: list[str] = []
        if sum(map(self.count, stems)) > len(own):
            parts = [name for name in self.names if any(stem in name for stem in stems)]
            others = [name for name in parts if name not in own and "'" not in name]
        chosen = " or ".join(map(_word, stems))
        chosen = f"({chosen})" if others and len(stems) > 1 else chosen
        return " and not ".join((chosen, *map(_word, others)))


def _seedless(case: str, seed: int | None) -> str:
    """The part of a case's name that its other seeds share."""
    return case.removesuffix(str(seed)) if case.endswith(f"/s{seed}") else case


Pattern = tuple[bool, bool, bool, bool]
"""Which labels say what cases need a stage: emulator, tuning, task, seed."""


def _pattern(labels: Labels) -> Pattern:
    is_cut = bool(labels.compression)
    # Full fine-tuning has a tuning of its own, whatever the tuning of the cases.
    return is_cut, is_cut and bool(labels.tuning), bool(labels.task), labels.seed is not None


def _key(labels: Labels, pattern: Pattern) -> tuple[object, ...]:
    is_cut, is_tuned, has_task, has_seed = pattern
    return (
        labels.model,
        (labels.layout, labels.compression) if is_cut else None,
        labels.tuning if is_tuned else None,
        labels.task if has_task else None,
        labels.seed if has_seed else None,
    )


def _word(name: str) -> str:
    return name if WORD.fullmatch(name) else f"'{name}'"
