"""Turns of two revisions: what a pair of runs carries to the verdict."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from bench.gate import turns
from bench.gate.arms import Arm
from bench.gate.turns import compare_arms
from bench.store import Store
from reports.gate.evidence import Verdict
from reports.gate.lines import Line
from reports.gate.noise import Noise
from reports.gate.staged import FIRST_PAIRS
from reports.record import Metric
from tests.reports.synthetic_store import MACHINE, SyntheticStore


class FakeExecutor:
    """Trains on a GPU whose clock is 12 % lower for the candidate; the speed follows it."""

    known_until = 1000
    """Repeat from which on the driver does not tell the clock."""
    fails: frozenset[int] = frozenset()
    """Repeats that fail in the candidate."""
    batch_size = 8
    """Of the candidate."""
    follows = 1.0
    """How far the speed follows the clock."""
    slow: tuple[int, ...] = ()
    """Which of every four runs, of either side, take a tenth longer."""
    spread = 0.0005
    """Of the clock, and a quarter of the speed's own."""
    broken: tuple[str, int] = ("", 0)
    """A stage, and the side that cannot run it."""
    with_memory = False
    """Whether it has a second line."""
    runs = count()

    def __init__(self, python: tuple[str, ...]) -> None:
        self.clock = float(python[0])
        self.draw = np.random.default_rng(int(self.clock))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def run(self, root: Path, plan: str, name: str, log: Path) -> int:
        """One stage leaves its record."""
        digest, _, number = name.partition(".")
        repeat = int(number or 0)
        is_candidate = self.clock == 1740
        if (is_candidate and repeat in self.fails) or self.broken == (digest, is_candidate):
            return 1
        spreads = (self.spread, 4 * self.spread)
        clock, value = self.clock * np.exp(self.draw.normal(0, spreads))
        value *= (1980 / self.clock) ** (1 - self.follows)
        value *= 0.9 if next(self.runs) % 4 in self.slow else 1.0
        params = {"train": {"batch_size": self.batch_size if is_candidate else 8}}
        params |= {"new": {"option": 1}} if is_candidate else {}
        metrics = [
            Metric(metric="throughput_samples", value=value, unit="samples/s", better="higher")
        ]
        if self.with_memory:
            memory = Metric(metric="peak_memory_process", value=9.0, unit="bytes", better="lower")
            metrics.append(memory)
        state = {"clock": {"median": clock}} if repeat < self.known_until else {}
        facts = {"memory": {"phases": {"train": {"gpu_state": state}}}}
        store = SyntheticStore(root)
        given = {"repeat": repeat, "facts": facts, "params": params}
        store.save(store.record(digest, "finetune", *metrics, **given))
        return 0


@pytest.fixture
def arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Arm]:
    """Two revisions that have run the suite once."""
    monkeypatch.setattr(turns, "LocalExecutor", FakeExecutor)
    made = []
    for name, clock in (("base", "1980"), ("candidate", "1740")):
        root = tmp_path / name
        Store.create(root)
        store = SyntheticStore(root)
        digest = store.plan("finetune", model="m", task="t", tuning="full", seed=0)
        store.save_plan()
        FakeExecutor((clock,)).run(root, "", digest, tmp_path)
        made.append(Arm(name=name, commit="c", folder=tmp_path, python=(clock,), store=root))
    return made


def compared(arms: list[Arm]) -> Verdict:
    """The verdict on the only line."""
    (found,) = compare_arms(arms, Noise(machine=MACHINE), lambda line: None)
    return found


def test_pairs_carry_the_clocks_of_both_runs(arms: list[Arm]):
    """As slow as its clock: nothing is said of the code."""
    found = compared(arms)
    assert found.word == "INCONCLUSIVE"
    assert "1,740 instead of 1,980 MHz" in found.sentence


def test_one_pair_without_a_clock_and_time_decides(
    arms: list[Arm], monkeypatch: pytest.MonkeyPatch
):
    """From the twentieth repeat on the driver says nothing."""
    monkeypatch.setattr(FakeExecutor, "known_until", 20)
    found = compared(arms)
    assert found.word == "REGRESSED"
    assert "MHz" not in found.sentence


def test_the_same_speed_passes(arms: list[Arm], monkeypatch: pytest.MonkeyPatch):
    """An option that only the candidate knows is its own affair."""
    monkeypatch.setattr(FakeExecutor, "follows", 0.0)
    monkeypatch.setattr(FakeExecutor, "known_until", 0)
    assert compared(arms).word == "PASS"


def test_a_drift_and_whatever_comes_back_fall_on_both_sides():
    """Each side runs first as often; no period of two to twenty runs meets one side more."""
    made = turns.orders(150)
    assert all(one != other for one, other in zip(made[::2], made[1::2], strict=True))
    sides = np.array([side for turned in made for side in ((1, -1) if turned else (-1, 1))])
    steps = np.arange(len(sides))
    for period in range(2, 21):
        met = abs((sides * np.exp(2j * np.pi * steps / period)).mean())
        assert met < 0.2, period
    assert turns.orders(5) == made[:5]


