"""The training loop: what it changes, what it refuses, and its schedules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from offsite.training import Batch, NonFiniteLoss, Recipe, _factor, train


def line(value: float = 1.0) -> nn.Linear:
    """A model of two parameters."""
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.zeros_(layer.bias)
    return layer


def squared(model: nn.Module, batch: Batch) -> torch.Tensor:
    """A parabola: zero is the best output."""
    return (model(batch.inputs["x"]) ** 2).mean()


def batch(value: float = 1.0) -> Batch:
    """Two equal samples."""
    return Batch({"x": torch.full((2, 1), value)}, 2)


def test_training_lowers_the_loss():
    """Twenty steps on a parabola go down."""
    losses = train(line(), [batch()] * 20, Recipe(learning_rate=0.1, steps=20), loss_of=squared)
    assert losses[-1] < losses[0] / 4


def test_frozen_parameters_keep_their_bits_and_get_no_gradient():
    """A parameter without requires_grad costs nothing and moves nowhere."""
    model = line()
    model.bias.requires_grad_(False)
    train(model, [batch()] * 3, Recipe(learning_rate=0.1, steps=3), loss_of=squared)
    assert model.bias.item() == 0
    assert model.bias.grad is None
    assert model.weight.item() != 1


def test_a_loss_that_is_not_finite_is_an_error_that_names_the_step():
    """A diverged run has no result."""
    stream = [batch(), batch(float("nan")), batch()]
    with pytest.raises(NonFiniteLoss, match="loss of step 2 is nan"):
        train(line(), stream, Recipe(learning_rate=0.1, steps=3), loss_of=squared)


def test_too_few_batches_are_an_error():
    """A run that was cut short must not look like one that was not."""
    with pytest.raises(ValueError, match="2 batches for 3 steps"):
        train(line(), [batch()] * 2, Recipe(learning_rate=0.1, steps=3), loss_of=squared)


def test_no_batch_is_drawn_past_the_last_step():
    """The stream's generator state after a run is part of what repeats."""
    stream = iter([batch()] * 5)
    train(line(), stream, Recipe(learning_rate=0.1, steps=3), loss_of=squared)
    assert len(list(stream)) == 2


def test_every_step_is_told_with_its_number_and_batch():
    """Whoever measures counts exactly the steps that were made."""
    seen = []
    train(
        line(),
        [batch()] * 3,
        Recipe(learning_rate=0.1, steps=3),
        loss_of=squared,
        on_step=lambda step, each: seen.append((step, each.samples)),
    )
    assert seen == [(1, 2), (2, 2), (3, 2)]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, 0.8535533906, 0.5, 0.1464466094]),
    ],
)
def test_schedules_warm_up_and_fall_to_zero(schedule, expected):
    """Two steps of warm-up, then four of the schedule."""
    recipe = Recipe(learning_rate=1, steps=6, warmup_steps=2, schedule=schedule)
    assert [_factor(step, recipe) for step in range(6)] == pytest.approx(expected)


def test_norms_and_biases_are_not_decayed():
    """With zero gradient, weight decay shrinks matrices alone."""
    model = line()
    nn.init.ones_(model.bias)
    recipe = Recipe(learning_rate=0.1, steps=2, weight_decay=0.5, schedule="constant")
    train(model, [batch()] * 2, recipe, loss_of=lambda m, b: squared(m, b) * 0)
    assert model.bias.item() == 1
    assert model.weight.item() == pytest.approx(0.95**2)
