"""Energy of a phase: the counter, power added up, the CPU's counters, or a reason."""

from __future__ import annotations

from pathlib import Path

import pynvml
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measure.memory import MemoryMeter
from bench.measure.nvml import PynvmlSource
from bench.measure.rapl import Rapl
from bench.measure.unavailable import Unavailable
from tests.fakes import (
    FakeHostMemory,
    ScriptedBoard,
    ScriptedCuda,
    ScriptedDriver,
    ScriptedMonitor,
    ScriptedTime,
    no_driver,
)

NO_COUNTER = {"nvmlDeviceGetTotalEnergyConsumption": pynvml.NVML_ERROR_NOT_SUPPORTED}
NO_POWER = {"nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_NOT_SUPPORTED}


@pytest.fixture
def trained(monkeypatch):
    """Trains for some seconds at 400 W, on a board that may refuse; gives the meter."""

    def train(seconds: float, *, board: ScriptedBoard, on_the_way=lambda time, monitor: None):
        ScriptedDriver([board]).install(monkeypatch)
        time = ScriptedTime()
        monitor = ScriptedMonitor(time)
        meter = MemoryMeter(
            host=FakeHostMemory([1]), nvml=PynvmlSource, clock=time, monitor=monitor
        )
        meter.use_gpu(ScriptedCuda(board))
        on_the_way(time, monitor)
        with meter.phase("train"):
            time.run(seconds)
            board.joules += 400 * seconds
        return meter

    return train


def test_the_counters_difference_is_exact(trained):
    """10 s at 400 W."""
    energy = trained(10, board=ScriptedBoard("GPU-a")).energy("train")
    assert energy.joules == pytest.approx(4000)
    assert (energy.grade, energy.reason) == ("exact", None)


@pytest.mark.parametrize("refusals", [{}, NO_COUNTER])
def test_a_phase_shorter_than_twenty_updates_has_no_energy(trained, refusals):
    """The board's figures are a tenth of a second old: neither counter nor power would do."""
    energy = trained(1.9, board=ScriptedBoard("GPU-a", refusals=refusals)).energy("train")
    assert (energy.joules, energy.grade) == (None, "unmeasured")
    assert energy.reason.startswith("the phase took 1.90 s")
    assert "2 s are needed" in energy.reason


def test_power_is_added_up_where_there_is_no_counter(trained):
    """400 W for half of the time, 200 W for the rest."""
    board = ScriptedBoard("GPU-a", refusals=NO_COUNTER)
    meter = trained(
        10,
        board=board,
        on_the_way=lambda time, _: time.at(5, lambda: setattr(board, "watts", 200.0)),
    )
    energy = meter.energy("train")
    assert energy.joules == pytest.approx(3000, rel=0.01)
    assert energy.grade == "bounded"
    assert "not supported by this GPU" in energy.reason
    assert "readings of power added up" in energy.reason


def test_neither_counter_nor_power_is_a_reason(trained):
    """Both are named."""
    board = ScriptedBoard("GPU-a", refusals=NO_COUNTER | NO_POWER)
    energy = trained(10, board=board).energy("train")
    assert (energy.joules, energy.grade) == (None, "unmeasured")
    assert "energy counter: not supported" in energy.reason
    assert "power: not supported" in energy.reason


def test_power_that_was_read_for_a_part_of_the_phase_does_not_stand_for_it(trained):
    """Half a phase's energy would look like a saving."""
    board = ScriptedBoard("GPU-a", refusals=dict(NO_COUNTER))
    meter = trained(
        10,
        board=board,
        on_the_way=lambda time, _: time.at(5, lambda: board.refusals.update(NO_POWER)),
    )
    energy = meter.energy("train")
    assert energy.joules is None
    assert "power: not supported" in energy.reason


def test_without_a_sampler_there_is_no_power_to_add_up(trained):
    """It ended: both reasons are there."""
    board = ScriptedBoard("GPU-a", refusals=NO_COUNTER)
    meter = trained(10, board=board, on_the_way=lambda _, monitor: setattr(monitor, "ended", True))
    energy = meter.energy("train")
    assert energy.joules is None
    assert energy.reason.endswith("; the sampler ended early")


def test_a_neighbour_uses_energy_of_the_same_board(trained):
    """The figure is the whole board's, and says so."""
    board = ScriptedBoard("GPU-a")
    meter = trained(
        10, board=board, on_the_way=lambda time, _: time.at(3, lambda: board.hold(77, 2**30))
    )
    energy = meter.energy("train")
    assert energy.grade == "device"
    assert energy.reason == "of the whole board, with process 77 on it"


def test_a_counter_that_went_back_is_no_energy(trained):
    """The driver was loaded anew in between."""
    board = ScriptedBoard("GPU-a")
    meter = trained(
        10,
        board=board,
        on_the_way=lambda time, _: time.at(3, lambda: setattr(board, "joules", -9000.0)),
    )
    energy = meter.energy("train")
    assert energy.grade == "bounded", "power is added up instead"
    assert energy.joules == pytest.approx(4000, rel=0.01)
    assert "did not advance" in energy.reason


def package(root: Path, name: str, microjoules: int, turn: int = 262_143_328_850) -> Path:
    """One counter as Linux shows it."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{turn}\n")
    return folder


def test_the_packages_are_added_and_their_parts_are_not(tmp_path):
    """intel-rapl:0:0 are the cores, which are in intel-rapl:0 already."""
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        package(tmp_path, name, 5_000_000)
    rapl = Rapl(str(tmp_path))
    assert rapl.joules() == 0
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        package(tmp_path, name, 7_000_000)
    assert rapl.joules() == 4


TURN = 10_000_000


@settings(deadline=None)
@given(st.lists(st.integers(0, TURN), min_size=1, max_size=30))
def test_a_counter_that_wraps_around_loses_nothing(tmp_path_factory, steps):
    """Read at least once a turn, the sum is exact however often it wraps."""
    root = tmp_path_factory.mktemp("powercap")
    counter = TURN - 3
    package(root, "intel-rapl:0", counter, TURN)
    rapl = Rapl(str(root))
    rapl.joules()
    for step in steps:
        # One less than a turn can be told from nothing.
        counter = (counter + min(step, TURN - 1)) % TURN
        package(root, "intel-rapl:0", counter, TURN)
        total = rapl.joules()
    assert total == pytest.approx(sum(min(step, TURN - 1) for step in steps) / 1e6)


def test_a_counter_that_may_not_be_read_is_a_reason(tmp_path):
    """Only root may, on most systems."""
    (package(tmp_path, "intel-rapl:0", 1) / "energy_uj").unlink()
    (tmp_path / "intel-rapl:0" / "energy_uj").mkdir()
    with pytest.raises(Unavailable, match="energy_uj cannot be read"):
        Rapl(str(tmp_path)).joules()


def stage_on_the_cpu(rapl: Rapl, seconds: float, meanwhile=lambda time: None) -> MemoryMeter:
    """A phase of some seconds without a GPU."""
    time = ScriptedTime()
    monitor = ScriptedMonitor(time, nvml=no_driver, rapl=rapl)
    meter = MemoryMeter(host=FakeHostMemory([1]), nvml=no_driver, clock=time, monitor=monitor)
    meanwhile(time)
    with meter.phase("train"):
        time.run(seconds)
    return meter


def test_without_a_gpu_the_cpu_packages_energy_is_told(tmp_path):
    """Over two turns of the counter, since the sampler looks often enough."""
    turn = 1_000_000_000
    package(tmp_path, "intel-rapl:0", 500, turn)

    def meanwhile(time: ScriptedTime) -> None:
        for second in range(1, 21):
            used = second * 125_000_000
            time.at(second, lambda used=used: package(tmp_path, "intel-rapl:0", used % turn, turn))

    energy = stage_on_the_cpu(Rapl(str(tmp_path)), 20.5, meanwhile).energy("train")
    assert energy.joules == pytest.approx(2500, rel=1e-3)
    assert energy.grade == "device"
    assert "whole CPU package" in energy.reason


def test_a_machine_without_counters_says_so(tmp_path):
    """As in most virtual machines."""
    energy = stage_on_the_cpu(Rapl(str(tmp_path)), 1).energy("train")
    assert (energy.joules, energy.grade) == (None, "unmeasured")
    assert energy.reason.startswith("no energy counter of the CPU (RAPL)")
