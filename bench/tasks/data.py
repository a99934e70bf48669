"""The identity of a task's local data, and the data sets that installed packages bring.

The hash of a split's content is part of every digest, so it is taken here, without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.tasks.builtin import BUILTIN, fingerprint
from reports.record import canonical


def data_hash(files: Mapping[str, Path], builtin: str | None) -> str:
    """sha256 over the content of all splits; where they lie does not matter."""
    if builtin:
        return f"sha256:{fingerprint(builtin)}"
    parts = {split: hashlib.sha256(path.read_bytes()).hexdigest() for split, path in files.items()}
    return "sha256:" + hashlib.sha256(canonical(parts)).hexdigest()


def builtin_split(data: Mapping[str, str], split: str) -> Any | None:  # noqa: ANN401
    """A split of a built-in data set; None if the data are files or the split is not there."""
    name = data.get("builtin")
    splits: Any = BUILTIN[name]() if name else {}
    return splits.get(split)
