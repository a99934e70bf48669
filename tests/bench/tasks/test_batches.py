"""Batches of an epoch: every sample once, in an order of the seed, and little padding if asked."""

from __future__ import annotations

from itertools import islice

import pytest

from bench.tasks.sequences import pad
from bench.tasks.task import Example, batches
from offsite.training import Batch

COUNT, SIZE = 230, 4


class Padded:
    """The part of a task that batches are made with."""

    def collate(self, examples: list[Example]) -> Batch:
        """Padded to the longest of the batch."""
        return pad(examples, pad_id=0)


EXAMPLES = [
    {"input_ids": [1] * n, "labels": [1] * n} for n in (2 + i * 7 % 61 for i in range(COUNT))
]


def epoch(seed: int, *, group_by_length: bool) -> list[Batch]:
    """The batches of the first epoch."""
    drawn = batches(
        Padded(),  # type: ignore[arg-type]
        EXAMPLES,
        batch_size=SIZE,
        seed=seed,
        group_by_length=group_by_length,
    )
    return list(islice(drawn, -(-COUNT // SIZE)))


@pytest.mark.parametrize("group_by_length", [False, True])
def test_an_epoch_holds_every_sample_once(group_by_length):
    """In another order for another seed, and in the same for the same."""
    orders = [
        [i for batch in epoch(seed, group_by_length=group_by_length) for i in batch.examples or ()]
        for seed in (0, 0, 1)
    ]
    assert sorted(orders[0]) == list(range(COUNT))
    assert orders[0] == orders[1] != orders[2]


def test_samples_of_like_length_are_hardly_padded():
    """A third of all positions was padding; now one in twenty-five at most."""
    waste = {}
    for grouped in (False, True):
        found = epoch(0, group_by_length=grouped)
        real = sum(batch.tokens_real or 0 for batch in found)
        waste[grouped] = 1 - real / sum(batch.tokens_padded or 0 for batch in found)
    assert waste[False] > 0.3
    assert waste[True] < 0.04


def test_short_batches_do_not_all_come_first():
    """Sorted samples would be a curriculum nobody asked for."""
    longest = [
        max(len(EXAMPLES[i]["input_ids"]) for i in b.examples or ())
        for b in epoch(0, group_by_length=True)
    ]
    assert longest != sorted(longest)
    first, second = longest[: len(longest) // 2], longest[len(longest) // 2 :]
    assert abs(sum(first) / len(first) - sum(second) / len(second)) < 15
