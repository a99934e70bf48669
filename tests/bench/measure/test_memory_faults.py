"""Eight ways in which a GPU's peak memory is read wrong elsewhere: a right number, or a reason.

Scripted at the level of nvidia-ml-py's functions, so that all of our own code runs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pynvml
import pytest

from bench.measure.memory import MemoryMeter
from bench.measure.nvml import PynvmlSource
from reports.record import Metric
from tests.fakes import (
    FakeHostMemory,
    ScriptedBoard,
    ScriptedCuda,
    ScriptedDriver,
    ScriptedMonitor,
    ScriptedTime,
)

MIB = 2**20
GIB = 2**30
FOREIGN = 4_194_300
"""A process number that this process does not have."""
NEIGHBOUR = 4_194_301
CONTEXT = 500 * MIB


@dataclass
class Stage:
    """A stage on the first board unless `on` is another: 1 GiB in load, 4 GiB in train."""

    driver: ScriptedDriver
    cuda: ScriptedCuda
    time: ScriptedTime = field(default_factory=ScriptedTime)

    def __post_init__(self) -> None:
        self.monitor = ScriptedMonitor(self.time)
        self.meter = MemoryMeter(
            host=FakeHostMemory([1, 1]),
            nvml=PynvmlSource,
            clock=self.time,
            monitor=self.monitor,
            cores=16,
        )

    def run(self) -> Metric:
        """Both phases; what is said of the second."""
        self.meter.use_gpu(self.cuda)
        for phase, held in (("load", GIB), ("train", 4 * GIB)):
            with self.meter.phase(phase):
                self.cuda.hold(held)
                self.time.run(1)
        (metric,) = (
            m
            for m in self.meter.metrics
            if (m.metric, m.phase) == ("peak_memory_gpu_process", "train")
        )
        return metric

    @property
    def train(self) -> dict:
        """The facts of the second phase."""
        return self.meter.facts()["phases"]["train"]


def stage_on(monkeypatch, *boards: ScriptedBoard, on: int = 0, **options: object) -> Stage:
    """A stage on one of these boards."""
    driver = ScriptedDriver(list(boards))
    driver.install(monkeypatch)
    return Stage(driver, ScriptedCuda(boards[on], **options))


@pytest.fixture
def board() -> ScriptedBoard:
    """A GPU that somebody else uses already."""
    board = ScriptedBoard("GPU-a")
    board.hold(7, 2 * GIB)
    return board


def test_fault_1_a_foreign_pid_namespace(monkeypatch, board):
    """The driver knows this process by the host's number: found by what came with it."""
    stage = stage_on(monkeypatch, board, pid=FOREIGN)
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "bounded")
    assert stage.meter.facts()["gpu"]["pid"] == FOREIGN
    assert stage.train["neighbours"] == [7]
    assert stage.train["violations"] == []


def test_fault_1_a_list_that_shows_nothing_of_the_container(monkeypatch, board):
    """The device's rise stands in, and says so."""
    board.hidden.add(FOREIGN)
    metric = stage_on(monkeypatch, board, pid=FOREIGN).run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "device")
    assert "less" in metric.reason
    assert "process 7" in metric.reason


def test_fault_1_several_processes_came_at_once(monkeypatch, board):
    """Which one is ours cannot be told: the device's rise, not a guess."""
    stage = stage_on(monkeypatch, board, pid=FOREIGN, brings=[NEIGHBOUR])
    metric = stage.run()
    assert metric.grade == "device"
    assert metric.value == CONTEXT + 4 * GIB + GIB, "the other's GiB is in it, as the grade says"
    assert "2 processes appeared" in stage.train["sources"]["process"]["reason"]


def test_fault_1_this_processs_own_number_wins_outright(monkeypatch, board):
    """Where others came at the same time, the number is known after all."""
    metric = stage_on(monkeypatch, board, pid=os.getpid(), brings=[NEIGHBOUR]).run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "bounded")


def test_fault_2_used_gpu_memory_is_none(monkeypatch, board):
    """WSL lists processes without their memory: the device's rise stands in."""
    board.tells_processes = False
    stage = stage_on(monkeypatch, board)
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "device")
    assert "WSL" in stage.train["sources"]["process"]["reason"]


