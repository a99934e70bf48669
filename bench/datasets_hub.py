"""What a data set of the hub is, known without loading it: repository, splits, commit.

It never imports datasets or torch. A data set is known by its full commit hash: from the local
cache where it is there, from the hub when a run starts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from bench.errors import SuiteError
from bench.hub_cache import FULL_COMMIT, cached_commit, reason
from bench.sources import PENDING

KEYS = ("hub", "config", "revision")
"""What a task's `data` may say beside its splits."""


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
        found = re.search(rf"^commit:[^?]*@({FULL_COMMIT.pattern})", identity)
        given = {"hub": self.repository, "config": self.config}
        given |= {"revision": found[1] if found else None, **dict(sorted(self.splits.items()))}
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class HubIdentity:
    """What stands for the data in digests: `commit:REPO@SHA?...`, or `pending:REPO?...`."""

    hub: HubData
    commit: str | None
    """None if only the hub knows it."""

    @property
    def is_pending(self) -> bool:
        """The hub has to be asked first."""
        return self.commit is None

    def of(self, *splits: str) -> str:
        """The commit and which rows of it these splits are.

        Config and splits come after the question mark: two tasks may take other rows of one
        commit.
        """
        chosen = {s: name for s, name in sorted(self.hub.splits.items()) if s in splits}
        config = {"config": self.hub.config} if self.hub.config else {}
        rows = urlencode({**config, **chosen}, safe="[]%:+/")
        known = f"commit:{self.hub.repository}@{self.commit}"
        branch = f"@{self.hub.revision}" if self.hub.revision else ""
        return f"{known if self.commit else f'{PENDING}{self.hub.repository}{branch}'}?{rows}"


def identity(hub: HubData, *, online: bool) -> HubIdentity:
    """Find out which commit the data are of.

    Args:
        hub: the data set.
        online: ask the hub for a commit that the local cache does not know.

    Raises:
        SuiteError: the hub has no such data set, or cannot be asked.
    """
    commit = cached_commit("datasets", hub.repository, hub.revision)
    if commit is None and online:
        commit = _ask_hub(hub.repository, hub.revision or "main")
    return HubIdentity(hub, commit)


def _ask_hub(repository: str, revision: str) -> str:
    """The commit of a branch or tag. The local cache remembers it, so `plan` then knows it too."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            repository, repo_type="dataset", revision=revision, allow_patterns=".gitattributes"
        )
    except Exception as error:  # the hub client raises its own, httpx's and the OS's errors
        sentence = f"the hub does not give data set {repository!r}: {reason(error)}"
        raise SuiteError(sentence) from error
    return Path(folder).name
