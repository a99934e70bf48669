"""Peak memory per phase, graded, and absent with a reason where it cannot be known."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.measure.memory import MemoryMeter
from bench.measure.nvml import GpuInfo, NvmlUnavailable, PynvmlSource, visible_gpus
from reports.record import Metric
from tests.fakes import FakeGpuMemory, FakeHostMemory, ScriptedNvml, no_driver


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


def test_a_peak_that_cannot_be_set_back_is_only_a_bound():
    """Where the kernel refuses, the number is of the process so far and says so."""
    meter = MemoryMeter(host=FakeHostMemory([900], reason="not allowed"), nvml=no_driver)
    with meter.phase("train"):
        pass
    metric = metrics(meter)["peak_memory_process", "train"]
    assert (metric.grade, metric.reason) == ("bounded", "not allowed")


def test_without_a_driver_gpu_memory_is_absent_with_the_reason():
    """Never 0: the value is missing and the record says why."""
    meter = MemoryMeter(host=FakeHostMemory([1]), nvml=no_driver)
    with meter.phase("train"):
        pass
    metric = metrics(meter)["peak_memory_gpu_process", "train"]
    assert metric.value is None
    assert (metric.grade, metric.reason) == ("unmeasured", "no NVIDIA driver")


def test_a_driver_that_does_not_tell_is_absent_with_the_reason():
    """`usedGpuMemory` is None under WSL and in some containers; a foreign process id is too."""
    for processes in ({}, {1: 5000}):
        meter = MemoryMeter(
            gpu=FakeGpuMemory(),
            host=FakeHostMemory([1]),
            nvml=lambda processes=processes: ScriptedNvml(processes=processes),
        )
        with meter.phase("train"):
            pass
        metric = metrics(meter)["peak_memory_gpu_process", "train"]
        assert metric.value is None
        assert metric.reason == "the driver does not tell this process's memory"


def test_the_allocators_peaks_are_read_per_phase():
    """Allocated and reserved stand beside what the driver says."""
    meter = MemoryMeter(gpu=FakeGpuMemory(), host=FakeHostMemory([1]), nvml=no_driver)
    with meter.phase("train"):
        pass
    found = metrics(meter)
    assert found["peak_memory_allocated", "train"].value == 1000
    assert found["peak_memory_reserved", "train"].value == 1500


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


def test_no_gpu_is_no_error(monkeypatch):
    """Planning on a laptop asks NVML too."""

    def fail() -> None:
        raise NvmlUnavailable("no NVIDIA driver")

    monkeypatch.setattr("bench.measure.nvml.open_nvml", fail)
    assert visible_gpus() == []


TWO = [
    GpuInfo(uuid="GPU-aa", name="A", memory=1, driver="1"),
    GpuInfo(uuid="GPU-bb", name="B", memory=1, driver="1"),
]


@pytest.mark.parametrize(
    ("visible", "names"),
    [(None, "AB"), ("", ""), ("-1", ""), ("1", "B"), ("GPU-b", "B"), ("0,1", "AB")],
)
def test_only_visible_gpus_are_used(monkeypatch, visible, names):
    """NVML ignores CUDA_VISIBLE_DEVICES; we do not."""
    monkeypatch.setattr("bench.measure.nvml.open_nvml", lambda: ScriptedNvml(devices=TWO))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert "".join(gpu.name for gpu in visible_gpus()) == names


def test_nvml_errors_become_reasons(monkeypatch):
    """A library that is not there and one that does not start are told apart."""
    import pynvml

    reasons = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no NVIDIA driver",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "NVML does not start: Driver Not Loaded",
    }
    for code, reason in reasons.items():

        def fail(code: int = code) -> None:
            raise pynvml.NVMLError(code)

        monkeypatch.setattr(pynvml, "nvmlInit", fail)
        with pytest.raises(NvmlUnavailable, match=reason):
            PynvmlSource()


def test_gpus_are_described_by_uuid(monkeypatch):
    """NVML's order is not CUDA's, so an index would name another GPU."""
    import pynvml

    class Memory:
        total = 80 * 2**30

    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: 1)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: "GPU-1")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: "H200")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: Memory)
    expected = GpuInfo(uuid="GPU-1", name="H200", memory=80 * 2**30, driver="580.1")
    assert PynvmlSource().gpus() == [expected]
