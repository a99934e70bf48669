"""Verbs about what there is to choose from, and what this machine can do."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from bench.cli.program import (
    DEFAULT_RESULTS,
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


class Listed(StrEnum):
    """What `list` can list."""

    MODELS = "models"
    COMPRESSIONS = "compressions"
    TUNINGS = "tunings"
    TASKS = "tasks"
    SUITES = "suites"


@app.command("list")
def list_(what: Listed, as_json: AsJson = False) -> None:
    """List models, compressions, tunings, tasks or suites, one line each."""
    from bench.showing import listed

    rows = listed(what.value)
    if as_json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
        return
    width = max(len(name) for name, _ in rows)
    print_lines(f"{name:{width}}  {summary}" for name, summary in rows)


@app.command()
def schema(as_json: AsJson = True) -> None:
    """Print the JSON Schema of a suite file, for completion in editors."""
    from bench.suite import json_schema

    print_json(json_schema())


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
        print_json({"rows": rows, "report": str(findings.folder)})
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
        print_json([finding.as_dict() for finding in findings])
    else:
        print_lines(finding.line for finding in findings)
