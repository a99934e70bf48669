"""A replayed step trains what a step that is launched kernel by kernel does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle

import pytest
import torch
from torch import Tensor, nn

from offsite.errors import NotRecordable
from offsite.graphed_step import _Graphed
from offsite.head_loss import next_token_loss
from offsite.sandwich import adapter_blocks
from offsite.training import Batch, Recipe, train
from offsite.tuning import Tuning
from offsite.tuning_methods import Lora
from tests.fakes import LANGUAGE, VISION, tiny_batch, tiny_loss, tiny_model, weights

RECIPE = Recipe(learning_rate=1e-3, steps=12, schedule="linear", warmup_steps=2)
RECORDABLE = [name for name in (*LANGUAGE, *VISION) if name != "bloom"]
"""BLOOM's mask is made of a number on the host."""
needs_gpu = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


def trained(architecture: str, tuning: Tuning, recipe: Recipe, device: str) -> nn.Module:
    """A model without dropout, and what it lost: its blocks trained on batches of two shapes."""
    model = tiny_model(architecture).to(device)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    tuning.attach(model, adapter_blocks(model, bottom=1, top=2))
    whole = tiny_batch(architecture)
    first = {name: tensor[:1] for name, tensor in whole.inputs.items()}
    last = {name: tensor[1:] for name, tensor in whole.inputs.items()}
    # The sixth step, between two that can be replayed, has another shape.
    batches = cycle([Batch(first, 1), Batch(last, 1)] * 2 + [Batch(last, 1), whole])
    model.losses = train(model, batches, recipe, loss_of=tiny_loss)
    return model


@pytest.mark.parametrize("tuning", [Tuning(), Tuning("lora", Lora(rank=2))], ids=["full", "lora"])
@pytest.mark.parametrize("architecture", RECORDABLE)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_the_same_losses_and_the_same_weights(architecture, tuning, device):
    """Schedule, clipping and a batch of another shape included; on a CPU nothing is recorded."""
    wanted = trained(architecture, tuning, RECIPE, device)
    found = trained(architecture, tuning, replace(RECIPE, cuda_graph=True), device)
    assert found.losses == pytest.approx(wanted.losses, rel=1e-4)
    assert len(set(found.losses)) == RECIPE.steps
    right, ours = weights(wanted), weights(found)
    assert max(float((right[name] - ours[name]).abs().max()) for name in right) < 1e-4


def scored_loss(model: nn.Module, batch: Batch) -> Tensor:
    """The loss without logits."""
    return next_token_loss(model, **batch.inputs)


@contextmanager
def invalidated(graph: object, stream: object) -> Iterator[None]:
    """The end of a recording in which something went wrong, which goes wrong as well."""
    try:
        yield
    finally:
        raise RuntimeError("the recording was invalidated")


def test_a_step_that_cannot_be_recorded_says_why(monkeypatch):
    """What went wrong first, not that the recording was cut off."""

    def step(batch: Batch) -> Tensor:
        raise RuntimeError("copied from the host")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", invalidated)
    graphed = _Graphed(step, None)
    with pytest.raises(NotRecordable, match="leave cuda_graph out: copied from the host"):
        graphed._record(Batch({}, 1))


def test_the_first_shape_that_comes_twice_is_recorded(monkeypatch):
    """Not the short last batch of an epoch, though it is the fourth."""
    done: list[str] = []

    class Graph:
        def replay(self) -> None:
            done.append("replayed")

    @contextmanager
    def recording(graph: Graph, stream: object) -> Iterator[None]:
        done.append("recorded")
        yield

    def step(batch: Batch) -> Tensor:
        done.append(str(len(batch.inputs["x"])))
        return torch.zeros(())

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", recording)
    graphed = _Graphed(step, None)
    for size in (2, 2, 2, 1, 2, 2, 1, 2):
        graphed(Batch({"x": torch.ones(size)}, size))
    as_they_are = ["2", "2", "2", "1", "2"]
    assert done == [*as_they_are, "recorded", "2", "replayed", "1", "replayed"]
    assert list(graphed._inputs["x"]) == [1.0, 1.0]


def test_out_of_memory_while_recording_is_that(monkeypatch):
    """Whoever looks for the largest batch has to know."""

    def step(batch: Batch) -> Tensor:
        raise torch.OutOfMemoryError("none left")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", invalidated)
    with pytest.raises(torch.OutOfMemoryError, match="none left"):
        _Graphed(step, None)._record(Batch({}, 1))


class _Counted(nn.Module):
    """A parabola that counts how often the host computes it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (self.weight * x).square().mean()


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_gpu)])
def test_the_host_computes_the_first_steps_alone(device):
    """Three steps as they are, one while it is recorded; eight replays call nothing."""
    model = _Counted().to(device)
    batch = Batch({"x": torch.ones(2, 4)}, 2)
    train(
        model,
        [batch] * 12,
        replace(RECIPE, cuda_graph=True),
        loss_of=lambda model, batch: model(batch.inputs["x"]),
    )
    assert model.calls == 4


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=needs_gpu)])
def test_padded_text_in_bfloat16(device):
    """The loss in parts, a mask, and positions that are scored, under autocast."""

    def losses(recipe: Recipe) -> list[float]:
        model = tiny_model("llama").to(device)
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(1, 30, (RECIPE.steps, 2, 10), generator=generator)
        mask = torch.ones(2, 10, dtype=torch.long)
        mask[1, 6:] = 0
        batches = []
        for row in ids:
            labels = row.masked_fill(mask == 0, -100)
            scored = (labels[:, 1:].flatten() != -100).nonzero().flatten()
            inputs = {"input_ids": row, "labels": labels, "attention_mask": mask, "scored": scored}
            batches.append(Batch(inputs, 2))
        return train(
            model,
            batches,
            recipe,
            loss_of=lambda model, batch: next_token_loss(model, **batch.inputs),
        )

    recipe = replace(RECIPE, precision="bf16")
    assert losses(replace(recipe, cuda_graph=True)) == pytest.approx(losses(recipe), rel=2e-2)
