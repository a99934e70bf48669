"""The data sets every machine already has: Python's documentation and scikit-learn's digits.

Both are split once and for all: what is scored never depends on a seed. `validation` is for
choosing (settings, checkpoints), `test` is only ever scored.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.float32]
    Labels = NDArray[np.int64]

Split = Literal["train", "validation", "test"]

RULES = 1
"""Raise this when a split or a pairing changes, so that old results are not taken for new ones."""


def pydoc_topics() -> dict[Split, list[str]]:
    """The language reference as `help()` prints it, one string a topic, split by topic name.

    Topics quote one another at length (`specialnames` repeats five others), so a paragraph
    stays only with the first topic that has it, scored topics first: nothing that is scored can
    be read while tuning.
    """
    from pydoc_data.topics import topics

    names = sorted(topics, key=lambda name: _order("topic", name))
    seen: set[str] = set()
    texts = [_new_paragraphs(topics[name], seen) for name in names]
    tested = len(texts) // 4 + 1
    chosen = (len(texts) - tested) // 7
    splits: dict[Split, list[str]] = {
        "train": texts[tested + chosen :],
        "validation": texts[tested : tested + chosen],
        "test": texts[:tested],
    }
    return {split: [text for text in part if text] for split, part in splits.items()}


def digits_pair_sum() -> dict[Split, tuple[Images, Labels]]:
    """Two of scikit-learn's 8x8 digits side by side, 0 to 1; the label is their sum, 0 to 18.

    Of the 1,797 images 899 are scored (1,500 pairs), 150 are for choosing (300 pairs) and 748 for
    tuning (1,500 pairs). No image is in two splits. Pairs of one split share images, so they are
    not independent: an interval over pairs is somewhat too narrow.
    """
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    order = sorted(range(len(digits)), key=lambda index: _order("digit", str(index)))
    splits: list[tuple[Split, list[int], int]] = [
        ("train", order[1049:], 1500),
        ("validation", order[899:1049], 300),
        ("test", order[:899], 1500),
    ]
    return {split: _pairs(images, digits, chosen, count) for split, chosen, count in splits}


BUILTIN: dict[
    str, Callable[[], dict[Split, list[str]]] | Callable[[], dict[Split, tuple[Images, Labels]]]
] = {
    "digits_pair_sum": digits_pair_sum,
    "pydoc_topics": pydoc_topics,
}
"""Every data set that needs no file, by the name a task file uses."""


def fingerprint(name: str) -> str:
    """The sha256 of a data set's raw content and of the rules that split it."""
    content = {"digits_pair_sum": _digits_file, "pydoc_topics": _topics_text}[name]()
    return hashlib.sha256(f"{name} {RULES}\n".encode() + content).hexdigest()


def _digits_file() -> bytes:
    """The packaged file itself: importing scikit-learn takes seconds."""
    found = importlib.util.find_spec("sklearn")
    if found is None or found.origin is None:
        raise ModuleNotFoundError("digits_pair_sum reads scikit-learn's data; install scikit-learn")
    return (Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz").read_bytes()


def _topics_text() -> bytes:
    from pydoc_data.topics import topics

    return "\0".join(f"{name}\0{topics[name]}" for name in sorted(topics)).encode()


def _order(kind: str, name: str) -> bytes:
    """A stable shuffle: the place of one name does not depend on what else there is."""
    return hashlib.sha256(f"{kind} {name}".encode()).digest()


def _new_paragraphs(text: str, seen: set[str]) -> str:
    """The text without paragraphs that were seen before, however they are indented."""
    kept = []
    for paragraph in text.split("\n\n"):
        words = " ".join(paragraph.split())
        if words not in seen:
            kept.append(paragraph)
            seen.add(words)
    return "\n\n".join(kept)


def _pairs(
    images: NDArray[np.float64], digits: NDArray[np.int64], chosen: Sequence[int], count: int
) -> tuple[Images, Labels]:
    """`count` pairs in which every chosen image is used about equally often on either side."""
    import numpy as np

    # RandomState and not default_rng: only its stream is promised never to change.
    draw = np.random.RandomState(0)
    rounds = -(-count // len(chosen))
    left, right = (
        np.concatenate([draw.permutation(chosen) for _ in range(rounds)])[:count] for _ in range(2)
    )
    squares = (images / 16).astype(np.float32).reshape(-1, 8, 8)
    pairs = np.concatenate([squares[left], squares[right]], axis=2)
    return pairs, (digits[left] + digits[right]).astype(np.int64)
