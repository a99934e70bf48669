"""What a data set of the hub is, known without loading it: repository, splits, commit.

It never imports datasets or torch. A data set is known by its full commit hash: from the local
cache where it is there, from the hub when a run starts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from bench.errors import SuiteError
from bench.sources import PENDING

KEYS = ("hub", "config", "revision")
"""What a task's `data` may say beside its splits."""

_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubData:
    """Which rows of which repository a task takes."""

    repository: str
    config: str | None = None
    """The subset, as the hub calls it; None is the only one."""
    revision: str | None = None
    """Commit, branch or tag; None is the main branch."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """The task's split to the hub's, which may be a slice: `train[:85%]`, `train+validation`."""

    def location(self, identity: str) -> dict[str, str]:
        """What a stage needs to load the data: the commit is that of `identity`, if it has one."""
        found = re.search(rf"@({_COMMIT.pattern})", identity)
        given = {"hub": self.repository, "config": self.config}
        given |= {"revision": found[1] if found else None, **dict(sorted(self.splits.items()))}
        return {key: value for key, value in given.items() if value is not None}


def identity(hub: HubData, *, online: bool) -> str:
    """What stands for the data in a digest: `commit:REPO@SHA?...`, or `pending:REPO?...`.

    Config and splits come after the question mark: two tasks may take other rows of one commit.

    Args:
        hub: the data set.
        online: ask the hub for a commit that the local cache does not know.

    Raises:
        SuiteError: the hub has no such data set, or cannot be asked.
    """
    revision = hub.revision or "main"
    commit = _cached_commit(hub.repository, revision)
    if commit is None and online:
        commit = _ask_hub(hub.repository, revision)
    config = {"config": hub.config} if hub.config else {}
    rows = urlencode({**config, **dict(sorted(hub.splits.items()))}, safe="[]%:+/")
    known = f"commit:{hub.repository}@{commit}" if commit else f"{PENDING}{hub.repository}"
    return f"{known}?{rows}"


def _cached_commit(repository: str, revision: str) -> str | None:
    if _COMMIT.fullmatch(revision):
        return revision
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    reference = cache / f"datasets--{repository.replace('/', '--')}" / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else None


def _ask_hub(repository: str, revision: str) -> str:
    """The commit of a branch or tag. The local cache remembers it, so `plan` then knows it too."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=".gitattributes"
        )
    except Exception as error:  # the hub client raises its own, httpx's and the OS's errors
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SuiteError(f"the hub does not give data set {repository!r}: {reason}") from error
    return Path(folder).name
