"""Verbs over what is in a store: write its report, compare it, hand it to other tools."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.planned import (
    as_run,
    done_stages,
    lay_out,
    machine_shown,
    saved,
    write_plan_report,
)
from bench.cli.program import (
    ALL_FORMATS,
    DEFAULT_RESULTS,
    INCOMPLETE,
    AsJson,
    Formats,
    Profile,
    Results,
    Select,
    Sets,
    SuiteName,
    app,
    chosen_formats,
    print_json,
    publish,
)

if TYPE_CHECKING:
    from bench.plan import Plan
    from bench.store import Store
    from reports.results import PlanFile


class Export(StrEnum):
    """Formats of `export`."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    WANDB = "wandb"
    PYTEST_BENCHMARK = "pytest-benchmark"
    GITHUB_BENCHMARK = "github-benchmark"
    BENCHER = "bencher"
    JUNIT = "junit"


NOT_JSON = frozenset({Export.PARQUET, Export.JUNIT})
OF_A_SUITE = frozenset(Export) - {Export.CSV, Export.JSONL, Export.PARQUET}


@app.command()
def report(
    suite: SuiteName,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    formats: Formats = ALL_FORMATS,
    as_json: AsJson = False,
) -> None:
    """Write the report again from what is in the store."""
    from bench.errors import NothingToShow
    from bench.store import Store

    chosen = chosen_formats(formats)
    planned = lay_out(suite, profile, sets, select)
    store = Store.open(results)
    planned = as_run(store, planned)
    done = done_stages(results, planned)
    if not done:
        raise NothingToShow(f"no stage of {suite!r} has a record in {results}; run it first")
    written = write_plan_report(store, planned, chosen, show=not as_json)
    if as_json:
        print_json({"report": str(written)})
    else:
        print(f"\nreport: {written}")  # noqa: T201
    if len(done) < len(planned.stages):
        raise typer.Exit(INCOMPLETE)


@app.command()
def compare(
    sides: Annotated[
        list[str],
        typer.Argument(metavar="SIDE", help="Two or more of the forms above."),
    ],
    results: Results = DEFAULT_RESULTS,
    formats: Formats = ALL_FORMATS,
    as_json: AsJson = False,
) -> None:
    """Put results side by side; the first is the reference of all differences.

    \b
    STORE                   all results of a folder that `run` made
    SUITE[.PROFILE]         a suite, by the name in its file, in --results
    STORE:SUITE[.PROFILE]   a suite in another store
    @COMMIT                 what a commit made in --results, by four or more of its first letters;
                            what it found made already and reused is the maker's
    SUITE@COMMIT            each of the above, cut down to a commit

    Rows are matched by their labels (model, layout, compression, tuning, task, setting, metric,
    seed). Of several results with one label the newest counts. Speed and memory are compared
    only where one machine made both.
    """
    from bench.sides import folder_name, read_sides
    from reports.compare.report import as_values, comparison_report
    from reports.compare.report import compare as match

    chosen = chosen_formats(formats)
    found = match(read_sides(sides, results))
    folder = results / "reports" / "compare" / folder_name(sides)
    publish(comparison_report(found), folder, chosen, show=not as_json)
    if as_json:
        print_json({**as_values(found), "report": str(folder)})
    else:
        print(f"\nreport: {folder}")  # noqa: T201


@app.command()
def export(
    suite: Annotated[
        str | None, typer.Argument(metavar="[SUITE]", help="Without it, the whole store.")
    ] = None,
    results: Results = DEFAULT_RESULTS,
    profile: Profile = None,
    sets: Sets = None,
    select: Select = None,
    table: Annotated[
        Export,
        typer.Option("--format", help="What to print, a table or a file for another tool."),
    ] = Export.CSV,
    as_json: Annotated[
        bool, typer.Option("--json", help="A table as --format jsonl; of wandb, which runs.")
    ] = False,
) -> None:
    """Print results on stdout: one long tidy table, or what other tools read.

    \b
    csv, jsonl, parquet   the table
    pytest-benchmark      JSON for `pytest-benchmark compare`: seconds a step of every training
    github-benchmark      JSON for benchmark-action/github-action-benchmark, customSmallerIsBetter
    bencher               Bencher Metric Format for `bencher run --adapter json`
    junit                 JUnit XML: every stage, how long it took, why it failed
    wandb                 nothing printed: a run in Weights & Biases for every case
    """
    from bench.errors import NothingToShow
    from bench.store import Store
    from reports.results import read_plan, tidy

    _check_asked(table, suite, as_json=as_json)
    store = Store.open(results)
    planned, machine = None, None
    if suite is not None:
        own = as_run(store, lay_out(suite, profile, sets, select))
        if table is Export.WANDB:
            _to_wandb(store, own, as_json=as_json)
            return
        planned, machine = read_plan(saved(store, own)), machine_shown(store, own)
        if table in OF_A_SUITE:
            sys.stdout.write(_for_a_tool(store, planned, machine, table))
            return
    frame = tidy(store.root, planned, machine)
    if frame.empty:
        raise NothingToShow(f"no results in {results} for this; run the suite first")
    table = Export.JSONL if as_json else table
    if table is Export.CSV:
        frame.to_csv(sys.stdout, index=False)
    elif table is Export.JSONL:
        frame.to_json(sys.stdout, orient="records", lines=True)
    else:
        frame.to_parquet(sys.stdout.buffer, index=False)


def _check_asked(table: Export, suite: str | None, *, as_json: bool) -> None:
    """Whether there is one thing that can be meant.

    Raises:
        BenchError: two formats, or one that shows a suite, without a suite.
    """
    from bench.errors import BenchError

    if as_json and table in NOT_JSON:
        raise BenchError(f"--json beside --format {table.value}, which is no JSON; give one")
    if table in OF_A_SUITE and suite is None:
        raise BenchError(f"--format {table.value} shows one suite, not a whole store; give a SUITE")


def _for_a_tool(store: Store, planned: PlanFile, machine: str | None, table: Export) -> str:
    from bench.errors import NothingToShow
    from reports.exchange import FORMATS
    from reports.exchange.shown import Shown
    from reports.results import read_stages

    name = ".".join(filter(None, (planned.suite, planned.profile)))
    shown = Shown(suite=name, runs=read_stages(store.root, planned), machine=machine)
    text = FORMATS[table.value](shown)
    if not text:
        raise NothingToShow(
            f"nothing of {name!r} in {store.root} to show as {table.value}; run the suite first"
        )
    return text


def _to_wandb(store: Store, planned: Plan, *, as_json: bool) -> None:
    from bench.wandb_export import case_runs, export_to_wandb

    runs = case_runs(store, saved(store, planned), planned, machine_shown(store, planned))
    export_to_wandb(runs)
    if as_json:
        print_json([{"name": run.name, "id": run.id, "group": run.group} for run in runs])
    else:
        print(f"{len(runs)} runs handed to wandb, group {runs[0].group}")  # noqa: T201
