"""The metrics of an evaluation, each with what every item gave to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from reports.items import pack_items
from reports.record import ItemScores, Metric

DIVIDED_BY: Mapping[str, str] = {
    "perplexity": "tokens",
    "word_perplexity": "words",
    "byte_perplexity": "bytes",
}
"""The field of an item that says how much text it is; one without it counts once."""


def with_items(metrics: Sequence[Metric], items: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """The same metrics; those that are made of the items' own fields name them."""
    return [m.model_copy(update={"items": _scores(m.metric, items)}) for m in metrics]


def _scores(metric: str, items: Sequence[Mapping[str, Any]]) -> ItemScores | None:
    """None where a metric is no mean over items, as bits per byte."""
    documents = [str(item["doc"]) for item in items]
    if all(metric in item for item in items):
        return pack_items(documents, [float(item[metric]) for item in items])
    size = DIVIDED_BY.get(metric)
    if size is None:
        return None
    nats = [_nats(item) for item in items]
    is_sized = all(size in item for item in items)
    return pack_items(documents, nats, [float(item[size]) for item in items] if is_sized else None)


def _nats(item: Mapping[str, Any]) -> float:
    """What the text of an item costs."""
    return float(item["nll"]) if "nll" in item else -float(item["loglikelihoods"][0])
