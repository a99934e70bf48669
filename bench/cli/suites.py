"""Verbs that run a suite, or say what running it would mean."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from bench.cli.planned import as_run, done_stages, labels_of, lay_out, write_plan_report
from bench.cli.program import (
    DEFAULT_RESULTS,
    FORMATS,
    INCOMPLETE,
    AsJson,
    Profile,
    Results,
    Select,
    Sets,
    SuiteName,
    app,
    print_json,
    print_lines,
)


@app.command()
def run(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, start nothing.")] = (
        False
    ),
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code that comes with a model.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Plan, run what is missing, write the report."""
    if dry_run:
        plan(suite, results, profile, sets, select, as_json)
        return
    from bench.executors.local import LocalExecutor
    from bench.progress import Shown
    from bench.runner import check_tasks, run_plan, stop_on_signals
    from bench.store import Store

    planned = lay_out(
        suite, profile, sets, select, online=True, trust_remote_code=trust_remote_code
    )
    store = Store.create(results)
    stop_on_signals()
    with LocalExecutor() as executor, Shown(len(planned.runs()), quiet=as_json) as shown:
        unchecked = check_tasks(planned, store, executor)
        if unchecked:
            note = f"not all tasks could be checked before the run; see {unchecked}"
            print(f"offsite-bench: {note}", file=sys.stderr)  # noqa: T201
        summary = run_plan(planned, store, executor, on_start=shown.started, on_event=shown.ended)
    written = write_plan_report(store, planned, FORMATS, show=not as_json)
    counts = {status: summary.count(status) for status in ("done", "reused", "failed", "skipped")}
    if as_json:
        failures = [
            {
                "digest": e.stage.digest,
                "repeat": e.repeat,
                "labels": labels_of(e.stage),
                "reason": e.reason,
            }
            for e in summary.failures
        ]
        print_json({"stages": counts, "failures": failures, "report": str(written)})
    else:
        listed = ", ".join(f"{count} {status}" for status, count in counts.items())
        stages, runs = len(planned.stages), len(planned.runs())
        again = f" in {runs} runs" if runs > stages else ""
        print(f"\n{len(planned.cases)} cases, {stages} stages{again}: {listed}")  # noqa: T201
        print(f"report: {written / 'report.html'}")  # noqa: T201
    if summary.failures:
        raise typer.Exit(INCOMPLETE)


@app.command()
def plan(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    as_json: AsJson = False,
) -> None:
    """Show cases and stages, and which of them are there already. Starts nothing."""
    from bench.showing import plan_lines

    planned = lay_out(suite, profile, sets, select)
    done = done_stages(results, planned)
    if as_json:
        stages = [
            {"digest": s.digest, "kind": s.kind, "labels": labels_of(s), "done": s.digest in done}
            for s in planned.stages
        ]
        print_json({"cases": planned.cases, "stages": stages, "pending": planned.pending})
    else:
        print_lines(plan_lines(planned, done))


@app.command()
def status(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    as_json: AsJson = False,
) -> None:
    """Say which stages are done, which failed and why, and which are still to do."""
    from bench.showing import status_lines, status_rows
    from bench.store import Store

    planned = lay_out(suite, profile, sets, select)
    store = Store.open(results)
    rows = status_rows(store, as_run(store, planned))
    if as_json:
        print_json(rows)
    else:
        print_lines(status_lines(rows))
    if any(row["state"] != "done" for row in rows):
        raise typer.Exit(INCOMPLETE)
