"""Rows hold every sequence once, and a token attends to what comes before it and nothing else."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.tasks import token_tree
from bench.tasks.token_tree import batches, rows

SEQUENCES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=14)
WIDE = 10**6
"""A model for which every shared token is worth it."""


@given(SEQUENCES, st.integers(1, 50), st.booleans())
def test_every_sequence_is_in_one_row_with_its_own_positions(sequences, width, branching):
    """Whatever the model's width, and whether rows may branch or not."""
    made = rows(sequences, width=width, branching=branching)
    found = sorted(number for row in made for number in row.paths)
    assert found == list(range(len(sequences)))
    for row in made:
        for number, path in row.paths.items():
            assert [row.tokens[place] for place in path] == sequences[number]
            assert [row.depths[place] for place in path] == list(range(len(path)))


@given(SEQUENCES)
def test_a_token_attends_to_its_own_beginning_only(sequences):
    """In a mask that is larger than the row, padding attends to itself."""
    for row in rows(sequences, width=WIDE, branching=True):
        size = len(row.tokens)
        mask = row.mask(size + 2)
        expected = np.eye(size + 2, dtype=bool)
        for path in row.paths.values():
            for depth, place in enumerate(path):
                expected[place] = False
                expected[place, path[: depth + 1]] = True
        assert (mask == expected).all()


@given(SEQUENCES)
def test_what_several_begin_with_is_in_a_row_once(sequences):
    """For a wide model, all that begin with the same token share a row and every beginning."""
    made = rows(sequences, width=WIDE, branching=True)
    assert len(made) == len({sequence[0] for sequence in sequences})
    beginnings = {tuple(s[: i + 1]) for s in sequences for i in range(len(s))}
    assert sum(len(row.tokens) for row in made) == len(beginnings)


@given(SEQUENCES)
def test_rows_that_may_not_branch_are_chains(sequences):
    """A beginning of another sequence is still no work of its own."""
    made = rows(sequences, width=WIDE, branching=False)
    for row in made:
        assert row.is_chain
        assert row.depths == list(range(len(row.depths)))
    ordered = sorted(map(tuple, sequences))
    begins = sum(one == other[: len(one)] for one, other in pairwise(ordered))
    assert len(made) == len(sequences) - begins


@pytest.mark.parametrize(("width", "expected"), [(1, 2), (WIDE, 1)])
def test_little_is_shared_only_where_the_model_is_wide(width, expected):
    """One token shared by two long sequences saves a narrow model nothing."""
    long = [[0, *[1] * 30], [0, *[2] * 30]]
    assert len(rows(long, width=width, branching=True)) == expected


def test_a_row_does_not_grow_without_end(monkeypatch):
    """All sequences begin alike; a row that is full is followed by another."""
    monkeypatch.setattr(token_tree, "LONGEST", 12)
    made = rows([[0, 1, 2, i, i] for i in range(9)], width=WIDE, branching=True)
    assert len(made) > 1
    assert max(len(row.tokens) for row in made) <= 12


@given(SEQUENCES, st.integers(1, 4))
def test_batches_hold_every_row_once_and_no_more_than_asked(sequences, size):
    """The longest rows first."""
    made = rows(sequences, width=WIDE, branching=True)
    formed = list(batches(made, size, "cpu"))
    assert all(len(batch) <= size for batch in formed)
    lengths = [len(row.tokens) for batch in formed for row in batch]
    assert lengths == sorted((len(row.tokens) for row in made), reverse=True)


@pytest.mark.parametrize(("device", "sizes"), [("cpu", [2, 1]), ("cuda", [3])])
def test_a_large_batch_is_closed_before_it_is_padded(device, sizes):
    """Two rows of 600 fill a batch for a CPU; that of 10 would be nothing but padding in it."""
    made = rows([[i] * n for i, n in enumerate((600, 600, 10))], width=1, branching=True)
    assert [len(batch) for batch in batches(made, 8, device)] == sizes