def test_fault_2_a_driver_that_says_0_has_not_told(monkeypatch, board):
    """A process with a context cannot hold nothing."""
    board.tells_processes, board.tells_instead = False, 0
    metric = stage_on(monkeypatch, board).run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "device")


def test_fault_3_a_mig_slice(monkeypatch):
    """The slice is found by its own UUID; the parent may not be asked in a container."""
    slices = [ScriptedBoard("MIG-1"), ScriptedBoard("MIG-2")]
    parent = ScriptedBoard("GPU-a", cut_into=slices)
    refused = ("nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses")
    parent.refusals = dict.fromkeys(refused, pynvml.NVML_ERROR_NO_PERMISSION)
    for each in slices:
        each.refusals = dict.fromkeys(
            (
                "nvmlDeviceGetTotalEnergyConsumption",
                "nvmlDeviceGetPowerUsage",
                "nvmlDeviceGetAccountingMode",
                "nvmlDeviceGetClockInfo",
            ),
            pynvml.NVML_ERROR_NOT_SUPPORTED,
        )
    slices[0].hold(NEIGHBOUR, 9 * GIB)
    driver = ScriptedDriver([parent])
    driver.install(monkeypatch)
    stage = Stage(driver, ScriptedCuda(slices[1], pid=FOREIGN))
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "bounded")
    assert stage.meter.facts()["gpu"]["uuid"] == "MIG-2"
    assert stage.train["violations"] == []
    for reason in (
        stage.train["sources"]["accounting"]["reason"],
        stage.train["gpu_state"]["missing"]["clock"],
        stage.train["sampling"]["missing"]["power"],
    ):
        assert "not supported by this GPU or driver for a MIG slice" in reason


def test_fault_4_nvml_numbers_gpus_in_another_order_than_cuda(monkeypatch):
    """CUDA's first GPU is NVML's second: an index would read the neighbour's."""
    other = ScriptedBoard("GPU-b")
    other.hold(NEIGHBOUR, 70 * GIB)
    stage = stage_on(monkeypatch, other, ScriptedBoard("GPU-a"), on=1, pid=FOREIGN)
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "bounded")
    assert stage.train["sources"]["device"]["value"] == CONTEXT + 4 * GIB
    assert stage.train["neighbours"] == []


def test_fault_5_no_permission(monkeypatch, board):
    """Nothing may be read: every figure of the driver is a reason, torch's are there."""
    functions = (
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetComputeRunningProcesses",
        "nvmlDeviceGetAccountingMode",
    )
    board.refusals = dict.fromkeys(functions, pynvml.NVML_ERROR_NO_PERMISSION)
    stage = stage_on(monkeypatch, board)
    metric = stage.run()
    assert (metric.value, metric.grade) == (None, "unmeasured")
    assert "no permission" in metric.reason
    assert stage.train["sources"]["reserved"]["value"] == 4 * GIB


def test_fault_5_no_permission_to_see_processes_only(monkeypatch, board):
    """The device's rise is there, with the doubt that nobody else can be seen."""
    refusal = {"nvmlDeviceGetComputeRunningProcesses": pynvml.NVML_ERROR_NO_PERMISSION}
    board.refusals = refusal
    metric = stage_on(monkeypatch, board).run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "device")
    assert "whether others use it cannot be seen" in metric.reason


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (pynvml.NVML_ERROR_GPU_IS_LOST, "GPU is lost"),
        (pynvml.NVML_ERROR_UNINITIALIZED, "shut down"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
    ],
)
def test_fault_5_a_driver_that_gives_up_during_the_phase(monkeypatch, board, code, words):
    """What was seen before stays a number, and says that samples failed."""
    stage = stage_on(monkeypatch, board)
    function = "nvmlDeviceGetComputeRunningProcesses"
    stage.time.at(1.5, lambda: board.refusals.update({function: code}))
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "bounded")
    assert "some samples failed" in metric.reason
    assert words in metric.reason


