"""What `check` may take for runs of this code: nothing that other code made or had a part in."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.environment import facts
from bench.gate import fresh
from bench.gate.fresh import free_repeats, measure
from bench.plan import Plan, plan, read_plan, read_run_name
from bench.runner import run_plan
from bench.stages.outcome import describe
from bench.store import Store
from reports.record import read_record
from tests.bench.worlds import SUITE, suite_of, world


class Code:
    """One state of the code: runs stages, and says what it is."""

    def __init__(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.environment = {**facts(), "code": name}
        monkeypatch.setattr(fresh, "facts", lambda: self.environment)

    def run(self, results: Path, plan_name: str, run: str, log: Path) -> int:
        """Leave a record with the base that the run was given."""
        store = Store.open(results)
        digest, repeat, base = read_run_name(run)
        stages = read_plan(store.read_plan(plan_name)).stages
        stage = next(each for each in stages if each.digest == digest)
        record = describe(stage, "ok", None, {"base": base}, repeat=repeat)
        store.save_record(record.model_copy(update={"environment": self.environment}))
        return 0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(tmp_path / "results")


def suite(tmp_path: Path, repeats: int) -> Plan:
    """A suite that asks for so many repeats itself."""
    one = SUITE.replace("seed: [0, 1, 2]", "seed: 0")
    text = one.replace("train:", f"repeats: {repeats}\npeers: trainer\ntrain:")
    return plan(suite_of(tmp_path, text), world())


def checked(store: Store, made: Plan, code: Code, runs: int) -> tuple[int, ...]:
    """The repeats that `check` takes."""
    repeats = free_repeats(made, store, runs)
    measure(made, store, code, repeats)
    return repeats


def test_every_code_has_repeats_of_its_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Again and again the same ones; more of them begin where they are free."""
    made = suite(tmp_path, 1)
    first = Code("a", monkeypatch)
    assert checked(store, made, first, 3) == (0, 1, 2)
    second = Code("b", monkeypatch)
    assert checked(store, made, second, 3) == (3, 4, 5)
    assert checked(store, made, second, 2) == (3, 4)
    again = Code("a", monkeypatch)
    assert checked(store, made, again, 5) == (0, 1, 2, 6, 7)


def test_what_a_run_made_from_another_codes_emulator_is_no_evidence(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`run` goes on from what is there: trainings by this code on the emulator of that one."""
    run_plan(suite(tmp_path, 3), store, Code("a", monkeypatch))
    second = Code("b", monkeypatch)
    made = suite(tmp_path, 5)
    run_plan(made, store, second)
    repeats = checked(store, made, second, 3)
    assert repeats == (5, 6, 7)
    trained = {s.digest for s in made.stages if s.kind == "tune"}
    for path in store.root.glob("records/*/*.json"):
        record = read_record(path)
        if record.digest in trained and record.repeat in repeats:
            assert record.observed["base"] == 5
            assert record.environment["code"] == "b"


def test_what_run_made_counts_for_the_same_code(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Nothing is run twice."""
    made, code = suite(tmp_path, 3), Code("a", monkeypatch)
    run_plan(made, store, code)
    assert free_repeats(made, store, 4) == (0, 1, 2, 3)
