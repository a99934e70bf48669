"""What every task offers: training batches, a loss, an evaluation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from bench.tasks.samples import content_hash
from offsite.head_loss import SCORED
from offsite.models import Foundation
from offsite.training import Batch
from reports.record import Metric, canonical

Example = dict[str, Any]

SPLITS = ("train", "validation", "test")

SCORES = ("loglikelihoods", "nll", "logits")
"""Fields of an item that hold what the model itself said: numbers, or a hash of many."""

GROUP = 50
"""Batches within which samples are sorted by length: as many as the Hugging Face Trainer takes."""
HELD_OUT = 10
"""One example in so many is held out to choose on, at most MOST_HELD_OUT."""
MOST_HELD_OUT = 500
SELECTION_BATCH = 16


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one model on one task, and the items behind them."""

    metrics: list[Metric]
    items: list[dict[str, Any]] = field(default_factory=list)
    """One object an item, in a fixed order: what paired statistics are made from."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else identifies the items: the hash of the token stream, the definition's version."""

    @property
    def scores_digest(self) -> str:
        """The sha256 of what the model said of every item, bit for bit and in order."""
        said = [[item[key] for key in SCORES if key in item] for item in self.items]
        assert all(said), "an item without its score would equal any other"
        return hashlib.sha256(canonical(said)).hexdigest()


class Task(Protocol):
    """A task bound to a model's tokenizer or transforms. One definition trains and scores."""

    dropped: int
    """Rows that `training_examples` left out: no token of their answer fits."""
    scored: str
    """The split that `evaluate` scores."""

    def check(self) -> None:
        """Read every row there is, as it is tuned on and scored.

        Raises:
            SuiteError: the first that cannot be, with file and row.
        """
        ...

    def training_examples(self) -> list[Example]:
        """Everything there is to tune on."""
        ...

    def collate(self, examples: list[Example]) -> Batch:
        """Examples as the tensors of one step."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch."""
        ...

    def examples(self, split: str) -> list[Example]:
        """A split as it is tuned on, to take a loss of."""
        ...

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """Score the test split, or a fixed subset of `examples` of its items."""
        ...


def prepare(
    described: Mapping[str, Any],
    data: Mapping[str, str],
    foundation: Foundation,
    tokens: Path | None = None,
) -> Task:
    """The task of a stage's `params["task"]` over data at `data`, for one model.

    Args:
        described: the kind and its parameters.
        data: where each split lies.
        foundation: whose tokenizer or transforms read it.
        tokens: where token ids are kept; None keeps none.
    """
    import importlib

    from bench.tasks.kinds import KINDS

    kind = KINDS[described["kind"]]
    fields = {key: value for key, value in described.items() if key != "kind"}
    if not kind.is_drawn:
        fields["data"] = dict(data)
    parameters = kind.parameters(**fields)
    reads_text = kind.model == "language" and not kind.is_drawn
    kept = {"tokens": tokens} if reads_text else {}
    task: Task = importlib.import_module(kind.module).prepare(parameters, foundation, **kept)
    return task


def splits_of(data: Mapping[str, str]) -> list[str]:
    """The splits there are; a built-in data set has all."""
    return [split for split in SPLITS if "builtin" in data or split in data]


def examples_of(task: Task, split: str = "train") -> list[Example]:
    """Everything there is to tune on, or to look at.

    Raises:
        SuiteError: there is nothing.
    """
    examples = task.training_examples() if split == "train" else task.examples(split)
    if not examples:
        raise SuiteError(f"the {split} split holds no example (too short for one block?)")
    return examples


def hold_out(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """What is left to train on, and a tenth to choose a checkpoint on.

    Which ones depends on their content alone: on no seed, and on no order of rows. Copies of an
    example that is held out are left out.

    Raises:
        SuiteError: there are no two different examples.
    """
    identities = [_identity(example) for example in examples]
    distinct = dict(zip(identities, examples, strict=True))
    count = min(max(1, len(distinct) // HELD_OUT), MOST_HELD_OUT)
    chosen = set(sorted(distinct)[:count])
    kept = [e for e, own in zip(examples, identities, strict=True) if own not in chosen]
    if not kept:
        raise SuiteError(
            "the train split has no two different examples, so none can be held out to choose a "
            "checkpoint on; use train.checkpoints: 1, or another train.selection"
        )
    return kept, [distinct[identity] for identity in sorted(chosen)]


def _identity(example: Example) -> str:
    """The hash of a text's tokens, or of an image's place: not all of those fit into memory."""
    return content_hash(example.get("input_ids", example.get("position")))


def loss_on(task: Task, model: nn.Module, examples: list[Example]) -> float:
    """Mean loss over tokens that count, or over images."""
    device = next(model.parameters()).device
    total, count = 0.0, 0
    for start in range(0, len(examples), SELECTION_BATCH):
        batch = task.collate(examples[start : start + SELECTION_BATCH]).to(device)
        weight = batch.inputs[SCORED].numel() if SCORED in batch.inputs else batch.samples
        with torch.inference_mode():
            total += float(task.loss(model, batch)) * weight
        count += weight
    return total / count


def batches(
    task: Task,
    examples: list[Example],
    *,
    batch_size: int,
    seed: int,
    group_by_length: bool = False,
) -> Iterator[Batch]:
    """Endless batches: each epoch a new order that depends on `seed` alone.

    With `group_by_length` the samples of a batch are of like length, so that little is padded.
    """
    generator = torch.Generator().manual_seed(seed)
    while True:
        order: list[int] = torch.randperm(len(examples), generator=generator).tolist()
        drawn = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        if group_by_length:
            drawn = _grouped(drawn, [len(e.get("input_ids", ())) for e in examples], generator)
        for chosen in drawn:
            yield replace(task.collate([examples[i] for i in chosen]), examples=tuple(chosen))


def _grouped(
    drawn: list[list[int]], lengths: list[int], generator: torch.Generator
) -> list[list[int]]:
    """The same samples, sorted by length within groups of batches; then batches in a new order."""
    sorted_batches: list[list[int]] = []
    for start in range(0, len(drawn), GROUP):
        group = drawn[start : start + GROUP]
        samples = sorted((i for batch in group for i in batch), key=lambda i: lengths[i])
        size = len(group[0])
        sorted_batches += [samples[i : i + size] for i in range(0, len(samples), size)]
    places = torch.randperm(len(sorted_batches), generator=generator).tolist()
    return [sorted_batches[place] for place in places]


def whole_batches(examples: list[Example], batch_size: int) -> list[Example]:
    """As many examples as fill whole batches, some of them again where there is not one batch.

    For random samples, of which no batch is to be smaller than what is measured.

    >>> whole_batches([{"n": 0}, {"n": 1}, {"n": 2}], 2)
    [{'n': 0}, {'n': 1}]
    >>> len(whole_batches([{"n": 0}, {"n": 1}, {"n": 2}], 7))
    7
    """
    count = batch_size * max(1, len(examples) // batch_size)
    return list(islice(cycle(examples), count))


def steps_for(examples: int, *, batch_size: int, epochs: float, max_steps: int | None) -> int:
    """Optimizer steps of a run; `max_steps` wins over `epochs`."""
    per_epoch = -(-examples // batch_size)
    return max_steps or max(1, round(epochs * per_epoch))
