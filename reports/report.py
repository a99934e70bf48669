"""Everything one report shows, gathered from the store and ready to be written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from reports.aside import aside
from reports.blobs import Kept, kept
from reports.collector import resting
from reports.comparison import Compared, compared
from reports.crossed import crossed_scores
from reports.figures.picture import Gallery, Picture
from reports.provenance import Provenance, provenance
from reports.record import Record
from reports.results import UNREPORTED, PlanFile, StageRun, makers, read_stages, rows
from reports.tables.appendix import parameters_table, runs_table
from reports.tables.break_even import break_even_tables
from reports.tables.cells import Table, one_line
from reports.tables.compressions import compression_tables
from reports.tables.disclosure import disclosure_tables, leak_tables
from reports.tables.efficiency import efficiency_tables
from reports.tables.notes import shared_notes
from reports.tables.oracle import oracle_tables
from reports.tables.positions import position_tables
from reports.tables.settings import further_tables, settings_tables
from reports.tables.tasks import task_tables
from reports.tables.tunings import tuning_tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How far the plan got, in stages."""

    planned: int
    ok: int
    failed: int
    missing: int

    @property
    def text(self) -> str:
        """One phrase, naming only what there is."""
        parts = [f"{self.planned} planned", f"{self.ok} ok"]
        parts += [f"{self.failed} failed"] * bool(self.failed)
        parts += [f"{self.missing} not run"] * bool(self.missing)
        return ", ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One page."""

    suite: str
    profile: str
    """Empty: the suite as it stands."""
    counts: Counts
    warnings: tuple[str, ...]
    """What must be known before any number is believed."""
    facts: tuple[tuple[str, str], ...]
    """Machine, versions, commit: name and value."""
    tables: tuple[Table, ...]
    pictures: tuple[Picture, ...]
    further: tuple[Table, ...]
    """Other quality metrics, then the settings and the stages."""
    figures_note: str = ""
    """Says that not every picture was drawn; empty where all were."""
    provenance: Provenance = field(default_factory=Provenance)
    """The stages again, to be found from a number."""
    legend: tuple[str, ...] = field(init=False)
    """Notes that several of the main tables share."""

    def __post_init__(self) -> None:
        # Every table asks for it: it is not to be looked for each time.
        object.__setattr__(self, "legend", shared_notes(self.tables))

    @property
    def title(self) -> str:
        """The suite and its profile."""
        return f"{self.suite} ({self.profile})" if self.profile else self.suite

    def own_notes(self, table: Table) -> tuple[str, ...]:
        """What a main table has to say beyond the legend."""
        return tuple(note for note in table.notes if note not in self.legend)


@resting()
def build_report(results: Path, plan: PlanFile, machine: str | None = None) -> Report:
    """Gather the report of one plan.

    `machine` names whose speed and memory to show; without it, the machine that did most of the
    plan. The two are never mixed.
    """
    runs = read_stages(results, plan, without=UNREPORTED)
    shown = machine or _busiest(runs)
    found = compared(rows(runs, machine=shown, with_not_run=True))
    work = partial(_drawn_and_further, found, kept(results, runs, shown))
    # It takes about a second, which nobody notices unless all else takes long too.
    with aside(work, len(runs)) as drawn_and_further:
        tables = (
            *settings_tables(found),
            *task_tables(found),
            *oracle_tables(found),
            *efficiency_tables(found),
            *compression_tables(found),
            *tuning_tables(found),
            *position_tables(found),
            *break_even_tables(found),
            *disclosure_tables(found),
        )
        appendix = (parameters_table(runs), runs_table(runs))
        origin = provenance(results, plan, runs)
        pictures, further = drawn_and_further()
    return Report(
        suite=one_line(plan.suite),
        profile=one_line(plan.profile or ""),
        counts=counted(runs),
        warnings=tuple(crossed_scores(runs)),
        facts=tuple(_facts(runs, shown)),
        tables=tables,
        pictures=pictures.pictures,
        figures_note=pictures.note,
        further=(*further, *appendix),
        provenance=origin,
    )


def _drawn_and_further(found: Compared, blobs: Kept) -> tuple[Gallery, tuple[Table, ...]]:
    """The pictures, and the tables of other metrics, which have little in common with the main."""
    from reports.figures.gallery import gallery  # matplotlib is large: only who draws loads it

    return gallery(found, blobs), (*further_tables(found), *leak_tables(found))


def _busiest(runs: Iterable[StageRun]) -> str | None:
    done = makers(record for run in runs for record in run.found)
    return min(done, key=lambda name: (-done[name], name), default=None)


def counted(runs: Sequence[StageRun]) -> Counts:
    """How far these stages got."""
    return Counts(
        planned=len(runs),
        ok=sum(bool(run.records) for run in runs),
        failed=sum(run.is_failed for run in runs),
        missing=sum(not run.found for run in runs),
    )


def _facts(runs: Iterable[StageRun], machine: str | None) -> Iterator[tuple[str, str]]:
    """What the records say of where they were made; several values where they do not agree."""
    records = [record for run in runs for record in run.found]
    yield from _merged(_origin(record) for record in records)
    own = [record.environment for record in records if record.machine == machine]
    # Of those alike one after another, nearly all, one tells what the others do.
    unlike = (environment for environment, _ in groupby(own))
    yield from _merged(dict(_flat({**env, "commit": None, "dirty": None})) for env in unlike)
    others = sorted({record.machine for record in records} - {machine})
    if others:
        yield "also from machines", one_line(f"{', '.join(others)} (quality only)")


def _origin(record: Record) -> dict[str, str]:
    commit = str(record.environment.get("commit") or "not known")
    return {"commit": f"{commit} + local changes" if record.environment.get("dirty") else commit}


def _merged(facts: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    values: dict[str, dict[str, None]] = {}
    for fact in facts:
        for name, value in fact.items():
            values.setdefault(name, {})[value] = None
    for name, distinct in values.items():
        yield one_line(name), one_line(" | ".join(distinct))


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as dotted names; what is empty says nothing and is left out."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            yield from _flat(
                {str(index): item for index, item in enumerate(value)}, f"{prefix}{key}."
            )
        elif value not in (None, "", [], ()):
            text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{key}", text
