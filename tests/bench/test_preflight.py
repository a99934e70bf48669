"""Which tasks a run has checked, and what it remembers of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.environment import this_machine
from bench.errors import SuiteError
from bench.plan import Plan, plan, read_plan
from bench.preflight import STAGE, Reading, unchecked
from bench.runner import check_tasks
from bench.stages import KINDS
from bench.stages.outcome import describe
from bench.store import Store
from bench.tasks.data import DataIdentity, DrawnData, LocalData
from tests.bench.worlds import SUITE, suite_of, world

DISTILLED = SUITE.replace(
    "[{method: layer_drop, keep: 4}, {method: layer_drop, keep: 2}]",
    "{method: layer_drop, keep: 4, distill: {corpus: book, steps: 20}}",
).replace(
    "matrix:", "  book: {task: perplexity, data: {builtin: pydoc_topics}, block: 64}\nmatrix:"
)
DRAWN = SUITE.replace(
    "{task: perplexity, data: {builtin: pydoc_topics}, block: 128}", "{task: synthetic_tokens}"
).replace("train:", "settings: [full_finetuned, emulator_finetuned]\ntrain:")

ZEROS = LocalData({}, "0" * 64)


class FakeExecutor:
    """Finds the same of every task."""

    def __init__(self, fault: str | None = None, status: int = 0) -> None:
        self.fault = fault
        self.status = status
        self.asked: list[str] = []

    def run(self, results: Path, plan: str, stage: str, log: Path) -> int:
        self.asked.append(stage)
        store = Store.open(results)
        log.write_text("words\n")
        if self.status == 0:
            for reading in unchecked(read_plan(store.read_plan(plan)), store):
                reading.keep(store, self.fault)
        return self.status


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "results")


def planned(folder: Path, text: str = SUITE, data: DataIdentity = ZEROS) -> Plan:
    """The plan of a suite's text in a world where everything is known."""
    everything = replace(world(), data={"text": data, "book": LocalData({}, "1" * 64)})
    return plan(suite_of(folder, text), everything)


def run(made: Plan, store: Store, executor: FakeExecutor) -> list[str]:
    """What the executor was asked for while the tasks were checked."""
    log = check_tasks(made, store, executor)
    assert (log is not None) == (executor.status != 0 and bool(executor.asked))
    return executor.asked


def test_a_task_is_read_once_for_all_stages_of_a_model(store, tmp_path):
    """Twelve cases, one model, one task: one reading, with the owner's tokenizer."""
    (reading,) = unchecked(planned(tmp_path), store)
    assert reading.model == {"source": "org/lm", "revision": "c0ffee", "trust_remote_code": False}
    assert reading.task == {"kind": "perplexity", "block": 128}
    assert reading.data == {"builtin": "pydoc_topics"}


def test_a_corpus_is_read_too(store, tmp_path):
    """A compression trains on its rows."""
    found = [reading.task["block"] for reading in unchecked(planned(tmp_path, DISTILLED), store)]
    assert sorted(found) == [64, 128]


def test_random_samples_have_no_rows_to_check(store, tmp_path):
    """Nothing is read, so no worker starts."""
    made = planned(tmp_path, DRAWN, DrawnData())
    assert unchecked(made, store) == []
    assert run(made, store, FakeExecutor()) == []


def test_what_was_found_sound_is_not_looked_at_again(store, tmp_path):
    """Until something changes that it rests on: rows, parameters, versions, the code."""
    made = planned(tmp_path)
    assert run(made, store, FakeExecutor()) == [STAGE]
    assert run(made, store, FakeExecutor()) == []
    others = [
        planned(tmp_path, data=LocalData({}, "2" * 64)),
        planned(tmp_path, SUITE.replace("block: 128", "block: 64")),
        plan(suite_of(tmp_path), world(transformers="6.0")),
    ]
    for other in others:
        assert run(other, store, FakeExecutor()) == [STAGE]


def test_a_new_version_of_the_code_looks_again(store, tmp_path, monkeypatch):
    """It may see what the old one did not."""
    made = planned(tmp_path)
    run(made, store, FakeExecutor())
    later = replace(KINDS["evaluate"], version=KINDS["evaluate"].version + 1)
    monkeypatch.setitem(KINDS, "evaluate", later)
    assert run(made, store, FakeExecutor()) == [STAGE]


def test_nothing_is_checked_for_stages_that_are_done(store, tmp_path):
    """A second run starts no process; one missing record makes it look again."""
    made = planned(tmp_path)
    for stage in made.stages:
        store.save_record(describe(stage, "ok", None, {}))
    assert run(made, store, FakeExecutor()) == []
    gone = next(stage for stage in made.stages if stage.kind == "evaluate")
    store.record_path(gone.digest, this_machine().fingerprint).unlink()
    assert run(made, store, FakeExecutor()) == [STAGE]


def test_a_fault_ends_the_run_each_time(store, tmp_path):
    """One line a task; the file may have been mended in place, so it is looked at again."""
    made = planned(tmp_path, DISTILLED)
    for _ in range(2):
        executor = FakeExecutor("rows.jsonl:3: no text")
        with pytest.raises(SuiteError, match=r"^rows\.jsonl:3: no text$"):
            run(made, store, executor)
        assert executor.asked == [STAGE]
    assert run(made, store, FakeExecutor()) == [STAGE]


def test_a_worker_that_could_not_look_leaves_the_finding_to_the_stages(store, tmp_path):
    """A model that does not load, say: its stages fail with their reason. The log stays."""
    made = planned(tmp_path)
    run(made, store, FakeExecutor(status=1))
    assert [path.read_text() for path in store.tokens.glob("*.log")] == ["words\n"]
    assert run(made, store, FakeExecutor()) == [STAGE]
    assert list(store.tokens.glob("*.log")) == []


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"fault":'])
def test_a_damaged_finding_is_none(store, tmp_path, content):
    """It is looked for again."""
    made = planned(tmp_path)
    run(made, store, FakeExecutor())
    (path,) = store.tokens.glob("*.json")
    path.write_text(content)
    assert run(made, store, FakeExecutor()) == [STAGE]


def test_the_key_of_a_finding_does_not_depend_on_where_the_rows_lie():
    """A moved file is the same file."""
    model = {"source": "org/lm", "revision": None, "trust_remote_code": False}
    task = {"kind": "perplexity"}
    one, other = (
        Reading(model=model, task=task, data={"test": path}, rests_on={b"a", b"b"}) for path in "xy"
    )
    assert one.key == other.key
