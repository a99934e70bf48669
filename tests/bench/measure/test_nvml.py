"""GPUs by UUID, slices included, and every refusal a reason."""

from __future__ import annotations

from types import SimpleNamespace

import pynvml
import pytest

from bench.measure.nvml import GpuInfo, NvmlUnavailable, PynvmlSource, visible_gpus
from tests.fakes import ScriptedBoard, ScriptedDriver, ScriptedNvml


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


def test_errors_at_the_start_become_reasons(monkeypatch):
    """A library that is not there and one that does not start are told apart."""
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


@pytest.fixture
def source(monkeypatch):
    """Opens NVML over scripted boards."""

    def open_over(*boards: ScriptedBoard) -> PynvmlSource:
        ScriptedDriver(list(boards)).install(monkeypatch)
        return PynvmlSource()

    return open_over


def test_gpus_are_described_by_uuid(source):
    """NVML's order is not CUDA's, so an index would name another GPU."""
    expected = GpuInfo(uuid="GPU-1", name="H200", memory=140 * 2**30, driver="580.1")
    assert source(ScriptedBoard("GPU-1")).gpus() == [expected]


def test_the_slices_of_a_gpu_stand_in_its_place(source, monkeypatch):
    """A stage runs on a slice; the parent may not even be asked."""
    slices = [ScriptedBoard("MIG-1"), ScriptedBoard("MIG-2")]
    refusals = {"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NO_PERMISSION}
    parent = ScriptedBoard("GPU-1", cut_into=slices, refusals=refusals)
    assert source(parent, ScriptedBoard("GPU-2")).uuids() == ["MIG-1", "MIG-2", "GPU-2"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-2")
    assert [gpu.uuid for gpu in visible_gpus()] == ["MIG-2"]


@pytest.mark.parametrize("uuid", ["GPU-1", "MIG-2"])
def test_a_bare_uuid_is_found_with_the_word_before_it(source, uuid):
    """torch gives the number only."""
    boards = [ScriptedBoard("GPU-1", cut_into=[ScriptedBoard("MIG-2")])]
    assert source(*boards).named(uuid.partition("-")[2]) == uuid


def test_an_unknown_uuid_is_a_reason(source):
    """Both names were tried."""
    with pytest.raises(NvmlUnavailable, match=r"GPU-9: not found; .*MIG-9: not found"):
        source(ScriptedBoard("GPU-1")).named("9")


READS = {
    "device_memory": "nvmlDeviceGetMemoryInfo",
    "process_memory": "nvmlDeviceGetComputeRunningProcesses",
    "require_accounting": "nvmlDeviceGetAccountingMode",
    "energy": "nvmlDeviceGetTotalEnergyConsumption",
    "power": "nvmlDeviceGetPowerUsage",
    "clock": "nvmlDeviceGetClockInfo",
    "temperature": "nvmlDeviceGetTemperature",
    "throttling": "nvmlDeviceGetCurrentClocksThrottleReasons",
}


CODES = sorted(v for k, v in vars(pynvml).items() if k.startswith("NVML_ERROR_"))


@pytest.mark.parametrize("method", READS)
def test_every_error_of_a_call_is_a_reason(source, method):
    """Whatever the driver says, no exception of the library gets out."""
    for code in CODES:
        board = ScriptedBoard("GPU-1", high={}, refusals={READS[method]: code})
        with pytest.raises(NvmlUnavailable, match="NVML does not tell"):
            getattr(source(board), method)("GPU-1")


def test_accounting_that_is_off_says_how_to_switch_it_on(source):
    """Root can; the number would be exact."""
    with pytest.raises(NvmlUnavailable, match="nvidia-smi -am 1"):
        source(ScriptedBoard("GPU-1")).accounted_memory("GPU-1", 1)


def test_accounting_without_a_number_is_a_reason(source, monkeypatch):
    """nvidia-ml-py writes None into a field of integers there, which raises TypeError."""
    nvml = source(ScriptedBoard("GPU-1", high={}))

    def as_the_library_does(board: ScriptedBoard, pid: int) -> SimpleNamespace:
        stats = pynvml.c_nvmlAccountingStats_t()
        stats.maxMemoryUsage = None
        return stats

    monkeypatch.setattr(pynvml, "nvmlDeviceGetAccountingStats", as_the_library_does)
    with pytest.raises(NvmlUnavailable, match="keeps no memory"):
        nvml.accounted_memory("GPU-1", 1)


def test_units_are_watts_and_joules(source):
    """NVML counts in thousandths."""
    nvml = source(ScriptedBoard("GPU-1", watts=412.5, joules=1000.25))
    assert (nvml.power("GPU-1"), nvml.energy("GPU-1")) == (412.5, 1000.25)
