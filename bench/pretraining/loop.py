"""How both models are trained: two optimizers, one learning-rate curve, the loop."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

log = logging.getLogger(__name__)


def muon_and_adamw(
    model: nn.Module, *, matrix_rate: float, other_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """Muon learns the blocks' matrices in about half of AdamW's steps; it is not for the rest."""
    import torch

    named = list(model.named_parameters())
    inside = [p for name, p in named if p.ndim == 2 and BLOCK.search(name)]
    chosen = set(map(id, inside))
    outside = [p for _, p in named if id(p) not in chosen]
    return [
        torch.optim.Muon(inside, lr=matrix_rate, momentum=0.95, weight_decay=weight_decay),
        torch.optim.AdamW(outside, lr=other_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


BLOCK = re.compile(r"(^|\.)(layers|blocks)\.\d+\.")
"""Names of parameters inside a transformer block, in transformers' Llama and timm's ViT."""


def train(
    loss: Callable[[], Tensor], optimizers: Sequence[torch.optim.Optimizer], *, steps: int
) -> None:
    """Warm up, hold, then let the learning rate fall to zero over the last 40%."""
    import torch

    schedulers = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at(step, steps))
        for optimizer in optimizers
    ]
    started = time.perf_counter()
    for step in range(steps):
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        for optimizer, scheduler in zip(optimizers, schedulers, strict=True):
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if step % 50 == 0 or step + 1 == steps:
            log.info("step %d loss %.3f %.0f s", step, value.item(), time.perf_counter() - started)


def rate_at(step: int, steps: int) -> float:
    """Share of the peak learning rate: 2% warm-up, flat to 60%, then a straight line to 0.

    >>> [rate_at(step, 1000) for step in (0, 19, 500, 600, 800, 999)]
    [0.05, 1.0, 1.0, 1.0, 0.5, 0.0025]
    """
    warm_up = max(1, round(0.02 * steps))
    return min(1.0, (step + 1) / warm_up, (steps - step) / (0.4 * steps))
