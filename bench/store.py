"""The content-addressed result store: immutable records and blobs in plain files.

A file is written beside its place, flushed to disk, and linked in: a name is either absent
or whole, and never replaced. Claims only save work, and so does everything under `tokens/`, which
may be deleted at any time: without them, the results would be the same.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.errors import NothingToShow, StoreError
from reports.record import Record, read_record, to_bytes

FORMAT = {"format": "offsite-bench-store", "version": 1}
FOLDERS = ("plans", "records", "attempts", "blobs", "claims", "reports", "tokens")


class Store:
    """One results folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def create(cls, root: Path) -> Store:
        """Open `root`, making it a store if it is empty or absent."""
        marker = root / "STORE.json"
        if not marker.exists():
            try:
                cls._make(root, marker)
            except OSError as error:
                raise StoreError(f"cannot make results in {root}: {error.strerror}") from None
        return cls.open(root)

    @staticmethod
    def _make(root: Path, marker: Path) -> None:
        # A hidden .tmp file is what a run that was killed at its very start leaves.
        ours = (*FOLDERS, marker.name)
        if root.is_dir() and any(
            p.name not in ours and not p.match(".*.tmp") for p in root.iterdir()
        ):
            raise StoreError(f"{root} holds other files; give an empty or new folder to --results")
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)
        write_once(marker, json.dumps(FORMAT).encode())

    @classmethod
    def open(cls, root: Path) -> Store:
        """Open an existing store.

        Raises:
            NothingToShow: there is none.
            StoreError: it is of a newer version.
        """
        try:
            found = json.loads((root / "STORE.json").read_text())
        except (OSError, ValueError):
            raise NothingToShow(f"no results in {root}; `offsite-bench run` makes them") from None
        if found != FORMAT:
            raise StoreError(f"{root} is a store of format {found}; this version reads {FORMAT}")
        return cls(root)

    def save_plan(self, content: bytes) -> str:
        """Keep a plan under the hash of its bytes; returns that hash."""
        name = hashlib.sha256(content).hexdigest()
        write_once(self.plan_path(name), content)
        return name

    def plan_path(self, name: str) -> Path:
        """The file of a saved plan."""
        return self.root / "plans" / f"{name}.json"

    def read_plan(self, name: str) -> bytes:
        """The bytes of a saved plan."""
        return self.plan_path(name).read_bytes()

    def record_path(self, digest: str, machine: str, repeat: int = 0) -> Path:
        """Where the record of a key is or would be."""
        return self._folder(digest) / f"{digest}.{machine}.{repeat}.json"

    def plans(self) -> list[Path]:
        """Saved plans, the newest first."""
        paths = (self.root / "plans").glob("*.json")
        return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)

    def lacks(self, digest: str, machine: str | None, repeats: int) -> list[int]:
        """Repeats of a stage that have no record yet, of this machine or of the best of any.

        A stage without repeats needs one record, of whatever machine.
        """
        if not repeats:
            return [] if self.has(digest) else [0]
        names = (path.name.split(".") for path in self._folder(digest).glob(f"{digest}.*.json"))
        machines = {name[1] for name in names} if machine is None else {machine}
        missing = [
            [r for r in range(repeats) if not self.record_path(digest, each, r).exists()]
            for each in sorted(machines)
        ]
        return min(missing, key=len, default=list(range(repeats)))

    def find(self, digest: str, machine: str, repeat: int = 0, base: int = 0) -> Path | None:
        """A record to go on from: this machine's of that repeat, else its base's, else any other's.

        So what is made again from the start rests on what was made again before it.
        """
        for number in (repeat, base):
            own = self.record_path(digest, machine, number)
            if own.exists():
                return own
        return min(self._records(digest), default=None)

    def has(self, digest: str) -> bool:
        """Whether any machine has left a record of the stage."""
        return any(self._records(digest))

    def _records(self, digest: str) -> Iterator[Path]:
        return self._folder(digest).glob(f"{digest}.*.0.json")

    def _folder(self, digest: str) -> Path:
        return self.root / "records" / digest[:2]

    def save_record(self, record: Record) -> Path:
        """Write a record once. Whoever comes second finds the first one's and keeps it."""
        path = self.record_path(record.digest, record.machine, record.repeat)
        write_once(path, to_bytes(record))
        return path

    def save_attempt(self, record: Record) -> Path:
        """Keep what is known of a stage that did not succeed."""
        path = self.root / "attempts" / record.digest / f"{uuid.uuid4().hex}.json"
        write_once(path, to_bytes(record))
        return path

    def attempts(self, digest: str) -> list[Record]:
        """All failed tries of a stage, oldest first."""
        paths = (self.root / "attempts" / digest).glob("*.json")
        return sorted((read_record(p) for p in paths), key=lambda r: r.observed.get("started", ""))

    def log_path(self, digest: str) -> Path:
        """A new file for the output of a stage that is about to start."""
        path = self.root / "attempts" / digest / f"{uuid.uuid4().hex}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def save_blob(self, source: Path) -> str:
        """Take a file in under its content's hash; returns the hash."""
        with source.open("rb") as stream:
            name = hashlib.file_digest(stream, "sha256").hexdigest()
        target = self.blob(name)
        if not target.exists():
            temporary = _beside(target)
            shutil.copyfile(source, temporary)
            _link(temporary, target)
        return name

    def blob(self, name: str) -> Path:
        """The file of a blob."""
        return self.root / "blobs" / name[:2] / name

    @property
    def tokens(self) -> Path:
        """Where token ids and what was found of tasks are kept, to save work."""
        return self.root / "tokens"

    def materialise(self, blobs: Mapping[str, str], prefix: str, folder: Path) -> Path:
        """Links in `folder` to the blobs whose names start with `prefix/`, under the rest."""
        for name, digest in blobs.items():
            if name.startswith(f"{prefix}/"):
                (folder / name.removeprefix(f"{prefix}/")).symlink_to(self.blob(digest).resolve())
        return folder

    @contextmanager
    def claim(self, digest: str) -> Iterator[bool]:
        """Hold a stage for this process; False if another process holds it.

        The lock is the kernel's: it ends with its holder, however that ends.
        """
        path = self.root / "claims" / f"{digest}.lock"
        with path.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def write_replacing(path: Path, content: bytes) -> None:
    """Write a file that may be written again (a report), so that a reader sees a whole one."""
    temporary = _beside(path)
    _write(temporary, content)
    temporary.replace(path)


def write_once(path: Path, content: bytes) -> None:
    """Create `path` with `content` for good, unless it is already there."""
    if path.exists():
        return
    temporary = _beside(path)
    _write(temporary, content)
    _link(temporary, path)


def _beside(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _link(temporary: Path, path: Path) -> None:
    """Give a written file its name. link() refuses to overwrite; rename() would not."""
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Somebody was first; content under one name is the same by construction.
        pass
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
