"""The framework's own view of GPU memory."""

from __future__ import annotations

import torch


class CudaMemory:
    """torch's caching allocator on the current GPU."""

    def has_context(self) -> bool:
        """Whether this process uses a GPU already."""
        return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]

    def create_context(self) -> None:
        """Start to use the GPU, with next to no memory."""
        torch.zeros(1, device="cuda")
        self.synchronize()

    def synchronize(self) -> None:
        """Wait until the GPU has done all it was given."""
        torch.cuda.synchronize()

    def reset_peak(self) -> None:
        """Start new peaks."""
        torch.cuda.reset_peak_memory_stats()

    def allocated_peak(self) -> int:
        """Bytes of tensors at the highest."""
        return torch.cuda.max_memory_allocated()

    def reserved_peak(self) -> int:
        """Bytes held by the allocator at the highest."""
        return torch.cuda.max_memory_reserved()

    def uuid(self) -> str:
        """The GPU's UUID, bare: without the GPU- or MIG- that NVML puts before it."""
        return str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
