"""What became of a stage: its record without results, and the reason a process died."""

from __future__ import annotations

import signal
from pathlib import Path

from bench.environment import facts, this_machine
from bench.plan import Stage
from bench.stages import KINDS
from reports.record import Outcome, Record

FAILED = 3
"""Exit status of a worker whose stage did not succeed and left an attempt that says why."""
LOG_TAIL = 4096
"""Bytes of a crashed stage's log that are searched for its last words."""


def describe(
    stage: Stage,
    outcome: Outcome,
    reason: str | None,
    observed: dict[str, object],
    *,
    repeat: int = 0,
) -> Record:
    """A record of `stage` with everything that is known without having run it."""
    return Record(
        digest=stage.digest,
        machine=this_machine().fingerprint,
        repeat=repeat,
        kind=stage.kind,
        version=KINDS[stage.kind].version,
        params=stage.params,
        inputs=stage.inputs,
        outcome=outcome,
        reason=reason,
        environment={
            **facts(),
            "trust_remote_code": stage.params.get("trust_remote_code", False),
        },
        observed=observed,
    )


def explain(status: int, log: Path) -> tuple[Outcome, str]:
    """Outcome and reason of a stage process that ended without saying why."""
    words = _last_words(log)
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (often the system out of memory)" if -status == signal.SIGKILL else ""
        return "crashed", f"killed by {name}{hint}{words}"
    return "crashed", f"exit status {status}{words}"


def _last_words(log: Path) -> str:
    if not log.exists():
        return ""
    lines = log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip().splitlines()
    return f"; last line of its log: {lines[-1]}" if lines else ""
