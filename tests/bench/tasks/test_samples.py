"""A sample of documents is chosen by what they say, stratified, whatever their order."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from bench.tasks.samples import content_hash, sample
from bench.tasks.task import prepare
from offsite.image_settings import NEUTRAL
from offsite.models import Foundation

DOCUMENTS = st.lists(
    st.tuples(st.text(max_size=3), st.integers(0, 3)), min_size=1, max_size=60, unique=True
)
"""What a document says, and its stratum."""


def chosen(documents: list[tuple[str, int]], count: int | None) -> list[tuple[str, int]]:
    """The documents of a sample."""
    hashes = [content_hash(text) for text in documents]
    strata = [stratum for _, stratum in documents]
    return [documents[i] for i in sample(hashes, count, strata)]


@given(DOCUMENTS, st.integers(1, 70))
def test_a_sample_has_the_size_that_was_asked_for(documents, count):
    """Or takes all there are, each once and in the order of the split."""
    hashes = [content_hash(document) for document in documents]
    positions = sample(hashes, count, [stratum for _, stratum in documents])
    assert len(positions) == min(count, len(documents))
    assert positions == sorted(set(positions))


@given(DOCUMENTS, st.integers(1, 70), st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_nothing(documents, count, random):
    """The same documents are chosen of the same documents in any order."""
    shuffled = random.sample(documents, len(documents))
    assert set(chosen(documents, count)) == set(chosen(shuffled, count))


@given(DOCUMENTS, st.integers(1, 70))
def test_each_stratum_has_its_share(documents, count):
    """Less than one document away from its exact part of the sample."""
    sizes = Counter(stratum for _, stratum in documents)
    found = Counter(stratum for _, stratum in chosen(documents, count))
    taken = min(count, len(documents))
    for stratum, size in sizes.items():
        assert abs(found[stratum] - taken * size / len(documents)) < 1


@given(DOCUMENTS, st.integers(1, 70))
def test_a_stratum_gives_its_smallest_hashes(documents, count):
    """So a larger sample of one stratum holds the smaller one."""
    taken = chosen(documents, count)
    for stratum in range(4):
        of_stratum = [document for document in documents if document[1] == stratum]
        mine = [document for document in taken if document[1] == stratum]
        smallest = sorted(of_stratum, key=content_hash)[: len(mine)]
        assert set(mine) == set(smallest)


def test_no_size_takes_everything():
    """In the order of the split."""
    assert sample(["b", "a", "c"], None) == [0, 1, 2]


def test_a_sample_is_not_the_first_rows_nor_evenly_spaced():
    """Numbers in order: their hashes are in none."""
    positions = sample([content_hash(i) for i in range(100)], 10)
    assert positions != list(range(10))
    assert len({after - before for before, after in pairwise(positions)}) > 1


def test_the_hash_is_of_what_a_document_says():
    """Not of the order of its fields."""
    assert content_hash({"a": 1, "b": [2]}) == content_hash({"b": [2], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": "1"})


class FirstPixels(nn.Module):
    """A model whose scores are an image's first pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter()

    def forward(self, images: Tensor) -> Tensor:
        """Two classes."""
        return images.flatten(1)[:, :2]


def test_images_are_stratified_by_label(tmp_path: Path):
    """Three of four have one label, and so have three of the four that are drawn of sixteen."""
    images = np.random.default_rng(0).random((16, 1, 2, 2), dtype="float32")
    labels = np.array([0] * 12 + [1] * 4)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    data = dict.fromkeys(("train", "test"), str(tmp_path / "images.npz"))
    settings = dict(NEUTRAL)
    foundation = Foundation(model=FirstPixels(), kind="vision", image_settings=settings)
    task = prepare({"kind": "image_classification"}, data, foundation)
    items = task.evaluate(FirstPixels(), batch_size=4, examples=4).items
    assert [item["target"] for item in items] == [0, 0, 0, 1]
    assert [item["item"] for item in items] != [0, 1, 2, 12]
