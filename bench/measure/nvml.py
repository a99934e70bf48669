"""NVIDIA's management library behind a small protocol.

GPUs are named by UUID, never by index: NVML numbers them by PCI bus and knows nothing of
CUDA_VISIBLE_DEVICES. A slice of a GPU (MIG) has a UUID of its own and is a GPU here. Whatever
the library refuses is an `NvmlUnavailable` whose message is the reason a record gives; a value
it does not know is None. Nothing is 0 that was not measured.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Protocol

from bench.measure.unavailable import Unavailable

REFUSALS = {
    "NVMLError_NoPermission": "no permission",
    "NVMLError_NotSupported": "not supported by this GPU or driver",
    "NVMLError_Uninitialized": "the library was shut down",
    "NVMLError_GpuIsLost": "the GPU is lost: it fell off the bus or its driver gave up",
    "NVMLError_NotFound": "not found",
    "NVMLError_FunctionNotFound": "the driver is too old to know it",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """One GPU this process may use."""

    uuid: str
    name: str
    memory: int
    """Bytes on the board."""
    driver: str


class Nvml(Protocol):
    """The calls we make. Each raises NvmlUnavailable where the driver does not answer."""

    def uuids(self) -> list[str]:
        """Every GPU of the machine in NVML's order; the slices of one that is cut into them."""
        ...

    def gpus(self) -> list[GpuInfo]:
        """The same, described."""
        ...

    def named(self, uuid: str) -> str:
        """NVML's name of what CUDA calls `uuid`: with GPU- or MIG- before it."""
        ...

    def process_memory(self, uuid: str) -> dict[int, int | None]:
        """Bytes per process id on one GPU; None where the driver will not tell."""
        ...

    def device_memory(self, uuid: str) -> int:
        """Bytes in use on one GPU, by everybody."""
        ...

    def require_accounting(self, uuid: str) -> None:
        """Raises if the driver keeps no accounts of processes."""
        ...

    def accounted_memory(self, uuid: str, pid: int) -> int:
        """The most bytes a process held since it started, as the driver's accounting knows."""
        ...

    def energy(self, uuid: str) -> float:
        """Joules the board took since the driver was loaded."""
        ...

    def power(self, uuid: str) -> float:
        """Watts the board takes."""
        ...

    def clock(self, uuid: str) -> int:
        """MHz of the streaming multiprocessors."""
        ...

    def temperature(self, uuid: str) -> int:
        """Degrees Celsius."""
        ...

    def throttling(self, uuid: str) -> int:
        """NVML's bits for why the clock is not higher."""
        ...


class NvmlUnavailable(Unavailable):
    """The library does not answer."""


