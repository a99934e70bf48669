"""A suite's results in the formats of other tools, one file a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from reports.exchange.bencher import bencher
from reports.exchange.github_benchmark import github_benchmark
from reports.exchange.junit import junit
from reports.exchange.pytest_benchmark import pytest_benchmark
from reports.exchange.shown import Shown

FORMATS: Mapping[str, Callable[[Shown], str]] = {
    "pytest-benchmark": pytest_benchmark,
    "github-benchmark": github_benchmark,
    "bencher": bencher,
    "junit": junit,
}
"""Each gives the text of a file, empty where there is nothing to say."""
