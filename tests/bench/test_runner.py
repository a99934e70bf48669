"""The runner: what it reuses, skips, retries and says, with an executor that trains nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.plan import Plan, plan, read_plan
from bench.runner import Interrupted, run_plan
from bench.stages.outcome import FAILED, describe, explain
from bench.store import Store
from tests.bench.worlds import SUITE, suite_of, world


class FakeExecutor:
    """Does stages by a rule: a status for each stage kind, 0 writes a record."""

    def __init__(self, rule: Callable[[str], int] = lambda kind: 0) -> None:
        self.rule = rule
        self.ran: list[str] = []

    def run(self, results: Path, plan: str, stage: str, log: Path) -> int:
        store = Store.open(results)
        digest, _, repeat = stage.partition(".")
        found = next(s for s in read_plan(store.read_plan(plan)).stages if s.digest == digest)
        self.ran.append(stage)
        status, again = self.rule(found.kind), int(repeat or 0)
        if status == 0:
            store.save_record(describe(found, "ok", None, {}, repeat=again))
        elif status == FAILED:
            reason = "loss of step 3 is nan"
            store.save_attempt(describe(found, "invalid", reason, {}, repeat=again))
        else:
            log.write_text("first\nlast words\n")
        return status


REPEATED = SUITE.replace("seed: [0, 1, 2]", "seed: 0").replace(
    "train:", "repeats: 3\npeers: trainer\ntrain:"
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "results")


@pytest.fixture
def small(tmp_path: Path) -> Plan:
    """A plan of four cases."""
    return plan(suite_of(tmp_path, SUITE.replace("seed: [0, 1, 2]", "seed: 0")), world())


def test_a_second_run_starts_nothing_and_touches_nothing(store, small):
    """What has a record is reused, and its file is not written again."""
    first = FakeExecutor()
    assert run_plan(small, store, first).count("done") == len(small.stages)
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in store.root.glob("records/*/*")}
    second = FakeExecutor()
    assert run_plan(small, store, second).count("reused") == len(small.stages)
    assert second.ran == []
    after = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in store.root.glob("records/*/*")}
    assert before == after


def test_another_suite_over_the_store_rebuilds_no_emulator(store, small, tmp_path):
    """Other seeds of the same model and compression share emulators and zero-shot scores."""
    run_plan(small, store, FakeExecutor())
    other = plan(suite_of(tmp_path, SUITE.replace("seed: [0, 1, 2]", "seed: 7")), world())
    executor = FakeExecutor()
    run_plan(other, store, executor)
    kinds = {s.digest: s.kind for s in other.stages}
    assert "emulator" not in {kinds[digest] for digest in executor.ran}


def test_a_failed_stage_skips_what_needs_it_and_nothing_else(store, small):
    """Full fine-tuning goes on when an emulator cannot be built; each reason names the cause."""
    executor = FakeExecutor(lambda kind: FAILED if kind == "emulator" else 0)
    summary = run_plan(small, store, executor)
    assert summary.count("failed") == 2
    assert summary.count("done") == 3
    assert summary.count("skipped") == len(small.stages) - 5
    skipped = next(e for e in summary.events if e.status == "skipped")
    assert "emulator" in skipped.reason
    assert "loss of step 3 is nan" in skipped.reason
    assert store.attempts(skipped.stage.digest)[-1].outcome == "skipped"


def test_running_again_tries_what_failed(store, small):
    """A failure is not remembered as a result."""
    run_plan(small, store, FakeExecutor(lambda kind: FAILED if kind == "tune" else 0))
    summary = run_plan(small, store, FakeExecutor())
    assert summary.failures == []


def test_a_process_that_dies_without_a_word_is_an_attempt_with_its_signal(store, small):
    """The reason names the signal and the last line of the log."""
    summary = run_plan(small, store, FakeExecutor(lambda kind: -9 if kind == "finetune" else 0))
    event = next(e for e in summary.events if e.status == "failed")
    assert event.reason.startswith("crashed: killed by SIGKILL")
    assert event.reason.endswith("last line of its log: last words")


def test_an_exit_status_without_a_record_is_a_crash(tmp_path):
    """A worker that ends early by itself has not succeeded."""
    assert explain(1, tmp_path / "no.log") == ("crashed", "exit status 1")


def test_a_stop_leaves_an_attempt_and_goes_through(store, small):
    """An interrupted stage is `interrupted`, not failed, and the run ends."""

    def stop(kind: str) -> int:
        raise Interrupted(15)

    with pytest.raises(Interrupted) as caught:
        run_plan(small, store, FakeExecutor(stop))
    assert caught.value.exit_status == 143
    attempt = store.attempts(small.stages[0].digest)[-1]
    assert (attempt.outcome, attempt.reason) == ("interrupted", "stopped by SIGTERM")


def test_repeats_run_to_and_fro_after_everything_ran_once(store, tmp_path):
    """A drift of the machine then adds as much to one row as to another."""
    repeated = plan(suite_of(tmp_path, REPEATED), world())
    executor = FakeExecutor()
    summary = run_plan(repeated, store, executor)
    trained = [s for s in repeated.stages if s.kind in ("tune", "finetune")]
    trainings = [s.digest for loop in ("", "trainer") for s in trained if s.labels.peer == loop]
    assert len(trainings) == 2 * 5, "ours and the peer's, of the reference and four cases"
    once = [s.digest for s in repeated.stages]
    there = [f"{digest}.1" for digest in reversed(trainings)]
    back = [f"{digest}.2" for digest in trainings]
    assert executor.ran == [*once, *there, *back]
    assert summary.count("done") == len(once) + 2 * len(trainings)


def test_a_repeat_that_is_missing_is_run_and_no_other(store, tmp_path):
    """More repeats of the same suite add to those there are."""
    run_plan(plan(suite_of(tmp_path, REPEATED), world()), store, FakeExecutor())
    more = plan(suite_of(tmp_path, REPEATED.replace("repeats: 3", "repeats: 4")), world())
    executor = FakeExecutor()
    run_plan(more, store, executor)
    assert {name.partition(".")[2] for name in executor.ran} == {"3"}


def test_what_failed_is_not_tried_again_for_every_repeat(store, tmp_path):
    """A model that does not fit in memory does not fit the second time either."""
    repeated = plan(suite_of(tmp_path, REPEATED), world())
    executor = FakeExecutor(lambda kind: FAILED if kind == "finetune" else 0)
    summary = run_plan(repeated, store, executor)
    failed = {s.digest for s in repeated.stages if s.kind == "finetune"}
    assert [name for name in executor.ran if name.partition(".")[0] in failed] == [
        s.digest for s in repeated.stages if s.kind == "finetune"
    ]
    # Both loops' runs 2 and 3, and the evaluation of ours.
    assert summary.count("skipped") == 2 * 2 + 1
