"""Rows of a task's splits: the objects of a JSONL or Parquet file, or a hub data set's rows.

`data` is what a stage was told: split to file, or `hub`, `config`, `revision` and split to the
hub's name of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.errors import SuiteError


def read(data: Mapping[str, str], split: str) -> list[dict[str, Any]]:
    """The rows of a split.

    Raises:
        SuiteError: no such split, a line that is no JSON object, with file and line, or no Parquet.
    """
    if "hub" in data:
        found = [dict(row) for row in hub_split(data, split)]
        if not found:
            raise SuiteError(f"data set {data['hub']!r}, split {data[split]!r} has no rows")
        return found
    path = Path(_named(data, split))
    return _parquet(path) if path.suffix == ".parquet" else _jsonl(path)


def place(data: Mapping[str, str], split: str, position: int) -> str:
    """How to find the row at `position`, counted from 0, in a message."""
    if "hub" in data:
        return f"{data['hub']} {data[split]}, row {position}"
    return f"{data[split]}:{position + 1}"


def hub_split(data: Mapping[str, str], split: str) -> Any:  # noqa: ANN401 - untyped library
    """A split of a hub data set, at the commit that was planned.

    Raises:
        SuiteError: it cannot be had, or what can be had is another commit.
    """
    import datasets

    name, revision = data["hub"], data.get("revision")
    wanted = _named(data, split)
    try:
        builder = datasets.load_dataset_builder(name, data.get("config"), revision=revision)
        # Offline, the library takes whatever it cached last and only warns.
        if revision and builder.hash != revision:
            raise SuiteError(
                f"data set {name!r}: the local cache holds commit {str(builder.hash)[:12]}, the "
                f"plan says {revision[:12]}; run with the hub within reach"
            )
        builder.download_and_prepare()
        return builder.as_dataset(split=wanted)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SuiteError(f"data set {name!r}, split {wanted!r}: {reason}") from error


def _named(data: Mapping[str, str], split: str) -> str:
    if split not in data:
        raise SuiteError(f"this task has no {split} split; give one under its `data`")
    return data[split]


def _jsonl(path: Path) -> list[dict[str, Any]]:
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


def parquet_table(path: Path) -> Any:  # noqa: ANN401 - untyped library
    """A file as an Arrow table.

    Raises:
        SuiteError: it cannot be read.
    """
    from pyarrow import ArrowException
    from pyarrow.parquet import read_table

    try:
        return read_table(path)
    except (ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise SuiteError(f"{path}: not Parquet ({reason})") from None


def _parquet(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = parquet_table(path).to_pylist()
    if not found:
        raise SuiteError(f"{path} has no rows")
    return found
