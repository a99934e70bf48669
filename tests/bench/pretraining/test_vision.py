"""The recipe of the shipped vision model, in miniature."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.pretraining.vision import (
    STROKES,
    VisionRecipe,
    drawn_digits,
    drawn_pairs,
    pretrain_vision,
)
from bench.tasks.builtin import digits_pair_sum


def test_a_pretrained_vision_model_loads_through_timm(tmp_path: Path):
    """Two steps on drawn digits leave a folder that `timm.create_model` reads."""
    from offsite.models import ensure_torchvision

    ensure_torchvision()
    import timm

    pretrain_vision(
        tmp_path, VisionRecipe(width=16, heads=2, blocks=2, steps=2, batch=4, digits=50)
    )
    model = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    assert model(torch.zeros(3, 1, 8, 16)).shape == (3, 19)


def test_drawn_digits_look_like_the_scanned_ones():
    """Same shape and range, every digit, and about as much ink."""
    images, digits = drawn_digits(2000, torch.Generator().manual_seed(0))
    assert images.shape == (2000, 8, 8)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(digits.tolist()) == set(STROKES)
    real = torch.from_numpy(digits_pair_sum()["validation"][0])
    assert images.mean().item() == pytest.approx(real.mean().item(), abs=0.06)


def test_a_drawn_pair_is_labelled_with_its_sum():
    """Left and right keep their place and the label adds them."""
    images = torch.arange(3.0)[:, None, None].expand(3, 8, 8)
    pairs, sums = drawn_pairs(images, torch.arange(3), 20, torch.Generator().manual_seed(0))
    assert pairs.shape == (20, 1, 8, 16)
    assert torch.equal(pairs[:, 0, 0, 0] + pairs[:, 0, 0, 8], sums.float())


def test_the_same_seed_draws_the_same_digits():
    """Drawing depends on the generator alone."""
    first, second = (drawn_digits(30, torch.Generator().manual_seed(7))[0] for _ in range(2))
    assert torch.equal(first, second)
