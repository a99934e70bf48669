"""A memory cap: what is above it is out of memory, what is below it works, and it ends."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from bench.measure.memory_cap import CapNotPossible, memory_cap
from tests.bench.command import ROOT

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the CPU is capped on Linux only")
SCRIPT = """
import json, resource
import psutil, torch
from bench.measure.memory_cap import memory_cap
from bench.worker import classify

def take(megabytes):
    try:
        torch.ones(megabytes * 250_000)
    except Exception as error:
        return classify(error)[0]
    return "ok"

before = resource.getrlimit(resource.RLIMIT_DATA)
cap = psutil.Process().memory_info().rss / 1e9 + 0.2
with memory_cap(cap, "cpu"):
    inside = [take(100), take(400), take(100)]
try:
    with memory_cap(0.01, "cpu"):
        below = "ok"
except Exception as error:
    below = classify(error)
after = resource.getrlimit(resource.RLIMIT_DATA)
print(json.dumps({"inside": inside, "below": below, "later": take(400), "same": before == after}))
"""


@ON_LINUX
def test_what_is_above_the_cap_is_out_of_memory_and_only_inside_it():
    """Allocations fail from the cap on, as oom_host; afterwards the limit is what it was."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, check=True
    )
    found = json.loads(done.stdout)
    assert found["inside"] == ["ok", "oom_host", "ok"]
    assert found["later"] == "ok"
    assert found["same"]
    outcome, reason = found["below"]
    assert outcome == "oom_host"
    assert reason.endswith("before its first step; memory_cap is 0.01 GB")


@ON_LINUX
def test_a_cap_above_what_the_machine_has_says_nothing_of_what_fits():
    """Running out below the cap would be taken for the cap's doing."""
    with pytest.raises(CapNotPossible, match="can be had"), memory_cap(1e6, "cpu"):
        pass


def test_without_a_cap_nothing_changes():
    """Trainings that are to take what they need touch no limit."""
    with memory_cap(None, "cuda"):
        pass


class FakeCuda:
    """torch.cuda with a card of 10 GB, of which 1 is the driver's."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, held: int) -> None:
        self.fractions = [1.0]
        self.held = held
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: held)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (9 * 10**9 - held, 10 * 10**9))
        monkeypatch.setattr(
            torch.cuda, "get_per_process_memory_fraction", lambda: self.fractions[-1]
        )
        monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", self.fractions.append)


def test_on_a_gpu_the_allocator_is_held_to_a_share_of_the_card(monkeypatch):
    """The share is of the card's own total, and is taken back, also after a failure."""
    cuda = FakeCuda(monkeypatch, held=2 * 10**9)
    with pytest.raises(ZeroDivisionError), memory_cap(8, "cuda"):
        raise ZeroDivisionError
    assert cuda.fractions == [1.0, pytest.approx(0.8), 1.0]


def test_a_model_above_the_cap_is_out_of_memory_at_once(monkeypatch):
    """Nothing is trained in the free pieces of an allocator that holds too much already."""
    FakeCuda(monkeypatch, held=3 * 10**9)
    with pytest.raises(torch.OutOfMemoryError, match=r"3\.00 GB before"), memory_cap(2, "cuda"):
        pass


def test_a_card_that_others_use_says_nothing_of_what_fits(monkeypatch):
    """9 GB can be had of a card of 10: 9.5 would run out below the cap."""
    FakeCuda(monkeypatch, held=10**9)
    with pytest.raises(CapNotPossible, match=r"9\.00 GB can be had"), memory_cap(9.5, "cuda"):
        pass
