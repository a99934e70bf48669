"""Nested settings as dotted names."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its full name.

    >>> dict(flat({"train": {"steps": 3}, "seed": 0}))
    {'train.steps': 3, 'seed': 0}
    """
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def flat_texts(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The same in words: texts as they are, all else as JSON."""
    for name, value in flat(values):
        yield name, value if isinstance(value, str) else json.dumps(value)
