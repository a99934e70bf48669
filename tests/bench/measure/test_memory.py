"""Peak memory per phase, graded, and absent with a reason where it cannot be known."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from bench.measure.memory import MemoryMeter
from bench.measure.monitor import start_sampler
from bench.measure.nvml import PynvmlSource
from reports.record import Metric, canonical
from tests.fakes import (
    FakeHostMemory,
    ScriptedBoard,
    ScriptedCuda,
    ScriptedDriver,
    ScriptedMonitor,
    ScriptedTime,
    no_driver,
)

MIB = 2**20


def metrics(meter: MemoryMeter) -> dict[tuple[str, str | None], Metric]:
    """A meter's metrics by name and phase."""
    return {(m.metric, m.phase): m for m in meter.metrics}


def test_each_phase_has_its_own_peak():
    """A high load phase does not hide what training takes."""
    meter = MemoryMeter(host=FakeHostMemory([900, 300]), nvml=no_driver)
    meter.floor()
    for phase in ("load", "train"):
        with meter.phase(phase):
            pass
    found = metrics(meter)
    assert found["memory_floor", "load"].value == 100
    assert found["peak_memory_process", "load"].value == 900
    assert found["peak_memory_process", "train"].value == 300
    assert found["peak_memory_process", "train"].grade == "exact"


def test_a_phase_is_measured_once():
    """A second one of the same name would be a second answer to one question."""
    meter = MemoryMeter(host=FakeHostMemory([1, 1]), nvml=no_driver)
    with meter.phase("train"):
        pass
    with pytest.raises(ValueError, match="measured already"), meter.phase("train"):
        pass


def test_a_peak_that_cannot_be_set_back_is_only_a_bound():
    """Where the kernel refuses, the number is of the process so far and says so."""
    meter = MemoryMeter(host=FakeHostMemory([900], reason="not allowed"), nvml=no_driver)
    with meter.phase("train"):
        pass
    metric = metrics(meter)["peak_memory_process", "train"]
    assert (metric.grade, metric.reason) == ("bounded", "not allowed")


def test_a_peak_that_was_set_back_by_somebody_else_says_so():
    """The sampler saw what the kernel's mark has forgotten."""
    time = ScriptedTime()
    meter = MemoryMeter(
        host=FakeHostMemory([100]), nvml=no_driver, clock=time, monitor=ScriptedMonitor(time)
    )
    with meter.phase("train"):
        time.run(1)
    metric = metrics(meter)["peak_memory_process", "train"]
    assert metric.grade == "bounded"
    assert metric.value > 50 * MIB, "this very process, as the sampler saw it"
    assert "set back during the phase" in metric.reason


def test_without_a_driver_gpu_memory_is_absent_with_the_reason():
    """Never 0: the value is missing and the record says why."""
    meter = MemoryMeter(host=FakeHostMemory([1]), nvml=no_driver)
    with meter.phase("train"):
        pass
    metric = metrics(meter)["peak_memory_gpu_process", "train"]
    assert metric.value is None
    assert (metric.grade, metric.reason) == ("unmeasured", "no NVIDIA driver")


def test_a_stage_on_the_cpu_of_a_machine_with_a_gpu_says_that(monkeypatch):
    """The driver is there; the stage did not use it."""
    ScriptedDriver([]).install(monkeypatch)
    meter = MemoryMeter(host=FakeHostMemory([1]), nvml=PynvmlSource)
    with meter.phase("train"):
        pass
    metric = metrics(meter)["peak_memory_gpu_process", "train"]
    assert metric.reason == "the stage ran on the CPU"


def test_without_a_sampler_its_cost_is_absent_too():
    """Not 0, which would be the best of all."""
    meter = MemoryMeter(host=FakeHostMemory([1]), nvml=no_driver)
    with meter.phase("train"):
        pass
    metric = metrics(meter)["monitor_overhead", "train"]
    assert (metric.value, metric.reason) == (None, "no sampler was started")


