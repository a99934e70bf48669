"""The sampler's own work with a scripted driver and clock: rates, gaps, thinning, its budget."""

from __future__ import annotations

import os
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.measure.nvml import PynvmlSource
from bench.measure.sampler import Probe, Sampler
from bench.measure.tally import POINTS, Line, Power
from tests.fakes import (
    ScriptedBoard,
    ScriptedDriver,
    ScriptedMonitor,
    ScriptedTime,
    no_driver,
)


@pytest.fixture
def board(monkeypatch) -> ScriptedBoard:
    """A GPU that tells everything."""
    board = ScriptedBoard("GPU-a")
    ScriptedDriver([board]).install(monkeypatch)
    return board


def test_without_a_gpu_it_looks_at_the_host_alone():
    """Twenty times a second, by default; the driver is not even opened."""
    time = ScriptedTime()
    monitor = ScriptedMonitor(time, nvml=no_driver)
    monitor.begin(time())
    time.run(10)
    sampled = monitor.end(time())
    assert sampled.counts == {"rss": sampled.samples}
    assert sampled.hz == pytest.approx(20, rel=0.02)
    assert sampled.longest_gap == pytest.approx(0.05, abs=0.001)
    assert (sampled.clocks, sampled.power_seconds) == ([], 0)


def test_with_a_gpu_its_state_is_read_ten_times_a_second_or_more(board):
    """Less often than memory, whose peaks are shorter."""
    time = ScriptedTime()
    monitor = ScriptedMonitor(time)
    monitor.watch("GPU-a", 1)
    monitor.begin(time())
    time.run(10)
    sampled = monitor.end(time())
    assert sampled.counts["device"] / 10 == pytest.approx(50, rel=0.02)
    assert 100 <= sampled.counts["clock"] <= 210
    assert sampled.counts["clock"] == sampled.counts["power"] == sampled.counts["throttling"]


@pytest.mark.parametrize(("cost", "cores", "hz"), [(0.001, 16, 47), (0.001, 4, 12), (0.1, 1, 10)])
def test_dear_samples_are_spaced_out(board, cost, cores, hz):
    """They keep to their share of the cores, but never fewer than ten a second."""
    time = ScriptedTime()
    spent = iter(range(10**9))
    monitor = ScriptedMonitor(time, cpu=lambda: next(spent) * cost, cores=cores)
    monitor.watch("GPU-a", 1)
    monitor.begin(time())
    time.run(10)
    sampled = monitor.end(time())
    assert sampled.hz == pytest.approx(hz, rel=0.1)
    if hz > 10:
        assert sampled.cpu_seconds / (10 * cores) <= 0.005


def test_between_phases_it_does_nothing(board):
    """No sample is due: it waits for a command."""
    time = ScriptedTime()
    monitor = ScriptedMonitor(time)
    assert time.sampler.timeout() == 5.0
    monitor.begin(time())
    time.run(0.1)
    monitor.end(time())
    assert time.sampler.timeout() == 5.0


def test_a_pause_of_the_sampler_is_a_gap():
    """A machine that does not let it run hides peaks, and it says for how long."""
    time = ScriptedTime()
    monitor = ScriptedMonitor(time, nvml=no_driver)
    monitor.begin(time())
    time.run(1)
    time.now += 0.7
    time.run(1)
    assert monitor.end(time()).longest_gap == pytest.approx(0.7, abs=0.06)


def test_the_sampler_does_not_catch_up_after_a_pause():
    """A burst of samples of one moment would raise the rate and tell nothing."""
    time = ScriptedTime()
    monitor = ScriptedMonitor(time, nvml=no_driver)
    monitor.begin(time())
    time.run(0.1)
    time.now += 5
    time.run(0.1)
    assert monitor.end(time()).samples < 8


def test_a_late_start_is_a_gap_from_the_phases_beginning():
    """The phase's time is the stage's; the sampler came 0.3 s after it."""
    time = ScriptedTime()
    began = time()
    time.run(0.3)
    monitor = ScriptedMonitor(time, nvml=no_driver)
    monitor.begin(began)
    time.run(0.2)
    sampled = monitor.end(time())
    assert sampled.seconds == pytest.approx(0.5)
    assert sampled.longest_gap == pytest.approx(0.3)
    assert sampled.with_start


