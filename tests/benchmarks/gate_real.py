"""`ab` on this machine, as a user would run it: `python -m tests.benchmarks.gate_real`.

A clone of this checkout is changed so that every training step sleeps, and judged against the
commit it was made from. Kinds: `slower`, a share of the step more in the candidate alone; `same`,
nothing; `drift`, both sides slow down together while `ab` runs, by that share after so many
minutes. The stage trains for about two seconds. Verdicts are added to a JSON file, run by run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.bench.command import ROOT
from tests.bench.test_gate import CALL, TRAINING, clone_of, git, run_there

SUITE = """\
schema: 1
name: one-stage
models: {{vit: {{source: {models}/tiny-vit}}}}
tasks: {{digits: {{task: digits_pair_sum}}}}
matrix:
  model: vit
  adapter_blocks: 1+1
  compression: {{method: layer_drop, keep: 3}}
  tuning: {{method: full}}
  task: digits
  seed: 0
settings: [emulator_finetuned]
train: {{learning_rate: 1.0e-3, batch_size: 128, max_steps: {steps}}}
evaluate: {{examples: 16}}
"""
STEPS = 25
KINDS = ("slower", "same", "drift")
MINUTES = 6
"""After which a drift is as large as it gets."""


def main() -> None:
    """Run `ab` again and again, and print what it said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.05, help="of a step's time")
    parser.add_argument("--json", type=Path, required=True, help="verdicts are added to it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        suite = folder / "one-stage.yaml"
        suite.write_text(SUITE.format(models=ROOT / "suites" / "models", steps=STEPS))
        clone = clone_of(ROOT, folder / "clone")
        step = step_time(clone, suite, folder / "first")
        change(clone, given.kind, given.share * step, folder / "started")
        for number in range(given.runs):
            (folder / "started").write_text(str(time.time()))
            found = judged(clone, suite, folder / f"results-{number}")
            found |= {"kind": given.kind, "share": given.share, "step": step}
            keep(given.json, found)
            print(line(found), flush=True)
    print(summary(json.loads(given.json.read_text())))


def step_time(clone: Path, suite: Path, results: Path) -> float:
    """Seconds of a training step here, median of a run."""
    done = run_there(clone, "run", suite, "--results", results)
    assert done.returncode == 0, done.stderr
    exported = run_there(clone, "export", suite, "--results", results, "--json").stdout
    rows = [json.loads(text) for text in exported.splitlines()]
    (value,) = {row["value"] for row in rows if row["metric"] == "step_time_median"}
    return float(value)


def change(clone: Path, kind: str, seconds: float, started: Path) -> None:
    """Have the candidate sleep, or both sides ever longer; nothing of it is a new version."""
    if kind == "same":
        return
    grown = (
        f"min(1.0, (__import__('time').time() - float(open('{started}').read())) / {60 * MINUTES})"
    )
    slept = f"{seconds} * {grown}" if kind == "drift" else f"{seconds}"
    path = clone / TRAINING
    text = path.read_text()
    assert text.count(CALL) == 1
    path.write_text(text.replace(CALL, f"(__import__('time').sleep({slept}), {CALL})"))
    if kind == "drift":
        who = ("-c", "user.name=offsite-bench", "-c", "user.email=offsite-bench")
        git(clone, *who, "commit", "-qam", "drift")


def judged(clone: Path, suite: Path, results: Path) -> dict[str, Any]:
    """What `ab` says of the throughput."""
    start = time.perf_counter()
    done = run_there(clone, "ab", suite, "--base", "HEAD", "--results", results, "--json")
    assert done.returncode in (0, 4), done.stderr
    (speed,) = [v for v in json.loads(done.stdout) if v["metric"] == "throughput_samples"]
    pairs = done.stderr.count(": pair ")
    return {**speed, "pairs": pairs, "minutes": (time.perf_counter() - start) / 60}


def keep(path: Path, found: dict[str, Any]) -> None:
    """Add one to the file."""
    kept = json.loads(path.read_text()) if path.exists() else []
    path.write_text(json.dumps([*kept, found], indent=1) + "\n")


def line(found: dict[str, Any]) -> str:
    """One run of `ab`."""
    return (
        f"{found['kind']} {found['share']:.0%}: {found['verdict']} after {found['pairs']} pairs, "
        f"{found['minutes']:.1f} min: {found['reason']}"
    )


def summary(kept: Sequence[dict[str, Any]]) -> str:
    """Verdicts by kind."""
    counts = Counter((each["kind"], each["share"], each["verdict"]) for each in kept)
    rows = [
        f"| {k} | {share:.0%} | {word} | {n} |" for (k, share, word), n in sorted(counts.items())
    ]
    return "\n".join(["| kind | share | verdict | runs |", "|---|---:|---|---:|", *rows])


if __name__ == "__main__":
    sys.exit(main())
