"""The whole line on a GPU."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tests.bench.command import offsite_bench
from tests.bench.test_end_to_end import SMOKE, exported

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def test_the_smoke_profile_runs_on_the_gpu_and_measures_its_memory(tmp_path):
    """Stages run on the device, and the allocator's peaks are within what the driver says."""
    done = offsite_bench("run", *SMOKE, "--results", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = exported(tmp_path / "r", tmp_path, *SMOKE)
    trained = [r for r in rows if r["stage"] in ("tune", "finetune") and r["phase"] == "train"]
    for digest in {r["digest"] for r in trained}:
        values = {r["metric"]: r["value"] for r in trained if r["digest"] == digest}
        allocated, reserved = (float(values[f"peak_memory_{k}"]) for k in ("allocated", "reserved"))
        assert 0 < allocated <= reserved


PATTERN = """
import json, time, torch
from bench.environment import this_machine
from bench.measure.canary import canary
from bench.measure.cuda import CudaMemory
from bench.measure.memory import MemoryMeter

meter = MemoryMeter()
meter.floor()
meter.start_sampler(this_machine().cores)
meter.use_gpu(CudaMemory())
before = canary("cuda")
for phase, mebibytes in (("load", 512), ("train", 1024)):
    with meter.phase(phase):
        block = torch.ones(mebibytes * 2**20, dtype=torch.uint8, device="cuda")
        time.sleep(2.5)
    del block
    torch.cuda.empty_cache()
meter.close()
print(json.dumps({
    "facts": meter.facts(),
    "metrics": [m.model_dump() for m in meter.metrics],
    "canary": [before.seconds, canary("cuda").seconds],
}))
"""
MIB = 2**20


@pytest.fixture(scope="module")
def pattern() -> dict:
    """A process that holds 512 MiB while it loads and 1 GiB while it trains, measured."""
    done = subprocess.run(
        [sys.executable, "-c", PATTERN], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize(("phase", "held"), [("load", 512 * MIB), ("train", 1024 * MIB)])
def test_a_known_allocation_is_read_by_every_source(pattern, phase, held):
    """Within 1 % or 32 MiB, and nothing that cannot be true."""
    facts = pattern["facts"]["phases"][phase]
    near = pytest.approx(held, abs=max(32 * MIB, 0.01 * held))
    values = {name: peak["value"] for name, peak in facts["sources"].items()}
    assert values["allocated"] == near
    assert values["reserved"] == near
    assert facts["violations"] == []
    board = pattern["facts"]["gpu"]
    if values["process"] is not None and board["context"] is not None:
        assert values["process"] - board["context"] == near
    if None not in (values["process"], values["device"]):
        # The driver keeps some MiB a process for itself, which the list does not show.
        assert values["device"] == pytest.approx(values["process"], abs=64 * MIB)
    for peak in facts["sources"].values():
        assert peak["value"] or (peak["grade"] == "unmeasured" and peak["reason"])


def test_the_driver_tells_the_two_phases_apart(pattern):
    """Whatever source it is from, training takes 512 MiB more than loading."""
    found = {m["phase"]: m for m in pattern["metrics"] if m["metric"] == "peak_memory_gpu_process"}
    assert found["train"]["value"], found["train"]["reason"]
    difference = found["train"]["value"] - found["load"]["value"]
    assert difference == pytest.approx(512 * MIB, abs=32 * MIB)


def test_energy_state_and_cost_of_watching_are_there_or_have_a_reason(pattern):
    """A phase of 2.5 s is long enough for the energy counter."""
    train = pattern["facts"]["phases"]["train"]
    energy = train["energy"]
    assert energy["joules"] is None or energy["joules"] > 0
    assert energy["joules"] or energy["reason"]
    state = train["gpu_state"]
    assert "clock" in state or "clock" in state["missing"]
    assert train["sampling"]["hz"] >= 10
    cost = next(
        m["value"]
        for m in pattern["metrics"]
        if (m["metric"], m["phase"]) == ("monitor_overhead", "train")
    )
    assert 0 < cost <= 0.005
    assert all(0 < seconds < 1 for seconds in pattern["canary"])
