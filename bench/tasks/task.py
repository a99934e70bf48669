"""What every task offers: training batches, a loss, a selection score, an evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.errors import SuiteError
from offsite.models import Foundation
from offsite.training import Batch
from reports.record import Metric

Example = dict[str, Any]

GROUP = 50
"""Batches within which samples are sorted by length: as many as the Hugging Face Trainer takes."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of one model on one task, and the items behind them."""

    metrics: list[Metric]
    items: list[dict[str, Any]] = field(default_factory=list)
    """One object an item, in a fixed order: what paired statistics are made from."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else identifies the items: the hash of the token stream, the definition's version."""


class Task(Protocol):
    """A task bound to a model's tokenizer or transforms. One definition trains and scores."""

    dropped: int
    """Rows that `training_examples` left out: no token of their answer fits."""

    def training_examples(self) -> list[Example]:
        """Everything there is to tune on."""
        ...

    def collate(self, examples: list[Example]) -> Batch:
        """Examples as the tensors of one step."""
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss of a batch."""
        ...

    def selection_loss(self, model: nn.Module) -> float:
        """Loss on the selection slice, which is neither trained on nor scored."""
        ...

    def evaluate(self, model: nn.Module, *, batch_size: int, examples: int | None) -> Evaluation:
        """Score the test split, or a fixed subset of `examples` of its items."""
        ...


def prepare(described: Mapping[str, Any], data: Mapping[str, str], foundation: Foundation) -> Task:
    """The task of a stage's `params["task"]` over data at `data`, for one model."""
    import importlib

    from bench.tasks.kinds import KINDS

    kind = KINDS[described["kind"]]
    fields = {key: value for key, value in described.items() if key != "kind"}
    if not kind.is_drawn:
        fields["data"] = dict(data)
    parameters = kind.parameters(**fields)
    task: Task = importlib.import_module(kind.module).prepare(parameters, foundation)
    return task


def examples_of(task: Task) -> list[Example]:
    """Everything there is to tune on, or to look at.

    Raises:
        SuiteError: there is nothing.
    """
    examples = task.training_examples()
    if not examples:
        raise SuiteError("the train split holds no example (too short for one block?)")
    return examples


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


def subset(total: int, examples: int | None) -> list[int]:
    """Positions of the items to score: all, or `examples` spread over the whole split.

    Never the first ones: splits are often sorted by source or by difficulty.

    >>> subset(10, 4)
    [0, 2, 5, 7]
    """
    if examples is None or examples >= total:
        return list(range(total))
    return [i * total // examples for i in range(examples)]