def test_a_gpu_without_a_driver_to_ask_keeps_the_frameworks_figures():
    """torch's counters need no NVML."""
    meter = MemoryMeter(host=FakeHostMemory([1]), nvml=no_driver)
    cuda = ScriptedCuda(ScriptedBoard("GPU-a"))
    meter.use_gpu(cuda)
    with meter.phase("train"):
        cuda.hold(1000 * MIB)
        cuda.hold(700 * MIB)
    found = metrics(meter)
    assert found["peak_memory_allocated", "train"].value == 1000 * MIB
    assert found["peak_memory_reserved", "train"].value == 1000 * MIB
    assert found["peak_memory_gpu_process", "train"].reason == "no NVIDIA driver"
    assert meter.energy("train").joules is None


@pytest.fixture
def gpu(monkeypatch):
    """A meter on one board that tells everything, and what it needs to be moved."""
    board = ScriptedBoard("GPU-a")
    ScriptedDriver([board]).install(monkeypatch)
    time = ScriptedTime()
    meter = MemoryMeter(
        host=FakeHostMemory([1] * 9),
        nvml=PynvmlSource,
        clock=time,
        monitor=ScriptedMonitor(time),
        cores=16,
    )
    return meter, ScriptedCuda(board), time


def test_every_source_of_a_gpu_agrees(gpu):
    """512 MiB in load, 1 GiB in train: each source within 32 MiB or 1 % of the truth."""
    meter, cuda, time = gpu
    meter.use_gpu(cuda)
    for phase, held in (("load", 512 * MIB), ("train", 1024 * MIB)):
        with meter.phase(phase):
            time.run(0.3)
            cuda.hold(held)
            time.run(0.3)
        sources = meter.facts()["phases"][phase]["sources"]
        expected = held + cuda.context
        assert sources["allocated"]["value"] == sources["reserved"]["value"] == held
        assert sources["process"]["value"] == sources["device"]["value"] == expected
        assert (sources["process"]["grade"], sources["device"]["grade"]) == ("bounded", "device")
        assert meter.facts()["phases"][phase]["violations"] == []
        metric = metrics(meter)["peak_memory_gpu_process", phase]
        assert (metric.value, metric.grade) == (expected, "bounded")
        assert "a peak shorter than 20 ms may be missed" in metric.reason


def test_the_drivers_accounting_is_exact_in_the_phase_that_raised_it(gpu):
    """It is of the process so far: a later, lower phase falls back to the samples."""
    meter, cuda, time = gpu
    cuda.board.high = {}
    meter.use_gpu(cuda)
    with meter.phase("load"):
        cuda.hold(900 * MIB)
        time.run(0.5)
    cuda.hold(300 * MIB)
    with meter.phase("train"):
        time.run(0.5)
    found = metrics(meter)
    load = found["peak_memory_gpu_process", "load"]
    assert (load.value, load.grade) == (cuda.context + 900 * MIB, "exact")
    assert load.reason == "the driver's accounting"
    train = found["peak_memory_gpu_process", "train"]
    assert (train.value, train.grade) == (cuda.context + 300 * MIB, "bounded")
    assert "samples" in train.reason


def test_the_facts_and_the_time_line_are_json(gpu):
    """They go into a record and a blob: no NaN, no objects of ours."""
    meter, cuda, time = gpu
    meter.use_gpu(cuda)
    with meter.phase("train"):
        time.run(10)
    facts = json.loads(canonical(meter.facts()))
    sampling = facts["phases"]["train"]["sampling"]
    assert sampling["hz"] == pytest.approx(50, rel=0.05)
    assert sampling["longest_gap_ms"] == pytest.approx(20, abs=1)
    assert facts["gpu"]["pid"] == os.getpid()
    rows = meter.timeline()
    assert 100 <= len(rows) <= 300
    assert rows[0]["t"] == 0
    assert rows[-1]["t"] == pytest.approx(10, abs=0.1)
    assert {row["gpu_process"] for row in rows} == {cuda.context + 2 * MIB}


def test_the_cost_of_watching_is_a_share_of_all_the_stages_cores(gpu):
    """One second of work in ten on sixteen cores."""
    meter, cuda, time = gpu
    spent = []
    meter.monitor = ScriptedMonitor(time, cpu=lambda: float(len(spent)))
    meter.use_gpu(cuda)
    with meter.phase("train"):
        time.at(5, lambda: spent.append(1))
        time.run(10)
    found = metrics(meter)["monitor_overhead", "train"]
    assert found.value == pytest.approx(1 / (10 * 16), rel=1e-3)
    assert found.grade == "exact"


