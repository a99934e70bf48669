"""Rows of a task's splits, from local files or from what installed packages bring.

The hash of a split's content is part of every digest, so it is taken here too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import SuiteError
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


def rows(data: Mapping[str, str], split: str) -> list[dict[str, Any]]:
    """The objects of a JSONL split.

    Raises:
        SuiteError: a line that is no JSON object, with file and line.
    """
    path = Path(data[split])
    result = []
    text = path.read_text(encoding="utf-8").removesuffix("\n")
    if not text:
        raise SuiteError(f"{path} has no rows")
    # Not splitlines: a string may hold other line separators, which JSON leaves as they are.
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SuiteError(f"{path}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise SuiteError(f"{path}:{number}: expected a JSON object, got {line[:60]!r}")
        result.append(row)
    return result
