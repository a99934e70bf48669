"""What a training step and its parts take, side by side in one run: `tox -e bench`.

A width of 256 and 512 tokens, the shapes of the efficiency suite's CPU profile at a few blocks.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor, nn

from bench.peers.trainer import arguments_of
from bench.tasks.kinds import SyntheticTokens
from bench.tasks.synthetic import prepare
from bench.tasks.task import Task
from offsite.acceleration import fuse_activations
from offsite.fused_lora import fuse_lora
from offsite.head_loss import next_token_loss
from offsite.models import Foundation, load_model
from offsite.sandwich import adapter_blocks
from offsite.training import Batch
from offsite.tuning import Tuning
from offsite.tuning_methods import Lora
from tests.bench.command import ROOT

NARROW = ROOT / "suites" / "models" / "stand-ins" / "gpt2-xl-narrow"
LENGTH = 512
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


@pytest.mark.benchmark(group="loss of the head alone")
@pytest.mark.parametrize("loss_of", [usual, ours], ids=["all logits", "in parts"])
def test_head(benchmark: BenchmarkFixture, foundation: Foundation, batch: Batch, loss_of: object):
    """Vocabulary 8,192, nothing below the head runs."""
    head = foundation.model.lm_head
    hidden = torch.randn(LENGTH, 256, requires_grad=True)
    targets = batch.inputs["labels"].flatten()

    def run() -> None:
        from offsite.head_loss import _HeadLoss

        if loss_of is ours:
            loss = _HeadLoss.apply(hidden, head.weight.detach(), None, targets)
        else:
            loss = nn.functional.cross_entropy(hidden @ head.weight.detach().t(), targets)
        loss.backward()

    benchmark(run)


@pytest.mark.benchmark(group="step of 2-16-2 + LoRA")
@pytest.mark.parametrize(
    ("fused", "loss_of"),
    [(False, usual), (False, ours), (True, ours)],
    ids=["library", "loss in parts", "loss in parts, fused"],
)
def test_step(
    benchmark: BenchmarkFixture,
    foundation: Foundation,
    batch: Batch,
    fused: bool,
    loss_of: Callable[[nn.Module, Batch], Tensor],
):
    """Forward and backward of what the data owner trains."""
    from offsite.compression.emulator import compress
    from offsite.compression.methods import LayerDrop
    from offsite.sandwich import cut, with_emulator

    sandwich = cut(foundation.model, bottom=2, top=2)
    model = with_emulator(sandwich, compress(sandwich, [("layer_drop", LayerDrop(keep=16))]))
    Tuning("lora", Lora(rank=4, alpha=32)).attach(model, adapter_blocks(model, bottom=2, top=2))
    if fused:
        fuse_activations(model)
        fuse_lora(model)
    benchmark.pedantic(step(model.train(), batch, loss_of), rounds=10, warmup_rounds=2)
