"""What every evaluation says of itself."""

from __future__ import annotations

import pytest

from bench.tasks.task import Evaluation

ITEMS = [
    {"doc": "a", "loglikelihoods": [-1.0, -2.0], "acc": 1.0},
    {"doc": "b", "loglikelihoods": [-3.0, -0.5], "acc": 0.0},
]


def digest(*items: dict[str, object]) -> str:
    """Of an evaluation with these items."""
    return Evaluation([], list(items)).scores_digest


def test_the_scores_digest_is_of_what_the_model_said():
    """Its last bit and the order of the items are in it; what was made of it is not."""
    one, other = ITEMS
    assert digest(one, other) == digest({**one, "acc": 0.0, "doc": "c"}, other)
    assert digest(one, other) != digest(other, one)
    next_bit = {**one, "loglikelihoods": [-1.0, -2.0000000000000004]}
    assert digest(one, other) != digest(next_bit, other)
    assert digest({"nll": 1.0}) != digest({"nll": 1.5})


def test_an_item_without_a_score_is_our_bug():
    """It would equal any other, and every evaluation of such items would be flagged."""
    with pytest.raises(AssertionError, match="without its score"):
        digest({"doc": "a", "acc": 1.0})