def spike(stage: Stage) -> None:
    """6 GiB for 5 ms of the train phase, between two samples."""
    stage.time.at(1.505, lambda: stage.cuda.hold(6 * GIB))
    stage.time.at(1.510, lambda: stage.cuda.hold(4 * GIB))


def test_fault_6_a_spike_shorter_than_the_sampling_interval(monkeypatch, board):
    """torch's own peak shows that the samples missed it; the least it can be is told."""
    stage = stage_on(monkeypatch, board)
    spike(stage)
    metric = stage.run()
    assert stage.train["sources"]["process"]["value"] == CONTEXT + 4 * GIB, "missed"
    assert (metric.value, metric.grade) == (CONTEXT + 6 * GIB, "bounded")
    assert "reserved <= process does not hold" in metric.reason
    assert "fell between two samples" in metric.reason


def test_fault_6_a_spike_smaller_than_the_context_is_still_seen(monkeypatch, board):
    """The context is known, so what the process takes besides it does not hide a spike."""
    stage = stage_on(monkeypatch, board)
    stage.time.at(1.505, lambda: stage.cuda.hold(4 * GIB + 300 * MIB))
    stage.time.at(1.510, lambda: stage.cuda.hold(4 * GIB))
    assert stage.run().value == CONTEXT + 4 * GIB + 300 * MIB


def test_fault_6_accounting_reads_a_spike_right(monkeypatch, board):
    """The driver's own mark misses nothing."""
    board.high = {}
    stage = stage_on(monkeypatch, board)
    spike(stage)
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 6 * GIB, "exact")
    assert metric.reason == "the driver's accounting"


def test_fault_7_a_neighbour_that_comes_during_the_phase(monkeypatch, board):
    """It is named, and its memory is in no figure of ours."""
    stage = stage_on(monkeypatch, board, pid=FOREIGN)
    stage.time.at(1.5, lambda: board.hold(NEIGHBOUR, 30 * GIB))
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "bounded")
    assert stage.train["neighbours"] == [7, NEIGHBOUR]
    device = stage.train["sources"]["device"]
    assert device["value"] is None
    assert f"process {NEIGHBOUR} came to the same GPU" in device["reason"]


def test_fault_7_a_neighbour_where_this_process_is_not_shown(monkeypatch, board):
    """The device's rise is both of theirs: no figure rather than a wrong one."""
    board.hidden.add(FOREIGN)
    stage = stage_on(monkeypatch, board, pid=FOREIGN)
    stage.time.at(1.5, lambda: board.hold(NEIGHBOUR, 30 * GIB))
    metric = stage.run()
    assert (metric.value, metric.grade) == (None, "unmeasured")
    assert f"process {NEIGHBOUR} came to the same GPU" in metric.reason


def test_fault_7_a_neighbour_that_gives_memory_back(monkeypatch, board):
    """The device's rise is less than this process holds: the figures do not fit together."""
    stage = stage_on(monkeypatch, board)
    stage.time.at(0.5, lambda: board.hold(7, MIB))
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "bounded")
    assert "process <= device does not hold" in metric.reason
    assert "a neighbour gave memory back" in metric.reason


def test_fault_8_a_killed_sampler(monkeypatch, board):
    """What it would have seen is absent; what torch and the driver know is not."""
    stage = stage_on(monkeypatch, board)
    stage.time.at(1.5, lambda: setattr(stage.monitor, "ended", True))
    metric = stage.run()
    assert (metric.value, metric.grade) == (None, "unmeasured")
    assert "the sampler ended early" in metric.reason
    assert stage.train["sources"]["reserved"]["value"] == 4 * GIB
    assert stage.meter.facts()["phases"]["load"]["sources"]["process"]["value"] == CONTEXT + GIB


def test_fault_8_accounting_outlives_the_sampler(monkeypatch, board):
    """The driver's own mark needs no samples."""
    board.high = {}
    stage = stage_on(monkeypatch, board)
    stage.time.at(1.5, lambda: setattr(stage.monitor, "ended", True))
    metric = stage.run()
    assert (metric.value, metric.grade) == (CONTEXT + 4 * GIB, "exact")
