"""The training step and loop, shared by every setting.

Frozen parameters get no gradient and no optimizer state. The loop knows no clock: whoever
measures passes `on_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from offsite.acceleration import checkpointed_blocks, compiled_blocks, fused_activations
from offsite.blocked_attention import blocked_attention
from offsite.fused_lora import fused_lora
from offsite.graphed_step import Step, graphed


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the trainable parameters are trained."""

    learning_rate: float
    steps: int
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "linear"
    warmup_steps: int = 0
    grad_clip: float | None = 1.0
    """Largest norm of the gradient; None does not clip."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16 computes under autocast; what trains is held in float32 either way."""
    compile: bool = False
    """Compile the blocks: fewer and larger kernels, after some seconds of compiling."""
    gradient_checkpointing: bool = False
    """Compute a block's inner activations again in the backward pass instead of keeping them."""
    cuda_graph: bool = False
    """On a GPU: record a step and replay it, so that the GPU does not wait for the host."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one step and what they hold, counted once."""

    inputs: dict[str, Tensor]
    samples: int
    tokens_real: int | None = None
    """Tokens that are not padding; None where samples have no tokens (images)."""
    tokens_padded: int | None = None
    """All positions the model computes, padding included."""
    examples: tuple[int, ...] | None = None
    """Which of the training set these are, where anybody keeps something for each."""

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        inputs = {n: tensor.to(device, non_blocking=True) for n, tensor in self.inputs.items()}
        return replace(self, inputs=inputs)


class NonFiniteLoss(ArithmeticError):
    """The loss of a step was NaN or infinite. The run has no result."""


def train(
    model: nn.Module,
    batches: Iterable[Batch],
    recipe: Recipe,
    *,
    loss_of: Callable[[nn.Module, Batch], Tensor],
    on_step: Callable[[int, Batch], None] = lambda step, batch: None,
    rates: Mapping[nn.Parameter, float] | None = None,
) -> list[float]:
    """Run `recipe.steps` optimizer steps in place; returns the loss of each.

    Args:
        model: its parameters with `requires_grad` are trained, the others stay as they are.
        batches: at least `recipe.steps` of them.
        recipe: learning rate and the rest.
        loss_of: scalar loss of a batch.
        on_step: called after each step with its number (from 1) and its batch.
        rates: learning rates of parameters that have one of their own, as a new head may.

    Raises:
        NonFiniteLoss: a loss, or a parameter after the last step, was NaN or infinite.
        ValueError: there are fewer batches than steps.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    device = parameters[0].device
    is_graphed = recipe.cuda_graph and device.type == "cuda"
    optimizer = _optimizer(parameters, recipe, rates or {}, capturable=is_graphed)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _factor(step, recipe))
    losses: list[Tensor] = []

    def one_step(batch: Batch) -> Tensor:
        with autocast(device, recipe.precision):
            loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        if recipe.grad_clip is not None:
            nn.utils.clip_grad_norm_(parameters, recipe.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    model.train()
    with ExitStack() as stack:
        # Around the backward pass too: what is recomputed there must be what was computed.
        stack.enter_context(accelerated(model, recipe))
        step: Step = stack.enter_context(graphed(one_step)) if is_graphed else one_step
        # zip asks the first iterator first: no batch is drawn past the last step.
        for number, batch in zip(range(1, recipe.steps + 1), batches, strict=False):
            here = batch.to(device)
            losses.append(step(here))
            scheduler.step()
            on_step(number, here)
    model.eval()
    if len(losses) < recipe.steps:
        raise ValueError(f"{len(losses)} batches for {recipe.steps} steps")
    values = _finite(losses)
    # The last update has no loss after it that would show where it went.
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise NonFiniteLoss("the last step left parameters that are not finite")
    return values


@contextmanager
def accelerated(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Inside the block a step of `model` is as cheap as `recipe` allows; what it computes stays."""
    with ExitStack() as stack:
        stack.enter_context(fused_activations(model))
        stack.enter_context(fused_lora(model))
        stack.enter_context(blocked_attention(model))
        if recipe.gradient_checkpointing:
            stack.enter_context(checkpointed_blocks(model))
        if recipe.compile:
            stack.enter_context(compiled_blocks(model))
        yield


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Compute in bfloat16 inside the block where `precision` is bf16."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()


def _optimizer(
    parameters: list[nn.Parameter],
    recipe: Recipe,
    rates: Mapping[nn.Parameter, float],
    *,
    capturable: bool,
) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in parameters:
        # Norm weights and biases are not decayed: shrinking them changes the scale of a block.
        decay = recipe.weight_decay if parameter.dim() > 1 else 0.0
        rate = rates.get(parameter, recipe.learning_rate)
        groups.setdefault((rate, decay), []).append(parameter)
    described = [
        # A recorded step reads the rate where it lies; a number would be recorded with it.
        {
            "params": each,
            "lr": torch.tensor(rate, device=each[0].device) if capturable else rate,
            "weight_decay": decay,
        }
        for (rate, decay), each in groups.items()
    ]
    return torch.optim.AdamW(described, lr=recipe.learning_rate, fused=True, capturable=capturable)


def _factor(step: int, recipe: Recipe) -> float:
    """Share of the learning rate at `step` (from 0): linear warm-up, then the schedule to 0."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    if recipe.schedule == "constant":
        return 1.0
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 1.0 - done if recipe.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))


def _finite(losses: list[Tensor]) -> list[float]:
    # One transfer at the end: asking each step would make a GPU wait for the host.
    values: list[float] = torch.stack([loss.float() for loss in losses]).cpu().tolist()
    for step, value in enumerate(values, start=1):
        if not math.isfinite(value):
            raise NonFiniteLoss(f"loss of step {step} is {value}")
    return values
