"""Uniform layer-drop keeps the blocks the authors' code keeps."""

from __future__ import annotations

import pytest

from offsite.compression.layer_choice import evenly_spaced
from offsite.errors import BadLayout

GOLDEN = [
    # blocks, bottom, top, keep, kept blocks of the full model (arXiv 2302.04870's own code)
    (48, 2, 2, 16, "2 5 8 11 13 16 19 22 25 28 31 34 36 39 42 45"),
    (24, 2, 2, 8, "2 5 7 10 13 16 18 21"),
    (32, 2, 2, 18, "2 4 5 7 8 10 12 13 15 16 18 19 21 23 24 26 27 29"),
    (30, 2, 2, 12, "2 4 7 9 11 13 16 18 20 22 25 27"),
    (40, 4, 4, 22, "4 5 7 8 10 11 13 14 16 17 19 20 22 23 25 26 28 29 31 32 34 35"),
    (40, 4, 4, 16, "4 6 8 10 12 14 16 18 21 23 25 27 29 31 33 35"),
]


@pytest.mark.parametrize(("depth", "bottom", "top", "keep", "kept"), GOLDEN)
def test_the_papers_layouts_keep_the_papers_blocks(depth, bottom, top, keep, kept):
    """Python's rounding of ties to even is part of the definition."""
    chosen = [bottom + i for i in evenly_spaced(depth - bottom - top, keep)]
    assert chosen == [int(word) for word in kept.split()]


def test_every_choice_starts_at_the_first_and_ends_at_the_last():
    """No block is chosen twice, whatever the depth."""
    for total in range(2, 60):
        for keep in range(2, total + 1):
            chosen = evenly_spaced(total, keep)
            assert chosen[0] == 0
            assert chosen[-1] == total - 1
            assert len(set(chosen)) == keep


@pytest.mark.parametrize("keep", [0, 1, 9])
def test_a_depth_that_cannot_be_is_refused(keep):
    """The authors' code divides by zero at 1 and repeats blocks above the depth."""
    with pytest.raises(BadLayout, match=f"cannot keep {keep} of 8"):
        evenly_spaced(8, keep)
