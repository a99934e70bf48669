"""The machine, the versions and the commit: an allow-list, never a dump of the environment.

Reads package metadata and the operating system only; nothing heavy is imported.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from bench.measure.nvml import GpuInfo, visible_gpus
from reports.record import canonical

PACKAGES = (
    *("torch", "torchvision", "transformers", "tokenizers", "safetensors", "timm", "peft"),
    *("accelerate", "lm-eval", "datasets", "pyarrow", "pillow", "numpy", "scikit-learn"),
)
"""Whatever a number may depend on: every record names their versions."""
CODE = ("bench", "offsite", "reports/items.py", "reports/record.py")
"""What makes results; what is made from results has no part in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What decides speed and memory. Two records with another machine are never compared."""

    device: Literal["cpu", "cuda"]
    processor: str
    cores: int
    """Cores this process may use."""
    threads: int
    """Threads a stage computes with: as many, or what OMP_NUM_THREADS says."""
    gpus: tuple[GpuInfo, ...]
    torch: str
    system: str

    @property
    def fingerprint(self) -> str:
        """Short stable name of this machine."""
        gpus = [[gpu.name, gpu.memory, gpu.driver] for gpu in self.gpus]
        # Two equal machines are one: the UUID of a board is not in it.
        content = {**asdict(self), "gpus": gpus}
        return hashlib.sha256(canonical(content)).hexdigest()[:12]


@functools.cache
def this_machine() -> Machine:
    """The machine this runs on, as a stage will see it."""
    gpus = visible_gpus()
    torch_version = version("torch")
    usable = bool(gpus) and "+cpu" not in torch_version
    return Machine(
        device="cuda" if usable and os.environ.get("OFFSITE_BENCH_DEVICE") != "cpu" else "cpu",
        processor=_processor(),
        cores=_cores(),
        threads=_threads(),
        gpus=tuple(gpus),
        torch=torch_version,
        system=f"{platform.system()} {platform.machine()}",
    )


def version(package: str) -> str:
    """Installed version of a package, `absent` if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "absent"


def minor(package: str) -> str:
    """Major and minor version: what a digest holds, since patch releases keep results."""
    return ".".join(version(package).split("+")[0].split(".")[:2])


def facts() -> dict[str, Any]:
    """What every record says of where it was made."""
    commit, dirty = _commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "code": code(),
        "machine": asdict(this_machine()),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "offsite-bench": version("offsite-bench"),
    }


@functools.cache
def code() -> str:
    """sha256 of the program's own source files: what made a number, committed or not."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for name in CODE:
        place = root / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.relative_to(root).as_posix().encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@functools.cache
def _commit() -> tuple[str, bool]:
    """Commit of the checkout this code runs from; empty where it is an installed package."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return "", False
    head = _git(root, "rev-parse", "HEAD")
    return head, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        # No git, or a checkout without a commit: the record then names no commit.
        return ""
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        # Not Linux.
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _threads() -> int:
    """OMP_NUM_THREADS may hold a list, one number a nesting level; the first is ours."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) else _cores()
