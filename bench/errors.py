"""Everything `bench` raises on purpose. The command line prints one line and exits 2.

BenchError
├── SuiteError     a suite file, profile or --set that cannot be run as written
├── StoreError     a results folder that is not one, or holds a file of a newer version
└── NothingToShow  no result yet; exit status 3
"""

from __future__ import annotations


class BenchError(Exception):
    """Base class: the message is one line, says what was given and what would work."""

    exit_status = 2


class SuiteError(BenchError):
    """The suite, its profile, a task file or a `--set` is wrong."""


class StoreError(BenchError):
    """The results folder cannot be used."""


class NothingToShow(BenchError):
    """The verb needs results and there are none."""

    exit_status = 3
