"""The framework's own view of GPU memory."""

from __future__ import annotations

import torch


class CudaMemory:
    """torch's caching allocator on the current GPU."""

    def has_context(self) -> bool:
        """Whether this process uses a GPU already."""
        return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]

    def create_context(self) -> None:
        """Start to use the GPU, and load what every model multiplies with.

        Kernels are loaded when they are first asked for, and stay: some 100 MiB that are no
        model's. What the library works in is given back.
        """
        for dtype in (torch.float32, torch.bfloat16):
            matrix = torch.ones(2048, 2048, dtype=dtype, device="cuda")
            torch.mm(matrix, matrix)
        del matrix
        self.synchronize()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
        self.reset_peak()

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
