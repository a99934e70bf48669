"""The tables behind the tables: every stage that ran, and the settings it ran with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from reports.flat import flat_texts
from reports.record import Record
from reports.results import NOT_RUN, StageRun
from reports.tables.cells import Column, Table, label

LABELS = ("model", "task", "layout", "compression", "tuning", "setting")
STAGES = "stages"
"""Name of the table of stages; the page shows them where its numbers lead to."""
TEXT_LENGTH = 4000
"""Long enough for every parameter of a stage: a setting is part of the result, never cut off."""


def runs_table(runs: Iterable[StageRun]) -> Table:
    """Every stage: how it ended, how long it took and where it ran."""
    rows = [row for run in runs for row in _run_rows(run)]
    headers = ("stage", *LABELS, "seed", "outcome", "seconds", "machine", "digest", "reason")
    return _table_of_texts(STAGES, "Stages", headers, rows, numbers=("seconds",))


def parameters_table(runs: Iterable[StageRun]) -> Table:
    """The parameters every stage ran with; stages of one model that share them share a row."""
    owners: dict[tuple[str, str, str], list[StageRun]] = defaultdict(list)
    for run in runs:
        for record in run.found[:1]:
            key = (run.planned.kind, run.planned.labels.model, _parameters(run, record))
            owners[key].append(run)
    rows = [
        (kind, *(_distinct(sharing, name) for name in LABELS), parameters)
        for (kind, _, parameters), sharing in owners.items()
    ]
    headers = ("stage", *LABELS, "parameters")
    return _table_of_texts("settings", "Settings that were run", headers, rows)


def _table_of_texts(
    name: str,
    title: str,
    headers: tuple[str, ...],
    rows: Sequence[tuple[str, ...]],
    numbers: tuple[str, ...] = (),
) -> Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(headers)
    return Table(
        name=name,
        title=title,
        columns=tuple(
            Column(
                header=header,
                cells=tuple(label(text, TEXT_LENGTH) for text in column),
                kind="number" if header in numbers else "label",
            )
            for header, column in zip(headers, columns, strict=True)
        ),
    )


def _run_rows(run: StageRun) -> Iterator[tuple[str, ...]]:
    labels = run.planned.labels
    names = (run.planned.kind, *(getattr(labels, name) for name in LABELS))
    seed = "" if labels.seed is None else str(labels.seed)
    digest = run.planned.digest[:12]
    for record in run.found:
        where = (record.machine, digest, record.reason or "")
        yield (*names, seed, record.outcome, _seconds(record), *where)
    if not run.found:
        yield (*names, seed, NOT_RUN, "", "", digest, "")


def _seconds(record: Record) -> str:
    seconds = record.observed.get("seconds")
    return f"{seconds:.1f}" if isinstance(seconds, int | float) else ""


def _parameters(run: StageRun, record: Record) -> str:
    # The seed of the row is no setting: it would split what the seeds share. An emulator's own
    # seed is one of its parameters and stays.
    seeded = run.planned.labels.seed is not None
    return ", ".join(
        f"{path}={value}"
        for path, value in sorted(flat_texts(record.params))
        if not (seeded and path.rpartition(".")[2] == "seed")
    )


def _distinct(runs: Sequence[StageRun], name: str) -> str:
    values = dict.fromkeys(getattr(run.planned.labels, name) for run in runs)
    return "; ".join(value for value in values if value)
