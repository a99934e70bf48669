"""What verbs need of a suite: its plan, what is done of it, and its report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.program import publish

if TYPE_CHECKING:
    from bench.plan import Plan, Stage
    from bench.store import Store


def lay_out(
    name: str,
    profile: str | None,
    sets: list[str] | None,
    select: str | None,
    *,
    online: bool = False,
    trust_remote_code: bool = False,
) -> Plan:
    """The plan of a suite on this machine."""
    from bench.plan import plan
    from bench.selection import parse
    from bench.suite import load_suite
    from bench.world import look_up

    suite = load_suite(name, profile=profile, sets=sets or ())
    chosen = parse(select) if select else None
    return plan(
        suite,
        look_up(suite, online=online),
        select=chosen,
        trust_remote_code=trust_remote_code,
    )


def as_run(store: Store, planned: Plan) -> Plan:
    """The plan under which the suite's results were made, if that was not on this machine.

    Versions and device are part of every digest. Results copied to a laptop are shown by the
    newest plan the store holds that differs from this one in nothing else.
    """
    from bench.plan import read_plan

    if any(store.has(stage.digest) for stage in planned.stages):
        return planned
    for path in store.plans():
        found = read_plan(path.read_bytes())
        if found.is_same_elsewhere(planned):
            made = ", ".join(f"{k} {v}" for k, v in found.stages[0].environment.items())
            print(f"offsite-bench: results made with {made}", file=sys.stderr)  # noqa: T201
            return found
    return planned


def done_stages(results: Path, planned: Plan) -> set[str]:
    """Digests of the plan's stages that have their records. No store yet: none."""
    from bench.store import Store

    if not (results / "STORE.json").exists():
        return set()
    store = Store.open(results)
    return {s.digest for s in planned.stages if not store.lacks(s.digest, None, s.repeats)}


def write_plan_report(store: Store, planned: Plan, formats: tuple[str, ...], *, show: bool) -> Path:
    """Render the report of a plan; returns its folder."""
    from reports.report import build_report
    from reports.results import read_plan

    plan_file = read_plan(saved(store, planned))
    built = build_report(store.root, plan_file, machine_shown(store, planned))
    label = planned.suite if planned.profile is None else f"{planned.suite}.{planned.profile}"
    folder = store.root / "reports" / label
    publish(built, folder, formats, show=show)
    return folder


def saved(store: Store, planned: Plan) -> Path:
    """The file of a plan in the store."""
    return store.plan_path(store.save_plan(planned.to_bytes()))


def machine_shown(store: Store, planned: Plan) -> str | None:
    """This machine, if it made any of the trainings; its speed and memory are then shown."""
    from bench.environment import this_machine
    from reports.record import TRAININGS

    own = this_machine().fingerprint
    trained = [stage for stage in planned.stages if stage.kind in TRAININGS]
    stages = trained or planned.stages
    made_here = any(store.record_path(stage.digest, own).exists() for stage in stages)
    return own if made_here else None


def labels_of(stage: Stage) -> dict[str, Any]:
    """The labels of a stage as plain values."""
    from dataclasses import asdict

    return asdict(stage.labels)
