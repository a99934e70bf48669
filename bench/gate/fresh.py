"""A suite measured with the code that is here, whatever the store holds of other code."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count, islice
from pathlib import Path

from bench.environment import facts, this_machine
from bench.executors.local import Executor
from bench.plan import Plan, Stage
from bench.runner import Event, run_plan
from bench.store import Store
from reports.gate.baseline import made_by
from reports.record import TRAININGS, read_record
from reports.results import PlanFile, StageRun, read_stages


def measure(
    plan: Plan,
    store: Store,
    executor: Executor,
    repeats: tuple[int, ...],
    *,
    on_start: Callable[[Stage, int], None] = lambda stage, repeat: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> None:
    """Bring every stage once, and what is timed under each of the repeats, to records.

    A record of other code is no evidence of this one: it has another repeat, and stays. Nor is
    anything made from one: what the repeats need is that of the first.
    """
    run_plan(
        plan,
        store,
        executor,
        runs=fresh_runs(plan, repeats),
        base=repeats[0],
        on_start=on_start,
        on_event=on_event,
    )


def free_repeats(plan: Plan, store: Store, runs: int) -> tuple[int, ...]:
    """The first repeats under which nothing has a record of other code, or was made from one.

    So what this code has run already counts, if it went on from the first of these repeats.
    """
    here = made_by(facts())

    def is_free(repeat: int, base: int) -> bool:
        return all(_is_ours(store, stage, repeat, base, here) for stage in plan.stages)

    base = next(each for each in count() if is_free(each, each))
    more = (each for each in count(base + 1) if is_free(each, base))
    return (base, *islice(more, runs - 1))


def unused_repeats(plan: Plan, store: Store, runs: int) -> tuple[int, ...]:
    """The first repeats under which no stage of the plan has a record: another session."""
    unused = (
        r for r in count() if not any(_path(store, s.digest, r).exists() for s in plan.stages)
    )
    return tuple(islice(unused, runs))


def fresh_runs(plan: Plan, repeats: tuple[int, ...]) -> list[tuple[Stage, int]]:
    """Every stage once, then the timed ones again and again, to and fro."""
    runs = [(stage, repeats[0]) for stage in plan.stages]
    timed = [stage for stage in plan.stages if stage.kind in TRAININGS]
    for turn, repeat in enumerate(repeats[1:]):
        again = [(stage, repeat) for stage in timed]
        runs += again if turn % 2 else reversed(again)
    return runs


def records_of(store: Store, plan: PlanFile, repeats: tuple[int, ...]) -> list[StageRun]:
    """Every stage with its records of these repeats on this machine, and no others."""
    return read_stages(store.root, plan, repeats, machine=this_machine().fingerprint)


def _is_ours(store: Store, stage: Stage, repeat: int, base: int, here: str) -> bool:
    """Whether there is no record, or one of this code that went on from that base."""
    path = _path(store, stage.digest, repeat)
    if not path.exists():
        return True
    record = read_record(path)
    is_of_base = not stage.needs or record.observed.get("base", 0) == base
    return is_of_base and made_by(record.environment) == here


def _path(store: Store, digest: str, repeat: int) -> Path:
    return store.record_path(digest, this_machine().fingerprint, repeat)
