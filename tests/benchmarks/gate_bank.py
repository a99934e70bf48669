"""Runs of this code against itself on this machine: `python -m tests.benchmarks.gate_bank FILE`.

One training stage of quickstart's smoke profile, with more steps, is run in turn by two executors,
in the order of `ab`. The pairs are written to a file from which `tests.benchmarks.gate_rules
--bank` draws as well. Suites drawn from it are then judged with the functions that `ab` calls.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.cli.planned import lay_out
from bench.environment import this_machine
from bench.executors.local import Executor, LocalExecutor
from bench.gate.fresh import unused_repeats
from bench.gate.turns import orders
from bench.plan import Plan, Stage
from bench.runner import run_plan
from bench.store import Store
from reports.record import read_record
from tests.benchmarks.gate_rules import AB, Bank, Drawn, read_bank, tally

STAGE = "tune"
MODEL = "tiny-vit"
METRIC = "throughput_samples"
STEPS = 60
"""More than the profile has: the stage trains for seconds, not for a blink."""


def main() -> None:
    """Make pairs, keep them, judge suites drawn from them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, help="where the pairs are kept")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--draws", type=int, default=1000, help="suites drawn from the pairs")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bank = make(Path(folder), given.pairs)
    given.file.write_text(bank.model_dump_json(indent=1) + "\n")
    print(said(read_bank(given.file), given.draws))


def make(results: Path, pairs: int) -> Bank:
    """So many pairs."""
    plan = lay_out("quickstart", "smoke", [f"train.max_steps={STEPS}"], MODEL)
    stage = next(each for each in plan.stages if each.kind == STAGE)
    store = Store.create(results)
    with LocalExecutor() as base, LocalExecutor() as candidate:
        # The first is not counted: it loads what later ones find loaded.
        for executor in (base, candidate):
            _value(plan, stage, store, executor)
        found = tuple(
            _pair(plan, stage, store, (base, candidate), is_turned=is_turned)
            for is_turned in orders(pairs)
        )
    return Bank(
        stage=f"{MODEL} {STAGE}",
        metric=METRIC,
        better="higher",
        machine=this_machine().fingerprint,
        pairs=found,
    )


def said(bank: Bank, draws: int) -> str:
    """How noisy the runs were, whether A differed from B, and how often `ab` erred over them."""
    logs = np.log(np.asarray(bank.pairs))
    change = logs[:, 1] - logs[:, 0]
    found = tally(AB, Drawn(draw=np.random.default_rng(0), bank=bank), draws)
    words = ", ".join(f"{count} {word}" for word, count in found.words.most_common())
    return (
        f"{len(change)} pairs: runs differ by {logs.std(ddof=1):.2%}, pairs by "
        f"{change.std(ddof=1):.2%} (standard deviations), B from A by {change.mean():+.2%} with a "
        f"standard error of {change.std(ddof=1) / len(change) ** 0.5:.2%}\n"
        f"{draws} suites drawn: {found.alarms} false alarms; a line 5 % slower: {words}"
    )


def _pair(
    plan: Plan, stage: Stage, store: Store, sides: tuple[Executor, Executor], *, is_turned: bool
) -> tuple[float, float]:
    """The values of A and B, whichever ran first."""
    values = [_value(plan, stage, store, side) for side in sides[:: -1 if is_turned else 1]]
    a, b = reversed(values) if is_turned else values
    return a, b


def _value(plan: Plan, stage: Stage, store: Store, executor: Executor) -> float:
    """Of a fresh run; what the stage needs is made once."""
    (repeat,) = unused_repeats(plan, store, 1)
    needed = [(each, 0) for each in _needed(plan, stage)]
    summary = run_plan(plan, store, executor, runs=[*needed, (stage, repeat)])
    assert not summary.failures, summary.failures
    record = read_record(store.record_path(stage.digest, this_machine().fingerprint, repeat))
    (value,) = (each.value for each in record.metrics if each.metric == METRIC)
    assert value is not None
    return value


def _needed(plan: Plan, stage: Stage) -> Iterator[Stage]:
    """The stages it rests on, each after its own."""
    for each in plan.stages:
        if each.digest in stage.needs:
            yield from _needed(plan, each)
            yield each


if __name__ == "__main__":
    main()
