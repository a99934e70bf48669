"""What of a checkout is taken for its code."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.gate import arms


def git(*arguments: str) -> str:
    """Run git in the repository."""
    done = subprocess.run(
        ["git", "-C", str(arms.ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One commit of one file."""
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.setattr(arms, "ROOT", root)
    git("init", "-q")
    (root / "a.py").write_text("1\n")
    git("add", "a.py")
    git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one")
    return root


def files_of(commit: str) -> list[str]:
    """All its files."""
    return git("ls-tree", "-r", "--name-only", commit).splitlines()


def test_what_is_not_committed_is_taken_and_results_are_not(repository: Path):
    """A store in the checkout holds gigabytes, and would be in the candidate's folder."""
    store = repository / "out"
    folder = store / "ab" / "now"
    folder.mkdir(parents=True)
    (store / "weights").write_text("large")
    (repository / "b.py").write_text("2\n")
    assert files_of(arms._as_it_is(folder)) == ["a.py", "b.py"]
    assert list(folder.iterdir()) == []


def test_an_unchanged_checkout_is_its_commit(repository: Path, tmp_path: Path):
    """Results elsewhere are none of its business."""
    assert arms._as_it_is(tmp_path / "out" / "ab" / "now") == git("rev-parse", "HEAD")
