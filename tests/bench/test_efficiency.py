"""The efficiency suite from the command line to its tables, on a CPU."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.bench.command import offsite_bench

SUITE = ("efficiency", "--profile", "smoke", "--set", "repeats=1", "-k", "lora")
IMAGES = ("efficiency", "--profile", "images", "--set", "repeats=1")
LOOPS = {"", "trainer", "authors"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every row once."""
    folder = tmp_path_factory.mktemp("efficiency")
    for suite in (SUITE, IMAGES):
        done = offsite_bench("run", *suite, "--results", "r", cwd=folder)
        assert done.returncode == 0, done.stderr
        for words in ("speed of tuning", "memory of tuning", "our loop beside others", "ideal"):
            assert words in done.stdout
    return folder / "r"


@pytest.fixture(scope="module")
def rows(results: Path) -> list[dict[str, str]]:
    """What `export` prints of the whole store."""
    done = offsite_bench("export", "--results", str(results), cwd=results.parent)
    assert done.returncode == 0, done.stderr
    return list(csv.DictReader(io.StringIO(done.stdout)))


def test_every_loop_trains_every_row(rows):
    """Tokens and images, the whole model and the emulator; nothing is scored."""
    trained = {
        (r["model"], r["stage"], r["tuning"], r["peer"])
        for r in rows
        if r["metric"] == "step_time_median"
    }
    expected = {
        (model, stage, tuning, loop)
        for model, stage, tuning in [
            ("gpt2-xl-narrow", "finetune", "full"),
            ("gpt2-xl-narrow", "finetune", "lora(rank=4)"),
            ("gpt2-xl-narrow", "tune", "lora(rank=4)"),
            ("eva-giant", "finetune", "full"),
            ("eva-giant", "finetune", "lora(rank=4)"),
            ("eva-giant", "tune", "full"),
        ]
        for loop in LOOPS
    }
    assert trained == expected
    assert {r["stage"] for r in rows} == {"emulator", "finetune", "tune"}


def test_the_machines_best_rates_stand_beside_our_rows(rows):
    """Peers have none: they train the same model."""
    by_loop = {loop: {r["metric"] for r in rows if r["peer"] == loop} for loop in LOOPS}
    only_ours = {"flops_per_step", "matmul_rate", "adamw_rate", "optimizer_bytes_per_step", "mfu"}
    assert only_ours <= by_loop[""]
    assert not only_ours & (by_loop["trainer"] | by_loop["authors"])


def test_an_emulator_without_most_of_its_blocks_takes_that_much_less_arithmetic(rows):
    """20 of 48 blocks, all but LoRA frozen."""
    flops = {
        r["stage"]: float(r["value"])
        for r in rows
        if r["model"] == "gpt2-xl-narrow"
        and r["metric"] == "flops_per_step"
        and r["tuning"] == "lora(rank=4)"
    }
    assert 20 / 48 < flops["tune"] / flops["finetune"] < 0.55


def test_the_sampler_watched_and_says_what_it_cost(rows):
    """Its share of the cores while training is a number of the record."""
    costs = [r for r in rows if r["metric"] == "monitor_overhead" and r["phase"] == "train"]
    assert costs
    assert all(0 < float(r["value"]) < 0.05 for r in costs)


def test_one_more_repeat_runs_that_repeat_alone(results):
    """What there is stays; `repeats` counts it."""
    more = [word.replace("repeats=1", "repeats=2") for word in SUITE]
    done = offsite_bench("plan", *more, "--results", str(results), "--json", cwd=results.parent)
    stages = json.loads(done.stdout)["stages"]
    assert {s["kind"] for s in stages if s["done"]} == {"emulator"}
    rows = offsite_bench("status", *more, "--results", str(results), cwd=results.parent)
    assert rows.returncode == 3
    assert "1 of 2 runs are missing" in rows.stdout
