"""From a suite to its table: every training of it within every budget."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.environment import this_machine
from bench.executors.local import LocalExecutor
from bench.fit.asked import Asked
from bench.fit.probes import Probes, Tried, rows_of
from bench.fit.search import Limit, limits
from bench.fit.table import Found, files, fit_notes, fit_table, told
from bench.runner import stop_on_signals
from bench.store import Store, write_replacing
from bench.suite import Suite
from bench.world import look_up
from reports.tables.cells import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was found, and where it is written."""

    found: list[Found]
    table: Table
    folder: Path

    @property
    def is_whole(self) -> bool:
        """Whether every cell has an answer."""
        return all(isinstance(each.answer, Limit) for each in self.found)


def find(
    suite: Suite, asked: Asked, results: Path, *, select: Callable[[str], bool] | None = None
) -> Findings:
    """Look for the largest batches, a training after the other, and write them down.

    Raises:
        BenchError: the suite has no training that can tell.
    """
    world = look_up(suite, online=True)
    rows = rows_of(suite, world, asked.lengths, select)
    store = Store.create(results)
    stop_on_signals()
    with LocalExecutor() as executor:
        probes = Probes(
            suite=suite, world=world, store=store, executor=executor, select=select, on_trial=_tell
        )
        found = [
            Found(row=row, budget=budget, answer=answer)
            for row in rows
            if row.is_readable
            for budget, answer in limits(
                partial(probes.trial, row), asked.budgets, most=asked.most, steps=asked.steps
            )
        ]
    table = fit_table(suite.name, found, fit_notes(this_machine(), rows, asked.steps))
    label = suite.name if suite.profile is None else f"{suite.name}.{suite.profile}"
    folder = store.root / "reports" / label
    for name, text in files(table).items():
        write_replacing(folder / name, text.encode())
    return Findings(found=found, table=table, folder=folder)


def _tell(tried: Tried) -> None:
    print(told(tried), file=sys.stderr, flush=True)  # noqa: T201
