"""What this machine can do at best, measured where a stage has just run.

Two ceilings bound a training step: the rate of a matrix product of a block's own shape, and the
rate at which the optimizer's memory traffic flows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn

BYTES_PER_PARAMETER = 28
"""Memory traffic of AdamW in float32: it reads weight, gradient and two moments and writes all
but the gradient, four bytes each."""
ROUNDS = 10
ENOUGH = 0.02
"""Seconds a round takes at least, so that a launch weighs nothing."""


LISTED: Mapping[str, Mapping[str, float]] = {
    # Dense peaks of the vendor's data sheets; fp32 runs outside the tensor cores, as torch's
    # default has it.
    "A100": {"bf16": 312e12, "fp32": 19.5e12},
    "H100 PCIe": {"bf16": 756e12, "fp32": 51e12},
    "H100 80GB HBM3": {"bf16": 989e12, "fp32": 67e12},
    "H200": {"bf16": 989e12, "fp32": 67e12},
    "L40S": {"bf16": 362e12, "fp32": 91.6e12},
    "L4": {"bf16": 121e12, "fp32": 30.3e12},
    "RTX 4090": {"bf16": 165e12, "fp32": 82.6e12},
}
"""Operations per second by a part of the name NVML gives a GPU. Another's peak is never taken."""


def listed_peak(name: str, precision: str) -> float | None:
    """The listed peak of a GPU; None if it is not in the list.

    >>> listed_peak("NVIDIA H200", "bf16")
    989000000000000.0
    >>> listed_peak("NVIDIA L400", "bf16") is None
    True
    """
    words = f" {name} "
    found = (peaks for part, peaks in LISTED.items() if f" {part} " in words.replace("-", " "))
    return next((peaks.get(precision) for peaks in found), None)


def matmul_rate(
    rows: int,
    shape: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
    synchronize: Callable[[], None],
) -> float:
    """Operations per second of a linear layer's three products, the best of some rounds.

    Args:
        rows: tokens of a step.
        shape: of the weight, as it multiplies: (in, out).
        dtype: what a step computes in.
        device: where it is computed.
        synchronize: waits for the device.
    """
    width, height = shape
    inputs = torch.randn(rows, width, device=device, dtype=dtype)
    weight = torch.randn(width, height, device=device, dtype=dtype)
    outputs = torch.randn(rows, height, device=device, dtype=dtype)
    products = (
        lambda: inputs @ weight,
        lambda: outputs @ weight.t(),
        lambda: inputs.t() @ outputs,
    )
    return 3 * 2 * rows * width * height / sum(_best(each, synchronize) for each in products)


def adamw_seconds(parameters: Sequence[nn.Parameter], synchronize: Callable[[], None]) -> float:
    """Seconds of a step of fused AdamW over these very parameters; they keep their values."""
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-4)
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=0.0, fused=True)
    optimizer.step()  # makes its state
    seconds = _best(optimizer.step, synchronize)
    for parameter in parameters:
        parameter.grad = None
    return seconds


def _best(function: Callable[[], object], synchronize: Callable[[], None]) -> float:
    """Seconds of one call, in the best of `ROUNDS` rounds."""
    function()
    synchronize()
    start = time.perf_counter()
    function()
    synchronize()
    calls = max(1, round(ENOUGH / max(time.perf_counter() - start, 1e-9)))
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        synchronize()
        seconds.append((time.perf_counter() - start) / calls)
    return min(seconds)
