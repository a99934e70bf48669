"""Suites: from YAML to a checked `Suite`. Read `suite_file.py` for what a file may say.

Text becomes nodes with places (`yaml_reader`), a profile and `--set` are laid over them
(`overlay`), the classes of `suite_file` check them (`closed`, `checking`), methods and tasks
come from their tables (`steps`, `task_files`), and `expansion` writes the matrix out.
"""

from __future__ import annotations

from bench.suite.expansion import CasePoint
from bench.suite.steps import Step, label
from bench.suite.suite import Suite, builtin_suites, load_suite
from bench.suite.suite_file import TRAINED, Evaluate, Train
from bench.suite.suite_schema import json_schema
from bench.suite.task_files import Task

__all__ = [
    "TRAINED",
    "CasePoint",
    "Evaluate",
    "Step",
    "Suite",
    "Task",
    "Train",
    "builtin_suites",
    "json_schema",
    "label",
    "load_suite",
]
