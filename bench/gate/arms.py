"""Two revisions of this checkout, each in a worktree and an environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from bench.errors import BenchError

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = "from bench.cli import main; main()"
INCOMPLETE = 3
WHO = ("AUTHOR", "COMMITTER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One side of a comparison."""

    name: str
    commit: str
    folder: Path
    """Its checkout."""
    python: tuple[str, ...]
    """Runs that checkout's code and, being isolated, no other: not even what PYTHONPATH names."""
    store: Path

    def run(self, arguments: Sequence[str]) -> None:
        """Run a suite with its command line; what it prints goes to standard error.

        Raises:
            BenchError: it did not get as far as stages that fail.
        """
        command = [*self.python, "-c", PROGRAM, "run", *arguments]
        done = subprocess.run(
            [*command, "--results", str(self.store)], stdout=sys.stderr, check=False
        )
        if done.returncode not in (0, INCOMPLETE):
            raise BenchError(
                f"{self.name} ({self.commit[:12]}) cannot run the suite: it ended with exit "
                f"status {done.returncode}"
            )


@contextmanager
def arms(base: str, folder: Path) -> Iterator[tuple[Arm, Arm]]:
    """The base revision and the code as it is here, uncommitted changes included.

    Their results stay in the folder; worktrees and environments are removed at the end.

    Raises:
        BenchError: this code is no git checkout, or there is no such revision.
    """
    if not (ROOT / ".git").exists():
        raise BenchError("`ab` compares two revisions of a git checkout; this is no checkout")
    folder = folder.resolve()  # git is asked from the root of this checkout
    commits = {"base": _commit(base), "candidate": _as_it_is(folder)}
    try:
        yield (
            _arm("base", commits["base"], folder),
            _arm("candidate", commits["candidate"], folder),
        )
    finally:
        for name in commits:
            for part in ("code", "environment"):
                shutil.rmtree(folder / name / part, ignore_errors=True)
        _git("worktree", "prune")


def _arm(name: str, commit: str, folder: Path) -> Arm:
    code, environment = folder / name / "code", folder / name / "environment"
    _git("worktree", "add", "--force", "--detach", str(code), commit)
    venv.create(environment, symlinks=True, clear=True)
    python = environment / "bin" / "python"
    if _needs(code) == _needs(ROOT):
        _share(environment, code)
    else:
        _install(python, code)
    arm = Arm(
        name=name,
        commit=commit,
        folder=code,
        python=(str(python), "-I"),
        store=folder / name / "results",
    )
    _check(arm)
    return arm


def _check(arm: Arm) -> None:
    """Two arms that run the same code differ in nothing, and any change would pass."""
    where = "import bench; print(bench.__file__)"
    done = subprocess.run([*arm.python, "-c", where], capture_output=True, text=True, check=False)
    found = Path(done.stdout.strip() or ".").resolve()
    if not found.is_relative_to(arm.folder.resolve()):
        raise BenchError(f"{arm.name} would run {found}, not its own code in {arm.folder}")


def _share(environment: Path, code: Path) -> None:
    """Let an environment see one checkout and this environment's packages."""
    paths = [code, Path(sysconfig.get_path("purelib")), Path(sysconfig.get_path("platlib"))]
    place = next(environment.glob("lib/python*/site-packages"))
    # Files of paths in those packages' folder are not read: this checkout stays out.
    (place / "arm.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(paths)))


def _install(python: Path, code: Path) -> None:
    """Install a checkout whose packages are others."""
    steps = (
        ["-m", "ensurepip", "--default-pip"],
        ["-m", "pip", "install", "-q", "-c", str(code / "constraints/tested.txt"), "-e", str(code)],
    )
    for step in steps:
        done = subprocess.run([str(python), *step], capture_output=True, text=True, check=False)
        if done.returncode:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BenchError(f"cannot install {code}: {why}")


def _needs(code: Path) -> list[str]:
    """The packages a checkout asks for, with their tested versions."""
    project = tomllib.loads((code / "pyproject.toml").read_text())["project"]
    tested = code / "constraints" / "tested.txt"
    return [*project["dependencies"], tested.read_text() if tested.exists() else ""]


def _commit(revision: str) -> str:
    try:
        return _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except BenchError:
        raise BenchError(
            f"no revision {revision!r} in {ROOT}; a branch, a tag or a commit would work"
        ) from None


def _as_it_is(folder: Path) -> str:
    """A commit of the checkout with all that is changed or new in it; nobody's branch has it."""
    folder.mkdir(parents=True, exist_ok=True)
    index = folder / "index"
    own = {"GIT_INDEX_FILE": str(index)}
    _git("read-tree", "HEAD", **own)
    # Results that lie in the checkout are no part of its code.
    results = folder.parent.parent
    within = results.is_relative_to(ROOT) and results != ROOT
    without = [f":(exclude){results.relative_to(ROOT)}"] if within else []
    _git("add", "--all", "--", ".", *without, **own)
    tree = _git("write-tree", **own)
    index.unlink()
    if tree == _git("rev-parse", "HEAD^{tree}"):
        return _commit("HEAD")
    author = {f"GIT_{who}_{what}": "offsite-bench" for who, what in product(WHO, ("NAME", "EMAIL"))}
    return _git("commit-tree", tree, "-p", "HEAD", "-m", "as it is", **author)


def _git(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BenchError(f"git {arguments[0]}: {why}")
    return done.stdout.strip()
