"""A metric by item, in the few bytes that travel with its number in a record."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from reports.record import ItemScores, canonical
from reports.statistics.intervals import Items, Scores, Seed

ROUNDED = 1e-4
"""By how much a value may differ from what its packed items make: they are rounded."""
MOST_NATS = 700.0
"""exp of more is no number."""
LOSS = "perplexity"
"""Ends the names of metrics that are exp of a mean loss."""


def pack_items(
    documents: Sequence[str], values: Sequence[float], weights: Sequence[float] | None = None
) -> ItemScores:
    """The scores of all items, in the order of their documents' hashes.

    Args:
        documents: one hash an item.
        values: 0 or 1 of a rate; of a perplexity the nats an item costs.
        weights: what a perplexity divides the nats by; None counts every item once.

    Raises:
        ValueError: they are not of one length.
    """
    if len(documents) != len(values) or len(values) != len(weights or values):
        raise ValueError("documents, values and weights must be of one length")
    array = np.asarray(values, dtype=np.float32)
    is_binary = bool(np.isin(array, (0.0, 1.0)).all()) and weights is None
    packed = np.packbits(array.astype(bool)) if is_binary else array.astype("<f4")
    return ItemScores(
        documents=hashlib.sha256(canonical(list(documents))).hexdigest(),
        count=len(values),
        encoding="bits" if is_binary else "float32",
        values=_text(packed.tobytes()),
        weights=None if weights is None else _text(np.asarray(weights, dtype="<f4").tobytes()),
    )


def read_items(metric: str, items: ItemScores, value: float) -> Items:
    """What each item adds to a metric whose value is given: their mean is that value.

    Of a rate that is 0 or 1. Of a perplexity, exp of a ratio of sums, it is the value plus the
    item's share in its change, to first order (the delta method): P (1 + (l - m w)/mean w) for an
    item of l nats and weight w, m the logarithm of P.
    """
    values, weights = _unpacked(items)
    if metric.endswith(LOSS):
        weights = np.ones_like(values) if weights is None else weights
        mean = values.sum() / weights.sum()
        values = value * (values - mean * weights) / weights.mean()
    # The number in the record counts; what is packed is rounded.
    centred: Items = values - values.mean() + value
    return centred


def _unpacked(items: ItemScores) -> tuple[Items, Items | None]:
    """Values and weights, if it has any.

    Raises:
        ValueError: they are not what they should be.
    """
    raw = base64.b64decode(items.values)
    if items.encoding == "bits":
        if not 0 < items.count <= 8 * len(raw):
            raise ValueError(f"{items.count} items in {len(raw)} bytes")
        bits = np.unpackbits(np.frombuffer(raw, dtype=np.uint8), count=items.count)
        values = bits.astype(np.float64)
    else:
        values = np.frombuffer(raw, dtype="<f4").astype(np.float64)
    if items.weights is None:
        return values, None
    weights = np.frombuffer(base64.b64decode(items.weights), dtype="<f4").astype(np.float64)
    return values, weights


def is_made_of(metric: str, value: float, items: ItemScores) -> bool:
    """Whether the items can be read, and are those that the value was made of."""
    try:
        values, weights = _unpacked(items)
    except ValueError:  # no base64, or of another length than it says
        return False
    weights = np.ones_like(values) if weights is None else weights
    if not len(values) == len(weights) == items.count or not weights.sum() > 0:
        return False
    mean = float(values.sum() / weights.sum())
    if metric.endswith(LOSS):
        mean = math.exp(min(mean, MOST_NATS))
    return math.isclose(mean, value, rel_tol=ROUNDED, abs_tol=ROUNDED)


def scores_by_item(
    metric: str, values: Mapping[Seed, float], items: Mapping[Seed, ItemScores]
) -> Scores:
    """A metric by seed and, if all seeds scored the same items, by item."""
    documents = {each.documents for each in items.values()}
    if len(documents) != 1 or len(items) < len(values):
        return Scores(values=values)
    by_item = {seed: read_items(metric, items[seed], value) for seed, value in values.items()}
    return Scores(values=values, by_item=by_item, documents=documents.pop())


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode("ascii")
