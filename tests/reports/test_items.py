"""A metric by item in a record: what is packed is read back, and its mean is the metric."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.items import pack_items, read_items

DOCUMENTS = [f"d{number}" for number in range(13)]
RIGHT = [1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0]


def test_right_and_wrong_take_a_bit_each():
    """13 answers fit into two bytes and come back as they were."""
    packed = pack_items(DOCUMENTS, RIGHT)
    assert (packed.encoding, packed.count, len(packed.values)) == ("bits", 13, 4)
    assert read_items("acc", packed, 7 / 13) == pytest.approx(RIGHT)


def test_the_same_documents_in_another_order_are_others():
    """Pairs are made by place, so order is part of what is compared."""
    assert (
        pack_items(DOCUMENTS, RIGHT).documents != pack_items(DOCUMENTS[::-1], RIGHT[::-1]).documents
    )
    assert pack_items(DOCUMENTS, RIGHT).documents == pack_items(DOCUMENTS, RIGHT[::-1]).documents


def test_items_of_a_perplexity_have_its_mean_and_the_delta_methods_error():
    """Their standard error is P sqrt(sum (l - m w)^2 n/(n - 1)) / sum w."""
    nats, tokens = [30.0, 42.0, 20.0, 35.5], [10.0, 12.0, 8.0, 11.0]
    mean = sum(nats) / sum(tokens)
    value = math.exp(mean)
    packed = pack_items(DOCUMENTS[:4], nats, tokens)
    found = read_items("perplexity", packed, value)
    assert found.mean() == pytest.approx(value)
    squares = sum((n - mean * t) ** 2 for n, t in zip(nats, tokens, strict=True))
    expected = value * math.sqrt(squares * 4 / 3) / sum(tokens)
    assert found.std(ddof=1) / 2 == pytest.approx(expected, rel=1e-6)


def test_items_that_weigh_alike_need_no_weights():
    """A perplexity over texts counts each once."""
    packed = pack_items(DOCUMENTS[:2], [1.0, 3.0])
    assert packed.weights is None
    found = read_items("perplexity", packed, math.exp(2.0))
    assert found == pytest.approx(math.exp(2.0) * np.array([0.0, 2.0]))


def test_the_records_own_value_is_the_mean():
    """What is packed in 32 bits is rounded; the number in the record counts."""
    packed = pack_items(DOCUMENTS[:3], [0.1, 0.2, 0.7])
    assert read_items("acc", packed, 0.5).mean() == pytest.approx(0.5, abs=1e-15)


def test_lengths_must_agree():
    """An item without a document cannot be paired."""
    with pytest.raises(ValueError, match="one length"):
        pack_items(DOCUMENTS, RIGHT[:-1])
