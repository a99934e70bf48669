"""What a training was given, in words and against the program's own defaults."""

from __future__ import annotations

import pytest

from bench.suite import Train
from reports.budget import DEFAULTS, Budget, budget_of
from reports.record import Record


def record(kind: str = "tune", **fields: object) -> Record:
    """A record of a training."""
    values = {"digest": "d", "machine": "m", "kind": kind, "version": 1, "outcome": "ok"}
    return Record.model_validate({"params": {}, "inputs": {}} | values | fields)


def test_what_a_record_leaves_out_is_the_programs_default():
    """A record holds no setting that is the default; reports may not ask the program."""
    assert Train() == Train(**DEFAULTS)
    assert Train().model_dump().items() >= DEFAULTS.items()


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        (
            Budget(60, 8, 96, 0.001),
            "60 steps of 8 out of 96 examples (5 epochs), learning rate 0.001",
        ),
        (
            Budget(1, 4, 4, 2e-5),
            "1 step of 4 out of 4 examples (1 epoch), learning rate 2e-05",
        ),
        (
            Budget(2000, 80, 100_000, 0.1),
            "2,000 steps of 80 out of 100,000 examples (1.6 epochs), learning rate 0.1",
        ),
    ],
)
def test_in_words(budget: Budget, text: str):
    """An epoch takes as many steps as it has batches, the last one however small."""
    assert budget.text == text


def test_read_from_a_record():
    """Settings that are not the default count, and only a training has a budget."""
    facts = {"steps": 9, "examples": 20}
    train = {"train": {"batch_size": 4, "learning_rate": 0.5}}
    assert budget_of(record(facts=facts, params=train)) == Budget(9, 4, 20, 0.5)
    assert budget_of(record(facts=facts)) == Budget(9, 8, 20, 5e-5)
    assert budget_of(record(facts={"steps": 9})) is None
    assert budget_of(record(kind="evaluate")) is None