def test_cuda_that_was_in_use_before_can_still_be_found_by_its_own_number(gpu):
    """No list from before; what was in use before is unknown, so there is no device figure."""
    meter, cuda, time = gpu
    cuda.create_context()
    meter.use_gpu(cuda)
    with meter.phase("train"):
        time.run(0.5)
    sources = meter.facts()["phases"]["train"]["sources"]
    assert sources["process"]["value"] == cuda.context + 2 * MIB
    assert "was in use by this process before" in sources["device"]["reason"]


def test_an_equal_number_of_another_namespace_is_not_this_process(gpu):
    """The host's process 17 is not the container's 17: it was there before."""
    meter, cuda, time = gpu
    cuda.board.hold(os.getpid(), 3 * 2**30)
    cuda.pid = 4_000_000
    meter.use_gpu(cuda)
    with meter.phase("train"):
        time.run(0.5)
    metric = metrics(meter)["peak_memory_gpu_process", "train"]
    assert metric.value == cuda.context + 2 * MIB
    assert meter.facts()["phases"]["train"]["neighbours"] == [os.getpid()]


ALLOCATE = """
from bench.measure.memory import MemoryMeter
meter = MemoryMeter()
with meter.phase("load"):
    block = bytearray(200 * 2**20)
    del block
with meter.phase("train"):
    block = bytearray(80 * 2**20)
print(*(m.value for m in meter.metrics if m.metric == "peak_memory_process"))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_a_known_allocation_is_read_on_the_real_host():
    """200 MiB that are gone do not show in the next phase, which takes 80 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATE], capture_output=True, text=True, check=True
    )
    load, train = (float(word) / 2**20 for word in done.stdout.split())
    assert load - train == pytest.approx(120, abs=8)


@pytest.fixture
def watched():
    """A meter of this process with a real sampler."""
    meter = MemoryMeter(nvml=no_driver)
    meter.start_sampler(cores=2)
    yield meter
    meter.close()


linux = pytest.mark.skipif(sys.platform != "linux", reason="the sampler reads /proc")


@linux
def test_the_sampler_sees_a_known_allocation(watched):
    """200 MiB more in the second phase, by the sampler's own reading and on the time line."""
    with watched.phase("load"):
        time.sleep(0.2)
    with watched.phase("train"):
        block = b"x" * (200 * MIB)
        time.sleep(0.3)
    del block
    sources = {name: p["sources"] for name, p in watched.facts()["phases"].items()}
    load, train = (sources[name]["host_sampled"]["value"] for name in ("load", "train"))
    assert (train - load) / MIB == pytest.approx(200, abs=16)
    assert sources["train"]["host"]["value"] == pytest.approx(train, rel=0.02)
    assert sources["train"]["host"]["grade"] == "exact"
    line = [row["rss"] for row in watched.timeline() if row["phase"] == "train"]
    assert max(line) == train


@linux
def test_watching_costs_next_to_nothing_and_says_how_much(watched):
    """The first phase pays for the sampler's start; the next one half a percent at most."""
    with watched.phase("load"):
        pass
    with watched.phase("train"):
        time.sleep(2)
    found = metrics(watched)
    assert "with the start of the sampler" in found["monitor_overhead", "load"].reason
    train = found["monitor_overhead", "train"]
    assert (train.grade, train.reason, train.unit) == ("exact", None, "fraction")
    # 0.005 is what it aims for; a busy test machine makes every wake-up dearer.
    assert 0 < train.value < 0.01
    sampling = watched.facts()["phases"]["train"]["sampling"]
    assert sampling["hz"] >= 5
    assert 0 < sampling["longest_gap_ms"] < 1000


