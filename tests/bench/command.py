"""The command line as a user types it, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
START = [sys.executable, "-c", "from bench.cli import main; main()"]


def environment() -> dict[str, str]:
    """Ours, with the checkout importable from any folder."""
    places = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}


def offsite_bench(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run one command line to its end."""
    return subprocess.run(
        [*START, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(),
        timeout=600,
        check=False,
    )