@pytest.mark.parametrize("slow", [(0, 3), (1, 2)])
def test_what_a_machine_does_every_fourth_run_is_no_loss(
    arms: list[Arm], monkeypatch: pytest.MonkeyPatch, slow: tuple[int, int]
):
    """In A B B A, again and again, one side would have all slow runs."""
    monkeypatch.setattr(FakeExecutor, "follows", 0.0)
    monkeypatch.setattr(FakeExecutor, "known_until", 0)
    monkeypatch.setattr(FakeExecutor, "slow", slow)
    monkeypatch.setattr(FakeExecutor, "runs", count())
    assert compared(arms).word in ("PASS", "INCONCLUSIVE")


@pytest.mark.parametrize("fails", [{3}, {9}, set(range(2, 200, 2)), set(range(8, 200))])
def test_runs_that_fail_are_no_pass(
    arms: list[Arm], monkeypatch: pytest.MonkeyPatch, fails: set[int]
):
    """One of the first pairs, a fresh one, every second, all but one: it says how many."""
    monkeypatch.setattr(FakeExecutor, "known_until", 0)
    monkeypatch.setattr(FakeExecutor, "fails", frozenset(fails))
    found = compared(arms)
    assert found.word == "MISSING"
    assert "runs of the candidate failed" in found.sentence


def test_another_batch_size_is_no_comparison(arms: list[Arm], monkeypatch: pytest.MonkeyPatch):
    """Each side reads the suite of its own revision."""
    monkeypatch.setattr(FakeExecutor, "follows", 0.0)
    monkeypatch.setattr(FakeExecutor, "batch_size", 16)
    found = compared(arms)
    assert found.word == "INCONCLUSIVE"
    assert "train.batch_size 8 became 16" in found.sentence


def test_lines_come_in_their_order(arms: list[Arm], monkeypatch: pytest.MonkeyPatch):
    """As the records have them: the order of a set is another in every process."""
    monkeypatch.setattr(FakeExecutor, "follows", 0.0)
    monkeypatch.setattr(FakeExecutor, "with_memory", True)
    monkeypatch.setattr(Line, "__hash__", lambda line: -hash(line.metric == "throughput_samples"))
    found = compare_arms(arms, Noise(machine=MACHINE), lambda line: None)
    assert [each.line.metric for each in found] == ["throughput_samples", "peak_memory_process"]


def test_more_pairs_are_made_if_asked_for(arms: list[Arm], monkeypatch: pytest.MonkeyPatch):
    """So many fresh ones at most, of a line that is too noisy for any number."""
    monkeypatch.setattr(FakeExecutor, "spread", 0.2)
    for most in (20, 40):
        before = next(FakeExecutor.runs)
        compare_arms(arms, Noise(machine=MACHINE), lambda line: None, most)
        assert next(FakeExecutor.runs) - before - 1 == 2 * (FIRST_PAIRS + most)


@pytest.mark.parametrize("which", [0, 1])
def test_a_stage_that_one_side_could_not_run_is_missing(
    arms: list[Arm], monkeypatch: pytest.MonkeyPatch, which: int
):
    """Base or candidate, with its reason; the other stage has its verdict."""
    for side, arm in enumerate(arms):
        store = SyntheticStore(arm.store)
        store.plan("finetune", model="m", task="t", tuning="full", seed=0)
        digest = store.plan("finetune", model="m", task="t", tuning="lora", seed=0)
        store.save_plan()
        speed = Metric(metric="throughput_samples", value=9.0, unit="samples/s", better="higher")
        if side == which:
            failed = {"outcome": "oom_host", "reason": "too large"}
            store.save_attempt(store.record(digest, "finetune", **failed))
        else:
            store.save(store.record(digest, "finetune", speed))
    monkeypatch.setattr(FakeExecutor, "broken", (digest, which))
    found = compare_arms(arms, Noise(machine=MACHINE), lambda line: None)
    lost = [each for each in found if each.line.tuning == "lora"]
    assert {each.word for each in lost} == {"MISSING"}
    name = ("base", "candidate")[which]
    assert {each.sentence for each in lost} == {f"{name}: oom_host: too large"}


def test_a_stage_that_is_new_is_not_judged(arms: list[Arm]):
    """It is named all the same."""
    store = SyntheticStore(arms[1].store)
    store.plan("finetune", model="m", task="t", tuning="full", seed=0)
    digest = store.plan("finetune", model="m", task="t", tuning="lora", seed=0)
    store.save_plan()
    speed = Metric(metric="throughput_samples", value=9.0, unit="samples/s", better="higher")
    store.save(store.record(digest, "finetune", speed))
    found = compare_arms(arms, Noise(machine=MACHINE), lambda line: None)
    (new,) = (each for each in found if each.line.tuning == "lora")
    assert (new.word, new.sentence) == ("INCONCLUSIVE", "not in the base")


@pytest.mark.parametrize("which", [0, 1])
def test_a_side_whose_runs_in_turn_all_fail_is_named(
    arms: list[Arm], monkeypatch: pytest.MonkeyPatch, which: int
):
    """The suite went through on both sides before."""
    (path,) = (arms[0].store / "records").glob("*/*.json")
    monkeypatch.setattr(FakeExecutor, "broken", (path.name.partition(".")[0], which))
    found = compared(arms)
    name = ("base", "candidate")[which]
    assert (found.word, found.sentence) == (
        "MISSING",
        f"{FIRST_PAIRS} of {FIRST_PAIRS} runs of the {name} failed",
    )
