"""Turns of two revisions: what a pair of runs carries to the verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import pytest

from bench.gate import turns
from bench.gate.arms import Arm
from bench.gate.turns import compare_arms
from bench.store import Store
from reports.gate.judge import Verdict
from reports.gate.noise import Noise
from reports.record import Metric
from tests.reports.synthetic_store import MACHINE, SyntheticStore


class FakeExecutor:
    """Trains on a GPU whose clock is 12 % lower for the candidate; the speed follows it."""

    known_until = 1000
    """Repeat from which on the driver does not tell the clock."""

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
        clock, value = self.clock * np.exp(self.draw.normal(0, (0.0005, 0.002)))
        metric = Metric(metric="throughput_samples", value=value, unit="samples/s", better="higher")
        state = {"clock": {"median": clock}} if repeat < self.known_until else {}
        facts = {"memory": {"phases": {"train": {"gpu_state": state}}}}
        store = SyntheticStore(root)
        store.save(store.record(digest, "finetune", metric, repeat=repeat, facts=facts))
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