def test_its_own_start_is_charged_to_the_phase_it_fell_into():
    """40 ms of importing are not free because no sample was taken yet."""
    time = ScriptedTime()
    began = time()
    time.run(0.3)
    monitor = ScriptedMonitor(time, nvml=no_driver, cpu=lambda: 0.04)
    monitor.begin(began)
    assert monitor.end(time()).cpu_seconds == pytest.approx(0.04)
    monitor.begin(time())
    time.run(0.1)
    sampled = monitor.end(time())
    assert (sampled.cpu_seconds, sampled.with_start) == (0, False)


def test_a_phase_that_ended_before_the_sampler_was_ready_has_one_moment():
    """The stage waits for the answer, so its end is still to be seen."""
    time = ScriptedTime()
    began = time()
    time.run(0.01)
    ended = time()
    time.run(0.05)
    monitor = ScriptedMonitor(time, nvml=no_driver)
    monitor.begin(began)
    sampled = monitor.end(ended)
    assert sampled.peaks["rss"] > 0
    assert sampled.hz < 20
    assert sampled.longest_gap == pytest.approx(0.01), "no longer than the phase"


def test_a_process_that_is_gone_is_a_reason():
    """No /proc folder, as on other systems."""
    sample = Probe(4_194_302, PynvmlSource).sample(with_state=False)
    assert sample.values == {}
    assert sample.missing == {
        "rss": "/proc/4194302/statm cannot be read: No such file or directory"
    }


def test_the_process_on_the_gpu_may_vanish_from_the_list(board):
    """Then it has no figure, and 0 is not one."""
    probe = Probe(os.getpid(), PynvmlSource)
    probe.watch("GPU-a", 5)
    sample = probe.sample(with_state=True)
    assert "process" not in sample.values
    assert "does not show this one any more" in sample.missing["process"]
    assert sample.values["device"] == board.unlisted


def test_a_gpu_is_watched_where_nvml_does_not_open():
    """The host's memory is there still."""
    probe = Probe(os.getpid(), no_driver)
    probe.watch("GPU-a", 5)
    sample = probe.sample(with_state=True)
    assert set(sample.values) == {"rss"}
    assert set(sample.missing.values()) == {"no NVIDIA driver"}


def test_commands_it_does_not_know_are_answered_with_nothing():
    """A newer stage's word does not end it."""
    sampler = Sampler(Probe(os.getpid(), no_driver), 1)
    assert sampler.obey({"unknown": 1}) is None


def test_a_long_phase_is_thinned_evenly():
    """Each point stands for as many samples, and the one high sample is among them."""
    line = Line()
    for at in range(10_000):
        line.add(float(at), 900 if at == 7777 else 100, None)
    times = [at for at, _, _ in line.points]
    steps = {later - earlier for earlier, later in pairwise(times)}
    assert steps == {64}
    assert [rss for at, rss, _ in line.points if at <= 7777 < at + 64] == [900]


values = st.one_of(st.none(), st.integers(0, 10**12))


@settings(deadline=None)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=4000))
def test_a_thinned_line_keeps_its_peaks_and_its_size(samples):
    """However long a phase is."""
    line = Line()
    for at, (rss, process) in enumerate(samples):
        line.add(float(at), rss, process)
    assert 1 <= len(line.points) <= POINTS
    assert len(line.points) >= min(len(samples), POINTS // 2)
    times = [at for at, _, _ in line.points]
    assert times == sorted(set(times))
    assert times[0] == 0
    for column in (0, 1):
        expected = max((s[column] for s in samples if s[column] is not None), default=None)
        kept = [p[column + 1] for p in line.points if p[column + 1] is not None]
        assert max(kept, default=None) == expected


@settings(deadline=None)
@given(st.floats(1, 1000), st.floats(-500, 500), st.lists(st.floats(0.001, 1), min_size=1))
def test_power_that_rises_in_a_line_is_added_up_exactly(start, slope, steps):
    """A trapezoid is exact for a line, whatever the spacing."""
    power, at = Power(), 0.0
    power.add(at, start)
    for step in steps:
        at += step
        power.add(at, start + slope * at)
    assert power.seconds == pytest.approx(at)
    assert power.joules == pytest.approx(start * at + slope * at**2 / 2, abs=1e-6)
