"""The program that verbs are added to, the options they share, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from reports.report import Report

INCOMPLETE = 3
FORMATS = ("html", "markdown", "latex", "csv")

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
Formats = Annotated[str, typer.Option("--format", metavar="LIST", help=",".join(FORMATS))]
AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable output on stdout.")]
DEFAULT_RESULTS = Path("results")
ALL_FORMATS = ",".join(FORMATS)


def chosen_formats(text: str) -> tuple[str, ...]:
    """The formats of a report that a user lists."""
    from bench.errors import BenchError
    from bench.names import unknown

    chosen = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in chosen:
        if name not in FORMATS:
            raise BenchError(unknown("format", name, FORMATS))
    return chosen


def publish(report: Report, folder: Path, formats: tuple[str, ...], *, show: bool) -> None:
    """Write a report, show its tables, and add it to the step summary of a workflow."""
    from bench.step_summary import add_to_step_summary
    from reports.render import write_report
    from reports.render.terminal import print_tables

    write_report(report, folder, formats)
    if show:
        print_tables(report.tables, sys.stdout)
    for warning in filter(None, (*report.warnings, add_to_step_summary(report))):
        print(f"offsite-bench: warning: {warning}", file=sys.stderr)  # noqa: T201


def print_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, indent=2))  # noqa: T201


def print_lines(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        print(line)  # noqa: T201
