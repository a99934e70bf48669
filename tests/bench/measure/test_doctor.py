"""`doctor`: one line a source, with its grade or the reason it has none."""

from __future__ import annotations

import sys

import pynvml
import pytest

from bench import doctor
from tests.fakes import ScriptedBoard, ScriptedDriver

SOURCES = {
    "GPU memory (NVML)",
    "GPU memory (device)",
    "GPU accounting",
    "GPU energy counter",
    "GPU power",
    "GPU clock",
    "GPU temperature",
    "GPU throttling",
}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(doctor, "SAMPLED_FOR", 0.1)


def examined() -> dict[str, tuple[str, str]]:
    """Grade and detail by source."""
    return {f.source: (f.grade, f.detail) for f in doctor.examine()}


def test_every_source_of_a_gpu_has_a_line(monkeypatch):
    """A board that refuses one thing and has no accounting."""
    refusals = {"nvmlDeviceGetPowerUsage": pynvml.NVML_ERROR_NOT_SUPPORTED}
    ScriptedDriver([ScriptedBoard("GPU-a", refusals=refusals)]).install(monkeypatch)
    found = examined()
    assert found.keys() >= SOURCES
    assert found["GPU memory (NVML)"][0] == "bounded"
    assert "H200, driver 580.1, GPU-a" in found["GPU memory (NVML)"][1]
    assert found["GPU accounting"][0] == "unmeasured"
    assert "nvidia-smi -am 1" in found["GPU accounting"][1]
    assert found["GPU power"][0] == "unmeasured"
    assert found["GPU energy counter"][0] == "exact"


def test_a_machine_without_a_gpu_says_why():
    """No line is missing, none is 0."""
    found = examined()
    assert found["GPU memory (torch)"][0] in ("exact", "unmeasured")
    assert "GPU memory (NVML)" in found
    assert "CPU energy (RAPL)" in found


@pytest.mark.skipif(sys.platform != "linux", reason="the sampler reads /proc")
def test_the_sampler_is_tried_on_doctor_itself():
    """Its rate and its cost are this machine's."""
    grade, detail = examined()["sampler"]
    assert grade == "bounded"
    assert "samples a second" in detail
    assert "% of" in detail


def test_a_sampler_that_cannot_start_is_a_line(monkeypatch):
    """With the reason."""

    def fail(*arguments: object, **options: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("bench.measure.monitor.subprocess.Popen", fail)
    assert examined()["sampler"] == (
        "unmeasured",
        "the sampler does not start: Resource temporarily unavailable",
    )
