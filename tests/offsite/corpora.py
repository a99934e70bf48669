"""Tiny corpora: what a compression that looks at data is given."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from offsite.compression.calibration import Calibration, Corpus
from offsite.sandwich import Sandwich
from offsite.training import Batch
from tests.fakes import CLASSES, VISION, VOCABULARY

LENGTH = 8


def tiny_corpus(architecture: str, padding: int = 0) -> Corpus:
    """Random samples, the same at any padding; half of them have LENGTH / 2 tokens only.

    Args:
        architecture: which models can take them.
        padding: positions beyond the longest sample.
    """

    def draw(batch_size: int, seed: int) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            if architecture in VISION:
                images = torch.rand((batch_size, 1, 8, 8), generator=generator)
                labels = torch.randint(0, CLASSES, (batch_size,), generator=generator)
                yield Batch({"images": images, "labels": labels}, batch_size)
            else:
                yield _tokens(batch_size, padding, generator)

    return Corpus(draw, loss_of)


def calibration(sandwich: Sandwich, architecture: str, padding: int = 0) -> Calibration:
    """The tiny corpus, seen by the owner's model."""
    return Calibration(sandwich, tiny_corpus(architecture, padding))


def loss_of(model: nn.Module, batch: Batch) -> Tensor:
    """Cross-entropy of labels, or of the next real token."""
    inputs = batch.inputs
    if "images" in inputs:
        output = model(inputs["images"])
        logits = output if isinstance(output, Tensor) else output.logits
        return nn.functional.cross_entropy(logits.float(), inputs["labels"])
    ids, mask = inputs["ids"], inputs["attention_mask"]
    logits = model(ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
    targets = ids[:, 1:].masked_fill(mask[:, 1:] == 0, -100)
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def _tokens(batch_size: int, padding: int, generator: torch.Generator) -> Batch:
    ids = torch.randint(1, VOCABULARY, (batch_size, LENGTH), generator=generator)
    mask = torch.ones_like(ids)
    mask[::2, LENGTH // 2 :] = 0
    ids, mask = (nn.functional.pad(each * mask, (0, padding)) for each in (ids, mask))
    inputs = {"ids": ids, "attention_mask": mask}
    return Batch(inputs, batch_size, int(mask.sum()), ids.numel())
