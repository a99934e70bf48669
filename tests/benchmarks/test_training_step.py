"""What a training step and its parts take, side by side in one run: `tox -e bench`.

A width of 256 and 512 tokens, the shapes of the efficiency suite's CPU profile at a few blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from bench.peers.trainer import arguments_of
from bench.tasks.kinds import SyntheticTokens
from bench.tasks.synthetic import prepare
from bench.tasks.task import Task
from offsite.activation_cache import ActivationCache
from offsite.blocked_attention import _Blocked
from offsite.compression.emulator import compress
from offsite.compression.methods import LayerDrop
from offsite.head_loss import _HeadLoss, next_token_loss
from offsite.models import Foundation, load_model
from offsite.sandwich import adapter_blocks, cut, with_emulator
from offsite.training import Batch, Recipe, accelerated
from offsite.tuning import Tuning
from offsite.tuning_methods import Lora
from tests.bench.command import ROOT

NARROW = ROOT / "suites" / "models" / "stand-ins" / "gpt2-xl-narrow"
LENGTH = 512
RECIPE = Recipe(learning_rate=1e-3, steps=1)
Step = Callable[[], Tensor]


@pytest.fixture(scope="module")
def foundation() -> Foundation:
    """The narrow GPT-2."""
    return load_model(f"random:{NARROW}")


@pytest.fixture(scope="module")
def batch(foundation: Foundation) -> Batch:
    """One sequence."""
    task: Task = prepare(SyntheticTokens(length=LENGTH), foundation)
    return task.collate(task.training_examples()[:1])


def usual(model: nn.Module, batch: Batch) -> Tensor:
    """The library's own loss: all logits, a mask of ones."""
    loss: Tensor = model(**arguments_of(batch), use_cache=False).loss
    return loss


def ours(model: nn.Module, batch: Batch) -> Tensor:
    """The loss without logits."""
    return next_token_loss(model, **batch.inputs)  # type: ignore[arg-type]


def step(model: nn.Module, batch: Batch, loss_of: Callable[[nn.Module, Batch], Tensor]) -> Step:
    """Forward and backward."""

    def run() -> Tensor:
        loss = loss_of(model, batch)
        loss.backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        return loss

    return run


def sent(foundation: Foundation, *, bottom: int, top: int, tuning: Tuning) -> nn.Module:
    """What the data owner trains: sixteen of the middle's blocks, the outer ones marked."""
    sandwich = cut(foundation.model, bottom=bottom, top=top)
    model = with_emulator(sandwich, compress(sandwich, [("layer_drop", LayerDrop(keep=16))]))
    tuning.attach(model, adapter_blocks(model, bottom=bottom, top=top))
    return model.train()


@pytest.mark.benchmark(group="loss of the head alone")
@pytest.mark.parametrize("way", ["all logits", "in parts"])
def test_head(benchmark: BenchmarkFixture, foundation: Foundation, batch: Batch, way: str):
    """Vocabulary 8,192, nothing below the head runs."""
    weight = foundation.model.lm_head.weight.detach()
    hidden = torch.randn(LENGTH, weight.shape[1], requires_grad=True)
    targets = batch.inputs["labels"].flatten()

    def run() -> None:
        if way == "in parts":
            loss = _HeadLoss.apply(hidden, weight, None, targets)
        else:
            loss = nn.functional.cross_entropy(hidden @ weight.t(), targets)
        loss.backward()

    benchmark(run)


@pytest.mark.benchmark(group="attention of one block")
@pytest.mark.parametrize("way", ["torch's kernel", "blocks of queries"])
def test_attention(benchmark: BenchmarkFixture, way: str):
    """4 heads x 512 x 64, causal, forward and backward."""
    query, key, value = (torch.randn(4, LENGTH, 64, requires_grad=True) for _ in range(3))
    grad = torch.randn(4, LENGTH, 64)

    def run() -> None:
        if way == "blocks of queries":
            mixed = _Blocked.apply(query, key, value, 0.125)
        else:
            mixed = nn.functional.scaled_dot_product_attention(
                query[None], key[None], value[None], is_causal=True
            )[0]
        mixed.backward(grad)

    benchmark(run)


@pytest.mark.benchmark(group="step of 2-16-2 + LoRA")
@pytest.mark.parametrize("way", ["as the library has it", "ours"])
def test_step(benchmark: BenchmarkFixture, foundation: Foundation, batch: Batch, way: str):
    """Forward and backward of what the data owner trains."""
    model = sent(foundation, bottom=2, top=2, tuning=Tuning("lora", Lora(rank=4, alpha=32)))
    if way == "ours":
        with accelerated(model, RECIPE):
            benchmark.pedantic(step(model, batch, ours), rounds=15, warmup_rounds=5)
    else:
        benchmark.pedantic(step(model, batch, usual), rounds=15, warmup_rounds=5)


@pytest.mark.benchmark(group="step of 0-16-4")
@pytest.mark.parametrize("way", ["whole", "from kept activations"])
def test_top_alone(benchmark: BenchmarkFixture, foundation: Foundation, batch: Batch, way: str):
    """With no adapter block at the bottom: an epoch's first step, and a later one."""
    model = sent(foundation, bottom=0, top=4, tuning=Tuning())
    loss_of = ActivationCache(model, ours) if way == "from kept activations" else ours
    with accelerated(model, RECIPE):
        own = replace(batch, examples=(0,))
        benchmark.pedantic(step(model, own, loss_of), rounds=15, warmup_rounds=5)
