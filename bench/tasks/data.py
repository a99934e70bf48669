"""The identity of a task's data split by split, and the data sets that installed packages bring.

The hash of what a stage reads is part of its digest, so it is taken here, without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.file_hash import file_sha256
from bench.tasks import image_folders
from bench.tasks.builtin import BUILTIN, fingerprint
from reports.record import DRAWN, canonical


class DataIdentity(Protocol):
    """What stands for a task's data in digests."""

    def of(self, *splits: str) -> str:
        """What stands for these splits, but for those there are none of.

        A stage is digested by the splits it reads: more rows to tune on do not change what the
        same rows score before.
        """
        ...

    @property
    def is_pending(self) -> bool:
        """Only the hub knows it."""
        ...


@dataclass(frozen=True, slots=True)
class LocalData:
    """Files, or a data set that an installed package brings."""

    hashes: Mapping[str, str]
    """Split to the sha256 of its content; where a file lies does not matter."""
    whole: str | None = None
    """Of a built-in data set, which is hashed before it is split."""
    is_pending: Literal[False] = False

    def of(self, *splits: str) -> str:
        """`sha256:` and the hash of these splits' hashes, or of all there is."""
        if self.whole:
            return f"sha256:{self.whole}"
        chosen = {split: self.hashes[split] for split in splits if split in self.hashes}
        assert chosen, f"none of {splits} among {sorted(self.hashes)}"
        return "sha256:" + hashlib.sha256(canonical(chosen)).hexdigest()


@dataclass(frozen=True, slots=True)
class DrawnData:
    """Samples that are drawn at random; the stage's seed and the task say how."""

    is_pending: Literal[False] = False

    def of(self, *splits: str) -> str:
        """The same for all: the kind and its parameters stand in the digest beside it."""
        return DRAWN


def local_data(files: Mapping[str, Path], builtin: str | None) -> LocalData:
    """The identity of files and image folders, or of a built-in data set."""
    if builtin:
        return LocalData({}, fingerprint(builtin))
    classes = image_folders.class_names(path for path in files.values() if path.is_dir())
    return LocalData({split: _identity(path, classes) for split, path in files.items()})


def _identity(path: Path, classes: tuple[str, ...]) -> str:
    if path.is_dir():
        return image_folders.fingerprint(path, classes)
    return file_sha256(path)


def scored_split(splits: Container[str]) -> Literal["test", "validation"]:
    """The split that is scored: as lm-eval has it, `validation` for want of a `test`."""
    return "test" if "test" in splits else "validation"


def builtin_split(data: Mapping[str, str], split: str) -> Any | None:  # noqa: ANN401
    """A split of a built-in data set; None if the data are files or the split is not there."""
    name = data.get("builtin")
    splits: Any = BUILTIN[name]() if name else {}
    return splits.get(split)
