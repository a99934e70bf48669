"""What a worker calls the ways in which a stage can fail."""

from __future__ import annotations

import pytest
import torch

from bench.worker import classify
from offsite.training import NonFiniteLoss

ERRORS = [
    (MemoryError(), "oom_host"),
    (MemoryError("std::bad_alloc"), "oom_host"),
    (RuntimeError("std::bad_alloc"), "oom_host"),
    (
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 8 bytes. Error code 12 (Cannot allocate memory)"
        ),
        "oom_host",
    ),
    (OSError(12, "Cannot allocate memory"), "oom_host"),
    (RuntimeError("could not create a primitive"), "oom_host"),
    (RuntimeError("could not create a primitive descriptor for a matmul primitive"), "failed"),
    (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "oom_gpu"),
    (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "oom_gpu"),
    (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "oom_gpu"),
    (RuntimeError("CUDA error: device-side assert triggered"), "failed"),
    (NonFiniteLoss("loss of step 3 is nan"), "invalid"),
    (IndexError("index out of range in self"), "failed"),
]


@pytest.mark.parametrize(("error", "outcome"), ERRORS)
def test_only_a_want_of_memory_is_called_out_of_memory(error, outcome):
    """Whoever looks for what fits goes by this word, and it always comes with a reason."""
    found, reason = classify(error)
    assert found == outcome
    assert reason
    assert "\n" not in reason
