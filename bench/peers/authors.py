"""The training loop of the paper's authors, written after what their released code does.

accelerate wraps model, optimizer and loader; frozen weights are kept in float16 and what trains
in float32; AdamW is torch's default implementation; every step's loss is brought to the host.
Where a suite computes in float32, so does this: two dtypes would not be one comparison. Their
teacher is left out (`--no_teacher`, as in the scripts of their Table 6), and so is the DDP of
one process around the model.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import fmean

import torch
from torch import nn

from bench.peers.trainer import arguments_of, is_text
from bench.tasks.task import Example, Task
from offsite.training import Batch, Recipe

UNDECAYED = ("bias", "layer_norm.weight")
"""Parameters without weight decay, by the end of their names; GPT-2's `ln_1` is not among them."""


def train(
    model: nn.Module,
    task: Task,
    examples: list[Example],
    recipe: Recipe,
    *,
    batch_size: int,
    seed: int,
    on_step: Callable[[int, Batch], None],
) -> float:
    """Train `model` in place for `recipe.steps` steps; returns their mean loss."""
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from transformers import get_scheduler

    device = next(model.parameters()).device.type
    accelerator = Accelerator(
        mixed_precision="bf16" if recipe.precision == "bf16" else "no", cpu=device == "cpu"
    )
    if recipe.precision != "fp32":
        _halve_frozen(model)
    loader: DataLoader[Batch] = DataLoader(
        examples,  # type: ignore[arg-type]
        batch_size=batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(seed),
        collate_fn=task.collate,
    )
    optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.learning_rate)
    scheduler = get_scheduler(recipe.schedule, optimizer, recipe.warmup_steps, recipe.steps)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, scheduler)
    losses: list[float] = []
    model.train()
    while len(losses) < recipe.steps:
        for batch in loader:
            here = batch.to(accelerator.device)
            own = is_text(examples)
            loss = model(**arguments_of(here)).loss if own else task.loss(model, here)
            accelerator.backward(loss)
            if recipe.grad_clip is not None:
                accelerator.clip_grad_norm_(model.parameters(), recipe.grad_clip)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            losses.append(loss.item())
            on_step(len(losses), here)
            if len(losses) == recipe.steps:
                break
    return fmean(losses)


def _halve_frozen(model: nn.Module) -> None:
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.half()


def _groups(model: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in named if not name.endswith(UNDECAYED)]
    undecayed = [p for name, p in named if name.endswith(UNDECAYED)]
    return [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
