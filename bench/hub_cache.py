"""What the hub's local cache tells: the commit behind a name, and the files of a commit.

Reads the folders that `huggingface_hub` writes; never imports it, never asks the hub.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Literal

RepositoryType = Literal["models", "datasets"]

FULL_COMMIT = re.compile(r"[0-9a-f]{40}")


def cached_commit(kind: RepositoryType, repository: str, revision: str | None) -> str | None:
    """The full commit of a branch or tag, as it was when last asked for; None if it never was.

    Args:
        kind: what the repository holds.
        repository: its name on the hub.
        revision: a full commit is its own answer; None is the main branch.
    """
    revision = revision or "main"
    if FULL_COMMIT.fullmatch(revision):
        return revision
    reference = _folder(kind, repository) / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else None


def cached_snapshot(kind: RepositoryType, repository: str, commit: str) -> Path:
    """The folder of a commit's files: as many as were ever asked for, so maybe none."""
    return _folder(kind, repository) / "snapshots" / commit


def reason(error: Exception) -> str:
    """One line of why the hub did not answer: its client raises errors of many kinds and lines."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _folder(kind: RepositoryType, repository: str) -> Path:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    return cache / f"{kind}--{repository.replace('/', '--')}"