class PynvmlSource:
    """The real library, through nvidia-ml-py."""

    def __init__(self) -> None:
        import pynvml

        self._pynvml = pynvml
        self._handles: dict[str, Any] = {}
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            reason = "no NVIDIA driver"
            if not isinstance(error, pynvml.NVMLError_LibraryNotFound):
                reason = f"NVML does not start: {error}"
            raise NvmlUnavailable(reason) from None

    def uuids(self) -> list[str]:
        """Every GPU of the machine in NVML's order; the slices of one that is cut into them."""
        count = self._ask("number of GPUs", "nvmlDeviceGetCount")
        boards = [self._ask("GPU", "nvmlDeviceGetHandleByIndex", i) for i in range(count)]
        handles = [handle for board in boards for handle in self._slices(board) or [board]]
        return [str(self._ask("UUID", "nvmlDeviceGetUUID", handle)) for handle in handles]

    def gpus(self) -> list[GpuInfo]:
        """The same, described."""
        driver = str(self._ask("driver version", "nvmlSystemGetDriverVersion"))
        return [
            GpuInfo(
                uuid=uuid,
                name=str(self._read(uuid, "name", "nvmlDeviceGetName")),
                memory=int(self._read(uuid, "memory", "nvmlDeviceGetMemoryInfo").total),
                driver=driver,
            )
            for uuid in self.uuids()
        ]

    def named(self, uuid: str) -> str:
        """NVML's name of what CUDA calls `uuid`: with GPU- or MIG- before it."""
        reasons = []
        for name in (f"GPU-{uuid}", f"MIG-{uuid}"):
            try:
                self._handle(name)
            except NvmlUnavailable as error:
                reasons.append(str(error))
            else:
                return name
        raise NvmlUnavailable("; ".join(reasons))

    def process_memory(self, uuid: str) -> dict[int, int | None]:
        """Bytes per process id on one GPU; None where the driver will not tell."""
        running = self._read(uuid, "processes", "nvmlDeviceGetComputeRunningProcesses")
        # A process with a context holds memory: some drivers say 0 to a container that may
        # not know, which means the same as None.
        return {int(process.pid): process.usedGpuMemory or None for process in running}

    def device_memory(self, uuid: str) -> int:
        """Bytes in use on one GPU, by everybody."""
        return int(self._read(uuid, "memory", "nvmlDeviceGetMemoryInfo").used)

    def require_accounting(self, uuid: str) -> None:
        """Raises if the driver keeps no accounts of processes."""
        if not self._read(uuid, "accounting mode", "nvmlDeviceGetAccountingMode"):
            raise NvmlUnavailable("accounting mode is off (root switches it on: nvidia-smi -am 1)")

    def accounted_memory(self, uuid: str, pid: int) -> int:
        """The most bytes a process held since it started, as the driver's accounting knows."""
        self.require_accounting(uuid)
        try:
            stats = self._read(uuid, "accounting", "nvmlDeviceGetAccountingStats", pid)
            most = int(stats.maxMemoryUsage)
        except TypeError:
            # nvidia-ml-py writes None into a field of integers where the driver has no number.
            most = 0
        if not most:
            raise NvmlUnavailable("the driver's accounting keeps no memory on this GPU")
        return most

    def energy(self, uuid: str) -> float:
        """Joules the board took since the driver was loaded."""
        millijoules = self._read(uuid, "energy counter", "nvmlDeviceGetTotalEnergyConsumption")
        return float(millijoules) / 1000

    def power(self, uuid: str) -> float:
        """Watts the board takes."""
        return float(self._read(uuid, "power", "nvmlDeviceGetPowerUsage")) / 1000

    def clock(self, uuid: str) -> int:
        """MHz of the streaming multiprocessors."""
        kind = self._pynvml.NVML_CLOCK_SM
        return int(self._read(uuid, "clock", "nvmlDeviceGetClockInfo", kind))

    def temperature(self, uuid: str) -> int:
        """Degrees Celsius."""
        sensor = self._pynvml.NVML_TEMPERATURE_GPU
        return int(self._read(uuid, "temperature", "nvmlDeviceGetTemperature", sensor))

    def throttling(self, uuid: str) -> int:
        """NVML's bits for why the clock is not higher."""
        name = "nvmlDeviceGetCurrentClocksThrottleReasons"
        return int(self._read(uuid, "throttle reasons", name))

    def _slices(self, board: Any) -> list[Any]:  # noqa: ANN401 - NVML's handles have no type
        """Handles of the slices of a GPU; none if it is not cut."""
        try:
            mode, _ = self._ask("MIG mode", "nvmlDeviceGetMigMode", board)
            most = self._ask("MIG slices", "nvmlDeviceGetMaxMigDeviceCount", board) if mode else 0
        except NvmlUnavailable:
            # Only some GPUs can be cut at all.
            return []
        slices = []
        for index in range(most):
            try:
                name = "nvmlDeviceGetMigDeviceHandleByIndex"
                slices.append(self._ask("MIG slice", name, board, index))
            except NvmlUnavailable:
                # Numbers of slices that do not exist are gaps, not the end.
                continue
        return slices

    def _handle(self, uuid: str) -> Any:  # noqa: ANN401 - NVML's handles have no type
        if uuid not in self._handles:
            self._handles[uuid] = self._ask(f"GPU {uuid}", "nvmlDeviceGetHandleByUUID", uuid)
        return self._handles[uuid]

    def _read(self, uuid: str, what: str, function: str, *arguments: int) -> Any:  # noqa: ANN401
        try:
            return self._ask(what, function, self._handle(uuid), *arguments)
        except NvmlUnavailable as error:
            # The clock and the energy are of the whole board; a slice's handle does not have them.
            where = " for a MIG slice" if uuid.startswith("MIG-") else ""
            raise NvmlUnavailable(f"{error}{where}") from None

    def _ask(self, what: str, function: str, *arguments: Any) -> Any:  # noqa: ANN401
        try:
            return getattr(self._pynvml, function)(*arguments)
        except self._pynvml.NVMLError as error:
            refusal = REFUSALS.get(type(error).__name__, str(error))
            raise NvmlUnavailable(f"NVML does not tell the {what}: {refusal}") from None


def open_nvml() -> Nvml:
    """The machine's NVML. Raises NvmlUnavailable with the reason."""
    return PynvmlSource()


def visible_gpus() -> list[GpuInfo]:
    """GPUs this process may use, none where NVML cannot be used.

    NVML ignores CUDA_VISIBLE_DEVICES. Its order is that of the PCI bus, as stages set CUDA's.
    """
    try:
        gpus = open_nvml().gpus()
    except NvmlUnavailable:
        return []
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None:
        return gpus
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return [g for i, g in enumerate(gpus) if any(n == str(i) or _is(g, n) for n in names)]


def _is(gpu: GpuInfo, name: str) -> bool:
    """Whether a UUID, or the beginning of one, names this GPU."""
    return name.startswith(("GPU-", "MIG-")) and gpu.uuid.startswith(name)
