"""The framework's own view of GPU memory."""

from __future__ import annotations

import torch


class CudaMemory:
    """Peaks of torch's caching allocator on the current GPU."""

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
        """NVML's name of the GPU."""
        return f"GPU-{torch.cuda.get_device_properties(torch.cuda.current_device()).uuid}"
