"""Token sequences as batches, and their loss: what both language tasks share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bench.tasks.task import Example
from offsite.head_loss import IGNORED, SCORED, next_token_loss, next_token_scores
from offsite.training import Batch


def pad(examples: list[Example], pad_id: int) -> Batch:
    """Right-padded `input_ids` and labels; a mask, and which positions count, where not all do."""
    length = max(len(e["input_ids"]) for e in examples)
    ids = torch.full((len(examples), length), pad_id)
    labels = torch.full((len(examples), length), IGNORED)
    mask = torch.zeros((len(examples), length), dtype=torch.long)
    for row, example in enumerate(examples):
        size = len(example["input_ids"])
        ids[row, :size] = torch.tensor(example["input_ids"])
        labels[row, :size] = torch.tensor(example["labels"])
        mask[row, :size] = 1
    inputs = {"input_ids": ids, "labels": labels}
    # Asked here, of the host: asked in the step, a GPU would have to be waited for.
    if not mask.all():
        inputs["attention_mask"] = mask
    inputs[SCORED] = (labels[:, 1:] != IGNORED).flatten().nonzero().flatten()
    return Batch(inputs, len(examples), int(mask.sum()), ids.numel())


def token_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each next token, in nats, and which of them count.

    Returns:
        Two tensors of shape (batch, length - 1): losses in float32 (0 where not counted) and
        a boolean mask.
    """
    inputs = batch.inputs
    rows, length = inputs["input_ids"].shape
    targets, scored = inputs["labels"][:, 1:], inputs[SCORED]
    asked: dict[str, Tensor] = {
        key: inputs[key] for key in ("input_ids", "attention_mask") if key in inputs
    }
    # They are counted in rows without the last position, which predicts nothing.
    places = scored + scored // (length - 1)
    scores, _ = next_token_scores(model, asked, places, targets.flatten()[scored])
    losses = torch.zeros(rows * (length - 1), device=scores.device)
    losses[scored] = -scores
    return losses.view(rows, length - 1), targets != IGNORED


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean loss over the tokens that count."""
    return next_token_loss(model, **batch.inputs)


def vocabulary(model: nn.Module) -> int:
    """Classes of the model's head: the perplexity of a uniform guess."""
    config: Any = model.config
    size: int = config.get_text_config().vocab_size
    return size
