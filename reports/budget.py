"""How much a training was given: what has to be equal for two trainings to be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from reports.record import Record

DEFAULTS: Mapping[str, float] = {"batch_size": 8, "learning_rate": 5e-5}
"""What a training takes that names none: records hold no setting that is the default."""


class Budget(NamedTuple):
    """Steps, the size of each, the examples they are drawn from, and the learning rate."""

    steps: int
    batch_size: int
    examples: int
    learning_rate: float

    @property
    def text(self) -> str:
        """In words.

        >>> Budget(60, 8, 96, 0.001).text
        '60 steps of 8 out of 96 examples (5 epochs), learning rate 0.001'
        """
        epochs = self.steps / math.ceil(self.examples / self.batch_size)
        return (
            f"{self.steps:,} step{'s' * (self.steps != 1)} of {self.batch_size:,} out of "
            f"{self.examples:,} examples ({epochs:.3g} epoch{'s' * (epochs != 1)}), learning rate "
            f"{self.learning_rate:g}"
        )


def budget_of(record: Record) -> Budget | None:
    """What a training was given; None of another stage, or where the record does not say."""
    steps, examples = record.facts.get("steps"), record.facts.get("examples")
    given = record.params.get("train", {})
    if not (isinstance(steps, int) and isinstance(examples, int) and isinstance(given, Mapping)):
        return None
    train: Mapping[str, Any] = {**DEFAULTS, **given}
    return Budget(steps, train["batch_size"], max(examples, 1), train["learning_rate"])
