"""NVIDIA's management library behind a small protocol, so that every fault is a unit test.

Without a driver everything here says so; nothing raises and nothing is 0.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """One GPU this process may use."""

    uuid: str
    name: str
    memory: int
    """Bytes on the board."""
    driver: str


class Nvml(Protocol):
    """The calls we make. `PynvmlSource` makes them; tests script them."""

    def gpus(self) -> list[GpuInfo]:
        """GPUs on the machine. Raises NvmlUnavailable."""
        ...

    def process_memory(self, uuid: str) -> dict[int, int | None]:
        """Bytes per process id on one GPU; None where the driver will not tell."""
        ...

    def device_memory(self, uuid: str) -> int:
        """Bytes in use on one GPU, by everybody."""
        ...


class NvmlUnavailable(Exception):
    """The library cannot be used; the message is the reason a record gives."""


class PynvmlSource:
    """The real library, through nvidia-ml-py. Devices are named by UUID, never by index."""

    def __init__(self) -> None:
        import pynvml

        self._pynvml = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            reason = "no NVIDIA driver"
            if not isinstance(error, pynvml.NVMLError_LibraryNotFound):
                reason = f"NVML does not start: {error}"
            raise NvmlUnavailable(reason) from None

    def gpus(self) -> list[GpuInfo]:
        """GPUs on the machine, in NVML's order."""
        nvml = self._pynvml
        driver = str(nvml.nvmlSystemGetDriverVersion())
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        return [
            GpuInfo(
                uuid=str(nvml.nvmlDeviceGetUUID(handle)),
                name=str(nvml.nvmlDeviceGetName(handle)),
                memory=int(nvml.nvmlDeviceGetMemoryInfo(handle).total),
                driver=driver,
            )
            for handle in handles
        ]

    def process_memory(self, uuid: str) -> dict[int, int | None]:
        """Bytes per process id on one GPU; None where the driver will not tell."""
        try:
            handle = self._pynvml.nvmlDeviceGetHandleByUUID(uuid)
            running = self._pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        except self._pynvml.NVMLError as error:
            raise NvmlUnavailable(f"NVML does not tell: {error}") from None
        return {int(process.pid): process.usedGpuMemory for process in running}

    def device_memory(self, uuid: str) -> int:
        """Bytes in use on one GPU, by everybody."""
        handle = self._pynvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(self._pynvml.nvmlDeviceGetMemoryInfo(handle).used)


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
