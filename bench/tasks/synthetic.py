"""Random samples of full length, to measure what training costs and nothing else."""

from __future__ import annotations

from typing import NoReturn

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks.kinds import SyntheticImages, SyntheticTokens
from bench.tasks.sequences import mean_loss, pad, vocabulary
from bench.tasks.task import Evaluation, Example
from bench.tasks.vision import class_count, input_size, logits
from offsite.models import Foundation
from offsite.training import Batch

SAMPLES = 64
"""How many there are: enough that no batch is always the same, few enough to hold in memory."""


def prepare(parameters: SyntheticTokens | SyntheticImages, foundation: Foundation) -> SyntheticTask:
    """The task for one model's vocabulary, or for the size of its images."""
    if isinstance(parameters, SyntheticTokens):
        return TokenTask(parameters, foundation)
    return PictureTask(foundation)


class SyntheticTask:
    """What both kinds share: there are no rows, and nothing to score."""

    dropped = 0
    scored = ""

    def check(self) -> None:
        """Nothing: what is drawn is sound."""

    def examples(self, split: str) -> NoReturn:
        """Never: random samples have nothing to choose on."""
        raise SuiteError("a synthetic task has nothing to choose a checkpoint on")

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """Never: random samples have nothing to score."""
        raise SuiteError("a synthetic task has nothing to score")


class TokenTask(SyntheticTask):
    """Sequences of random tokens, each the next one's context."""

    def __init__(self, parameters: SyntheticTokens, foundation: Foundation) -> None:
        self.length = parameters.length
        self.size = vocabulary(foundation.model)

    def training_examples(self) -> list[Example]:
        """The same tokens in every run."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.size, (SAMPLES, self.length), generator=generator).tolist()
        return [{"input_ids": row, "labels": row} for row in ids]

    def collate(self, examples: list[Example]) -> Batch:
        """All of one length."""
        return pad(examples, pad_id=0)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean next-token loss in nats."""
        return mean_loss(model, batch)


class PictureTask(SyntheticTask):
    """Random images with random labels."""

    def __init__(self, foundation: Foundation) -> None:
        self.size = input_size(foundation)
        self.classes = class_count(foundation)

    def training_examples(self) -> list[Example]:
        """The same images in every run."""
        generator = torch.Generator().manual_seed(0)
        images = torch.randn((SAMPLES, *self.size), generator=generator)
        labels = torch.randint(self.classes, (SAMPLES,), generator=generator)
        return [
            {"image": image, "label": label} for image, label in zip(images, labels, strict=True)
        ]

    def collate(self, examples: list[Example]) -> Batch:
        """Images stacked to (N, C, H, W)."""
        inputs = {
            "images": torch.stack([example["image"] for example in examples]),
            "labels": torch.stack([example["label"] for example in examples]),
        }
        return Batch(inputs, len(examples))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean cross-entropy in nats."""
        scores = logits(model, batch.inputs["images"]).float()
        return nn.functional.cross_entropy(scores, batch.inputs["labels"])
