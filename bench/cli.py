"""The command line. Verbs are thin: they check, call, print, and choose the exit status.

0 ok, 1 our own bug, 2 usage or invalid suite, 3 incomplete, 130/143 interrupted.
Nothing heavy is imported before a verb needs it; torch never is.
"""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bench.plan import Plan
    from bench.store import Store

INCOMPLETE = 3

app = typer.Typer(
    name="offsite-bench",
    help="Benchmark Offsite-Tuning: emulators, tuning, plug-in, and what they cost.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="Built-in suite or a YAML file.")]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="The result store.")]
Profile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="A profile of the suite.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value, as in train.max_steps=20."),
]
Select = Annotated[
    str | None,
    typer.Option("-k", metavar="EXPR", help="Only cases whose names match, as in 'lora and s0'."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
DEFAULT_RESULTS = Path("results")


class Listed(StrEnum):
    """What `list` can list."""

    MODELS = "models"
    COMPRESSIONS = "compressions"
    TUNINGS = "tunings"
    TASKS = "tasks"
    SUITES = "suites"


class Table(StrEnum):
    """Formats of `export`."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


def main() -> None:
    """Entry point: run a verb, turn expected errors into one line and an exit status."""
    sys.exit(call(sys.argv[1:]))


def call(arguments: list[str]) -> int:
    """Run one command line; returns the exit status."""
    try:
        app(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        expected = _exit_status(error)
        if expected is None:
            raise
        for line in str(error).split("\n"):
            print(f"offsite-bench: {line}", file=sys.stderr)  # noqa: T201
        return expected
    return 0


def _exit_status(error: Exception) -> int | None:
    """Exit status of an error we raise on purpose; None for our own bugs."""
    from bench.errors import BenchError
    from bench.runner import Interrupted
    from offsite.errors import OffsiteError
    from reports.errors import ReportError

    if isinstance(error, BenchError | Interrupted):
        return error.exit_status
    return 2 if isinstance(error, OffsiteError | ReportError) else None


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

    planned = _plan(suite, profile, sets, select, online=True, trust_remote_code=trust_remote_code)
    store = Store.create(results)
    stop_on_signals()
    with LocalExecutor() as executor, Shown(len(planned.runs()), quiet=as_json) as shown:
        unchecked = check_tasks(planned, store, executor)
        if unchecked:
            note = f"not all tasks could be checked before the run; see {unchecked}"
            print(f"offsite-bench: {note}", file=sys.stderr)  # noqa: T201
        summary = run_plan(planned, store, executor, on_start=shown.started, on_event=shown.ended)
    written = _write_report(store, planned, ("html", "markdown", "latex", "csv"), show=not as_json)
    counts = {status: summary.count(status) for status in ("done", "reused", "failed", "skipped")}
    if as_json:
        failures = [
            {
                "digest": e.stage.digest,
                "repeat": e.repeat,
                "labels": _labels(e.stage),
                "reason": e.reason,
            }
            for e in summary.failures
        ]
        _print_json({"stages": counts, "failures": failures, "report": str(written)})
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

    planned = _plan(suite, profile, sets, select)
    done = _done(results, planned)
    if as_json:
        stages = [
            {"digest": s.digest, "kind": s.kind, "labels": _labels(s), "done": s.digest in done}
            for s in planned.stages
        ]
        _print_json({"cases": planned.cases, "stages": stages, "pending": planned.pending})
    else:
        _print_lines(plan_lines(planned, done))


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

    planned = _plan(suite, profile, sets, select)
    store = Store.open(results)
    rows = status_rows(store, _as_run(store, planned))
    if as_json:
        _print_json(rows)
    else:
        _print_lines(status_lines(rows))
    if any(row["state"] != "done" for row in rows):
        raise typer.Exit(INCOMPLETE)


@app.command()
def report(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    formats: Annotated[
        str, typer.Option("--format", metavar="LIST", help="html,markdown,latex,csv")
    ] = "html,markdown,latex,csv",
    as_json: AsJson = False,
) -> None:
    """Write the report again from what is in the store."""
    from bench.errors import BenchError, NothingToShow
    from bench.names import unknown
    from bench.store import Store

    known = ("html", "markdown", "latex", "csv")
    chosen = tuple(name.strip() for name in formats.split(",") if name.strip())
    for name in chosen:
        if name not in known:
            raise BenchError(unknown("format", name, known))
    planned = _plan(suite, profile, sets, select)
    store = Store.open(results)
    planned = _as_run(store, planned)
    done = _done(results, planned)
    if not done:
        raise NothingToShow(f"no stage of {suite!r} has a record in {results}; run it first")
    written = _write_report(store, planned, chosen, show=not as_json)
    if as_json:
        _print_json({"report": str(written)})
    else:
        print(f"\nreport: {written}")  # noqa: T201
    if len(done) < len(planned.stages):
        raise typer.Exit(INCOMPLETE)


@app.command()
def export(
    suite: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="Without it, the whole store.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    table: Annotated[Table, typer.Option("--format", help="What to print.")] = Table.CSV,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format jsonl.")] = False,
) -> None:
    """Print results as one long tidy table on stdout."""
    from bench.errors import NothingToShow
    from bench.store import Store
    from reports.results import read_plan, tidy

    store = Store.open(results)
    planned, machine = None, None
    if suite is not None:
        own = _as_run(store, _plan(suite, profile, sets, select))
        planned, machine = read_plan(_saved(store, own)), _machine(store, own)
    frame = tidy(store.root, planned, machine)
    if frame.empty:
        raise NothingToShow(f"no results in {results} for this; run the suite first")
    table = Table.JSONL if as_json else table
    if table is Table.CSV:
        frame.to_csv(sys.stdout, index=False)
    elif table is Table.JSONL:
        frame.to_json(sys.stdout, orient="records", lines=True)
    else:
        frame.to_parquet(sys.stdout.buffer, index=False)


@app.command("list")
def list_(what: Listed, as_json: AsJson = False) -> None:
    """List models, compressions, tunings, tasks or suites, one line each."""
    from bench.showing import listed

    rows = listed(what.value)
    if as_json:
        _print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    width = max(len(name) for name, _ in rows)
    _print_lines(f"{name:{width}}  {summary}" for name, summary in rows)


@app.command()
def schema(as_json: AsJson = True) -> None:
    """Print the JSON Schema of a suite file, for completion in editors."""
    from bench.suite import json_schema

    _print_json(json_schema())


@app.command()
def fit(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="GB,GB", help="Default: those of 8,12,16,24,40,80 that this machine can hold."
        ),
    ] = None,
    length: Annotated[
        str | None, typer.Option(metavar="N,N", help="Tokens of a sample, as in 512,2048.")
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Larger ones are not tried.")] = 1024,
    confirm_steps: Annotated[
        int, typer.Option(min=1, help="Length of the run that confirms what was found.")
    ] = 50,
    as_json: AsJson = False,
) -> None:
    """Find the largest batch that trains within a memory budget."""
    from bench.fit.asked import ask
    from bench.fit.finding import find
    from bench.selection import parse
    from bench.suite import load_suite
    from reports.render.terminal import print_tables

    chosen = parse(select) if select else None
    asked = ask(budget=budget, length=length, most=max_batch, steps=confirm_steps)
    loaded = load_suite(suite, profile=profile, sets=sets or ())
    findings = find(loaded, asked, results, select=chosen)
    if as_json:
        rows = [each.as_dict() for each in findings.found]
        _print_json({"rows": rows, "report": str(findings.folder)})
    else:
        print_tables([findings.table], sys.stdout)
        print(f"report: {findings.folder / 'fit.md'}")  # noqa: T201
    if not findings.is_whole:
        raise typer.Exit(INCOMPLETE)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Say what this machine can measure, and why not."""
    from bench.doctor import examine

    findings = examine()
    if as_json:
        _print_json([finding.as_dict() for finding in findings])
    else:
        _print_lines(finding.line for finding in findings)


def _plan(
    name: str,
    profile: str | None,
    sets: list[str] | None,
    select: str | None,
    *,
    online: bool = False,
    trust_remote_code: bool = False,
) -> Plan:
    from bench.plan import plan as lay_out
    from bench.selection import parse
    from bench.suite import load_suite
    from bench.world import look_up

    suite = load_suite(name, profile=profile, sets=sets or ())
    chosen = parse(select) if select else None
    return lay_out(
        suite,
        look_up(suite, online=online),
        select=chosen,
        trust_remote_code=trust_remote_code,
    )


def _as_run(store: Store, planned: Plan) -> Plan:
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


def _done(results: Path, planned: Plan) -> set[str]:
    """Digests of the plan's stages that have their records. No store yet: none."""
    from bench.store import Store

    if not (results / "STORE.json").exists():
        return set()
    store = Store.open(results)
    return {s.digest for s in planned.stages if not store.lacks(s.digest, None, s.repeats)}


def _write_report(store: Store, planned: Plan, formats: tuple[str, ...], *, show: bool) -> Path:
    """Render the report of a plan; returns its folder."""
    from reports.render import write_report
    from reports.render.terminal import print_tables
    from reports.report import build_report
    from reports.results import read_plan

    plan_file = read_plan(_saved(store, planned))
    built = build_report(store.root, plan_file, _machine(store, planned))
    label = planned.suite if planned.profile is None else f"{planned.suite}.{planned.profile}"
    folder = store.root / "reports" / label
    write_report(built, folder, formats)
    if show:
        print_tables(built.tables, sys.stdout)
    for warning in built.warnings:
        print(f"offsite-bench: warning: {warning}", file=sys.stderr)  # noqa: T201
    return folder


def _saved(store: Store, planned: Plan) -> Path:
    return store.plan_path(store.save_plan(planned.to_bytes()))


def _machine(store: Store, planned: Plan) -> str | None:
    """This machine, if it made any of the results; its speed and memory are then shown."""
    from bench.environment import this_machine

    own = this_machine().fingerprint
    made_here = any(store.record_path(stage.digest, own).exists() for stage in planned.stages)
    return own if made_here else None


def _labels(stage: Any) -> dict[str, Any]:  # noqa: ANN401 - bench.plan.Stage, imported late
    from dataclasses import asdict

    return asdict(stage.labels)


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201


def _print_lines(lines: Any) -> None:  # noqa: ANN401 - any iterable of str
    for line in lines:
        print(line)  # noqa: T201
