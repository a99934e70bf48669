"""What is said of a machine, and what tells two apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from bench.environment import PACKAGES, facts, minor, this_machine, version


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Machines are looked at once a process; a test looks again."""
    this_machine.cache_clear()
    yield
    this_machine.cache_clear()


@pytest.mark.parametrize(("given", "threads"), [("3", 3), ("2,1", 2)])
def test_stages_use_the_threads_they_are_given(monkeypatch, given, threads):
    """OMP_NUM_THREADS is honoured."""
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert this_machine().threads == threads


@pytest.mark.parametrize("given", ["", "many", "0"])
def test_without_a_number_stages_use_the_cores_they_may(monkeypatch, given):
    """Nonsense is no reason to fail."""
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert this_machine().threads == this_machine().cores


def test_threads_and_versions_make_another_machine():
    """Speed measured with other threads or another torch is not compared."""
    machine = this_machine()
    others = {replace(machine, threads=99).fingerprint, replace(machine, torch="0").fingerprint}
    assert len(others | {machine.fingerprint}) == 3


def test_the_device_can_be_forced_to_the_cpu(monkeypatch):
    """OFFSITE_BENCH_DEVICE=cpu leaves a GPU alone."""
    monkeypatch.setenv("OFFSITE_BENCH_DEVICE", "cpu")
    assert this_machine().device == "cpu"


def test_facts_are_an_allow_list(monkeypatch):
    """A token in the environment is in no record."""
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    found = facts()
    assert set(found["packages"]) == set(PACKAGES)
    assert "hf_canary" not in str(found)


def test_versions_are_shortened_to_what_can_change_a_result():
    """Patch releases and build tags keep digests."""
    assert minor("torch") == ".".join(version("torch").split(".")[:2])
    assert version("no-such-package") == minor("no-such-package") == "absent"
