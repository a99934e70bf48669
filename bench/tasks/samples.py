"""Which documents of a split are scored when not all are: a sample by what they say.

Never the first ones, since splits are often sorted by source or by difficulty, and never by
place: the same documents are chosen in whatever order a file has them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Hashable, Sequence


def content_hash(document: object) -> str:
    """sha256 of a document's canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def sample(
    hashes: Sequence[str], count: int | None, strata: Sequence[Hashable] | None = None
) -> list[int]:
    """Positions of `count` documents in the order of the split: those with the smallest hashes.

    Args:
        hashes: of each document.
        count: how many; None or too many takes all.
        strata: of each document what it is stratified by; each stratum gets its share, with the
            largest remainders rounded up.

    >>> sample(["c", "a", "d", "b"], 2)
    [1, 3]
    >>> sample(["c", "a", "d", "b"], 2, strata=[0, 1, 0, 1])
    [0, 1]
    """
    if count is None or count >= len(hashes):
        return list(range(len(hashes)))
    members: dict[Hashable, list[int]] = {}
    for position, stratum in enumerate(strata or [0] * len(hashes)):
        members.setdefault(stratum, []).append(position)
    chosen: list[int] = []
    for stratum, size in _shares({s: len(found) for s, found in members.items()}, count).items():
        # Equal documents have equal hashes; of those the first.
        chosen += sorted(members[stratum], key=lambda i: (hashes[i], i))[:size]
    return sorted(chosen)


def _shares(sizes: dict[Hashable, int], count: int) -> dict[Hashable, int]:
    """How many of each stratum: its part of `count`, rounded so that the sum is `count`."""
    total = sum(sizes.values())
    shares = {stratum: count * size // total for stratum, size in sizes.items()}
    # Equal remainders by name, so that the order of the rows decides nothing.
    by_remainder = sorted(sizes, key=lambda s: (-(count * sizes[s] % total), repr(s)))
    for stratum in by_remainder[: count - sum(shares.values())]:
        shares[stratum] += 1
    return shares
