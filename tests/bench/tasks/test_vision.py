"""Image classification against hand-counted answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench.errors import SuiteError
from bench.tasks.task import Task, prepare
from offsite.image_settings import NEUTRAL
from offsite.models import Foundation
from offsite.training import NonFiniteLoss
from tests.fakes import tiny_model

NEUTRAL_SETTINGS: dict[str, Any] = {"kind": "vision", "image_settings": dict(NEUTRAL)}


class Echo(nn.Module):
    """Its scores are the first pixels of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :6]


class Broken(Echo):
    """A model that has diverged."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * float("nan")


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """Four images: right at once, right in five, wrong, right at once."""
    images = np.zeros((4, 1, 3, 3), dtype="float32")
    ranks = [[9, 1, 2, 3, 4, 5], [9, 8, 2, 3, 4, 5], [0, 8, 2, 3, 4, 5], [9, 8, 7, 3, 4, 5]]
    for image, rank in zip(images, ranks, strict=True):
        image.reshape(-1)[:6] = rank
    np.savez(tmp_path / "four.npz", images=images, labels=np.array([0, 1, 0, 0]))
    data = {split: str(tmp_path / "four.npz") for split in ("train", "validation", "test")}
    return prepare(
        {"kind": "image_classification"}, data, Foundation(model=Echo(), **NEUTRAL_SETTINGS)
    )


def test_top1_and_top5_are_counted(task):
    """Two of four are right at once; the image whose label scores lowest is never right."""
    scored = task.evaluate(Echo(), batch_size=3, examples=None)
    assert {m.metric: m.value for m in scored.metrics} == {"top1": 0.5, "top5": 0.75}
    assert [item["top1"] for item in scored.items] == [1, 0, 0, 1]


def test_a_subset_is_scored_with_its_own_images(task):
    """Each as it is scored among all."""
    whole, part = (task.evaluate(Echo(), batch_size=1, examples=n).items for n in (None, 2))
    assert len(part) == 2
    assert all(item == whole[item["item"]] for item in part)


def test_chance_is_a_guess_among_the_models_classes(task):
    """Six classes: one in six at once, five in six among five."""
    metrics = task.evaluate(Echo(), batch_size=4, examples=None).metrics
    assert [m.chance for m in metrics] == [1 / 6, 5 / 6]


def test_the_models_own_normalisation_is_used(task, tmp_path):
    """Pixels are shifted and scaled by what the model was trained with."""
    settings = {**NEUTRAL, "mean": [1.0], "std": [2.0]}
    foundation = Foundation(model=Echo(), kind="vision", image_settings=settings)
    data = {"train": str(tmp_path / "four.npz"), "test": str(tmp_path / "four.npz")}
    scaled = prepare({"kind": "image_classification"}, data, foundation)
    batch = scaled.collate(scaled.training_examples()[:1])
    assert batch.inputs["images"].flatten()[0] == (9 - 1) / 2


def test_a_model_that_does_not_say_how_it_takes_pixels_is_refused():
    """Its scores would be wrong, and nothing would show it."""
    with pytest.raises(
        SuiteError, match=r"preprocessor_config\.json .* or pretrained_cfg with mean"
    ):
        prepare({"kind": "image_classification"}, {}, Foundation(model=Echo(), kind="vision"))


def test_scores_that_are_not_numbers_are_an_error(task):
    """Ranking NaN would give an accuracy."""
    with pytest.raises(NonFiniteLoss, match="not finite"):
        task.evaluate(Broken(), batch_size=4, examples=None)


IMAGES = np.zeros((2, 8, 8), dtype="float32")
MALFORMED = {
    "2 images and 3 labels": (IMAGES, np.array([0, 1, 2])),
    "give floats in 0..1": (IMAGES.astype("uint8"), np.array([0, 1])),
    r"i\.npz:2: label -1 is no whole number from 0": (IMAGES, np.array([0, -1])),
    "label 9 in the test split; the model has 6 classes": (IMAGES, np.array([0, 9])),
}


@pytest.mark.parametrize("message", MALFORMED)
def test_malformed_arrays_are_refused(message, tmp_path):
    """They would be scored as something else than they are."""
    images, labels = MALFORMED[message]
    np.savez(tmp_path / "i.npz", images=images, labels=labels)
    data = {"train": str(tmp_path / "i.npz"), "test": str(tmp_path / "i.npz")}
    task = prepare(
        {"kind": "image_classification"}, data, Foundation(model=Echo(), **NEUTRAL_SETTINGS)
    )
    with pytest.raises(SuiteError, match=message):
        task.evaluate(Echo(), batch_size=2, examples=None)


@pytest.mark.parametrize("architecture", ["clip", "timm", "vit"])
def test_both_libraries_models_are_scored(architecture, tmp_path):
    """One returns scores, the other an object that holds them."""
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "i.npz", images=rng.random((6, 8, 8)), labels=rng.integers(0, 5, 6))
    data = {"train": str(tmp_path / "i.npz"), "test": str(tmp_path / "i.npz")}
    model = tiny_model(architecture)
    task = prepare(
        {"kind": "image_classification"}, data, Foundation(model=model, **NEUTRAL_SETTINGS)
    )
    assert task.evaluate(model, batch_size=4, examples=None).metrics[0].n == 6
    assert float(task.loss(model, task.collate(task.training_examples())).detach()) > 0


def test_a_file_without_its_arrays_is_named(tmp_path):
    """The message says what is missing in which file."""
    np.savez(tmp_path / "i.npz", pictures=np.zeros((1, 8, 8)))
    data = {"train": str(tmp_path / "i.npz"), "test": str(tmp_path / "i.npz")}
    foundation = Foundation(model=Echo(), **NEUTRAL_SETTINGS)
    task = prepare({"kind": "image_classification"}, data, foundation)
    with pytest.raises(SuiteError, match=r"i\.npz: no array images or labels in it"):
        task.training_examples()


def test_items_say_what_was_predicted_of_which_image(task):
    """The prediction is the class with the highest score; equal images are one document."""
    items = task.evaluate(Echo(), batch_size=3, examples=None).items
    assert [item["prediction"] for item in items] == [0, 0, 1, 0]
    assert [item["target"] for item in items] == [0, 1, 0, 0]
    assert len({item["doc"] for item in items}) == 4


def test_a_document_is_the_same_for_every_model(task, tmp_path):
    """However a model takes its pixels; its scores are its own."""
    settings = {**NEUTRAL, "mean": [1.0], "std": [2.0]}
    foundation = Foundation(model=Echo(), kind="vision", image_settings=settings)
    data = dict.fromkeys(("train", "test"), str(tmp_path / "four.npz"))
    other = prepare({"kind": "image_classification"}, data, foundation)
    one, two = (each.evaluate(Echo(), batch_size=3, examples=None) for each in (task, other))
    assert [item["doc"] for item in one.items] == [item["doc"] for item in two.items]
    assert one.scores_digest != two.scores_digest


def test_scores_are_told_apart_where_no_decision_differs(task):
    """The digest is of the scores themselves, bit for bit."""
    nearly = Echo()
    nearly.forward = lambda images: images.flatten(1)[:, :6] * (1 + 2**-20)
    one, two = (task.evaluate(m, batch_size=3, examples=None) for m in (Echo(), nearly))
    assert [item["top1"] for item in one.items] == [item["top1"] for item in two.items]
    assert one.scores_digest != two.scores_digest
    assert one.scores_digest == task.evaluate(Echo(), batch_size=1, examples=None).scores_digest


def test_the_splits_are_in_the_record(task):
    """Which was scored, and what each is."""
    facts = task.evaluate(Echo(), batch_size=3, examples=None).facts
    assert facts == {
        "scored": "test",
        "splits": dict.fromkeys(("train", "validation", "test"), "four.npz"),
    }