@linux
@pytest.mark.parametrize("when", ["before", "during", "while it is asked"])
def test_a_sampler_that_is_killed_costs_only_its_own_figures(watched, when):
    """The stage goes on; what was sampled is absent with the reason, the rest is there."""
    pid = watched.monitor.process.pid
    with watched.phase("load"):
        time.sleep(0.1)
    if when == "before":
        kill(pid)
    with watched.phase("train"):
        if when == "during":
            kill(pid)
        if when == "while it is asked":
            # It hangs, so it is asked and has not answered when it is killed.
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(0.3, os.kill, [pid, signal.SIGKILL]).start()
        time.sleep(0.1)
    found = metrics(watched)
    assert found["monitor_overhead", "load"].value > 0
    overhead = found["monitor_overhead", "train"]
    assert (overhead.value, overhead.reason) == (None, "the sampler ended early")
    assert found["peak_memory_process", "train"].grade == "exact"
    train = watched.facts()["phases"]["train"]
    assert train["sources"]["host_sampled"]["reason"] == "the sampler ended early"
    assert {row["phase"] for row in watched.timeline()} == {"load"}
    assert watched.energy("train").joules is None


def kill(pid: int) -> None:
    """End a process and wait until it has."""
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


STAGE = """
import os, signal, sys, time
from bench.measure.monitor import start_sampler
monitor = start_sampler(1)
monitor.begin(time.monotonic()), monitor.end(time.monotonic())
monitor.begin(time.monotonic())
child = 0
if sys.argv[1] == "killed, and a child holds its pipes":
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(20)
        os._exit(0)
print(monitor.process.pid, child, flush=True)
if sys.argv[1] == "closes its input":
    monitor.process.stdin.close()
    monitor.process.wait(5)
    sys.exit()
os.kill(os.getpid(), signal.SIGKILL)
"""


@linux
@pytest.mark.parametrize(
    "how", ["closes its input", "killed", "killed, and a child holds its pipes"]
)
def test_a_sampler_ends_with_its_stage(how):
    """However the stage ends, it leaves no sampler behind."""
    done = subprocess.run(
        [sys.executable, "-c", STAGE, how], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == (0 if how == "closes its input" else -signal.SIGKILL)
    sampler, child = map(int, done.stdout.split())
    try:
        assert ends(sampler)
    finally:
        for pid in filter(None, (child, sampler if is_running(sampler) else 0)):
            os.kill(pid, signal.SIGKILL)


def ends(pid: int) -> bool:
    """Whether a process ends within five seconds."""
    for _ in range(100):
        if not is_running(pid):
            return True
        time.sleep(0.05)
    return False


def is_running(pid: int) -> bool:
    """Whether the process does anything still: one that nobody waits for is a zombie."""
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@linux
def test_a_sampler_that_cannot_start_is_a_reason(monkeypatch):
    """No process to be had: the stage goes on without."""

    def fail(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("bench.measure.monitor.subprocess.Popen", fail)
    meter = MemoryMeter(nvml=no_driver)
    meter.start_sampler(cores=1)
    with meter.phase("train"):
        pass
    meter.close()
    reason = "the sampler does not start: Resource temporarily unavailable"
    assert metrics(meter)["monitor_overhead", "train"].reason == reason


@linux
def test_a_sampler_that_hangs_is_given_up(monkeypatch):
    """It does not hold the stage for ever."""
    monkeypatch.setattr("bench.measure.monitor.PATIENCE", 0.2)
    meter = MemoryMeter(nvml=no_driver)
    meter.start_sampler(cores=1)
    os.kill(meter.monitor.process.pid, signal.SIGSTOP)
    with meter.phase("train"):
        pass
    meter.close()
    assert "did not answer" in metrics(meter)["monitor_overhead", "train"].reason


@linux
def test_the_sampler_imports_nothing_heavy():
    """It starts while the stage's first phase does."""
    code = (
        "import sys\nimport bench.measure.sampler\n"
        "print(*[m for m in ('torch', 'numpy', 'pydantic', 'pynvml', 'psutil', 'dataclasses') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


@linux
def test_starting_a_sampler_does_not_wait_for_it():
    """The interpreter's start is not the stage's."""
    start = time.perf_counter()
    monitor = start_sampler(1)
    took = time.perf_counter() - start
    monitor.begin(time.monotonic())
    monitor.end(time.monotonic())
    ready = time.perf_counter() - start
    monitor.close()
    assert took < ready / 2
