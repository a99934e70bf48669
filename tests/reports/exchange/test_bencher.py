"""Bencher Metric Format, against its published schema's rules."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean

import pytest

from reports.exchange.bencher import MEASURES, bencher
from reports.exchange.shown import Shown
from reports.statistics.intervals import estimate
from tests.reports.exchange.left import FINETUNE, FINETUNED, RIGHT, STEPS, fill_left, shown
from tests.reports.synthetic_store import MACHINE, MIB, SyntheticStore, fill


def test_every_measure_has_its_mean_and_bounds(tmp_path: Path):
    """Samples a second, seconds, bytes, fractions; the bounds are the 95 % interval."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    found = json.loads(bencher(shown(tmp_path, store)))
    assert list(found) == [FINETUNE, FINETUNED, "m text full_zero_shot evaluate"]
    assert set(found[FINETUNE]) == {"throughput", "step-time", "peak-memory"}
    half = estimate(STEPS).half_width
    assert half is not None
    assert found[FINETUNE]["step-time"] == pytest.approx(
        {
            "value": fmean(STEPS),
            "lower_value": fmean(STEPS) - half,
            "upper_value": fmean(STEPS) + half,
        }
    )
    assert found[FINETUNE]["throughput"]["value"] == pytest.approx(fmean(4 / s for s in STEPS))
    assert found[FINETUNE]["peak-memory"]["value"] == pytest.approx(110 * MIB)
    score = found[FINETUNED]["accuracy"]
    assert score["value"] == pytest.approx(fmean(RIGHT))
    assert score["upper_value"] - score["lower_value"] > 0.05
    assert found["m text full_zero_shot evaluate"] == {"perplexity": {"value": 41.5}}


def test_names_fit_what_bencher_takes(tmp_path: Path):
    """Names up to 1024 letters; measures are slugs of at most 64."""
    store = SyntheticStore(tmp_path)
    fill(store)
    for name, metrics in json.loads(bencher(shown(tmp_path, store))).items():
        assert 0 < len(name) <= 1024
        assert set(metrics) <= set(MEASURES.values())
    for slug in MEASURES.values():
        assert slug.replace("-", "").isalpha()
        assert slug.islower()
        assert len(slug) <= 64


def test_scores_of_another_machine_count_and_speeds_do_not(tmp_path: Path):
    """As in the exported table: an evaluation may be anybody's, but one machine's."""
    store = SyntheticStore(tmp_path)
    fill_left(store)
    found = json.loads(bencher(shown(tmp_path, store, "elsewhere")))
    assert list(found) == [FINETUNED, "m text full_zero_shot evaluate"]
    fill_left(SyntheticStore(tmp_path, machine="another"))
    for machine in (MACHINE, "another", "elsewhere"):
        found = json.loads(bencher(shown(tmp_path, store, machine)))
        assert found[FINETUNED]["accuracy"]["value"] == pytest.approx(fmean(RIGHT))


def test_nothing_measured_is_nothing_to_show():
    """No empty object."""
    assert bencher(Shown(suite="s", runs=(), machine=None)) == ""
