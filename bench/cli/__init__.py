"""The command line. Verbs are thin: they check, call, print, and choose the exit status.

0 ok, 1 our own bug, 2 usage or invalid suite, 3 incomplete, 4 regression, 5 inconclusive under
`--strict`, 130/143 interrupted.
Nothing heavy is imported before a verb needs it; torch never is.
"""

from __future__ import annotations

import os
import sys

# Each module adds its verbs to the program, in the order in which `--help` shows them.
from bench.cli import suites, results, gate, machine  # isort: skip  # noqa: F401
from bench.cli.program import app


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
