"""The two built-in data sets."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from bench.tasks.builtin import BUILTIN, digits_pair_sum, fingerprint, pydoc_topics


def paragraphs(texts: list[str]) -> set[str]:
    """Paragraphs long enough to be recognised, without their layout."""
    found = (" ".join(part.split()) for text in texts for part in text.split("\n\n"))
    return {part for part in found if len(part) >= 40}


def test_no_paragraph_of_the_topics_is_in_two_splits():
    """Topics quote each other, and still nothing that is scored is seen in tuning."""
    train, validation, test = (paragraphs(texts) for texts in pydoc_topics().values())
    assert train.isdisjoint(test)
    assert train.isdisjoint(validation)
    assert validation.isdisjoint(test)


def test_about_a_quarter_of_the_topics_is_scored():
    """One quarter by topics and roughly by characters; about an eighth of the rest is to choose."""
    splits = pydoc_topics()
    size = {split: sum(map(len, texts)) for split, texts in splits.items()}
    assert 0.2 < len(splits["test"]) / sum(map(len, splits.values())) < 0.3
    assert 0.15 < size["test"] / sum(size.values()) < 0.35
    assert 0.05 < size["validation"] / (size["validation"] + size["train"]) < 0.2


def test_no_digit_image_is_in_two_splits():
    """Every half of every pair belongs to one split only."""
    seen = [
        {half.tobytes() for pair in images for half in (pair[:, :8], pair[:, 8:])}
        for images, _ in digits_pair_sum().values()
    ]
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_pairs_are_small_grey_images_labelled_with_a_sum():
    """Shape, type, range and number of pairs are the documented ones."""
    counts = {}
    for split, (images, labels) in digits_pair_sum().items():
        assert images.shape[1:] == (8, 16)
        assert (images.dtype, labels.dtype) == (np.float32, np.int64)
        assert (images.min(), images.max()) == (0, 1)
        assert (labels.min(), labels.max()) == (0, 18)
        counts[split] = len(images)
    assert counts == {"train": 1500, "validation": 300, "test": 1500}


def test_the_same_pairs_every_time():
    """A second call gives the same images and labels, whatever was drawn in between."""
    first = digits_pair_sum()
    np.random.rand(3)
    second = digits_pair_sum()
    assert all(np.array_equal(first[s][i], second[s][i]) for s in first for i in (0, 1))


@pytest.mark.parametrize("name", sorted(BUILTIN))
def test_fingerprint_is_a_sha256_that_differs_by_data_set(name: str):
    """A fingerprint can stand in a digest: hexadecimal, repeatable, and one per data set."""
    assert int(fingerprint(name), 16) < 2**256
    assert fingerprint(name) == fingerprint(name)
    assert len({fingerprint(other) for other in BUILTIN}) == len(BUILTIN)


def test_fingerprints_need_no_heavy_import():
    """Planning asks for fingerprints, so they import neither scikit-learn nor torch nor numpy."""
    program = (
        "import sys; from bench.tasks.builtin import BUILTIN, fingerprint;"
        "[fingerprint(name) for name in BUILTIN];"
        "sys.exit(' '.join({'sklearn', 'torch', 'numpy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stderr
