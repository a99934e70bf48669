"""Perplexity of a text: tokens of a whole split in fixed blocks, weighted by tokens.

The split is concatenated before it is cut, so neither the number of workers nor the batch
size moves a block (the authors' code loses a remainder per 1,000 rows and worker).
"""

from __future__ import annotations

import hashlib
import math
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks import data, rows
from bench.tasks.kinds import Perplexity
from bench.tasks.samples import content_hash, sample
from bench.tasks.sequences import mean_loss, pad, token_losses, vocabulary
from bench.tasks.task import Evaluation, Example, splits_of
from bench.tasks.tokens import TokenCache
from offsite.models import Foundation
from offsite.training import Batch, NonFiniteLoss
from reports.record import Metric

TOO_SHORT = "the split to score holds less than two tokens"


def prepare(
    parameters: Perplexity, foundation: Foundation, tokens: Path | None = None
) -> PerplexityTask:
    """The task for one model's tokenizer."""
    if foundation.tokenizer is None:
        raise SuiteError("task kind 'perplexity' needs a model with a tokenizer")
    return PerplexityTask(parameters, TokenCache(foundation.tokenizer, tokens))


class PerplexityTask:
    """See the module's docstring."""

    scored = "test"

    def __init__(self, parameters: Perplexity, tokens: TokenCache) -> None:
        self.parameters = parameters
        self.tokens = tokens
        self.tokenizer = tokens.tokenizer
        self.dropped = 0

    def check(self) -> None:
        """Read and tokenise every split."""
        for split in splits_of(self.parameters.data):
            if not self._blocks(split) and split == "test":
                raise SuiteError(f"{self.parameters.data[split]}: {TOO_SHORT}")

    def training_examples(self) -> list[Example]:
        """Whole blocks of the train split; the remainder is left out."""
        return [e for e in self._blocks("train") if len(e["input_ids"]) == self.parameters.block]

    def collate(self, examples: list[Example]) -> Batch:
        """Blocks of equal length need no padding; the last one of a split may."""
        return pad(examples, self.tokenizer.pad_token_id)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean next-token loss in nats."""
        return mean_loss(model, batch)

    def examples(self, split: str) -> list[Example]:
        """Every block of a split; the last one may be shorter."""
        return self._blocks(split)

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """exp of the mean next-token loss over all blocks; the items are the blocks."""
        blocks = self._blocks("test")
        hashes = [content_hash(block["input_ids"]) for block in blocks]
        places = sample(hashes, examples)
        scored = self._score(model, [blocks[place] for place in places], batch_size)
        items: list[dict[str, Any]] = [
            {"doc": hashes[at], **each} for at, each in zip(places, scored, strict=True)
        ]
        tokens = sum(item["tokens"] for item in items)
        mean = sum(item["nll"] for item in items) / tokens
        metric = Metric(
            metric="perplexity",
            value=math.exp(mean),
            unit="1",
            better="lower",
            stderr=_stderr(items, mean, tokens),
            n=tokens,
            chance=vocabulary(model),
            phase="evaluate",
        )
        return Evaluation([metric], items, {"token_stream": _stream_hash(blocks)})

    def _blocks(self, split: str) -> list[Example]:
        texts = data.builtin_split(self.parameters.data, split)
        if texts is None:
            found = rows.read(self.parameters.data, split)
            texts = [self._text(row, split, position) for position, row in enumerate(found)]
        special = self.parameters.row_end == "tokenizer"
        end = [] if special else [self.tokenizer.eos_token_id]
        encoded = self.tokens.encode(texts, special=special)
        stream: list[int] = []
        for text in texts:
            stream += [*encoded[text], *end]
        size = self.parameters.block
        cuts = [stream[i : i + size] for i in range(0, len(stream), size)]
        # A single token predicts nothing.
        return [{"input_ids": c, "labels": c} for c in cuts if len(c) > 1]

    def _text(self, row: dict[str, Any], split: str, position: int) -> str:
        text = row.get(self.parameters.text)
        if not isinstance(text, str):
            raise SuiteError(
                f"{rows.place(self.parameters.data, split, position)}: no text in field "
                f"{self.parameters.text!r}; the row has {', '.join(sorted(row))}"
            )
        return text

    def _score(
        self, model: nn.Module, blocks: list[Example], batch_size: int
    ) -> list[dict[str, float]]:
        device = next(model.parameters()).device
        items: list[dict[str, float]] = []
        for start in range(0, len(blocks), batch_size):
            batch = self.collate(blocks[start : start + batch_size]).to(device)
            with torch.inference_mode():
                losses, counted = token_losses(model, batch)
            sums, counts = losses.sum(1).double().tolist(), counted.sum(1).tolist()
            items += [{"nll": n, "tokens": c} for n, c in zip(sums, counts, strict=True)]
        if not items:
            raise SuiteError(TOO_SHORT)
        if not all(math.isfinite(item["nll"]) for item in items):
            raise NonFiniteLoss("the model's log-likelihoods are not finite")
        return items


def _stream_hash(blocks: list[Example]) -> str:
    """Equal text cut into other tokens is another task: two models' perplexities then differ."""
    tokens = chain.from_iterable(block["input_ids"] for block in blocks)
    return hashlib.sha256(",".join(map(str, tokens)).encode()).hexdigest()


def _stderr(items: list[dict[str, Any]], mean: float, tokens: float) -> float | None:
    """Standard error of the perplexity over blocks (ratio estimator, delta method)."""
    count = len(items)
    if count < 2:
        return None
    squares = sum((item["nll"] - mean * item["tokens"]) ** 2 for item in items)
    return math.exp(mean) * math.sqrt(squares * count / (count - 1)) / tokens
