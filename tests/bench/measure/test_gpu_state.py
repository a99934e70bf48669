"""Clock, temperature and throttling of a phase; the canary."""

from __future__ import annotations

import pynvml
import pytest
import torch

from bench.measure.canary import REPEATS, SIZES, canary
from bench.measure.gpu_state import THROTTLING
from bench.measure.memory import MemoryMeter
from bench.measure.nvml import PynvmlSource
from tests.fakes import (
    FakeHostMemory,
    ScriptedBoard,
    ScriptedCuda,
    ScriptedDriver,
    ScriptedMonitor,
    ScriptedTime,
)


@pytest.fixture
def stage(monkeypatch):
    """A board, the clock, and a function that trains for ten seconds and gives the facts."""
    board = ScriptedBoard("GPU-a")
    ScriptedDriver([board]).install(monkeypatch)
    time = ScriptedTime()
    meter = MemoryMeter(
        host=FakeHostMemory([1]), nvml=PynvmlSource, clock=time, monitor=ScriptedMonitor(time)
    )
    meter.use_gpu(ScriptedCuda(board))

    def train() -> dict:
        with meter.phase("train"):
            time.run(10)
        return meter.facts()["phases"]["train"]["gpu_state"]

    return board, time, train


def change(board: ScriptedBoard, **values: object) -> None:
    """Something happens to the board."""
    for name, value in values.items():
        setattr(board, name, value)


def test_a_clock_that_falls_is_seen_with_its_cause(stage):
    """Three of ten seconds at 1200 MHz, because of heat and the power cap."""
    board, time, train = stage
    time.at(2, lambda: change(board, clock=1200, temperature=91, throttling=0x40 | 0x4))
    time.at(5, lambda: change(board, clock=1980, temperature=60, throttling=0))
    state = train()
    assert state["clock"] == {"median": 1980, "lowest": 1200}
    assert state["temperature"] == 91
    assert state["throttled"] == {
        "power_cap": pytest.approx(0.3, abs=0.02),
        "hardware_thermal": pytest.approx(0.3, abs=0.02),
    }
    assert state["samples"] >= 100
    assert state["missing"] == {}


def test_a_clock_that_is_low_most_of_the_time_is_the_median(stage):
    """It is the middle of the samples, not of the values."""
    board, time, train = stage
    time.at(2, lambda: change(board, clock=900))
    time.at(8, lambda: change(board, clock=1980))
    assert train()["clock"] == {"median": 900, "lowest": 900}


def test_a_bit_without_a_name_is_told_all_the_same(stage):
    """A newer driver's."""
    board, _, train = stage
    board.throttling = 1 << 20
    assert train()["throttled"] == {"bit 0x100000": 1.0}


def test_what_the_board_does_not_tell_is_missing_with_the_reason(stage):
    """The rest is there."""
    board, _, train = stage
    board.refusals["nvmlDeviceGetClockInfo"] = pynvml.NVML_ERROR_NOT_SUPPORTED
    state = train()
    assert "clock" not in state
    assert state["temperature"] == 40
    assert state["missing"].keys() == {"clock"}
    assert "not supported" in state["missing"]["clock"]


def test_every_bit_of_the_library_has_a_name():
    """All that the installed nvidia-ml-py knows."""
    known = pynvml.nvmlClocksThrottleReasonAll
    assert {1 << i for i in range(known.bit_length()) if known >> i & 1} == set(THROTTLING)


def test_the_canary_counts_the_best_repeat(monkeypatch):
    """A pause of the machine makes one slower, not the machine."""
    monkeypatch.setitem(SIZES, "cpu", (64, 2))
    durations = [0.5, 0.2, 0.3, 0.25, 0.4]
    assert len(durations) == REPEATS
    times = iter([t for d in durations for t in (10.0, 10.0 + d)])
    found = canary("cpu", clock=lambda: next(times))
    assert found.seconds == pytest.approx(0.2)
    assert found.flops == pytest.approx(2 * 64**3 * 2 / 0.2)


def test_the_canary_changes_no_result(monkeypatch):
    """torch's generator stands where it stood: training draws the same numbers."""
    monkeypatch.setitem(SIZES, "cpu", (64, 2))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    canary("cpu")
    assert torch.equal(torch.rand(4), expected)
