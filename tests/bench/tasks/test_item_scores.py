"""What every item gave to a metric travels with it, and is what the metric was made of."""

from __future__ import annotations

import math

import pytest

from bench.tasks.item_scores import with_items
from reports.items import read_items
from reports.record import Metric


def metric(name: str, value: float) -> Metric:
    """A metric as an evaluation returns it."""
    return Metric(metric=name, value=value, unit="1", better="higher")


def test_rates_carry_right_and_wrong():
    """acc and acc_norm each have their own answers, one bit an item."""
    items = [
        {"doc": "a", "acc": 1.0, "acc_norm": 0.0, "loglikelihoods": [-1.0, -2.0]},
        {"doc": "b", "acc": 0.0, "acc_norm": 0.0, "loglikelihoods": [-3.0, -2.0]},
    ]
    acc, norm = with_items([metric("acc", 0.5), metric("acc_norm", 0.0)], items)
    assert acc.items is not None
    assert norm.items is not None
    assert list(read_items("acc", acc.items, 0.5)) == [1.0, 0.0]
    assert list(read_items("acc_norm", norm.items, 0.0)) == [0.0, 0.0]
    assert acc.items.documents == norm.items.documents


@pytest.mark.parametrize(
    ("name", "field"),
    [("perplexity", "tokens"), ("word_perplexity", "words"), ("byte_perplexity", "bytes")],
)
def test_perplexities_carry_nats_and_sizes(name: str, field: str):
    """The mean of what is carried is the perplexity that was reported."""
    items = [
        {"doc": "a", "loglikelihoods": [-30.0], field: 10},
        {"doc": "b", "loglikelihoods": [-50.0], field: 20},
    ]
    value = math.exp(80 / 30)
    (found,) = with_items([metric(name, value)], items)
    assert found.items is not None
    assert found.items.weights is not None
    assert read_items(name, found.items, value).sum() / 2 == pytest.approx(value)


def test_what_is_no_mean_over_items_carries_none():
    """Bits per byte is the logarithm of another metric that carries them."""
    items = [{"doc": "a", "loglikelihoods": [-30.0], "bytes": 10}]
    (found,) = with_items([metric("bits_per_byte", 4.3)], items)
    assert found.items is None
