"""Token sequences as batches, and their loss: what both language tasks share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bench.tasks.task import Example
from offsite.training import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
"""Label of a position that is not scored: the libraries' convention."""


def pad(examples: list[Example], pad_id: int) -> Batch:
    """Right-padded `input_ids`, a true attention mask, and labels."""
    length = max(len(e["input_ids"]) for e in examples)
    ids = torch.full((len(examples), length), pad_id)
    labels = torch.full((len(examples), length), IGNORED)
    mask = torch.zeros((len(examples), length), dtype=torch.long)
    for row, example in enumerate(examples):
        size = len(example["input_ids"])
        ids[row, :size] = torch.tensor(example["input_ids"])
        labels[row, :size] = torch.tensor(example["labels"])
        mask[row, :size] = 1
    inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
    return Batch(inputs, len(examples), int(mask.sum()), ids.numel())


def token_losses(model: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of each next token, in nats, and which of them count.

    Returns:
        Two tensors of shape (batch, length - 1): losses in float32 (0 where not counted) and
        a boolean mask.
    """
    inputs = batch.inputs
    logits = model(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
    ).logits[:, :-1]
    targets = inputs["labels"][:, 1:]
    losses = nn.functional.cross_entropy(
        logits.transpose(1, 2).float(), targets, ignore_index=IGNORED, reduction="none"
    )
    return losses, targets != IGNORED


def mean_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Mean loss over the tokens that count."""
    inputs = batch.inputs
    logits = model(
        input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], use_cache=False
    ).logits[:, :-1]
    targets = inputs["labels"][:, 1:].reshape(-1)
    return nn.functional.cross_entropy(
        logits.reshape(len(targets), -1).float(), targets, ignore_index=IGNORED
    )


def vocabulary(model: nn.Module, tokenizer: PreTrainedTokenizerBase) -> int:
    """Classes of the model's head: the perplexity of a uniform guess."""
    config = getattr(model, "config", None)
    size = getattr(config.get_text_config(), "vocab_size", None) if config is not None else None
    return size or len(tokenizer)
