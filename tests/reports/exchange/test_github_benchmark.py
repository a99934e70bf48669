"""github-action-benchmark's list: one direction, and ranges that the action can read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from reports.exchange.github_benchmark import github_benchmark
from reports.exchange.shown import Shown
from reports.statistics.intervals import estimate
from tests.reports.exchange.left import FINETUNE, FINETUNED, STEPS, fill_failures, fill_left, shown
from tests.reports.synthetic_store import MIB, SyntheticStore


@pytest.fixture
def entries(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """What the action is given, by name."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    fill_failures(store)
    found = json.loads(github_benchmark(shown(tmp_path, store)))
    by_name = {each["name"]: each for each in found}
    assert len(by_name) == len(found)
    return by_name


def test_speeds_are_seconds_and_scores_are_errors(entries: dict[str, dict[str, Any]]):
    """Of all of them less is better; a perplexity stays as it is."""
    shown = {name: (each["value"], each["unit"]) for name, each in entries.items()}
    assert shown == {
        f"{FINETUNE}: time per sample": (pytest.approx(fmean(STEPS) / 4), "s"),
        f"{FINETUNE}: peak_memory_process": (pytest.approx(110 * MIB), "bytes"),
        f"{FINETUNED}: error rate, acc": (pytest.approx(36.0), "%"),
        "m text full_zero_shot evaluate: perplexity": (41.5, "1"),
    }


def test_ranges_are_read_by_the_actions_pattern(entries: dict[str, dict[str, Any]]):
    """A sign and a number that JavaScript's Number takes; none where nothing is known."""
    half = estimate([step / 4 for step in STEPS]).half_width
    read = {name: each.get("range") for name, each in entries.items()}
    assert read.pop("m text full_zero_shot evaluate: perplexity") is None
    for text in read.values():
        assert re.fullmatch(r"± \d[\d.e+-]*", text)
    assert float(read[f"{FINETUNE}: time per sample"][2:]) == pytest.approx(half, rel=1e-5)
    # Items that all seeds answer: wider than three seeds alone, and in per cent.
    assert 5 < float(read[f"{FINETUNED}: error rate, acc"][2:]) < 30


def test_what_a_value_rests_on_is_said(entries: dict[str, dict[str, Any]]):
    """The action shows it where the mouse is."""
    assert entries[f"{FINETUNED}: error rate, acc"]["extra"] == (
        "runs: 3\nseeds: 3\nitems: 100\nrange: 95 % interval"
    )
    assert entries[f"{FINETUNE}: time per sample"]["extra"] == (
        "runs: 3\nseeds: 1\nrange: 95 % interval"
    )
    assert entries["m text full_zero_shot evaluate: perplexity"]["extra"] == "runs: 1"


def test_nothing_measured_is_nothing_to_show():
    """No empty list that would look like a suite without regressions."""
    assert github_benchmark(Shown(suite="s", runs=(), machine=None)) == ""
