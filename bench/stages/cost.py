"""What a step of the training that just ended costs, and the machine's best rates beside it."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from bench.environment import this_machine
from bench.measure.ceilings import (
    BYTES_PER_PARAMETER,
    adamw_seconds,
    listed_peak,
    matmul_rate,
)
from bench.measure.energy import Energy
from bench.measure.flops import count_flops
from bench.measure.throughput import Window
from offsite.blocks import get_blocks
from offsite.training import Batch, Recipe, autocast
from reports.record import Metric


def energy_metric(energy: Energy, windows: list[Window]) -> Metric:
    """Joules a sample, over the whole training, warm-up and all."""
    samples = sum(window.samples for window in windows)
    return Metric(
        metric="energy_per_sample",
        value=None if energy.joules is None else energy.joules / samples,
        unit="J",
        better="lower",
        phase="train",
        grade=energy.grade,
        reason=energy.reason,
    )


def flops_metric(
    model: nn.Module, batch: Batch, recipe: Recipe, loss_of: Callable[[nn.Module, Batch], Tensor]
) -> Metric:
    """Operations of one step's forward and backward pass, counted while it runs once more."""

    def step() -> None:
        with autocast(next(model.parameters()).device, recipe.precision):
            loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]

    model.train()
    flops = count_flops(step)
    for parameter in model.parameters():
        parameter.grad = None
    return Metric(metric="flops_per_step", value=flops, unit="1", better="lower", phase="train")


def ceiling_metrics(
    model: nn.Module, batch: Batch, recipe: Recipe, synchronize: Callable[[], None]
) -> list[Metric]:
    """The best rates of a product of a block's own shape, and of the optimizer's traffic."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = (p for block in get_blocks(model) for p in block.parameters() if p.dim() == 2)
    # Packed codes are no numbers to multiply; adapter blocks have none.
    largest = max((p for p in matrices if p.is_floating_point()), key=lambda p: p.numel())
    width, height = largest.shape
    rows = batch.tokens_padded or batch.samples
    dtype = torch.bfloat16 if recipe.precision == "bf16" else largest.dtype
    product = matmul_rate(rows, (width, height), dtype, largest.device, synchronize)
    traffic = BYTES_PER_PARAMETER * sum(p.numel() for p in parameters)
    return [
        _rate("matmul_rate", product, "flop/s"),
        _rate("adamw_rate", traffic / adamw_seconds(parameters, synchronize), "bytes/s"),
        Metric(
            metric="optimizer_bytes_per_step",
            value=traffic,
            unit="bytes",
            better="lower",
            phase="train",
        ),
    ]


def _rate(name: str, value: float, unit: str) -> Metric:
    return Metric(
        metric=name, value=value, unit=unit, better="higher", phase="train", grade="exact"
    )


def mfu_metric(
    flops: float, windows: list[Window], precision: str, measured: float | None
) -> Metric:
    """Share of the machine's peak that the training used: the GPU's listed one, or as measured.

    Args:
        flops: of one step.
        windows: the steady ones.
        precision: of the recipe.
        measured: the rate of a matrix product here, if that was measured.
    """
    machine = this_machine()
    peak, reason = measured, "of the rate of a block's matrix product on this machine"
    if machine.device == "cuda":
        name = machine.gpus[0].name
        peak, reason = listed_peak(name, precision), f"of the listed peak of {name}"
        if peak is None:
            reason = f"no peak is listed for {name} in {precision}"
    elif peak is None:
        reason = "no peak: it is measured with synthetic tasks only"
    seconds = median(window.step_time for window in windows)
    return Metric(
        metric="mfu",
        value=None if peak is None else flops / seconds / peak,
        unit="fraction",
        better="higher",
        phase="train",
        grade="unmeasured" if peak is None else "bounded",
        reason=reason,
    )
